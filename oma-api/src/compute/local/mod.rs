//! QEMU on this host: for the demo, tests and small installations.
//!
//! ```text
//! ROOT/machines/<name>/machine.json   what it is made of and its disks: written whole, durable
//!                      pid            locked by its QEMU while that lives: whether it runs, and as which process
//!                      qmp.sock       its monitor               console.sock  its serial console, for typing
//!                      console.log    all it ever said there    qemu.log      what QEMU said at the last start
//!                      agent.sock     the guest agent in it (`agent`)
//!                      vars.fd        what its EFI firmware remembers
//!                      *.tmp          half-written
//! ROOT/machines/*.tmp                 half-made or half-removed; removed when it is found
//! ```
//!
//! A machine outlives this process and is found again by its lock. Each network card has a network of its own, by
//! QEMU's user-mode stack: an isolated one leads nowhere, a connected one out through the host's addresses; machines do
//! not see each other. The console's log grows with what the guest says until the machine is removed. One process at a
//! time uses a root; who opens it sees to that (see `claim`).

mod accel;
mod agent;
mod command;
mod folder;
mod launch;
mod monitor;
mod process;
mod programs;
mod reach;
mod running;
mod strays;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt};
use tokio::sync::OnceCell;

use super::turns::Turns;
use super::{Compute, Console, Definition, Error, Firmware, Held, Machine, MachineName, Stop};
use crate::storage::{Storage, VolumeId};
use command::{Plan, Processor};
use folder::{Folder, Record, failed};
use launch::Launched;
use process::Holder;

pub use accel::Accel;
pub use programs::Programs;

/// How long a volume may still be open after whoever had it has ended: a process that ends gives back its lock first.
const CLOSING: Duration = Duration::from_secs(2);

/// How many machines are asked at a time.
const AT_A_TIME: usize = 8;

/// See the module.
pub struct LocalCompute {
    machines: PathBuf,
    storage: Arc<dyn Storage>,
    programs: Programs,
    accel: Accel,
    /// Found out at the first start.
    processor: OnceCell<Processor>,
    turns: Turns,
}

impl LocalCompute {
    /// Makes the folder where it is missing, and removes what a crash left half-made. Machines that run, run on.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub async fn open(root: &Path, storage: Arc<dyn Storage>, accel: Accel) -> Result<Self, Error> {
        let machines = root.join("machines");
        let machines = blocking(move || {
            std::fs::create_dir_all(&machines).map_err(|e| failed("make", &machines, e))?;
            // QEMU is told whole paths.
            let machines = machines.canonicalize().map_err(|e| failed("look at", &machines, e))?;
            folder::sweep(&machines)?;
            Ok(machines)
        })
        .await?;
        let (programs, processor, turns) = (Programs::default(), OnceCell::new(), Turns::default());
        Ok(Self { machines, storage, programs, accel, processor, turns })
    }

    /// With other programs than the distributions'.
    #[must_use]
    pub fn with_programs(mut self, programs: Programs) -> Self {
        self.programs = programs;
        self
    }

    fn folder(&self, name: &MachineName) -> Folder {
        Folder::of(&self.machines, name)
    }

    /// What is written of it, and where.
    async fn read(&self, name: &MachineName) -> Result<(Folder, Definition, Vec<VolumeId>), Error> {
        let folder = self.folder(name);
        let read =
            blocking(move || Ok(folder.read()?.map(|(record, disks)| (folder, record.definition, disks))));
        read.await?.ok_or_else(|| Error::NoMachine { name: name.clone() })
    }

    /// Where its volumes are, if nobody has them open.
    async fn disks(&self, name: &MachineName, volumes: &[VolumeId]) -> Result<Vec<PathBuf>, Error> {
        let mut paths = Vec::with_capacity(volumes.len());
        for volume in volumes {
            paths.push(self.storage.path(volume).await?);
            let deadline = tokio::time::Instant::now() + CLOSING;
            while self.storage.in_use(volume).await? {
                if tokio::time::Instant::now() >= deadline {
                    return Err(Error::VolumeInUse { name: name.clone(), volume: volume.clone() });
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        Ok(paths)
    }

    async fn processor(&self, qemu: &Path) -> Processor {
        *self.processor.get_or_init(|| accel::choose(self.accel, qemu, &self.machines)).await
    }

    /// Starts one that does not run.
    async fn launch(&self, name: &MachineName) -> Result<(), Error> {
        let (folder, machine, volumes) = self.read(name).await?;
        let found = self.programs.find(machine.firmware)?;
        let disks = self.disks(name, &volumes).await?;
        let processor = self.processor(&found.qemu).await;
        if let Some((_, template)) = found.efi.clone() {
            let folder = folder.clone();
            blocking(move || folder.ensure_vars(&template)).await?;
        }
        let vars = folder.vars();
        let efi = found.efi.as_ref().map(|(code, _)| (code.as_path(), vars.as_path()));
        let plan = Plan { name, machine: &machine, disks: &disks, processor, efi };
        let arguments = command::arguments(&plan)?;
        match launch::launch(name, &folder, &found.qemu, arguments).await? {
            Launched::Daemon | Launched::RunsAlready => Ok(()),
            Launched::Ended(why) => Err(Error::Start { name: name.clone(), why }),
            Launched::Locked(image) => {
                let taken = volumes.iter().zip(&disks).find(|(_, path)| path.as_os_str() == image.as_str());
                Err(match taken {
                    Some((volume, _)) => Error::VolumeInUse { name: name.clone(), volume: volume.clone() },
                    None => Error::Start {
                        name: name.clone(),
                        why: format!("{image} is in use by another process"),
                    },
                })
            }
        }
    }
}

#[async_trait]
impl Compute for LocalCompute {
    async fn prepare(&self) {
        // What is missing is said when a machine is wanted.
        if let Ok(found) = self.programs.find(Firmware::Bios) {
            self.processor(&found.qemu).await;
        }
    }

    async fn check(&self, machine: &Definition) -> Result<(), Error> {
        command::check(machine)?;
        let (programs, firmware) = (self.programs.clone(), machine.firmware);
        blocking(move || programs.find(firmware).map(|_| ())).await
    }

    async fn define(&self, name: &MachineName, machine: &Definition) -> Result<(), Error> {
        command::check(machine)?;
        let _turn = self.turns.change(name).await;
        let (name, machine, folder) = (name.clone(), machine.clone(), self.folder(name));
        blocking(move || match folder.read()? {
            None => folder.make(&Record::new(machine)),
            Some((there, _)) if there.definition == machine => Ok(()),
            Some((there, _)) => {
                Err(Error::OtherMachine { name, what: differences(&there.definition, &machine) })
            }
        })
        .await
    }

    async fn attach(&self, name: &MachineName, position: usize, volume: &VolumeId) -> Result<(), Error> {
        let _turn = self.turns.change(name).await;
        let exists = self.storage.volume(volume).await?.is_some();
        let (name, volume, folder) = (name.clone(), volume.clone(), self.folder(name));
        blocking(move || {
            let Some((mut record, disks)) = folder.read()? else { return Err(Error::NoMachine { name }) };
            match disks.get(position) {
                Some(have) if *have == volume => return Ok(()),
                Some(have) => {
                    return Err(Error::OtherDisk { name, position, have: have.clone(), asked: volume });
                }
                None => {}
            }
            let most = command::most_disks(record.definition.bus);
            if let Some(position) = disks.iter().position(|disk| *disk == volume) {
                Err(Error::AttachedAlready { name, volume, position })
            } else if position != disks.len() {
                Err(Error::OutOfOrder { name, position, disks: disks.len() })
            } else if position >= most {
                Err(Error::TooManyDisks { name, bus: record.definition.bus, most })
            } else if !exists {
                Err(crate::storage::Error::NoVolume { volume }.into())
            } else if folder.holder()? != Holder::Nobody {
                Err(Error::Running { name })
            } else {
                record.push(&volume);
                folder.write(&record)
            }
        })
        .await
    }

    async fn start(&self, name: &MachineName) -> Result<(), Error> {
        let _turn = self.turns.change(name).await;
        let (folder, ..) = self.read(name).await?;
        if self.holder(&folder).await? == Holder::Nobody {
            self.launch(name).await?;
        }
        self.wait_until_it_runs(name, &folder).await
    }

    async fn stop(&self, name: &MachineName, how: Stop) -> Result<(), Error> {
        // No turn: who cuts the power need not wait for the patience of who pressed the button.
        self.end(name, how).await
    }

    async fn remove(&self, name: &MachineName) -> Result<(), Error> {
        let _turn = self.turns.change(name).await;
        let (name, folder) = (name.clone(), self.folder(name));
        blocking(move || match folder.holder()? {
            Holder::Nobody => folder.remove(),
            Holder::Process(_) | Holder::Elsewhere => Err(Error::Running { name }),
        })
        .await
    }

    async fn find(&self, name: &MachineName) -> Result<Option<Machine>, Error> {
        let (folder, definition, disks) = match self.read(name).await {
            Ok(read) => read,
            Err(Error::NoMachine { .. }) => return Ok(None),
            Err(e) => return Err(e),
        };
        let state = self.state(name, &folder).await;
        let (fingerprint, cards) = (definition.fingerprint(), definition.nics.len());
        Ok(Some(Machine { name: name.clone(), fingerprint, cards, disks, state }))
    }

    async fn list(&self) -> Result<Vec<Machine>, Error> {
        let machines = self.machines.clone();
        let names = blocking(move || folder::names(&machines)).await?;
        let found = names.into_iter().map(async |name| self.find(&name).await);
        let found: Vec<_> = futures::stream::iter(found).buffered(AT_A_TIME).try_collect().await?;
        Ok(found.into_iter().flatten().collect())
    }

    async fn inventory(&self) -> Result<Vec<Held>, Error> {
        // The strays last: one that loses its folder in between is seen all the same.
        let mut all: Vec<_> = self.list().await?.into_iter().map(Held::from).collect();
        let strays = self.strays().await?;
        all.retain(|held| strays.iter().all(|stray| stray.name != held.name));
        all.extend(strays);
        all.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(all)
    }

    async fn console(&self, name: &MachineName, from: u64, most: usize) -> Result<Console, Error> {
        let (folder, ..) = self.read(name).await?;
        blocking(move || folder.console(from, most)).await
    }

    async fn type_text(&self, name: &MachineName, text: &str) -> Result<(), Error> {
        self.type_in(name, text).await
    }

    async fn screenshot(&self, name: &MachineName) -> Result<Option<Vec<u8>>, Error> {
        self.screen(name).await
    }

    async fn reach(&self, name: &MachineName, port: u16) -> Result<Option<SocketAddr>, Error> {
        self.open_port(name, port).await
    }

    async fn guest_agent(&self, name: &MachineName) -> Result<bool, Error> {
        self.agent_answers(name).await
    }
}

/// Each thing in which `have` is not `asked`, for people.
fn differences(have: &Definition, asked: &Definition) -> String {
    let fields = |of: &Definition| match serde_json::to_value(of) {
        Ok(serde_json::Value::Object(fields)) => fields,
        Ok(_) | Err(_) => serde_json::Map::new(),
    };
    let asked = fields(asked);
    let differing = fields(have).into_iter().filter(|(key, have)| asked.get(key) != Some(have));
    let told = differing.map(|(key, have)| match asked.get(&key) {
        Some(asked) => format!("{key} is {have}, not {asked}"),
        None => format!("{key} is {have}"),
    });
    told.collect::<Vec<_>>().join("; ")
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.map_err(|_| Error::Died)?
}
