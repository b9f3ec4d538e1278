//! Children end with the agent and come back without it being asked.

use super::*;

const PATIENCE: Duration = Duration::from_secs(20);

/// A little server whose socket is in `dir`.
fn server(dir: &Path) -> Spec {
    let socket = dir.join("s");
    let arguments = ["-f", "-r", "-U"].map(OsString::from).into_iter();
    let arguments = arguments.chain([socket.clone().into(), "memory".into(), "1M".into()]).collect();
    Spec::new("nbdkit", arguments, socket)
}

fn alive(pid: u32) -> bool {
    // A zombie that nobody has waited for yet is as dead.
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| !rest.trim().is_empty() && !rest.trim().starts_with('Z'))
}

fn wait_for<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = ask() {
            return value;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn kill(pid: u32) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, Signal::KILL).unwrap();
}

#[tokio::test]
async fn a_killed_child_is_started_again_and_a_dropped_one_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let child = Child::start(server(dir.path())).unwrap();
    child.ready(PATIENCE).await.unwrap();
    let first = child.pid().unwrap();
    kill(first);
    let second = wait_for("a new one", || child.pid().filter(|&pid| pid != first));
    child.ready(PATIENCE).await.unwrap();
    assert_eq!(child.starts(), 2);
    drop(child);
    assert!(!alive(first) && !alive(second));
    assert!(!dir.path().join("s").exists());
}

#[tokio::test]
async fn a_child_whose_socket_was_removed_is_started_again() {
    let dir = tempfile::tempdir().unwrap();
    let child = Child::start(server(dir.path())).unwrap();
    child.ready(PATIENCE).await.unwrap();
    let first = child.pid().unwrap();
    // Long enough that the one who watches has seen it.
    tokio::time::sleep(3 * LOOK).await;
    std::fs::remove_file(dir.path().join("s")).unwrap();
    wait_for("a new one", || child.pid().filter(|&pid| pid != first));
    child.ready(PATIENCE).await.unwrap();
    assert!(!alive(first));
}

#[tokio::test]
async fn a_child_that_cannot_run_is_tried_with_pauses_and_named() {
    let dir = tempfile::tempdir().unwrap();
    let mut spec = server(dir.path());
    spec.arguments = vec!["--no-such-option".into()];
    spec.pause = Duration::from_millis(10);
    let child = Child::start(spec).unwrap();
    wait_for("three starts", || (child.starts() >= 3).then_some(()));
    let error = child.ready(Duration::from_millis(50)).await.unwrap_err();
    assert!(error.to_string().contains("nbdkit does not answer"), "{error}");
}

/// Not a test by itself: the agent that the next one kills.
#[test]
fn an_agent_to_be_killed() {
    let Some(dir) = std::env::var_os("MK_TEST_AGENT_DIR").map(PathBuf::from) else { return };
    let child = Child::start(server(&dir)).unwrap();
    let pid = wait_for("the child", || child.pid());
    std::fs::write(dir.join("pid.new"), pid.to_string()).unwrap();
    std::fs::rename(dir.join("pid.new"), dir.join("pid")).unwrap();
    std::thread::sleep(Duration::from_secs(60));
}

#[test]
fn a_child_does_not_outlive_a_killed_agent() {
    let dir = tempfile::tempdir().unwrap();
    let mut agent = process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child::tests::an_agent_to_be_killed"])
        .env("MK_TEST_AGENT_DIR", dir.path())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let pid = wait_for("the agent's child", || {
        std::fs::read_to_string(dir.path().join("pid")).ok()?.parse::<u32>().ok()
    });
    wait_for("its socket", || std::os::unix::net::UnixStream::connect(dir.path().join("s")).ok());
    assert!(alive(pid));
    agent.kill().unwrap();
    agent.wait().unwrap();
    wait_for("the child's end", || (!alive(pid)).then_some(()));
}
