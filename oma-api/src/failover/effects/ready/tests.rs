//! Looks at servers that are real, and waits for machines whose ports are theirs.

use super::http::get;
use super::look::{Looks, Seen};
use crate::compute::{Compute, MachineName, Stop};
use crate::failover::request::{Check, Http, Ready, Weight};
use crate::failover::tests::world::World;
use crate::testing::Machines;
use crate::workflow::{Ask, Job, JobState, WorkflowId};
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Says the parts to whoever asks, one after the other, and closes; with none, it says nothing, and stays.
async fn server(parts: &'static [&'static str]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let at = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.expect("asked");
            tokio::spawn(async move {
                let mut request = [0; 1024];
                let read = stream.read(&mut request).await?;
                assert!(read == 0 || request.starts_with(b"GET /"), "{:?}", &request[..read]);
                for part in parts {
                    stream.write_all(part.as_bytes()).await?;
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                if parts.is_empty() {
                    std::future::pending::<()>().await;
                }
                std::io::Result::Ok(())
            });
        }
    });
    at
}

fn http(status: Option<u16>, text: Option<&str>) -> Http {
    Http { port: 80, path: "/health".to_owned(), status, text: text.map(str::to_owned) }
}

#[tokio::test]
async fn an_answer_is_judged_by_its_status_and_its_text() {
    const OK: &[&str] = &["HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n", "all is", " ok\n"];
    const CHUNKED: &[&str] =
        &["HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nall\r\n", "7\r\n is ok\n\r\n0\r\n\r\n"];
    const MOVED: &[&str] =
        &["HTTP/1.1 301 Moved\r\nLocation: http://192.0.2.1/\r\nContent-Length: 0\r\n\r\n"];
    const OLD: &[&str] = &["HTTP/1.0 503 Soon\r\n\r\nstarting"];
    const ENDED: &[&str] = &["HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nall"];
    const NONSENSE: &[&str] = &["SSH-2.0-OpenSSH_9.2\r\n"];
    const NOTHING: &[&str] = &[""];
    for (parts, wanted, says) in [
        (OK, http(None, None), None),
        (OK, http(Some(200), Some("is ok")), None),
        (CHUNKED, http(None, Some("all is ok")), None),
        (OK, http(Some(204), None), Some("HTTP status 200")),
        (OK, http(None, Some("failed")), Some("HTTP status 200, without \"failed\" in its body")),
        (MOVED, http(None, None), None),
        (MOVED, http(Some(200), None), Some("HTTP status 301")),
        (OLD, http(None, None), Some("HTTP status 503")),
        (OLD, http(Some(503), Some("starting")), None),
        (ENDED, http(None, None), None),
        (ENDED, http(None, Some("ok")), Some("")),
        (NONSENSE, http(None, None), Some("")),
        (NOTHING, http(None, None), Some("")),
    ] {
        let judged = get(server(parts).await, &wanted).await;
        match (judged, says) {
            (Ok(()), None) => {}
            (Err(why), Some("")) => assert!(!why.is_empty()),
            (Err(why), Some(says)) => assert_eq!(why, says),
            (judged, _) => panic!("{parts:?} {wanted:?}: {judged:?}"),
        }
    }
    let nobody = TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("bound");
    get(nobody, &http(None, None)).await.expect_err("refused");
}

/// A body without an end is read no further than it has to be.
#[tokio::test]
async fn no_more_is_read_than_a_beginning() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let at = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("asked");
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.expect("taken");
        while stream.write_all(&[b'x'; 4096]).await.is_ok() {}
    });
    let judged = tokio::time::timeout(Duration::from_secs(20), get(at, &http(None, Some("ok")))).await;
    let why = judged.expect("it ends").expect_err("no such text");
    assert!(why.contains("without \"ok\""), "{why}");
}

#[tokio::test]
async fn a_look_at_who_is_silent_ends() {
    let machines = Machines::default();
    let name = MachineName::parse("m").expect("a name");
    machines.listen(80, server(&[]).await);
    let check = Check::Http(http(None, None));
    let began = Instant::now();
    let seen = Looks::new(&machines, &name, &check).once(Duration::ZERO).await.expect("looked");
    assert_eq!(seen, Seen::Not(None));
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    let seen = Looks::new(&machines, &name, &check).once(Duration::from_secs(60)).await.expect("looked");
    assert_eq!(seen, Seen::Not(Some("no answer within 5s".to_owned())));
    let check = Check::Http(Http { port: 81, ..http(None, None) });
    let seen = Looks::new(&machines, &name, &check).once(Duration::from_secs(9)).await.expect("looked");
    assert_eq!(seen, Seen::Not(Some("TCP port 81 is not open".to_owned())));
}

async fn asked(world: &World, check: Check, within: Duration, weight: Weight) -> WorkflowId {
    let mut request = world.request().await;
    request.ready = Some(Ready { check, within, weight });
    world.ask(&request).await.expect("taken")
}

fn ready(job: &Job) -> serde_json::Value {
    job.output("ready").cloned().unwrap_or_default()
}

/// Each way, of a guest that shows it and of one that does not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_check_decides_or_warns() {
    let world = World::sqlite().await;
    let busy = server(&["HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"]).await;
    let second = Duration::from_secs(1);
    let (tcp, web) = (Check::Tcp { port: 22 }, Check::Http(Http { port: 8080, ..http(None, None) }));
    world.plant.machines.listen(8080, busy);
    for (check, says) in [
        (&tcp, "did not show an open TCP port 22 within 1s"),
        (&web, "at :8080/health within 1s (HTTP status 503)"),
        (&Check::GuestAgent, "did not show an answer of its QEMU guest agent within 1s"),
    ] {
        let id = asked(&world, check.clone(), second, Weight::Advisory).await;
        let job = world.drive(&id).await;
        assert_eq!((job.state, &ready(&job)["ready"]), (JobState::Succeeded, &false.into()), "{job:#?}");
        let view = world.plant.app.failover_find(id.as_str()).await.expect("read");
        assert!(view.warnings.iter().any(|warning| warning.contains(says)), "{says}: {:?}", view.warnings);
        assert_eq!(view.waits_for, Some(check.to_string()));
        let report = world.plant.app.failover_report(id.as_str()).await.expect("made");
        assert_eq!(report.health.result, "not_ready");
        assert_eq!(report.health.expected, Some(format!("{check} within 1 s of its start")));
        let cleanup = world.clean(&id).await;
        assert_eq!(world.drive(&cleanup).await.state, JobState::Succeeded);
        let id = asked(&world, check.clone(), second, Weight::Required).await;
        let job = world.drive(&id).await;
        assert_eq!(job.state, JobState::RolledBack);
        let error = job.error.expect("why");
        assert!(error.reason == "VM_NOT_READY" && error.message.contains(says), "{error:?}");
        assert!(world.nothing_there());
    }
    let good = server(&["HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"]).await;
    world.plant.machines.listen(8080, good);
    world.plant.machines.listen(22, good);
    world.plant.machines.agent_answers();
    for check in [tcp, web, Check::GuestAgent] {
        let id = asked(&world, check.clone(), Duration::from_secs(60), Weight::Required).await;
        let job = world.drive(&id).await;
        assert_eq!((job.state, &ready(&job)["ready"]), (JobState::Succeeded, &true.into()), "{job:#?}");
        let cleanup = world.clean(&id).await;
        world.drive(&cleanup).await;
    }
}

/// What cannot come any more is not waited for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_that_stops_is_not_waited_for() {
    let world = World::sqlite().await;
    let hour = Duration::from_secs(3600);
    let id = asked(&world, Check::Tcp { port: 22 }, hour, Weight::Required).await;
    let machines = std::sync::Arc::clone(&world.plant.machines);
    let stops = tokio::spawn(async move {
        let stopped = async |name: &str| {
            let name = MachineName::parse(name).expect("a name");
            machines.stop(&name, Stop::Now).await.expect("stopped");
        };
        loop {
            let all = machines.inventory();
            match all.iter().find(|(.., state)| *state == crate::compute::State::Running) {
                Some((name, ..)) => break stopped(name).await,
                None => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    });
    let job = tokio::time::timeout(Duration::from_secs(30), world.drive(&id)).await.expect("at once");
    stops.await.expect("stopped");
    let error = job.error.expect("why");
    assert!(error.message.contains("stopped before it showed an open TCP port 22"), "{error:?}");
    assert!(world.nothing_there());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nor_is_a_network_of_a_machine_without_a_card() {
    let world = World::sqlite().await;
    world.plant.machines.pull_cards();
    let id = asked(&world, Check::Tcp { port: 22 }, Duration::from_secs(3600), Weight::Required).await;
    let job = tokio::time::timeout(Duration::from_secs(30), world.drive(&id)).await.expect("at once");
    let error = job.error.expect("why");
    assert!(error.message.contains("it has no network card"), "{error:?}");
}

/// In the middle of a look at a server that never answers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wait_is_cancelled_in_the_middle_of_a_look() {
    let world = World::sqlite().await;
    world.plant.machines.listen(80, server(&[]).await);
    let check = Check::Http(http(None, None));
    let id = asked(&world, check, Duration::from_secs(3600), Weight::Required).await;
    let (engine, stop) = (world.engine(), CancellationToken::new());
    let running = tokio::spawn({
        let (engine, stop) = (engine.clone(), stop.clone());
        async move { engine.run(stop).await }
    });
    let reaches = async |wanted: fn(&Job) -> bool| {
        let found = async {
            loop {
                let job = world.plant.app.store.workflow_fetch(&id).await.expect("read");
                if wanted(&job) {
                    return job;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), found).await.expect("in time")
    };
    reaches(|job| job.steps.last().is_some_and(|s| s.started_at.is_some())).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let asked = Instant::now();
    engine.ask(&id, &Ask::Cancel, "tester").await.expect("taken");
    let job = reaches(|job| job.state.ended()).await;
    assert_eq!(
        (job.state, job.error.map(|e| e.reason)),
        (JobState::RolledBack, Some("CANCELLED".to_owned()))
    );
    assert!(asked.elapsed() < Duration::from_secs(4), "{:?}", asked.elapsed());
    assert!(world.nothing_there());
    stop.cancel();
    running.await.expect("ended");
}
