//! Which disk an update is about, and what becomes of the percentage.

use super::*;

/// Of 42 949 672 960 bytes, as the document has it.
const WHOLE: i64 = 42_949_672_960;

fn said(done: i64, total: i64, disk: &str) -> Update {
    Update {
        stage: "Transfer".to_owned(),
        bytes_transferred: done,
        total_bytes: total,
        disk_id: disk.to_owned(),
        ..Update::default()
    }
}

#[test]
fn a_disk_that_is_named_now_and_then_is_one_disk() {
    let now = at("2026-11-21T10:00:00Z");
    for names in [["disk-2000", "", "disk-2000"], ["", "disk-2000", ""]] {
        let register = Register::default();
        let outside = register.outside();
        outside.register(DISK, &Registration::default(), now).expect("registered");
        let mut least = 0.0;
        for (name, done) in names.into_iter().zip([933_232_640, 933_232_640, 1_866_465_280]) {
            outside.update(DISK, &said(done, WHOLE, name), now).expect("taken");
            let view = register.view(DISK, now).expect("there");
            assert_eq!(
                (view.bytes_transferred, view.total_bytes),
                (done.unsigned_abs(), WHOLE.unsigned_abs()),
                "{names:?}"
            );
            assert!(view.percentage >= least, "{names:?}: {} after {least}", view.percentage);
            least = view.percentage;
        }
        assert_eq!(least, 2.0 * 2.172_851_562_5);
        // Its size is known, however it is called.
        let other = names[1];
        assert!(outside.update(DISK, &said(WHOLE + 1, 0, other), now).is_err(), "{names:?}");
    }
}

#[test]
fn two_disks_that_have_names_are_two() {
    let register = Register::default();
    let now = at("2026-11-21T10:00:00Z");
    register.register("job-1", &Registration::default(), now).expect("registered");
    for (disk, done) in [("", 10), ("a", 20), ("b", 5)] {
        register.update("job-1", &said(done, 50, disk), now).expect("taken");
    }
    let view = register.view("job-1", now).expect("there");
    assert_eq!((view.bytes_transferred, view.total_bytes), (25, 100));
}

#[test]
fn a_percentage_never_runs_backwards() {
    let register = Register::default();
    let now = at("2026-11-21T10:00:00Z");
    register.register("job-1", &Registration::default(), now).expect("registered");
    let percentage = || register.view("job-1", now).expect("there").percentage;
    // Another disk, a disk without a size, and a size that was too small at first.
    for (disk, done, total, reached) in [
        ("a", 30, 50, 60.0),
        ("b", 10, 50, 60.0),
        ("c", 0, 0, 60.0),
        ("c", 60, 100, 60.0),
        ("a", 30, 1000, 60.0),
        ("a", 1000, 1000, 100.0 * 1070.0 / 1150.0),
    ] {
        register.update("job-1", &said(done, total, disk), now).expect("taken");
        assert_eq!(percentage(), reached, "{disk} {done} of {total}");
    }
    register.fail("job-1", "the source went away", now).expect("its own");
    assert_eq!(percentage(), 100.0 * 1070.0 / 1150.0);
    register.register("job-1", &Registration::default(), now).expect("anew");
    assert_eq!(percentage(), 0.0);
}

/// As text: -0.0 equals 0.0.
#[test]
fn nothing_done_is_zero_without_a_sign() {
    let register = Register::default();
    let now = at("2026-11-21T10:00:00Z");
    for total_bytes in [0, WHOLE] {
        let id = format!("job-{total_bytes}");
        let about = Registration { total_bytes, ..Registration::default() };
        register.register(&id, &about, now).expect("registered");
        let text = || serde_json::to_string(&register.view(&id, now).expect("there")).expect("JSON");
        assert!(text().contains(r#""percentage":0.0,"#), "{}", text());
        register.update(&id, &Update { percent: -0.0, ..said(0, 0, "") }, now).expect("taken");
        assert!(text().contains(r#""percentage":0.0,"#) && !text().contains("-0.0"), "{}", text());
    }
}
