//! What is peculiar to copies into NBD exports.

use super::*;

fn nbd_args(source: &Path, server: &Server) -> Args {
    args(source.display(), server.uri().to_string().as_ref())
}

/// A server of a file of `size` bytes of 0xAA.
fn old_data(args: &[&str], size: usize) -> Server {
    Server::nbdkit_with(args, |dir| std::fs::write(dir.join("t"), vec![0xAA; size]).expect("written"))
}

fn stored(server: &Server) -> Vec<u8> {
    std::fs::read(server.dir().join("t")).expect("there")
}

fn source(dir: &tempfile::TempDir) -> PathBuf {
    let path = dir.path().join("source");
    std::fs::write(&path, disk()).expect("written");
    path
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_do_is_refused_before_a_byte() {
    let dir = tempfile::tempdir().expect("a folder");
    let source = source(&dir);
    let refused = async |server: &Server, words_of_it: &str| {
        let error = words(&fails(&nbd_args(&source, server)).await);
        assert!(error.contains(words_of_it), "{error}");
        assert!(stored(server).iter().all(|b| *b == 0xAA));
    };
    refused(&old_data(&["-r", "file", "{dir}/t"], disk().len()), "is exported read-only").await;
    refused(&old_data(&["file", "{dir}/t"], disk().len() - 1), "use a larger target").await;
    let server = old_data(&["file", "{dir}/t"], disk().len());
    let same = args(server.uri(), server.uri().to_string().as_ref());
    assert!(matches!(fails(&same).await, Error::SameFile { .. }));
    let no_file = Args { without_flush: true, ..args(source.display(), &dir.path().join("x")) };
    assert_eq!(fails(&no_file).await.exit_code(), 64);
    assert_eq!(fails(&args(source.display(), "nbds://host/x".as_ref())).await.exit_code(), 64);
}

/// A target that owes answers must not keep the operator who wants the copy to end.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_into_a_silent_server_is_interrupted_all_the_same() {
    let dir = tempfile::tempdir().expect("a folder");
    for slow in ["delay-write=60", "delay-zero=60"] {
        let server = old_data(&["--filter=delay", "file", "{dir}/t", slow], disk().len());
        let (args, cancel) = (nbd_args(&source(&dir), &server), CancellationToken::new());
        let copying = tokio::spawn({
            let cancel = cancel.clone();
            async move { copy(&args, &cancel).await }
        });
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert!(!copying.is_finished(), "{slow}");
        cancel.cancel();
        let ended = tokio::time::timeout(Duration::from_secs(20), copying).await;
        let error = ended.unwrap_or_else(|_| panic!("{slow}: it waits")).expect("no panic").expect_err(slow);
        assert!(matches!(error, Error::Interrupted { .. }), "{slow}: {error}");
    }
}

/// Where the operator says so, and only there (see the matrix), zeros are left out.
#[tokio::test(flavor = "multi_thread")]
async fn zeros_are_left_out_of_a_destination_that_is_said_to_be_zero() {
    let dir = tempfile::tempdir().expect("a folder");
    let server = old_data(&["--filter=log", "file", "{dir}/t", "logfile={dir}/log"], disk().len());
    let args = Args { destination_is_zero: true, ..nbd_args(&source(&dir), &server) };
    let summary = run(&args, &mut Vec::new()).await.expect("copied");
    assert_eq!(summary.zero_bytes, 16 * 65536);
    let log = std::fs::read_to_string(server.dir().join("log")).expect("a log");
    assert!(log.contains(" Write id=") && !log.contains(" Zero id="), "{log}");
    assert!(log.rfind(" Flush id=") > log.rfind(" Write id="), "flushed at the end: {log}");
    assert!(stored(&server)[8 * LEAF..16 * LEAF].iter().all(|b| *b == 0xAA), "as said, wrong as it was");
}

#[tokio::test(flavor = "multi_thread")]
async fn zeros_longer_than_the_largest_request() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("source");
    let size = 100 << 20;
    std::fs::File::create(&path).and_then(|file| file.set_len(size)).expect("sized");
    let policy = ["blocksize-maximum=32M", "blocksize-error-policy=error"];
    let plugin = ["--filter=blocksize-policy", "--filter=log", "memory", "100M", "logfile={dir}/log"];
    let server = Server::nbdkit(&[&plugin[..], &policy].concat());
    let summary = run(&nbd_args(&path, &server), &mut Vec::new()).await.expect("copied");
    assert_eq!(summary.zero_bytes, size);
    let log = std::fs::read_to_string(server.dir().join("log")).expect("a log");
    assert_eq!(log.matches(" Zero id=").count(), 4, "100 MiB in requests of at most 32: {log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_does_not_hold_what_was_written_is_found_by_verification() {
    let dir = tempfile::tempdir().expect("a folder");
    // A server that forgets what is written to it.
    let server = Server::nbdkit(&["null", "8M"]);
    let args = Args { verify: true, ..nbd_args(&source(&dir), &server) };
    let error = fails(&args).await;
    assert!(matches!(error, Error::Different { offset: 0, .. }), "{error}");
}

/// A target that dies and comes back is gone on with; its old content is read back first.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_ends_the_copy_and_the_next_run_goes_on() {
    let (dir, size) = (tempfile::tempdir().expect("a folder"), 256 * LEAF);
    let (path, image) = (dir.path().join("source"), dir.path().join("image"));
    std::fs::write(&path, noise(6, size)).expect("written");
    std::fs::write(&image, vec![0xAA; size]).expect("written");
    let at = |socket: &Path| format!("nbd+unix:///?socket={}", socket.display());
    let socket = dir.path().join("target.sock");
    let start = || {
        // Under an address of ours, so that its successor has the same.
        let server = Server::nbdkit(&["file", image.to_str().expect("plain")]);
        let _ = std::fs::remove_file(&socket);
        std::os::unix::fs::symlink(server.socket(), &socket).expect("linked");
        server
    };
    let mut server = start();
    let resume = dir.path().join("resume");
    let args = Args { resume: Some(resume.clone()), ..args(path.display(), at(&socket).as_ref()) };
    let slow = Args { rate: Some(4 << 20), ..args.clone() };
    let copying = tokio::spawn(async move { run(&slow, &mut Vec::new()).await });
    wait_for_durable(&resume).await;
    server.kill();
    let error = copying.await.expect("no panic").expect_err("the server is gone");
    assert!(words(&error).contains("lost the connection to nbd+unix"), "{}", words(&error));

    let server = start();
    let summary = run(&args, &mut Vec::new()).await.expect("copied");
    assert!(summary.resumed_bytes > 0 && summary.read_bytes < size as u64, "{summary:?}");
    assert!(std::fs::read(&image).expect("there") == noise(6, size));
    assert!(!resume.exists());
    drop(server);
}

/// The same address and size, another disk: nothing of the first run counts, zeros included.
#[tokio::test(flavor = "multi_thread")]
async fn a_resume_onto_another_disk_behind_the_same_address_copies_all_of_it() {
    // Longer than what a run announces at a time, 64 MiB; so nothing is known of the zeros at the end.
    let leaves = 1152;
    let server = old_data(&["file", "{dir}/t"], leaves * LEAF);
    let mut data = noise(6, leaves * LEAF);
    data[(leaves - 32) * LEAF..].fill(0);
    let source = failing_server();
    std::fs::write(source.dir().join("disk"), &data).expect("written");
    let target = server.uri().to_string();
    let resume = source.dir().join("resume");
    let args = Args { resume: Some(resume.clone()), ..args(source.uri(), target.as_ref()) };
    // It was zero at first, as the operator said.
    std::fs::write(server.dir().join("t"), vec![0; leaves * LEAF]).expect("written");
    interrupted_copy(&source, &Args { destination_is_zero: true, ..args.clone() }).await;
    std::fs::write(server.dir().join("t"), vec![0xAA; leaves * LEAF]).expect("written");

    let again = source.dir().join("again");
    for end in ["", ".manifest"] {
        let at = |path: &Path| PathBuf::from(format!("{}{end}", path.display()));
        std::fs::copy(at(&resume), at(&again)).expect("copied");
    }
    run(&Args { resume: Some(again), ..args.clone() }, &mut Vec::new()).await.expect("copied");
    assert!(stored(&server) == data);
    std::fs::write(server.dir().join("t"), vec![0xAA; leaves * LEAF]).expect("written");

    // Interrupted once more: what was found out then must not be forgotten.
    std::fs::write(source.dir().join("bad"), "").expect("written");
    assert!(matches!(fails(&args).await, Error::Source(_)));
    std::fs::remove_file(source.dir().join("bad")).expect("removed");
    let other = Args { target: format!("{target}&x=y").into(), ..args.clone() };
    assert!(matches!(fails(&other).await, Error::OtherCopy { what: "the target", .. }));
    let summary = run(&args, &mut Vec::new()).await.expect("copied");
    assert_eq!(summary.resumed_bytes, 0, "{summary:?}");
    assert!(stored(&server) == data);
}
