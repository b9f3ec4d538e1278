//! Whether a guest takes connections, through QEMU's user-mode network, which nobody outside of it can see.
//!
//! A port of the guest's is forwarded from a free one of the loopback address, for each card, at the address that the
//! network's DHCP gives first. Forwards are made when they are wanted and end with the machine; QEMU itself is asked for
//! those that are there, so that nothing is to be remembered. An isolated network (`restrict=on`) has them as well.
//!
//! That a connection is made says nothing: QEMU takes it before the guest was asked. Seen with QEMU 7.2, of a guest
//!
//! - that refuses: closed at once, by its end or a reset;
//! - that does not answer (it boots, has another address, a firewall): stays open, silent;
//! - that takes it: stays open, and is silent too where it is the client that speaks first.
//!
//! The last two are told apart by QEMU's own list of connections (`info usernet`): SYN_SENT or ESTABLISHED.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use super::super::{Error, MachineName};
use super::folder::{Folder, failed};
use super::process::Holder;
use super::running::unanswered;
use super::{LocalCompute, monitor};

/// How long a guest has to answer. Short: a first packet that came too early is sent again after seconds only, and the
/// next look sends a new one.
const ANSWERS: Duration = Duration::from_millis(1500);

/// Between looks at QEMU's list.
const PERIOD: Duration = Duration::from_millis(30);

/// A line of `info usernet` about TCP.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Line {
    card: String,
    state: String,
    /// On this side: of the forward.
    here: u16,
    /// The guest's.
    there: u16,
}

impl LocalCompute {
    /// Where the guest takes connections at that port.
    pub(super) async fn open_port(&self, name: &MachineName, port: u16) -> Result<Option<SocketAddr>, Error> {
        let (folder, machine, _) = self.read(name).await?;
        if machine.nics.is_empty() || self.holder(&folder).await? == Holder::Nobody {
            return Ok(None);
        }
        let cards = (0..machine.nics.len()).map(|n| format!("net{n}")).collect::<Vec<_>>();
        let seen = match self.forwards(name, &folder, &cards, port).await {
            Ok(forwards) => self.first_open(name, &folder, forwards).await,
            Err(error) => Err(error),
        };
        match seen {
            Err(_) if self.holder(&folder).await? == Holder::Nobody => Ok(None),
            seen => seen,
        }
    }

    async fn human(&self, name: &MachineName, folder: &Folder, line: &str) -> Result<String, Error> {
        let _turn = self.turns.monitor(name).await;
        monitor::human(&folder.path, line).await.map_err(|e| unanswered(name, e))
    }

    async fn list(&self, name: &MachineName, folder: &Folder) -> Result<Vec<Line>, Error> {
        Ok(lines(&self.human(name, folder, "info usernet").await?))
    }

    /// The forwards of that port, one for each card.
    async fn forwards(
        &self,
        name: &MachineName,
        folder: &Folder,
        cards: &[String],
        port: u16,
    ) -> Result<Vec<u16>, Error> {
        let of = |lines: &[Line], card: &str| {
            let is = |l: &&Line| l.state == "HOST_FORWARD" && l.card == card && l.there == port;
            lines.iter().find(is).map(|line| line.here)
        };
        let mut lines = self.list(name, folder).await?;
        let missing: Vec<_> = cards.iter().filter(|card| of(&lines, card).is_none()).collect();
        for card in &missing {
            // At a port that is free.
            let line = format!("hostfwd_add {card} tcp:127.0.0.1:0-:{port}");
            let said = self.human(name, folder, &line).await?;
            if !said.trim().is_empty() {
                let description = said.trim().to_owned();
                let refused = monitor::Error::Refused { command: "hostfwd_add", description };
                return Err(unanswered(name, refused));
            }
        }
        if !missing.is_empty() {
            lines = self.list(name, folder).await?;
        }
        Ok(cards.iter().filter_map(|card| of(&lines, card)).collect())
    }

    /// The first of those that the guest answers at.
    async fn first_open(
        &self,
        name: &MachineName,
        folder: &Folder,
        forwards: Vec<u16>,
    ) -> Result<Option<SocketAddr>, Error> {
        let deadline = Instant::now() + ANSWERS;
        let mut asked = Vec::new();
        for port in forwards {
            let at = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            let stream = TcpStream::connect(at).await.map_err(|e| failed("connect to", &folder.path, e))?;
            asked.push((at, stream));
        }
        while !asked.is_empty() && Instant::now() < deadline {
            sleep(PERIOD).await;
            let mut said = None;
            asked.retain(|(at, stream)| match stream.try_read(&mut [0]) {
                Ok(1..) => {
                    said = Some(*at);
                    true
                }
                // It stays open, so far.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => true,
                Ok(0) | Err(_) => false,
            });
            if said.is_some() {
                return Ok(said);
            }
            let lines = self.list(name, folder).await?;
            let taken = |at: &SocketAddr| {
                lines.iter().any(|line| {
                    line.here == at.port() && ["ESTABLISHED", "CLOSE_WAIT"].contains(&line.state.as_str())
                })
            };
            if let Some((at, _)) = asked.iter().find(|(at, _)| taken(at)) {
                return Ok(Some(*at));
            }
        }
        Ok(None)
    }
}

/// What `info usernet` says of TCP:
///
/// ```text
/// Hub -1 (net0):
///   Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ
///   TCP[HOST_FORWARD]  13       127.0.0.1 44019       10.0.2.15    80     0     0
/// ```
fn lines(text: &str) -> Vec<Line> {
    let (mut card, mut found) = (String::new(), Vec::new());
    for line in text.lines() {
        if !line.starts_with(' ') {
            card = line
                .split_once('(')
                .and_then(|(_, rest)| rest.split_once(')'))
                .map_or("", |(c, _)| c)
                .to_owned();
        }
        let fields: Vec<_> = line.split_whitespace().collect();
        let [state, _, _, here, _, there, ..] = fields[..] else { continue };
        let state = state.strip_prefix("TCP[").and_then(|state| state.strip_suffix(']'));
        if let (Some(state), Ok(here), Ok(there)) = (state, here.parse(), there.parse()) {
            found.push(Line { card: card.clone(), state: state.to_owned(), here, there });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As QEMU 7.2 said it.
    const SAID: &str = "Hub -1 (net0):\r\n  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ\r\n  \
                        TCP[TIME_WAIT]     22       127.0.0.1 45551       10.0.2.15    80     0     0\r\n  \
                        UDP[236 sec]       11       10.0.2.15 68          10.0.2.2     67     0     0\r\n  \
                        TCP[HOST_FORWARD]  16       127.0.0.1 45553       10.0.2.15    23     0     0\r\n\
                        Hub -1 (net1):\r\n  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ\r\n  \
                        TCP[HOST_FORWARD]  17       127.0.0.1 45554       10.0.2.15    23     0     0\r\n";

    #[test]
    fn the_list_of_connections_is_read() {
        let of = |line: &Line| format!("{} {} {} {}", line.card, line.state, line.here, line.there);
        let all: Vec<_> = lines(SAID).iter().map(of).collect();
        let wanted = ["net0 TIME_WAIT 45551 80", "net0 HOST_FORWARD 45553 23", "net1 HOST_FORWARD 45554 23"];
        assert_eq!(all, wanted);
        assert!(lines("").is_empty() && lines("unknown command: 'info usernet'\r\n").is_empty());
    }
}
