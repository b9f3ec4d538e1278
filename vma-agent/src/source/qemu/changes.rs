//! Reads over NBD what QEMU's bitmaps say, and whether a snapshot still is one.

use std::time::{Duration, Instant};

use migratekit::nbd::{self, Buffer, Completed, ConnectOptions, Handle, NbdUri, STATE_DIRTY};
use migratekit::plan::ChangedPage;
use shared::range::ByteRange;

/// The longest wait for one answer of the NBD server.
const PATIENCE: Duration = Duration::from_secs(30);

/// How much one page tells.
#[derive(Clone, Copy, Debug)]
pub struct PageLimits {
    /// Most bytes of the disk that one page covers.
    pub bytes: u64,
    /// About the most ranges of one page; the page ends with the answer that goes beyond.
    pub ranges: usize,
}

impl Default for PageLimits {
    fn default() -> Self {
        // A page of an idle disk of 1 TiB is 16 questions; one of a busy disk is some 64 KiB of memory.
        Self { bytes: 64 << 30, ranges: 4096 }
    }
}

/// Why there is no page.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// The way to the server.
    #[error("cannot ask the NBD server")]
    Nbd(#[source] nbd::Error),
    /// It answered and the answer is no, or makes no sense.
    #[error("{detail}")]
    Refused { detail: String },
}

impl From<nbd::Error> for Error {
    fn from(error: nbd::Error) -> Self {
        match error {
            nbd::Error::Status { .. } => Self::Refused { detail: error.to_string() },
            error => Self::Nbd(error),
        }
    }
}

/// One page of a bitmap, from `offset` on. Blocks.
pub(super) fn page(
    uri: &NbdUri,
    bitmap: &str,
    size: u64,
    offset: u64,
    limits: PageLimits,
) -> Result<ChangedPage, Error> {
    let context = nbd::dirty_bitmap_context(bitmap);
    let options = ConnectOptions { contexts: vec![context.clone()], ..ConnectOptions::default() };
    let mut handle = Handle::<()>::connect(uri, &options)?;
    if !handle.export().has_context(&context) {
        return Err(Error::Refused { detail: format!("{uri} has no metadata context {context}") });
    }
    if handle.export().size != size {
        let detail =
            format!("the disk had {size} bytes in the snapshot and has {} now", handle.export().size);
        return Err(Error::Refused { detail });
    }
    let end = size.min(offset.saturating_add(limits.bytes.max(1)));
    let mut page = ChangedPage { ranges: Vec::new(), next_offset: offset };
    while page.next_offset < end && page.ranges.len() < limits.ranges.max(1) {
        // NBD's lengths have 32 bits.
        let asked = ByteRange::new(page.next_offset, end.min(page.next_offset.saturating_add(2 << 30)));
        page.next_offset = ask(&mut handle, &context, asked, &mut page.ranges)?;
    }
    handle.disconnect(Duration::from_secs(1));
    Ok(page)
}

/// One question; gives back up to where it was answered.
fn ask(
    handle: &mut Handle<()>,
    context: &str,
    asked: ByteRange,
    ranges: &mut Vec<ByteRange>,
) -> Result<u64, Error> {
    handle.status(asked, ())?;
    let statuses = match finish(handle)? {
        Completed::Status { result, .. } => result?,
        Completed::Read { .. } | Completed::Changed { .. } => {
            return Err(Error::Refused { detail: "an answer to nothing".to_owned() });
        }
    };
    let mut at = asked.start;
    for (extent, flags) in statuses.into_iter().filter(|s| s.context == context).flat_map(|s| s.extents) {
        if extent.start != at || extent.is_empty() {
            let detail = format!("an extent {extent:?} was reported where {at} was to be told about");
            return Err(Error::Refused { detail });
        }
        at = extent.end;
        let extent = extent.intersect(asked);
        if flags & STATE_DIRTY != 0 && !extent.is_empty() {
            ranges.push(extent);
        }
    }
    if at == asked.start {
        return Err(Error::Refused { detail: format!("nothing was reported about offset {at}") });
    }
    Ok(at.min(asked.end))
}

/// Reads the first block through the canary: it fails once the snapshot was given up. Blocks.
pub(super) fn canary(uri: &NbdUri) -> Result<(), nbd::Error> {
    let options = ConnectOptions { contexts: vec![], ..ConnectOptions::default() };
    let mut handle = Handle::<()>::connect(uri, &options)?;
    let length = usize::try_from(handle.export().size.min(512)).unwrap_or(512);
    if length > 0 {
        handle.read(0, Buffer::new(length), ())?;
        if let Completed::Read { result, .. } = finish(&mut handle)? {
            result?;
        }
    }
    handle.disconnect(Duration::from_secs(1));
    Ok(())
}

fn finish(handle: &mut Handle<()>) -> Result<Completed<()>, nbd::Error> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(completed) = handle.completed() {
            return Ok(completed);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            let detail = format!("no answer within {} s", PATIENCE.as_secs());
            return Err(nbd::Error::Library { call: "nbd_aio_block_status", detail });
        }
        handle.wait(None, left)?;
    }
}
