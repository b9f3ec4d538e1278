//! The machines that a world's control plane makes, by what lies in its folders and what runs.

use super::World;
use anyhow::Context as _;
use std::path::{Path, PathBuf};

/// A machine's process outlives the control plane: dropping this ends what a test that failed left of them.
pub struct Machines {
    /// Of the world, where their disks lie.
    dir: PathBuf,
}

impl Machines {
    pub fn of(world: &World) -> Self {
        Self { dir: world.dir.clone() }
    }

    fn folder(&self) -> PathBuf {
        self.dir.join("machines/machines")
    }

    /// Of the machines in the world's folder.
    pub fn processes(&self) -> Vec<u32> {
        // In the world's folder itself, in that of another host of it, or where the replicas are by a link.
        let (world, clones) = (format!("{}/", self.dir.display()), "/replicas/volumes/cs-");
        let linked = self.dir.join("replicas").canonicalize().ok();
        let linked = linked.map(|real| format!("{}/volumes/cs-", real.display()));
        let mut found = Vec::new();
        for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
            let Some(id) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
                continue;
            };
            let arguments = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let arguments = String::from_utf8_lossy(&arguments);
            let here = arguments.contains(&world) && arguments.contains(clones);
            let there = linked.as_ref().is_some_and(|linked| arguments.contains(linked));
            found.extend((here || there).then_some(id));
        }
        found
    }

    /// Clones, their snapshots, half-made files, folders of machines and their processes.
    ///
    /// # Errors
    /// A folder cannot be read.
    pub fn left(&self) -> anyhow::Result<Vec<String>> {
        let replicas = self.dir.join("replicas");
        let mut found = names(&replicas.join("volumes"), |n| n.starts_with("cs-") || n.ends_with(".tmp"))?;
        found.extend(names(&replicas.join("snapshots"), |n| !n.starts_with("rp-"))?);
        found.extend(names(&self.folder(), |_| true)?);
        found.extend(self.processes().into_iter().map(|id| format!("process {id}")));
        Ok(found)
    }
}

impl Drop for Machines {
    fn drop(&mut self) {
        for id in self.processes() {
            let id = rustix::process::Pid::from_raw(id.cast_signed()).expect("of a process");
            let _ = rustix::process::kill_process(id, rustix::process::Signal::KILL);
        }
    }
}

fn names(folder: &Path, of: impl Fn(&str) -> bool) -> anyhow::Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        found.extend(of(&name).then_some(name));
    }
    Ok(found)
}
