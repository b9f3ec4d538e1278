//! One run of `virt-v2v-in-place`: all disks, one log, and what the tool says judged.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::child::{Running, Spec};
use super::error::{Error, Wrote};
use super::look::Looked;
use super::report::{self, Report};
use super::xml::{self, Source};
use super::{Converter, blocking};

/// Most of a log's end that is read for its last lines, and of the tool's messages.
const MOST: u64 = 1 << 20;

/// A log that others may have written to before.
struct Log {
    path: PathBuf,
    file: File,
    start: u64,
}

impl Log {
    fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        let start = file.metadata()?.len();
        Ok(Self { path: path.to_owned(), file, start })
    }

    /// The last lines of what was written since it was opened. One that cannot be read has none.
    fn tail(&self) -> Vec<String> {
        report::tail(&end(&self.path, self.start).unwrap_or_default())
    }
}

/// The end of a file from `start` on.
fn end(path: &Path, start: u64) -> io::Result<String> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(start.max(length.saturating_sub(MOST))))?;
    let mut bytes = Vec::new();
    file.take(MOST).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

impl Converter {
    /// Converts, durably; the log's last lines.
    pub(super) async fn v2v(
        &self,
        sources: &[Source],
        looked: &Looked,
        log: &Path,
        stop: &CancellationToken,
        deadline: Instant,
    ) -> Result<Vec<String>, Error> {
        let processor = self.processor(stop, deadline).await?;
        let run = self.folder().await?;
        let domain = run.path().join("guest.xml");
        let messages = run.path().join("messages.json");
        let io = |what, place: &Path| {
            let place = place.to_owned();
            move |source| Error::Io { what, place, source }
        };
        std::fs::write(&domain, xml::domain(sources, looked.firmware)).map_err(io("write", &domain))?;
        let log = Log::open(log).map_err(io("write", log))?;
        let again = || log.file.try_clone().map(Stdio::from).map_err(io("write", &log.path));
        let mut arguments = vec![format!("--machine-readable=file:{}", messages.display()).into()];
        if let Some(root) = &looked.root {
            // Else it asks which, where there are several.
            arguments.extend(["--root".into(), root.into()]);
        }
        arguments.extend(["-i".into(), "libvirtxml".into(), domain.into()]);
        let spec = Spec {
            program: self.settings.tool.clone().into(),
            arguments,
            environment: self.settings.environment(processor, run.path()),
            input: Stdio::null(),
            output: again()?,
            errors: again()?,
        };
        let cannot = |source| Error::Run { program: self.settings.tool.clone(), source };
        let mut running = Running::start(spec).await.map_err(cannot)?;
        let ended = running.wait(stop, deadline).await;
        let tail = log.tail();
        let status =
            ended.map_err(|ended| self.cut(&self.settings.tool, ended, Wrote::Perhaps, tail.clone()))?;
        let report = Report::of(&end(&messages, 0).unwrap_or_default());
        self.judge(status, report, &looked.guest.to_string(), &tail)?;
        sync(sources).await?;
        Ok(tail)
    }

    /// Whether what it said and how it ended may be believed.
    pub(super) fn judge(
        &self,
        status: ExitStatus,
        report: Report,
        guest: &str,
        tail: &[String],
    ) -> Result<(), Error> {
        let (guest, tail) = (guest.to_owned(), tail.to_vec());
        if !status.success() {
            let said = report.error.or_else(|| tail.last().cloned());
            let why = said.unwrap_or_else(|| "it said nothing".to_owned());
            return Err(Error::Failed { guest, status: ended(status), why, tail });
        }
        match report.no_drivers {
            Some(said) => Err(Error::NoDrivers { guest, said, looked: self.settings.virtio_win(), tail }),
            None => {
                for warning in &report.warnings {
                    tracing::warn!(guest, warning, "the conversion went on after a warning");
                }
                Ok(())
            }
        }
    }
}

fn ended(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => "ended oddly".to_owned(),
    }
}

/// libguestfs writes with `cache=unsafe`: what virt-v2v called done may be in this machine's memory only.
async fn sync(sources: &[Source]) -> Result<(), Error> {
    let sources = sources.to_vec();
    blocking(move || {
        for source in sources {
            let path = PathBuf::from(source.path);
            let synced = OpenOptions::new().write(true).open(&path).and_then(|disk| disk.sync_all());
            synced.map_err(|source| Error::Disk { path, source })?;
        }
        Ok(())
    })
    .await
}
