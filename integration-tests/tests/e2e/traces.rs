//! One trace from the operator's command to the agent's disk, and logs that say whose they are.

use anyhow::Context as _;
use integration_tests::harness::{Options, World, binary};
use integration_tests::otlp::{Collector, Span};
use proto::v1;
use proto::v1::migration_service_client::MigrationServiceClient;
use serde_json::Value;
use shared::tls::Role;
use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

const MIB: u64 = 1 << 20;

fn image(dir: &Path, name: &str, byte: u8) -> anyhow::Result<std::path::PathBuf> {
    let path = dir.join(name);
    std::fs::write(&path, vec![byte; usize::try_from(4 * MIB)?])?;
    Ok(path)
}

/// The operator's program, as it is used.
async fn command(world: &World, arguments: &[&str], endpoint: &str) -> anyhow::Result<()> {
    let files = world.ca.files(Role::Operator, "admin");
    let mut cli = tokio::process::Command::new(binary("migratekit")?);
    cli.args(arguments).args(["--oma", &world.address]).env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint);
    cli.arg("--ca").arg(&files.ca).arg("--cert").arg(&files.cert).arg("--key").arg(&files.key);
    let output = cli.output().await?;
    anyhow::ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// From a span up to the root of its trace, as `program name`.
fn ancestors(spans: &[Span], from: &Span) -> Vec<String> {
    let up = |span: &&Span| {
        let parent = span.parent.clone();
        spans.iter().find(|one| one.id == parent)
    };
    std::iter::successors(Some(from), up).map(Span::shown).collect()
}

/// The three programs, a real collector; a cycle that is interrupted by the end of both daemons goes on in its trace.
#[tokio::test(flavor = "multi_thread")]
async fn one_trace_spans_the_command_the_control_plane_and_the_agent() -> anyhow::Result<()> {
    let collector = Collector::start().await?;
    let temp = tempfile::tempdir()?;
    let (root, data) = (image(temp.path(), "root", 1)?, image(temp.path(), "data", 2)?);
    let mut options = Options::files(&[("root", &root), ("data", &data)]);
    options.log = format!("[telemetry]\notlp_endpoint = \"{}\"\n", collector.endpoint());
    let mut world = World::start(&options).await?;
    world.begin().await?;
    command(&world, &["migration", "sync", "web", "--wait"], collector.endpoint()).await?;
    // Their end sends what is left.
    world.agent.stop(Duration::from_secs(15))?;
    world.oma.stop(Duration::from_secs(15))?;

    let all = collector.spans();
    let root = all.iter().find(|span| span.shown() == "migratekit migratekit migration sync");
    let root = root.with_context(|| format!("no command among {all:?}"))?;
    assert_eq!(root.parent, "");
    let trace: Vec<_> = all.iter().filter(|span| span.trace == root.trace).cloned().collect();
    let ids: BTreeSet<_> = trace.iter().map(|span| span.id.as_str()).collect();
    for span in trace.iter().filter(|span| span.id != root.id) {
        assert!(ids.contains(span.parent.as_str()), "the parent of {} is not there: {span:?}", span.shown());
    }
    // Nothing of the cycle lies outside of it.
    for (name, count) in [
        ("oma-api /migratekit.v1.MigrationService/Act", 2), // begin, by another client, is a trace of its own
        ("oma-api cycle", 1),
        ("vma-agent snapshot", 1),
        ("vma-agent disk", 2),
        ("oma-api /migratekit.v1.TransferService/Push", 2),
        ("oma-api commit", 1),
    ] {
        let everywhere = all.iter().filter(|span| span.shown() == name).count();
        assert_eq!(everywhere, count, "{name}");
        let outside = all.iter().filter(|span| span.shown() == name && span.trace != root.trace).count();
        assert_eq!(outside, usize::from(name.ends_with("Act")), "{name}");
    }
    let of = |name: &str| trace.iter().find(|span| span.shown() == name).context("seen above");
    let begun = [
        "oma-api cycle",
        "oma-api call",
        "oma-api /migratekit.v1.MigrationService/Act",
        "migratekit migratekit migration sync",
    ];
    assert_eq!(ancestors(&trace, of("oma-api commit")?)[1..], begun);
    assert_eq!(ancestors(&trace, of("vma-agent disk")?)[1..], [&["vma-agent cycle"][..], &begun].concat());
    assert_eq!(
        ancestors(&trace, of("vma-agent snapshot")?)[1..],
        [&["vma-agent cycle"][..], &begun].concat()
    );
    assert_eq!(ancestors(&trace, of("oma-api /migratekit.v1.TransferService/Push")?)[1], "vma-agent disk");
    for attribute in ["service.name", "service.version", "service.instance.id"] {
        assert!(trace.iter().all(|span| span.resource.contains_key(attribute)), "{attribute}");
    }
    Ok(())
}

/// The cycle's trace is kept with it: daemons that were killed in the middle go on in it.
#[tokio::test(flavor = "multi_thread")]
async fn a_trace_outlives_both_daemons() -> anyhow::Result<()> {
    let collector = Collector::start().await?;
    let temp = tempfile::tempdir()?;
    let root = image(temp.path(), "root", 1)?;
    let mut options = Options::files(&[("root", &root)]);
    options.transfer.push_str("rate = \"1MiB\"\n");
    options.log = format!("[telemetry]\notlp_endpoint = \"{}\"\n", collector.endpoint());
    let mut world = World::start(&options).await?;
    world.begin().await?;
    command(&world, &["migration", "sync", "web"], collector.endpoint()).await?;
    world.wait("bytes", Duration::from_secs(30), |m| m.cycle.iter().any(|c| c.bytes_transferred > 0)).await?;
    world.agent.kill();
    world.oma_restart(&[])?;
    world.agent_restart()?;
    world.synced().await?;
    world.agent.stop(Duration::from_secs(15))?;
    world.oma.stop(Duration::from_secs(15))?;
    let all = collector.spans();
    let trace = |name: &str| all.iter().find(|span| span.shown() == name).map(|span| span.trace.clone());
    let command = trace("migratekit migratekit migration sync");
    assert!(command.is_some(), "{all:?}");
    assert_eq!((trace("vma-agent disk"), trace("oma-api commit")), (command.clone(), command));
    Ok(())
}

/// Lines of JSON, each an object; those of a request have its correlation id, those of a cycle its job and migration.
#[tokio::test(flavor = "multi_thread")]
async fn lines_of_json_say_whose_they_are() -> anyhow::Result<()> {
    let temp = tempfile::tempdir()?;
    let root = image(temp.path(), "root", 1)?;
    let mut options = Options::files(&[("root", &root)]);
    options.log = "format = \"json\"\n".to_owned();
    let world = World::start(&options).await?;
    let begun = world.begin().await?;
    let action =
        v1::ActRequest { vm: "web".to_owned(), action: v1::Action::Sync.into(), ..v1::ActRequest::default() };
    let mut request = tonic::Request::new(action);
    request.metadata_mut().insert("x-correlation-id", "ticket-4711".parse()?);
    let answer = MigrationServiceClient::new(world.channel().await?).act(request).await?;
    let told = answer.metadata().get("x-correlation-id").and_then(|id| id.to_str().ok());
    assert_eq!(told, Some("ticket-4711"));
    let job = world.synced().await?.cycle.context("a cycle")?.job_id;

    // A refusal, found again by what its answer carries.
    let unknown = v1::GetRequest { vm: "nobody".to_owned(), ..v1::GetRequest::default() };
    let refused =
        MigrationServiceClient::new(world.channel().await?).get(unknown).await.expect_err("unknown");
    let details = tonic_types::StatusExt::get_error_details(&refused);
    let id = details.request_info().context("RequestInfo")?.request_id.clone();
    let in_metadata = refused.metadata().get("x-correlation-id").and_then(|id| id.to_str().ok());
    assert_eq!(in_metadata, Some(id.as_str()));

    let oma = objects(&world.oma.logged()?)?;
    let agent = objects(&world.agent.logged()?)?;
    let migration = begun.migration_id.as_str();
    for (lines, message, fields) in [
        (&oma, "action taken", vec![("correlation_id", "ticket-4711"), ("migration_id", migration)]),
        (&oma, "refused", vec![("correlation_id", id.as_str())]),
        (&oma, "replica opened for writing", vec![("migration_id", migration), ("job_id", &job)]),
        (&oma, "cycle committed", vec![("migration_id", migration), ("job_id", &job)]),
        (&agent, "source snapshot taken", vec![("migration_id", migration), ("job_id", &job)]),
        (&agent, "all disks are sent and durable", vec![("migration_id", migration), ("job_id", &job)]),
    ] {
        let found: Vec<_> = lines.iter().filter(|line| line["message"] == message).collect();
        let has = |line: &&&Value| fields.iter().all(|(key, value)| field(line, key) == Some(value));
        assert!(found.iter().any(|line| has(&line)), "{message} with {fields:?} among {found:#?}");
    }
    Ok(())
}

fn objects(log: &str) -> anyhow::Result<Vec<Value>> {
    log.lines().map(|line| serde_json::from_str(line).with_context(|| line.to_owned())).collect()
}

/// Of the line itself, or of a span it lies in.
fn field<'a>(line: &'a Value, key: &str) -> Option<&'a str> {
    let of_spans = || line["spans"].as_array()?.iter().rev().find_map(|span| span[key].as_str());
    line[key].as_str().or_else(of_spans)
}
