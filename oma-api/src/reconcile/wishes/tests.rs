//! What `automatic` leads to: a switch, where one can be made.

use crate::failover::tests::site::Site;
use crate::service::act::{Ask, Schedule};
use crate::store::{Arm, Migration};
use crate::testing::Plant;
use jiff::{SignedDuration, Timestamp};
use shared::config::Period;
use shared::migration::{Action, Phase};
use std::time::Duration;

fn automatic() -> Ask {
    Ask { max_downtime: Some(Duration::from_secs(3600)), max_cycles: Some(9), ..Ask::new(Action::Automatic) }
}

/// Until it has come to its end, with the agent and the reconciler at work.
async fn ended(site: &Site) -> Migration {
    let plant = &site.world.plant;
    let end = async {
        loop {
            let migration = plant.migration().await;
            if migration.wishes.automatic.is_none() {
                return migration;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        migration = end => migration,
        () = site.agent() => panic!("it never ends"),
        () = tokio::time::sleep(Duration::from_secs(30)) => panic!("it never ends"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn automatic_switches_when_that_is_short_enough() {
    let mut site = Site::sqlite().await;
    site.world.plant.app.policy.test_max_age = Period::seconds(0);
    site.world.plant.ask(&automatic()).await.expect("taken");
    let migration = ended(&site).await;
    assert_eq!((migration.position.phase(), &migration.error), (Phase::Switch, &None), "{migration:?}");
    let last = migration.wishes.last.expect("asked for");
    assert_eq!((last.action, last.by.as_str()), (Action::Switch, "automatic"));
    let live = site.world.plant.app.store.failover_live(&migration.id).await.expect("read").expect("made");
    assert_eq!(live.record.requested_by, "automatic");
}

/// Policy is asked as of anybody; a switch at a set time is another wish.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn automatic_says_why_its_switch_is_refused() {
    let site = Site::sqlite().await;
    let at = Schedule::At(Timestamp::now() + SignedDuration::from_secs(3600));
    site.world.plant.ask(&Ask { schedule: Some(at), ..Ask::new(Action::Switch) }).await.expect("scheduled");
    site.world.plant.ask(&automatic()).await.expect("taken");
    let migration = ended(&site).await;
    let error = migration.error.expect("said");
    assert_eq!(error.reason, "CHAIN_POLICY", "{}", error.message);
    assert!(
        error.message.starts_with("the switch that automatic has led to was not made"),
        "{}",
        error.message
    );
    assert_eq!((migration.position.phase(), migration.wishes.scheduled_at.is_some()), (Phase::Sync, true));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn automatic_ends_where_nothing_runs_machines() {
    let mut site = Site::sqlite().await;
    site.world.plant.app.compute = None;
    site.world.plant.ask(&automatic()).await.expect("taken");
    let migration = ended(&site).await;
    let error = migration.error.expect("said");
    assert_eq!(
        (error.reason.as_str(), migration.position.phase()),
        ("NO_TARGET", Phase::Sync),
        "{}",
        error.message
    );
}

/// Who switches by hand does what `automatic` was to lead to; who sets a time for it does not.
#[tokio::test]
async fn a_switch_by_hand_ends_automatic() {
    let mut plant = Plant::begun().await;
    plant.app.policy.test_max_age = Period::seconds(0);
    plant.cycle("1").await;
    for arm in [Arm::Replica, Arm::Source] {
        plant.compared(arm, Timestamp::now()).await;
    }
    // Between two of its cycles.
    plant.ask(&automatic()).await.expect("taken");
    plant.step().await;
    let job = plant.job().await;
    plant.snapshot_taken(&job, "2").await;
    plant.seal(&job).await;
    plant.step().await;
    let at = Schedule::At(Timestamp::now() + SignedDuration::from_secs(3600));
    plant.ask(&Ask { schedule: Some(at), ..Ask::new(Action::Switch) }).await.expect("scheduled");
    assert!(plant.migration().await.wishes.automatic.is_some(), "it goes on until then");
    plant.act(Action::Switch).await;
    let migration = plant.migration().await;
    assert_eq!(migration.position.phase(), Phase::Switch);
    assert_eq!((migration.wishes.automatic, migration.wishes.scheduled_at), (None, None));
}
