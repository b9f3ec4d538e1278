//! The program dies between any two of its awaits, while a VM moves and on its way back, and another run goes on: two of
//! the VM never run, and the replica is nobody's but its cycles'.

use super::site::{Site, cycle};
use super::world::{At, Fault};
use crate::workflow::JobState;
use shared::migration::Position;
use shared::vm::Power;

/// Every so many polls, until one is not cut any more; a step that fails takes all back. Returns how many deaths there were.
async fn sweep(site: impl AsyncFn() -> Site, every: u32) -> u32 {
    let mut deaths = 0;
    for failing in [None, Some("attach-1")] {
        let (mut first, site) = (0, site().await);
        loop {
            if let Some(step) = failing {
                site.world.fails(step, At::Act, &[Fault::SaidFailed]);
            }
            let id = site.begin().await;
            let died = site.drive_and_die(&id, first).await;
            if died {
                site.drive_and_die(&id, first * 7 % 41).await;
            }
            let job = site.drive(&id).await;
            let ends = match failing {
                None => vec![JobState::Succeeded],
                // A failure that the program did not live to hear of was none.
                Some(_) => vec![JobState::RolledBack, JobState::Succeeded],
            };
            assert!(ends.contains(&job.state), "cut at {first}: {job:#?}");
            if job.state == JobState::Succeeded {
                assert_eq!((site.position().await, site.power()), (Position::SwitchSuccessful, Power::Off));
                let replica = site.world.kept();
                let back = site.roll_back(&id).await;
                site.drive_and_die(&back, first % 97).await;
                let job = site.drive(&back).await;
                assert_eq!(job.state, JobState::Succeeded, "cut at {first}: {job:#?}");
                assert_eq!(site.world.kept(), replica, "the replica is the cycles'");
                let cleanup = site.world.clean(&id).await;
                assert_eq!(site.world.drive(&cleanup).await.state, JobState::Succeeded);
            }
            assert_eq!((site.position().await, site.power()), (Position::SyncPaused, Power::On), "{first}");
            assert!(site.world.nothing_there(), "cut at {first}: {:?}", site.world.there());
            cycle(&site.world.plant, b'a', "5").await;
            if !died {
                break;
            }
            deaths += 1;
            first += every;
        }
    }
    deaths
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vm_is_here_or_there_wherever_it_dies() {
    let deaths = sweep(Site::sqlite, 11).await;
    assert!(deaths > 20, "only {deaths}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn and_on_mariadb() {
    let deaths = sweep(Site::mariadb, 37).await;
    assert!(deaths > 6, "only {deaths}");
}

/// Wherever it is: all is taken back until the machine has run, and not after that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_switch_can_be_cancelled_until_its_machine_has_run() {
    let (site, mut at) = (Site::sqlite().await, 0);
    loop {
        let id = site.begin().await;
        let died = site.drive_and_die(&id, at).await;
        let job = site.failover(&id).await.job;
        if !died || job.is_past_no_return() {
            let denied = site.world.engine().ask(&id, &crate::workflow::Ask::Cancel, "tester").await;
            denied.expect_err("it may have run");
            break;
        }
        site.cancel(&id).await;
        let job = site.drive(&id).await;
        assert_eq!(job.state, JobState::RolledBack, "cut at {at}: {job:#?}");
        assert_eq!((site.position().await, site.power()), (Position::SyncPaused, Power::On), "cut at {at}");
        assert!(site.world.nothing_there(), "cut at {at}: {:?}", site.world.there());
        at += 9;
    }
    assert!(at > 40, "only {at}");
}
