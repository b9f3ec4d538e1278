use super::*;
use proptest::prelude::*;

fn at(text: &str) -> Timestamp {
    text.parse().expect("a time")
}

fn cron(expression: &str, zone: &str) -> Spec {
    Spec { cron: Some(expression.to_owned()), time_zone: zone.to_owned(), ..Spec::default() }
}

fn every(seconds: u64) -> Spec {
    Spec { every_seconds: Some(seconds), ..Spec::default() }
}

fn times(spec: &Spec, from: &str, count: usize) -> Vec<String> {
    let schedule = Schedule::parse(spec).expect("a schedule");
    schedule.preview(at(from), at(from), count).into_iter().map(|t| t.to_string()).collect()
}

#[test]
fn an_interval_keeps_its_minutes_and_a_late_start_moves_them() {
    assert_eq!(
        times(&every(900), "2026-11-21T10:00:00Z", 2),
        ["2026-11-21T10:15:00Z", "2026-11-21T10:30:00Z"]
    );
    let schedule = Schedule::parse(&every(900)).expect("a schedule");
    let anchor = at("2026-11-21T10:00:00Z");
    assert!(!schedule.starts(anchor, at("2026-11-21T10:14:59Z")));
    let in_time = at("2026-11-21T10:15:02Z");
    assert!(schedule.starts(anchor, in_time));
    assert_eq!(schedule.dealt_with(anchor, in_time), at("2026-11-21T10:15:00Z"));
    let late = at("2026-11-21T10:29:59Z");
    assert_eq!(schedule.dealt_with(anchor, late), late);
}

/// 2027-03-28: 02:00 CET → 03:00 CEST. 2026-10-25: 03:00 CEST → 02:00 CET.
#[test]
fn a_cron_expression_is_right_over_both_changes_of_the_clock() {
    let nightly = cron("30 2 * * *", "Europe/Berlin");
    assert_eq!(
        times(&nightly, "2027-03-27T00:00:00Z", 3),
        // The time that there is not comes right after the gap, and not twice, and not never.
        ["2027-03-27T01:30:00Z", "2027-03-28T01:00:00Z", "2027-03-29T00:30:00Z"]
    );
    assert_eq!(
        times(&nightly, "2026-10-24T00:00:00Z", 3),
        ["2026-10-24T00:30:00Z", "2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]
    );
    // By the time that passes: every half an hour, gap and second hour included.
    let halves = cron("*/30 * * * *", "Europe/Berlin");
    for from in ["2027-03-28T00:10:00Z", "2026-10-24T23:40:00Z"] {
        let schedule = Schedule::parse(&halves).expect("a schedule");
        let found = schedule.preview(at(from), at(from), 8);
        for pair in found.windows(2) {
            assert_eq!(pair[1].duration_since(pair[0]).as_mins(), 30, "{found:?}");
        }
    }
    assert_eq!(
        times(&cron("0 12 * * *", "Europe/Berlin"), "2027-03-27T12:00:00Z", 2),
        ["2027-03-28T10:00:00Z", "2027-03-29T10:00:00Z"]
    );
}

#[test]
fn a_window_is_in_local_time_and_may_cross_midnight() {
    let blackout = |text: &str| {
        let spec =
            Spec { blackout: vec![text.to_owned()], time_zone: "Europe/Berlin".to_owned(), ..every(60) };
        Schedule::parse(&spec).expect("a schedule")
    };
    let end = |text: &str, now: &str| blackout(text).blackout_end(at(now)).map(|t| t.to_string());
    // 2026-11-20 is a Friday; Berlin is an hour ahead.
    assert_eq!(end("mon-fri 08:00-18:00", "2026-11-20T07:00:00Z").as_deref(), Some("2026-11-20T17:00:00Z"));
    assert_eq!(end("mon-fri 08:00-18:00", "2026-11-20T06:59:59Z"), None);
    assert_eq!(end("mon-fri 08:00-18:00", "2026-11-20T17:00:00Z"), None);
    assert_eq!(end("mon-fri 08:00-18:00", "2026-11-21T09:00:00Z"), None);
    // The night of Friday, also where it is Saturday; that of Thursday does not reach into it.
    assert_eq!(end("fri 22:00-06:00", "2026-11-21T03:00:00Z").as_deref(), Some("2026-11-21T05:00:00Z"));
    assert_eq!(end("fri 22:00-06:00", "2026-11-20T03:00:00Z"), None);
    assert_eq!(end("fri 22:00-06:00", "2026-11-20T21:00:00Z").as_deref(), Some("2026-11-21T05:00:00Z"));
    // A zone of its own; names in any case; a range over the end of the week; a whole day.
    assert_eq!(
        end("Fri 08:00-09:00 Asia/Tokyo", "2026-11-19T23:30:00Z").as_deref(),
        Some("2026-11-20T00:00:00Z")
    );
    assert_eq!(end("fri-mon 10:00-10:00", "2026-11-23T10:00:00Z").as_deref(), Some("2026-11-24T09:00:00Z"));
    assert_eq!(end("sat 00:00-24:00", "2026-11-21T12:00:00Z").as_deref(), Some("2026-11-21T23:00:00Z"));
    // Its end comes twice: it is over the second time. Its start is not there: it began before.
    assert_eq!(end("sun 01:00-02:30", "2026-10-25T01:15:00Z").as_deref(), Some("2026-10-25T01:30:00Z"));
    assert_eq!(end("sun 02:30-04:00", "2027-03-28T01:05:00Z").as_deref(), Some("2027-03-28T02:00:00Z"));
}

#[test]
fn what_a_blackout_keeps_away_is_made_up_once_behind_it() {
    let spec = Spec { blackout: vec!["daily 08:00-18:00".to_owned()], ..every(3600) };
    let schedule = Schedule::parse(&spec).expect("a schedule");
    let anchor = at("2026-11-20T07:30:00Z");
    assert!(!schedule.starts(anchor, at("2026-11-20T12:00:00Z")));
    assert_eq!(schedule.next_run(anchor, at("2026-11-20T12:00:00Z")), Some(at("2026-11-20T18:00:00Z")));
    assert!(schedule.starts(anchor, at("2026-11-20T18:00:00Z")));
    let anchor = schedule.dealt_with(anchor, at("2026-11-20T18:00:00Z"));
    assert!(!schedule.starts(anchor, at("2026-11-20T18:30:00Z")));
}

/// From April, when Lord Howe sets its clock back, to October the two follow each other without a gap.
#[test]
fn windows_of_two_zones_may_leave_nothing_for_half_a_year() {
    let windows = ["daily 05:00-22:00 Europe/Berlin", "daily 05:30-13:30 Australia/Lord_Howe"];
    let spec = Spec { blackout: windows.map(str::to_owned).to_vec(), ..every(60) };
    let schedule = Schedule::parse(&spec).expect("there is room in winter");
    let anchor = at("2026-04-04T02:59:00Z");
    assert_eq!(schedule.next_due(anchor, anchor), Some(at("2026-10-04T02:30:00Z")));
    // A whole day, every day, is refused.
    let all_day = Spec { blackout: vec!["daily 05:00-05:00 Europe/Berlin".to_owned()], ..every(60) };
    assert!(matches!(Schedule::parse(&all_day), Err(Error::AlwaysBlackout)));
}

#[test]
fn the_rate_is_the_windows_own_and_the_migrations_outside() {
    let rate =
        |window: &str, rate_bytes_per_second| RateSpec { window: window.to_owned(), rate_bytes_per_second };
    let spec = Spec {
        bandwidth: vec![
            rate("mon-fri 08:00-18:00", 20 << 20),
            rate("fri 12:00-13:00", 1 << 20),
            rate("sat 00:00-24:00", 0),
        ],
        ..every(60)
    };
    let schedule = Schedule::parse(&spec).expect("a schedule");
    let at_hour = |text| schedule.rate_at(at(text), 50 << 20);
    assert_eq!(at_hour("2026-11-20T07:59:59Z"), 50 << 20);
    assert_eq!(at_hour("2026-11-20T08:00:00Z"), 20 << 20);
    assert_eq!(at_hour("2026-11-20T12:30:00Z"), 1 << 20);
    assert_eq!(at_hour("2026-11-21T12:30:00Z"), 0);
    let both = Spec {
        bandwidth: vec![rate("daily 00:00-24:00", 0), rate("daily 00:00-24:00", 1 << 20)],
        ..every(60)
    };
    assert_eq!(Schedule::parse(&both).expect("a schedule").rate_at(at("2026-11-20T12:30:00Z"), 7), 1 << 20);
}

#[test]
fn the_rpo_counts_from_the_source_snapshot() {
    let (now, minute) = (at("2026-11-20T12:00:00Z"), Duration::from_secs(60));
    let target = Some((minute, at("2026-11-20T11:58:00Z")));
    let taken = |text| rpo::state(target, Some(at(text)), now);
    assert!(!taken("2026-11-20T11:59:00Z").breached);
    assert!(taken("2026-11-20T11:58:59Z").breached);
    assert_eq!(taken("2026-11-20T12:30:00Z").age, Some(Duration::ZERO));
    let none = rpo::state(target, None, now);
    assert_eq!((none.age, none.breached), (None, true));
    assert!(!rpo::state(Some((minute, now)), None, now).breached);
    assert!(!rpo::state(None, None, now).breached);
}

#[test]
fn what_is_no_schedule_says_what_why_and_what_to_do() {
    let with = |change: fn(&mut Spec)| {
        let mut spec = every(900);
        change(&mut spec);
        let error = Schedule::parse(&spec).expect_err("none");
        (error.reason(), error.to_string())
    };
    type Change = fn(&mut Spec);
    let cases: &[(Change, &str, &str)] = &[
        (|s| s.every_seconds = Some(59), "INTERVAL_INVALID", "60 s"),
        (|s| s.every_seconds = Some(u64::MAX), "INTERVAL_INVALID", "a year"),
        (|s| s.cron = Some("0 1 * * *".to_owned()), "SCHEDULE_AMBIGUOUS", "one of them"),
        (|s| *s = cron("61 * * * *", ""), "CRON_INVALID", "minute hour"),
        (|s| *s = cron("* * * * * *", ""), "CRON_INVALID", "five fields"),
        (|s| *s = cron("", ""), "CRON_INVALID", "five fields"),
        (|s| *s = cron("ä ö ü ß €", ""), "CRON_INVALID", "five fields"),
        (|s| *s = cron("0 0 30 2 *", ""), "CRON_NEVER", "calendar"),
        (|s| s.time_zone = "Berlin".to_owned(), "TIME_ZONE_UNKNOWN", "Europe/Berlin"),
        (|s| s.time_zone = "../../etc/passwd".to_owned(), "TIME_ZONE_UNKNOWN", "IANA"),
        (|s| s.blackout = vec!["mon".to_owned()], "WINDOW_INVALID", "are missing"),
        (|s| s.blackout = vec!["someday 08:00-18:00".to_owned()], "WINDOW_INVALID", "days"),
        (|s| s.blackout = vec!["mon 8:00-18:00".to_owned()], "WINDOW_INVALID", "opens"),
        (|s| s.blackout = vec!["mon 08:00-24:01".to_owned()], "WINDOW_INVALID", "closes"),
        (|s| s.blackout = vec!["mon 08:00".to_owned()], "WINDOW_INVALID", "a to"),
        (|s| s.blackout = vec!["mon 08:00-18:00 Mars/Crater".to_owned()], "TIME_ZONE_UNKNOWN", "Mars"),
        (|s| s.blackout = vec!["mon 08:00-18:00 UTC x".to_owned()], "WINDOW_INVALID", "behind"),
        (|s| s.blackout = vec!["daily 00:00-24:00".to_owned()], "ALWAYS_BLACKOUT", "leave some"),
        (
            |s| {
                *s = Spec {
                    blackout: vec!["mon 08:00-18:00".to_owned()],
                    rpo_seconds: Some(60),
                    ..Spec::default()
                }
            },
            "BLACKOUT_OF_NOTHING",
            "too",
        ),
        (|s| s.rpo_seconds = Some(0), "RPO_INVALID", "60 s"),
        (
            |s| {
                s.bandwidth =
                    vec![RateSpec { window: "daily 01:00-02:00".to_owned(), rate_bytes_per_second: 1 }]
            },
            "RATE_TOO_LOW",
            "64 KiB",
        ),
        (|s| *s = Spec::default(), "SCHEDULE_EMPTY", "nothing"),
    ];
    for (change, reason, word) in cases {
        let (found, message) = with(*change);
        assert_eq!(found, *reason, "{message}");
        assert!(message.contains(word), "{message}");
    }
}

fn window() -> impl Strategy<Value = String> {
    let days = prop::sample::select(vec!["mon-fri", "sat,sun", "daily", "fri-mon", "wed"]);
    let zone = prop::sample::select(vec!["", " Europe/Berlin", " America/New_York", " Australia/Lord_Howe"]);
    (days, 0u8..24, 0u8..60, 1u8..18, zone).prop_map(|(days, hour, minute, length, zone)| {
        format!("{days} {hour:02}:{minute:02}-{:02}:{minute:02}{zone}", (hour + length) % 24)
    })
}

fn spec() -> impl Strategy<Value = Spec> {
    let trigger = prop_oneof![
        (60u64..200_000).prop_map(every),
        prop::sample::select(vec![
            "* * * * *",
            "*/7 * * * *",
            "30 2 * * *",
            "0 22 * * mon-fri",
            "15 3 L * *",
            "5 0-6/2 1 * *"
        ])
        .prop_map(|text| cron(text, "Europe/Berlin")),
    ];
    (trigger, prop::collection::vec(window(), 0..3)).prop_map(|(spec, blackout)| Spec { blackout, ..spec })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// From 2025 to 2031, so that the clock is set within many of the cases.
    #[test]
    fn the_next_time_is_later_and_in_no_blackout(spec in spec(), anchor in 1_735_689_600i64..1_925_000_000, passed in 0i64..3_000_000) {
        let Ok(schedule) = Schedule::parse(&spec) else { return Ok(()) };
        let anchor = Timestamp::from_second(anchor).expect("in range");
        let now = anchor + Duration::from_secs(passed.unsigned_abs());
        let next = schedule.next_due(anchor, now).expect("there is a next one");
        prop_assert!(next > now && !schedule.in_blackout(next), "{} after {now}", next);
        let run = schedule.next_run(anchor, now).expect("there is a next one");
        prop_assert!(run >= now && !schedule.in_blackout(run));
        prop_assert_eq!(schedule.starts(anchor, now), run == now && schedule.is_due(anchor, now));
        // And it does start there.
        prop_assert!(schedule.starts(anchor, run));
        let preview = schedule.preview(anchor, now, 5);
        prop_assert!(preview.windows(2).all(|pair| pair[0] < pair[1]), "{:?}", preview);
    }

    /// Whatever passed, one start deals with it: a second look in the same minute finds nothing to do.
    #[test]
    fn an_outage_of_days_is_made_up_by_one_start(spec in spec(), anchor in 1_735_689_600i64..1_925_000_000, passed in 0i64..3_000_000, again in 0u64..60) {
        let Ok(schedule) = Schedule::parse(&spec) else { return Ok(()) };
        let anchor = Timestamp::from_second(anchor).expect("in range");
        let now = anchor + Duration::from_secs(passed.unsigned_abs());
        let dealt_with = schedule.dealt_with(anchor, now);
        prop_assert!(dealt_with <= now);
        prop_assert!(!schedule.starts(dealt_with, now));
        let soon = now + Duration::from_secs(again);
        let same_minute = soon.as_second() / 60 == now.as_second() / 60;
        let interval_kept = spec.every_seconds.is_some_and(|every| again + 5 < every);
        if same_minute && (spec.cron.is_some() || interval_kept) {
            prop_assert!(!schedule.starts(dealt_with, soon));
        }
    }

    #[test]
    fn no_text_panics(text in ".{0,40}", days in "[a-z,-]{0,12} [0-9:-]{0,12}") {
        for text in [text, days] {
            let _ = Schedule::parse(&Spec { cron: Some(text.clone()), ..Spec::default() });
            let _ = Schedule::parse(&Spec { blackout: vec![text.clone()], time_zone: text, ..every(60) });
        }
    }
}
