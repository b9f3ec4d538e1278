//! Reads a source: ranges go in, pieces (hashed data, zeros) come out in any order.
//!
//! ```text
//!  submit(range) ─ waits for memory ─► queue ─┬► thread ═ connection: many requests in flight
//!                                             └► thread ═ connection: per leaf zero check and hash
//!  pieces ◄──────────── bounded channel ◄──────┘   (the read buffer itself; back to the pool when dropped)
//! ```
//!
//! Every byte that was submitted comes back exactly once, or an error comes and then the end. After an error the
//! reader is done: open another. Memory is bounded by [`ReadOptions::memory`], which counts buffers until the last
//! piece made of them is dropped; so a caller that submits must let another task (or a `select!`) receive.
//!
//! Deliberately not here: what to read (see [`plan`](crate::plan)), retries, and anything about the target.

mod cut;
mod error;
mod extents;
mod file;
mod nbd;
mod pool;
mod queue;

#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use shared::leaf::LEAF;
use shared::range::ByteRange;
use tokio::sync::mpsc;

use crate::nbd::{Export, NbdUri};
use crate::piece::{MAX_DATA, Piece};

pub use error::Error;
pub use extents::{DirtyBitmap, SourceExtents};
pub use queue::Counters;

use pool::Pool;
use queue::{Job, Out, Shared};

/// How to read. The defaults were measured, see `examples/read_speed.rs`.
#[derive(Clone, Debug)]
pub struct ReadOptions {
    /// Connections (threads), where the server allows several.
    pub connections: usize,
    /// Most bytes of one request; rounded to what leaves and the server allow.
    pub request_size: u64,
    /// Bytes of read buffers, in use or being filled.
    pub memory: u64,
    /// The longest that connecting may take.
    pub connect_timeout: Duration,
    /// The longest that a server may owe answers without giving one.
    pub stall_timeout: Duration,
    /// A dirty bitmap to ask for as well (QEMU servers).
    pub bitmap: Option<String>,
}

impl Default for ReadOptions {
    fn default() -> Self {
        Self {
            connections: usual_connections(),
            request_size: 256 << 10,
            memory: 8 << 20,
            connect_timeout: Duration::from_secs(20),
            stall_timeout: Duration::from_secs(60),
            bitmap: None,
        }
    }
}

/// One connection for every two processors, at most 4: the thread of one reads and hashes 2 GB/s and more, and threads
/// that take each other's processor cost more than they bring (measured: a tenth of the time of a whole copy on two).
pub fn usual_connections() -> usize {
    std::thread::available_parallelism().map_or(1, |processors| (processors.get() / 2).clamp(1, 4))
}

/// The pieces that a reader makes.
pub type Pieces = mpsc::Receiver<Result<Piece, Error>>;

/// Pieces that may wait for the receiver (their memory is bounded by the pool).
const WAITING_PIECES: usize = 256;

/// The submitting half of an open source. Dropping it (and its clones) lets what was submitted end; the receiver then
/// ends too. Dropping the receiver abandons what was submitted.
#[derive(Clone)]
pub struct Reader {
    door: Arc<Door>,
    pool: Arc<Pool>,
    export: Arc<Export>,
    request_size: u64,
    connections: usize,
}

/// Closes the queue when the last reader is dropped.
struct Door(Arc<Shared>);

impl Drop for Door {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl Reader {
    /// Connects to an NBD server: once, and again for each further connection where the server says that several see
    /// the same.
    ///
    /// # Errors
    /// As [`nbd::Error`](crate::nbd::Error) for the first connection; [`Error::SizeChanged`] when a later one sees
    /// another size; [`Error::BlockSize`] when the server takes less than a leaf in one request. A further
    /// connection that fails is done without (logged).
    pub async fn open(uri: &NbdUri, options: &ReadOptions) -> Result<(Self, Pieces), Error> {
        let handles = nbd::connect(uri, options).await?;
        let export = handles[0].export().clone();
        let (reader, pieces, out) = Self::build(uri.to_string(), export, handles.len(), options)?;
        nbd::spawn(handles, &reader.door.0, &out, options.stall_timeout)?;
        Ok((reader, pieces))
    }

    /// Opens a file or a block device.
    ///
    /// # Errors
    /// [`Error::File`] when it cannot be opened or has no size.
    pub async fn open_file(path: &Path, options: &ReadOptions) -> Result<(Self, Pieces), Error> {
        let source = file::Source::open(path.to_owned()).await?;
        let threads = options.connections.max(1);
        let (reader, pieces, out) =
            Self::build(path.display().to_string(), source.export(), threads, options)?;
        source.spawn(threads, &reader.door.0, &out)?;
        Ok((reader, pieces))
    }

    fn build(
        name: String,
        export: Export,
        workers: usize,
        options: &ReadOptions,
    ) -> Result<(Self, Pieces, Out), Error> {
        let block_max = export.block_max.min(MAX_DATA as u64) / LEAF * LEAF;
        if block_max == 0 {
            return Err(Error::BlockSize { source_name: name, most: export.block_max });
        }
        let request_size = (options.request_size / LEAF * LEAF).clamp(LEAF, block_max);
        let pool = Pool::new(options.memory.max(2 * request_size));
        let shared = Shared::new(name, workers, Arc::clone(&pool))?;
        let (out, pieces) = mpsc::channel(WAITING_PIECES);
        let door = Arc::new(Door(Arc::new(shared)));
        let export = Arc::new(export);
        Ok((Self { door, pool, export, request_size, connections: workers }, pieces, out))
    }

    /// The source, without secrets.
    pub fn name(&self) -> &str {
        self.door.0.name()
    }

    /// Bytes of the source.
    pub fn size(&self) -> u64 {
        self.export.size
    }

    /// What the source said about itself.
    pub fn export(&self) -> &Export {
        &self.export
    }

    /// Connections in use.
    pub fn connections(&self) -> usize {
        self.connections
    }

    /// Bytes of a whole request.
    pub fn request_size(&self) -> u64 {
        self.request_size
    }

    /// Makes requests of `size` bytes, if that is more than they have and the source and memory allow it.
    pub fn prefer_requests(&mut self, size: u64) {
        let most = self.export.block_max.min(MAX_DATA as u64).min(self.pool.memory() / 4) / LEAF * LEAF;
        self.request_size = self.request_size.max((size / LEAF * LEAF).min(most));
    }

    /// What was read so far.
    pub fn counters(&self) -> Counters {
        self.door.0.counters()
    }

    /// Takes a range to read: whole leaves of the source (its end may be the source's, or the disk's if that is
    /// smaller). Waits until there is memory for it; returns before it is read.
    ///
    /// # Errors
    /// [`Error::PastEnd`] and [`Error::Unaligned`] for ranges that are not of this source; [`Error::Closed`] after
    /// the receiver got an error or was dropped.
    pub async fn submit(&self, range: ByteRange) -> Result<(), Error> {
        let source_name = || self.name().to_owned();
        if range.end > self.export.size {
            return Err(Error::PastEnd { source_name: source_name(), range, size: self.export.size });
        }
        if !range.start.is_multiple_of(LEAF) {
            return Err(Error::Unaligned { source_name: source_name(), range });
        }
        let mut at = range.start;
        while at < range.end {
            let part = ByteRange::new(at, range.end.min(at.saturating_add(self.request_size)));
            let asked = self.export.round_out(part);
            let closed = || Error::Closed { source_name: source_name() };
            let lease = self.pool.take(asked.len()).await.ok_or_else(closed)?;
            self.door.0.push(Job::Read { range: part, asked, lease }).map_err(|_| closed())?;
            at = part.end;
        }
        Ok(())
    }

    /// Ends submitting for all clones.
    pub fn close(&self) {
        self.door.0.close();
    }

    /// Tells data from zeros, over the reader's own connections. Does not keep the reader open.
    pub fn extents(&self) -> SourceExtents {
        SourceExtents::new(Arc::clone(&self.door.0), Arc::clone(&self.export))
    }

    /// The dirty bitmap that was asked for in the options, as changed areas. Does not keep the reader open.
    ///
    /// # Errors
    /// [`Error::NoBitmap`] when the server does not have it.
    pub fn dirty_bitmap(&self, name: &str) -> Result<DirtyBitmap, Error> {
        DirtyBitmap::new(Arc::clone(&self.door.0), Arc::clone(&self.export), name)
    }
}
