//! Machines that run without a folder, because somebody removed it under them: all that is left of one is its process.
//!
//! That still has its pid file open, in the folder that is gone, and its name on its command line; where both agree it is
//! ours, and of this root. Its sockets are gone with the folder, so it is ended by signals only.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Pid, Signal};

use super::super::{Error, Held, MachineName, State};
use super::folder::{Folder, failed};
use super::process::Process;
use super::{LocalCompute, blocking};
use crate::processes;

/// How long QEMU takes to end, at most, once it was asked to.
const ENDS: Duration = Duration::from_secs(5);

/// How long the kernel takes to end a process, at most.
const KILLED: Duration = Duration::from_secs(10);

/// One of them.
#[derive(Debug)]
struct Stray {
    name: MachineName,
    process: u32,
    /// The files that it was told to open.
    files: Vec<PathBuf>,
}

impl Stray {
    /// The machine of `machines` that the process is; `None`: it is none, or has its folder still.
    fn of(machines: &Path, process: u32) -> Option<Self> {
        let line = processes::command_line(process);
        let name =
            processes::called(&line)?.strip_prefix("mk-").and_then(|name| MachineName::parse(name).ok())?;
        let folder = Folder::of(machines, &name);
        let pid = folder.pid();
        // As the kernel says it of a file whose name is gone.
        let mut gone = pid.clone().into_os_string();
        gone.push(" (deleted)");
        let open = fs::read_dir(processes::place(process, "fd")).ok()?;
        let mut open = open.flatten().filter_map(|fd| fs::read_link(fd.path()).ok());
        let ours = open.any(|to| to == pid || to.as_os_str() == gone) && matches!(folder.read(), Ok(None));
        ours.then(|| Self { name, process, files: files(&line) })
    }

    fn all(machines: &Path) -> Result<Vec<Self>, Error> {
        let others = processes::others().map_err(|e| failed("list", Path::new("/proc"), e))?;
        Ok(others.filter_map(|process| Self::of(machines, process)).collect())
    }
}

/// What the block devices of a QEMU are made of.
fn files(line: &[OsString]) -> Vec<PathBuf> {
    let options =
        line.iter().filter_map(|argument| serde_json::from_str::<serde_json::Value>(argument.to_str()?).ok());
    options.filter_map(|options| options.get("filename")?.as_str().map(PathBuf::from)).collect()
}

impl LocalCompute {
    /// All of them, in the order of their names.
    pub(super) async fn strays(&self) -> Result<Vec<Held>, Error> {
        let machines = self.machines.clone();
        let mut found = blocking(move || Stray::all(&machines)).await?;
        if found.is_empty() {
            return Ok(Vec::new());
        }
        found.sort_by(|a, b| a.name.cmp(&b.name));
        found.dedup_by(|a, b| a.name == b.name);
        let mut volumes = Vec::new();
        for listed in self.storage.volumes().await? {
            // One that goes meanwhile is nobody's disk.
            if let Ok(path) = self.storage.path(&listed.volume).await {
                volumes.push((path, listed.volume));
            }
        }
        let held = found.into_iter().map(|stray| {
            let disk =
                |file: &PathBuf| volumes.iter().find(|(path, _)| path == file).map(|(_, id)| id.clone());
            Held {
                name: stray.name,
                disks: stray.files.iter().filter_map(disk).collect(),
                state: State::Running,
            }
        });
        Ok(held.collect())
    }

    /// Ends what runs under that name without a folder; nothing is success.
    pub(super) async fn end_strays(&self, name: &MachineName) -> Result<(), Error> {
        let (machines, wanted) = (self.machines.clone(), name.clone());
        let mut found = blocking(move || Stray::all(&machines)).await?;
        found.retain(|stray| stray.name == wanted);
        for stray in found {
            tracing::warn!(machine = %name, process = stray.process, "a machine runs whose folder was removed: it is ended");
            self.end_stray(name, stray.process).await?;
        }
        Ok(())
    }

    async fn end_stray(&self, name: &MachineName, number: u32) -> Result<(), Error> {
        let place = self.folder(name).pid();
        let watched = |e| failed("end the process of", &place, e);
        let Some(pid) = i32::try_from(number).ok().and_then(Pid::from_raw) else { return Ok(()) };
        let Some(process) = Process::numbered(pid, &place).map_err(watched)? else { return Ok(()) };
        for (signal, patience) in [(Signal::TERM, ENDS), (Signal::KILL, KILLED)] {
            // The number may have been given to another one before there was a handle; the handle stays with whose it is.
            let machines = self.machines.clone();
            let still = blocking(move || Ok(Stray::of(&machines, number))).await?;
            if still.is_some_and(|stray| stray.name == *name) {
                process.signal(signal).map_err(watched)?;
            }
            if process.ended(patience).await.map_err(watched)? {
                return Ok(());
            }
        }
        Err(Error::StillRuns { name: name.clone(), process: Some(number) })
    }
}
