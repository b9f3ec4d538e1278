//! Whether the QEMU guest agent in a guest answers, over a virtio-serial port whose other end is a socket of ours.
//!
//! The protocol is JSON in lines (QEMU's docs/interop/qemu-ga-ref). What an earlier client asked may be answered to the
//! next one, so a number is sent first and waited for (`guest-sync-delimited`: its answer begins with a byte that no JSON
//! has); then `guest-ping`. A guest that has no agent takes nothing and says nothing: that is a deadline's business.
//! Nothing else is ever asked of an agent here.

use std::io;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::time::timeout;
use uuid::Uuid;

use super::super::{Error, MachineName};
use super::monitor::{AGENT, connect};
use super::process::Holder;
use super::{LocalCompute, folder::failed};

/// How long an agent has to answer: it does at once, but on a busy host.
const ANSWERS: Duration = Duration::from_millis(1500);

/// Begins a synchronization; in front of a request it makes the agent forget half of one.
const DELIMITER: u8 = 0xff;

/// Most bytes that are read of a guest, which may say anything.
const MOST: u64 = 64 << 10;

impl LocalCompute {
    pub(super) async fn agent_answers(&self, name: &MachineName) -> Result<bool, Error> {
        let (folder, ..) = self.read(name).await?;
        let asked = async {
            let _turn = self.turns.agent(name).await;
            ping(&folder.path).await
        };
        match timeout(ANSWERS, asked).await {
            // A machine that was started by a version without the socket has none.
            Err(_) => Ok(false),
            Ok(Err(e)) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
                Ok(false)
            }
            Ok(Err(_)) if self.holder(&folder).await? == Holder::Nobody => Ok(false),
            Ok(answered) => answered.map_err(|e| failed("ask the guest agent of", &folder.path, e)),
        }
    }
}

/// `Ok(false)`: what answers is no agent.
async fn ping(folder: &Path) -> io::Result<bool> {
    let (reader, mut writer) = connect(folder, AGENT).await?.into_split();
    let mut reader = BufReader::new(reader.take(MOST));
    // Another one each time; what JSON has as a number everywhere.
    let number = Uuid::new_v4().as_u64_pair().0 >> 12;
    let sync = json!({ "execute": "guest-sync-delimited", "arguments": { "id": number } });
    writer.write_all(&[&[DELIMITER][..], sync.to_string().as_bytes(), b"\n"].concat()).await?;
    loop {
        let mut before = Vec::new();
        reader.read_until(DELIMITER, &mut before).await?;
        if before.last() != Some(&DELIMITER) {
            return Ok(false);
        }
        if answer(&mut reader).await? == Some(json!(number)) {
            break;
        }
    }
    writer.write_all(b"{\"execute\":\"guest-ping\"}\n").await?;
    Ok(answer(&mut reader).await?.is_some())
}

/// What the next line has as `return`.
async fn answer(
    reader: &mut BufReader<tokio::io::Take<tokio::net::unix::OwnedReadHalf>>,
) -> io::Result<Option<Value>> {
    let mut line = Vec::new();
    reader.read_until(b'\n', &mut line).await?;
    let line: Value = serde_json::from_slice(&line).unwrap_or_default();
    Ok(line.get("return").cloned())
}
