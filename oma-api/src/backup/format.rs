//! The file of a backup.
//!
//! ```text
//! "MKBACKUP1\n"  one zstd frame of pieces                                    BLAKE3 of all before it
//!                header · rows … · (manifest · its data …) … · end           32 bytes
//! piece: kind 1 byte · length 4 bytes, little endian · that many bytes
//! ```
//!
//! Header, rows, manifests and end are JSON. Rows and their order are the database's own, in no database's words
//! (`store::dump`): a file with the pages of one database would be smaller work and could go back into that one only.
//! A manifest's data are its blocks that are not zero, each with its offset.

use crate::store::Record;
use blake3::Hasher;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek as _, SeekFrom, Write};
use std::path::{Path, PathBuf};

const MAGIC: &[u8; 10] = b"MKBACKUP1\n";
const HASH: u64 = 32;
/// Of zstd: most of it is hashes, which no effort makes smaller.
const LEVEL: i32 = 3;
/// Of a manifest that is looked at for zeros.
pub(super) const BLOCK: usize = 64 << 10;
/// No piece is longer: a row's longest column is the configuration of a VM.
const LONGEST: usize = 64 << 20;

/// A file that is no backup, or a damaged one.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{}: this is no backup of oma-api", path.display())]
    NoBackup { path: PathBuf },
    #[error("{}: the backup is damaged or cut short ({why}): use another one", path.display())]
    Damaged { path: PathBuf, why: &'static str },
    #[error("cannot {what} {}", path.display())]
    Io {
        what: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// What the file begins with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Of the program that made it.
    pub program: String,
    /// Version of the database's schema.
    pub schema: i64,
    /// RFC 3339.
    pub taken_at: String,
}

/// A part of the file.
#[derive(Debug, PartialEq)]
pub(super) enum Piece {
    Header(Header),
    Row(Record),
    Manifest(ManifestOf),
    Data { offset: u64, bytes: Vec<u8> },
    End,
}

/// A manifest whose data follow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ManifestOf {
    pub(super) file: String,
    pub(super) size: u64,
}

/// Hashes what goes through it.
struct Hashed<W> {
    inner: W,
    hasher: Hasher,
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Writes a backup.
pub(super) struct Writer(zstd::Encoder<'static, Hashed<BufWriter<File>>>);

impl Writer {
    pub(super) fn new(file: File) -> io::Result<Self> {
        let mut hashed = Hashed { inner: BufWriter::new(file), hasher: Hasher::new() };
        hashed.write_all(MAGIC)?;
        Ok(Self(zstd::Encoder::new(hashed, LEVEL)?))
    }

    pub(super) fn piece(&mut self, piece: &Piece) -> io::Result<()> {
        let (kind, body) = match piece {
            Piece::Header(header) => (b'H', serde_json::to_vec(header)?),
            Piece::Row(record) => (b'R', serde_json::to_vec(record)?),
            Piece::Manifest(of) => (b'M', serde_json::to_vec(of)?),
            Piece::Data { offset, bytes } => (b'D', [&offset.to_le_bytes()[..], bytes].concat()),
            Piece::End => (b'E', Vec::new()),
        };
        let length = u32::try_from(body.len()).ok().filter(|_| body.len() <= LONGEST);
        let length = length.ok_or_else(|| io::Error::other("a row is too long for a backup"))?;
        self.0.write_all(&[kind])?;
        self.0.write_all(&length.to_le_bytes())?;
        self.0.write_all(&body)
    }

    /// Durable when it returns; gives its bytes.
    pub(super) fn finish(mut self) -> io::Result<u64> {
        self.piece(&Piece::End)?;
        let Hashed { mut inner, hasher } = self.0.finish()?;
        inner.write_all(hasher.finalize().as_bytes())?;
        let file = inner.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.sync_all()?;
        Ok(file.metadata()?.len())
    }
}

/// Reads a backup, all of which was compared with its checksum before the first piece is given.
pub(super) struct Reader {
    path: PathBuf,
    pieces: zstd::Decoder<'static, BufReader<io::Take<File>>>,
}

impl Reader {
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        let io = |what| move |source| Error::Io { what, path: path.to_owned(), source };
        let mut file = File::open(path).map_err(io("open"))?;
        let length = file.metadata().map_err(io("look at"))?.len();
        let mut magic = [0; MAGIC.len()];
        if file.read_exact(&mut magic).is_err() || magic != *MAGIC {
            return Err(Error::NoBackup { path: path.to_owned() });
        }
        let body = length.checked_sub(HASH + MAGIC.len() as u64);
        let body = body.ok_or(Error::Damaged { path: path.to_owned(), why: "its end is missing" })?;
        let mut hasher = Hasher::new();
        hasher.update(&magic);
        hasher.update_reader((&mut file).take(body)).map_err(io("read"))?;
        let mut said = [0; 32];
        file.read_exact(&mut said).map_err(io("read"))?;
        // In constant time, which does no harm.
        if hasher.finalize() != said {
            return Err(Error::Damaged { path: path.to_owned(), why: "its checksum is another one" });
        }
        file.seek(SeekFrom::Start(MAGIC.len() as u64)).map_err(io("read"))?;
        let pieces = zstd::Decoder::new(file.take(body)).map_err(io("read"))?;
        Ok(Self { path: path.to_owned(), pieces })
    }

    pub(super) fn piece(&mut self) -> Result<Piece, Error> {
        let mut head = [0; 5];
        self.fill(&mut head)?;
        let [kind, a, b, c, d] = head;
        let length = usize::try_from(u32::from_le_bytes([a, b, c, d])).unwrap_or(usize::MAX);
        if length > LONGEST {
            return Err(self.damaged("a piece is too long"));
        }
        let mut body = vec![0; length];
        self.fill(&mut body)?;
        let piece = match kind {
            b'H' => serde_json::from_slice(&body).ok().map(Piece::Header),
            b'R' => serde_json::from_slice(&body).ok().map(Piece::Row),
            b'M' => serde_json::from_slice(&body).ok().map(Piece::Manifest),
            b'D' => body.split_first_chunk().map(|(offset, bytes)| Piece::Data {
                offset: u64::from_le_bytes(*offset),
                bytes: bytes.to_vec(),
            }),
            b'E' => Some(Piece::End),
            _ => None,
        };
        piece.ok_or_else(|| self.damaged("a piece is none that this version knows"))
    }

    pub(super) fn header(&mut self) -> Result<Header, Error> {
        match self.piece()? {
            Piece::Header(header) => Ok(header),
            _ => Err(self.damaged("it has no header")),
        }
    }

    pub(super) fn damaged(&self, why: &'static str) -> Error {
        Error::Damaged { path: self.path.clone(), why }
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), Error> {
        self.pieces.read_exact(bytes).map_err(|_| self.damaged("it ends too early"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Value;

    fn pieces() -> Vec<Piece> {
        let header =
            Header { program: "1.0".to_owned(), schema: 3, taken_at: "2026-11-22T06:00:00Z".to_owned() };
        let values = vec![
            Value::Null,
            Value::Int(i64::MIN),
            Value::Double(0.1),
            Value::Text("é\n\"".to_owned()),
            Value::Blob(vec![0, 255, 7]),
        ];
        let columns = ["a", "b", "c", "d", "e"].map(str::to_owned).to_vec();
        vec![
            Piece::Header(header),
            Piece::Row(Record { table: "some".to_owned(), columns, values }),
            Piece::Manifest(ManifestOf { file: "x.manifest".to_owned(), size: 1 << 30 }),
            Piece::Data { offset: 1 << 20, bytes: vec![9; 4096] },
        ]
    }

    fn written() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("backup");
        let mut writer = Writer::new(File::create(&path).expect("made")).expect("begun");
        pieces().iter().for_each(|piece| writer.piece(piece).expect("written"));
        assert_eq!(writer.finish().expect("finished"), std::fs::metadata(&path).expect("there").len());
        (folder, path)
    }

    #[test]
    fn what_was_written_is_read() {
        let (_folder, path) = written();
        let mut reader = Reader::open(&path).expect("whole");
        for piece in pieces() {
            assert_eq!(reader.piece().expect("a piece"), piece);
        }
        assert_eq!(reader.piece().expect("the end"), Piece::End);
    }

    #[test]
    fn a_damaged_file_gives_nothing() {
        let (_folder, path) = written();
        let whole = std::fs::read(&path).expect("readable");
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            std::fs::write(&path, &damaged).expect("written");
            assert!(Reader::open(&path).is_err(), "byte {at}");
            std::fs::write(&path, &whole[..at]).expect("written");
            assert!(Reader::open(&path).is_err(), "{at} bytes");
        }
    }
}
