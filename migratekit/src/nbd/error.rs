//! What can go wrong between us and an NBD server. URIs in it carry no secrets.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use rustix::io::Errno;
use shared::range::ByteRange;

use super::{Change, NbdUri};

/// A server that is told to end answers what is in flight with `ESHUTDOWN`; the library, where there is no answer,
/// with `ENOTCONN`.
const ENDED: &str = "the server ended the connection";

/// A failure of one connection, by what an operator has to look at.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The URI cannot be used as it is.
    #[error("{uri} is no usable NBD URI: {detail}")]
    BadUri { uri: String, detail: String },
    /// The Unix socket does not exist.
    #[error("cannot connect to {uri}: there is no socket {}: is the NBD server running?", path.display())]
    NoSocket { uri: NbdUri, path: PathBuf },
    /// Nobody listens there.
    #[error("cannot connect to {uri}: connection refused: is the NBD server running there?")]
    Refused { uri: NbdUri },
    /// The server is there and has no such export.
    #[error("the server of {uri} has no export '{export}': list what it has with nbdinfo --list")]
    NoExport { uri: NbdUri, export: String },
    /// The server takes encrypted connections only.
    #[error(
        "the server of {uri} wants TLS: use nbds:// (or nbds+unix://), and tls-certificates or tls-psk-file"
    )]
    TlsRequired { uri: NbdUri },
    /// Encryption failed or was not offered.
    #[error("cannot connect to {uri} with TLS: {detail}: check the certificates or the PSK on both sides")]
    Tls { uri: NbdUri, detail: String },
    /// The server accepted the connection and then said too little.
    #[error("{uri} did not finish its handshake within {} s: is it an NBD server?", after.as_secs_f64())]
    ConnectTimeout { uri: NbdUri, after: Duration },
    /// Any other failure to connect.
    #[error("cannot connect to {uri}: {detail}")]
    Connect { uri: NbdUri, detail: String },
    /// The connection was there and broke.
    #[error(
        "lost the connection to {uri}{}: did the NBD server end? Start it, then try again",
        of_detail(detail)
    )]
    Lost { uri: NbdUri, detail: String },
    /// The server failed a read.
    #[error("cannot read {length} bytes at offset {offset} of {uri}")]
    Read { uri: NbdUri, offset: u64, length: u64, source: io::Error },
    /// The export is no multiple of the server's blocks, and its server takes nothing less.
    #[error(
        "the last {rest} bytes of {uri} cannot be read in whole blocks of {block} bytes, which its server insists on: let it take smaller blocks, or make the disk a multiple of them"
    )]
    OddEnd { uri: NbdUri, rest: u64, block: u64 },
    /// The server failed to write, zero or flush.
    #[error("cannot {change} {uri} ({length} bytes at offset {offset})")]
    Change { uri: NbdUri, change: Change, offset: u64, length: u64, source: io::Error },
    /// The server failed a block status query.
    #[error("cannot ask {uri} about the {length} bytes at offset {offset}")]
    Status { uri: NbdUri, offset: u64, length: u64, source: io::Error },
    /// The library itself failed.
    #[error("libnbd: {call} failed: {detail}")]
    Library { call: &'static str, detail: String },
}

/// What the library says of a connection that is gone is about its own state, mostly.
fn of_detail(detail: &str) -> String {
    match detail.contains("no commands are in flight") || detail.contains("invalid state") {
        true => String::new(),
        false => format!(" ({detail})"),
    }
}

impl Error {
    /// Sorts a failure to read `range` of an export of `size` bytes in blocks of `block`.
    pub(super) fn reading(
        uri: &NbdUri,
        range: ByteRange,
        (size, block): (u64, u64),
        source: io::Error,
    ) -> Self {
        let uri = uri.clone();
        let rest = size.checked_rem(block).unwrap_or(0);
        match source.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::SHUTDOWN | Errno::NOTCONN) => Self::Lost { uri, detail: ENDED.to_owned() },
            Some(Errno::INVAL) if rest > 0 && range.end == size => Self::OddEnd { uri, rest, block },
            _ => Self::Read { uri, offset: range.start, length: range.len(), source },
        }
    }

    /// Sorts a failure to change `range`, or to flush.
    pub(super) fn changing(uri: &NbdUri, change: Change, range: ByteRange, source: io::Error) -> Self {
        let uri = uri.clone();
        match source.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::SHUTDOWN | Errno::NOTCONN) => Self::Lost { uri, detail: ENDED.to_owned() },
            _ => Self::Change { uri, change, offset: range.start, length: range.len(), source },
        }
    }

    /// Sorts a failure to connect, by the library's errno and words.
    pub(super) fn connecting(uri: &NbdUri, errno: i32, detail: String) -> Self {
        let uri = uri.clone();
        let kind = io::Error::from_raw_os_error(errno).kind();
        let about_export = detail.contains("opt_go") || detail.contains("no export");
        match (kind, uri.socket()) {
            (io::ErrorKind::NotFound, _) if about_export => {
                Self::NoExport { export: uri.export().to_owned(), uri }
            }
            (io::ErrorKind::NotFound, Some(path)) => Self::NoSocket { path: path.to_owned(), uri },
            (io::ErrorKind::ConnectionRefused, _) => Self::Refused { uri },
            _ if !uri.is_tls() && detail.contains("TLS") => Self::TlsRequired { uri },
            _ if detail.contains("gnutls") || detail.contains("TLS") => Self::Tls { uri, detail },
            _ if uri.is_tls() && about_export => Self::Tls { uri, detail },
            _ => Self::Connect { uri, detail },
        }
    }
}
