use std::os::unix::fs::FileExt;

use super::*;
use shared::leaf::LEAF;

fn pattern(len: usize, seed: u8) -> Bytes {
    (0..len).map(|i| u8::try_from(i % 251).expect("below 251").wrapping_add(seed) | 1).collect()
}

fn read(target: &dyn Target, range: ByteRange) -> Vec<u8> {
    let mut buf = AlignedBuf::new(usize::try_from(range.len()).expect("small"));
    target.read_direct(range.start, &mut buf).expect("readable");
    buf.as_slice().to_vec()
}

/// The folders that tests may use, one per kind of file system: on disk, in memory.
fn folders() -> Vec<tempfile::TempDir> {
    let here = tempfile::tempdir().expect("a temporary folder");
    let memory = tempfile::tempdir_in("/dev/shm").ok();
    [Some(here), memory].into_iter().flatten().collect()
}

#[test]
fn what_is_written_is_read_back_past_the_cache() {
    for dir in folders() {
        let size = 3 * LEAF + 777;
        let target = FileTarget::create(&dir.path().join("t"), size).expect("made");
        let (a, b) = (pattern(100_000, 1), pattern(50_001, 7));
        target.write_at(4096, &[a.clone(), Bytes::new(), b.clone()]).expect("written");
        let tail = pattern(777, 3);
        target.write_at(3 * LEAF, std::slice::from_ref(&tail)).expect("written");
        target.flush().expect("flushed");
        let got = read(&target, ByteRange::new(0, size));
        assert_eq!(&got[4096..4096 + 100_000], &a[..]);
        assert_eq!(&got[104_096..104_096 + 50_001], &b[..]);
        assert!(got[..4096].iter().all(|x| *x == 0));
        assert_eq!(read(&target, ByteRange::new(3 * LEAF, size)), tail, "an odd end of the file");
    }
}

#[test]
fn more_buffers_than_one_system_call_takes() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let target = FileTarget::create(&dir.path().join("t"), 8 * LEAF).expect("made");
    let parts: Vec<Bytes> = (0..3000).map(|i| pattern(100, u8::try_from(i % 200).expect("small"))).collect();
    target.write_at(10, &parts).expect("written");
    assert_eq!(&read(&target, ByteRange::new(0, 8 * LEAF))[10..300_010], &parts.concat()[..]);
}

#[test]
fn zeroed_ranges_read_back_as_zeros_and_their_neighbours_stay() {
    for dir in folders() {
        let size = 4 * LEAF + 5;
        let target = FileTarget::create(&dir.path().join("t"), size).expect("made");
        let all = pattern(usize::try_from(size).expect("small"), 0);
        target.write_at(0, std::slice::from_ref(&all)).expect("written");
        target.flush().expect("flushed");
        for range in [ByteRange::new(LEAF, 2 * LEAF), ByteRange::new(4 * LEAF, size), ByteRange::new(7, 7)] {
            target.zero(range).expect("zeroed");
        }
        target.flush().expect("flushed");
        let got = read(&target, ByteRange::new(0, size));
        for (i, byte) in got.iter().enumerate() {
            let zero = (65_536..131_072).contains(&i) || i >= 262_144;
            assert_eq!(*byte, if zero { 0 } else { all[i] }, "byte {i}");
        }
        assert_eq!(target.size(), std::fs::metadata(target.path()).expect("there").len(), "the size stays");
    }
}

#[test]
fn a_nameless_file_is_written_and_read_and_never_seen() {
    for dir in folders() {
        let target = FileTarget::nameless(dir.path(), 2 * LEAF + 5).expect("made");
        let data = pattern(2 * 65536 + 5, 1);
        target.write_at(0, std::slice::from_ref(&data)).expect("written");
        target.flush().expect("flushed");
        assert_eq!(read(&target, ByteRange::new(0, 2 * LEAF + 5)), data);
        assert_eq!(std::fs::read_dir(dir.path()).expect("a folder").count(), 0);
        assert_eq!(target.name(), dir.path().display().to_string());
    }
    assert!(FileTarget::nameless(std::path::Path::new("/no/such/folder"), 1).is_err());
}

#[test]
fn holes_are_found() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let target = FileTarget::create(&dir.path().join("t"), 1 << 40).expect("a sparse TiB");
    assert_eq!(target.next_data(0).expect("asked"), None);
    target.write_at(1 << 39, &[pattern(65_536, 0)]).expect("written");
    let data = target.next_data(0).expect("asked").expect("some");
    assert!(data.start <= 1 << 39 && data.end >= (1 << 39) + LEAF && data.len() < 1 << 24, "{data:?}");
    assert_eq!(target.next_data(data.end).expect("asked"), None);
    assert_eq!(target.next_data(u64::MAX).expect("asked"), None);
}

#[test]
fn errors_name_the_thing() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = dir.path().join("t");
    let target = FileTarget::create(&path, 1000).expect("made");
    assert!(FileTarget::create(&path, 1000).is_err(), "never over a file that is there");
    let small = FileTarget::open(&path, 1001).map(|_| ()).expect_err("too small");
    assert!(matches!(&small, Error::TooSmall { need: 1001, have: 1000, .. }), "{small}");
    assert!(small.to_string().contains("use a larger target"));
    let outside = target.write_at(999, &[Bytes::from_static(b"ab")]).expect_err("past the end");
    assert!(matches!(outside, Error::Outside { start: 999, end: 1001, size: 1000, .. }));
    assert!(target.write_at(u64::MAX, &[Bytes::from_static(b"ab")]).is_err(), "no overflow");
    assert!(target.zero(ByteRange::new(0, 1001)).is_err());
    assert!(target.read_direct(0, &mut AlignedBuf::new(4096)).is_err(), "more than there is");
    assert!(matches!(FileTarget::open(dir.path(), 0).map(|_| ()), Err(Error::Unsuitable { .. })));
    let missing = FileTarget::open(&dir.path().join("no"), 0).map(|_| ()).expect_err("missing");
    assert!(missing.to_string().contains("/no"), "{missing}");
}

#[test]
fn a_file_cut_short_underneath_is_an_error_not_a_hang() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let target = FileTarget::create(&dir.path().join("t"), 4 * LEAF).expect("made");
    std::fs::OpenOptions::new()
        .write(true)
        .open(target.path())
        .expect("open")
        .set_len(LEAF + 100)
        .expect("cut");
    let e = target.read_direct(0, &mut AlignedBuf::new(262_144)).expect_err("the end came early");
    assert!(
        matches!(&e, Error::Io { op: Op::Read, source, .. } if source.kind() == std::io::ErrorKind::UnexpectedEof)
    );
}

#[test]
fn no_room_is_told_from_a_broken_disk() {
    let path = std::path::Path::new("/d");
    for errno in [28, 122, 27] {
        let e = Error::from_io(Op::Write, path, 7, std::io::Error::from_raw_os_error(errno));
        assert!(matches!(e, Error::NoRoom { offset: 7, .. }), "{errno}");
    }
    let e = Error::from_io(Op::Write, path, 7, std::io::Error::from_raw_os_error(5));
    assert!(matches!(e, Error::Io { .. }));
    // A real one: /dev/full says ENOSPC, but it is no file; a file size limit needs a process of its own.
}

#[test]
fn clones_keep_content_and_holes() {
    for dir in folders() {
        let path = dir.path().join("t");
        let target = FileTarget::create(&path, 1 << 30).expect("made");
        target.write_at(1 << 20, &[pattern(3_000_000, 0)]).expect("written");
        target.write_at((1 << 30) - 10, &[pattern(10, 9)]).expect("written");
        target.flush().expect("flushed");
        let from = std::fs::File::open(&path).expect("open");
        let to = std::fs::File::create_new(dir.path().join("c")).expect("made");
        clone_file(&from, &to).expect("cloned");
        let clone = FileTarget::open(&dir.path().join("c"), 1 << 30).expect("same size");
        assert_eq!(read(&clone, ByteRange::new(1 << 20, (1 << 20) + 3_000_000)), pattern(3_000_000, 0));
        assert_eq!(read(&clone, ByteRange::new((1 << 30) - 4096, 1 << 30))[4086..], pattern(10, 9)[..]);
        use std::os::unix::fs::MetadataExt;
        assert!(to.metadata().expect("there").blocks() * 512 < 5_000_000, "holes stay holes");
        from.read_exact_at(&mut [0; 1], 0).expect("the source stays readable");
    }
}

#[test]
fn after_a_failed_flush_the_next_one_loses_what_was_dirty() {
    let target = fault::FaultTarget::zeroed(65_536);
    target.write_at(0, &[Bytes::from_static(b"x")]).expect("written");
    target.next(Op::Flush, fault::Fault::Errno(fault::EIO));
    assert!(target.flush().is_err());
    target.flush().expect("as the kernel's");
    assert_eq!(target.stable()[0], 0, "the model loses what Linux would lose");
    target.write_at(0, &[Bytes::from_static(b"y")]).expect("written");
    target.flush().expect("flushed");
    assert_eq!(target.stable()[0], b'y');
}

/// A loop device over a file, where the machine lets us.
struct Loop(String);

impl Loop {
    fn make(file: &std::path::Path) -> Result<Self, String> {
        let out = std::process::Command::new("losetup").args(["-f", "--show"]).arg(file).output();
        let out = out.map_err(|e| e.to_string())?;
        match out.status.success() {
            true => Ok(Self(String::from_utf8_lossy(&out.stdout).trim().to_owned())),
            false => Err(String::from_utf8_lossy(&out.stderr).into_owned()),
        }
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = std::process::Command::new("losetup").args(["-d", &self.0]).status();
    }
}

#[test]
fn a_block_device_is_zeroed_and_read_back_too() {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    let size = 8 * LEAF + 1536;
    file.as_file().set_len(size).expect("sized");
    let device = match Loop::make(file.path()) {
        Ok(device) => device,
        Err(why) => {
            eprintln!("SKIPPED: no loop device here: {why}");
            return;
        }
    };
    let path = std::path::Path::new(&device.0);
    let target = FileTarget::open(path, size).expect("open");
    assert_eq!(target.size(), size);
    assert!(
        matches!(FileTarget::open(path, size + 1).map(|_| ()), Err(Error::TooSmall { have, .. }) if have == size)
    );
    let all = pattern(usize::try_from(size).expect("small"), 0);
    target.write_at(0, std::slice::from_ref(&all)).expect("written");
    target.flush().expect("flushed");
    assert_eq!(read(&target, ByteRange::new(0, size)), all);
    // Whole leaves; then the odd end, whose last part no device takes as a range.
    target.zero(ByteRange::new(LEAF, 3 * LEAF)).expect("zeroed");
    target.zero(ByteRange::new(8 * LEAF, 8 * LEAF + 1000)).expect("zeroed");
    target.flush().expect("flushed");
    let got = read(&target, ByteRange::new(0, size));
    for (i, byte) in got.iter().enumerate() {
        let zero = (65_536..196_608).contains(&i) || (524_288..525_288).contains(&i);
        assert_eq!(*byte, if zero { 0 } else { all[i] }, "byte {i}");
    }
    assert_eq!(
        target.next_data(LEAF).expect("asked"),
        Some(ByteRange::new(LEAF, size)),
        "a device cannot tell"
    );
}
