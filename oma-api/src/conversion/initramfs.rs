//! Which kernel modules an initramfs has.
//!
//! An image is a row of cpio archives ("newc", as the kernel's `Documentation/driver-api/early-userspace/buffer-format`
//! says): any number of them plain (microcode, and modules of a distribution that compresses each by itself), padded
//! with zeros, then one that is compressed as a whole. zstd is read here, the others by their programs.
//!
//! The image comes from the guest and is not trusted: every length has a bound, nothing is unpacked to disk.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::process::{Child, Command, Stdio};

use tokio_util::sync::CancellationToken;

/// Largest image that is unpacked. A generous initramfs with firmware has half a gigabyte.
const LARGEST: u64 = 4 << 30;

/// Longest name in an archive (`PATH_MAX`).
const LONGEST_NAME: u64 = 4096;

/// Length of a newc header: a magic of 6, then 13 numbers of 8 hexadecimal digits.
const HEADER: usize = 110;

/// How an archive is compressed: what it begins with, and what reads it (and which Debian package has that).
const COMPRESSIONS: [(&[u8], &str, &str); 6] = [
    (&[0x1f, 0x8b], "gzip", "gzip"),
    (&[0xfd, b'7', b'z', b'X', b'Z', 0], "xz", "xz-utils"),
    (&[0x5d, 0, 0], "xz", "xz-utils"),
    // The kernel's own frame, and the usual one.
    (&[0x02, 0x21, 0x4c, 0x18], "lz4", "lz4"),
    (b"BZh", "bzip2", "bzip2"),
    (&[0x89, b'L', b'Z', b'O', 0], "lzop", "lzop"),
];

const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];

/// The modules of the image in `file`, by name (`virtio_blk`).
pub(super) fn modules(mut file: File, stop: &CancellationToken) -> io::Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    let mut reader = Counted { from: BufReader::new(file.try_clone()?), at: 0, stop };
    loop {
        let start = reader.at;
        match plain(&mut reader, &mut found)? {
            Next::Archive => {}
            Next::End if start == 0 => return Err(bad("the image is empty")),
            Next::End => return Ok(found),
            Next::Other => break,
        }
    }
    let at = reader.at;
    file.seek(SeekFrom::Start(at))?;
    let mut magic = [0; 6];
    let got = read_up_to(&mut file, &mut magic)?;
    file.seek(SeekFrom::Start(at))?;
    let magic = magic.get(..got).unwrap_or_default();
    if magic.starts_with(ZSTD) {
        let decoder = zstd::stream::read::Decoder::new(file)?;
        unpacked(decoder, &mut found, stop)?;
    } else {
        let known = COMPRESSIONS.iter().find(|(begin, ..)| magic.starts_with(begin));
        let (_, program, package) = known.ok_or_else(|| bad(format!("unknown compression {magic:02x?}")))?;
        let mut child = Unpacker::start(program, package, file)?;
        unpacked(child.output()?, &mut found, stop)?;
    }
    Ok(found)
}

/// All archives of a decompressed stream. What follows the last whole one is not looked at: padding, mostly.
fn unpacked(from: impl Read, found: &mut BTreeSet<String>, stop: &CancellationToken) -> io::Result<()> {
    let mut reader = Counted { from: BufReader::new(from), at: 0, stop };
    let mut whole = 0;
    loop {
        match plain(&mut reader, found) {
            Ok(Next::Archive) => whole += 1,
            Ok(Next::End | Next::Other) if whole > 0 => return Ok(()),
            Ok(Next::End | Next::Other) => return Err(bad("there is no archive in it")),
            // Garbage behind a compressed image is the decoder's complaint, not a missing module.
            Err(_) if whole > 0 && !stop.is_cancelled() => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

/// What was there.
enum Next {
    /// An archive, read to its end.
    Archive,
    /// Something else, which is not consumed.
    Other,
    End,
}

/// Reads one plain archive, after any padding.
fn plain<R: BufRead>(reader: &mut Counted<'_, R>, found: &mut BTreeSet<String>) -> io::Result<Next> {
    loop {
        match reader.peek()? {
            None => return Ok(Next::End),
            Some(0) => reader.skip(1)?,
            Some(b'0') => break,
            Some(_) => return Ok(Next::Other),
        }
    }
    loop {
        let mut header = [0; HEADER];
        reader.exact(&mut header)?;
        if !header.starts_with(b"070701") && !header.starts_with(b"070702") {
            return Err(bad("it begins as a cpio archive and is none"));
        }
        // The numbers: …, 6 the file's size, …, 11 the name's with its end.
        let (size, name_size) = (number(&header, 6)?, number(&header, 11)?);
        if name_size == 0 || name_size > LONGEST_NAME {
            return Err(bad("a name in it has an impossible length"));
        }
        let mut name = vec![0; usize::try_from(name_size).map_err(bad)?];
        reader.exact(&mut name)?;
        // From the start of the header, names and files end at multiples of 4.
        reader.skip(padding(HEADER as u64 + name_size))?;
        reader.skip(size + padding(size))?;
        let name = String::from_utf8_lossy(name.strip_suffix(b"\0").unwrap_or(&name)).into_owned();
        if name == "TRAILER!!!" {
            return Ok(Next::Archive);
        }
        found.extend(module(&name));
    }
}

/// The name of the module in a file: `kernel/drivers/block/virtio_blk.ko.xz` is `virtio_blk`. Files write dashes and
/// underscores as they like; the kernel does not tell them apart.
pub(super) fn module(path: &str) -> Option<String> {
    let file = path.rsplit('/').next()?;
    let (name, ending) = file.split_once(".ko")?;
    matches!(ending, "" | ".gz" | ".xz" | ".zst").then(|| name.replace('-', "_"))
}

fn padding(length: u64) -> u64 {
    length.next_multiple_of(4) - length
}

fn number(header: &[u8; HEADER], index: usize) -> io::Result<u64> {
    let digits =
        header.get(6 + index * 8..14 + index * 8).and_then(|digits| std::str::from_utf8(digits).ok());
    let number = digits.and_then(|digits| u64::from_str_radix(digits, 16).ok());
    number.ok_or_else(|| bad("a header in it has no number where one belongs"))
}

fn bad(why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

fn read_up_to(from: &mut impl Read, into: &mut [u8]) -> io::Result<usize> {
    let length = into.len() as u64;
    let mut got = Vec::new();
    from.take(length).read_to_end(&mut got)?;
    into[..got.len()].copy_from_slice(&got);
    Ok(got.len())
}

/// A reader that knows how far it is, and goes neither on for ever nor after a stop.
struct Counted<'a, R> {
    from: R,
    at: u64,
    stop: &'a CancellationToken,
}

impl<R: BufRead> Counted<'_, R> {
    fn peek(&mut self) -> io::Result<Option<u8>> {
        Ok(self.from.fill_buf()?.first().copied())
    }

    fn exact(&mut self, into: &mut [u8]) -> io::Result<()> {
        self.from.read_exact(into)?;
        self.count(into.len() as u64)
    }

    fn skip(&mut self, length: u64) -> io::Result<()> {
        let skipped = io::copy(&mut (&mut self.from).take(length), &mut io::sink())?;
        if skipped < length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.count(length)
    }

    fn count(&mut self, length: u64) -> io::Result<()> {
        self.at += length;
        if self.at > LARGEST {
            return Err(bad(format!("it has more than {LARGEST} bytes")));
        }
        if self.stop.is_cancelled() {
            return Err(io::Error::other("stopped"));
        }
        Ok(())
    }
}

/// A program that decompresses; ended with its owner.
struct Unpacker(Child);

impl Unpacker {
    /// Reads `file` from where it stands.
    fn start(program: &str, package: &str, file: File) -> io::Result<Self> {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--", program, "-dc"]);
        command.stdin(file).stdout(Stdio::piped()).stderr(Stdio::null());
        // Found here, so that its absence is told from an image that it cannot read.
        let path = std::env::var_os("PATH").unwrap_or_default();
        if super::child::find(program.as_ref(), &path).is_none() {
            return Err(io::Error::other(format!("{program} is not here: install the package {package}")));
        }
        command.spawn().map(Self)
    }

    fn output(&mut self) -> io::Result<impl Read + use<>> {
        self.0.stdout.take().ok_or_else(|| io::Error::other("its output is taken"))
    }
}

impl Drop for Unpacker {
    fn drop(&mut self) {
        // Gone already is as good.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[cfg(test)]
mod tests;
