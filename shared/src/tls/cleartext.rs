//! Connections without TLS, where something below them protects the network: who dials says who it is, and is believed.
//!
//! ```text
//! agent ── "migratekit/1 agent/NAME\n", then HTTP/2 ──► OMA
//! ```
//!
//! Only agents come in this way. Whoever reaches the port can be any of them: read their desired state, write their
//! replicas. Nothing listens so unless the configuration names an address for it.

use super::identity::{Identity, Role};
use crate::ids::AgentId;
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

const GREETING: &str = "migratekit/1 agent/";

/// Longest name with its greeting.
const LONGEST: usize = 256;

/// Says who dials.
pub(super) async fn announce(stream: &mut (impl AsyncWrite + Unpin), agent: &AgentId) -> io::Result<()> {
    stream.write_all(format!("{GREETING}{agent}\n").as_bytes()).await
}

/// Who dialled. The caller sets the deadline.
pub(super) async fn announced(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Identity> {
    let mut line = Vec::with_capacity(64);
    loop {
        // One by one: what follows is not ours to read.
        match stream.read_u8().await? {
            b'\n' => break,
            byte if line.len() < LONGEST => line.push(byte),
            _ => return Err(wrong()),
        }
    }
    let name =
        std::str::from_utf8(&line).ok().and_then(|line| line.strip_prefix(GREETING)).ok_or_else(wrong)?;
    let name = AgentId::parse(name).map_err(|_| wrong())?;
    Ok(Identity { role: Role::Agent, name })
}

fn wrong() -> io::Error {
    let why = "the peer is no agent that was told to dial in clear (it may speak TLS: that is another port)";
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_was_announced_is_who_dialled() {
        let (mut dialling, mut dialled) = tokio::io::duplex(512);
        announce(&mut dialling, &AgentId::parse("vma-01").expect("valid")).await.expect("room");
        dialling.write_all(b"PRI").await.expect("room");
        let identity = announced(&mut dialled).await.expect("an agent");
        assert_eq!(identity.to_string(), "agent/vma-01");
        assert_eq!(dialled.read_u8().await.expect("not taken"), b'P');
    }

    #[tokio::test]
    async fn others_are_refused() {
        let long = [GREETING.as_bytes(), &[b'a'; 1000], b"\n"].concat();
        for said in [
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice(),
            b"\x16\x03\x01\x02\x00\x01\x00\n",
            b"migratekit/1 operator/admin\n",
            b"migratekit/1 agent/../oma\n",
            &long,
        ] {
            assert!(announced(&mut &*said).await.is_err(), "{said:?}");
        }
    }
}
