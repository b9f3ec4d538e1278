//! Programs that pretend to be guestfish and virt-v2v: a Windows guest, or what is left of it.

use super::super::*;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

/// Answers each question from a file of its name, or as a Windows with or without viostor would: that is whether the file
/// `ready` is there.
const GUESTFISH: &str = r#"
[ ! -e $D/broken ] || { echo 'libguestfs: error: guestfs_launch failed.' >&2; exit 1; }
while read -r line; do
    words=${line#-}
    case $line in
        echo*) mark=${line#echo \"\\n}; printf '\n%s\n' "${mark%\"}" ;;
        -run) [ ! -e $D/hang ] || { touch $D/hangs; sleep 600; } ;;
        -mount-ro*) ;;
        -inspect-get-mountpoints*) echo '/: /dev/sda1' ;;
        -inspect-get-type*) echo windows ;;
        -inspect-get-product-name*) echo 'Windows Server 2019 Standard' ;;
        -inspect-get-windows-current*) echo ControlSet001 ;;
        -inspect-get-windows-*) echo /Windows ;;
        -hivex-node-get-child*viostor*) [ -e $D/ready ] && echo 7 || echo 0 ;;
        -hivex-node-get-child*) echo 6 ;;
        -hivex-node-get-value*Start*) echo 8 ;;
        -hivex-node-get-value*) echo 0 ;;
        -hivex-value-value*) printf '\0\0\0\0' ;;
        -hivex-*) echo 5 ;;
        -case-sensitive-path*) echo /Windows/System32/drivers/viostor.sys ;;
        -is-file*) echo true ;;
        *) cat "$D/${words%% *}" 2>/dev/null || echo "libguestfs: error: $words: unknown" >&2 ;;
    esac
done
"#;

/// What virt-v2v says, and how it ends, without drivers for the guest.
pub(super) const WITHOUT_DRIVERS: &str = r#"echo '{ "message": "there are no virtio drivers available for this version of Windows (10.0 x86_64 Server win2k19).", "type": "warning" }' >> $M; exit 0"#;

pub(super) struct Pretended(tempfile::TempDir);

impl Pretended {
    /// A Windows on the first of two disks, and a virt-v2v that runs `script`: with `$D`, our folder, and `$M`, the
    /// file for its messages.
    pub(super) fn windows(script: &str) -> Self {
        let it = Self(tempfile::tempdir().expect("a folder"));
        let d = it.0.path().display().to_string();
        it.program("guestfish", &format!("D={d}{GUESTFISH}"));
        let begin = "M=${1#--machine-readable=file:}; echo $* > $D/arguments; for last; do :; done; cp $last $D/domain";
        it.program("v2v", &format!("D={d}; {begin}; {script}\n"));
        std::fs::write(it.path("inspect-os"), "/dev/sda1\n").expect("a file");
        let mut start = vec![0; 4096];
        start[0] = 0xeb;
        start[446] = 0x80;
        start[510..512].copy_from_slice(&[0x55, 0xaa]);
        std::fs::write(it.path("a.raw"), start).expect("a file");
        std::fs::write(it.path("b.raw"), [0; 4096]).expect("a file");
        std::fs::create_dir(it.path("vw")).expect("a folder");
        std::fs::write(it.path("vw/viostor.sys"), b"x").expect("a file");
        std::fs::write(it.path("vw/rhsrvany.exe"), b"x").expect("a file");
        it
    }

    fn program(&self, name: &str, script: &str) {
        std::fs::write(self.path(name), format!("#!/bin/sh\n{script}")).expect("a file");
        let rights = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(self.path(name), rights).expect("our file");
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(super) fn log(&self) -> PathBuf {
        self.path("conversion.log")
    }

    pub(super) fn disks(&self) -> Vec<Disk> {
        ["a.raw", "b.raw"].into_iter().map(|name| Disk { path: self.path(name) }).collect()
    }

    pub(super) fn set(&self, name: &str) {
        std::fs::write(self.path(name), b"").expect("a file");
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.path(name).exists()
    }

    /// Waits until one of the programs has made this file.
    pub(super) async fn appears(&self, name: &str) {
        let wait = async {
            while !self.has(name) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), wait).await.expect("a program comes so far");
    }

    pub(super) fn scratch_is_clean(&self) -> bool {
        std::fs::read_dir(self.path("scratch")).is_ok_and(|mut entries| entries.next().is_none())
    }

    pub(super) fn converter(&self) -> Converter {
        let settings = Settings {
            tool: self.path("v2v").display().to_string(),
            virtio_win: Some(self.path("vw")),
            virt_tools: Some(self.path("vw")),
            accel: Accel::ForceTcg,
            scratch: self.path("scratch"),
            ..Settings::default()
        };
        Converter { settings, guestfish: self.path("guestfish").into() }
    }

    pub(super) async fn convert(&self, stop: &CancellationToken) -> Result<Outcome, Error> {
        self.converter().convert(&self.disks(), &self.log(), stop).await
    }
}
