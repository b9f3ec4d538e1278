//! The arguments of `migratekit copy`.

use std::path::PathBuf;

use clap::ValueEnum;

use super::Error;
use crate::nbd::NbdUri;

/// Copy one disk: an NBD export, a file or a block device into any of them.
///
/// Reads over several connections, leaves zeros out, and ends only when everything was flushed to the target. A DST
/// that does not exist is made as a sparse file; one that exists is written over, and must be at least as large as
/// SRC; what it has beyond SRC's size is left alone. SRC must not change meanwhile: copy a snapshot.
///
/// A file or device as DST is written by one copy at a time: a second one is refused. Ended by SIGINT, SIGTERM or SIGHUP,
/// a copy removes the file that it made, unless --resume is to go on with it.
///
/// An NBD export as DST must be writable. Nothing keeps a second copy, or anybody else, from writing to it at the same
/// time: NBD has no lock, so see to it that this copy is its only writer.
#[derive(Debug, Clone, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    /// NBD URI (nbd://HOST[:PORT]/EXPORT, nbds://…, nbd+unix:///EXPORT?socket=PATH), file or block device
    #[arg(value_name = "SRC")]
    pub source: String,

    /// File or block device to write, or NBD URI
    #[arg(value_name = "DST")]
    pub target: PathBuf,

    /// Connections to each server (1 to 16), where it allows several [default: one for every two processors, at most 4]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=16))]
    pub connections: Option<u8>,

    /// Bytes of one read request, 64K to 4M [default: 256K]
    #[arg(long, value_name = "BYTES", value_parser = request_size)]
    pub request_size: Option<u64>,

    /// Read the target back past the page cache and compare it with the hashes of what was read
    ///
    /// An NBD server answers as it likes, from its own cache too.
    #[arg(long)]
    pub verify: bool,

    /// Keep what is durable in FILE (and FILE.manifest), and go on from there if FILE exists
    ///
    /// FILE is bound to SRC, its size and DST, and is removed when the copy is done. An interrupted copy that is run
    /// again with the same FILE reads only what was not durable. SRC must still be the same snapshot; a file that was
    /// written to since is refused. A DST that is an NBD export has no identity but its address and size: what is said
    /// to be durable there is read back first, and copied again where it is something else.
    #[arg(long, value_name = "FILE")]
    pub resume: Option<PathBuf>,

    /// Copy only what the dirty bitmap NAME of a QEMU server calls changed; DST must hold the rest already
    #[arg(long, value_name = "NAME")]
    pub bitmap: Option<String>,

    /// DST reads as zeros all over: do not write zeros to it
    ///
    /// For a thin volume fresh from creation, say. Wrong, it leaves what DST held where SRC has zeros.
    #[arg(long, conflicts_with = "bitmap")]
    pub destination_is_zero: bool,

    /// Write to an NBD server that cannot flush, too
    ///
    /// The copy then ends when the server has answered. Nothing says that it is on stable storage, or ever will be.
    #[arg(long)]
    pub without_flush: bool,

    /// Read at most so many bytes a second, such as 100M; 0: no limit
    #[arg(long, value_name = "BYTES", value_parser = rate)]
    pub rate: Option<u64>,

    /// Tell a progress API how the copy stands, such as http://localhost:8081 of a vma-agent; needs --job-id
    ///
    /// The copy does not wait for it, but at its end at most 300 ms for the answer to its last word. The job is registered
    /// (PUT), then updated (POST) each time --progress-every more bytes are durable. Zeros are part of the percentage, not
    /// of the bytes transferred.
    #[arg(long, value_name = "URL", requires = "job_id")]
    pub progress_url: Option<String>,

    /// What the copy is called there, such as migration-vol-UUID
    #[arg(long, value_name = "ID", requires = "progress_url", value_parser = job_id)]
    pub job_id: Option<String>,

    /// Bytes between two updates
    #[arg(long, value_name = "BYTES", value_parser = bytes, default_value = "10M", requires = "progress_url")]
    pub progress_every: u64,

    /// What the summary on stdout looks like; progress goes to stderr
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    pub output: Output,
}

impl Args {
    /// The target as an NBD URI, if it looks like one.
    pub(super) fn nbd_target(&self) -> Option<Result<NbdUri, Error>> {
        let text = self.target.to_str().filter(|text| NbdUri::is_uri(text))?;
        Some(text.parse().map_err(Error::Uri))
    }
}

/// The form of the summary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    Text,
    Json,
}

const EXAMPLES: &str = "\
Sizes take K, M, G and T (powers of 1024).

TLS: nbds://HOST/EXPORT?tls-certificates=DIR, where DIR has ca-cert.pem (with client-cert.pem and
client-key.pem if the server wants them), or tls-psk-file=FILE. A server that cannot be verified is
refused.

Examples:
  migratekit copy nbd://esx-proxy/vm1-disk0 /dev/drbd1000 --verify
  migratekit copy 'nbd+unix:///?socket=/run/vm1.sock' vm1.img --resume vm1.resume
  migratekit copy vm1.img 'nbds://storage/vm1?tls-certificates=/etc/pki/nbd' --verify
  qemu-nbd -t -f qcow2 -k /run/vm1.sock vm1.qcow2 & migratekit copy nbd://esx-proxy/vm1 'nbd+unix:///?socket=/run/vm1.sock'
  migratekit copy 'nbd+unix:///vm1?socket=/run/vm1.sock' vm1.img --bitmap cbt-2 -o json

Exit code: 0 done; 64 wrong arguments; 1 anything else.";

/// Something that looks like an address and is no NBD URI is not taken for a file: `./http://…` is one.
///
/// # Errors
/// [`Error::UnknownScheme`]
pub(crate) fn check_scheme(text: &str) -> Result<(), Error> {
    let Some((scheme, _)) = text.split_once("://") else { return Ok(()) };
    let of_scheme = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
    let is_scheme = scheme.starts_with(|c: char| c.is_ascii_alphabetic()) && scheme.chars().all(of_scheme);
    match is_scheme && !NbdUri::is_uri(text) {
        // Without what follows: it may hold a password.
        true => Err(Error::UnknownScheme { scheme: scheme.to_owned() }),
        false => Ok(()),
    }
}

/// A size with an optional unit, more than zero.
pub(crate) fn bytes(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let shift = match text[digits.len()..].to_ascii_uppercase().as_str() {
        "" | "B" => 0,
        "K" | "KB" | "KIB" => 10,
        "M" | "MB" | "MIB" => 20,
        "G" | "GB" | "GIB" => 30,
        "T" | "TB" | "TIB" => 40,
        _ => return Err("write a number and K, M, G or T, such as 100M".into()),
    };
    match digits.parse::<u64>().ok().and_then(|n| n.checked_mul(1 << shift)) {
        Some(0) => Err("it must be more than 0".into()),
        Some(bytes) => Ok(bytes),
        None => Err("write a number and K, M, G or T, such as 100M".into()),
    }
}

/// With the daemons' bound: less than a leaf a second never ends.
fn rate(text: &str) -> Result<u64, String> {
    let bytes = if text == "0" { 0 } else { bytes(text)? };
    match (1..64 << 10).contains(&bytes) {
        true => Err("must be at least 64KiB (a second), or 0 for no limit".into()),
        false => Ok(bytes),
    }
}

fn request_size(text: &str) -> Result<u64, String> {
    match bytes(text)? {
        size if !(64 << 10..=4 << 20).contains(&size) => Err("it must be 64K to 4M".into()),
        size if size % (64 << 10) != 0 => Err("it must be a multiple of 64K".into()),
        size => Ok(size),
    }
}

fn job_id(text: &str) -> Result<String, String> {
    shared::progress::check_job_id(text).map(|()| text.to_owned()).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        assert_eq!(bytes("1"), Ok(1));
        assert_eq!(bytes("10k"), Ok(10 << 10));
        assert_eq!(bytes("3MiB"), Ok(3 << 20));
        assert_eq!(bytes("2T"), Ok(2 << 40));
        for wrong in ["", "0", "K", "-1", "1.5M", "1X", "99999999999T", "1é"] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
        assert_eq!(request_size("64K"), Ok(65536));
        for wrong in ["63K", "5M", "65537", "100K"] {
            assert!(request_size(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_address_of_another_kind_is_not_taken_for_a_file() {
        for file in ["disk", "./http://x/", "/a/b://c", "nbd://h/x", "nbds+unix:///x", "a b://c", "://x"] {
            assert!(check_scheme(file).is_ok(), "{file}");
        }
        for other in ["http://ann:secret@foo/", "qcow2+x://y"] {
            let error = check_scheme(other).expect_err("refused");
            let words = error.to_string();
            assert!(words.contains("nbd+unix://") && !words.contains("secret"), "{words}");
            assert_eq!(error.exit_code(), 64);
        }
    }

    #[test]
    fn the_command_line_is_sound() {
        #[derive(clap::Parser)]
        struct Cli {
            #[command(flatten)]
            args: Args,
        }
        use clap::{CommandFactory as _, Parser as _};
        Cli::command().debug_assert();
        let cli = Cli::try_parse_from([
            "copy",
            "nbd://h",
            "/d",
            "--rate",
            "1G",
            "-o",
            "json",
            "--connections",
            "4",
        ]);
        let args = cli.map(|cli| cli.args).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!((args.rate, args.output, args.connections), (Some(1 << 30), Output::Json, Some(4)));
        assert_eq!((rate("0"), rate("64KiB")), (Ok(0), Ok(65536)));
        assert!(rate("1").is_err_and(|why| why == "must be at least 64KiB (a second), or 0 for no limit"));
        for wrong in [
            &["copy", "a"][..],
            &["copy", "a", "b", "--connections", "0"],
            &["copy", "a", "b", "--rate", "1"],
            &["copy", "a", "b", "--rate", "63K"],
        ] {
            assert!(Cli::try_parse_from(wrong).is_err(), "{wrong:?}");
        }
    }
}
