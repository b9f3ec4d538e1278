//! A whole life as python-linstor drives it: a client that nobody here wrote, unmodified.

use super::*;
use std::process::Stdio;
use tokio::process::Command;

/// In a venv of its own, which deploy/install-deps.sh makes below the target folder.
fn python() -> Option<PathBuf> {
    let built = std::env::current_exe().ok()?;
    let found = built.ancestors().map(|folder| folder.join("tools/venv-linstor/bin/python"));
    found.into_iter().find(|path| path.is_file())
}

#[tokio::test(flavor = "multi_thread")]
async fn python_linstor_leads_a_whole_life() -> anyhow::Result<()> {
    let Some(python) = python() else {
        eprintln!("skipped: no python-linstor; deploy/install-deps.sh test installs it");
        return Ok(());
    };
    let bench = Bench::usual().await?;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/linstor_sim/life.py");
    let url = bench.sim.url().replace("http://", "linstor://");
    let ran = Command::new(python).arg(script).arg(url).stdin(Stdio::null()).output().await?;
    let (said, wrong) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    ensure!(ran.status.success(), "{said}\n{wrong}");
    ensure!(said.ends_with("whole life done\n"), "{said}\n{wrong}");
    let unknown: Vec<_> =
        bench.sim.calls().into_iter().filter(|call| matches!(call.status, Some(404 | 405))).collect();
    ensure!(unknown.is_empty(), "asked for what is not here: {unknown:?}");
    Ok(())
}
