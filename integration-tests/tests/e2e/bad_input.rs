//! What nobody should send, at both edges of a daemon that runs: each is refused with a word, nothing in the database
//! changes, and the log has no error in it.

use crate::schemathesis::admin_token;
use anyhow::{Context as _, ensure};
use integration_tests::harness::{Options, VM_UUID, World};
use proto::v1;
use proto::v1::migration_service_client::MigrationServiceClient;
use proto::v1::schedule_service_client::ScheduleServiceClient;
use std::io::Write as _;
use std::process::{Command, Stdio};

/// All rows but those of what was asked: the agent's heartbeats, and when the token was used.
fn dump(world: &World) -> anyhow::Result<String> {
    let file = world.dir.join("oma.db");
    let said = Command::new("sqlite3").arg("-readonly").arg(file).arg(".dump").output()?;
    ensure!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    let counts = |line: &&str| !line.contains("INTO agents") && !line.contains("INTO tokens");
    Ok(text.lines().filter(counts).collect::<Vec<_>>().join("\n"))
}

/// Status and body.
fn send(
    world: &World,
    token: &str,
    method: &str,
    path: &str,
    headers: &[&str],
    body: &[u8],
) -> anyhow::Result<(u16, String)> {
    let mut curl = Command::new("curl");
    curl.args(["-s", "--globoff", "--path-as-is", "--max-time", "20", "-w", "\n%{http_code}", "-X", method]);
    curl.args(["-H", &format!("Authorization: Bearer {token}"), "-H", "Expect:"]);
    curl.args(headers.iter().flat_map(|header| ["-H", header]));
    if !body.is_empty() {
        curl.args(["--data-binary", "@-"]);
    }
    curl.arg(format!("http://{}{path}", world.rest));
    let mut child = curl.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    // The server may close before it has read all of it.
    let _ = child.stdin.take().context("a pipe")?.write_all(body);
    let said = child.wait_with_output()?.stdout;
    let text = String::from_utf8_lossy(&said).into_owned();
    let (body, status) = text.rsplit_once('\n').context("a status")?;
    Ok((status.parse()?, body.to_owned()))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_should_send_changes_nothing() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("disk.raw");
    std::fs::write(&file, [7; 1 << 20])?;
    let world = World::start(&Options::files(&[("root", &file)])).await?;
    world.begin().await?;
    let token = admin_token(&world)?;
    let before = dump(&world)?;

    let json = "Content-Type: application/json";
    let (migrate, limit, schedule) =
        ("/my/machines/web/migrate", "/api/v1/migrations/web/limit", "/api/v1/migrations/web/schedule");
    let large = [b"{\"action\": \"".as_slice(), &vec![b'x'; 10 << 20], b"\"}"].concat();
    let deep = [vec![b'['; 100_000], vec![b']'; 100_000]].concat();
    let long = format!("X-Long: {}", "x".repeat(64 << 10));
    let long: &str = &long;
    type Case<'a> = (&'a str, &'a str, &'a [&'a str], &'a [u8], &'a str);
    let cases: &[Case<'_>] = &[
        ("POST", migrate, &[json], b"{\"action\": \"sync\", \"wat\": 1}", "wat"),
        ("POST", migrate, &[json], b"{\"action\": \"sync\", \"action\": \"abort\"}", "duplicate field"),
        ("POST", migrate, &[json], b"{\"action\": \"automatic\", \"max_cycles\": -1}", "max_cycles"),
        (
            "POST",
            migrate,
            &[json],
            b"{\"action\": \"automatic\", \"max_cycles\": 99999999999999999999999999}",
            "max_cycles",
        ),
        (
            "POST",
            migrate,
            &[json],
            b"{\"action\": \"automatic\", \"max_downtime_ms\": 1e400}",
            "max_downtime_ms",
        ),
        ("POST", migrate, &[json], b"{\"action\": \"\xff\xfe\"}", "body"),
        ("POST", migrate, &[json], b"{\"action\": \"sync", "body"),
        ("POST", migrate, &[json], b"{} {}", "body"),
        ("POST", migrate, &[json], &deep, "body"),
        ("POST", migrate, &[json], &large, ""),
        ("POST", migrate, &["Content-Type: text/plain"], b"{\"action\": \"sync\"}", "application/json"),
        ("POST", migrate, &["Content-Type:"], b"{\"action\": \"sync\"}", "application/json"),
        (
            "POST",
            migrate,
            &[json, "Idempotency-Key: two words"],
            b"{\"action\": \"sync\"}",
            "idempotency key",
        ),
        ("POST", "/my/machines/we%00b/migrate", &[json], b"{\"action\": \"sync\"}", "we"),
        ("POST", "/my/machines/%ff%fe/migrate", &[json], b"{\"action\": \"sync\"}", ""),
        ("POST", "/my/machines/564d1d3a/migrate", &[json], b"{\"action\": \"begin\"}", "564d1d3a"),
        ("POST", "/my/machines/..%2f..%2fetc/migrate", &[json], b"{\"action\": \"begin\"}", ""),
        ("PUT", limit, &[json], b"{\"rate_bytes_per_second\": -5}", "rate_bytes_per_second"),
        ("PUT", limit, &[json], b"{\"rate_bytes_per_second\": 1}", "65536"),
        ("PUT", limit, &[json], b"{}", "rate_bytes_per_second"),
        ("PUT", schedule, &[json], b"{\"cron\": \"61 * * * *\"}", "cron"),
        ("PUT", schedule, &[json], b"{\"cron\": \"* * *\"}", "cron"),
        ("PUT", schedule, &[json], b"{\"every_seconds\": -1}", "every_seconds"),
        ("PUT", schedule, &[json], b"{\"every_seconds\": 900, \"time_zone\": \"Mars/Base\"}", "Mars/Base"),
        ("GET", "/api/v1/migrations?limit=-1", &[], b"", "limit"),
        ("GET", "/api/v1/migrations?wat=1", &[], b"", "wat"),
        ("GET", "/api/v1/migrations?history=1001", &[], b"", "history"),
        ("GET", "/api/v1/migrations/nobody", &[], b"", "nobody"),
        ("GET", "/api/v1/replications/job-99999999-999999", &[], b"", ""),
        ("DELETE", "/api/v1/tokens/%00", &[], b"", ""),
    ];
    for (method, path, headers, body, named) in cases {
        let (status, said) = send(&world, &token, method, path, headers, body)?;
        let what = format!("{method} {path} {:?}", String::from_utf8_lossy(&body[..body.len().min(80)]));
        // 0: the connection was closed on somebody who would not stop.
        ensure!(
            (400..500).contains(&status) || (status == 0 && body.len() > 1 << 20),
            "{what}: {status} {said}"
        );
        ensure!(status == 0 || said.contains(named), "{what}: {said} does not name {named:?}");
    }
    // More than any client sends, and less than the server takes.
    let (status, said) = send(&world, &token, "GET", "/api/v1/vms", &[long], b"")?;
    ensure!(status < 500, "a header of 64 KiB: {status} {said}");
    over_grpc(&world).await?;

    ensure!(dump(&world)? == before, "the database has changed");
    let log = world.oma.logged()?;
    let bad: Vec<_> =
        log.lines().filter(|line| line.contains(" ERROR ") || line.contains("panicked")).collect();
    ensure!(bad.is_empty(), "{bad:#?}");
    let m = world.get().await?;
    ensure!(m.state() == v1::State::Paused, "it still answers, and nothing was done: {m:?}");
    Ok(())
}

async fn over_grpc(world: &World) -> anyhow::Result<()> {
    let mut migrations = MigrationServiceClient::new(world.channel().await?);
    let act =
        v1::ActRequest { vm: VM_UUID.to_owned(), action: v1::Action::Sync.into(), ..Default::default() };
    for (what, request) in [
        ("no action", v1::ActRequest { action: 0, ..act.clone() }),
        ("an action that is none", v1::ActRequest { action: 4711, ..act.clone() }),
        ("nobody", v1::ActRequest { vm: "nobody".to_owned(), ..act.clone() }),
        ("a zero byte", v1::ActRequest { vm: "we\0b".to_owned(), ..act.clone() }),
        ("a megabyte of name", v1::ActRequest { vm: "x".repeat(1 << 20), ..act.clone() }),
        ("a long key", v1::ActRequest { idempotency_key: "k".repeat(1000), ..act.clone() }),
        ("a time that is none", v1::ActRequest { scheduled_timestamp: "soon".to_owned(), ..act.clone() }),
        ("what sync does not take", v1::ActRequest { max_cycles: u32::MAX, ..act.clone() }),
        ("ten megabytes", v1::ActRequest { force_reason: "x".repeat(10 << 20), ..act }),
    ] {
        let status = migrations.act(request).await.err().with_context(|| format!("{what} was taken"))?;
        let refused = matches!(
            status.code(),
            tonic::Code::InvalidArgument
                | tonic::Code::NotFound
                | tonic::Code::OutOfRange
                | tonic::Code::ResourceExhausted
        );
        ensure!(refused, "{what}: {status:?}");
    }
    let request = v1::LimitRequest { vm: VM_UUID.to_owned(), rate_bytes_per_second: u64::MAX };
    ensure!(migrations.limit(request).await.is_err(), "a rate beyond all bounds");
    let request = v1::GetRequest { vm: VM_UUID.to_owned(), history: u32::MAX };
    ensure!(migrations.get(request).await.is_err(), "a history without end");
    let mut schedules = ScheduleServiceClient::new(world.channel().await?);
    ensure!(schedules.set(v1::ScheduleServiceSetRequest::default()).await.is_err(), "a schedule of nothing");
    Ok(())
}
