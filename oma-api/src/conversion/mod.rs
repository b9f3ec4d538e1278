//! Makes a guest on raw images or block devices able to run on virtio.
//!
//! It looks first: most guests need nothing, and then nothing is written. The others are converted by
//! `virt-v2v-in-place`, with all disks of the VM at once, and looked at again: that the tool ends well proves nothing.
//!
//! ```text
//!  look ─┬─ ready ─────────────────────────────────────────────► NotNeeded
//!        ├─ no system that virt-v2v knows ─────────────────────► NotRecognised
//!        └─ not ready, or perhaps ─► virt-v2v ─► look ─ ready ─► Converted
//!                                        └──────── else ───────► an error: the disks are not to be used
//! ```
//!
//! What it writes may be half written when it fails, so it is only ever given clones of a restore point (DESIGN §6
//! rule 7); the caller sees to that. It knows no workflow, job or database, makes no clone and throws none away.

mod appliance;
mod boot_disk;
mod child;
mod error;
mod fish;
mod guest;
mod initramfs;
mod linux;
mod look;
mod prerequisites;
mod report;
mod run;
mod settings;
#[cfg(test)]
mod tests;
mod v2v;
mod windows;
mod xml;

use std::ffi::OsString;
use std::path::Path;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use boot_disk::Table;
use child::Ended;
use fish::Fish;
use look::Looked;
use run::Folder;
use xml::Source;

pub use error::{Error, Wrote};
pub use guest::{Disk, Guest, Outcome, System, Virtio};
pub use settings::{Accel, Settings};

/// Looks at guests and converts them.
#[derive(Clone, Debug)]
pub struct Converter {
    settings: Settings,
    /// Looked up as all programs are; tests have another.
    guestfish: OsString,
}

impl Converter {
    pub fn new(settings: Settings) -> Self {
        Self { settings, guestfish: "guestfish".into() }
    }

    /// Whether this machine has what a conversion needs; for Windows that is more. `system_hint` is the source's word
    /// for the guest (`windows9Server64Guest`). An error says what is missing and where it was looked for.
    pub async fn check(&self, system_hint: Option<&str>) -> Result<(), Error> {
        let windows = system_hint.is_some_and(prerequisites::is_windows);
        let settings = self.settings.clone();
        blocking(move || {
            prerequisites::programs(&settings)?;
            if windows { prerequisites::windows(&settings) } else { Ok(()) }
        })
        .await
    }

    /// What is on these disks. Writes nothing. Takes as long as the appliance takes to start, and a little.
    pub async fn look(&self, disks: &[Disk], stop: &CancellationToken) -> Result<Guest, Error> {
        let deadline = Instant::now() + self.settings.deadline.0;
        let (sources, tables) = self.open(disks).await?;
        Ok(self.look_at(&sources, &tables, stop, deadline).await?.guest)
    }

    /// Makes the guest ready for virtio, if it is not, and sees that it is; all is durable then. `log` gets all that
    /// the tool prints, behind what is in it already. After an error other than a prerequisite's, or one that says that
    /// nothing was written, the disks are not to be used.
    pub async fn convert(
        &self,
        disks: &[Disk],
        log: &Path,
        stop: &CancellationToken,
    ) -> Result<Outcome, Error> {
        let deadline = Instant::now() + self.settings.deadline.0;
        let (sources, tables) = self.open(disks).await?;
        let looked = self.look_at(&sources, &tables, stop, deadline).await?;
        let before = looked.guest.clone();
        match (&before.system, &before.virtio) {
            (System::Other(_) | System::Unrecognised, _) => return Ok(Outcome::NotRecognised(before)),
            (System::Linux | System::Windows, Virtio::Ready { .. }) => return Ok(Outcome::NotNeeded(before)),
            (System::Windows, _) => {
                // What the source called it may have been wrong, and nothing is written yet.
                let settings = self.settings.clone();
                blocking(move || prerequisites::windows(&settings)).await?;
            }
            (System::Linux, _) => {}
        }
        tracing::info!(guest = %before, virtio = %before.virtio, log = %log.display(), "converting a guest");
        let log_tail = self.v2v(&sources, &looked, log, stop, deadline).await?;
        let after = match self.look_at(&sources, &tables, stop, deadline).await {
            Ok(looked) => looked.guest,
            // The disks were written by now, however this look was cut off.
            Err(Error::Stopped { .. }) => {
                return Err(Error::Stopped { wrote: Wrote::Perhaps, tail: log_tail });
            }
            Err(Error::TooLong { after, .. }) => {
                return Err(Error::TooLong { after, wrote: Wrote::Perhaps, tail: log_tail });
            }
            Err(Error::Look { source }) => {
                let why = format!("it cannot be looked at any more: {source}");
                return Err(Error::StillMissing { guest: before.to_string(), why, tail: log_tail });
            }
            Err(other) => return Err(other),
        };
        match after.virtio {
            Virtio::Ready { .. } => Ok(Outcome::Converted { before, after, log_tail }),
            Virtio::Missing { .. } | Virtio::Unknown { .. } => Err(Error::StillMissing {
                guest: after.to_string(),
                why: after.virtio.to_string(),
                tail: log_tail,
            }),
        }
    }

    async fn open(&self, disks: &[Disk]) -> Result<(Vec<Source>, Vec<Table>), Error> {
        if disks.is_empty() {
            return Err(Error::NoDisks);
        }
        let disks = disks.to_vec();
        blocking(move || {
            let opened = disks.iter().map(|disk| {
                let opened = Source::of(&disk.path).and_then(|source| Ok((source, Table::read(&disk.path)?)));
                opened.map_err(|source| Error::Disk { path: disk.path.clone(), source })
            });
            Ok(opened.collect::<Result<Vec<_>, _>>()?.into_iter().unzip())
        })
        .await
    }

    async fn look_at(
        &self,
        sources: &[Source],
        tables: &[Table],
        stop: &CancellationToken,
        deadline: Instant,
    ) -> Result<Looked, Error> {
        let processor = self.processor(stop, deadline).await?;
        let disks: Vec<_> = sources.iter().map(|source| source.path.clone()).collect();
        let tables = tables.to_vec();
        let heard = stop.clone();
        let talk = move |fish: &mut Fish, run: &Path| look::look(fish, &tables, run, &heard);
        self.talk(&disks, processor, talk, stop, deadline).await
    }

    async fn folder(&self) -> Result<Folder, Error> {
        let scratch = self.settings.scratch.clone();
        blocking(move || {
            Folder::make(&scratch).map_err(|source| Error::Io { what: "use", place: scratch, source })
        })
        .await
    }

    fn cut(&self, program: &str, ended: Ended, wrote: Wrote, tail: Vec<String>) -> Error {
        match ended {
            Ended::Stopped => Error::Stopped { wrote, tail },
            Ended::TooLong => Error::TooLong { after: self.settings.deadline.0, wrote, tail },
            Ended::Io(source) => Error::Run { program: program.to_owned(), source },
        }
    }
}

/// On a thread that may wait for a disk.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|died| {
        Err(Error::Run { program: "a thread".to_owned(), source: std::io::Error::other(died) })
    })
}
