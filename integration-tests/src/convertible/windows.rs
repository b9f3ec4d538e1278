//! A phony Windows Server 2019: a disk with NTFS, a registry and nothing that runs. libguestfs recognises it, virt-v2v
//! converts it and installs (phony) drivers into its registry. That Windows would boot then is nothing it can show.
//!
//! 512 MiB, sparse; some twenty seconds to make.

use super::{command, run};
use anyhow::Context as _;
use std::fs;
use std::path::Path;

const SOFTWARE: &str = r#"Windows Registry Editor Version 5.00

[\Microsoft]

[\Microsoft\Windows]

[\Microsoft\Windows\CurrentVersion]
"ProgramFilesDir"="C:\\Program Files"
"DevicePath"=hex(2):25,00,53,00,79,00,73,00,74,00,65,00,6d,00,52,00,6f,00,6f,00,74,00,25,00,5c,00,69,00,6e,00,66,00,00,00

[\Microsoft\Windows NT]

[\Microsoft\Windows NT\CurrentVersion]
"ProductName"="Windows Server 2019 Standard"
"CurrentVersion"="6.3"
"CurrentMajorVersionNumber"=dword:0000000a
"CurrentMinorVersionNumber"=dword:00000000
"CurrentBuildNumber"="17763"
"CurrentBuild"="17763"
"InstallationType"="Server"
"EditionID"="ServerStandard"
"#;

const SYSTEM: &str = r#"Windows Registry Editor Version 5.00

[\Select]
"Current"=dword:00000001
"Default"=dword:00000001

[\MountedDevices]

[\DriverDatabase]

[\DriverDatabase\DriverInfFiles]

[\DriverDatabase\DeviceIds]

[\DriverDatabase\DeviceIds\PCI]

[\DriverDatabase\DriverPackages]

[\ControlSet001]

[\ControlSet001\Control]

[\ControlSet001\Control\CriticalDeviceDatabase]

[\ControlSet001\Control\Session Manager]

[\ControlSet001\Control\Session Manager\Environment]

[\ControlSet001\Services]

[\ControlSet001\Services\Tcpip]

[\ControlSet001\Services\Tcpip\Parameters]
"Hostname"=str(1):"WINVM1"
"#;

/// For guestfish, in a folder with the files.
const DISK: &str = r#"
sparse disk 512M
run
part-init /dev/sda mbr
part-add /dev/sda p 2048 -2048
part-set-bootable /dev/sda 1 true
part-set-mbr-id /dev/sda 1 7
mkfs ntfs /dev/sda1
mount /dev/sda1 /
mkdir-p /Windows/System32/config
mkdir-p /Windows/System32/drivers
mkdir-p /Windows/inf
mkdir-p /Windows/Drivers
mkdir-p "/Program Files"
mkdir-p /Users/Default
upload SYSTEM /Windows/System32/config/SYSTEM
upload SOFTWARE /Windows/System32/config/SOFTWARE
upload cmd.exe /Windows/System32/cmd.exe
touch /autoexec.bat
"#;

/// Makes the disk at `path`.
///
/// # Errors
/// A program is not there, or fails.
pub fn make(path: &Path, scratch: &Path) -> anyhow::Result<()> {
    let folder = tempfile::tempdir_in(scratch)?;
    let at = folder.path();
    for (hive, content) in [("SYSTEM", SYSTEM), ("SOFTWARE", SOFTWARE)] {
        fs::write(at.join(hive), empty_hive())?;
        let words = format!("{hive}.reg");
        fs::write(at.join(&words), content)?;
        run(command("hivexregedit", scratch).current_dir(at).args(["--merge", hive, &words]))?;
    }
    fs::write(at.join("cmd.exe"), program())?;
    fs::write(at.join("script"), DISK)?;
    run(command("guestfish", scratch).current_dir(at).args(["-f", "script"]))?;
    // A boot loader's code, for whoever looks for one; nobody runs it.
    let mut disk = fs::OpenOptions::new().write(true).open(at.join("disk"))?;
    std::io::Write::write_all(&mut disk, &[0xeb, 0x63, 0x90])?;
    fs::rename(at.join("disk"), path).context("the disk and the scratch folder are on one file system")
}

/// Makes `folder` a virtio-win with drivers for one version of Windows (`2k19`), and `rhsrvany.exe` beside them.
///
/// # Errors
/// It cannot be written.
pub fn drivers(folder: &Path, version: &str) -> anyhow::Result<()> {
    let drivers = [
        ("viostor", "viostor"),
        ("vioscsi", "vioscsi"),
        ("NetKVM", "netkvm"),
        ("Balloon", "balloon"),
        ("viorng", "viorng"),
        ("vioserial", "vioser"),
    ];
    for (place, name) in drivers {
        let place = folder.join(place).join(version).join("amd64");
        fs::create_dir_all(&place)?;
        for ending in ["inf", "sys", "cat"] {
            fs::write(place.join(format!("{name}.{ending}")), format!("fake-{name}\n"))?;
        }
    }
    for name in ["rhsrvany.exe", "pnp_wait.exe", "pvvxsvc.exe"] {
        fs::write(folder.join(name), program())?;
    }
    Ok(())
}

/// What the registry of a disk says of a service, as `virt-win-reg` prints it; `None` if it is not there.
pub fn service(disk: &Path, name: &str, scratch: &Path) -> Option<String> {
    let key = format!("HKLM\\SYSTEM\\ControlSet001\\Services\\{name}");
    run(command("virt-win-reg", scratch).arg(disk).arg(key)).ok()
}

/// The least that is a PE32+ program for x86-64; libguestfs takes the architecture from it.
fn program() -> Vec<u8> {
    let mut program = b"MZ".to_vec();
    program.resize(60, 0);
    program.extend(64u32.to_le_bytes());
    program.extend(b"PE\0\0");
    for half in [0x8664u16, 1, 0, 0, 0, 0, 0, 0, 240, 0x22, 0x20b] {
        program.extend(half.to_le_bytes());
    }
    program.extend([0; 238]);
    program.extend(b".text\0\0\0");
    program.extend([0; 32 + 512]);
    program
}

/// A hive of the registry with nothing but its root, as Windows' own format has it.
fn empty_hive() -> Vec<u8> {
    const NONE: u32 = u32::MAX;
    const ROOT: u32 = 0x20;
    let name = b"$$$PROTO.HIV";
    // The root's key; of the numbers, the tenth is where its rights are.
    let key = |rights: u32| {
        let mut key = b"nk".to_vec();
        key.extend(0x2cu16.to_le_bytes());
        for number in [0, 0, 0, ROOT, 0, 0, NONE, NONE, 0, NONE, rights, NONE, 0, 0, 0, 0, 0, 12] {
            key.extend(number.to_le_bytes());
        }
        key.extend(name);
        cell(&key)
    };
    let rights_at = ROOT + u32::try_from(key(0).len()).unwrap_or_default();
    let descriptor = [1, 0, 4, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let mut rights = b"sk\0\0".to_vec();
    for number in [rights_at, rights_at, 1, 20] {
        rights.extend(number.to_le_bytes());
    }
    rights.extend(descriptor);

    let mut bin = b"hbin".to_vec();
    for number in [0u32, 4096, 0, 0, 0, 0, 0] {
        bin.extend(number.to_le_bytes());
    }
    bin.extend(key(rights_at));
    bin.extend(cell(&rights));
    let free = 4096 - bin.len();
    bin.extend(i32::try_from(free).unwrap_or_default().to_le_bytes());
    bin.resize(4096, 0);

    let mut head = b"regf".to_vec();
    // Sequence twice, time, version 1.3, type, format, root, length of the bins, cluster.
    for number in [1u32, 1, 0, 0, 1, 3, 0, 1, ROOT, 4096, 1] {
        head.extend(number.to_le_bytes());
    }
    head.resize(508, 0);
    let sum = head.chunks_exact(4).filter_map(|word| word.try_into().ok().map(u32::from_le_bytes));
    let sum = sum.fold(0, |sum, word| sum ^ word);
    head.extend(sum.to_le_bytes());
    head.resize(4096, 0);
    [head, bin].concat()
}

/// One in use: its length is negative.
fn cell(content: &[u8]) -> Vec<u8> {
    let length = (4 + content.len()).next_multiple_of(8);
    let mut cell = (-i32::try_from(length).unwrap_or_default()).to_le_bytes().to_vec();
    cell.extend(content);
    cell.resize(length, 0);
    cell
}
