//! What of this host a machine needs: QEMU, and a firmware for EFI.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::super::{Error, Firmware};

/// What to run, and the firmware to run it with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Programs {
    /// A name to be found on `PATH`, or a path.
    pub qemu: PathBuf,
    /// The EFI firmware's code and the template of its variables; the first pair that is there is taken.
    pub efi: Vec<(PathBuf, PathBuf)>,
}

impl Default for Programs {
    /// As the distributions lay them out. No build for secure boot: it would refuse what this product makes bootable.
    fn default() -> Self {
        let pairs = [
            ("/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"),
            ("/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd"),
            ("/usr/share/edk2/ovmf/OVMF_CODE.fd", "/usr/share/edk2/ovmf/OVMF_VARS.fd"),
            ("/usr/share/qemu/ovmf-x86_64-4m-code.bin", "/usr/share/qemu/ovmf-x86_64-4m-vars.bin"),
        ];
        let efi = pairs.map(|(code, vars)| (code.into(), vars.into())).into();
        Self { qemu: "qemu-system-x86_64".into(), efi }
    }
}

/// What was found of it.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) qemu: PathBuf,
    /// Code and template of the variables, for a machine that has EFI.
    pub(super) efi: Option<(PathBuf, PathBuf)>,
}

impl Programs {
    /// What such a machine needs, or what of it is missing.
    pub(super) fn find(&self, firmware: Firmware) -> Result<Found, Error> {
        let qemu = on_path(&self.qemu).ok_or_else(|| Error::Missing {
            what: format!("the program {}", self.qemu.display()),
            install: "QEMU for x86 (Debian: qemu-system-x86; deploy/install-deps.sh runtime)",
        })?;
        let efi = match firmware {
            Firmware::Bios => None,
            Firmware::Efi => {
                let there = |(code, vars): &&(PathBuf, PathBuf)| code.is_file() && vars.is_file();
                let pair = self.efi.iter().find(there).ok_or_else(|| Error::Missing {
                    what: match self.efi.first() {
                        Some((code, _)) => format!("an EFI firmware such as {}", code.display()),
                        None => "an EFI firmware".to_owned(),
                    },
                    install: "OVMF (Debian: ovmf; deploy/install-deps.sh runtime)",
                })?;
                Some(pair.clone())
            }
        };
        Ok(Found { qemu, efi })
    }
}

/// As the system would find it, so that a missing one is known before anything is made.
fn on_path(program: &Path) -> Option<PathBuf> {
    let runs = |path: &PathBuf| {
        path.metadata().is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
    };
    if program.components().count() > 1 {
        return Some(program.to_owned()).filter(runs);
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(runs)
}
