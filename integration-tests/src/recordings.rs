//! What real servers of the target were asked, and what they answered: one exchange a line, compressed.
//!
//! `recordings/` holds them as they were made: a CloudStack 4.22.0 management server, LINSTOR controllers 1.33.3 and
//! 1.34.0-rc.1, and both together handing a disk over; keys and signatures are blotted out. A client has to understand
//! them; a simulator has to answer alike.

use anyhow::Context as _;
use serde_json::Value;

/// Which recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recording {
    CloudStack,
    Linstor,
    /// A release candidate, with tokens.
    LinstorNext,
    /// A hand-over: exchanges of both, `api` says whose.
    HandOver,
}

/// The exchanges in their order, as objects. Of LINSTOR's: `file note method path request_body status body elapsed_ms`; of
/// CloudStack's: `scenario n note command params status answer elapsed_ms`, some of which may be missing.
///
/// # Errors
/// The file is damaged.
pub fn exchanges(of: Recording) -> anyhow::Result<Vec<Value>> {
    let packed: &[u8] = match of {
        Recording::CloudStack => include_bytes!("../recordings/cloudstack-recorded-4.22.0.jsonl.zst"),
        Recording::Linstor => include_bytes!("../recordings/linstor-recorded-1.33.3.jsonl.zst"),
        Recording::LinstorNext => include_bytes!("../recordings/linstor-recorded-1.34.0-rc.1.jsonl.zst"),
        Recording::HandOver => include_bytes!("../recordings/handover-recorded.jsonl.zst"),
    };
    let text = zstd::decode_all(packed).context("the recording cannot be unpacked")?;
    let lines = std::str::from_utf8(&text)?.lines().enumerate();
    lines
        .map(|(at, line)| serde_json::from_str(line).with_context(|| format!("{of:?}, line {}", at + 1)))
        .collect()
}
