//! Compression of what goes over the wire, where it pays.
//!
//! ```text
//!  data ─► Packer ──┬─ as it is                       ▲ how much data got through at each level
//!                   └─ zstd, on a blocking thread     │
//!            ▲ level                                  │
//!          Chooser ◄── sent(bytes) ── the sender ─────┘
//! ```
//!
//! Whether it pays is measured, not guessed: the [`Chooser`] sends for a moment at each level and keeps the one that
//! gets the most data through. Where the link is the bottleneck that is a compressed one; where a processor, the source
//! or the target is, it is none. Data that does not shrink is known by samples and costs nothing more.
//!
//! Hashes are made before it and compared after it: what is compressed here is proven equal there.

mod chooser;

use bytes::Bytes;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;
use zstd::bulk::Compressor;
use zstd::zstd_safe::ResetDirective;

use chooser::{Chooser, Level};

use crate::piece::MAX_DATA;

/// Of a piece, looked at to see whether it would shrink.
const SAMPLE: usize = 16 << 10;

/// What is sent compressed must be smaller than this part of it: else the other side's work would be for nothing.
const WORTH: (usize, usize) = (15, 16);

/// What compression may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// As it pays.
    Auto,
    Off,
    /// Always, quickly.
    Fast,
    /// Always, well.
    Strong,
}

/// Data, perhaps compressed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packed {
    Plain(Bytes),
    Zstd(Bytes),
}

/// Compressed data that cannot be had back.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{said} bytes before compression; 1 to {MAX_DATA} are possible")]
    Size { said: u64 },
    #[error("the compressed data is damaged: {0}")]
    Damaged(String),
    #[error("the compressed data holds {got} bytes instead of {said}")]
    Length { got: usize, said: usize },
}

/// Compresses the data of one stream.
#[derive(Debug)]
pub struct Packer {
    state: Mutex<State>,
}

struct State {
    chooser: Chooser,
    begun: Instant,
    /// Its tables are made once.
    compressor: Option<Compressor<'static>>,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.chooser.fmt(f)
    }
}

impl Packer {
    pub fn new(mode: Mode) -> Self {
        let chooser = Chooser::new(mode);
        Self { state: Mutex::new(State { chooser, begun: Instant::now(), compressor: None }) }
    }

    /// As small as pays now. The work is done on a blocking thread.
    pub async fn pack(&self, data: Bytes) -> Packed {
        let (level, sample) = self.with(|state, _| (state.chooser.level(), state.chooser.wants_sample()));
        if sample && let Some(shrunk) = shrunk(&data) {
            self.with(|state, _| state.chooser.sampled(shrunk));
        }
        let Some(level) = level.zstd() else { return Packed::Plain(data) };
        let compressor = self.with(|state, _| state.compressor.take());
        let plain = data.clone();
        let work = move || {
            let mut compressor = compressor.or_else(|| Compressor::new(level).ok())?;
            let packed = compressed(&mut compressor, &data, level);
            Some((compressor, packed))
        };
        // It neither panics nor is it cancelled; and what cannot be compressed goes as it is.
        let (compressor, packed) = tokio::task::spawn_blocking(work).await.ok().flatten().unzip();
        let packed = packed.flatten();
        let size = packed.as_ref().map_or(plain.len(), Vec::len);
        self.with(|state, _| {
            state.compressor = compressor;
            state.chooser.sampled(ratio(size, plain.len()));
        });
        packed.map_or(Packed::Plain(plain), |packed| Packed::Zstd(packed.into()))
    }

    /// Data of so many bytes, before compression, was handed over to the transport.
    pub fn sent(&self, bytes: u64) {
        self.with(|state, now| state.chooser.sent(now, bytes));
    }

    fn with<T>(&self, act: impl FnOnce(&mut State, Duration) -> T) -> T {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = state.begun.elapsed();
        act(&mut state, now)
    }
}

/// `None` when it is not worth it.
fn compressed(compressor: &mut Compressor<'_>, data: &[u8], level: i32) -> Option<Vec<u8>> {
    compressor.set_compression_level(level).ok()?;
    // Too small a buffer is how zstd is told when to give up.
    let mut out = Vec::with_capacity(data.len() * WORTH.0 / WORTH.1);
    if compressor.compress_to_buffer(data, &mut out).is_err() {
        // It is still amid what it gave up, and would take no level any more: everything after would go as it is.
        let _ = compressor.context_mut().reset(ResetDirective::SessionOnly);
        return None;
    }
    Some(out)
}

/// What a sample of it shrinks to, of 1.
fn shrunk(data: &[u8]) -> Option<f64> {
    let from = (data.len() / 2).min(data.len().saturating_sub(SAMPLE));
    let sample = &data[from..data.len().min(from + SAMPLE)];
    let packed = zstd::bulk::compress(sample, Level::Fast.zstd()?).ok()?;
    Some(ratio(packed.len(), sample.len()))
}

#[expect(clippy::cast_precision_loss, reason = "a ratio")]
fn ratio(packed: usize, plain: usize) -> f64 {
    packed as f64 / plain.max(1) as f64
}

/// The data again; exactly `plain` bytes of it. Takes a processor for a moment: not for an async task.
///
/// # Errors
/// See [`Error`]; never takes more memory than `plain`, which is bounded.
pub fn unpack(packed: &[u8], plain: u64) -> Result<Vec<u8>, Error> {
    let size = usize::try_from(plain).ok().filter(|size| (1..=MAX_DATA).contains(size));
    let size = size.ok_or(Error::Size { said: plain })?;
    let data = zstd::bulk::decompress(packed, size).map_err(|e| Error::Damaged(e.to_string()))?;
    match data.len() == size {
        true => Ok(data),
        false => Err(Error::Length { got: data.len(), said: size }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn random(bytes: usize) -> Vec<u8> {
        use rand::{RngCore as _, SeedableRng as _};
        let mut data = vec![0; bytes];
        rand::rngs::SmallRng::seed_from_u64(7).fill_bytes(&mut data);
        data
    }

    #[tokio::test]
    async fn what_was_packed_is_had_back() {
        let text = b"a line that is said again and again\n".repeat(10_000);
        for mode in [Mode::Fast, Mode::Strong] {
            let packer = Packer::new(mode);
            for data in [text.clone(), text[..1].to_vec(), random(300_000)] {
                let plain = Bytes::from(data.clone());
                match packer.pack(plain).await {
                    Packed::Plain(same) => assert!(same == data && data.len() != text.len()),
                    Packed::Zstd(packed) => {
                        assert!(packed.len() < data.len() / 4);
                        assert_eq!(unpack(&packed, data.len() as u64).expect("whole"), data);
                    }
                }
            }
        }
    }

    #[tokio::test]
    async fn one_that_does_not_shrink_keeps_no_other_from_it() {
        let text = Bytes::from(b"a line that is said again and again\n".repeat(10_000));
        let packer = Packer::new(Mode::Fast);
        for _ in 0..3 {
            assert!(matches!(packer.pack(random(300_000).into()).await, Packed::Plain(_)));
            assert!(matches!(packer.pack(text.clone()).await, Packed::Zstd(_)));
        }
    }

    #[tokio::test]
    async fn damage_is_an_error_and_memory_is_bounded() {
        let data = b"0123456789".repeat(10_000);
        let Packed::Zstd(packed) = Packer::new(Mode::Strong).pack(data.clone().into()).await else {
            panic!("it shrinks")
        };
        let size = data.len() as u64;
        assert!(matches!(unpack(&packed, size + 1), Err(Error::Length { .. })));
        assert!(matches!(unpack(&packed, size - 1), Err(Error::Damaged(_))));
        assert!(matches!(unpack(&packed[..packed.len() / 2], size), Err(Error::Damaged(_))));
        assert!(matches!(unpack(b"no zstd at all", size), Err(Error::Damaged(_))));
        for size in [0, MAX_DATA as u64 + 1, u64::MAX] {
            assert!(matches!(unpack(&packed, size), Err(Error::Size { .. })));
        }
    }
}
