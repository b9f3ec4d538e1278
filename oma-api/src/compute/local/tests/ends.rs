//! How machines end.

use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::time::Instant;

use super::super::super::{Compute, Error, Held, State, Stop};
use super::super::folder::Folder;
use super::super::launch::{Launched, launch};
use super::super::process::Process;
use super::host::{Guest, HELLO, Host, plain};
use crate::storage::Storage;

fn signal(process: u32, signal: Signal) {
    let pid = i32::try_from(process).ok().and_then(Pid::from_raw).expect("a process id");
    kill_process(pid, signal).expect("signalled");
}

#[tokio::test]
async fn a_guest_that_obeys_is_not_cut_off() {
    let host = Host::new().await;
    let machine = host.up("m", Guest::Obeys).await;
    let began = Instant::now();
    let patience = Duration::from_secs(300);
    host.compute.stop(&machine, Stop::Graceful { patience }).await.expect("stopped");
    assert!(began.elapsed() < Duration::from_secs(60), "it did not wait for its patience to be over");
    let found = host.compute.find(&machine).await.expect("looked").expect("there");
    assert_eq!(found.state, State::Stopped);
    host.compute.stop(&machine, Stop::Graceful { patience }).await.expect("stopped already");
    host.compute.remove(&machine).await.expect("removed");
}

#[tokio::test]
async fn a_guest_that_does_not_is() {
    let host = Host::new().await;
    let machine = host.up("m", Guest::Deaf).await;
    let began = Instant::now();
    let patience = Duration::from_millis(700);
    host.compute.stop(&machine, Stop::Graceful { patience }).await.expect("stopped");
    assert!(began.elapsed() >= patience, "it was given its time");
    assert_eq!(host.process(&machine), None);
    assert!(!host.storage.in_use(&super::host::volume("m")).await.expect("asked"));

    // Who cuts the power does not wait for who pressed the button.
    host.compute.start(&machine).await.expect("started");
    let patience = Duration::from_secs(300);
    let button = host.compute.stop(&machine, Stop::Graceful { patience });
    let cut = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        host.compute.stop(&machine, Stop::Now).await
    };
    let began = Instant::now();
    let both = tokio::join!(button, cut);
    assert!(matches!(both, (Ok(()), Ok(()))), "{both:?}");
    assert!(began.elapsed() < Duration::from_secs(60));
}

#[tokio::test]
async fn a_process_that_hangs_is_unknown_and_is_killed() {
    let host = Host::new().await;
    let machine = host.up("m", Guest::Deaf).await;
    let process = host.process(&machine).expect("it runs");
    signal(process, Signal::STOP);
    let found = host.compute.find(&machine).await.expect("looked").expect("there");
    assert_eq!(found.state, State::Unknown);
    assert!(matches!(host.compute.remove(&machine).await, Err(Error::Running { .. })));
    host.compute.stop(&machine, Stop::Now).await.expect("killed");
    assert_eq!(host.process(&machine), None);
}

#[tokio::test]
async fn one_that_was_killed_is_stopped_and_starts_again() {
    let host = Host::new().await;
    let machine = host.up("m", Guest::Deaf).await;
    let process = host.process(&machine).expect("it runs");
    signal(process, Signal::KILL);
    let deadline = Instant::now() + Duration::from_secs(30);
    while host.compute.find(&machine).await.expect("looked").expect("there").state != State::Stopped {
        assert!(Instant::now() < deadline, "its end was not seen");
    }
    assert!(host.folder(&machine).join("pid").exists(), "its number is still there, and means nothing");
    assert_eq!(host.compute.screenshot(&machine).await.expect("asked"), None);
    host.compute.stop(&machine, Stop::Now).await.expect("stopped already");
    host.compute.start(&machine).await.expect("started again");
    host.says(&machine, &format!("{HELLO}{HELLO}")).await;
}

#[tokio::test]
async fn a_guest_that_is_held_still_does_not_count_as_running() {
    let host = Host::new().await;
    let machine = host.up("m", Guest::Deaf).await;
    super::super::monitor::ask(&host.folder(&machine), "stop", serde_json::json!({})).await.expect("held");
    assert_eq!(host.compute.find(&machine).await.expect("looked").expect("there").state, State::Unknown);
    let stuck = host.compute.start(&machine).await.expect_err("it does not run");
    assert!(matches!(&stuck, Error::Stuck { status, .. } if status == "paused"), "{stuck}");
    host.cut(&machine).await;
}

#[tokio::test]
async fn a_start_that_fails_says_why_in_qemu_s_words() {
    let host = Host::new().await;
    let machine = host.machine("m", &plain(), Guest::Deaf).await;
    let folder = Folder { path: host.folder(&machine) };
    let qemu = std::path::Path::new("qemu-system-x86_64");
    let wrong = ["-daemonize", "-pidfile", "pid", "-display", "none", "-machine", "no-such-board"];
    let ended = launch(&machine, &folder, qemu, wrong.map(Into::into).into()).await.expect("tried");
    assert!(matches!(&ended, Launched::Ended(why) if why.contains("unsupported machine type")), "{ended:?}");
    assert_eq!(host.compute.find(&machine).await.expect("looked").expect("there").state, State::Stopped);

    // A volume that went away under it.
    host.storage.delete(&super::host::volume("m")).await.expect("deleted");
    let refused = host.compute.start(&machine).await.expect_err("no disk");
    assert!(matches!(refused, Error::Storage(crate::storage::Error::NoVolume { .. })), "{refused}");
}

#[tokio::test]
async fn no_second_qemu_even_if_nobody_looked() {
    let host = Host::new().await;
    let machine = host.up("m", Guest::Deaf).await;
    let process = host.process(&machine);
    let folder = Folder { path: host.folder(&machine) };
    let qemu = std::path::Path::new("qemu-system-x86_64");
    let second: Vec<_> = [
        "-daemonize",
        "-pidfile",
        "pid",
        "-nodefaults",
        "-display",
        "none",
        "-qmp",
        "unix:qmp.sock,server=on,wait=off",
    ]
    .map(Into::into)
    .into();
    let ended = launch(&machine, &folder, qemu, second.clone()).await.expect("tried");
    assert!(matches!(ended, Launched::RunsAlready), "{ended:?}");
    // It took nothing from the first one.
    assert_eq!(host.compute.find(&machine).await.expect("looked").expect("there").state, State::Running);

    // Even with a lock of its own it does not get the disk.
    let mut other: Vec<std::ffi::OsString> = second;
    other[2] = "other".into();
    other.truncate(6);
    let path = host.storage.path(&super::host::volume("m")).await.expect("there");
    let disk = format!("driver=file,node-name=f,locking=on,filename={}", path.display());
    other.extend(["-blockdev".into(), disk.into(), "-device".into(), "virtio-blk-pci,drive=f".into()]);
    let ended = launch(&machine, &folder, qemu, other).await.expect("tried");
    assert!(matches!(&ended, Launched::Locked(image) if *image == path.display().to_string()), "{ended:?}");
    assert_eq!(host.process(&machine), process);
}

/// Ends it when the test fails, too.
struct Ended(Process);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
    }
}

#[tokio::test]
async fn one_whose_folder_was_removed_under_it_is_in_the_inventory_and_is_ended() {
    let host = Host::new().await;
    let machine = host.up("m", Guest::Deaf).await;
    let other = host.up("other", Guest::Deaf).await;
    let process = Process::of(&host.folder(&machine).join("pid")).expect("asked").expect("it runs");
    let process = Ended(process);
    std::fs::remove_dir_all(host.folder(&machine)).expect("removed");
    assert_eq!(host.compute.find(&machine).await.expect("looked"), None);
    let held = |name: &crate::compute::MachineName| Held {
        name: name.clone(),
        disks: vec![super::host::volume(name.as_str())],
        state: State::Running,
    };
    assert_eq!(host.compute.inventory().await.expect("listed"), [held(&machine), held(&other)]);
    // Another root's machines are its own.
    let elsewhere = Host::new().await;
    assert_eq!(elsewhere.compute.inventory().await.expect("listed"), []);
    elsewhere.compute.stop(&machine, Stop::Now).await.expect("nothing of its own");
    assert!(!process.0.ended(std::time::Duration::ZERO).await.expect("asked"));

    // Even one that does not hear what it is asked.
    signal(process.0.id(), Signal::STOP);
    host.compute.stop(&machine, Stop::Now).await.expect("ended");
    assert!(process.0.ended(std::time::Duration::ZERO).await.expect("asked"));
    host.compute.remove(&machine).await.expect("nothing is left");
    assert_eq!(host.compute.inventory().await.expect("listed"), [held(&other)]);
    assert!(!host.storage.in_use(&super::host::volume("m")).await.expect("asked"));
}
