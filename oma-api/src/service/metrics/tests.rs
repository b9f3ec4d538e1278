use super::NAMED;
use crate::testing::Plant;
use shared::cycle::{CycleEvent, DiskProgress};
use shared::migration::Action;
use std::time::Duration;

/// The value of a series, by its name with labels.
fn value(text: &str, series: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
}

async fn page(plant: &Plant) -> String {
    *plant.app.hub.metrics.last.lock().await = None;
    plant.app.metrics().await
}

#[tokio::test]
async fn a_cycle_shows_from_its_beginning_to_its_restore_point() {
    let plant = Plant::begun().await;
    let of = |name: &str, id: &str| format!("{name}{{migration_id=\"{id}\",vm=\"web-1\"}}");
    let text = page(&plant).await;
    let id = plant.migration().await.id.to_string();
    for (series, wanted) in [
        ("migratekit_migrations{phase=\"begin\",state=\"paused\"}", 1.0),
        ("migratekit_agents_known", 1.0),
        ("migratekit_agents_connected", 1.0),
        ("migratekit_cycles{kind=\"full\",status=\"running\"}", 0.0),
        ("migratekit_cycles_finished_total{kind=\"full\",outcome=\"completed\"}", 0.0),
        ("migratekit_transferred_bytes_total{kind=\"wire\"}", 0.0),
        ("migratekit_scrape_errors", 0.0),
        (&of("migratekit_migration_restore_points", &id), 0.0),
    ] {
        assert_eq!(value(&text, series), Some(wanted), "{series} in\n{text}");
    }
    assert_eq!(value(&text, &of("migratekit_migration_rpo_seconds", &id)), None, "nothing to be old");

    plant.act(Action::Sync).await;
    plant.step().await;
    let job = plant.job().await;
    plant.snapshot_taken(&job, "c1").await;
    let disk = &job.disks[0];
    let said = DiskProgress {
        disk: Some(disk.disk.clone()),
        size: 128 << 10,
        planned: 1000,
        done: 1000,
        read: 1000,
        data: 700,
        wire: 500,
        epoch: Some(disk.epoch),
        ..DiskProgress::default()
    };
    plant.say(&job, CycleEvent::Progress(vec![said.clone()])).await;
    plant.say(&job, CycleEvent::Progress(vec![said])).await;
    let text = page(&plant).await;
    for (kind, bytes) in [("read", 1000.0), ("data", 700.0), ("wire", 500.0)] {
        let series = format!("migratekit_transferred_bytes_total{{kind=\"{kind}\"}}");
        assert_eq!(value(&text, &series), Some(bytes), "said twice, moved once");
    }
    assert_eq!(value(&text, "migratekit_cycles{kind=\"full\",status=\"running\"}"), Some(1.0));

    plant.seal(&job).await;
    plant.step().await;
    let text = page(&plant).await;
    let completed = "{kind=\"full\",outcome=\"completed\"}";
    assert_eq!(value(&text, &format!("migratekit_cycles_finished_total{completed}")), Some(1.0));
    assert_eq!(value(&text, &format!("migratekit_cycle_duration_seconds_count{completed}")), Some(1.0));
    assert_eq!(value(&text, &of("migratekit_migration_restore_points", &id)), Some(1.0));
    let age = value(&text, &of("migratekit_migration_rpo_seconds", &id)).expect("there is one now");
    assert!((0.0..60.0).contains(&age), "{age}");
    assert!(value(&text, "migratekit_store_transaction_duration_seconds_count").expect("there") > 5.0);
    assert_eq!(value(&text, "migratekit_store_transactions_waiting"), Some(0.0));

    plant.act(Action::Abort).await;
    plant.step().await;
    let text = page(&plant).await;
    assert!(!text.contains(&id), "an ended migration has no series of its own");
    assert_eq!(value(&text, "migratekit_migrations{phase=\"abort\",state=\"aborted\"}"), Some(1.0));
}

/// What failed and what was stopped count as what they were.
#[tokio::test]
async fn a_cycle_that_failed_is_counted_as_that() {
    let plant = Plant::begun().await;
    plant.act(Action::Sync).await;
    plant.step().await;
    let failed = CycleEvent::Failed { reason: "X".to_owned(), message: "no".to_owned() };
    let job = plant.job().await;
    plant.say(&job, failed).await;
    let text = page(&plant).await;
    let series = "migratekit_cycles_finished_total{kind=\"full\",outcome=\"failed\"}";
    assert_eq!(value(&text, series), Some(1.0), "{text}");
}

/// Within a second the page is not made anew, however many ask.
#[tokio::test]
async fn scrapes_in_a_row_cost_one() {
    let plant = Plant::begun().await;
    let first = plant.app.metrics().await;
    plant.act(Action::Sync).await;
    assert_eq!(plant.app.metrics().await, first);
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert_ne!(plant.app.metrics().await, first);
}

#[tokio::test]
async fn no_more_migrations_are_named_than_were_asked_for() {
    let plant = Plant::begun().await;
    let named = |census: crate::store::Census| census.unfinished.len();
    assert_eq!(plant.app.store.census(NAMED).await.map(named).expect("read"), 1);
    let none = plant.app.store.census(0).await.expect("read");
    assert_eq!((none.unfinished.len(), none.positions.len()), (0, 1), "it is in the totals all the same");
}
