//! With a real QEMU and a guest of one sector (see `host`).

mod ends;
mod host;
mod places;
mod records;
mod runs;
