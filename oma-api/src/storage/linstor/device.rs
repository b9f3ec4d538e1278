//! Devices of this host: opened so that nobody else owns them, and known to be closed before they are taken away.
//!
//! Without DRBD LINSTOR deletes and resets what somebody has open, and the open one is a deleted file then: what is written to it
//! is flushed, and lost. The kernel's own exclusive claim keeps mounts, mappings and other programs that ask for it away; whoever
//! does not ask is found in `/proc`.

use super::super::{Error, VolumeId, openers};
use bytes::Bytes;
use migratekit::target::{self, AlignedBuf, FileTarget, ReadPath, Target};
use rustix::fs::OFlags;
use rustix::io::Errno;
use shared::range::ByteRange;
use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// What has it where no process shows.
const KERNEL: &str = "a mount, a mapping, or a program that holds it exclusively";

/// Block devices that this process has claimed, by their number: all that it opens of one share one claim.
#[derive(Default)]
pub(super) struct Claims(Mutex<HashMap<u64, Weak<File>>>);

/// A volume, and the claim on its device as long as it is open. A file needs none.
struct Opened {
    target: FileTarget,
    _claim: Option<Arc<File>>,
}

impl Claims {
    /// Opens a device of `size` bytes for writing.
    pub(super) fn open(&self, volume: &VolumeId, path: &Path, size: u64) -> Result<Arc<dyn Target>, Error> {
        let claim = self.claim(path).map_err(|source| match source.raw_os_error() {
            Some(code) if code == Errno::BUSY.raw_os_error() => {
                Error::InUse { volume: volume.clone(), by: KERNEL.to_owned() }
            }
            _ => failed("open", path, source),
        })?;
        Ok(Arc::new(Opened { target: FileTarget::open(path, size)?, _claim: claim }))
    }

    fn claim(&self, path: &Path) -> io::Result<Option<Arc<File>>> {
        let Some(number) = number(path)? else { return Ok(None) };
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, claim| claim.strong_count() > 0);
        if let Some(claim) = all.get(&number).and_then(Weak::upgrade) {
            return Ok(Some(claim));
        }
        let claim = Arc::new(exclusive(path)?);
        all.insert(number, Arc::downgrade(&claim));
        Ok(Some(claim))
    }
}

/// Who has it open, this process included; `None`: nobody. One that is not there is open to nobody.
pub(super) fn holder(path: &Path) -> Result<Option<String>, Error> {
    let of = |source| failed("look for users of", path, source);
    if let Some(opener) = openers::any(path).map_err(of)? {
        let own = if opener.process == std::process::id() { "this control plane, " } else { "" };
        return Ok(Some(format!("{own}{opener}")));
    }
    match number(path) {
        Ok(None) => return Ok(None),
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Ok(Some(_)) | Err(_) => {}
    }
    // Others cannot be told from who may not look: only a claim that is refused says something.
    let busy = exclusive(path).err().and_then(|e| e.raw_os_error()) == Some(Errno::BUSY.raw_os_error());
    Ok(busy.then(|| KERNEL.to_owned()))
}

/// `None`: it is no block device.
fn number(path: &Path) -> io::Result<Option<u64>> {
    let of = fs::metadata(path)?;
    Ok(of.file_type().is_block_device().then(|| of.rdev()))
}

fn exclusive(path: &Path) -> io::Result<File> {
    let flags = i32::try_from(OFlags::EXCL.bits()).expect("an open flag fits the C int it is");
    OpenOptions::new().read(true).custom_flags(flags).open(path)
}

fn failed(what: &'static str, path: &Path, source: io::Error) -> Error {
    Error::Io { what, place: path.display().to_string(), source }
}

impl Target for Opened {
    fn name(&self) -> String {
        self.target.name()
    }

    fn size(&self) -> u64 {
        self.target.size()
    }

    fn write_at(&self, offset: u64, data: &[Bytes]) -> Result<(), target::Error> {
        self.target.write_at(offset, data)
    }

    fn zero(&self, range: ByteRange) -> Result<(), target::Error> {
        self.target.zero(range)
    }

    fn flush(&self) -> Result<(), target::Error> {
        self.target.flush()
    }

    fn read_direct(&self, offset: u64, buf: &mut AlignedBuf) -> Result<ReadPath, target::Error> {
        self.target.read_direct(offset, buf)
    }

    fn next_data(&self, offset: u64) -> Result<Option<ByteRange>, target::Error> {
        self.target.next_data(offset)
    }

    fn end(&self) {
        self.target.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;
    use std::process::Command;

    /// A block device, as long as it lasts.
    struct Loop(PathBuf);

    impl Loop {
        /// `None`: not here, or not without the rights.
        fn of(file: &Path) -> Option<Self> {
            let made =
                Command::new("/usr/sbin/losetup").args(["--find", "--show"]).arg(file).output().ok()?;
            let path = String::from_utf8(made.stdout).ok()?;
            (made.status.success() && !path.trim().is_empty()).then(|| Self(path.trim().into()))
        }
    }

    impl Drop for Loop {
        fn drop(&mut self) {
            let _ = Command::new("/usr/sbin/losetup").arg("--detach").arg(&self.0).status();
        }
    }

    #[test]
    fn a_device_is_claimed_while_it_is_open() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        file.as_file().set_len(1 << 20).expect("grown");
        let Some(device) = Loop::of(file.path()) else {
            eprintln!("SKIPPED: no loop device can be made here");
            return;
        };
        let (claims, volume) = (Claims::default(), VolumeId::parse("mk-a").expect("an id"));
        assert_eq!(holder(&device.0).expect("looked"), None);
        let first = claims.open(&volume, &device.0, 1 << 20).expect("free");
        let second = claims.open(&volume, &device.0, 1 << 20).expect("ours");
        drop(first);
        let other = Claims::default().open(&volume, &device.0, 1 << 20).err();
        assert!(matches!(other, Some(Error::InUse { .. })), "{other:?}");
        let by = holder(&device.0).expect("looked").expect("it is open");
        assert!(by.starts_with("this control plane, process "), "{by}");
        drop(second);
        // What has it in no process: a mount's claim is as this one, and belongs to nobody who could be named.
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while holder(&device.0).expect("looked").is_some() {
            assert!(std::time::Instant::now() < deadline, "it is free again");
        }
        Claims::default().open(&volume, &device.0, 1 << 20).expect("free again");
    }
}
