//! Whole measurements, small.

use std::path::Path;

use super::*;
use crate::nbd::testing::{Server, noise};

const MIB: u64 = 1 << 20;

fn args(source: impl ToString, target: impl AsRef<Path>) -> Args {
    Args {
        source: source.to_string(),
        target: target.as_ref().to_owned(),
        overwrite: false,
        bytes: 8 * MIB,
        seconds: 60,
        connections: None,
        output: Output::Text,
        json: false,
    }
}

/// A source of 9 MiB and an odd end, a quarter of it zeros.
fn source(dir: &Path) -> String {
    let path = dir.join("source");
    let mut data = noise(21, 9 * 1024 * 1024 + 777);
    data[..2 << 20].fill(0);
    std::fs::write(&path, data).expect("written");
    path.display().to_string()
}

async fn fails(args: &Args) -> Error {
    let mut out = Vec::new();
    let error = run(args, &mut out).await.expect_err("refused");
    assert!(out.is_empty());
    error
}

fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).expect("a folder");
    entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_stage_is_measured_and_nothing_stays_in_the_folder() {
    let dir = tempfile::tempdir().expect("a folder");
    let folder = dir.path().join("target");
    std::fs::create_dir(&folder).expect("made");
    std::fs::write(folder.join("mine"), "left alone").expect("written");
    let mut out = Vec::new();
    let args = Args { json: true, ..args(source(dir.path()), &folder) };
    let report = run(&args, &mut out).await.expect("measured");
    let stages: Vec<_> = report.stages.iter().map(|row| row.stage).collect();
    assert_eq!(stages, ["hash", "read", "wire", "write", "flush", "target", "together"]);
    for row in &report.stages {
        assert!(row.bytes_per_second > 0.0 && row.seconds > 0.0, "{row:?}");
        let whole = (8 * MIB..9 * MIB).contains(&row.bytes);
        assert!(whole || row.stage == "hash", "{row:?}");
    }
    let again = |stage| report.stages.iter().find(|row| row.stage == stage).expect("there").read_again;
    assert!(!again("read") && again("together"), "the source has 9 MiB, twice 8 are read");
    assert_eq!(names(&folder), ["mine"]);
    let json: serde_json::Value = serde_json::from_slice(&out).expect("one object");
    assert_eq!(json["stages"][1]["stage"], "read");
    assert_eq!(json["bottleneck"], report.bottleneck);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_is_measured_into_an_export_and_the_table_says_so() {
    let dir = tempfile::tempdir().expect("a folder");
    let source = Server::nbdkit(&["-r", "file", &source(dir.path())]);
    let target = Server::nbdkit(&["--filter=log", "memory", "64M", "logfile={dir}/log"]);
    let secret = args(source.uri(), "nbd://ann:secret@localhost:1/x");
    assert!(!fails(&secret).await.to_string().contains("secret"));
    let args = Args { overwrite: true, ..args(source.uri(), target.uri().to_string()) };
    let mut out = Vec::new();
    run(&args, &mut out).await.expect("measured");
    let text = String::from_utf8(out).expect("text");
    for words in ["STAGE", "mutual TLS over loopback", "together", "Bottleneck: "] {
        assert!(text.contains(words), "{words}: {text}");
    }
    let log = std::fs::read_to_string(target.dir().join("log")).expect("a log");
    assert!(log.rfind(" Flush id=") > log.rfind(" Write id="), "flushed at the end: {log}");
    // The write stage, then all together, in which 8 MiB are read of which 2 are zeros.
    assert!(log.matches(" Write id=").count() >= 32 + 24, "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_there_is_never_touched_unless_it_is_said() {
    let dir = tempfile::tempdir().expect("a folder");
    let source = source(dir.path());
    let at = |name: &str| dir.path().join(name);
    let old = vec![0xAA; 20 << 20];
    std::fs::write(at("file"), &old).expect("written");
    let server = Server::nbdkit_with(&["file", "{dir}/t"], |dir| {
        std::fs::write(dir.join("t"), &old).expect("written")
    });
    for target in [at("file"), server.uri().to_string().into()] {
        let error = fails(&args(&source, &target)).await;
        assert!(matches!(error, Error::Exists { .. }) && error.exit_code() == 64, "{error}");
        assert!(error.to_string().contains("--overwrite"), "{error}");
    }
    assert!(std::fs::read(at("file")).expect("there") == old);
    assert!(std::fs::read(server.dir().join("t")).expect("there") == old);
    assert!(matches!(fails(&args(&source, at("none"))).await, Error::Missing { .. }));

    // As said: within the bytes, and the file stays as large as it is.
    run(&Args { overwrite: true, ..args(&source, at("file")) }, &mut Vec::new()).await.expect("measured");
    let now = std::fs::read(at("file")).expect("there");
    assert!(now.len() == old.len() && now[..1 << 20] != old[..1 << 20] && now[8 << 20..] == old[8 << 20..]);

    let before = std::fs::read(&source).expect("there");
    let same = fails(&Args { overwrite: true, ..args(&source, &source) }).await;
    assert!(matches!(same, Error::Device(_)) && same.exit_code() == 64, "{same}");
    let same = args(server.uri(), server.uri().to_string());
    assert_eq!(fails(&Args { overwrite: true, ..same }).await.exit_code(), 64);
    assert!(std::fs::read(&source).expect("there") == before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_needs_the_word_and_must_not_be_mounted() {
    let dir = tempfile::tempdir().expect("a folder");
    let (source, image) = (source(dir.path()), dir.path().join("image"));
    std::fs::File::create(&image).and_then(|file| file.set_len(32 << 20)).expect("sized");
    let tool = |program: &str, arguments: &[&str]| {
        let out = std::process::Command::new(program).args(arguments).output().expect("it is installed");
        out.status.success().then(|| String::from_utf8_lossy(&out.stdout).trim().to_owned())
    };
    let image = image.display().to_string();
    let Some(device) = tool("losetup", &["-f", "--show", &image]) else {
        eprintln!("SKIPPED: no loop device here");
        return;
    };
    let unsaid = fails(&args(&source, &device)).await;
    let said = Args { overwrite: true, ..args(&source, &device) };
    let measured = run(&said, &mut Vec::new()).await;
    let mounted = tool("mkfs.ext4", &["-q", &device]).and_then(|_| {
        tool("mount", &[&device, &dir.path().join("mnt").display().to_string(), "-o", "X-mount.mkdir"])
    });
    let in_use = if mounted.is_some() { Some(fails(&said).await) } else { None };
    if mounted.is_some() {
        tool("umount", &[&device]);
    }
    tool("losetup", &["-d", &device]);
    assert!(matches!(unsaid, Error::Exists { .. }), "{unsaid}");
    assert!(measured.is_ok(), "{measured:?}");
    match in_use {
        Some(error) => assert!(error.to_string().contains("mounted or in use"), "{error}"),
        None => eprintln!("SKIPPED in part: nothing can be mounted here"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_without_data_and_a_target_without_room_are_said() {
    let dir = tempfile::tempdir().expect("a folder");
    let zeros = dir.path().join("zeros");
    std::fs::File::create(&zeros).and_then(|file| file.set_len(1 << 30)).expect("sized");
    let folder = dir.path().join("target");
    std::fs::create_dir(&folder).expect("made");
    let error = fails(&args(zeros.display(), &folder)).await;
    assert!(matches!(error, Error::NoData { .. }), "{error}");
    std::fs::write(dir.path().join("small"), "x").expect("written");
    let small = Args { overwrite: true, ..args(source(dir.path()), dir.path().join("small")) };
    assert!(matches!(fails(&small).await, Error::TooSmall { have: 1, .. }));
    assert_eq!(std::fs::read(dir.path().join("small")).expect("there"), b"x");
}

/// Seconds end a measurement too; and so does its end nobody's but the reader's: a failing source is an error.
#[tokio::test(flavor = "multi_thread")]
async fn seconds_end_a_measurement_and_a_source_that_fails_is_told() {
    let dir = tempfile::tempdir().expect("a folder");
    let folder = dir.path().join("target");
    std::fs::create_dir(&folder).expect("made");
    let path = source(dir.path());
    let slow = Server::nbdkit(&["-r", "--filter=rate", "file", &path, "rate=32M"]);
    let limited = Args { seconds: 1, bytes: 1 << 40, ..args(slow.uri(), &folder) };
    let started = std::time::Instant::now();
    let report = run(&limited, &mut Vec::new()).await.expect("measured");
    assert!(started.elapsed().as_secs() < 60, "{report:?}");
    assert_eq!(report.bottleneck, "read", "4 MiB a second: {report:?}");
    let broken = ["-r", "--filter=error", "file", &path, "error-pread=EIO", "error-pread-rate=100%"];
    let error = fails(&args(Server::nbdkit(&broken).uri(), &folder)).await;
    assert!(matches!(error, Error::Source(_)), "{error}");
    assert!(names(&folder).is_empty());
}

/// The limit is reached when all that was asked for is there: then nothing is waited for.
#[tokio::test(flavor = "multi_thread")]
async fn tiny_sources_are_measured_or_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    let (source, folder) = (dir.path().join("source"), dir.path().join("target"));
    std::fs::create_dir(&folder).expect("made");
    for bytes in [1, 511, 4096, 65535] {
        std::fs::write(&source, noise(3, bytes)).expect("written");
        let error = fails(&args(source.display(), &folder)).await;
        assert!(matches!(error, Error::TooSmall { need: LEAF, .. }), "{error}");
        assert!(error.to_string().contains(&format!("source has {bytes} bytes")), "{error}");
    }
    for bytes in [65536, 65537, 131072] {
        std::fs::write(&source, noise(3, bytes)).expect("written");
        for most in [MIB, 65536, 1] {
            let args = Args { bytes: most, seconds: 1, ..args(source.display(), &folder) };
            run(&args, &mut Vec::new()).await.expect("measured");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_a_copy_writes_to_is_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    let target = dir.path().join("target");
    std::fs::write(&target, vec![7; 16 << 20]).expect("written");
    let args = Args { overwrite: true, ..args(source(dir.path()), &target) };
    let copying = crate::copy::claim(&target).expect("free");
    let error = fails(&args).await;
    assert!(matches!(error, Error::Device(crate::copy::Error::Written { .. })), "{error}");
    assert!(error.exit_code() == 1 && std::fs::read(&target).expect("there") == vec![7; 16 << 20]);
    drop(copying);
    run(&args, &mut Vec::new()).await.expect("measured");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_address_and_what_is_not_there_is_said() {
    let dir = tempfile::tempdir().expect("a folder");
    let good = source(dir.path());
    let said = Args { overwrite: true, ..args(&good, dir.path().join("none")) };
    let error = fails(&said).await.to_string();
    assert!(error.contains("with --overwrite a file or a device that does"), "{error}");
    for (source, target) in [("http://foo/", "."), (&*good, "http://foo/")] {
        let error = fails(&args(source, target)).await;
        assert!(error.exit_code() == 64 && error.to_string().contains("nbd+unix://"), "{error}");
    }
}
