//! What goes wrong at the targets themselves, call by call, and afterwards both simulators' own records.

use crate::failover::tests::world::World;
use crate::workflow::{Ask, Job, JobState, WorkflowId};
use http::Method;
use integration_tests::cloudstack_sim::{Rule, What};
use integration_tests::linstor_sim::{Rule as Linstor, Tool, What as Broken};
use integration_tests::zone::Zone;
use std::sync::Arc;

/// A world to do many things in, one after the other.
struct Trial(World);

impl Trial {
    async fn start() -> Self {
        Self(World::zone(None).await)
    }

    fn zone(&self) -> &Arc<Zone> {
        self.0.plant.ground.zone.as_ref().expect("a zone")
    }

    /// Drives it; asked once more where it waits for somebody, after what was in the way has gone.
    async fn drive(&self, id: &WorkflowId, of: &WorkflowId) -> Job {
        let mut job = self.0.drive(id).await;
        self.0.check(of).await;
        if job.state == JobState::NeedsAttention {
            self.clear().await;
            self.0.engine().ask(id, &Ask::Retry, "tester").await.expect("taken");
            job = self.0.drive(id).await;
            self.0.check(of).await;
        }
        job
    }

    /// A test and its clean-up, in which that happens; how the test ended. Nothing is left, whatever it is.
    async fn during(&self, what: &str) -> JobState {
        let id = self.0.begin().await;
        let job = self.drive(&id, &id).await;
        let ended = job.state;
        match ended {
            JobState::Succeeded => {
                let cleanup = self.0.clean(&id).await;
                let job = self.drive(&cleanup, &id).await;
                assert_eq!(job.state, JobState::Succeeded, "{what}: {job:#?}");
            }
            ended => assert_eq!(ended, JobState::RolledBack, "{what}: {job:#?}"),
        }
        self.clear().await;
        assert!(self.0.nothing_there(), "{what}: {:?}", self.0.there());
        ended
    }

    /// Nothing goes wrong any more.
    async fn clear(&self) {
        let http = crate::outbound::client(None).expect("a client");
        let url = self.zone().cloudstack_url().replace("/client/api", "/sim/faults");
        http.delete(url).send().await.expect("asked");
        let url = format!("{}/sim/rules", self.zone().linstor_url());
        http.delete(url).send().await.expect("asked");
    }

    fn arm(&self, command: &str, nth: u64, what: What) {
        self.zone().cloudstack().arm([Rule { command: command.to_owned(), nth, what }]);
    }
}

fn of_job() -> Vec<What> {
    vec![
        What::FailedThoughDone,
        What::NoResult,
        What::DropAnswer,
        What::JobFail { code: 530, text: "no".to_owned() },
        What::Fail { code: 530, exception: 4250, text: "no".to_owned() },
    ]
}

/// Commands of a test and of its clean-up; the calls that are hit are of the one or the other. All of them would take minutes:
/// one way to fail each, in turn.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_of_cloudstack_that_is_wrong_or_lost_leaves_nothing() {
    wrong_answers(|n, way| n % 5 == way).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "seven minutes: make test-nightly"]
async fn nightly_every_answer_in_every_way() {
    wrong_answers(|_, _| true).await;
}

async fn wrong_answers(is_tried: fn(usize, usize) -> bool) {
    let trial = Trial::start().await;
    let calls = [
        ("deployVirtualMachine", 1),
        ("detachVolume", 1),
        ("createVolume", 1),
        ("createVolume", 2),
        ("attachVolume", 1),
        ("attachVolume", 2),
        ("startVirtualMachine", 1),
        ("stopVirtualMachine", 1),
        ("detachVolume", 2),
        ("destroyVirtualMachine", 1),
        ("updateVolume", 1),
    ];
    for (n, (command, nth)) in calls.into_iter().enumerate() {
        for (_, what) in of_job().into_iter().enumerate().filter(|(way, _)| is_tried(n, *way)) {
            trial.arm(command, nth, what.clone());
            trial.during(&format!("{command} {nth} {what:?}")).await;
        }
    }
    // Without a job.
    for nth in 1..=3 {
        for what in [What::DropAnswer, What::Fail { code: 530, exception: 4250, text: "no".to_owned() }] {
            trial.arm("deleteVolume", nth, what.clone());
            trial.during(&format!("deleteVolume {nth} {what:?}")).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cloudstack_does_not_give_is_said_and_nothing_is_left() {
    let trial = Trial::start().await;
    for (command, nth, what, ends) in [
        ("startVirtualMachine", 0, What::Capacity, JobState::RolledBack),
        ("createVolume", 0, What::Quota, JobState::RolledBack),
        ("deployVirtualMachine", 0, What::Quota, JobState::RolledBack),
        ("attachVolume", 1, What::Stuck, JobState::RolledBack),
        // Another id of the same name.
        ("deployVirtualMachine", 1, What::Burnt, JobState::Succeeded),
        ("startVirtualMachine", 1, What::LeftBetween, JobState::RolledBack),
        ("stopVirtualMachine", 1, What::LeftBetween, JobState::Succeeded),
    ] {
        trial.arm(command, nth, what.clone());
        let ended = trial.during(&format!("{command} {what:?}")).await;
        assert_eq!(ended, ends, "{command} {what:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_linstor_does_not_do_is_repeated_or_taken_back() {
    let trial = Trial::start().await;
    let linstor = |method: Method, path: &str, what: Broken| Linstor::first(method.as_str(), path, what);
    for rule in [
        linstor(Method::POST, "*/snapshot-restore-resource/*", Broken::ToolFails(Tool::Restore)),
        linstor(Method::POST, "*/snapshot-restore-resource/*", Broken::DropAnswer).at("after"),
        linstor(Method::POST, "*/snapshot-restore-volume-definition/*", Broken::DropAnswer).at("after"),
        linstor(Method::POST, "/v1/resource-definitions", Broken::DropAnswer).at("after"),
        linstor(Method::POST, "/v1/actions/snapshot/multi", Broken::ToolFails(Tool::Snapshot)),
        linstor(Method::POST, "/v1/actions/snapshot/multi", Broken::DropAnswer).at("after"),
        linstor(Method::PUT, "/v1/resource-definitions/cs-*", Broken::DropAnswer).at("after"),
        linstor(Method::DELETE, "/v1/resource-definitions/cs-*/snapshots/*", Broken::DropAnswer).at("after"),
        linstor(Method::DELETE, "/v1/resource-definitions/cs-*", Broken::DropAnswer).at("after"),
        linstor(Method::POST, "*/snapshot-restore-resource/*", Broken::Fail { code: 996, message: None }),
    ] {
        let what = format!("{rule:?}");
        trial.zone().linstor().arm([rule]);
        trial.during(&what).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_off_and_a_pool_that_is_full_are_waited_for_or_said() {
    let trial = Trial::start().await;
    let node = |online| Broken::Node { name: "kvm2".to_owned(), online };
    // Off before; back before somebody asks again.
    trial.zone().linstor().now(&node(false));
    let id = trial.0.begin().await;
    let job = trial.0.drive(&id).await;
    trial.0.check(&id).await;
    trial.zone().linstor().now(&node(true));
    let done = match job.state {
        JobState::NeedsAttention => {
            trial.0.engine().ask(&id, &Ask::Retry, "tester").await.expect("taken");
            trial.0.drive(&id).await
        }
        _ => job,
    };
    if done.state == JobState::Succeeded {
        let cleanup = trial.0.clean(&id).await;
        // Off during the clean-up.
        trial.zone().linstor().now(&node(false));
        trial.0.drive(&cleanup).await;
        trial.0.check(&id).await;
        trial.zone().linstor().now(&node(true));
        if trial.0.plant.app.store.workflow_fetch(&cleanup).await.expect("read").state
            == JobState::NeedsAttention
        {
            trial.0.engine().ask(&cleanup, &Ask::Retry, "tester").await.expect("taken");
            assert_eq!(trial.0.drive(&cleanup).await.state, JobState::Succeeded);
        }
    }
    assert!(trial.0.nothing_there(), "{:?}", trial.0.there());
    for node in ["kvm1", "kvm2"] {
        let full = Broken::Pool { node: node.to_owned(), pool: "thin".to_owned(), capacity_kib: 64 };
        trial.zone().linstor().now(&full);
    }
    assert_eq!(trial.during("a full pool").await, JobState::RolledBack);
}

/// Killed between the registration of a clone and its bytes; another one goes on with what it left.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_controller_that_dies_in_a_restore_leaves_nothing() {
    let mut trial = Trial::start().await;
    for (path, at) in [
        ("*/snapshot-restore-resource/*", "registered"),
        ("*/snapshot-restore-resource/*", "after"),
        ("/v1/actions/snapshot/multi", "taken"),
    ] {
        let rule = Linstor::first("POST", path, Broken::Die).at(at);
        trial.zone().linstor().arm([rule]);
        let id = trial.0.begin().await;
        let job = trial.0.drive(&id).await;
        assert_eq!(job.state, JobState::NeedsAttention, "{path} {at}: nobody is there to take it back");
        let zone = trial.0.plant.ground.zone.as_mut().and_then(Arc::get_mut).expect("nobody else has it");
        zone.restart_linstor().await.expect("started");
        // Nobody is asked for a while after so many silences.
        tokio::time::sleep(std::time::Duration::from_secs(3)).await;
        trial.0.engine().ask(&id, &Ask::Retry, "tester").await.expect("taken");
        let job = trial.0.drive(&id).await;
        assert_eq!(job.state, JobState::RolledBack, "{path} {at}: {job:#?}");
        trial.0.check(&id).await;
        assert!(trial.0.nothing_there(), "{path} {at}: {:?}", trial.0.there());
    }
}

/// A management server that is restarted has jobs that ended without a result; the machine's start may have happened.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_management_server_that_is_restarted_is_asked_again() {
    let mut trial = Trial::start().await;
    let id = trial.0.begin().await;
    assert_eq!(trial.0.drive(&id).await.state, JobState::Succeeded);
    let zone = trial.0.plant.ground.zone.as_mut().and_then(Arc::get_mut).expect("nobody else has it");
    zone.restart_cloudstack().await.expect("started");
    trial.0.check(&id).await;
    let cleanup = trial.0.clean(&id).await;
    assert_eq!(trial.0.drive(&cleanup).await.state, JobState::Succeeded);
    assert!(trial.0.nothing_there(), "{:?}", trial.0.there());
}
