//! The resume file: what a copy intended to write and what is durable.
//!
//! Lines of JSON, appended and flushed: a header that binds it to a copy, then `{"intend":[[start,end],…]}` and
//! `{"durable":[[start,end],…]}`, in bytes; `{"lost":[[start,end],…]}` takes durable ranges back, and
//! `{"made":[device,inode]}` says which file the target is, `{"moved":bytes}` how much data was moved until then. A last line that was cut off by a crash is ignored: it was never
//! acknowledged.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};
use shared::range::{ByteRange, RangeSet};

use super::Error;
use super::report::Moved;
use crate::replica::{self, JournalError};
use crate::target::sync_parent;

/// What the file is bound to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Header {
    /// Version of the form.
    pub(super) migratekit_copy: u32,
    pub(super) source: String,
    pub(super) size_bytes: u64,
    /// Of a source that is a file. Older files of this kind do not have it.
    #[serde(default)]
    pub(super) source_file: Option<SourceFile>,
    pub(super) target: PathBuf,
    /// Of an NBD export, which has no more of an identity than its address and this.
    #[serde(default)]
    pub(super) target_bytes: Option<u64>,
    pub(super) bitmap: Option<String>,
    /// Device and inode of the target: another file of that name does not have what was written. `None`: not made yet.
    #[serde(default)]
    pub(super) target_file: Option<(u64, u64)>,
    /// The target was made by this copy, or is said to be zero: so it reads where nothing was written.
    pub(super) made_target: bool,
}

/// A file as it was: written to again, or put in its place, it is another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SourceFile {
    pub(super) inode: u64,
    /// Of the last change of its content, since the epoch: seconds, and nanoseconds on top.
    pub(super) modified: (i64, i64),
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Intend(Vec<(u64, u64)>),
    Durable(Vec<(u64, u64)>),
    /// Durable once, and read back as something else.
    Lost(Vec<(u64, u64)>),
    /// Data that this run and those before it moved, in bytes.
    Moved(u64),
    /// The target that the header could not name yet.
    Made((u64, u64)),
}

/// What is known of earlier runs; nothing for a copy without a resume file.
#[derive(Default)]
pub(super) struct Resume {
    pub(super) intended: RangeSet,
    pub(super) durable: RangeSet,
    /// Bytes of data.
    pub(super) moved: u64,
    pub(super) file: Option<ResumeFile>,
}

/// An open resume file, locked against a second copy.
pub(super) struct ResumeFile {
    path: PathBuf,
    file: File,
}

impl ResumeFile {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Where the manifest of the copy lies.
    pub(super) fn manifest_path(&self) -> PathBuf {
        let mut path = self.path.clone().into_os_string();
        path.push(".manifest");
        path.into()
    }

    /// Opens or makes the file, and locks it. Writes nothing.
    fn lock(path: &Path) -> Result<(Self, String), Error> {
        let fail = |action| {
            let path = path.to_owned();
            move |source| Error::Io { action, path, source }
        };
        let file =
            OpenOptions::new().read(true).append(true).create(true).open(path).map_err(fail("open"))?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(Error::Running { path: path.to_owned() }),
            Err(errno) => return Err(fail("lock")(errno.into())),
        }
        let mut bytes = Vec::new();
        (&file).read_to_end(&mut bytes).map_err(fail("read"))?;
        let text = String::from_utf8(bytes).map_err(|_| Error::NoResumeFile { path: path.to_owned() })?;
        Ok((Self { path: path.to_owned(), file }, text))
    }

    fn append(&self, line: &impl Serialize) -> io::Result<()> {
        self.append_all(&[line])
    }

    /// At once, so that they are flushed once.
    fn append_all(&self, lines: &[impl Serialize]) -> io::Result<()> {
        let mut text = Vec::new();
        for line in lines {
            serde_json::to_writer(&mut text, line)?;
            text.push(b'\n');
        }
        (&self.file).write_all(&text)?;
        self.file.sync_data()
    }
}

impl Resume {
    /// Reads the file; `None` as header when it is new. Nothing is written yet: [`begin`](Self::begin) does that.
    pub(super) fn open(path: &Path) -> Result<(Self, Option<Header>), Error> {
        let (file, text) = ResumeFile::lock(path)?;
        let damaged = || Error::NoResumeFile { path: path.to_owned() };
        // What follows the last line end was never acknowledged. (It is cut off so that appending starts a line.)
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        let mut lines = text[..whole].lines();
        let mut resume = Self { file: None, ..Self::default() };
        let Some(first) = lines.next() else {
            // New, or made by a run that died before its header was whole; anything else is not ours.
            if !text.is_empty() && !text.starts_with("{\"migratekit_copy\"") {
                return Err(damaged());
            }
            cut(&file, 0)?;
            resume.file = Some(file);
            return Ok((resume, None));
        };
        let mut header: Header = serde_json::from_str(first).map_err(|_| damaged())?;
        if header.migratekit_copy != VERSION {
            return Err(damaged());
        }
        for line in lines {
            match serde_json::from_str(line).map_err(|_| damaged())? {
                Line::Intend(ranges) => resume.intended.union(&set(ranges)),
                Line::Durable(ranges) => resume.durable.union(&set(ranges)),
                Line::Lost(ranges) => resume.durable.subtract(&set(ranges)),
                Line::Moved(bytes) => resume.moved = resume.moved.max(bytes),
                Line::Made(file) => header.target_file = Some(file),
            }
        }
        cut(&file, whole)?;
        resume.file = Some(file);
        Ok((resume, Some(header)))
    }

    /// Writes the header of a file that begins, durably; the header of a run that wrote nothing goes.
    pub(super) fn begin(&self, header: &Header) -> Result<(), Error> {
        let Some(file) = &self.file else { return Ok(()) };
        cut(file, 0)?;
        let written = file.append(header).and_then(|()| sync_parent(&file.path));
        written.map_err(|source| Error::Io { action: "write", path: file.path.clone(), source })
    }
}

/// The version of the form.
pub(super) const VERSION: u32 = 1;

fn cut(file: &ResumeFile, length: usize) -> Result<(), Error> {
    let cut = file.file.set_len(length as u64);
    cut.map_err(|source| Error::Io { action: "repair", path: file.path.clone(), source })
}

fn set(ranges: Vec<(u64, u64)>) -> RangeSet {
    ranges.into_iter().map(|(start, end)| ByteRange::new(start, end)).collect()
}

fn list(ranges: &RangeSet) -> Vec<(u64, u64)> {
    ranges.iter().map(|range| (range.start, range.end)).collect()
}

/// The session's journal: the resume file, or nothing.
pub(super) struct Journal {
    state: Arc<Mutex<State>>,
    moved: Moved,
}

enum State {
    /// A copy without a resume file.
    Nothing,
    File(ResumeFile),
    /// The copy ended; the file may be another's by now.
    Released,
}

impl State {
    fn append(&self, lines: &[Line]) -> Result<(), JournalError> {
        match self {
            Self::Nothing => Ok(()),
            Self::File(file) => Ok(file.append_all(lines).map_err(|source| {
                let path = file.path.clone();
                Error::Io { action: "write", path, source }
            })?),
            Self::Released => Err("the copy has ended".into()),
        }
    }
}

impl Journal {
    /// Of a copy that counts there what it moves.
    pub(super) fn new(file: Option<ResumeFile>, moved: Moved) -> Self {
        Self { state: Arc::new(Mutex::new(file.map_or(State::Nothing, State::File))), moved }
    }

    async fn append(&self, line: Line) -> Result<(), JournalError> {
        self.append_all(vec![line]).await
    }

    async fn append_all(&self, lines: Vec<Line>) -> Result<(), JournalError> {
        let state = Arc::clone(&self.state);
        let write = move || state.lock().unwrap_or_else(PoisonError::into_inner).append(&lines);
        tokio::task::spawn_blocking(write).await?
    }

    /// Records which file the target is, once it is there.
    pub(super) async fn made(&self, target: (u64, u64)) -> Result<(), JournalError> {
        self.append(Line::Made(target)).await
    }

    /// Takes back what the target does not hold: the next run copies it again.
    pub(super) async fn lost(&self, ranges: &RangeSet) -> Result<(), JournalError> {
        self.append(Line::Lost(list(ranges))).await
    }

    /// Lets the file go, and the lock with it, whoever else still holds the journal.
    pub(super) fn release(&self) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = State::Released;
    }

    /// The copy is done: its files go.
    pub(super) fn remove(&self) -> Result<(), Error> {
        let state = std::mem::replace(
            &mut *self.state.lock().unwrap_or_else(PoisonError::into_inner),
            State::Released,
        );
        let State::File(file) = state else { return Ok(()) };
        for path in [file.path.clone(), file.manifest_path()] {
            std::fs::remove_file(&path).map_err(|source| Error::Io { action: "remove", path, source })?;
        }
        Ok(())
    }
}

#[async_trait]
impl replica::Journal for Journal {
    async fn intend(&self, ranges: &RangeSet) -> Result<(), JournalError> {
        self.append(Line::Intend(list(ranges))).await
    }

    async fn checkpoint(&self, ranges: &RangeSet) -> Result<(), JournalError> {
        self.append_all(vec![Line::Durable(list(ranges)), Line::Moved(self.moved.bytes())]).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replica::Journal as _;

    fn header() -> Header {
        Header {
            migratekit_copy: VERSION,
            source: "nbd://h/x".into(),
            size_bytes: 7,
            source_file: Some(SourceFile { inode: 3, modified: (5, 6) }),
            target: "/t".into(),
            target_bytes: None,
            bitmap: None,
            target_file: None,
            made_target: true,
        }
    }

    /// Opens what was just dropped: other tests start servers, and until `exec` their children hold our lock too.
    fn reopen(path: &Path) -> Result<(Resume, Option<Header>), Error> {
        for _ in 0..500 {
            match Resume::open(path) {
                Err(Error::Running { .. }) => std::thread::sleep(std::time::Duration::from_millis(10)),
                other => return other,
            }
        }
        Resume::open(path)
    }

    #[tokio::test]
    async fn what_was_written_is_read_again_up_to_a_cut_off_line() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("resume");
        let (resume, none) = Resume::open(&path).expect("made");
        assert_eq!(none, None);
        assert!(matches!(Resume::open(&path), Err(Error::Running { .. })), "locked");
        resume.begin(&header()).expect("written");
        let journal = Journal::new(resume.file, Moved::new(3));
        let ranges: RangeSet = [ByteRange::new(0, 5), ByteRange::new(9, u64::MAX)].into_iter().collect();
        journal.intend(&ranges).await.expect("written");
        journal.checkpoint(&[ByteRange::new(0, 5)].into_iter().collect()).await.expect("written");
        drop(journal);
        std::fs::OpenOptions::new()
            .append(true)
            .open(&path)
            .and_then(|mut f| f.write_all(b"{\"durable\":[[9,1"))
            .expect("torn");
        for _ in 0..2 {
            let (resume, again) = reopen(&path).expect("read");
            assert_eq!(again, Some(header()));
            assert_eq!((resume.intended, resume.durable.total(), resume.moved), (ranges.clone(), 5, 3));
        }
        let (resume, _) = reopen(&path).expect("read");
        let journal = Journal::new(resume.file, Moved::new(4));
        journal.checkpoint(&[ByteRange::new(9, 10)].into_iter().collect()).await.expect("written");
        drop(journal);
        assert_eq!(reopen(&path).expect("whole lines").0.durable.total(), 6);
    }

    #[test]
    fn other_files_are_left_alone() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("notes");
        for text in ["dear diary", "dear diary\n", "{}\n", "\u{fffd}"] {
            std::fs::write(&path, text).expect("written");
            assert!(matches!(Resume::open(&path), Err(Error::NoResumeFile { .. })), "{text}");
            assert_eq!(std::fs::read_to_string(&path).expect("there"), text);
        }
        // A header that a crash cut off is ours.
        std::fs::write(&path, "{\"migratekit_copy\":1,\"sour").expect("written");
        assert_eq!(reopen(&path).expect("new again").1, None);
    }
}
