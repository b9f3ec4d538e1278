//! With a real QEMU and a guest of one sector (see `host`); `reach` with a whole one.

mod ends;
mod host;
mod places;
mod reach;
mod records;
mod runs;
