use super::*;
use std::io::Write;

/// A newc archive of these files, each with this content.
fn archive(names: &[&str], content: &[u8]) -> Vec<u8> {
    let mut made = Vec::new();
    for name in names.iter().chain(&["TRAILER!!!"]) {
        let content = if *name == "TRAILER!!!" { &[][..] } else { content };
        let sizes = [0, 0o100_644, 0, 0, 1, 0, content.len(), 0, 0, 0, 0, name.len() + 1, 0];
        made.extend_from_slice(b"070701");
        made.extend(sizes.iter().flat_map(|size| format!("{size:08x}").into_bytes()));
        made.extend_from_slice(name.as_bytes());
        made.push(0);
        made.resize(made.len().next_multiple_of(4), 0);
        made.extend_from_slice(content);
        made.resize(made.len().next_multiple_of(4), 0);
    }
    made
}

fn read(image: &[u8]) -> io::Result<Vec<String>> {
    let mut file = tempfile::tempfile().expect("a file");
    file.write_all(image).expect("written");
    file.rewind().expect("at its start");
    Ok(modules(file, &CancellationToken::new())?.into_iter().collect())
}

fn compressed(program: &str, arguments: &[&str], content: &[u8]) -> Option<Vec<u8>> {
    let mut command = Command::new(program);
    let child = command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut child = child.ok()?;
    child.stdin.take()?.write_all(content).ok()?;
    Some(child.wait_with_output().ok()?.stdout)
}

const FILES: [&str; 4] = [
    "usr/lib/modules/6.1.0/kernel/drivers/block/virtio_blk.ko",
    "lib/modules/6.1.0/kernel/drivers/virtio/virtio-pci.ko.xz",
    "lib/modules/6.1.0/modules.dep",
    "bin/notvirtio.kot",
];

#[test]
fn a_plain_image_says_its_modules() {
    assert_eq!(read(&archive(&FILES, b"12345")).expect("read"), ["virtio_blk", "virtio_pci"]);
}

#[test]
fn compressed_ones_are_found_behind_microcode() {
    let inner = archive(&FILES, &[7; 70_000]);
    let mut early = archive(&["kernel/x86/microcode/GenuineIntel.bin"], &[1; 999]);
    early.resize(early.len().next_multiple_of(512), 0);
    let with = |tail: &[u8]| [early.as_slice(), tail].concat();
    let zstd = zstd::encode_all(inner.as_slice(), 1).expect("compressed");
    assert_eq!(read(&with(&zstd)).expect("zstd"), ["virtio_blk", "virtio_pci"]);
    assert_eq!(read(&zstd).expect("zstd alone"), ["virtio_blk", "virtio_pci"]);
    let programs: [(&str, &[&str]); 6] = [
        ("gzip", &["-c"]),
        ("xz", &["-c", "--check=crc32"]),
        ("xz", &["-c", "--format=lzma"]),
        ("bzip2", &["-c"]),
        ("lzop", &["-c"]),
        ("lz4", &["-lc"]),
    ];
    for (program, arguments) in programs {
        // Only gzip is on every machine.
        match compressed(program, arguments, &inner) {
            Some(image) => assert_eq!(read(&with(&image)).expect(program), ["virtio_blk", "virtio_pci"]),
            None => assert_ne!(program, "gzip"),
        }
    }
}

#[test]
fn modules_of_plain_archives_before_the_compressed_one_count_and_padding_behind_does_not() {
    let early = archive(&["lib/modules/6.12/kernel/drivers/net/virtio_net.ko.zst"], b"x");
    let late = zstd::encode_all(archive(&FILES, b"x").as_slice(), 1).expect("compressed");
    let padded = [early.as_slice(), &[0; 64], &late, &[0; 511]].concat();
    assert_eq!(read(&padded).expect("read"), ["virtio_blk", "virtio_net", "virtio_pci"]);
}

#[test]
fn what_is_no_image_is_refused_and_never_half_believed() {
    let whole = archive(&FILES, &[3; 5000]);
    let short = &whole[..whole.len() - 2000];
    let mut long_name = whole.clone();
    long_name[6 + 11 * 8..6 + 12 * 8].copy_from_slice(b"ffffffff");
    let mut no_number = whole.clone();
    no_number[6 + 6 * 8] = b'x';
    let cut = zstd::encode_all(whole.as_slice(), 1).expect("compressed");
    let images: [&[u8]; 8] =
        [b"", &[0; 4096], b"ELF", b"0707", short, &long_name, &no_number, &cut[..cut.len() / 2]];
    for image in images {
        read(image).expect_err("it is none");
    }
}

#[test]
fn a_stop_is_heard() {
    let mut file = tempfile::tempfile().expect("a file");
    file.write_all(&archive(&FILES, b"x")).expect("written");
    file.rewind().expect("at its start");
    let stop = CancellationToken::new();
    stop.cancel();
    modules(file, &stop).expect_err("stopped");
}
