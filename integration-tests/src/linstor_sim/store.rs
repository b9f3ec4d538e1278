//! The state on disk: one JSON file, replaced whole.

use super::model::World;
use anyhow::Context as _;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;

/// What was written last. None: nothing yet.
pub(super) fn load(dir: &Path) -> anyhow::Result<Option<World>> {
    let path = dir.join("state.json");
    match std::fs::read(&path) {
        Ok(text) => {
            let world = serde_json::from_slice(&text).with_context(|| format!("read {}", path.display()))?;
            Ok(Some(world))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("read {}", path.display())),
    }
}

/// Either the old state or the new one is there, whenever the power goes.
pub(super) fn save(dir: &Path, world: &World) -> anyhow::Result<()> {
    let (path, new) = (dir.join("state.json"), dir.join("state.json.new"));
    let mut file = File::create(&new)?;
    file.write_all(&serde_json::to_vec_pretty(world)?)?;
    file.sync_all()?;
    std::fs::rename(&new, &path)?;
    File::open(dir)?.sync_all()?;
    Ok(())
}
