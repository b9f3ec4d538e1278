//! What progress costs the database: counted there, by a trigger.

use crate::store::row::sql;
use crate::testing::Plant;
use shared::cycle::{CycleEvent, DiskProgress};
use shared::migration::Action;
use sqlx::{AnyConnection, Connection as _, Row as _};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// How often the columns of progress were written.
async fn writes(database: &mut AnyConnection) -> i64 {
    let row = sql("SELECT COUNT(*) AS writes FROM progress_writes").fetch_one(database).await;
    row.expect("counted").try_get("writes").expect("a number")
}

/// Reports come as fast as they are taken, for a few seconds: at most one write a second, and one for the last of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burst_of_reports_costs_one_write_a_second() {
    let plant = Plant::begun().await;
    plant.act(Action::Sync).await;
    plant.step().await;
    let job = plant.job().await;
    plant.snapshot_taken(&job, "1").await;
    let url = format!("sqlite://{}", plant.folder.path().join("oma.db").display());
    let mut database = AnyConnection::connect(&url).await.expect("a connection of its own");
    for text in [
        "CREATE TABLE progress_writes (percent DOUBLE)",
        "CREATE TRIGGER count_writes AFTER UPDATE OF progress_percent ON replication_jobs \
         BEGIN INSERT INTO progress_writes VALUES (NEW.progress_percent); END",
    ] {
        sql(text).execute(&mut database).await.expect("made");
    }
    let (app, shutdown) = (plant.app.clone(), CancellationToken::new());
    let stop = shutdown.clone();
    let storing = tokio::spawn(async move { app.progress_run(stop).await });
    let (begun, mut reports) = (Instant::now(), 0);
    while begun.elapsed() < Duration::from_millis(2500) {
        reports += 1;
        let of = |d: &crate::store::JobDisk| DiskProgress {
            disk: Some(d.disk.clone()),
            size: 131_072,
            planned: 131_072,
            data: reports,
            done: reports,
            ..DiskProgress::default()
        };
        plant.say(&job, CycleEvent::Progress(job.disks.iter().map(of).collect())).await;
    }
    let reported = begun.elapsed();
    let deadline = begun + Duration::from_secs(30);
    while plant.job().await.progress.transferred != 2 * reports {
        assert!(Instant::now() < deadline, "the last of {reports} reports is not stored");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let (seconds, writes) = (begun.elapsed().as_secs_f64(), writes(&mut database).await);
    // The first at once, then one a second.
    assert!(writes as f64 <= seconds + 1.0, "{writes} writes in {seconds} s, of {reports} reports");
    assert!(reports > 20, "{reports} reports in {reported:?} are no burst");
    shutdown.cancel();
    storing.await.expect("ended");
    eprintln!("{reports} reports in {reported:?}: {writes} writes");
}
