//! Against the real virt-v2v, with guests that are made here: minutes, and packages that no other test needs.
//! `make test-slow` installs them and runs these, one after the other.

use super::super::*;
use integration_tests::convertible::windows;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Where the appliance is kept, from run to run: in the build's folder, beside the tests' programs.
pub(super) fn scratch() -> PathBuf {
    let program = std::env::current_exe().expect("this program has a path");
    let target = program.parent().and_then(Path::parent).expect("it is in target/debug/deps");
    let scratch = target.join("slow-tests");
    std::fs::create_dir_all(&scratch).expect("our own folder");
    scratch
}

/// A folder with a guest's disk, a log and drivers.
pub(super) struct Place(tempfile::TempDir);

impl Place {
    pub(super) fn new() -> Self {
        Self(tempfile::tempdir_in(scratch()).expect("a folder"))
    }

    /// With the phony Windows, and drivers for this version of it.
    fn windows(drivers: &str) -> Self {
        static MADE: OnceLock<Vec<u8>> = OnceLock::new();
        let place = Self::new();
        let disk = MADE.get_or_init(|| {
            let made = Place::new();
            let began = Instant::now();
            windows::make(&made.path("a.raw"), &scratch()).expect("a Windows of sorts");
            say("the phony Windows is made", began);
            // Nearly all of it is zeros.
            let whole = std::fs::read(made.path("a.raw")).expect("it was made");
            zstd::encode_all(whole.as_slice(), 1).expect("memory")
        });
        let whole = zstd::decode_all(disk.as_slice()).expect("it was encoded");
        std::fs::write(place.path("a.raw"), whole).expect("room");
        windows::drivers(&place.path("vw"), drivers).expect("room");
        place
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(super) fn converter(&self) -> Converter {
        Converter::new(Settings {
            virtio_win: Some(self.path("vw")),
            virt_tools: Some(self.path("vw")),
            scratch: scratch(),
            ..Settings::default()
        })
    }

    /// The guest's, and an empty one.
    pub(super) fn disks(&self) -> Vec<Disk> {
        let empty = std::fs::File::create(self.path("b.raw")).and_then(|file| file.set_len(64 << 20));
        empty.expect("room");
        ["a.raw", "b.raw"].into_iter().map(|name| Disk { path: self.path(name) }).collect()
    }

    pub(super) fn hash(&self) -> blake3::Hash {
        let mut hash = blake3::Hasher::new();
        let mut disk = std::fs::File::open(self.path("a.raw")).expect("it is there");
        std::io::copy(&mut disk, &mut hash).expect("it can be read");
        hash.finalize()
    }

    pub(super) async fn convert(&self, stop: &CancellationToken) -> Result<Outcome, Error> {
        let began = Instant::now();
        let outcome = self.converter().convert(&self.disks(), &self.path("log"), stop).await;
        say(&format!("{outcome:?}"), began);
        outcome
    }
}

/// On the test's output, for whoever wonders where the minutes went.
pub(super) fn say(what: &str, began: Instant) {
    eprintln!("{:6.1} s  {what}", began.elapsed().as_secs_f64());
}

#[tokio::test]
#[ignore = "slow: make test-slow"]
async fn windows_gains_its_drivers_and_then_needs_nothing() {
    let place = Place::windows("2k19");
    place.converter().check(Some("windows2019srv_64Guest")).await.expect("all is installed");
    let outcome = place.convert(&CancellationToken::new()).await.expect("it is converted");
    let Outcome::Converted { before, after, log_tail } = outcome else { panic!("{outcome:?}") };
    assert_eq!((before.system, before.boot_disk), (System::Windows, Some(0)));
    assert_eq!(before.name, "Windows Server 2019 Standard");
    assert!(matches!(before.virtio, Virtio::Missing { .. }), "{}", before.virtio);
    assert!(matches!(after.virtio, Virtio::Ready { .. }), "{}", after.virtio);
    assert!(log_tail.iter().any(|line| line.contains("Finishing off")), "{log_tail:?}");
    // Said by a program that is not ours, either.
    let service = windows::service(&place.path("a.raw"), "viostor", &scratch()).expect("it is there");
    assert!(service.contains("\"Start\"=dword:00000000"), "{service}");

    let hash = place.hash();
    let again = place.convert(&CancellationToken::new()).await.expect("it is looked at");
    assert!(matches!(again, Outcome::NotNeeded(_)), "{again:?}");
    assert_eq!(place.hash(), hash, "nothing was written");
}

#[tokio::test]
#[ignore = "slow: make test-slow"]
async fn windows_without_drivers_for_it_fails_though_the_tool_ends_well() {
    let place = Place::windows("w7");
    let error = place.convert(&CancellationToken::new()).await.expect_err("there are none");
    assert!(matches!(error, Error::NoDrivers { .. }), "{error:?}");
    assert_eq!(error.code(), "VIRTIO_FAILED");
    assert!(error.log_tail().iter().any(|line| line.contains("no virtio drivers available")), "{error:?}");
    let log = std::fs::read_to_string(place.path("log")).expect("it is kept");
    assert!(log.contains("Setting up the source"), "{log}");
}

#[tokio::test]
#[ignore = "slow: make test-slow"]
async fn a_disk_without_a_system_is_not_touched() {
    let place = Place::new();
    let mut noise = vec![0; 32 << 20];
    rand::Rng::fill(&mut rand::rng(), noise.as_mut_slice());
    std::fs::write(place.path("a.raw"), &noise).expect("room");
    let hash = place.hash();
    let outcome = place.convert(&CancellationToken::new()).await.expect("it is looked at");
    let Outcome::NotRecognised(guest) = outcome else { panic!("{outcome:?}") };
    assert_eq!((guest.system, guest.boot_disk), (System::Unrecognised, None));
    assert_eq!(place.hash(), hash, "nothing was written");
}

/// Processes, but this one, that were given a path below the scratch folder.
fn running() -> Vec<String> {
    let scratch = scratch().display().to_string();
    let own = std::process::id().to_string();
    let entries = std::fs::read_dir("/proc").expect("this is Linux").flatten();
    let lines = entries.filter(|entry| *entry.file_name() != *own).filter_map(|entry| {
        let line = std::fs::read(entry.path().join("cmdline")).ok()?;
        Some(String::from_utf8_lossy(&line).replace('\0', " "))
    });
    lines.filter(|line| line.contains(&scratch)).collect()
}

#[tokio::test]
#[ignore = "slow: make test-slow"]
async fn stopped_in_the_middle_no_process_is_left() {
    let place = Place::windows("2k19");
    let stop = CancellationToken::new();
    let log = place.path("log");
    let (ended, was_running) = tokio::join!(place.convert(&stop), async {
        while !std::fs::read_to_string(&log).unwrap_or_default().contains("Inspecting the source") {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let was_running = running();
        stop.cancel();
        was_running
    });
    for program in ["virt-v2v-in-place ", "qemu-system-", "nbdkit "] {
        assert!(was_running.iter().any(|line| line.contains(program)), "{program} in {was_running:#?}");
    }
    let error = ended.expect_err("it was stopped");
    assert!(matches!(error, Error::Stopped { wrote: Wrote::Perhaps, .. }), "{error:?}");
    assert_eq!(running(), Vec::<String>::new());
}
