//! Words both sides speak.
//!
//! Pure where it can be: ids, byte ranges, the migration state machine, conversions between the
//! wire and the domain, configuration, TLS, telemetry. No database, no block device, no product
//! workflow lives here.

pub mod claim;
pub mod config;
pub mod correlation;
pub mod cycle;
pub mod daemon;
pub mod error;
pub mod http;
pub mod ids;
pub mod leaf;
pub mod metrics;
pub mod migration;
pub mod profile;
pub mod progress;
pub mod range;
pub mod telemetry;
pub mod tls;
pub mod token;
pub mod vm;
pub mod wire;
pub mod words;
