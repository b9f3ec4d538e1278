//! `cs`, the client from PyPI, unmodified, drives a life.

use super::Rig;
use std::path::Path;
use std::time::Duration;

/// Where `deploy/install-deps.sh` puts it, beside this test's own program.
fn python() -> Option<std::path::PathBuf> {
    let own = std::env::current_exe().ok()?;
    let target = own.ancestors().find(|folder| folder.join("tools/venv/bin/python").exists())?;
    let python = target.join("tools/venv/bin/python");
    let has_cs =
        std::process::Command::new(&python).args(["-c", "import cs"]).output().ok()?.status.success();
    has_cs.then_some(python)
}

#[tokio::test]
#[expect(clippy::print_stderr, reason = "what is skipped is said")]
async fn a_client_that_nobody_here_wrote_leads_a_life() {
    let Some(python) = python() else {
        eprintln!("SKIPPED: no cs in the venv (deploy/install-deps.sh test)");
        return;
    };
    let rig = Rig::start_with(|options| options.job_time = Duration::from_millis(20)).await;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/cloudstack_sim/life.py");
    let run = tokio::process::Command::new(python)
        .arg(script)
        .env("CLOUDSTACK_ENDPOINT", rig.sim.url())
        .env("CLOUDSTACK_KEY", &rig.admin.key)
        .env("CLOUDSTACK_SECRET", &rig.admin.secret)
        .output();
    let output = tokio::time::timeout(Duration::from_secs(120), run).await.unwrap().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("a whole life"), "{said}");
    assert_eq!(rig.sim.unknown_parameters(), Vec::<String>::new());
}
