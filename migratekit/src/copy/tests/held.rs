//! A target that is somebody's already; a copy that is told to stop; and what a resume file is bound to.

use super::*;

/// Waits until `done`, for 30 s at most.
async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !done() {
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn file(dir: &Path, name: &str, seed: u64, bytes: usize) -> PathBuf {
    std::fs::write(dir.join(name), noise(seed, bytes)).expect("written");
    dir.join(name)
}

/// Begins a copy that is slow, and waits until it is about to write: asking for its lock might take it away.
async fn begin(args: &Args) -> tokio::task::JoinHandle<Result<Summary, Error>> {
    let resume = args.target.with_extension("resume");
    let slow = Args { rate: Some(8 << 20), resume: Some(resume.clone()), ..args.clone() };
    let copying = tokio::spawn(async move { copy(&slow, &CancellationToken::new()).await });
    until("it does not begin", || std::fs::read_to_string(&resume).is_ok_and(|text| text.contains("intend")))
        .await;
    copying
}

#[tokio::test(flavor = "multi_thread")]
async fn two_copies_at_once_do_not_write_to_one_target() {
    let dir = tempfile::tempdir().expect("a folder");
    let [one, other] = [1, 2].map(|seed| file(dir.path(), &format!("disk{seed}"), seed, 128 * LEAF));
    for (name, exists) in [("new", false), ("old", true)] {
        let target = dir.path().join(name);
        if exists {
            std::fs::write(&target, vec![9; 128 * LEAF]).expect("written");
        }
        let copying = begin(&args(one.display(), &target)).await;
        let second = args(other.display(), &target);
        let resume = Some(dir.path().join("resume"));
        for second in [second.clone(), Args { resume, ..second }] {
            let error = fails(&second).await;
            assert!(matches!(error, Error::Written { .. }) && error.exit_code() == 1, "{error:?}");
        }
        copying.await.expect("no panic").expect("copied");
        assert!(std::fs::read(&target).expect("there") == noise(1, 128 * LEAF), "the first one's, whole");
        // And now it is free.
        run(&args(other.display(), &target), &mut Vec::new()).await.expect("copied");
        assert!(std::fs::read(&target).expect("there") == noise(2, 128 * LEAF));
    }
}

/// The lock of a file that has lost its name keeps nobody away from the name.
#[test]
fn a_claim_goes_with_the_name() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = file(dir.path(), "disk", 1, 10);
    let first = claim(&path).expect("free");
    assert!(matches!(claim(&path), Err(Error::Written { .. })));
    drop(first);
    assert!(claim(&path).expect("free").is_some());
    assert!(claim(dir.path()).expect("no file").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_is_claimed_too() {
    let dir = tempfile::tempdir().expect("a folder");
    let image = file(dir.path(), "image", 1, 128 * LEAF);
    let made = Command::new("losetup").args(["-f", "--show"]).arg(&image).output().expect("it is installed");
    if !made.status.success() {
        eprintln!("SKIPPED: no loop device here");
        return;
    }
    let device = PathBuf::from(String::from_utf8_lossy(&made.stdout).trim());
    let first = claim(&device);
    let second = claim(&device).map(|_| ());
    let behind = claim(&image).map(|_| ());
    let first_had = first.is_ok();
    drop(first);
    let file = claim(&image);
    let over = claim(&device).map(|_| ());
    drop(file);
    tool(&["losetup", "-d", &device.display().to_string()]);
    assert!(first_had && matches!(second, Err(Error::InUse { .. })), "{second:?}");
    for other in [behind, over] {
        assert!(matches!(other, Err(Error::Written { .. })), "the file behind it: {other:?}");
    }
}

/// Runs this program again, as a copy in a process of its own: a signal goes to all of a process.
#[test]
fn a_signal_ends_a_copy_in_order() {
    const FOLDER: &str = "MIGRATEKIT_TEST_COPY_IN";
    let name = "copy::tests::held::a_signal_ends_a_copy_in_order";
    if let Some(dir) = std::env::var_os(FOLDER) {
        let dir = PathBuf::from(dir);
        let slow = Args { rate: Some(1 << 20), ..args(dir.join("disk").display(), &dir.join("target")) };
        let slow = Args { resume: dir.join("with-resume").exists().then(|| dir.join("resume")), ..slow };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let error = runtime.block_on(run(&slow, &mut Vec::new())).expect_err("interrupted");
        std::fs::write(dir.join("said"), format!("{error}, {}", error.exit_code())).expect("written");
        return;
    }
    for (signal, resume) in [("TERM", false), ("HUP", false), ("TERM", true)] {
        if signal == "HUP" && told::hangup_is_ignored() {
            eprintln!("SKIPPED in part: whoever started the tests has SIGHUP ignored");
            continue;
        }
        let dir = tempfile::tempdir().expect("a folder");
        let at = |name: &str| dir.path().join(name);
        file(dir.path(), "disk", 1, 256 * LEAF);
        std::fs::create_dir(at("tmp")).expect("made");
        if resume {
            std::fs::write(at("with-resume"), "").expect("written");
        }
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .args([name, "--exact"])
            .env(FOLDER, dir.path())
            .env("TMPDIR", at("tmp"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("started");
        let deadline = Instant::now() + Duration::from_secs(30);
        while !at("target").exists() {
            assert!(Instant::now() < deadline, "it does not begin");
            std::thread::sleep(Duration::from_millis(5));
        }
        tool(&["kill", &format!("-{signal}"), &child.id().to_string()]);
        assert!(child.wait().expect("ended").success(), "SIG{signal} ended the process");
        let said = std::fs::read_to_string(at("said")).expect("an end in order");
        assert!(said.starts_with("interrupted") && said.ends_with(", 1"), "{said}");
        assert_eq!(at("target").exists(), resume, "{said}");
        assert_eq!(std::fs::read_dir(at("tmp")).expect("there").count(), 0, "nothing is left behind");
    }
}

/// A copy with a resume file that was ended when something was durable: its arguments.
async fn half_done(dir: &Path) -> Args {
    let source = file(dir, "disk", 6, 256 * LEAF);
    let args = Args { resume: Some(dir.join("resume")), ..args(source.display(), &dir.join("copy")) };
    let cancel = CancellationToken::new();
    let copying = tokio::spawn({
        let (slow, cancel) = (Args { rate: Some(8 << 20), ..args.clone() }, cancel.clone());
        async move { copy(&slow, &cancel).await }
    });
    wait_for_durable(&dir.join("resume")).await;
    cancel.cancel();
    let error = copying.await.expect("no panic").expect_err("cancelled");
    assert!(matches!(error, Error::Interrupted { resumable: true }), "{error:?}");
    args
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resume_without_its_hashes_says_so() {
    let dir = tempfile::tempdir().expect("a folder");
    let args = half_done(dir.path()).await;
    let manifest = dir.path().join("resume.manifest");
    std::fs::write(&manifest, "").expect("emptied");
    let emptied = fails(&args).await.to_string();
    std::fs::remove_file(&manifest).expect("removed");
    let gone = fails(&args).await.to_string();
    for (words, why) in [(&emptied, "is damaged (it is too short)"), (&gone, "is gone")] {
        let remove = format!("remove {} to start anew", dir.path().join("resume").display());
        assert!(words.contains(why) && words.contains(&remove), "{words}");
    }
    // And that is what helps.
    std::fs::remove_file(dir.path().join("resume")).expect("removed");
    run(&args, &mut Vec::new()).await.expect("copied");
    assert!(std::fs::read(&args.target).expect("there") == noise(6, 256 * LEAF));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_was_written_to_is_not_gone_on_with() {
    let dir = tempfile::tempdir().expect("a folder");
    let args = half_done(dir.path()).await;
    let resume = dir.path().join("resume");
    let before = std::fs::read_to_string(&resume).expect("there");
    std::fs::write(dir.path().join("disk"), noise(7, 256 * LEAF)).expect("written");
    let error = fails(&args).await;
    assert!(
        matches!(error, Error::SourceChanged { .. }) && error.to_string().contains("remove"),
        "{error:?}"
    );
    // One of before, which does not know the source's file, is taken as it was.
    let start = before.find("\"source_file\":").expect("recorded");
    let end = start + before[start..].find("},").expect("an object") + 2;
    std::fs::write(&resume, format!("{}{}", &before[..start], &before[end..])).expect("written");
    let summary = run(&args, &mut Vec::new()).await.expect("copied");
    assert!(summary.resumed_bytes > 0, "{summary:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_was_made_shorter_is_said_to_be() {
    let dir = tempfile::tempdir().expect("a folder");
    let args = half_done(dir.path()).await;
    std::fs::OpenOptions::new().write(true).open(&args.target).and_then(|f| f.set_len(0)).expect("cut");
    let error = fails(&args).await;
    let words = error.to_string();
    assert!(
        matches!(error, Error::TargetShrunk { have: 0, .. }) && words.contains("made shorter"),
        "{words}"
    );
    // A target that always was too small is said to be, and no resume file is made for it.
    let other = Args { resume: Some(dir.path().join("new")), ..args.clone() };
    assert!(words_of_small(&other).await.contains("use a larger target"));
    assert!(!dir.path().join("new").exists());
}

async fn words_of_small(args: &Args) -> String {
    words(&fails(args).await)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_ends_is_said_to_have_ended() {
    let dir = tempfile::tempdir().expect("a folder");
    let source = file(dir.path(), "disk", 6, 256 * LEAF);
    let stored = |dir: &Path| std::fs::write(dir.join("t"), noise(6, 256 * LEAF)).expect("written");
    for to_server in [false, true] {
        let server = Server::nbdkit_with(
            &["--filter=delay", "file", "{dir}/t", "rdelay=100ms", "wdelay=100ms"],
            stored,
        );
        let target = dir.path().join("target");
        let args = match to_server {
            true => args(source.display(), server.uri().to_string().as_ref()),
            false => args(server.uri(), &target),
        };
        let slow =
            Args { rate: Some(8 << 20), resume: Some(dir.path().join(format!("r{to_server}"))), ..args };
        let resume = slow.resume.clone().expect("given");
        let copying = tokio::spawn(async move { run(&slow, &mut Vec::new()).await });
        until("it does not begin", || {
            std::fs::read_to_string(&resume).is_ok_and(|text| text.contains("intend"))
        })
        .await;
        server.terminate();
        let words = words(&copying.await.expect("no panic").expect_err("its server ended"));
        assert!(words.contains("lost the connection") && !words.contains("os error"), "{words}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_odd_end_that_a_server_of_large_blocks_does_not_give_is_said() {
    let dir = tempfile::tempdir().expect("a folder");
    let blocks = ["--filter=blocksize-policy", "blocksize-minimum=4096", "blocksize-error-policy=error"];
    let server = server(&[&["-r", "file", "{dir}/disk"][..], &blocks].concat());
    let words = words(&fails(&args(server.uri(), &dir.path().join("target"))).await);
    assert!(words.contains("the last 777 bytes of") && words.contains("whole blocks of 4096"), "{words}");
}
