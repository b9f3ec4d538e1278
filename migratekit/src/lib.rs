//! The transfer engine: reads a source over NBD, plans, hashes, writes a replica, checkpoints and verifies it.
//!
//! It knows no control plane: the daemons and `migratekit copy` put it to use.

pub mod bench;
pub mod compress;
pub mod copy;
pub mod dev_ca;
pub mod manifest;
pub mod nbd;
pub mod piece;
pub mod plan;
pub mod rate;
pub mod read;
pub mod replica;
pub mod target;
pub mod verify;
