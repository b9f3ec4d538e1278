use super::*;

mod disks;
mod speed;

use futures::{Stream, StreamExt as _};
use serde_json::json;
use std::pin::pin;

fn at(text: &str) -> Timestamp {
    text.parse().expect("a time")
}

fn update(text: &str) -> Update {
    serde_json::from_str(text).expect("an update")
}

fn seconds(start: Timestamp, seconds: i64) -> Timestamp {
    start + SignedDuration::from_secs(seconds)
}

const DISK: &str = "migration-vol-c290646c-41ba-4d50-a31f-f497320ca0bd";

/// The document's example: its request, and its answer word for word.
#[test]
fn the_documents_example_is_answered_as_printed() {
    let register = Register::default();
    let start = at("2025-09-05T15:24:43.1Z");
    register.register(DISK, &Registration::default(), start).expect("registered");
    let request = r#"{
        "stage": "Transfer",
        "status": "Queued",
        "bytes_transferred": 933232640,
        "total_bytes": 42949672960,
        "throughput_bps": 0,
        "percent": 2.1728515625,
        "disk_id": "disk-2000"
    }"#;
    let now = start + SignedDuration::from_millis(91_984);
    register.update(DISK, &update(request), now).expect("taken");
    let got = serde_json::to_value(register.view(DISK, now).expect("there")).expect("JSON");
    let expected = json!({
        "job_id": DISK,
        "status": "Queued",
        "sync_type": "full",
        "phase": "Transfer",
        "percentage": 2.172_851_562_5,
        "current_operation": "Transfer",
        "bytes_transferred": 933_232_640,
        "total_bytes": 42_949_672_960_u64,
        "throughput": {
            "current_mbps": 0.0, "average_mbps": 0.0, "peak_mbps": 0.0,
            "last_update": "2025-09-05T15:26:15Z"
        },
        "timing": {
            "start_time": "2025-09-05T15:24:43Z",
            "last_update": "2025-09-05T15:26:15Z",
            "elapsed_ms": 91984,
            "phase_start": "2025-09-05T15:24:43Z",
            "phase_elapsed_ms": 91984,
            "eta_seconds": 0
        },
        "vm_info": {
            "name": "unknown", "path": "unknown",
            "disk_size_gb": 40, "disk_size_bytes": 42_949_672_960_u64, "cbt_enabled": false
        },
        "phases": [{
            "name": "Transfer", "status": "Queued",
            "start_time": "2025-09-05T15:24:43Z", "end_time": "", "duration_ms": 91984
        }],
        "errors": [],
        "last_error": null
    });
    assert_eq!(got, expected);
}

#[test]
fn rates_are_megabytes_a_second_and_the_end_is_told() {
    let register = Register::default();
    let start = at("2026-11-21T10:00:00Z");
    register.register("job-1", &Registration::default(), start).expect("registered");
    let send = |after: i64, body: &str| {
        register.update("job-1", &update(body), seconds(start, after)).expect("taken");
        register.view("job-1", seconds(start, after)).expect("there")
    };
    let view =
        send(10, r#"{"stage": "Transfer", "bytes_transferred": 100000000, "total_bytes": 1000000000}"#);
    assert_eq!(view.status, Status::Running, "an update without a status is one of a job that runs");
    assert_eq!(
        (view.throughput.current_mbps, view.throughput.average_mbps),
        (0.0, 0.0),
        "moved before it spoke"
    );
    assert_eq!((view.percentage, view.timing.eta_seconds), (10.0, 90));
    let view = send(20, r#"{"stage": "Transfer", "bytes_transferred": 500000000}"#);
    assert_eq!((view.throughput.current_mbps, view.throughput.average_mbps), (40.0, 20.0));
    assert_eq!((view.throughput.peak_mbps, view.timing.eta_seconds), (40.0, 20));
    // What the engine measured counts before what we would.
    let view =
        send(30, r#"{"stage": "Transfer", "bytes_transferred": 510000000, "throughput_bps": 2000000}"#);
    assert_eq!(view.throughput.current_mbps, 2.0);
    // An engine that was killed counts from zero again; nothing goes back.
    let view = send(40, r#"{"stage": "Transfer", "bytes_transferred": 5}"#);
    assert_eq!((view.bytes_transferred, view.percentage), (510_000_000, 51.0));
    let done = r#"{"stage": "Complete", "status": "Completed", "bytes_transferred": 1000000000}"#;
    let view = send(50, done);
    assert_eq!((view.percentage, view.throughput.current_mbps, view.timing.eta_seconds), (100.0, 0.0, 0));
    assert_eq!((view.throughput.average_mbps, view.throughput.peak_mbps), (18.0, 40.0));
    let phases: Vec<_> =
        view.phases.iter().map(|p| (p.name.as_str(), p.status, p.end_time.as_str())).collect();
    assert_eq!(
        phases,
        [
            ("Transfer", Status::Completed, "2026-11-21T10:00:50Z"),
            ("Complete", Status::Completed, "2026-11-21T10:00:50Z")
        ]
    );
    // Time stands still for a job that ended.
    let later = register.view("job-1", seconds(start, 3000)).expect("still there");
    assert_eq!(later.timing.elapsed_ms, 50_000);
}

#[test]
fn a_job_is_the_sum_of_its_disks_and_never_more_than_whole() {
    let register = Register::default();
    let start = at("2026-11-21T10:00:00Z");
    let about = Registration { total_bytes: 100, ..Registration::default() };
    register.register("job-1", &about, start).expect("registered");
    for (disk, done) in [("a", 30), ("b", 10), ("a", 40)] {
        let body =
            json!({ "stage": "Transfer", "bytes_transferred": done, "total_bytes": 50, "disk_id": disk });
        register.update("job-1", &update(&body.to_string()), seconds(start, 1)).expect("taken");
    }
    let view = register.view("job-1", seconds(start, 2)).expect("there");
    assert_eq!((view.bytes_transferred, view.total_bytes, view.percentage), (50, 100, 50.0));
}

#[test]
fn a_failure_stays_readable_for_an_hour() {
    let register = Register::default();
    let start = at("2026-11-21T10:00:00Z");
    let named = Registration { vm_name: "web-01".to_owned(), cbt_enabled: true, ..Registration::default() };
    assert_eq!(register.register("job-1", &named, start), Ok(Registered::New));
    assert_eq!(register.register("job-1", &Registration::default(), start), Ok(Registered::Known));
    register.fail("job-1", "the source went away", seconds(start, 5)).expect("taken");
    let view = register.view("job-1", seconds(start, 3605)).expect("there");
    assert_eq!((view.status, view.vm_info.name.as_str()), (Status::Failed, "web-01"));
    assert_eq!(view.last_error.as_deref(), Some("the source went away"));
    assert_eq!(view.phases[0].end_time, "2026-11-21T10:00:05Z");
    assert_eq!(register.view("job-1", seconds(start, 3606)), Err(Error::NotFound));
    // One that is silent for a day was killed.
    register.register("job-2", &named, start).expect("registered");
    assert!(register.view("job-2", seconds(start, 86_400)).is_ok());
    assert_eq!(register.view("job-2", seconds(start, 86_401)), Err(Error::NotFound));
}

#[test]
fn what_cannot_be_right_is_refused_with_its_name() {
    let register = Register::default();
    let now = at("2026-11-21T10:00:00Z");
    register.register("job-1", &Registration::default(), now).expect("registered");
    for (body, why) in [
        (r#"{"stage": "Transfer", "bytes_transferred": -1}"#, "bytes_transferred must be >= 0"),
        (r#"{"stage": "Transfer", "bytes_transferred": 1, "total_bytes": -1}"#, "total_bytes must be >= 0"),
        (
            r#"{"stage": "Transfer", "bytes_transferred": 1, "throughput_bps": -1}"#,
            "throughput_bps must be >= 0",
        ),
        (
            r#"{"stage": "Transfer", "bytes_transferred": 2, "total_bytes": 1}"#,
            "bytes_transferred must be <= total_bytes",
        ),
        (r#"{"stage": "Transfer", "bytes_transferred": 1, "percent": 101}"#, "percent must be 0 to 100"),
        (r#"{"stage": "", "bytes_transferred": 1}"#, "stage must be 1 to 256 bytes"),
    ] {
        let refused = register.update("job-1", &update(body), now).expect_err("refused");
        assert_eq!(refused, Error::Invalid(why.to_owned()));
    }
    let fine = update(r#"{"stage": "Transfer", "bytes_transferred": 1}"#);
    assert_eq!(register.update("job-2", &fine, now), Err(Error::NotFound));
    let sideways = Registration { sync_type: "sideways".to_owned(), ..Registration::default() };
    let refused = register.outside().register("job-3", &sideways, now);
    assert_eq!(refused, Err(Error::Invalid("sync_type must be full or incremental".to_owned())));
    assert!(matches!(register.register("a/b", &Registration::default(), now), Err(Error::Invalid(_))));
}

/// Of `total_bytes`, which an update may leave out: what was registered, or said before.
#[test]
fn a_total_that_is_known_need_not_be_said_again() {
    let register = Register::default();
    let start = at("2026-11-21T10:00:00Z");
    let total = |total_bytes| Registration { total_bytes, ..Registration::default() };
    register.outside().register("half", &total(42_949_672_960), start).expect("registered");
    let send = |job: &str, body: &str| register.outside().update(job, &update(body), seconds(start, 60));
    let view = |job: &str| register.view(job, seconds(start, 60)).expect("there");
    send("half", r#"{"stage": "Transfer", "bytes_transferred": 21474836480}"#).expect("taken");
    let half = view("half");
    assert_eq!((half.percentage, half.timing.eta_seconds, half.total_bytes), (50.0, 60, 42_949_672_960));
    // Neither is more than that taken for being said without it; of several disks, together.
    let over = |known: u64| {
        Err(Error::Invalid(format!("bytes_transferred must be <= total_bytes, known to be {known}")))
    };
    register.outside().register("job-1", &total(1000), start).expect("registered");
    assert_eq!(send("job-1", r#"{"stage": "Transfer", "bytes_transferred": 1500}"#), over(1000));
    send("job-1", r#"{"stage": "Transfer", "bytes_transferred": 600, "disk_id": "a"}"#).expect("taken");
    let other = r#"{"stage": "Transfer", "bytes_transferred": 600, "disk_id": "b"}"#;
    assert_eq!(send("job-1", other), over(1000));
    send("job-1", r#"{"stage": "Transfer", "bytes_transferred": 150, "disk_id": "b"}"#).expect("taken");
    assert_eq!((view("job-1").percentage, view("job-1").bytes_transferred), (75.0, 750));
    register.outside().register("job-2", &total(0), start).expect("registered");
    send("job-2", r#"{"stage": "Transfer", "bytes_transferred": 1, "total_bytes": 1000}"#).expect("taken");
    assert_eq!(send("job-2", r#"{"stage": "Transfer", "bytes_transferred": 1500}"#), over(1000));
    assert_eq!((view("job-2").bytes_transferred, view("job-2").total_bytes), (1, 1000));
}

#[test]
fn no_sum_of_disks_overflows() {
    let register = Register::default();
    let now = at("2026-11-21T10:00:00Z");
    let total = |total_bytes| Registration { total_bytes, ..Registration::default() };
    let refused = register.outside().register("job-1", &total(i64::MAX), now).expect_err("no such disk");
    assert_eq!(refused.to_string(), "total_bytes must be <= 1152921504606846976 (2^60)");
    register.outside().register("job-1", &total(1 << 60), now).expect("registered");
    for (bytes, what) in [((1_i64 << 60) + 1, "bytes_transferred"), (i64::MAX, "bytes_transferred")] {
        let body = json!({ "stage": "Transfer", "bytes_transferred": bytes, "total_bytes": bytes });
        let refused = register.outside().update("job-1", &update(&body.to_string()), now);
        assert_eq!(refused, Err(Error::Invalid(format!("{what} must be <= 1152921504606846976 (2^60)"))));
    }
    for disk in 0..20 {
        let body = json!({
            "stage": "Transfer", "bytes_transferred": 1_i64 << 60, "total_bytes": 1_i64 << 60,
            "disk_id": disk.to_string()
        });
        register.outside().update("job-1", &update(&body.to_string()), now).expect("taken");
    }
    let view = register.view("job-1", now).expect("there");
    let most = i64::MAX.unsigned_abs();
    assert_eq!((view.bytes_transferred, view.total_bytes, view.percentage), (most, most, 100.0));
}

#[test]
fn a_job_that_ended_is_begun_anew_by_registering_alone() {
    let register = Register::default();
    let now = at("2026-11-21T10:00:00Z");
    let outside = register.outside();
    for (end, word) in [(Status::Completed, "Completed"), (Status::Failed, "Failed")] {
        outside.register("job-1", &Registration::default(), now).expect("registered");
        let done =
            update(&json!({ "stage": "Complete", "status": word, "bytes_transferred": 7 }).to_string());
        outside.update("job-1", &done, now).expect("taken");
        let (ended, number) =
            (register.view("job-1", now), *register.watch("job-1", now).expect("there").borrow());
        for late in [
            r#"{"stage": "Transfer", "bytes_transferred": 8}"#,
            r#"{"stage": "Transfer", "bytes_transferred": 8, "status": "Running"}"#,
            r#"{"stage": "Transfer", "bytes_transferred": 8, "status": "Queued"}"#,
        ] {
            assert_eq!(outside.update("job-1", &update(late), now), Err(Error::Ended(end)), "{late}");
        }
        assert_eq!(outside.update("job-1", &done, now), Ok(()), "whoever missed the answer asks again");
        assert_eq!(register.view("job-1", now), ended);
        assert_eq!(*register.watch("job-1", now).expect("there").borrow(), number);
        assert_eq!(outside.register("job-1", &Registration::default(), now), Ok(Registered::New));
        assert_eq!(register.view("job-1", now).expect("there").bytes_transferred, 0);
        outside.update("job-1", &done, now).expect("taken");
    }
}

#[test]
fn outsiders_cannot_speak_for_the_process_nor_keep_it_out() {
    let register = Register::default();
    let now = at("2026-11-21T10:00:00Z");
    let outside = register.outside();
    let about = Registration::default();
    register.register(DISK, &about, now).expect("registered");
    let said = update(r#"{"stage": "Transfer", "bytes_transferred": 7, "status": "Completed"}"#);
    for _ in 0..2 {
        assert_eq!(outside.register(DISK, &about, now), Err(Error::NotYours));
        assert_eq!(outside.update(DISK, &said, now), Err(Error::NotYours));
        // Neither when it has ended.
        register.complete(DISK, now).expect("its own");
    }
    // What an outsider has under an id of the process's own goes.
    outside.register("job-1", &about, now).expect("registered");
    outside.update("job-1", &said, now).expect("taken");
    assert_eq!(register.update("job-1", &said, now), Err(Error::NotFound));
    assert_eq!(register.fail("job-1", "no", now), Err(Error::NotFound));
    assert_eq!(register.register("job-1", &about, now), Ok(Registered::New));
    assert_eq!(register.view("job-1", now).expect("there").bytes_transferred, 0);
    // An outsider that fills the register with jobs that never end keeps out outsiders.
    let call = |n: usize| format!("outside-{n}");
    for n in 0..MOST {
        outside.register(&call(n), &about, now).expect("registered");
    }
    assert_eq!(outside.register("one-more", &about, now), Err(Error::Full));
    assert_eq!(register.register("job-2", &about, now), Ok(Registered::New));
    // The one that ended first makes room.
    for (n, after) in [(5, 2), (3, 1)] {
        outside.update(&call(n), &said, seconds(now, after)).expect("taken");
    }
    let later = seconds(now, 3);
    assert_eq!(outside.register("one-more", &about, later), Ok(Registered::New));
    assert_eq!(register.view(&call(3), later), Err(Error::NotFound));
    assert!(register.view(&call(5), later).is_ok() && register.view(DISK, later).is_ok());
}

/// A watch of this job of the register, at this moment for ever.
fn watched<'r>(
    register: &'r Register,
    id: &'r str,
    after: u64,
    now: Timestamp,
) -> impl Stream<Item = Result<Seen, Error>> + 'r {
    let numbers = register.watch(id, now).expect("there");
    states(numbers, after, move || std::future::ready(register.view(id, now)))
}

fn moved(register: &Register, id: &str, bytes: i64, now: Timestamp) {
    let update = Update { stage: "Transfer".to_owned(), bytes_transferred: bytes, ..Update::default() };
    register.update(id, &update, now).expect("taken");
}

#[tokio::test(start_paused = true)]
async fn a_watch_shows_the_present_then_the_latest_then_ends() {
    let register = Register::default();
    let now = at("2026-11-21T10:00:00Z");
    register.register("job-1", &Registration::default(), now).expect("registered");
    let mut watch = pin!(watched(&register, "job-1", 0, now));
    let first = watch.next().await.expect("a state").expect("there");
    assert_eq!((first.view.status, first.view.bytes_transferred), (Status::Queued, 0));
    // The reader is away for a thousand updates: none is kept for it but the last.
    (1..=1000).for_each(|bytes| moved(&register, "job-1", bytes, now));
    let latest = watch.next().await.expect("a state").expect("there");
    assert_eq!((latest.view.bytes_transferred, latest.sequence), (1000, first.sequence + 1000));
    // Nothing is said while nothing changes.
    let quiet = tokio::time::timeout(std::time::Duration::from_secs(3600), watch.next()).await;
    assert!(quiet.is_err(), "{quiet:?}");
    // Whoever comes back with a number that is the latest is told the next one only.
    let mut resumed = pin!(watched(&register, "job-1", latest.sequence, now));
    assert!(futures::poll!(resumed.next()).is_pending());
    register.complete("job-1", now).expect("taken");
    for mut watch in [watch, resumed.as_mut()] {
        assert_eq!(watch.next().await.expect("a state").expect("there").view.status, Status::Completed);
        assert!(watch.next().await.is_none(), "the job has ended");
    }
    // One that ended is shown as it ended, to whoever knows that too.
    let mut late = pin!(watched(&register, "job-1", latest.sequence + 1, now));
    assert!(late.next().await.expect("a state").expect("there").view.has_ended());
    assert!(late.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_watch_of_a_job_that_is_forgotten_says_so() {
    let register = Register::default();
    let now = at("2026-11-21T10:00:00Z");
    register.register("job-1", &Registration::default(), now).expect("registered");
    let numbers = register.watch("job-1", now).expect("there");
    assert_eq!(register.watch("job-2", now).err(), Some(Error::NotFound));
    let forgotten = seconds(now, 86_401);
    let mut watch = pin!(states(numbers, 0, || std::future::ready(register.view("job-1", now))));
    watch.next().await.expect("a state").expect("there");
    assert_eq!(register.view("job-1", forgotten), Err(Error::NotFound));
    assert_eq!(watch.next().await, Some(Err(Error::NotFound)));
    assert_eq!(watch.next().await, None);
}
