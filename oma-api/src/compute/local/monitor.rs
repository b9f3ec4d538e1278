//! The two sockets of a machine's QEMU: its monitor (QMP) and its serial console.
//!
//! Both serve one client at a time, so each is opened for one command and dropped. They are reached through the
//! folder's descriptor: the path of a Unix socket has at most 107 bytes, and a folder may be deeper than that.

use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::timeout;

/// The monitor's name in the folder.
pub(super) const QMP: &str = "qmp.sock";

/// The serial console's.
pub(super) const CONSOLE: &str = "console.sock";

/// The guest agent's.
pub(super) const AGENT: &str = "agent.sock";

/// The longest wait for an answer: a screenshot of a busy guest takes a second.
const ANSWER: Duration = Duration::from_secs(10);

/// Most bytes of one answer; those to our commands have a few hundred.
const LONGEST_LINE: u64 = 1 << 20;

/// Why a command was not carried out, or may not have been.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("cannot connect to its monitor")]
    Connect(#[source] io::Error),
    /// The command may have been carried out.
    #[error("lost its monitor at {command}")]
    Lost { command: &'static str, source: io::Error },
    /// The same.
    #[error("{command} was not answered within {} s: the machine is overloaded, or somebody else holds its monitor", ANSWER.as_secs())]
    Deadline { command: &'static str },
    #[error("the answer to {command} is not as documented")]
    Nonsense { command: &'static str, source: serde_json::Error },
    #[error("{command} was refused: {description}")]
    Refused { command: &'static str, description: String },
}

/// Connects to a socket in a folder, however long the folder's path is.
pub(super) async fn connect(folder: &Path, socket: &str) -> io::Result<UnixStream> {
    let folder = tokio::fs::File::open(folder).await?;
    UnixStream::connect(format!("/proc/self/fd/{}/{socket}", folder.as_raw_fd())).await
}

/// Asks one thing of the QEMU whose sockets are in `folder`.
pub(super) async fn ask(folder: &Path, command: &'static str, arguments: Value) -> Result<Value, Error> {
    let asked = async {
        let (reader, writer) = connect(folder, QMP).await.map_err(Error::Connect)?.into_split();
        let mut session = Session { reader: BufReader::new(reader), writer };
        session.line("greeting").await?;
        session.run("qmp_capabilities", json!({})).await?;
        session.run(command, arguments).await
    };
    timeout(ANSWER, asked).await.map_err(|_| Error::Deadline { command })?
}

/// What its guest does, in QEMU's word (`running`, `paused`, `io-error`, …).
pub(super) async fn status(folder: &Path) -> Result<String, Error> {
    let answer = ask(folder, "query-status", json!({})).await?;
    Ok(answer.get("status").and_then(Value::as_str).unwrap_or("unknown").to_owned())
}

/// Says a line to QEMU's monitor for people, which some things are for alone, and gives what it says. A refusal is text,
/// too.
pub(super) async fn human(folder: &Path, line: &str) -> Result<String, Error> {
    let answer = ask(folder, "human-monitor-command", json!({ "command-line": line })).await?;
    Ok(answer.as_str().unwrap_or_default().to_owned())
}

struct Session {
    reader: BufReader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
}

impl Session {
    async fn run(&mut self, command: &'static str, arguments: Value) -> Result<Value, Error> {
        let mut line = json!({ "execute": command, "arguments": arguments, "id": command }).to_string();
        line.push('\n');
        let sent = self.writer.write_all(line.as_bytes()).await;
        sent.map_err(|source| Error::Lost { command, source })?;
        loop {
            let mut answer = self.line(command).await?;
            if answer.get("id").and_then(Value::as_str) != Some(command) {
                // An event.
                continue;
            }
            if let Some(value) = answer.remove("return") {
                return Ok(value);
            }
            let description = answer.get("error").and_then(|e| e.get("desc")).and_then(Value::as_str);
            return Err(Error::Refused { command, description: description.unwrap_or("?").to_owned() });
        }
    }

    async fn line(&mut self, command: &'static str) -> Result<Map<String, Value>, Error> {
        let mut line = Vec::new();
        let read = (&mut self.reader).take(LONGEST_LINE).read_until(b'\n', &mut line).await;
        read.map_err(|source| Error::Lost { command, source })?;
        if line.last() != Some(&b'\n') {
            return Err(Error::Lost { command, source: io::ErrorKind::UnexpectedEof.into() });
        }
        serde_json::from_slice(&line).map_err(|source| Error::Nonsense { command, source })
    }
}

/// Types into the console; `Ok(false)`: the guest has not taken all of it `within` that time.
///
/// QEMU closes a connection whose writing side was closed when it has handed the last byte to the guest's UART, and not
/// before; one that is closed at both ends at once loses what the UART had no room for.
pub(super) async fn type_text(folder: &Path, text: &str, within: Duration) -> io::Result<bool> {
    let typed = async {
        let (mut reader, mut writer) = connect(folder, CONSOLE).await?.into_split();
        let write = async {
            writer.write_all(text.as_bytes()).await?;
            writer.shutdown().await
        };
        // What the guest says meanwhile is in the log; unread, it would hold the guest up.
        let drain = async {
            let mut sink = [0; 4096];
            while reader.read(&mut sink).await? > 0 {}
            Ok(())
        };
        tokio::try_join!(write, drain).map(|_| ())
    };
    match timeout(within, typed).await {
        Ok(typed) => typed.map(|()| true),
        Err(_) => Ok(false),
    }
}
