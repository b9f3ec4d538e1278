//! The REST API against its own document, by a program that nobody here wrote: schemathesis makes requests of the document,
//! good ones and bad ones, and holds every answer against it.
//!
//! A fixed seed and budget; `MIGRATEKIT_SEED` and `MIGRATEKIT_EXAMPLES` change them. Left out is what answers for ever
//! (watches, the events, a verification): schemathesis reads an answer to its end.

use anyhow::{Context as _, ensure};
use integration_tests::harness::{Options, World, binary};
use shared::tls::Role;
use std::path::PathBuf;
use std::process::Command;

/// Answers without an end.
const STREAMS: &str = "watch|events/stream|verify";

/// Some operations of every kind: an address may show ten bad tokens a minute, then it is told to wait. That every route
/// is guarded is `access::tests`' business.
const GUARDED: &str = "^/api/v1/(vms|agents|tokens|replications)$";

/// Where a good request may still be refused: for rules between fields and times, which no schema says (`begin` takes no
/// `max_cycles`; a switch is scheduled in the future; a schedule has something in it, a cron expression, a time zone that
/// is known; a span of time; no rate that nobody can keep; one default profile; a network's name that is not blank).
///
/// All other checks are on (that is its default); `ignored_auth` has a run of its own.
const BEYOND_A_SCHEMA: &str = r#"
[checks]
ignored_auth.enabled = false

[[operations]]
include-path-regex = "/limit$|/migrate$|/schedule$|/schedules/preview$|/tokens$|/target-profiles|/failover/(test|live)$|/orphans/remove$"
checks.positive_data_acceptance.enabled = false

# It finds its own token in the list and revokes it.
[[operations]]
include-name = "DELETE /api/v1/tokens/{name}"
enabled = false
"#;

/// What `make test` installs.
fn schemathesis() -> Option<PathBuf> {
    let built = binary("oma-api").ok()?;
    built.ancestors().map(|folder| folder.join("tools/venv/bin/schemathesis")).find(|path| path.is_file())
}

/// A new token of the role admin.
pub(crate) fn admin_token(world: &World) -> anyhow::Result<String> {
    let admin = world.ca.files(Role::Admin, "root");
    let mut cli = Command::new(binary("migratekit")?);
    cli.args(["token", "create", "schemathesis", "--role", "admin", "--oma", &world.address]);
    let made = cli
        .arg("--ca")
        .arg(&admin.ca)
        .arg("--cert")
        .arg(&admin.cert)
        .arg("--key")
        .arg(&admin.key)
        .output()?;
    ensure!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    Ok(String::from_utf8(made.stdout)?.trim().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn schemathesis_finds_nothing() -> anyhow::Result<()> {
    let Some(program) = schemathesis() else {
        eprintln!("skipped: no schemathesis; deploy/install-deps.sh test installs it");
        return Ok(());
    };
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("disk.raw");
    std::fs::write(&file, [7; 1 << 20])?;
    let mut world = World::start(&Options::files(&[("root", &file)])).await?;
    // It asks for more failovers than an address may.
    let path = world.dir.join("oma.toml");
    let text = std::fs::read_to_string(&path)?;
    let often = "[limits]\nfailovers_per_minute = 1000000\nfailover_burst = 1000000\n";
    std::fs::write(&path, text.replace("[limits]\n", often))?;
    world.oma_restart(&[])?;
    world.begin().await?;
    world.sync().await?;
    let token = admin_token(&world)?;
    let given = |name: &str, usual: &str| std::env::var(name).unwrap_or_else(|_| usual.to_owned());
    std::fs::write(folder.path().join("schemathesis.toml"), BEYOND_A_SCHEMA)?;
    let run = |arguments: Vec<String>| {
        let mut run = Command::new(&program);
        run.current_dir(folder.path()).arg("run").arg(format!("http://{}/api/v1/openapi.json", world.rest));
        run.args(["--workers", "1", "--no-color", "--continue-on-failure", "--generation-database", "none"]);
        run.args(["--request-timeout", "10", "--suppress-health-check", "all"]);
        run.args(["--generation-with-security-parameters", "false"]);
        run.args(["--seed", &given("MIGRATEKIT_SEED", "1"), "-H", &format!("Authorization: Bearer {token}")]);
        run.args(arguments);
        tokio::task::spawn_blocking(move || run.output())
    };
    let words = |text: String| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let examples = given("MIGRATEKIT_EXAMPLES", "12");
    let all = format!("--max-examples {examples} --exclude-path-regex {STREAMS}");
    let auth =
        format!("--checks ignored_auth --phases examples --max-examples 1 --include-path-regex {GUARDED}");
    for arguments in [all, auth] {
        let done = run(words(arguments)).await??;
        let said =
            String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
        ensure!(done.status.success(), "{said}");
        let summary = said.lines().find(|line| line.contains(" generated, ")).context(said.clone())?;
        eprintln!("{}", summary.trim());
    }
    let log = world.oma.logged()?;
    ensure!(!log.contains("ERROR") && !log.contains("panicked"), "{log}");
    Ok(())
}
