//! The only place with `unsafe`: the safe [`Handle`] over libnbd's C functions, which `sys` declares.
//!
//! What keeps it sound:
//! - a handle is used by one thread at a time (`&mut self`; `Send`, not `Sync`);
//! - the memory of a request in flight (buffer, data to write, or list of extents) is owned by the handle's table from before the
//!   request is issued until the library has retired it; whatever is left is freed after `nbd_close`, which frees the
//!   requests first;
//! - the one callback does nothing but push into the list it was given, and is never called after retirement.
#![expect(
    unsafe_code,
    reason = "libnbd is a C library and has no crate; this is the one place that calls it"
)]

mod sys;

use std::collections::HashMap;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::io;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use shared::range::ByteRange;

use super::{Buffer, Change, ConnectOptions, Error, Export, NbdUri, Status};
use sys::*;

/// What a server that does not say is taken to allow at most in one request (the protocol's own words).
const DEFAULT_MAX: u64 = 32 << 20;

/// Collects the extents of one block status query.
///
/// # Safety
/// `user` is the list that [`Handle::status`] passed, and `entries` has `count` readable numbers.
unsafe extern "C" fn on_extents(
    user: *mut c_void,
    context: *const c_char,
    offset: u64,
    entries: *mut u32,
    count: usize,
    _error: *mut c_int,
) -> c_int {
    // SAFETY: the list is owned by the handle's table and touched by nobody else until the query is retired; the
    // library passes a C string and an array that live as long as this call.
    let (list, context, entries) = unsafe {
        let entries = if entries.is_null() { &[][..] } else { std::slice::from_raw_parts(entries, count) };
        (&mut *user.cast::<Vec<Status>>(), CStr::from_ptr(context), entries)
    };
    let mut at = offset;
    let mut extents = Vec::with_capacity(entries.len() / 2);
    for pair in entries.chunks_exact(2) {
        let Some(range) = ByteRange::at(at, u64::from(pair[0])) else { break };
        at = range.end;
        extents.push((range, pair[1]));
    }
    list.push(Status { context: context.to_string_lossy().into_owned(), extents });
    0
}

/// Memory that the library uses while the request is in flight.
enum Memory {
    Read(Buffer),
    /// What is written (read by the library only); nothing for zeros and flushes.
    Change(Change, Option<Bytes>),
    /// From `Box::into_raw`; freed by whoever takes it out of the table.
    Status(NonNull<Vec<Status>>),
}

struct Flight<T> {
    memory: Memory,
    range: ByteRange,
    tag: T,
}

/// A request that has ended, with the tag it was issued with.
pub enum Completed<T> {
    /// The buffer comes back in any case; its content means something only when `result` is `Ok`.
    Read { tag: T, buffer: Buffer, result: Result<(), Error> },
    /// One [`Status`] for each metadata context (or several, in order).
    Status { tag: T, result: Result<Vec<Status>, Error> },
    /// A write, zeros or a flush.
    Changed { tag: T, result: Result<(), Error> },
}

/// One connection to an export. `T` is what the owner wants back with each completed request.
pub struct Handle<T> {
    raw: NonNull<Raw>,
    uri: NbdUri,
    export: Export,
    flights: HashMap<u64, Flight<T>>,
}

// SAFETY: libnbd handles may be moved between threads (they have a lock of their own), and all else is owned.
unsafe impl<T: Send> Send for Handle<T> {}

impl<T> Handle<T> {
    /// Connects and waits for the handshake to end. Blocks for at most the options' timeout.
    pub fn connect(uri: &NbdUri, options: &ConnectOptions) -> Result<Self, Error> {
        // SAFETY: no argument; null is checked.
        let raw = NonNull::new(unsafe { nbd_create() })
            .ok_or_else(|| Error::Library { call: "nbd_create", detail: last_error().1 })?;
        let export = Export {
            size: 0,
            block_min: 1,
            block_preferred: 1,
            block_max: DEFAULT_MAX,
            multi_conn: false,
            read_only: false,
            can_flush: false,
            can_zero: false,
            contexts: Vec::new(),
        };
        let mut handle = Self { raw, uri: uri.clone(), export, flights: HashMap::new() };
        handle.prepare(&options.contexts)?;
        handle.negotiate(options.timeout)?;
        handle.look(&options.contexts)?;
        Ok(handle)
    }

    fn prepare(&mut self, contexts: &[String]) -> Result<(), Error> {
        let h = self.raw.as_ptr();
        for context in contexts {
            let name = c_string(context)?;
            // SAFETY: a live handle and a C string.
            check("nbd_add_meta_context", unsafe { nbd_add_meta_context(h, name.as_ptr()) })?;
        }
        // Clearing a buffer before each read is a pass over all data that protects nothing: what a failed read leaves
        // is never looked at, and a structured reply that leaves a part out is a failed read (see `tests/liar.rs`).
        // SAFETY: a live handle.
        check("nbd_set_pread_initialize", unsafe { nbd_set_pread_initialize(h, false) })?;
        // The tail of a disk need not be a multiple of the smallest block: ask, and let the server decide.
        // SAFETY: a live handle.
        check("nbd_set_strict_mode", unsafe {
            nbd_set_strict_mode(h, nbd_get_strict_mode(h) & !STRICT_ALIGN)
        })?;
        // The URI is the operator's own, so it may name a PSK file.
        // SAFETY: a live handle.
        check("nbd_set_uri_allow_local_file", unsafe { nbd_set_uri_allow_local_file(h, true) })
    }

    fn negotiate(&mut self, timeout: Duration) -> Result<(), Error> {
        let uri = c_string(self.uri.raw())?;
        let h = self.raw.as_ptr();
        let deadline = Instant::now() + timeout;
        // SAFETY: a live handle and a C string.
        if unsafe { nbd_aio_connect_uri(h, uri.as_ptr()) } == -1 {
            return Err(self.connect_error());
        }
        // SAFETY (this one and those below): a live handle.
        while unsafe { nbd_aio_is_connecting(h) } == 1 {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Error::ConnectTimeout { uri: self.uri.clone(), after: timeout });
            }
            if !self.step(None, left).map_err(|source| self.poll_error(&source))? {
                return Err(self.connect_error());
            }
        }
        if unsafe { nbd_aio_is_ready(h) } != 1 {
            return Err(self.connect_error());
        }
        if self.uri.is_tls() && unsafe { nbd_get_tls_negotiated(h) } != 1 {
            return Err(Error::Tls { uri: self.uri.clone(), detail: "the server did not encrypt".into() });
        }
        Ok(())
    }

    fn look(&mut self, contexts: &[String]) -> Result<(), Error> {
        let h = self.raw.as_ptr();
        for context in contexts {
            let name = c_string(context)?;
            // SAFETY: a live handle and a C string.
            if unsafe { nbd_can_meta_context(h, name.as_ptr()) } == 1 {
                self.export.contexts.push(context.clone());
            }
        }
        // SAFETY: a live handle.
        let (size, multi_conn, read_only) =
            unsafe { (nbd_get_size(h), nbd_can_multi_conn(h) == 1, nbd_is_read_only(h) == 1) };
        self.export.size = u64::try_from(size).map_err(|_| self.connect_error())?;
        self.export.multi_conn = multi_conn;
        self.export.read_only = read_only;
        // SAFETY: a live handle.
        (self.export.can_flush, self.export.can_zero) =
            unsafe { (nbd_can_flush(h) == 1, nbd_can_zero(h) == 1) };
        // SAFETY: a live handle. Zero and -1 both mean that the server did not say.
        let block = |kind, default| match u64::try_from(unsafe { nbd_get_block_size(h, kind) }) {
            Ok(size) if size > 0 => size,
            _ => default,
        };
        self.export.block_min = block(SIZE_MINIMUM, 1);
        self.export.block_preferred = block(SIZE_PREFERRED, 4096).max(self.export.block_min);
        self.export.block_max = block(SIZE_MAXIMUM, DEFAULT_MAX).clamp(self.export.block_min, DEFAULT_MAX);
        Ok(())
    }

    /// What the server said about the export.
    pub fn export(&self) -> &Export {
        &self.export
    }

    /// Requests issued and not yet handed back by [`completed`](Self::completed).
    pub fn in_flight(&self) -> usize {
        self.flights.len()
    }

    /// The range of the request in flight that was issued first.
    pub fn oldest(&self) -> Option<ByteRange> {
        // Cookies grow.
        self.flights.iter().min_by_key(|(cookie, _)| **cookie).map(|(_, flight)| flight.range)
    }

    /// Issues a read of `buffer.len()` bytes at `offset`. The buffer comes back from [`completed`](Self::completed);
    /// when the request cannot even be issued, buffer and tag are dropped.
    pub fn read(&mut self, offset: u64, mut buffer: Buffer, tag: T) -> Result<(), Error> {
        let length = buffer.len();
        let range = ByteRange::new(offset, offset.saturating_add(length as u64));
        let memory = buffer.as_mut_slice().as_mut_ptr();
        // SAFETY: `memory` has `length` writable bytes on the heap; the buffer goes into the table below (moving it
        // does not move the heap), or is dropped when nothing was issued.
        let cookie =
            unsafe { nbd_aio_pread(self.raw.as_ptr(), memory.cast(), length, offset, NO_COMPLETION, 0) };
        let Ok(cookie) = u64::try_from(cookie) else { return Err(self.read_error(range, last_error())) };
        self.flights.insert(cookie, Flight { memory: Memory::Read(buffer), range, tag });
        Ok(())
    }

    /// Issues a write of `data`, which is not copied, at `offset`; when it cannot even be issued, data and tag are dropped.
    pub fn write(&mut self, offset: u64, data: Bytes, tag: T) -> Result<(), Error> {
        let range = ByteRange::new(offset, offset.saturating_add(data.len() as u64));
        let (h, memory) = (self.raw.as_ptr(), data.as_ptr().cast());
        // SAFETY: `memory` has as many readable bytes, which nobody may change; `data` goes into the table below (moving
        // it moves no bytes), or is dropped when nothing was issued.
        let cookie = unsafe { nbd_aio_pwrite(h, memory, data.len(), offset, NO_COMPLETION, 0) };
        self.issued(cookie, range, Change::Write, Some(data), tag)
    }

    /// Issues a request to make `range` read as zeros; the server may make a hole of it.
    pub fn zero(&mut self, range: ByteRange, tag: T) -> Result<(), Error> {
        // SAFETY: a live handle.
        let cookie = unsafe { nbd_aio_zero(self.raw.as_ptr(), range.len(), range.start, NO_COMPLETION, 0) };
        self.issued(cookie, range, Change::Zero, None, tag)
    }

    /// Issues a flush: what was answered before it is on stable storage when it is answered.
    pub fn flush(&mut self, tag: T) -> Result<(), Error> {
        // SAFETY: a live handle.
        let cookie = unsafe { nbd_aio_flush(self.raw.as_ptr(), NO_COMPLETION, 0) };
        self.issued(cookie, ByteRange::new(0, 0), Change::Flush, None, tag)
    }

    fn issued(
        &mut self,
        cookie: i64,
        range: ByteRange,
        change: Change,
        data: Option<Bytes>,
        tag: T,
    ) -> Result<(), Error> {
        let Ok(cookie) = u64::try_from(cookie) else {
            return Err(self.change_error(change, range, last_error()));
        };
        self.flights.insert(cookie, Flight { memory: Memory::Change(change, data), range, tag });
        Ok(())
    }

    /// Issues a block status query. At most 2^32 - 1 bytes; the answer may cover less (a prefix) or more.
    pub fn status(&mut self, range: ByteRange, tag: T) -> Result<(), Error> {
        let list = NonNull::from(Box::leak(Box::new(Vec::<Status>::new())));
        let extent =
            ExtentCallback { callback: Some(on_extents), user_data: list.as_ptr().cast(), free: None };
        // SAFETY: the list lives in the table below until the library has retired the query.
        let cookie = unsafe {
            nbd_aio_block_status(self.raw.as_ptr(), range.len(), range.start, extent, NO_COMPLETION, 0)
        };
        let Ok(cookie) = u64::try_from(cookie) else {
            let (errno, detail) = last_error();
            // SAFETY: nothing was issued, so the list is ours alone.
            drop(unsafe { Box::from_raw(list.as_ptr()) });
            return Err(self.status_error(range, (errno, detail)));
        };
        self.flights.insert(cookie, Flight { memory: Memory::Status(list), range, tag });
        Ok(())
    }

    /// Waits until the socket moved, `wake` became readable or `timeout` passed, and lets the library work.
    ///
    /// # Errors
    /// [`Error::Lost`] when the connection is gone; requests in flight are then handed back as failed.
    pub fn wait(&mut self, wake: Option<BorrowedFd<'_>>, timeout: Duration) -> Result<(), Error> {
        let moved = self.step(wake, timeout).map_err(|source| self.poll_error(&source))?;
        // SAFETY: a live handle.
        let gone =
            unsafe { nbd_aio_is_dead(self.raw.as_ptr()) == 1 || nbd_aio_is_closed(self.raw.as_ptr()) == 1 };
        if !moved || gone {
            let (_, detail) = last_error();
            let detail = if detail.is_empty() { "the server closed it".to_owned() } else { detail };
            return Err(Error::Lost { uri: self.uri.clone(), detail });
        }
        Ok(())
    }

    /// One round of poll and notify; `false` when the library reported a failure.
    fn step(&mut self, wake: Option<BorrowedFd<'_>>, timeout: Duration) -> io::Result<bool> {
        let h = self.raw.as_ptr();
        // SAFETY: a live handle.
        let (fd, direction) = unsafe { (nbd_aio_get_fd(h), nbd_aio_get_direction(h)) };
        if fd < 0 {
            return Ok(false);
        }
        let mut flags = PollFlags::empty();
        flags.set(PollFlags::IN, direction & DIRECTION_READ != 0);
        flags.set(PollFlags::OUT, direction & DIRECTION_WRITE != 0);
        // SAFETY: the library closes the descriptor only in calls made below, after the last use of this borrow.
        let socket = unsafe { BorrowedFd::borrow_raw(fd) };
        let ready = {
            let mut fds = [
                PollFd::from_borrowed_fd(socket, flags),
                PollFd::from_borrowed_fd(wake.unwrap_or(socket), PollFlags::IN),
            ];
            let count = if wake.is_some() { 2 } else { 1 };
            let limit =
                Timespec::try_from(timeout).unwrap_or(Timespec { tv_sec: i64::from(i32::MAX), tv_nsec: 0 });
            match poll(&mut fds[..count], Some(&limit)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
            fds[0].revents()
        };
        // As libnbd's own poll loop: a hang-up counts as readable, and writing comes second.
        let hung_up = ready.intersects(PollFlags::HUP | PollFlags::ERR);
        if direction & DIRECTION_READ != 0 && (ready.contains(PollFlags::IN) || hung_up) {
            // SAFETY: a live handle.
            return Ok(unsafe { nbd_aio_notify_read(h) } == 0);
        }
        if direction & DIRECTION_WRITE != 0 && (ready.contains(PollFlags::OUT) || hung_up) {
            // SAFETY: a live handle.
            return Ok(unsafe { nbd_aio_notify_write(h) } == 0);
        }
        Ok(!ready.contains(PollFlags::NVAL))
    }

    /// The next request that has ended, if any. Never blocks.
    pub fn completed(&mut self) -> Option<Completed<T>> {
        let h = self.raw.as_ptr();
        // SAFETY: a live handle. 0 and -1 both mean that nothing has ended.
        let cookie = u64::try_from(unsafe { nbd_aio_peek_command_completed(h) }).ok().filter(|&c| c != 0)?;
        // SAFETY: a live handle; 1 is success, -1 is a failed request, and both retire it.
        let failed = match unsafe { nbd_aio_command_completed(h, cookie) } {
            1 => None,
            0 => return None,
            _ => Some(last_error()),
        };
        // Every cookie was put into the table when it was made.
        let Flight { memory, range, tag } = self.flights.remove(&cookie)?;
        Some(match memory {
            Memory::Read(buffer) => {
                let result = failed.map_or(Ok(()), |why| Err(self.read_error(range, why)));
                Completed::Read { tag, buffer, result }
            }
            Memory::Change(change, data) => {
                // The library is done with it.
                drop(data);
                let result = failed.map_or(Ok(()), |why| Err(self.change_error(change, range, why)));
                Completed::Changed { tag, result }
            }
            Memory::Status(list) => {
                // SAFETY: made by `Box::leak` in `status`, out of the table, and retired by the library.
                let list = *unsafe { Box::from_raw(list.as_ptr()) };
                let result = failed.map_or(Ok(list), |why| Err(self.status_error(range, why)));
                Completed::Status { tag, result }
            }
        })
    }

    /// Says good-bye to the server (some log, and nbdkit 1.32 may abort, when a client just goes), for at most
    /// `timeout`.
    pub fn disconnect(mut self, timeout: Duration) {
        let deadline = Instant::now() + timeout;
        let h = self.raw.as_ptr();
        // SAFETY (this one and those below): a live handle.
        if unsafe { nbd_aio_is_ready(h) } != 1 || unsafe { nbd_aio_disconnect(h, 0) } == -1 {
            return;
        }
        while unsafe { nbd_aio_is_closed(h) == 0 && nbd_aio_is_dead(h) == 0 } {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || !self.step(None, left).unwrap_or(false) {
                return;
            }
        }
    }

    fn connect_error(&self) -> Error {
        let (errno, detail) = last_error();
        Error::connecting(&self.uri, errno, detail.replace(self.uri.raw(), &self.uri.to_string()))
    }

    fn poll_error(&self, source: &io::Error) -> Error {
        Error::Lost { uri: self.uri.clone(), detail: format!("poll: {source}") }
    }

    fn read_error(&self, range: ByteRange, (errno, detail): (i32, String)) -> Error {
        let source = io_error(errno, detail);
        Error::reading(&self.uri, range, (self.export.size, self.export.block_min), source)
    }

    fn change_error(&self, change: Change, range: ByteRange, (errno, detail): (i32, String)) -> Error {
        let source = io_error(errno, detail);
        Error::changing(&self.uri, change, range, source)
    }

    fn status_error(&self, range: ByteRange, (errno, detail): (i32, String)) -> Error {
        let source = io_error(errno, detail);
        Error::Status { uri: self.uri.clone(), offset: range.start, length: range.len(), source }
    }
}

impl<T> Drop for Handle<T> {
    fn drop(&mut self) {
        // SAFETY: closed once, here; after it the library touches no memory of requests in flight any more.
        unsafe { nbd_close(self.raw.as_ptr()) };
        for (_, flight) in self.flights.drain() {
            if let Memory::Status(list) = flight.memory {
                // SAFETY: made by `Box::leak` in `status`, and still in the table.
                drop(unsafe { Box::from_raw(list.as_ptr()) });
            }
        }
    }
}

fn c_string(text: &str) -> Result<CString, Error> {
    CString::new(text)
        .map_err(|_| Error::Library { call: "CString::new", detail: "a name has a NUL in it".into() })
}

fn check(call: &'static str, code: c_int) -> Result<(), Error> {
    if code == -1 { Err(Error::Library { call, detail: last_error().1 }) } else { Ok(()) }
}

fn io_error(errno: i32, detail: String) -> io::Error {
    if errno > 0 { io::Error::from_raw_os_error(errno) } else { io::Error::other(detail) }
}

/// The calling thread's last libnbd error: errno (0 if it has none) and words without the function's name.
fn last_error() -> (i32, String) {
    // SAFETY: both read thread-local state; the string lives until this thread's next libnbd call.
    let (errno, text) = unsafe { (nbd_get_errno(), nbd_get_error()) };
    if text.is_null() {
        return (errno, String::new());
    }
    // SAFETY: not null, so it is a C string.
    let text = unsafe { CStr::from_ptr(text) }.to_string_lossy();
    let words = match text.split_once(": ") {
        Some((function, words))
            if function.starts_with("nbd_aio_notify") || function.ends_with("connect_uri") =>
        {
            words
        }
        _ => &text,
    };
    (errno, words.to_owned())
}
