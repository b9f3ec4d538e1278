//! Live failovers, their way back and their commit, as a client sees them.

use super::{by_somebody, reason};
use crate::failover::tests::site::Site;
use crate::grpc::failover::Failovers;
use crate::workflow::WorkflowId;
use futures::StreamExt as _;
use proto::v1;
use proto::v1::failover_service_server::FailoverService as _;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Status};

type New = v1::FailoverServiceStartLiveRequest;

struct Service {
    failovers: Failovers,
    site: Site,
}

impl Service {
    async fn new() -> Self {
        let site = Site::sqlite().await;
        let app = site.world.plant.app.clone();
        Self { failovers: Failovers { app, shutdown: CancellationToken::new() }, site }
    }

    async fn begin(&self, new: New) -> Result<v1::Failover, Status> {
        let begun = self.failovers.start_live(by_somebody(new)).await?;
        Ok(begun.into_inner().failover.expect("one"))
    }

    /// By the agent and the engine, until nothing goes on.
    async fn drive(&self, job: &str) {
        self.site.drive(&WorkflowId::parse(job).expect("an id")).await;
    }

    /// As it is said last, and with which number.
    async fn watched(&self, job: &str) -> (v1::Failover, u64) {
        let request = v1::FailoverServiceWatchRequest { job_id: job.to_owned() };
        let states = self.failovers.watch(Request::new(request)).await.expect("followed").into_inner();
        let all = tokio::time::timeout(Duration::from_secs(10), states.collect::<Vec<_>>());
        let last = all.await.expect("it ends").pop().expect("one").expect("sound");
        (last.failover.expect("one"), last.sequence)
    }

    async fn roll_back(&self, job: &str) -> Result<v1::Failover, Status> {
        let request = v1::FailoverServiceRollbackRequest { job_id: job.to_owned() };
        let back = self.failovers.rollback(by_somebody(request)).await?;
        Ok(back.into_inner().failover.expect("one"))
    }

    async fn commit(&self, job: &str) -> Result<v1::Failover, Status> {
        let request = v1::FailoverServiceCommitRequest { job_id: job.to_owned() };
        let done = tokio::select! {
            done = self.failovers.commit(by_somebody(request)) => done?,
            () = Box::pin(self.site.agent()) => unreachable!("it goes on for ever"),
        };
        Ok(done.into_inner().failover.expect("one"))
    }
}

/// Without a test, for a reason; nothing converts guests here.
fn new() -> New {
    New {
        vm_id: "00000000-0000-4000-8000-000000000001".to_owned(),
        vm_name: "web-1".to_owned(),
        skip_virtio_injection: true,
        power_off: Some(v1::FailoverPowerOff { timeout: "1s".to_owned(), force: false }),
        override_reason: "no time for a test".to_owned(),
        ..New::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vm_moves_is_decided_about_and_goes_back() {
    let service = Service::new().await;
    let begun = service
        .begin(New {
            commit_policy: "rollback".to_owned(),
            commit_timeout: "2h".to_owned(),
            notification_config: r#"{"email":"admin@company.com"}"#.to_owned(),
            ..new()
        })
        .await
        .expect("begun");
    assert_eq!(
        (begun.r#type.as_str(), begun.mode.as_str(), begun.standing.as_str()),
        ("live", "planned", "there")
    );
    assert_eq!((begun.commit_policy.as_str(), begun.decided_at.as_str()), ("rollback", ""), "not yet");
    assert_eq!(begun.override_reason, "no time for a test");
    assert_eq!(begun.notification_config, r#"{"email":"admin@company.com"}"#);
    assert_eq!((begun.test_duration.as_str(), begun.requested_by.as_str()), ("", "alice"));
    assert!(begun.allowed.iter().all(|word| word != "rollback" && word != "commit"), "{:?}", begun.allowed);
    let refused = service.commit(&begun.job_id).await.expect_err("it goes on");
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::FailedPrecondition, "BUSY"));

    service.drive(&begun.job_id).await;
    let (moved, number) = service.watched(&begun.job_id).await;
    assert_eq!((moved.status.as_str(), moved.standing.as_str()), ("completed", "there"), "{moved:?}");
    assert_eq!(moved.allowed, ["rollback", "commit"]);
    assert!(!moved.decided_at.is_empty() && !moved.final_job_id.is_empty(), "{moved:?}");
    assert!(moved.taken_at > begun.taken_at && moved.restore_point != begun.restore_point, "its last");
    assert_eq!(moved.machine, moved.snapshot_name);

    let back = service.roll_back(&begun.job_id).await.expect("taken");
    let job = back.rollback.as_ref().expect("made").job_id.clone();
    assert_eq!((job.starts_with("rollback-live-"), back.decided_at.as_str()), (true, ""), "it is decided");
    assert_eq!(
        service.roll_back(&begun.job_id).await.expect("the same").rollback.map(|r| r.job_id),
        Some(job.clone())
    );
    service.drive(&job).await;
    let (gone, after) = service.watched(&begun.job_id).await;
    let rollback = gone.rollback.expect("there is one");
    assert_eq!((rollback.status.as_str(), gone.standing.as_str()), ("completed", "kept"), "{rollback:?}");
    assert!(rollback.steps.iter().any(|step| step.name == "source-startup" && step.status == "completed"));
    assert!(after > number && gone.is_there && !gone.expires_at.is_empty() && gone.machine.is_empty());
    assert_eq!(gone.allowed, [] as [&str; 0]);
    let refused = service.commit(&begun.job_id).await.expect_err("it went back");
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::FailedPrecondition, "NOT_SWITCHED"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_committed_is_said_so() {
    let service = Service::new().await;
    let begun = service.begin(new()).await.expect("begun");
    service.drive(&begun.job_id).await;
    let (_, number) = service.watched(&begun.job_id).await;
    let committed = service.commit(&begun.job_id).await.expect("taken");
    assert_eq!((committed.standing.as_str(), committed.is_there), ("handed_over", false), "{committed:?}");
    assert!(
        !committed.committed_at.is_empty() && !committed.machine.is_empty() && committed.allowed.is_empty()
    );
    let (watched, after) = service.watched(&begun.job_id).await;
    assert!(after > number && watched.committed_at == committed.committed_at);
    let again = service.commit(&begun.job_id).await.expect("as it is");
    assert_eq!(again.committed_at, committed.committed_at);
    service.roll_back(&begun.job_id).await.expect_err("there is no way back");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_policy_forbids_and_what_cannot_be_used_is_refused() {
    let service = Service::new().await;
    let lost = |accept_loss: &str| New {
        unplanned: true,
        accept_loss: accept_loss.to_owned(),
        power_off: None,
        ..new()
    };
    let power_off = |timeout: &str| Some(v1::FailoverPowerOff { timeout: timeout.to_owned(), force: false });
    for (new, code, why, says) in [
        (New { override_reason: String::new(), ..new() }, Code::FailedPrecondition, "CHAIN_POLICY", "test"),
        (lost(""), Code::FailedPrecondition, "DATA_LOSS_NOT_ACCEPTED", "accept_loss"),
        (lost("much"), Code::InvalidArgument, "INVALID_REQUEST", "accept_loss"),
        (New { accept_loss: "15m".into(), ..new() }, Code::InvalidArgument, "INVALID_REQUEST", "accept_loss"),
        (
            New { restore_point: "x".into(), ..new() },
            Code::InvalidArgument,
            "INVALID_REQUEST",
            "restore_point",
        ),
        (New { restore_point: "x".into(), ..lost("1h") }, Code::NotFound, "RESTORE_POINT_NOT_FOUND", "x"),
        (New { power_off: power_off("now"), ..new() }, Code::InvalidArgument, "INVALID_REQUEST", "power_off"),
        (New { power_off: power_off("25h"), ..new() }, Code::InvalidArgument, "INVALID_REQUEST", "power_off"),
        (New { unplanned: true, ..new() }, Code::InvalidArgument, "INVALID_REQUEST", "power_off"),
        (
            New { commit_policy: "maybe".into(), ..new() },
            Code::InvalidArgument,
            "INVALID_REQUEST",
            "commit_policy",
        ),
        (
            New { commit_timeout: "1h".into(), ..new() },
            Code::InvalidArgument,
            "INVALID_REQUEST",
            "commit_timeout",
        ),
        (
            New { notification_config: "[]".into(), ..new() },
            Code::InvalidArgument,
            "INVALID_REQUEST",
            "notification",
        ),
        (New { vm_name: "web-2".into(), ..new() }, Code::InvalidArgument, "INVALID_REQUEST", "web-1"),
        (New { vm_id: "web-1".into(), ..new() }, Code::NotFound, "VM_NOT_FOUND", "web-1"),
    ] {
        let refused = service.begin(new).await.expect_err(says);
        assert_eq!((refused.code(), reason(&refused).as_str()), (code, why), "{refused:?}");
        assert!(refused.message().contains(says), "{says}: {refused:?}");
    }
    let none = service.roll_back("none").await.expect_err("none");
    assert_eq!((none.code(), reason(&none).as_str()), (Code::NotFound, "JOB_NOT_FOUND"));
    let test = service.site.world.begin().await;
    let refused = service.commit(test.as_str()).await.expect_err("a test");
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::InvalidArgument, "INVALID_REQUEST"));
}
