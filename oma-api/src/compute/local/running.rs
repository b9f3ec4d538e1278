//! A machine that runs: whether it does, what it is asked and told, and how it ends.

use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, sleep, timeout};

use super::super::{Error, MachineName, State, Stop};
use super::folder::{Folder, failed};
use super::process::{Holder, Process};
use super::{LocalCompute, blocking, monitor};

/// Between two presses of the power button.
const PRESS_AGAIN: Duration = Duration::from_secs(5);

/// The longest wait for a new daemon's guest to run: it does at once, unless the host is overloaded.
const BEGINS: Duration = Duration::from_secs(20);

/// What a look at all machines may spend on one that does not answer.
const LOOK: Duration = Duration::from_secs(3);

/// How long QEMU takes to end, at most, once its guest is: it flushes what its guest wrote.
const ENDS: Duration = Duration::from_secs(20);

/// How long the kernel takes to end a process, at most.
const KILLED: Duration = Duration::from_secs(10);

/// The longest wait for a guest that reads its serial console: 115,200 baud are not simulated, but a busy guest is slow.
const TYPES: Duration = Duration::from_secs(30);

impl Folder {
    /// Who runs in it.
    pub(super) fn holder(&self) -> Result<Holder, Error> {
        super::process::holder(&self.pid()).map_err(|e| failed("ask for the lock of", &self.pid(), e))
    }
}

impl LocalCompute {
    pub(super) async fn holder(&self, folder: &Folder) -> Result<Holder, Error> {
        let folder = folder.clone();
        blocking(move || folder.holder()).await
    }

    async fn process(&self, folder: &Folder) -> Result<Option<Process>, Error> {
        let pid = folder.pid();
        blocking(move || Process::of(&pid).map_err(|e| failed("ask for the lock of", &pid, e))).await
    }

    /// What it does now. What cannot be told is no failure here: the machine itself is known.
    pub(super) async fn state(&self, name: &MachineName, folder: &Folder) -> State {
        match self.holder(folder).await {
            Ok(Holder::Nobody) => return State::Stopped,
            Ok(Holder::Process(_) | Holder::Elsewhere) => {}
            Err(error) => {
                tracing::warn!(machine = %name, %error, "cannot tell whether a machine runs");
                return State::Unknown;
            }
        }
        let asked = timeout(LOOK, async {
            let _turn = self.turns.monitor(name).await;
            monitor::status(&folder.path).await
        });
        match asked.await {
            Ok(Ok(status)) if status == "running" => State::Running,
            Ok(Ok(_)) => State::Unknown,
            // It may have ended meanwhile.
            Ok(Err(_)) | Err(_) => match self.holder(folder).await {
                Ok(Holder::Nobody) => State::Stopped,
                Ok(Holder::Process(_) | Holder::Elsewhere) | Err(_) => State::Unknown,
            },
        }
    }

    /// Waits until the guest of a QEMU that was there a moment ago runs.
    pub(super) async fn wait_until_it_runs(&self, name: &MachineName, folder: &Folder) -> Result<(), Error> {
        let deadline = Instant::now() + BEGINS;
        loop {
            let status = {
                let _turn = self.turns.monitor(name).await;
                monitor::status(&folder.path).await
            };
            let late = Instant::now() >= deadline;
            match status {
                Ok(status) if status == "running" => return Ok(()),
                // On its way there.
                Ok(status) if status == "prelaunch" && !late => {}
                Ok(status) => return Err(Error::Stuck { name: name.clone(), status }),
                Err(e) => {
                    if self.holder(folder).await? == Holder::Nobody {
                        let words = folder.last_words();
                        let why = format!(
                            "it ended as soon as it had begun, or its guest switched itself off {words}"
                        );
                        return Err(Error::Start { name: name.clone(), why: why.trim_end().to_owned() });
                    }
                    if late {
                        return Err(unanswered(name, e));
                    }
                }
            }
            sleep(Duration::from_millis(25)).await;
        }
    }

    /// Ends it: by the power button, by `quit`, by a signal, in this order.
    pub(super) async fn end(&self, name: &MachineName, how: Stop) -> Result<(), Error> {
        let folder = self.folder(name);
        let Some(process) = self.process(&folder).await? else {
            return match self.holder(&folder).await? {
                Holder::Nobody => self.end_strays(name).await,
                Holder::Process(_) | Holder::Elsewhere => {
                    Err(Error::StillRuns { name: name.clone(), process: None })
                }
            };
        };
        let watched = |e| failed("watch the process of", &folder.path, e);
        let mut ended = match how {
            Stop::Now => false,
            Stop::Graceful { patience } => {
                self.pressed(name, &folder, &process, patience).await.map_err(watched)?
            }
        };
        if !ended {
            if matches!(how, Stop::Graceful { .. }) {
                tracing::warn!(machine = %name, ?how, "a machine did not switch itself off in time: its power is cut");
            }
            ended = match self.tell(name, &folder, "quit").await {
                Ok(()) | Err(monitor::Error::Lost { .. }) => process.ended(ENDS).await.map_err(watched)?,
                Err(_) => false,
            };
        }
        if !ended {
            tracing::warn!(machine = %name, process = process.id(), "a machine's QEMU does not end when asked, and is killed");
            process.kill().map_err(|e| failed("kill the process of", &folder.path, e))?;
            ended = process.ended(KILLED).await.map_err(watched)?;
        }
        match ended {
            true if self.holder(&folder).await? == Holder::Nobody => Ok(()),
            // Somebody started it again meanwhile.
            true => Err(Error::Running { name: name.clone() }),
            false => Err(Error::StillRuns { name: name.clone(), process: Some(process.id()) }),
        }
    }

    /// Presses the power button until the guest has obeyed; whether it has. One that boots has not learnt to hear it, and is
    /// pressed again.
    async fn pressed(
        &self,
        name: &MachineName,
        folder: &Folder,
        process: &Process,
        patience: Duration,
    ) -> std::io::Result<bool> {
        let end = Instant::now() + patience;
        loop {
            match self.tell(name, folder, "system_powerdown").await {
                // After an answer that was lost it may be on its way down, too.
                Ok(()) | Err(monitor::Error::Lost { .. } | monitor::Error::Deadline { .. }) => {}
                Err(error) => {
                    tracing::warn!(machine = %name, %error, "a machine's power button cannot be pressed");
                    return Ok(false);
                }
            }
            let left = end.saturating_duration_since(Instant::now());
            if process.ended(left.min(PRESS_AGAIN)).await? {
                return Ok(true);
            }
            if left <= PRESS_AGAIN {
                return Ok(false);
            }
        }
    }

    async fn tell(
        &self,
        name: &MachineName,
        folder: &Folder,
        command: &'static str,
    ) -> Result<(), monitor::Error> {
        let _turn = self.turns.monitor(name).await;
        monitor::ask(&folder.path, command, json!({})).await.map(|_| ())
    }

    pub(super) async fn type_in(&self, name: &MachineName, text: &str) -> Result<(), Error> {
        let (folder, ..) = self.read(name).await?;
        let _turn = self.turns.console(name).await;
        if self.holder(&folder).await? == Holder::Nobody {
            return Err(Error::NotRunning { name: name.clone() });
        }
        match monitor::type_text(&folder.path, text, TYPES).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(Error::NotTaken { name: name.clone() }),
            Err(_) if self.holder(&folder).await? == Holder::Nobody => {
                Err(Error::NotRunning { name: name.clone() })
            }
            Err(e) => Err(failed("type into the console of", &folder.path, e)),
        }
    }

    pub(super) async fn screen(&self, name: &MachineName) -> Result<Option<Vec<u8>>, Error> {
        let (folder, ..) = self.read(name).await?;
        if self.holder(&folder).await? == Holder::Nobody {
            return Ok(None);
        }
        let path = folder.screen();
        let Some(at) = path.to_str() else {
            return Err(Error::Unusable { what: format!("a path that is not UTF-8 ({})", path.display()) });
        };
        // The turn is for the file, too.
        let _turn = self.turns.monitor(name).await;
        let arguments = json!({ "filename": at, "format": "png" });
        if let Err(e) = monitor::ask(&folder.path, "screendump", arguments).await {
            return match self.holder(&folder).await? {
                Holder::Nobody => Ok(None),
                Holder::Process(_) | Holder::Elsewhere => Err(unanswered(name, e)),
            };
        }
        let read = blocking(move || {
            let picture = std::fs::read(&path).map_err(|e| failed("read", &path, e))?;
            std::fs::remove_file(&path).map_err(|e| failed("remove", &path, e))?;
            Ok(picture)
        });
        read.await.map(Some)
    }
}

pub(super) fn unanswered(name: &MachineName, source: monitor::Error) -> Error {
    Error::Monitor { name: name.clone(), source: source.into() }
}
