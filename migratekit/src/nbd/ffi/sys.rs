//! libnbd's C functions and types, declared by hand as `libnbd.h` of 1.14 has them. Nothing is done with them here.

use std::ffi::{c_char, c_int, c_void};
use std::marker::{PhantomData, PhantomPinned};
use std::ptr;

/// A `struct nbd_handle`.
#[repr(C)]
pub(super) struct Raw {
    opaque: [u8; 0],
    marker: PhantomData<(*mut u8, PhantomPinned)>,
}

pub(super) type ExtentFn =
    unsafe extern "C" fn(*mut c_void, *const c_char, u64, *mut u32, usize, *mut c_int) -> c_int;

#[repr(C)]
pub(super) struct ExtentCallback {
    pub(super) callback: Option<ExtentFn>,
    pub(super) user_data: *mut c_void,
    pub(super) free: Option<unsafe extern "C" fn(*mut c_void)>,
}

#[repr(C)]
pub(super) struct CompletionCallback {
    callback: Option<unsafe extern "C" fn(*mut c_void, *mut c_int) -> c_int>,
    user_data: *mut c_void,
    free: Option<unsafe extern "C" fn(*mut c_void)>,
}

pub(super) const NO_COMPLETION: CompletionCallback =
    CompletionCallback { callback: None, user_data: ptr::null_mut(), free: None };

pub(super) const DIRECTION_READ: u32 = 1;
pub(super) const DIRECTION_WRITE: u32 = 2;
pub(super) const STRICT_ALIGN: u32 = 0x10;
pub(super) const SIZE_MINIMUM: c_int = 0;
pub(super) const SIZE_PREFERRED: c_int = 1;
pub(super) const SIZE_MAXIMUM: c_int = 2;

unsafe extern "C" {
    pub(super) fn nbd_create() -> *mut Raw;
    pub(super) fn nbd_close(h: *mut Raw);
    pub(super) fn nbd_get_error() -> *const c_char;
    pub(super) fn nbd_get_errno() -> c_int;
    pub(super) fn nbd_add_meta_context(h: *mut Raw, name: *const c_char) -> c_int;
    pub(super) fn nbd_can_meta_context(h: *mut Raw, name: *const c_char) -> c_int;
    pub(super) fn nbd_set_uri_allow_local_file(h: *mut Raw, allow: bool) -> c_int;
    pub(super) fn nbd_get_strict_mode(h: *mut Raw) -> u32;
    pub(super) fn nbd_set_strict_mode(h: *mut Raw, flags: u32) -> c_int;
    pub(super) fn nbd_set_pread_initialize(h: *mut Raw, request: bool) -> c_int;
    pub(super) fn nbd_get_tls_negotiated(h: *mut Raw) -> c_int;
    pub(super) fn nbd_is_read_only(h: *mut Raw) -> c_int;
    pub(super) fn nbd_can_flush(h: *mut Raw) -> c_int;
    pub(super) fn nbd_can_zero(h: *mut Raw) -> c_int;
    pub(super) fn nbd_can_multi_conn(h: *mut Raw) -> c_int;
    pub(super) fn nbd_get_size(h: *mut Raw) -> i64;
    pub(super) fn nbd_get_block_size(h: *mut Raw, size_type: c_int) -> i64;
    pub(super) fn nbd_aio_connect_uri(h: *mut Raw, uri: *const c_char) -> c_int;
    pub(super) fn nbd_aio_disconnect(h: *mut Raw, flags: u32) -> c_int;
    pub(super) fn nbd_aio_pread(
        h: *mut Raw,
        buf: *mut c_void,
        count: usize,
        offset: u64,
        completion: CompletionCallback,
        flags: u32,
    ) -> i64;
    pub(super) fn nbd_aio_pwrite(
        h: *mut Raw,
        buf: *const c_void,
        count: usize,
        offset: u64,
        completion: CompletionCallback,
        flags: u32,
    ) -> i64;
    pub(super) fn nbd_aio_zero(
        h: *mut Raw,
        count: u64,
        offset: u64,
        completion: CompletionCallback,
        flags: u32,
    ) -> i64;
    pub(super) fn nbd_aio_flush(h: *mut Raw, completion: CompletionCallback, flags: u32) -> i64;
    pub(super) fn nbd_aio_block_status(
        h: *mut Raw,
        count: u64,
        offset: u64,
        extent: ExtentCallback,
        completion: CompletionCallback,
        flags: u32,
    ) -> i64;
    pub(super) fn nbd_aio_get_fd(h: *mut Raw) -> c_int;
    pub(super) fn nbd_aio_get_direction(h: *mut Raw) -> u32;
    pub(super) fn nbd_aio_notify_read(h: *mut Raw) -> c_int;
    pub(super) fn nbd_aio_notify_write(h: *mut Raw) -> c_int;
    pub(super) fn nbd_aio_is_connecting(h: *mut Raw) -> c_int;
    pub(super) fn nbd_aio_is_ready(h: *mut Raw) -> c_int;
    pub(super) fn nbd_aio_is_dead(h: *mut Raw) -> c_int;
    pub(super) fn nbd_aio_is_closed(h: *mut Raw) -> c_int;
    pub(super) fn nbd_aio_peek_command_completed(h: *mut Raw) -> i64;
    pub(super) fn nbd_aio_command_completed(h: *mut Raw, cookie: u64) -> c_int;
}
