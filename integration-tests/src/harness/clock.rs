//! A wall clock of the daemons' own, which jumps at a word.
//!
//! libfaketime stands between a daemon and the C library's clocks; an offset in a file moves its wall clock, and
//! nothing else: the monotonic clock, by which it waits, goes on as it does everywhere.

use super::World;
use migratekit::dev_ca::{Leaf, Validity};
use shared::tls::Role;
use std::path::{Path, PathBuf};

/// Where Debian has it, by machine.
const LIBRARY: &str = "faketime/libfaketime.so.1";

/// The clock of a world's daemons.
#[derive(Debug)]
pub struct Clock {
    offset: PathBuf,
    library: PathBuf,
}

impl Clock {
    /// Starts both daemons again under a clock that is right. `None` where libfaketime is not installed.
    ///
    /// # Errors
    /// When a daemon does not come back.
    pub fn over(world: &mut World) -> anyhow::Result<Option<Self>> {
        let Some(library) = library() else { return Ok(None) };
        let clock = Self { offset: world.dir.join("clock"), library };
        clock.jump(0)?;
        certify_for_long(world)?;
        world.wrapper = clock.wrapper();
        world.oma_restart(&[])?;
        world.agent_restart()?;
        Ok(Some(clock))
    }

    /// So many seconds before or behind the machine's clock, from now on.
    ///
    /// # Errors
    /// When the offset cannot be written.
    pub fn jump(&self, seconds: i64) -> anyhow::Result<()> {
        // By a rename: half a number would be another time.
        let new = self.offset.with_extension("new");
        std::fs::write(&new, format!("{seconds:+}s\n"))?;
        Ok(std::fs::rename(new, &self.offset)?)
    }

    fn wrapper(&self) -> Vec<String> {
        vec![
            "env".to_owned(),
            format!("LD_PRELOAD={}", self.library.display()),
            format!("FAKETIME_TIMESTAMP_FILE={}", self.offset.display()),
            "FAKETIME_NO_CACHE=1".to_owned(),
            "FAKETIME_DONT_FAKE_MONOTONIC=1".to_owned(),
            // Files keep the times that the kernel gives them.
            "NO_FAKE_STAT=1".to_owned(),
        ]
    }
}

/// Removes what libfaketime leaves in shared memory of processes that were killed.
pub(super) fn sweep() {
    let Ok(all) = std::fs::read_dir("/dev/shm") else { return };
    for path in all.flatten().map(|entry| entry.path()) {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let pid = name.strip_prefix("faketime_shm_").or_else(|| name.strip_prefix("sem.faketime_sem_"));
        if pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            // Another test's sweep may have been first.
            let _ = std::fs::remove_file(path);
        }
    }
}

fn library() -> Option<PathBuf> {
    let folders = std::fs::read_dir("/usr/lib").ok()?.flatten().map(|entry| entry.path());
    folders
        .chain([Path::new("/usr/lib").to_owned()])
        .map(|folder| folder.join(LIBRARY))
        .find(|path| path.exists())
}

/// Certificates that are valid days before and after now: a jump is no reason to expire.
fn certify_for_long(world: &World) -> anyhow::Result<()> {
    let Some(ca) = world.ca.ca()? else { anyhow::bail!("the world has no CA") };
    let days = Validity::days(5);
    let validity = Validity { not_before: days.not_before - (days.not_after - days.not_before), ..days };
    for (role, name) in [(Role::Oma, "main"), (Role::Agent, "vma-01"), (Role::Operator, "admin")] {
        let leaf = Leaf::new(role, name, &["localhost", "127.0.0.1"]).valid(validity);
        let files = world.ca.files(role, name);
        world.ca.write(&ca.issue(&leaf)?, &files.cert, &files.key)?;
    }
    Ok(())
}
