//! The state in memory and on disk: a whole new file after every change, renamed over the old one.

use super::state::State;
use anyhow::Context as _;
use std::path::{Path, PathBuf};

#[derive(Debug)]
pub(super) struct Store {
    pub(super) state: State,
    file: PathBuf,
}

impl Store {
    /// Reads what an earlier run left in the folder; pending jobs of it have failed.
    pub(super) fn open(dir: &Path, now: &str) -> anyhow::Result<Self> {
        let file = dir.join("state.json");
        let mut state: State = match std::fs::read(&file) {
            Ok(text) => serde_json::from_slice(&text).with_context(|| format!("read {}", file.display()))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => State::default(),
            Err(error) => return Err(error).with_context(|| format!("read {}", file.display())),
        };
        state.interrupt_jobs(now);
        let store = Self { state, file };
        store.save()?;
        Ok(store)
    }

    /// What a kill leaves is the state before or after, never between. Not synced: it is for processes that die, not for
    /// machines.
    pub(super) fn save(&self) -> anyhow::Result<()> {
        write_whole(&self.file, &serde_json::to_vec(&self.state)?)
    }
}

/// Writes beside the file, then renames.
pub(super) fn write_whole(file: &Path, text: &[u8]) -> anyhow::Result<()> {
    let beside = file.with_extension("new");
    std::fs::write(&beside, text).with_context(|| format!("write {}", beside.display()))?;
    std::fs::rename(&beside, file).with_context(|| format!("rename over {}", file.display()))
}
