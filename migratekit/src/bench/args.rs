//! The arguments of `migratekit bench`.

use std::path::PathBuf;

use crate::copy::{Output, bytes};

/// Measure what a copy from SRC to DST could do here, and what holds it back.
///
/// Reads the source, sends over loopback with mutual TLS, writes and flushes the target: each alone, then all together
/// as a transfer does it; and says which of them is the bottleneck. SRC is only read. Nothing that is at DST is touched
/// unless --overwrite says so.
#[derive(Debug, Clone, clap::Args)]
#[command(after_long_help = NOTES)]
pub struct Args {
    /// NBD URI, file or block device to read
    #[arg(value_name = "SRC")]
    pub source: String,

    /// Folder to write a file in, which has no name, so that nothing of it stays
    ///
    /// With --overwrite also a file, a block device or an NBD URI, whose content is lost.
    #[arg(value_name = "DST")]
    pub target: PathBuf,

    /// Overwrite what DST holds: a file, a block device that nobody uses, an NBD export
    #[arg(long)]
    pub overwrite: bool,

    /// Most bytes of each measurement; in a folder never more than half of what is free
    #[arg(long, value_name = "BYTES", value_parser = bytes, default_value = "1G")]
    pub bytes: u64,

    /// Most seconds of each measurement, 1 to 3600; what was written is flushed after that
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=3600), default_value_t = 10)]
    pub seconds: u16,

    /// Connections to an NBD server (1 to 16), where it allows several [default: one for every two processors, at most 4]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=16))]
    pub connections: Option<u8>,

    /// A table, or one JSON object
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    pub output: Output,

    /// The same as -o json
    #[arg(long, conflicts_with = "output")]
    pub json: bool,
}

const NOTES: &str = "\
Zeros of SRC that its server can tell from data are left out, as in a copy. Reading counts the
hashes that are made of what was read. Where SRC has not enough data it is read again from its
start, maybe from a cache: the table says so. Both ends of the wire are on this machine here, so
between two machines it costs each of them about half as much; the network itself is not measured.
CPU is the share of all processors of this machine that is used, by anybody.

Examples:
  migratekit bench nbd://esx-proxy/vm1-disk0 /var/lib/migratekit
  migratekit bench vm1.img /dev/drbd1000 --overwrite --bytes 8G --json";
