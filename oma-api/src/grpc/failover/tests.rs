//! The service as a client sees it, without the wire.

mod live;

use super::*;
use crate::service::{Caller, Role};
use crate::testing::Plant;
use std::time::Duration;
use tokio_util::sync::DropGuard;

const VM: &str = "00000000-0000-4000-8000-000000000001";

struct Service {
    failovers: Failovers,
    plant: Plant,
    _driven: DropGuard,
}

impl Service {
    async fn new() -> Self {
        let (plant, driven) = Plant::driven().await;
        let failovers = Failovers { app: plant.app.clone(), shutdown: CancellationToken::new() };
        Self { failovers, plant, _driven: driven }
    }

    async fn begin(&self, new: v1::FailoverServiceStartTestRequest) -> Result<v1::Failover, Status> {
        let begun = self.failovers.start_test(by_somebody(new)).await?;
        Ok(begun.into_inner().failover.expect("one"))
    }

    /// All states of a job until its end.
    async fn watched(&self, job: &str) -> Vec<v1::FailoverServiceWatchResponse> {
        let request = v1::FailoverServiceWatchRequest { job_id: job.to_owned() };
        let states = self.failovers.watch(Request::new(request)).await.expect("followed").into_inner();
        let all = tokio::time::timeout(Duration::from_secs(30), states.collect::<Vec<_>>());
        all.await.expect("it ends").into_iter().map(|state| state.expect("sound")).collect()
    }
}

fn by_somebody<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.extensions_mut().insert(Caller { name: "alice".to_owned(), role: Role::Operator });
    request
}

fn new() -> v1::FailoverServiceStartTestRequest {
    v1::FailoverServiceStartTestRequest {
        vm_id: VM.to_owned(),
        vm_name: "web-1".to_owned(),
        custom_config: r#"{"memory_mb":512}"#.to_owned(),
        // Nothing converts guests at the plant.
        skip_virtio_injection: true,
        ..v1::FailoverServiceStartTestRequest::default()
    }
}

fn reason(status: &Status) -> String {
    refusal::reason_of(status).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_begins_with_what_is_grows_and_ends_with_the_job_and_its_clean_up() {
    let service = Service::new().await;
    let begun = service.begin(new()).await.expect("begun");
    assert_eq!((begun.vm_name.as_str(), begun.requested_by.as_str()), ("web-1", "alice"));
    let states = service.watched(&begun.job_id).await;
    let numbers: Vec<_> = states.iter().map(|state| state.sequence).collect();
    assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
    let last = states.last().and_then(|state| state.failover.clone()).expect("one");
    assert_eq!((last.status.as_str(), last.engine_state.as_str()), ("completed", "succeeded"));
    assert!(last.is_there && last.steps.iter().all(|s| s.status == "completed"), "{last:?}");
    assert!(last.rto_seconds > 0.0 && last.machine == last.snapshot_name, "{last:?}");

    // Of one that has ended it is the state as it is.
    let again = service.watched(&begun.job_id).await;
    assert_eq!(again.len(), 1);
    assert_eq!(again[0].failover.as_ref(), Some(&last));

    let job_id = begun.job_id.clone();
    let request = by_somebody(v1::FailoverServiceCleanupRequest { job_id });
    service.failovers.cleanup(request).await.expect("taken");
    let states = service.watched(&begun.job_id).await;
    let gone = states.last().and_then(|state| state.failover.clone()).expect("one");
    let cleanup = gone.cleanup.expect("there is one");
    assert_eq!((cleanup.status.as_str(), gone.is_there), ("completed", false), "{cleanup:?}");
    assert!(states[0].sequence > numbers[numbers.len() - 1], "it goes on to grow");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_ends_with_the_server_and_a_slow_one_gets_the_latest() {
    let service = Service::new().await;
    let waits = v1::FailoverReady {
        console: "never".to_owned(),
        timeout: "10m".to_owned(),
        required: true,
        ..v1::FailoverReady::default()
    };
    let begun = service
        .begin(v1::FailoverServiceStartTestRequest { wait_for_ready: Some(waits), ..new() })
        .await
        .expect("begun");
    let request = v1::FailoverServiceWatchRequest { job_id: begun.job_id.clone() };
    let mut slow = service.failovers.watch(Request::new(request)).await.expect("followed").into_inner();
    let first = slow.next().await.expect("at once").expect("sound");
    // It takes nothing until all of this has happened.
    let ask = |action: v1::FailoverAction| {
        by_somebody(v1::FailoverServiceAskRequest {
            job_id: begun.job_id.clone(),
            action: action.into(),
            ..v1::FailoverServiceAskRequest::default()
        })
    };
    service.failovers.ask(ask(v1::FailoverAction::Cancel)).await.expect("taken");
    let states = service.watched(&begun.job_id).await;
    let end = states.last().expect("an end");
    assert_eq!(end.failover.as_ref().map(|f| f.engine_state.as_str()), Some("rolled_back"));
    let late: Vec<_> = slow.collect().await;
    let late: Vec<_> = late.into_iter().map(|state| state.expect("sound").sequence).collect();
    assert!(first.sequence < late[0] && late.last() == Some(&end.sequence), "{late:?}");
    assert!(late.len() <= 2, "what is over was left out: {late:?}");
    let refused = service.failovers.ask(ask(v1::FailoverAction::Cancel)).await.expect_err("it has ended");
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::FailedPrecondition, "JOB_ENDED"));

    let waits = v1::FailoverReady { console: "never".to_owned(), ..v1::FailoverReady::default() };
    let begun = service
        .begin(v1::FailoverServiceStartTestRequest { wait_for_ready: Some(waits), ..new() })
        .await
        .expect("begun");
    let request = v1::FailoverServiceWatchRequest { job_id: begun.job_id };
    let open = service.failovers.watch(Request::new(request)).await.expect("followed").into_inner();
    service.failovers.shutdown.cancel();
    tokio::time::timeout(Duration::from_secs(5), open.collect::<Vec<_>>()).await.expect("it ends");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_used_is_refused_with_its_field() {
    let service = Service::new().await;
    type New = v1::FailoverServiceStartTestRequest;
    let ready = |console: &str, timeout: &str| {
        let (console, timeout) = (console.into(), timeout.into());
        Some(v1::FailoverReady { console, timeout, ..v1::FailoverReady::default() })
    };
    let both = v1::FailoverReady { tcp_port: 22, guest_agent: true, ..v1::FailoverReady::default() };
    let http = v1::FailoverHttp { path: "health".into(), ..v1::FailoverHttp::default() };
    let http = v1::FailoverReady { http: Some(http), ..v1::FailoverReady::default() };
    let port = v1::FailoverReady { tcp_port: 65536, ..v1::FailoverReady::default() };
    for (new, code, why, says) in [
        (
            New { custom_config: "[1]".into(), ..new() },
            Code::InvalidArgument,
            "INVALID_REQUEST",
            "custom_config",
        ),
        (
            New { custom_config: "{".into(), ..new() },
            Code::InvalidArgument,
            "INVALID_REQUEST",
            "custom_config",
        ),
        (New { vm_name: String::new(), ..new() }, Code::InvalidArgument, "INVALID_REQUEST", "vm_name"),
        (New { vm_name: "web-2".into(), ..new() }, Code::InvalidArgument, "INVALID_REQUEST", "web-1"),
        (
            New { test_duration: "soon".into(), ..new() },
            Code::InvalidArgument,
            "INVALID_REQUEST",
            "test_duration",
        ),
        (New { wait_for_ready: ready("", ""), ..new() }, Code::InvalidArgument, "INVALID_REQUEST", "console"),
        (
            New { wait_for_ready: ready("x", "1"), ..new() },
            Code::InvalidArgument,
            "INVALID_REQUEST",
            "timeout",
        ),
        (
            New { wait_for_ready: Some(both), ..new() },
            Code::InvalidArgument,
            "INVALID_REQUEST",
            "more than one check",
        ),
        (New { wait_for_ready: Some(http), ..new() }, Code::InvalidArgument, "INVALID_REQUEST", "http.path"),
        (New { wait_for_ready: Some(port), ..new() }, Code::InvalidArgument, "INVALID_REQUEST", "tcp_port"),
        (New { vm_id: "web-1".into(), ..new() }, Code::NotFound, "VM_NOT_FOUND", "web-1"),
        (New { restore_point: "none".into(), ..new() }, Code::NotFound, "RESTORE_POINT_NOT_FOUND", "none"),
    ] {
        let refused = service.begin(new).await.expect_err(says);
        assert_eq!((refused.code(), reason(&refused).as_str()), (code, why), "{refused:?}");
        assert!(refused.message().contains(says), "{says}: {refused:?}");
    }
    for action in [0, 99] {
        let request = v1::FailoverServiceAskRequest { action, ..Default::default() };
        let refused = service.failovers.ask(by_somebody(request)).await.expect_err("none");
        assert_eq!(reason(&refused), "INVALID_REQUEST", "{refused:?}");
    }
    let request = v1::FailoverServiceGetRequest { job_id: "none".to_owned() };
    let refused = service.failovers.get(Request::new(request)).await.expect_err("none");
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::NotFound, "JOB_NOT_FOUND"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_has_pages_and_a_console_its_bytes() {
    let service = Service::new().await;
    let mut jobs = Vec::new();
    for _ in 0..3 {
        jobs.push(service.begin(new()).await.expect("begun").job_id);
    }
    for job in &jobs {
        service.watched(job).await;
    }
    let list = async |limit, before: &str| {
        let request =
            v1::FailoverServiceListRequest { limit, before: before.to_owned(), ..Default::default() };
        let page = service.failovers.list(Request::new(request)).await.expect("listed").into_inner();
        let found: Vec<_> = page.failovers.into_iter().map(|f| f.job_id).collect();
        (found, page.total, page.next_before)
    };
    assert_eq!(list(0, "").await.1, 3);
    let (first, total, next) = list(2, "").await;
    assert_eq!((first, total, next.as_str()), (vec![jobs[2].clone(), jobs[1].clone()], 3, jobs[1].as_str()));
    assert_eq!(list(2, &next).await, (vec![jobs[0].clone()], 3, String::new()));

    service.plant.machines.say(b"root@web-1\xff");
    let console = async |offset| {
        let request = v1::FailoverServiceConsoleRequest { job_id: jobs[0].clone(), offset };
        service.failovers.console(Request::new(request)).await.expect("read").into_inner()
    };
    let all = console(0).await;
    assert_eq!((all.offset, &all.data[..], all.end), (0, &b"the guest boots\r\nroot@web-1\xff"[..], 28));
    let rest = console(17).await;
    assert_eq!((rest.offset, &rest.data[..]), (17, &b"root@web-1\xff"[..]));
}
