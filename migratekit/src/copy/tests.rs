//! Whole copies: real servers, real files.

mod held;
mod matrix;
mod nbd_target;
mod report;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::*;
use crate::nbd::testing::{Server, noise};

const LEAF: usize = 1 << 16;

/// 4 MiB and a bit: noise, allocated zeros, a hole, noise.
fn disk() -> Vec<u8> {
    let mut disk = noise(5, 64 * LEAF + 777);
    disk[8 * LEAF..16 * LEAF].fill(0);
    disk[32 * LEAF..40 * LEAF].fill(0);
    disk
}

fn args(source: impl ToString, target: &Path) -> Args {
    Args {
        source: source.to_string(),
        target: target.to_owned(),
        connections: None,
        progress_url: None,
        job_id: None,
        progress_every: 10 << 20,
        request_size: None,
        verify: false,
        resume: None,
        destination_is_zero: false,
        without_flush: false,
        bitmap: None,
        rate: None,
        output: Output::Text,
    }
}

fn server(extra: &[&str]) -> Server {
    Server::nbdkit_with(extra, |dir| std::fs::write(dir.join("disk"), disk()).expect("written"))
}

/// The whole chain of an error, as the command line prints it.
fn words(error: &Error) -> String {
    let mut words = error.to_string();
    let mut next = std::error::Error::source(error);
    while let Some(error) = next {
        words.push_str(&format!(": {error}"));
        next = error.source();
    }
    words
}

fn tool(args: &[&str]) {
    let done = Command::new(args[0]).args(&args[1..]).stdout(Stdio::null()).status();
    assert!(done.expect("qemu-utils are installed").success(), "{args:?}");
}

async fn fails(args: &Args) -> Error {
    let mut out = Vec::new();
    let error = run(args, &mut out).await.expect_err("fails");
    assert!(out.is_empty(), "no summary of a copy that was not made");
    error
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_becomes_an_equal_sparse_verified_file() {
    let server = server(&["-r", "file", "{dir}/disk"]);
    let target = server.dir().join("copy");
    let mut out = Vec::new();
    let args = Args { verify: true, output: Output::Json, ..args(server.uri(), &target) };
    let summary = run(&args, &mut out).await.expect("copied");
    assert!(std::fs::read(&target).expect("there") == disk());
    let size = disk().len() as u64;
    assert_eq!((summary.size_bytes, summary.planned_bytes, summary.verified_bytes), (size, size, Some(size)));
    assert_eq!(summary.written_bytes, size - 16 * 65536, "zeros are not written");
    let json: serde_json::Value = serde_json::from_slice(&out).expect("one JSON object");
    assert_eq!(json["zero_bytes"], 16 * 65536);
    assert_eq!(json["target"], target.display().to_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn old_data_of_an_existing_target_does_not_show_under_zeros() {
    let dir = tempfile::tempdir().expect("a folder");
    let (source, target) = (dir.path().join("source"), dir.path().join("target"));
    std::fs::write(&source, disk()).expect("written");
    let old = vec![0xAA; disk().len() + 5000];
    std::fs::write(&target, &old).expect("written");
    let mut out = Vec::new();
    let args = Args { verify: true, ..args(source.display(), &target) };
    run(&args, &mut out).await.expect("copied");
    let got = std::fs::read(&target).expect("there");
    assert!(got[..disk().len()] == disk());
    assert!(got[disk().len()..] == old[..5000], "what lies beyond the disk is not ours");
    let text = String::from_utf8(out).expect("text");
    assert!(text.contains("verified: read back and equal"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_are_named_and_touch_nothing() {
    let dir = tempfile::tempdir().expect("a folder");
    let at = |name: &str| dir.path().join(name);
    let target = at("target");
    let nowhere = fails(&args(format!("nbd+unix:///?socket={}", at("none").display()), &target)).await;
    assert!(words(&nowhere).contains("no socket") && nowhere.exit_code() == 1, "{}", words(&nowhere));
    assert_eq!(fails(&args("nbd+unix:///x", &target)).await.exit_code(), 64);
    let missing = fails(&args(at("none").display(), &target)).await;
    assert!(words(&missing).contains("none"), "{}", words(&missing));

    let server = server(&[
        "-r",
        "--filter=exportname",
        "file",
        "{dir}/disk",
        "exportname=a",
        "exportname-strict=true",
    ]);
    let uri = |export: &str| format!("nbd+unix:///{export}?socket={}", server.socket().display());
    let wrong = fails(&args(uri("b"), &target)).await;
    assert!(words(&wrong).contains("no export 'b'"), "{}", words(&wrong));
    assert!(!target.exists(), "nothing was made");

    std::fs::write(&target, [7; 100]).expect("written");
    let small = fails(&args(uri("a"), &target)).await;
    let text = words(&small);
    assert!(text.contains("target has 100 bytes") && text.contains("4195081"), "{text}");
    assert_eq!(std::fs::read(&target).expect("there"), [7; 100]);

    let same = fails(&args(target.display(), &target)).await;
    assert!(matches!(same, Error::SameFile { .. }) && same.exit_code() == 64);
    let no_folder = fails(&args(uri("a"), &at("no/such/folder"))).await;
    assert!(words(&no_folder).contains("no/such/folder"), "{}", words(&no_folder));
    let folder = fails(&args(uri("a"), dir.path())).await;
    assert!(words(&folder).contains("neither a regular file nor a block device"), "{}", words(&folder));
    let bitmap = |source: String, target: &Path| Args { bitmap: Some("b".into()), ..args(source, target) };
    assert!(matches!(
        fails(&bitmap(target.display().to_string(), &at("x"))).await,
        Error::BitmapOfFile { .. }
    ));
    assert!(matches!(fails(&bitmap(uri("a"), &at("x"))).await, Error::NothingToUpdate { .. }));
    std::fs::write(at("x"), disk()).expect("written");
    let none = fails(&bitmap(uri("a"), &at("x"))).await;
    assert!(words(&none).contains("no dirty bitmap b"), "{}", words(&none));
    assert!(std::fs::read(at("x")).expect("there") == disk());
}

/// A server whose reads fail as soon as `{dir}/bad` is there.
fn failing_server() -> Server {
    let args = ["-r", "--filter=error", "file", "{dir}/disk", "error-pread=EIO", "error-pread-rate=100%"];
    Server::nbdkit_with(&[&args[..], &["error-file={dir}/bad"]].concat(), |dir| {
        std::fs::write(dir.join("disk"), noise(6, 256 * LEAF)).expect("written");
    })
}

async fn wait_for_durable(resume: &Path) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !std::fs::read_to_string(resume).is_ok_and(|text| text.contains("durable")) {
        assert!(Instant::now() < deadline, "nothing becomes durable");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Runs a copy until something of it is durable, then makes it fail.
async fn interrupted_copy(server: &Server, args: &Args) -> Error {
    let resume = args.resume.clone().expect("a resume file");
    let slow = Args { rate: Some(4 << 20), ..args.clone() };
    let copying = tokio::spawn(async move { run(&slow, &mut Vec::new()).await });
    wait_for_durable(&resume).await;
    std::fs::write(server.dir().join("bad"), "").expect("written");
    let error = copying.await.expect("no panic").expect_err("EIO");
    std::fs::remove_file(server.dir().join("bad")).expect("removed");
    error
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_copy_goes_on_where_it_was() {
    let server = failing_server();
    let (target, resume) = (server.dir().join("copy"), server.dir().join("resume"));
    let args = Args { resume: Some(resume.clone()), verify: true, ..args(server.uri(), &target) };
    let error = interrupted_copy(&server, &args).await;
    assert!(words(&error).contains("offset"), "{}", words(&error));

    let other = Args { target: server.dir().join("other"), ..args.clone() };
    assert!(matches!(fails(&other).await, Error::OtherCopy { what: "the target", .. }));
    assert!(!other.target.exists());

    let summary = run(&args, &mut Vec::new()).await.expect("copied");
    assert!(std::fs::read(&target).expect("there") == noise(6, 256 * LEAF));
    assert!(summary.resumed_bytes > 0 && summary.read_bytes < summary.size_bytes, "{summary:?}");
    assert_eq!(summary.resumed_bytes + summary.planned_bytes, summary.size_bytes);
    assert_eq!(summary.verified_bytes, Some(summary.size_bytes), "earlier runs are verified, too");
    assert!(!resume.exists() && !server.dir().join("resume.manifest").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resume_without_its_target_is_refused() {
    let server = failing_server();
    let (target, resume) = (server.dir().join("copy"), server.dir().join("resume"));
    let args = Args { resume: Some(resume), ..args(server.uri(), &target) };
    interrupted_copy(&server, &args).await;
    std::fs::remove_file(&target).expect("removed");
    assert!(matches!(fails(&args).await, Error::TargetGone { .. }));
    assert!(!target.exists());
}

/// A file of the same name and size that is not the one which was written to.
#[tokio::test(flavor = "multi_thread")]
async fn a_resume_onto_another_file_of_that_name_is_refused() {
    let server = failing_server();
    let (target, resume) = (server.dir().join("copy"), server.dir().join("resume"));
    let args = Args { resume: Some(resume), ..args(server.uri(), &target) };
    interrupted_copy(&server, &args).await;
    std::fs::rename(&target, server.dir().join("put-aside")).expect("renamed");
    std::fs::write(&target, vec![7; 256 * LEAF]).expect("written");
    assert!(matches!(fails(&args).await, Error::OtherTarget { .. }));
    std::fs::rename(server.dir().join("put-aside"), &target).expect("renamed");
    run(&args, &mut Vec::new()).await.expect("copied");
    assert!(std::fs::read(&target).expect("there") == noise(6, 256 * LEAF));
}

/// What was durable and is something else now is copied again, and only that.
#[tokio::test(flavor = "multi_thread")]
async fn what_verification_finds_is_copied_again_by_the_next_run() {
    let server = failing_server();
    let (target, resume) = (server.dir().join("copy"), server.dir().join("resume"));
    let args = Args { resume: Some(resume), verify: true, ..args(server.uri(), &target) };
    interrupted_copy(&server, &args).await;
    // The first leaf is durable: copies go from the start.
    let file = std::fs::OpenOptions::new().write(true).open(&target).expect("there");
    std::os::unix::fs::FileExt::write_all_at(&file, &[0xAA; 512], 512).expect("written");
    let error = fails(&args).await;
    assert!(matches!(error, Error::Different { bytes: 65536, offset: 0, resumable: true, .. }), "{error}");
    let summary = run(&args, &mut Vec::new()).await.expect("copied");
    assert_eq!(summary.read_bytes, 65536, "{summary:?}");
    assert!(std::fs::read(&target).expect("there") == noise(6, 256 * LEAF));
}

/// A run that could not make its target left a header; what stands there now was made by somebody else.
#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_came_after_the_resume_file_is_not_taken_for_zeros() {
    let dir = tempfile::tempdir().expect("a folder");
    let [source, target, resume] = ["source", "target", "resume"].map(|name| dir.path().join(name));
    std::fs::write(&source, disk()).expect("written");
    let header = resume::Header {
        migratekit_copy: resume::VERSION,
        source: source.display().to_string(),
        size_bytes: disk().len() as u64,
        source_file: None,
        target: target.clone(),
        target_bytes: None,
        bitmap: None,
        target_file: None,
        made_target: true,
    };
    Resume::open(&resume).expect("made").0.begin(&header).expect("written");
    std::fs::write(&target, vec![0xAA; disk().len()]).expect("written");
    let args = Args { resume: Some(resume), ..args(source.display(), &target) };
    run(&args, &mut Vec::new()).await.expect("copied");
    assert!(std::fs::read(&target).expect("there") == disk());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unfinished_file_that_nobody_can_go_on_with_is_removed() {
    let server = failing_server();
    let target = server.dir().join("copy");
    std::fs::write(server.dir().join("bad"), "").expect("written");
    assert!(matches!(fails(&args(server.uri(), &target)).await, Error::Source(_)));
    assert!(!target.exists());
    std::fs::remove_file(server.dir().join("bad")).expect("removed");

    let cancel = CancellationToken::new();
    let slow = Args { rate: Some(1 << 20), ..args(server.uri(), &target) };
    let copying = tokio::spawn({
        let cancel = cancel.clone();
        async move { copy(&slow, &cancel).await }
    });
    let deadline = Instant::now() + Duration::from_secs(30);
    while !target.exists() {
        assert!(Instant::now() < deadline, "it does not begin");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    cancel.cancel();
    let error = copying.await.expect("no panic").expect_err("cancelled");
    assert!(matches!(error, Error::Interrupted { resumable: false }), "{error:?}");
    assert!(!target.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bitmap_copies_the_changes_onto_the_base() {
    let raw = |image: &Path, raw: &Path| {
        tool(&["qemu-img", "convert", "-O", "raw", &image.display().to_string(), &raw.display().to_string()]);
    };
    let paths = |dir: &Path| -> (PathBuf, PathBuf) { (dir.join("d.qcow2"), dir.join("base")) };
    let server = Server::qemu(&["-r", "-f", "qcow2", "-B", "cbt", "{dir}/d.qcow2"], |dir| {
        let (image, base) = paths(dir);
        let path = image.display().to_string();
        tool(&["qemu-img", "create", "-q", "-f", "qcow2", &path, "64M"]);
        tool(&["qemu-io", "-c", "write -P 9 1M 9M", &path]);
        raw(&image, &base);
        tool(&["qemu-img", "bitmap", "--add", "-g", "65536", &path, "cbt"]);
        tool(&[
            "qemu-io",
            "-c",
            "write -P 1 5M 100k",
            "-c",
            "write -z 2M 128k",
            "-c",
            "write -P 3 63M 1M",
            &path,
        ]);
    });
    let (image, base) = paths(server.dir());
    let args = Args { bitmap: Some("cbt".into()), verify: true, ..args(server.uri(), &base) };
    let summary = run(&args, &mut Vec::new()).await.expect("copied");
    let expected = server.dir().join("expected");
    // The server has the image open; it only reads.
    tool(&[
        "qemu-img",
        "convert",
        "-U",
        "-O",
        "raw",
        &image.display().to_string(),
        &expected.display().to_string(),
    ]);
    assert!(std::fs::read(&base).expect("there") == std::fs::read(&expected).expect("there"));
    assert_eq!(summary.planned_bytes, (2 + 2 + 16) * 65536);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_room_is_said_and_leaves_no_half() {
    let dir = tempfile::tempdir().expect("a folder");
    let mounted =
        Command::new("mount").args(["-t", "tmpfs", "-o", "size=1M", "tmpfs"]).arg(dir.path()).status();
    if !mounted.is_ok_and(|status| status.success()) {
        eprintln!("skipped: a small file system cannot be mounted here");
        return;
    }
    let server = server(&["-r", "file", "{dir}/disk"]);
    let target = dir.path().join("copy");
    let error = fails(&args(server.uri(), &target)).await;
    let left = target.exists();
    // Lazily: the thread that wrote may be on its way out with the file still open.
    let gone = Command::new("umount").arg("-l").arg(dir.path()).status();
    assert!(gone.expect("umount is there").success());
    assert!(words(&error).contains("no room to write"), "{}", words(&error));
    assert!(!left);
}

#[tokio::test]
async fn the_rate_is_kept() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let (source, target) = (dir.path().join("disk"), dir.path().join("copy"));
    let mut data = vec![0; 6 << 20];
    blake3::Hasher::new().finalize_xof().fill(&mut data);
    std::fs::write(&source, &data).expect("written");
    let mut args = args(source.display(), &target);
    args.rate = Some(4 << 20);
    let began = Instant::now();
    run(&args, &mut Vec::new()).await.expect("copied");
    // What is read first is not waited for: a chunk of 4 MiB at most.
    assert!(began.elapsed() >= Duration::from_millis(400), "{:?}", began.elapsed());
    assert_eq!(std::fs::read(&target).expect("readable"), data);
}
