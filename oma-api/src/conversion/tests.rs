//! The whole of it. Here against pretended programs, which say what the real ones said; `slow` and
//! `nightly` are against the real ones, where somebody asks for them.

mod nightly;
mod pretended;
mod slow;

use super::*;
use pretended::{Pretended, WITHOUT_DRIVERS};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

fn stop() -> CancellationToken {
    CancellationToken::new()
}

#[tokio::test]
async fn a_guest_that_is_ready_is_left_alone() {
    let pretended = Pretended::windows("touch $D/written");
    pretended.set("ready");
    let outcome = pretended.convert(&stop()).await.expect("it is looked at");
    let Outcome::NotNeeded(guest) = outcome else { panic!("{outcome:?}") };
    assert_eq!((guest.system, guest.name.as_str()), (System::Windows, "Windows Server 2019 Standard"));
    assert_eq!(guest.boot_disk, Some(0));
    assert!(!pretended.has("written") && !pretended.log().exists());
}

#[tokio::test]
async fn one_that_is_not_is_converted_and_looked_at_again() {
    let pretended = Pretended::windows("echo 'Finishing off'; touch $D/ready");
    let outcome = pretended.convert(&stop()).await.expect("it is converted");
    let Outcome::Converted { before, after, log_tail } = outcome else { panic!("{outcome:?}") };
    assert!(matches!(before.virtio, Virtio::Missing { .. }), "{before:?}");
    assert!(matches!(after.virtio, Virtio::Ready { .. }), "{after:?}");
    assert_eq!(log_tail, ["Finishing off"]);
    let arguments = std::fs::read_to_string(pretended.path("arguments")).expect("it was run");
    assert!(arguments.contains("--root /dev/sda1 -i libvirtxml "), "{arguments}");
    let domain = std::fs::read_to_string(pretended.path("domain")).expect("it was given one");
    assert_eq!(domain.matches("<disk ").count(), 2, "all disks at once: {domain}");
}

#[tokio::test]
async fn an_unknown_system_is_not_touched() {
    let pretended = Pretended::windows("touch $D/written");
    std::fs::write(pretended.path("inspect-os"), "").expect("a file");
    let outcome = pretended.convert(&stop()).await.expect("it is looked at");
    let Outcome::NotRecognised(guest) = outcome else { panic!("{outcome:?}") };
    assert_eq!(guest.system, System::Unrecognised);
    assert_eq!(guest.virtio.why(), "no operating system is found on the disks");
    assert!(!pretended.has("written"));
}

#[tokio::test]
async fn a_good_end_without_drivers_is_a_failure() {
    let pretended = Pretended::windows(&format!("echo 'the last line'; {WITHOUT_DRIVERS}"));
    let error = pretended.convert(&stop()).await.expect_err("there are no drivers");
    assert!(matches!(error, Error::NoDrivers { .. }), "{error:?}");
    assert_eq!((error.code(), error.log_tail()), ("VIRTIO_FAILED", &["the last line".to_owned()][..]));
}

#[tokio::test]
async fn a_good_end_that_changed_nothing_is_a_failure() {
    let pretended = Pretended::windows("echo 'Finishing off'");
    let error = pretended.convert(&stop()).await.expect_err("it would not boot");
    assert!(matches!(error, Error::StillMissing { .. }), "{error:?}");
    assert!(error.to_string().contains("there is no service viostor"), "{error}");
    assert_eq!((error.code(), error.log_tail()), ("VIRTIO_FAILED", &["Finishing off".to_owned()][..]));
}

#[tokio::test]
async fn a_log_is_kept_whole_and_only_its_new_end_is_told() {
    let pretended = Pretended::windows("seq 100; echo oops >&2; exit 3");
    std::fs::write(pretended.log(), "of another run\n").expect("a file");
    let error = pretended.convert(&stop()).await.expect_err("it fails");
    assert!(error.to_string().contains("(exit code 3): oops"), "{error}");
    assert_eq!(error.log_tail().len(), 20);
    let log = std::fs::read_to_string(pretended.log()).expect("it is there");
    assert!(log.starts_with("of another run\n1\n2\n") && log.ends_with("100\noops\n"));
    let silent = Pretended::windows("exit 1");
    std::fs::write(silent.log(), "of another run\n").expect("a file");
    let error = silent.convert(&stop()).await.expect_err("it fails");
    assert!(error.log_tail().is_empty(), "{error:?}");
}

#[tokio::test]
async fn a_hint_that_was_wrong_is_found_before_anything_is_written() {
    let pretended = Pretended::windows("touch $D/written");
    let mut converter = pretended.converter();
    converter.settings.virtio_win = Some(pretended.path("nothing"));
    let error = converter.convert(&pretended.disks(), &pretended.log(), &stop()).await;
    let error = error.expect_err("there are no drivers here");
    assert_eq!(error.code(), "VIRTIO_PREREQUISITE");
    assert!(!pretended.has("written"));
}

#[tokio::test]
async fn stopped_while_it_looks_nothing_was_written() {
    let pretended = Pretended::windows("touch $D/written");
    pretended.set("hang");
    let stop = stop();
    let (ended, ()) = tokio::join!(pretended.convert(&stop), async {
        pretended.appears("hangs").await;
        stop.cancel();
    });
    let error = ended.expect_err("stopped");
    assert!(matches!(error, Error::Stopped { wrote: Wrote::Nothing, .. }), "{error:?}");
    assert!(pretended.scratch_is_clean());
}

#[tokio::test]
async fn stopped_while_it_writes_the_clone_is_called_damaged() {
    let pretended = Pretended::windows("echo begun; touch $D/begun; sleep 600");
    let stop = stop();
    let (ended, ()) = tokio::join!(pretended.convert(&stop), async {
        pretended.appears("begun").await;
        stop.cancel();
    });
    let error = ended.expect_err("stopped");
    assert!(matches!(error, Error::Stopped { wrote: Wrote::Perhaps, .. }), "{error:?}");
    assert_eq!(error.log_tail(), ["begun"]);
    assert!(pretended.scratch_is_clean());
}

#[tokio::test]
async fn what_cannot_be_looked_at_after_it_is_not_called_unwritten() {
    let pretended = Pretended::windows("echo end; touch $D/broken");
    let error = pretended.convert(&stop()).await.expect_err("nobody knows");
    assert!(matches!(error, Error::StillMissing { .. }), "{error:?}");
    assert!(error.to_string().contains("cannot be looked at any more"), "{error}");
    assert_eq!(error.log_tail(), ["end"]);
}

#[tokio::test]
async fn stopped_in_the_second_look_too() {
    let pretended = Pretended::windows("touch $D/hang");
    let stop = stop();
    let (ended, ()) = tokio::join!(pretended.convert(&stop), async {
        pretended.appears("hangs").await;
        stop.cancel();
    });
    assert!(matches!(ended, Err(Error::Stopped { wrote: Wrote::Perhaps, .. })), "{ended:?}");
}

#[tokio::test]
async fn a_deadline_ends_it_as_well() {
    let pretended = Pretended::windows("sleep 600");
    let mut converter = pretended.converter();
    converter.settings.deadline = shared::config::Period(Duration::from_secs(2));
    let error = converter.convert(&pretended.disks(), &pretended.log(), &stop()).await;
    let error = error.expect_err("it is too slow");
    assert!(matches!(error, Error::TooLong { wrote: Wrote::Perhaps, .. }), "{error:?}");
    assert_eq!(error.code(), "VIRTIO_FAILED");
}

#[tokio::test]
async fn disks_that_cannot_be_used_are_named() {
    let pretended = Pretended::windows("true");
    let converter = pretended.converter();
    let missing = [Disk { path: "/nowhere/disk.raw".into() }];
    let error = converter.look(&missing, &stop()).await.expect_err("it is nowhere");
    assert_eq!(error.to_string(), "the disk /nowhere/disk.raw cannot be used");
    assert!(matches!(converter.look(&[], &stop()).await, Err(Error::NoDisks)));
}

#[tokio::test]
async fn guestfish_that_does_not_start_says_why() {
    let pretended = Pretended::windows("true");
    pretended.set("broken");
    let error = pretended.converter().look(&pretended.disks(), &stop()).await.expect_err("it is broken");
    let source = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
    assert!(source.contains("guestfs_launch failed"), "{error:?}");
}

#[test]
fn an_end_is_judged_by_code_and_words() {
    let converter = Converter::new(Settings::default());
    let judge = |status: i32, report: report::Report| {
        converter.judge(ExitStatus::from_raw(status), report, "Windows 10", &["the end".to_owned()])
    };
    let report = report::Report::default;
    judge(0, report()).expect("a good end");
    let hibernated =
        "unable to mount the disk image for writing. Windows Hibernation or Fast Restart is in use";
    let error = judge(1 << 8, report::Report { error: Some(hibernated.to_owned()), ..report() });
    let error = error.expect_err("it failed").to_string();
    assert!(error.starts_with("Windows 10 could not be converted (exit code 1): unable to mount"), "{error}");
    let error = judge(9, report()).expect_err("it was killed").to_string();
    assert!(error.contains("(killed by signal 9): the end"), "{error}");
}
