use super::*;
use tokio::time::Instant;

fn shell(script: &str) -> Spec {
    Spec {
        program: "sh".into(),
        arguments: vec!["-c".into(), script.into()],
        environment: Vec::new(),
        input: Stdio::null(),
        output: Stdio::null(),
        errors: Stdio::null(),
    }
}

fn far() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

/// Waits until the program has said what it started.
async fn pids(file: &std::path::Path) -> Vec<i32> {
    for _ in 0..500 {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        if text.ends_with("all\n") {
            return text.lines().filter_map(|line| line.parse().ok()).collect();
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the program did not say what it started");
}

fn lives(pid: i32) -> bool {
    let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !state.is_empty() && !state.contains(") Z ")
}

/// One that ignores being asked, and one that left the group and the parent.
fn stubborn(file: &std::path::Path) -> Spec {
    let file = file.display();
    shell(&format!(
        "trap '' TERM; (setsid sleep 600 & echo $! > {file}); sleep 600 & echo $! >> {file}; \
         echo $$ >> {file}; echo all >> {file}; while :; do sleep 600; done"
    ))
}

#[tokio::test]
async fn the_end_of_a_program_is_its_own() {
    let mut run = Running::start(shell("exit 3")).await.expect("sh is there");
    let status = run.wait(&CancellationToken::new(), far()).await.expect("it ends by itself");
    assert_eq!(status.code(), Some(3));
}

#[tokio::test]
async fn stopped_it_takes_all_it_started_along() {
    let folder = tempfile::tempdir().expect("a folder");
    let said = folder.path().join("pids");
    let mut run = Running::start(stubborn(&said)).await.expect("sh is there");
    let started = pids(&said).await;
    assert_eq!(started.len(), 3);
    assert!(started.iter().all(|pid| lives(*pid)));
    let stop = CancellationToken::new();
    stop.cancel();
    assert!(matches!(run.wait(&stop, far()).await, Err(Ended::Stopped)));
    assert_eq!(started.into_iter().filter(|pid| lives(*pid)).count(), 0);
}

#[tokio::test]
async fn it_does_not_run_past_its_deadline() {
    let mut run = Running::start(shell("sleep 600")).await.expect("sh is there");
    let soon = Instant::now() + Duration::from_millis(50);
    assert!(matches!(run.wait(&CancellationToken::new(), soon).await, Err(Ended::TooLong)));
}

#[tokio::test]
async fn dropped_it_ends() {
    let folder = tempfile::tempdir().expect("a folder");
    let said = folder.path().join("pids");
    let run = Running::start(stubborn(&said)).await.expect("sh is there");
    let started = pids(&said).await;
    drop(run);
    for _ in 0..1000 {
        if !started.iter().any(|pid| lives(*pid)) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("they still run");
}
