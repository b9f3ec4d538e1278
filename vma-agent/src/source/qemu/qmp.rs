//! A QMP client: one command at a time, each with a deadline, events skipped.
//!
//! A QMP socket serves one client at a time; the next one waits for its greeting. So a [`Session`] is opened for one
//! operation and dropped after it, and a greeting that does not come means that somebody else holds the monitor. A
//! session that failed once is of no use any more: an answer may still be on its way.
//!
//! What a command did whose answer never came is unknown; callers look it up. No retries here.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::timeout;

/// Most bytes of one answer: a VM with hundreds of nodes answers with a few hundred KiB.
const LONGEST_LINE: u64 = 16 << 20;

/// Why a command was not carried out, or may not have been.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody listens.
    #[error("cannot connect to the QMP monitor {}: is the VM's process running?", path.display())]
    Connect { path: PathBuf, source: io::Error },
    /// Connected, and no greeting: somebody else is.
    #[error("the QMP monitor {} did not greet within {} s: another client holds it; give the agent a monitor of its own", path.display(), after.as_secs())]
    Busy { path: PathBuf, after: Duration },
    /// The connection broke. The command may have been carried out.
    #[error("lost the QMP monitor {} at {command}", path.display())]
    Lost { path: PathBuf, command: &'static str, source: io::Error },
    /// No answer in time. The command may be carried out yet.
    #[error("{command} was not answered within {} s by the QMP monitor {}", after.as_secs(), path.display())]
    Deadline { path: PathBuf, command: &'static str, after: Duration },
    /// The answer is not JSON, or not of the documented form.
    #[error("the answer to {command} is not as documented")]
    Nonsense { command: &'static str, source: serde_json::Error },
    /// A job of QEMU's goes on and on.
    #[error("QEMU's job {job} did not end within {} s: the disk of the scratch folder does not answer, or somebody else creates an image", after.as_secs())]
    Unfinished { job: String, after: Duration },
    /// The monitor said no.
    #[error("{command} was refused: {description}")]
    Refused { command: &'static str, class: String, description: String },
    /// A test ends the agent here.
    #[cfg(test)]
    #[error("killed before {command}")]
    Killed { command: &'static str },
}

impl Error {
    /// The monitor does not have this command (a storage daemon has no `query-status`).
    pub fn is_unknown_command(&self) -> bool {
        matches!(self, Self::Refused { class, .. } if class == "CommandNotFound")
    }

    /// The monitor answered, and the answer was no: nothing was done.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused { .. })
    }
}

/// How to reach a monitor.
#[derive(Clone, Debug)]
pub struct Monitor {
    /// The Unix socket.
    pub path: PathBuf,
    /// The longest wait for the greeting, other clients' time included.
    pub greeting: Duration,
    /// The longest wait for an answer.
    pub answer: Duration,
    #[cfg(test)]
    pub(super) faults: super::faults::Faults,
}

impl Monitor {
    /// With the usual deadlines: 20 s for the greeting, 60 s for an answer (a command may have to wait until writes
    /// in flight have ended).
    pub fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            greeting: Duration::from_secs(20),
            answer: Duration::from_secs(60),
            #[cfg(test)]
            faults: super::faults::Faults::default(),
        }
    }

    /// Opens a session; it holds the monitor until it is dropped.
    pub async fn open(&self) -> Result<Session, Error> {
        let connect = async {
            let stream = UnixStream::connect(&self.path).await;
            let stream = stream.map_err(|source| Error::Connect { path: self.path.clone(), source })?;
            let (reader, writer) = stream.into_split();
            let mut session =
                Session { monitor: self.clone(), reader: BufReader::new(reader), writer, last: 0 };
            session.line("greeting").await?;
            Ok(session)
        };
        let greeted = timeout(self.greeting, connect).await;
        let mut session =
            greeted.map_err(|_| Error::Busy { path: self.path.clone(), after: self.greeting })??;
        let _: Value = session.call("qmp_capabilities", json!({})).await?;
        Ok(session)
    }
}

/// An open monitor.
#[derive(Debug)]
pub struct Session {
    monitor: Monitor,
    reader: BufReader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
    last: u64,
}

impl Session {
    /// Runs one command and waits for its answer.
    pub async fn execute<T: DeserializeOwned>(
        &mut self,
        command: &'static str,
        arguments: Value,
    ) -> Result<T, Error> {
        #[cfg(test)]
        self.monitor.faults.step(command)?;
        self.call(command, arguments).await
    }

    /// Runs one command whose answer says nothing.
    pub async fn run(&mut self, command: &'static str, arguments: Value) -> Result<(), Error> {
        self.execute::<Value>(command, arguments).await.map(|_| ())
    }

    async fn call<T: DeserializeOwned>(
        &mut self,
        command: &'static str,
        arguments: Value,
    ) -> Result<T, Error> {
        let after = self.monitor.answer;
        let answered = timeout(after, self.exchange(command, arguments)).await;
        let value =
            answered.map_err(|_| Error::Deadline { path: self.monitor.path.clone(), command, after })??;
        serde_json::from_value(value).map_err(|source| Error::Nonsense { command, source })
    }

    async fn exchange(&mut self, command: &'static str, arguments: Value) -> Result<Value, Error> {
        self.last += 1;
        let mut line = json!({ "execute": command, "arguments": arguments, "id": self.last }).to_string();
        line.push('\n');
        let sent = self.writer.write_all(line.as_bytes()).await;
        sent.map_err(|source| self.lost(command, source))?;
        loop {
            let mut answer = self.line(command).await?;
            if answer.get("id").and_then(Value::as_u64) != Some(self.last) {
                // An event.
                continue;
            }
            if let Some(value) = answer.remove("return") {
                return Ok(value);
            }
            let text = |of: &str| {
                answer.get("error").and_then(|e| e.get(of)).and_then(Value::as_str).unwrap_or("?").to_owned()
            };
            return Err(Error::Refused { command, class: text("class"), description: text("desc") });
        }
    }

    async fn line(&mut self, command: &'static str) -> Result<Map<String, Value>, Error> {
        let mut line = Vec::new();
        let read = (&mut self.reader).take(LONGEST_LINE).read_until(b'\n', &mut line).await;
        read.map_err(|source| self.lost(command, source))?;
        if line.last() != Some(&b'\n') {
            return Err(self.lost(command, io::ErrorKind::UnexpectedEof.into()));
        }
        serde_json::from_slice(&line).map_err(|source| Error::Nonsense { command, source })
    }

    fn lost(&self, command: &'static str, source: io::Error) -> Error {
        Error::Lost { path: self.monitor.path.clone(), command, source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::UnixListener;

    /// A monitor that greets, agrees, and then answers with the lines given, whatever is asked.
    async fn play(listener: UnixListener, lines: &'static [&'static str]) {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = BufReader::new(stream);
        stream.write_all(b"{\"QMP\": {}}\r\n").await.unwrap();
        let mut asked = String::new();
        stream.read_line(&mut asked).await.unwrap();
        stream.write_all(b"{\"return\": {}, \"id\": 1}\r\n").await.unwrap();
        stream.read_line(&mut asked).await.unwrap();
        for line in lines {
            stream.write_all(line.as_bytes()).await.unwrap();
            stream.write_all(b"\r\n").await.unwrap();
        }
    }

    async fn ask(lines: &'static [&'static str]) -> Result<u64, Error> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("qmp");
        let server = tokio::spawn(play(UnixListener::bind(&path).unwrap(), lines));
        let mut session = Monitor::new(&path).open().await.unwrap();
        let answer = session.execute("query-answer", json!({})).await;
        server.await.unwrap();
        answer
    }

    #[tokio::test]
    async fn events_and_late_answers_are_skipped() {
        let lines = &["{\"event\": \"X\"}", "{\"return\": 1, \"id\": 1}", "{\"return\": 42, \"id\": 2}"];
        assert_eq!(ask(lines).await.unwrap(), 42);
    }

    #[tokio::test]
    async fn failures_are_told_apart() {
        let no = ask(&["{\"error\": {\"class\": \"CommandNotFound\", \"desc\": \"no\"}, \"id\": 2}"]).await;
        assert!(no.unwrap_err().is_unknown_command());
        assert!(matches!(ask(&[]).await, Err(Error::Lost { command: "query-answer", .. })));
        assert!(matches!(ask(&["{"]).await, Err(Error::Nonsense { .. })));
        assert!(matches!(ask(&["{\"return\": \"x\", \"id\": 2}"]).await, Err(Error::Nonsense { .. })));
    }

    #[tokio::test]
    async fn a_monitor_that_somebody_holds_is_busy() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("qmp");
        assert!(matches!(Monitor::new(&path).open().await, Err(Error::Connect { .. })));
        let _listener = UnixListener::bind(&path).unwrap();
        let mut monitor = Monitor::new(&path);
        monitor.greeting = Duration::from_millis(50);
        assert!(matches!(monitor.open().await, Err(Error::Busy { .. })));
    }
}
