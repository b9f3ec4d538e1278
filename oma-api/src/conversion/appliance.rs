//! libguestfs' appliance: a small machine that mounts a guest's disks, started for one conversation, with KVM where
//! that works.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::sync::OnceCell;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Converter;
use super::child::{Running, Spec};
use super::error::{Error, Wrote};
use super::fish::{self, Fish};
use super::settings::{Accel, Processor};

/// How long an empty appliance may take to start with KVM, the first time it is made included. Where KVM works, it
/// takes three seconds; where it does not, QEMU dies at once, or goes on for ever.
const KVM_PATIENCE: Duration = Duration::from_secs(25);

/// Whether KVM works here. A fact of the machine, so one for all.
static KVM_WORKS: OnceCell<bool> = OnceCell::const_new();

impl Converter {
    /// A conversation with guestfish about `disks`, until it is over and all of guestfish's processes are gone.
    pub(super) async fn talk<T: Send + 'static>(
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
    pub(super) async fn processor(
        &self,
        stop: &CancellationToken,
        deadline: Instant,
    ) -> Result<Processor, Error> {
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
}
