//! Speaks to a CloudStack management server: signs, asks, understands what it answers, waits for its jobs.
//!
//! Every command is a POST form with `signatureVersion` 3 and a short `expires`. What a server can do is read from its
//! own list of commands ([`Client::capabilities`]), never from a version: it ignores parameters it does not know in
//! silence.
//!
//! ```text
//!  Params ──sign──► POST ──► Answer ──► value
//!                                 └──► jobid ──poll──► Done │ Failed │ Lost (look for what it should have made)
//! ```
//!
//! Deliberately not here: which commands a hand-over takes and in which order. A job that failed, or of which nothing is
//! known, may have done what it was to do: whoever asked looks before it asks again (DESIGN §9).

mod answer;
mod capabilities;
mod client;
mod credentials;
mod error;
mod job;
mod sign;

pub use capabilities::Capabilities;
pub use client::{Client, EXPIRES, Settings};
pub use credentials::Credentials;
pub use error::{Error, Reason, Refusal};
pub use job::{Job, JobId, Poll};
pub use sign::{Params, Signed};

#[cfg(test)]
mod tests;
