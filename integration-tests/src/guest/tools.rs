//! What a guest is made of: a kernel, its modules and a busybox, as `deploy/install-deps.sh` left them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context;

/// The folder with `vmlinuz`, `busybox`, `modules/*.ko` and `agent/*`.
#[derive(Clone, Debug)]
pub struct Tools {
    dir: PathBuf,
}

/// A kernel module.
#[derive(Clone, Debug)]
pub(super) struct Module {
    /// With underscores, as others name it.
    pub(super) name: String,
    pub(super) bytes: Vec<u8>,
}

impl Tools {
    /// Looks in `tools/guest` beside the folder of the running program.
    ///
    /// # Errors
    /// It is not there; says how to get it.
    pub fn find() -> anyhow::Result<Self> {
        let me = std::env::current_exe()?;
        let found = me.ancestors().map(|folder| folder.join("tools/guest"));
        let dir = found.into_iter().find(|dir| dir.join("vmlinuz").is_file());
        let dir = dir.context("no kernel for the guest; deploy/install-deps.sh test (or demo) gets it")?;
        Ok(Self { dir })
    }

    pub(super) fn kernel(&self) -> PathBuf {
        self.dir.join("vmlinuz")
    }

    pub(super) fn busybox(&self) -> anyhow::Result<Vec<u8>> {
        read(&self.dir.join("busybox"))
    }

    /// The agent and its libraries, by their names; nothing where it could not be had.
    pub(super) fn agent(&self) -> anyhow::Result<Vec<(String, Vec<u8>)>> {
        let dir = self.dir.join("agent");
        if !self.has_agent() {
            return Ok(vec![]);
        }
        let mut files = Vec::new();
        for entry in std::fs::read_dir(&dir).with_context(|| format!("list {}", dir.display()))? {
            let entry = entry?;
            files.push((entry.file_name().to_string_lossy().into_owned(), read(&entry.path())?));
        }
        Ok(files)
    }

    /// Whether the QEMU guest agent runs in guests that are made with these.
    pub fn has_agent(&self) -> bool {
        self.dir.join("agent/qemu-ga").is_file()
    }

    /// The modules, each after those that it depends on.
    pub(super) fn modules(&self) -> anyhow::Result<Vec<Module>> {
        let mut all = BTreeMap::new();
        let dir = self.dir.join("modules");
        for entry in std::fs::read_dir(&dir).with_context(|| format!("list {}", dir.display()))? {
            let path = entry?.path();
            let name = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default().replace('-', "_");
            all.insert(name, read(&path)?);
        }
        let names: Vec<_> = all.keys().cloned().collect();
        let mut ordered = Vec::new();
        for name in names {
            take(&mut all, &name, &mut ordered);
        }
        Ok(ordered)
    }
}

/// Moves the module to the end of `ordered`, after those that it depends on. What is no file is built in.
fn take(all: &mut BTreeMap<String, Vec<u8>>, name: &str, ordered: &mut Vec<Module>) {
    let Some(bytes) = all.remove(name) else { return };
    for other in dependencies(&bytes) {
        take(all, &other, ordered);
    }
    ordered.push(Module { name: name.to_owned(), bytes });
}

/// What `modinfo` prints as `depends`: text of the form `\0depends=a,b\0` in the file.
pub(super) fn dependencies(module: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"\0depends=";
    let Some(at) = module.windows(KEY.len()).position(|window| window == KEY) else { return vec![] };
    let value = module[at + KEY.len()..].split(|byte| *byte == 0).next().unwrap_or_default();
    let names = value.split(|byte| *byte == b',').filter(|name| !name.is_empty());
    names.map(|name| String::from_utf8_lossy(name).replace('-', "_")).collect()
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("read {}", path.display()))
}
