//! The life of a migration as one pure table: (position, input) → (position, effect).
//!
//! ```text
//!            begin            sync                       switch                finalize
//!  (none) ─► begin/running ─► begin/paused ─► sync/running ⇄ sync/paused ─► switch/running ─► switch/successful ─► finalize/…
//!               │   ▲              │              │  ▲           │                │                  │
//!               ▼   │ begin        │              ▼  │ sync      │                ▼                  │ rollback
//!            begin/failed          │          sync/failed        │           switch/failed ──────────┤
//!                                  └──────────────┴── abort ─────┘                          rollback/running ─► sync/paused
//!                                                       ▼
//!                                                 abort/running ─► abort/aborted
//! ```
//!
//! Inputs are the operator's [`Action`]s and the system's [`Event`]s. What the table needs to know besides
//! the position comes as [`Facts`]; what the caller has to do comes back as [`Effect`]. A refusal is a
//! [`Denied`] value that says what is allowed instead.
//!
//! It does no IO, has no clock, and does not remember anything: rows, generations and retries are the
//! store's. `hold` is a fact beside the position, not a position.

#![deny(clippy::wildcard_enum_match_arm)]

mod denied;
mod table;
mod words;

pub use crate::words::UnknownWord;
pub use denied::{Denied, Refusal};
pub use table::{Effect, Facts, Input, Next, allowed, apply};
pub use words::{Action, Event, Impossible, Phase, Position, State};

#[cfg(test)]
mod tests;
