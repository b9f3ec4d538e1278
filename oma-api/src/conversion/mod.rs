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
use std::process::Stdio;
use std::time::Duration;

use tokio::sync::OnceCell;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use boot_disk::Table;
use child::{Ended, Running, Spec};
use fish::Fish;
use look::Looked;
use run::Folder;
use settings::Processor;
use xml::Source;

pub use error::{Error, Wrote};
pub use guest::{Disk, Guest, Outcome, System, Virtio};
pub use settings::{Accel, Settings};

/// How long an empty appliance may take to start with KVM, the first time it is made included. Where KVM works, it
/// takes three seconds; where it does not, QEMU dies at once, or goes on for ever.
const KVM_PATIENCE: Duration = Duration::from_secs(25);

/// Whether KVM works here. A fact of the machine, so one for all.
static KVM_WORKS: OnceCell<bool> = OnceCell::const_new();

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

    /// A conversation with guestfish about `disks`, until it is over and all of guestfish's processes are gone.
    async fn talk<T: Send + 'static>(
        &self,
        disks: &[String],
        processor: Processor,
        talk: impl FnOnce(&mut Fish, &Path) -> Result<T, fish::Error> + Send + 'static,
        stop: &CancellationToken,
        deadline: Instant,
    ) -> Result<T, Error> {
        let run = self.folder().await?;
        let said = run.path().join("errors");
        let errors = std::fs::File::create(&said);
        let errors = errors.and_then(|errors| Ok((errors, std::fs::File::open(&said)?)));
        let (errors, heard) = errors.map_err(|source| Error::Io { what: "make", place: said, source })?;
        let mut arguments = vec!["--ro".into(), "--no-sync".into()];
        for disk in disks {
            arguments.extend(["--format=raw".into(), "-a".into(), disk.into()]);
        }
        let spec = Spec {
            program: self.guestfish.clone(),
            arguments,
            environment: self.settings.environment(processor, run.path()),
            input: Stdio::piped(),
            output: Stdio::piped(),
            errors: errors.into(),
        };
        let cannot = |source| Error::Run { program: "guestfish".to_owned(), source };
        let mut running = Running::start(spec).await.map_err(cannot)?;
        let pipes = running.input.take().zip(running.output.take());
        let (input, output) = pipes.ok_or_else(|| cannot(std::io::ErrorKind::BrokenPipe.into()))?;
        // The folder goes with the conversation, which may outlive a caller that does not wait for it.
        let talked = tokio::task::spawn_blocking(move || {
            let talked = talk(&mut Fish::new(input, output, heard), run.path());
            (talked, run)
        });
        // The conversation's end closes guestfish's input, and that is its end; and the other way round.
        let ended = running.wait(stop, deadline).await;
        let (talked, _run) = talked.await.map_err(|died| cannot(std::io::Error::other(died)))?;
        match ended {
            Ok(_) => Ok(talked?),
            Err(ended) => Err(self.cut("guestfish", ended, Wrote::Nothing, Vec::new())),
        }
    }

    /// How the appliance is to run.
    async fn processor(&self, stop: &CancellationToken, deadline: Instant) -> Result<Processor, Error> {
        let works = match self.settings.accel {
            Accel::Kvm => true,
            Accel::ForceTcg => false,
            Accel::Auto => *KVM_WORKS.get_or_try_init(|| self.try_kvm(stop, deadline)).await?,
        };
        Ok(if works { Processor::Kvm } else { Processor::Emulated })
    }

    /// Tried, as `/dev/kvm` says nothing: nested and para-virtual ones can be opened and do not run a kernel.
    async fn try_kvm(&self, stop: &CancellationToken, deadline: Instant) -> Result<bool, Error> {
        let device = std::fs::OpenOptions::new().read(true).write(true).open("/dev/kvm");
        if device.is_err() {
            return Ok(false);
        }
        drop(device);
        let patience = deadline.min(Instant::now() + KVM_PATIENCE);
        let empty = ["/dev/null".to_owned()];
        let launch = |fish: &mut Fish, _: &Path| fish.ask("run", &[]);
        match self.talk(&empty, Processor::Kvm, launch, stop, patience).await {
            Ok(_) => Ok(true),
            Err(stopped @ Error::Stopped { .. }) => Err(stopped),
            Err(error) => {
                tracing::warn!(%error, "KVM is there and does not work: conversions emulate a processor and take longer");
                Ok(false)
            }
        }
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
