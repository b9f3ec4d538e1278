//! `/metrics` of both daemons: judged by Prometheus's own tool, and against what dashboard and alerts ask for.

use anyhow::Context as _;
use integration_tests::harness::{Options, World, binary};
use proto::v1::Action;
use rand::{RngCore as _, SeedableRng as _, rngs::SmallRng};
use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

const DASHBOARD: &str = include_str!("../../../deploy/grafana/migratekit.json");
const ALERTS: &str = include_str!("../../../deploy/prometheus/alerts.yml");

/// Words of PromQL, and labels, that look like names of metrics.
const NOT_METRICS: &[&str] = &["migration_id"];

/// Asks as Prometheus does; the page.
async fn page(address: &str) -> anyhow::Result<String> {
    let url = format!("http://{address}/metrics");
    let mut command = Command::new("curl");
    command.args(["-sS", "--max-time", "10", "-w", "\n%{http_code} %{content_type}", &url]);
    let output = tokio::task::spawn_blocking(move || command.output()).await??;
    let text = String::from_utf8(output.stdout)?;
    let (page, head) = text.rsplit_once('\n').context("a status")?;
    anyhow::ensure!(head == "200 text/plain; version=0.0.4", "{head}: {page}");
    Ok(page.to_owned())
}

/// What `make test` installs, or what is in the path.
fn promtool() -> Option<PathBuf> {
    let program = binary("oma-api").ok()?;
    let installed = program.ancestors().map(|folder| folder.join("tools/bin/promtool"));
    let path = std::env::var_os("PATH")?;
    let known: Vec<_> = std::env::split_paths(&path).map(|folder| folder.join("promtool")).collect();
    let found = installed.chain(known).find(|path| path.is_file());
    if found.is_none() {
        eprintln!("SKIPPED: promtool is not here; deploy/install-deps.sh test installs it");
    }
    found
}

fn judged(program: &Path, arguments: &[&str], text: &str) -> anyhow::Result<()> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    child.stdin.take().context("piped")?.write_all(text.as_bytes())?;
    let output = child.wait_with_output()?;
    let said = [output.stdout, output.stderr].concat();
    anyhow::ensure!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&said));
    Ok(())
}

/// The names that a query or a rule uses, histograms without their endings.
fn asked(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let named = words.filter(|word| word.starts_with("migratekit_") || word.starts_with("process_"));
    let base = |word: &str| {
        let ends = ["_bucket", "_count", "_sum"];
        ends.iter().find_map(|end| word.strip_suffix(end)).unwrap_or(word).to_owned()
    };
    named.filter(|word| !NOT_METRICS.contains(word)).map(base).collect()
}

fn exported(page: &str) -> BTreeSet<String> {
    let types = page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    types.map(str::to_owned).collect()
}

/// The queries of every panel.
fn queries(dashboard: &serde_json::Value) -> Vec<String> {
    let panels = dashboard["panels"].as_array().cloned().unwrap_or_default();
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().cloned().unwrap_or_default());
    targets.filter_map(|target| Some(target["expr"].as_str()?.to_owned())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn both_pages_are_what_prometheus_wants_and_hold_all_that_is_asked_for() -> anyhow::Result<()> {
    let temp = tempfile::tempdir()?;
    let root = temp.path().join("root");
    // Seconds' worth, which no compression shortens: the page is asked for while it runs, on a busy machine, too.
    let mut noise = vec![0_u8; 6 << 20];
    SmallRng::seed_from_u64(1).fill_bytes(&mut noise);
    std::fs::write(&root, noise)?;
    let mut options = Options::files(&[("root", &root)]);
    options.transfer.push_str("rate = \"1MiB\"\n");
    let world = World::start(&options).await?;
    world.begin().await?;
    world.act(Action::Sync).await?;
    world.wait("bytes", Duration::from_secs(30), |m| m.cycle.iter().any(|c| c.bytes_transferred > 0)).await?;
    let under_way = page(&world.rest).await?;
    world.said(&["migration", "schedule", "set", "web", "--rpo", "1h"]).await?;
    world.synced().await?;
    // The same page is given for a second.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let pages = [page(&world.rest).await?, page(&world.progress).await?];

    let value = |page: &str, series: &str| -> Option<f64> {
        page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
    };
    let done = "migratekit_cycles_finished_total{kind=\"full\",outcome=\"completed\"}";
    assert_eq!(value(&pages[0], done), Some(1.0));
    assert_eq!(value(&pages[0], "migratekit_scrape_errors"), Some(0.0));
    for (page, series) in [
        (&pages[0], "migratekit_transferred_bytes_total{kind=\"data\"}"),
        (&pages[1], "migratekit_agent_bytes_total{kind=\"data\"}"),
    ] {
        assert_eq!(value(page, series), Some(f64::from(6 << 20)), "{series}: once, by the full cycle");
    }
    assert_eq!(value(&pages[1], "migratekit_agent_connected"), Some(1.0));

    let mut there: BTreeSet<_> = pages.iter().chain([&under_way]).flat_map(|page| exported(page)).collect();
    // Shows with the first finding.
    there.insert("migratekit_agent_findings_total".to_owned());
    // Of servers that the target is reached by: a folder has none.
    for name in ["migratekit_target_circuit", "migratekit_target_silent_seconds"] {
        there.insert(name.to_owned());
    }
    let dashboard: serde_json::Value = serde_json::from_str(DASHBOARD)?;
    let queries = queries(&dashboard);
    assert!(queries.len() > 20, "{queries:?}");
    for query in queries.iter().map(String::as_str).chain([ALERTS]) {
        let names = asked(query);
        assert!(!names.is_empty(), "asks for nothing of ours: {query}");
        let missing: Vec<_> = names.difference(&there).collect();
        assert!(missing.is_empty(), "{missing:?} is not exported: {query}");
    }
    // And nothing of ours goes unseen.
    let shown: BTreeSet<_> = queries.iter().flat_map(|query| asked(query)).collect();
    let unseen: Vec<_> = there.iter().filter(|name| name.starts_with("migratekit_")).collect();
    let unseen: Vec<_> = unseen.into_iter().filter(|name| !shown.contains(*name)).collect();
    assert_eq!(unseen, ["migratekit_scrape_errors"], "the alerts have that one");

    let Some(promtool) = promtool() else { return Ok(()) };
    for page in pages.iter().chain([&under_way]) {
        judged(&promtool, &["check", "metrics"], page)?;
    }
    let rules = temp.path().join("alerts.yml");
    std::fs::write(&rules, ALERTS)?;
    judged(&promtool, &["check", "rules", &rules.display().to_string()], "")?;
    Ok(())
}
