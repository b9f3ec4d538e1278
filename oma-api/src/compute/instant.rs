//! A compute backend without machines, which answers at once: what is defined, attached and started is remembered, and a
//! console says what a test makes it say.
//!
//! For tests, and for measuring what the control plane itself takes; in no program that is delivered (the feature
//! `test-compute`). With a folder it outlives its program, as the machines of a real backend do; not a loss of power. While
//! the folder has a file `hold`, one call for each machine does not return: one that has done its work, or has not.

use super::{Compute, Console, Definition, Error, Machine, MachineName, State, Stop};
use crate::storage::VolumeId;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

type All = BTreeMap<MachineName, (Made, Vec<u8>)>;

#[derive(Clone, Debug)]
struct Made {
    name: MachineName,
    definition: Definition,
    disks: Vec<VolumeId>,
    state: State,
}

impl Made {
    fn machine(&self) -> Machine {
        Machine {
            name: self.name.clone(),
            fingerprint: self.definition.fingerprint(),
            cards: self.definition.nics.len(),
            disks: self.disks.clone(),
            state: self.state,
        }
    }
}

/// See the module.
#[derive(Debug, Default)]
pub struct Machines {
    all: Mutex<All>,
    kept: Option<PathBuf>,
}

/// A machine as its file has it; its console is not kept.
#[derive(Serialize, Deserialize)]
struct Kept {
    definition: Definition,
    disks: Vec<String>,
    running: bool,
}

impl Machines {
    /// With those that are in the folder, which is there.
    ///
    /// # Errors
    /// It cannot be read, or holds what this does not write.
    pub fn open(folder: &Path) -> io::Result<Self> {
        let mut all = All::new();
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            // Half-written, or not ours.
            let Some(name) = path.file_name().and_then(|n| n.to_str()?.strip_suffix(".json")) else {
                continue;
            };
            let name = MachineName::parse(name).map_err(io::Error::other)?;
            let Kept { definition, disks, running } = serde_json::from_slice(&std::fs::read(&path)?)?;
            let disks = disks.into_iter().map(VolumeId::parse).collect::<Result<_, _>>();
            let disks = disks.map_err(io::Error::other)?;
            let state = if running { State::Running } else { State::Stopped };
            all.insert(name.clone(), (Made { name, definition, disks, state }, Vec::new()));
        }
        Ok(Self { all: Mutex::new(all), kept: Some(folder.to_owned()) })
    }

    fn all(&self) -> MutexGuard<'_, All> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Into the file, where there is one; without a sync, and at once: it is in no program that serves anybody.
    fn keep(&self, name: &MachineName, machine: Option<&Made>) -> Result<(), Error> {
        let Some(folder) = &self.kept else { return Ok(()) };
        let path = folder.join(format!("{name}.json"));
        let written = match machine {
            None => match std::fs::remove_file(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                removed => removed,
            },
            Some(machine) => {
                let kept = Kept {
                    definition: machine.definition.clone(),
                    disks: machine.disks.iter().map(ToString::to_string).collect(),
                    running: machine.state == State::Running,
                };
                let half = folder.join(format!("{name}.tmp"));
                serde_json::to_vec(&kept)
                    .map_err(io::Error::other)
                    .and_then(|text| std::fs::write(&half, text))
                    .and_then(|()| std::fs::rename(&half, &path))
            }
        };
        written.map_err(|source| Error::Io { what: "write", place: path.display().to_string(), source })
    }

    /// Where a machine's calls are held, by its name: all three places are among a few machines.
    async fn hold(&self, name: &MachineName, place: u32) {
        let Some(folder) = &self.kept else { return };
        let hold = folder.join("hold");
        while name.as_str().bytes().map(u32::from).sum::<u32>() % 3 == place && hold.exists() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Names and disks of those that are there.
    pub fn inventory(&self) -> Vec<(String, Vec<String>, State)> {
        let show = |(m, _): &(Made, Vec<u8>)| {
            (m.name.to_string(), m.disks.iter().map(ToString::to_string).collect(), m.state)
        };
        self.all().values().map(show).collect()
    }

    /// All guests write this to their consoles.
    #[cfg(test)]
    pub(crate) fn say(&self, bytes: &[u8]) {
        self.all().values_mut().for_each(|(_, console)| console.extend_from_slice(bytes));
    }

    fn with<T>(
        &self,
        name: &MachineName,
        work: impl FnOnce(&mut Made, &mut Vec<u8>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let mut all = self.all();
        let (machine, console) = all.get_mut(name).ok_or_else(|| Error::NoMachine { name: name.clone() })?;
        let done = work(machine, console)?;
        self.keep(name, Some(machine))?;
        Ok(done)
    }
}

#[async_trait::async_trait]
impl Compute for Machines {
    async fn prepare(&self) {}

    async fn check(&self, _: &Definition) -> Result<(), Error> {
        Ok(())
    }

    async fn define(&self, name: &MachineName, machine: &Definition) -> Result<(), Error> {
        tokio::task::yield_now().await;
        let made = Made {
            name: name.clone(),
            definition: machine.clone(),
            disks: Vec::new(),
            state: State::Stopped,
        };
        {
            let mut all = self.all();
            match all.get(name) {
                Some((there, _)) if there.definition != *machine => {
                    return Err(Error::OtherMachine { name: name.clone(), what: "it".to_owned() });
                }
                Some(_) => {}
                None => {
                    self.keep(name, Some(&made))?;
                    all.insert(name.clone(), (made, Vec::new()));
                }
            }
        }
        self.hold(name, 0).await;
        Ok(())
    }

    async fn attach(&self, name: &MachineName, position: usize, volume: &VolumeId) -> Result<(), Error> {
        tokio::task::yield_now().await;
        self.hold(name, 1).await;
        self.with(name, |machine, _| match machine.disks.get(position) {
            Some(have) if have == volume => Ok(()),
            None if machine.disks.len() == position && machine.state == State::Stopped => {
                machine.disks.push(volume.clone());
                Ok(())
            }
            _ => Err(Error::OutOfOrder { name: name.clone(), position, disks: machine.disks.len() }),
        })
    }

    async fn start(&self, name: &MachineName) -> Result<(), Error> {
        tokio::task::yield_now().await;
        self.with(name, |machine, console| {
            if machine.state != State::Running {
                console.extend_from_slice(b"the guest boots\r\n");
            }
            machine.state = State::Running;
            Ok(())
        })?;
        self.hold(name, 2).await;
        Ok(())
    }

    async fn stop(&self, name: &MachineName, _: Stop) -> Result<(), Error> {
        tokio::task::yield_now().await;
        match self.with(name, |machine, _| {
            machine.state = State::Stopped;
            Ok(())
        }) {
            Err(Error::NoMachine { .. }) => Ok(()),
            done => done,
        }
    }

    async fn remove(&self, name: &MachineName) -> Result<(), Error> {
        tokio::task::yield_now().await;
        let mut all = self.all();
        match all.get(name) {
            Some((machine, _)) if machine.state == State::Running => {
                Err(Error::Running { name: name.clone() })
            }
            _ => {
                all.remove(name);
                self.keep(name, None)
            }
        }
    }

    async fn find(&self, name: &MachineName) -> Result<Option<Machine>, Error> {
        tokio::task::yield_now().await;
        Ok(self.all().get(name).map(|(machine, _)| machine.machine()))
    }

    async fn list(&self) -> Result<Vec<Machine>, Error> {
        Ok(self.all().values().map(|(machine, _)| machine.machine()).collect())
    }

    async fn console(&self, name: &MachineName, from: u64, most: usize) -> Result<Console, Error> {
        let all = self.all();
        let (_, console) = all.get(name).ok_or_else(|| Error::NoMachine { name: name.clone() })?;
        let end = console.len();
        let start = usize::try_from(from).unwrap_or(end).min(end);
        let data = console[start..end.min(start.saturating_add(most))].to_vec();
        Ok(Console { offset: start as u64, data, end: end as u64 })
    }

    async fn type_text(&self, name: &MachineName, text: &str) -> Result<(), Error> {
        self.with(name, |_, console| {
            console.extend_from_slice(text.as_bytes());
            Ok(())
        })
    }

    async fn screenshot(&self, _: &MachineName) -> Result<Option<Vec<u8>>, Error> {
        Ok(None)
    }

    async fn reach(&self, _: &MachineName, _: u16) -> Result<Option<SocketAddr>, Error> {
        Ok(None)
    }

    async fn guest_agent(&self, _: &MachineName) -> Result<bool, Error> {
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn machines_outlive_the_program_where_they_have_a_folder() {
        let folder = tempfile::tempdir().expect("a folder");
        let machines = Machines::open(folder.path()).expect("opened");
        let [stays, goes] = ["stays", "goes"].map(|name| MachineName::parse(name).expect("a name"));
        let definition = Definition {
            uuid: uuid::Uuid::nil(),
            title: "web".to_owned(),
            cpus: 1,
            memory_bytes: 1 << 20,
            firmware: crate::compute::Firmware::Bios,
            bus: crate::compute::Bus::VirtioBlk,
            nics: vec![],
            guest_id: None,
        };
        for name in [&stays, &goes] {
            machines.define(name, &definition).await.expect("defined");
        }
        let disk = VolumeId::parse("cs-root").expect("an id");
        machines.attach(&stays, 0, &disk).await.expect("attached");
        machines.start(&stays).await.expect("started");
        machines.remove(&goes).await.expect("removed");
        let again = Machines::open(folder.path()).expect("opened again");
        assert_eq!(again.inventory(), machines.inventory());
        let found = again.find(&stays).await.expect("asked").map(|m| m.fingerprint);
        assert_eq!(found, Some(definition.fingerprint()));
    }
}
