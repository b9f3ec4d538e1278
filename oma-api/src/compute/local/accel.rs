//! KVM where it works, else QEMU's own interpreter.
//!
//! That `/dev/kvm` is there and opens says little: in a VM whose host passes on no hardware virtualisation it may be
//! emulated, and then firmware starts and no kernel ever gets anywhere (measured with kvm-pvm: 50 million rounds of a
//! loop take 30 s in a guest, 0.3 s without KVM). So a guest of a few instructions is really run, and timed.

use std::io::Write;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use super::command::Processor;

/// What the guests' instructions are carried out by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Accel {
    /// KVM where a trial shows that it works, else TCG.
    #[default]
    Auto,
    /// The processor itself.
    Kvm,
    /// QEMU: an order of magnitude slower, and works everywhere.
    Tcg,
}

/// Real hardware takes half a second, and TCG does.
const TRIAL: Duration = Duration::from_secs(5);

/// For the end of the trial's processes.
const GRACE: Duration = Duration::from_secs(5);

/// 16-bit code: counts 50 million down, then ends QEMU with code 33 through the port of `isa-debug-exit`.
const GUEST: [u8; 19] = [
    0x66, 0xb9, 0x80, 0xf0, 0xfa, 0x02, // mov $50000000, %ecx
    0x66, 0x49, 0x75, 0xfc, // 1: dec %ecx; jnz 1b
    0xba, 0xf4, 0x00, 0xb0, 0x10, 0xee, // mov $0xf4, %dx; mov $16, %al; out %al, %dx
    0xf4, 0xeb, 0xfd, // 2: hlt; jmp 2b
];

/// SeaBIOS boots no disk of less than a cylinder.
const GUEST_DISK: u64 = 1 << 20;

/// What to use with `qemu`, for as long as this process lives. `folder`: for the trial's files.
pub(super) async fn choose(accel: Accel, qemu: &Path, folder: &Path) -> Processor {
    match accel {
        Accel::Kvm => Processor::Kvm,
        Accel::Tcg => Processor::Tcg,
        Accel::Auto => match try_kvm(qemu, folder).await {
            Ok(()) => {
                tracing::info!("machines run with KVM: a trial guest did");
                Processor::Kvm
            }
            Err(why) => {
                tracing::info!(why, "machines run without KVM, by QEMU's interpreter");
                Processor::Tcg
            }
        },
    }
}

/// `Err`: why it does not work.
async fn try_kvm(qemu: &Path, folder: &Path) -> Result<(), String> {
    if !Path::new("/dev/kvm").exists() {
        return Err("there is no /dev/kvm".to_owned());
    }
    run(Processor::Kvm, qemu, folder).await
}

/// Runs the trial's guest to its end.
pub(super) async fn run(processor: Processor, qemu: &Path, folder: &Path) -> Result<(), String> {
    // Of this process alone, and swept at the next start where this one is killed.
    let disk = folder.join(format!("trial-{}.tmp", std::process::id()));
    let path = disk.clone();
    let written = tokio::task::spawn_blocking(move || write_disk(&path)).await.map_err(|e| e.to_string())?;
    let ended = match written {
        Ok(()) => wait(processor, qemu, &disk).await,
        Err(e) => Err(format!("the trial's disk {} cannot be written: {e}", disk.display())),
    };
    // One that stays is swept at the next start.
    let _ = std::fs::remove_file(&disk);
    ended
}

fn write_disk(path: &Path) -> std::io::Result<()> {
    let mut sector = [0; 512];
    sector[..GUEST.len()].copy_from_slice(&GUEST);
    sector[510..].copy_from_slice(&[0x55, 0xaa]);
    let mut file = std::fs::File::create(path)?;
    file.write_all(&sector)?;
    file.set_len(GUEST_DISK)
}

async fn wait(processor: Processor, qemu: &Path, disk: &Path) -> Result<(), String> {
    let drive = serde_json::json!({ "driver": "raw", "node-name": "disk",
        "file": { "driver": "file", "filename": disk.to_str().ok_or("the folder's path is not UTF-8")? } });
    // It ends its program also when this one is killed, and the trial's guest with it.
    let mut command = tokio::process::Command::new("timeout");
    command.args(["--signal=KILL", &TRIAL.as_secs().to_string()]).arg(qemu);
    command.args(["-nodefaults", "-no-user-config", "-display", "none", "-machine", "q35", "-m", "32M"]);
    command.args(processor.arguments());
    command.args(["-blockdev", &drive.to_string(), "-device", "virtio-blk-pci,drive=disk"]);
    command.args(["-device", "isa-debug-exit,iobase=0xf4,iosize=1"]);
    super::launch::bare(&mut command);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let child = command.spawn().map_err(|e| format!("{} cannot be started: {e}", qemu.display()))?;
    match timeout(TRIAL + GRACE, child.wait_with_output()).await {
        Ok(Ok(output)) if output.status.code() == Some(33) => Ok(()),
        Ok(Ok(output)) if output.status.code() == Some(137) || output.status.signal() == Some(9) => {
            Err(late())
        }
        Ok(Ok(output)) => {
            let said = String::from_utf8_lossy(&output.stderr);
            let last = said.lines().last().unwrap_or("it said nothing").trim();
            Err(format!("the trial's guest ended its QEMU with {}: {last}", output.status))
        }
        Ok(Err(e)) => Err(format!("the trial cannot be waited for: {e}")),
        Err(_) => Err(late()),
    }
}

fn late() -> String {
    format!("the trial's guest took more than {} s for a moment's work", TRIAL.as_secs())
}
