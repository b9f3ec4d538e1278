//! A host for one test: storage, machines, and a guest of one sector. Whatever the test does, no QEMU outlives it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use shared::vm::Mac;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::super::super::{Bus, Compute, Definition, Firmware, Isolation, MachineName, Nic, Stop};
use super::super::process::{Holder, Process, holder};
use super::super::{Accel, LocalCompute};
use crate::storage::{LocalStorage, Storage, VolumeId};

/// What the guest says first.
pub(super) const HELLO: &str = "hello from the boot sector\r\n";

/// The longest wait for anything a guest does.
const PATIENCE: Duration = Duration::from_secs(60);

/// 16-bit code of a guest that says [`HELLO`] on COM1 and gives back what is typed there. It switches itself off (ACPI)
/// when the power button is pressed, if it asked to be told (`BUTTON`): the registers are where SeaBIOS puts them on a q35.
const ECHO: [u8; 67] = [
    0xfa, 0x31, 0xc0, 0x8e, 0xd8, 0x8e, 0xd0, 0xbc, 0x00, 0x7c, // cli; ds = ss = 0; sp = 0x7c00
    0xfc, 0xba, 0x02, 0x06, 0xb8, 0x00, 0x01, 0xef, // PM1_EN (0x602) = power button
    0xbe, 0x43, 0x7c, // si = text
    0xac, 0x84, 0xc0, 0x74, 0x06, // print: lodsb; 0 ends
    0xba, 0xf8, 0x03, 0xee, 0xeb, 0xf5, // out to COM1; next
    0xfb, 0xf4, // idle: sti; hlt (until the timer ticks)
    0xba, 0x00, 0x06, 0xed, 0xf6, 0xc4, 0x01, 0x75,
    0x0f, // look: PM1_STS (0x600) says power button: off
    0xba, 0xfd, 0x03, 0xec, 0xa8, 0x01, 0x74, 0xed, // COM1 has nothing: idle
    0xba, 0xf8, 0x03, 0xec, 0xee, 0xeb, 0xe8, // echo; look
    0xba, 0x04, 0x06, 0xb8, 0x00, 0x20, 0xef, 0xeb, 0xf7, // off: PM1_CNT (0x604) = S5, sleep
];

/// Where [`ECHO`] asks to be told of the button: `out %ax, %dx`.
const BUTTON: usize = 17;

/// Whether the guest does what the power button says.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Guest {
    Obeys,
    Deaf,
}

fn sector(guest: Guest) -> [u8; 512] {
    let mut sector = [0; 512];
    sector[..ECHO.len()].copy_from_slice(&ECHO);
    sector[ECHO.len()..][..HELLO.len()].copy_from_slice(HELLO.as_bytes());
    if guest == Guest::Deaf {
        sector[BUTTON] = 0x90;
    }
    sector[510..].copy_from_slice(&[0x55, 0xaa]);
    sector
}

pub(super) fn name(text: &str) -> MachineName {
    MachineName::parse(text).expect("a good name")
}

pub(super) fn volume(text: &str) -> VolumeId {
    VolumeId::parse(text).expect("a good name")
}

/// A machine without a card.
pub(super) fn plain() -> Definition {
    Definition {
        uuid: Uuid::from_u128(0x0190_163d_8694_739b_aea5_966c_26f8_ad90),
        title: "web, 1".to_owned(),
        cpus: 1,
        memory_bytes: 64 << 20,
        firmware: Firmware::Bios,
        bus: Bus::VirtioBlk,
        nics: Vec::new(),
        guest_id: None,
    }
}

pub(super) fn card(last: u8, isolation: Isolation) -> Nic {
    let mac: Mac = format!("00:50:56:8a:01:{last:02x}").parse().expect("a card's address");
    Nic { mac, network: "somewhere, else".to_owned(), isolation }
}

pub(super) struct Host {
    pub(super) root: PathBuf,
    pub(super) storage: Arc<LocalStorage>,
    pub(super) compute: LocalCompute,
    _dir: tempfile::TempDir,
}

impl Host {
    pub(super) async fn new() -> Self {
        Self::below("").await
    }

    /// With its root this far down.
    pub(super) async fn below(path: &str) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let root = dir.path().join(path);
        let storage = Arc::new(LocalStorage::open(&dir.path().join("storage")).await.expect("storage"));
        let compute = LocalCompute::open(&root, storage.clone(), Accel::Tcg).await.expect("a host");
        Self { root, storage, compute, _dir: dir }
    }

    /// As after a restart of the control plane.
    pub(super) async fn again(&self) -> LocalCompute {
        LocalCompute::open(&self.root, self.storage.clone(), Accel::Tcg).await.expect("a host")
    }

    pub(super) fn machines(&self) -> PathBuf {
        self.root.join("machines")
    }

    pub(super) fn folder(&self, machine: &MachineName) -> PathBuf {
        self.machines().join(machine.as_str())
    }

    pub(super) async fn empty_volume(&self, id: &VolumeId) {
        self.storage.create(id, 1 << 20).await.expect("a volume");
    }

    pub(super) async fn bootable_volume(&self, id: &VolumeId, guest: Guest) {
        use std::os::unix::fs::FileExt;
        self.empty_volume(id).await;
        let path = self.storage.path(id).await.expect("it is there");
        let file = std::fs::File::options().write(true).open(path).expect("writable");
        file.write_all_at(&sector(guest), 0).expect("written");
    }

    /// A machine with one disk to boot from, not started.
    pub(super) async fn machine(&self, text: &str, definition: &Definition, guest: Guest) -> MachineName {
        let (name, disk) = (name(text), volume(text));
        self.bootable_volume(&disk, guest).await;
        self.compute.define(&name, definition).await.expect("defined");
        self.compute.attach(&name, 0, &disk).await.expect("attached");
        name
    }

    /// A machine that runs and has said hello.
    pub(super) async fn up(&self, text: &str, guest: Guest) -> MachineName {
        let name = self.machine(text, &plain(), guest).await;
        self.compute.start(&name).await.expect("started");
        self.says(&name, HELLO).await;
        name
    }

    /// Waits until the console's log ends with `text`.
    pub(super) async fn says(&self, name: &MachineName, text: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let log = self.compute.console(name, 0, usize::MAX).await.expect("a log");
            if log.data.ends_with(text.as_bytes()) {
                return;
            }
            let said = String::from_utf8_lossy(&log.data);
            assert!(Instant::now() < deadline, "it did not say {text:?}, but {said:?}");
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// The process that holds the machine's lock.
    pub(super) fn process(&self, name: &MachineName) -> Option<u32> {
        let pid_file = self.folder(name).join("pid");
        Process::of(&pid_file).expect("asked").map(|process| process.id())
    }

    pub(super) async fn cut(&self, name: &MachineName) {
        self.compute.stop(name, Stop::Now).await.expect("stopped");
        assert_eq!(self.process(name), None);
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        kill_all(&self.machines());
    }
}

fn kill_all(machines: &Path) {
    for entry in std::fs::read_dir(machines).into_iter().flatten().flatten() {
        let pid_file = entry.path().join("pid");
        let Ok(Some(process)) = Process::of(&pid_file) else { continue };
        let _ = process.kill();
        for _ in 0..500 {
            if matches!(holder(&pid_file), Ok(Holder::Nobody)) {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}
