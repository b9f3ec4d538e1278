//! Speeds that a transfer can have had.

use super::*;

/// A job, and the milliseconds since it was registered.
struct Told {
    register: Register,
    start: Timestamp,
}

impl Told {
    fn new() -> Self {
        let told = Self { register: Register::default(), start: at("2026-11-21T10:00:00Z") };
        told.registered(0);
        told
    }

    fn after(&self, millis: i64) -> Timestamp {
        self.start + SignedDuration::from_millis(millis)
    }

    fn registered(&self, millis: i64) {
        self.register.register("job-1", &Registration::default(), self.after(millis)).expect("registered");
    }

    /// Megabytes that were transferred by then. Returns current, average and peak.
    fn says(&self, millis: i64, mega: i64) -> (f64, f64, f64) {
        self.says_of("a", millis, mega)
    }

    fn says_of(&self, disk: &str, millis: i64, mega: i64) -> (f64, f64, f64) {
        self.update(millis, &json!({ "bytes_transferred": mega * 1_000_000, "disk_id": disk }))
    }

    fn ends(&self, millis: i64, mega: i64) -> (f64, f64, f64) {
        let body = json!({ "bytes_transferred": mega * 1_000_000, "disk_id": "a", "status": "Completed" });
        self.update(millis, &body)
    }

    fn update(&self, millis: i64, body: &serde_json::Value) -> (f64, f64, f64) {
        let mut body = body.clone();
        body["stage"] = json!("Transfer");
        self.register.update("job-1", &update(&body.to_string()), self.after(millis)).expect("taken");
        self.speeds(millis)
    }

    fn speeds(&self, millis: i64) -> (f64, f64, f64) {
        let throughput = self.register.view("job-1", self.after(millis)).expect("there").throughput;
        (throughput.current_mbps, throughput.average_mbps, throughput.peak_mbps)
    }
}

#[test]
fn what_a_job_has_when_it_is_first_told_of_is_not_speed() {
    let told = Told::new();
    assert_eq!(told.says(3, 900), (0.0, 0.0, 0.0), "a resumed copy");
    assert_eq!(told.says(2003, 1100).0, 100.0);
    assert_eq!(told.says(4000, 1100), (0.0, 50.0, 100.0), "of the time since it was registered");
    // The second disk of the same job, and an engine that was started again: it resumes what was moved unheard.
    assert_eq!(told.says_of("b", 5000, 900), (0.0, 40.0, 100.0));
    told.registered(7000);
    assert_eq!(told.says(8000, 5100), (0.0, 25.0, 100.0));
    assert_eq!(told.says_of("b", 10_000, 4900), (0.0, 20.0, 100.0));
    assert_eq!(told.says(12_500, 5300), (80.0, 32.0, 100.0));
    // Begun anew after its end, nothing is left of it.
    told.ends(13_000, 5300);
    told.registered(14_000);
    assert_eq!(told.says(14_001, 5300), (0.0, 0.0, 0.0));
}

#[test]
fn what_is_said_within_a_second_is_one_sample() {
    let told = Told::new();
    told.says(0, 0);
    for millis in 1..1000 {
        let (current, average, peak) = told.says(millis, if millis < 500 { 64 } else { 128 });
        assert_eq!(current, 0.0, "{millis}");
        assert!(average <= 128.0 && peak <= 128.0, "{millis}: {average} {peak}");
    }
    assert_eq!(told.says(1000, 200), (200.0, 200.0, 200.0));
    assert_eq!(told.says(1001, 264).0, 200.0, "as it was");
    assert_eq!(told.says(2000, 300).0, 100.0);
}

#[test]
fn a_job_shorter_than_a_second_has_an_average_of_all_its_time() {
    let told = Told::new();
    told.says(0, 10);
    told.says(250, 110);
    assert_eq!(told.ends(500, 210), (0.0, 400.0, 400.0));
    assert_eq!(told.speeds(60_000), (0.0, 400.0, 400.0), "time stands still for it");
    // Microseconds are no time at all.
    let told = Told::new();
    told.says(0, 0);
    assert_eq!(told.ends(0, 100), (0.0, 1000.0, 1000.0));
    // The process's own end without an update, too.
    let told = Told::new();
    told.says(0, 0);
    told.says(1, 100);
    told.register.complete("job-1", told.after(400)).expect("its own");
    assert_eq!(told.speeds(400), (0.0, 250.0, 250.0));
}

#[test]
fn the_peak_never_falls_nor_is_below_the_average() {
    let told = Told::new();
    told.says(0, 0);
    let mut highest = 0.0;
    for (millis, mega) in [(200, 50), (700, 100), (1500, 100), (1600, 400), (3000, 500), (3001, 900)] {
        for (current, average, peak) in [told.says(millis, mega), told.speeds(millis + 90)] {
            assert!(peak >= highest && peak >= average && peak >= current, "{millis}: {peak} {highest}");
            highest = peak;
        }
    }
    assert_eq!(told.speeds(86_000_000).2, highest, "while nothing is heard");
    assert_eq!(told.ends(86_000_000, 900).2, highest);
}

#[test]
fn an_average_that_was_the_highest_stays_the_peak() {
    let told = Told::new();
    told.says(0, 0);
    // The engine measures less than comes.
    let body = json!({ "bytes_transferred": 500_000_000, "throughput_bps": 1_000_000, "disk_id": "a" });
    assert_eq!(told.update(5000, &body), (1.0, 100.0, 100.0));
    assert_eq!(told.speeds(50_000), (1.0, 10.0, 100.0), "nothing was heard since");
    assert_eq!(told.says(100_000, 500), (0.0, 5.0, 100.0));
}

#[test]
fn what_the_engine_measures_is_the_current_speed_and_counts_for_the_peak() {
    let told = Told::new();
    let measured = |millis: i64, bps: i64| {
        told.update(millis, &json!({ "bytes_transferred": 900_000_000, "throughput_bps": bps }))
    };
    assert_eq!(measured(1, 104_857_600), (104.8576, 0.0, 104.8576), "the first word, too");
    assert_eq!(measured(2, 50_000_000), (50.0, 0.0, 104.8576));
    assert_eq!(
        told.says(1002, 910),
        (10.0, 10.0 / 1.002, 104.8576),
        "from there on as it follows from the bytes"
    );
}
