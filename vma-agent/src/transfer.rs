//! One disk's way to the control plane: `TransferService.Push` from this side.
//!
//! ```text
//! planner ─ window (≤ 64 MiB unacknowledged) ─ reader threads (NBD, zero check, BLAKE3) ─ push stream
//!     ▲                                                                                       │
//!     └──────────────── durable acknowledgements ◄────────────────────────────────────────────┘
//! ```
//!
//! What is read and not yet called durable never exceeds the window: that bounds what a crash makes us read twice.
//! Nothing is kept on this side: what was done is what the control plane says was done.

mod budget;
mod changes;
mod data_pass;
mod disk;
mod error;
mod hash_pass;
mod push;
mod window;

pub use budget::Budget;
pub use disk::{DiskJob, Mode, Outcome, Settings, run};
pub use error::TransferError;
pub use push::PushError;
