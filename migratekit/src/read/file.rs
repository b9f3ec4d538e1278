//! The threads that read a file or a block device.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, FileTypeExt};
use std::path::PathBuf;
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{SeekFrom, seek};
use shared::range::ByteRange;

use super::Error;
use super::queue::{Job, Next, Out, Shared};
use crate::nbd::{BASE_ALLOCATION, Buffer, Export, STATE_ZERO, Status};
use crate::piece::MAX_DATA;

/// An open source file.
pub(super) struct Source {
    file: File,
    path: PathBuf,
    size: u64,
    holes: Holes,
}

/// Whether the file can tell its holes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Holes {
    /// A regular file: SEEK_DATA.
    Told,
    /// A device: all is data.
    Unknown,
}

impl Source {
    pub(super) async fn open(path: PathBuf) -> Result<Arc<Self>, Error> {
        match tokio::task::spawn_blocking(move || Self::open_now(path)).await {
            Ok(source) => source.map(Arc::new),
            Err(error) => Err(Error::Setup { action: "run the opening thread", source: error.into() }),
        }
    }

    fn open_now(path: PathBuf) -> Result<Self, Error> {
        let fail = |action| {
            let path = path.clone();
            move |source| Error::File { action, path, source }
        };
        let kind = std::fs::metadata(&path).map_err(fail("open"))?.file_type();
        if !kind.is_file() && !kind.is_block_device() {
            return Err(fail("read")(io::Error::new(
                io::ErrorKind::InvalidInput,
                "it is no file and no block device",
            )));
        }
        let file = File::open(&path).map_err(fail("open"))?;
        // Metadata has no size for a device.
        let size =
            seek(&file, SeekFrom::End(0)).map_err(io::Error::from).map_err(fail("find the size of"))?;
        let holes = if kind.is_file() { Holes::Told } else { Holes::Unknown };
        Ok(Self { file, path, size, holes })
    }

    pub(super) fn export(&self) -> Export {
        Export {
            size: self.size,
            block_min: 1,
            block_preferred: 4096,
            block_max: MAX_DATA as u64,
            multi_conn: true,
            read_only: true,
            can_flush: false,
            can_zero: false,
            contexts: if self.holes == Holes::Told { vec![BASE_ALLOCATION.to_owned()] } else { Vec::new() },
        }
    }

    /// Starts the threads. They end as those of an NBD source do.
    pub(super) fn spawn(
        self: Arc<Self>,
        threads: usize,
        shared: &Arc<Shared>,
        out: &Out,
    ) -> Result<(), Error> {
        for index in 0..threads {
            let setup = |action| move |source| Error::Setup { action, source };
            let wake = shared.wake(index).map_err(setup("copy an eventfd"))?;
            let (source, shared, out) = (Arc::clone(&self), Arc::clone(shared), out.clone());
            std::thread::Builder::new()
                .name(format!("file-read-{index}"))
                .spawn(move || {
                    if let Err(error) = source.run(index, &wake, &shared, &out) {
                        shared.fail(error, &out);
                    }
                })
                .map_err(setup("start a reading thread"))?;
        }
        Ok(())
    }

    fn run(&self, index: usize, wake: &impl AsFd, shared: &Shared, out: &Out) -> Result<(), Error> {
        while !shared.is_stopped() {
            match shared.next(index) {
                Next::Job(Job::Read { range, asked, mut lease }) => {
                    // A lease comes with its buffer.
                    let Some(mut buffer) = lease.take_buffer() else { continue };
                    self.read(asked.start, &mut buffer)?;
                    let length = buffer.len();
                    lease.put_buffer(buffer, 0, length);
                    shared.deliver(range, asked.len(), lease, out);
                }
                Next::Job(Job::Status { range, reply }) => {
                    // Whoever asked may have gone.
                    let _ = reply.send(self.status(range));
                }
                Next::Empty => match poll(&mut [PollFd::new(wake, PollFlags::IN)], None) {
                    Ok(_) | Err(rustix::io::Errno::INTR) => {}
                    Err(errno) => return Err(Error::Setup { action: "wait for work", source: errno.into() }),
                },
                Next::Closed => break,
            }
        }
        Ok(())
    }

    fn read(&self, offset: u64, buffer: &mut Buffer) -> Result<(), Error> {
        self.file.read_exact_at(buffer.as_mut_slice(), offset).map_err(|source| {
            let path = self.path.clone();
            if source.kind() == io::ErrorKind::UnexpectedEof {
                Error::Truncated { path, offset }
            } else {
                Error::File { action: "read", path, source }
            }
        })
    }

    /// The file's data and holes, at most a few thousand of them.
    fn status(&self, range: ByteRange) -> Result<Vec<Status>, Error> {
        const MOST: usize = 4096;
        let mut extents = Vec::new();
        let mut at = range.start;
        while at < range.end && extents.len() < MOST {
            let data = self.seek(SeekFrom::Data(at))?.unwrap_or(range.end).min(range.end);
            if data > at {
                extents.push((ByteRange::new(at, data), STATE_ZERO));
            }
            if data >= range.end {
                break;
            }
            let hole = self.seek(SeekFrom::Hole(data))?.unwrap_or(range.end).min(range.end);
            extents.push((ByteRange::new(data, hole), 0));
            at = hole;
        }
        Ok(vec![Status { context: BASE_ALLOCATION.to_owned(), extents }])
    }

    /// `None` when there is no more data. (The descriptor's position is used for nothing else.)
    fn seek(&self, to: SeekFrom) -> Result<Option<u64>, Error> {
        match seek(&self.file, to) {
            Ok(offset) => Ok(Some(offset)),
            Err(rustix::io::Errno::NXIO) => Ok(None),
            Err(errno) => Err(Error::File {
                action: "find the holes of",
                path: self.path.clone(),
                source: errno.into(),
            }),
        }
    }
}
