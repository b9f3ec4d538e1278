//! TLS 1.3, mutual unless told otherwise, and who the peer is; and connections in clear, where an operator asked for them.
//!
//! ```text
//! listener ─ accept ─ handshake (deadline) ─ HTTP/2 preface (deadline) ─ requests, each with its `Peer`
//!            └ cap on connections             └ a connection that says nothing is closed
//! ```
//!
//! The stock servers do none of these three, and stock clients say "transport error" where the peer named a
//! reason; both ends here log and return it. What a peer may do is decided by the services, from [`Peer`].

mod accept;
mod cleartext;
mod client;
mod files;
mod identity;
mod preface;
mod reason;
mod window;

pub use accept::{Limits, Protection, serve};
pub use client::Dialer;
pub use files::{Error, Files, client_without_certificate};
pub use identity::{Identity, Peer, Role, Unnamed};
pub use window::Windows;

/// Installs the one crypto provider of the process. Repeating it changes nothing.
pub fn install_provider() {
    // Fails only when a provider is installed already, which is what is wanted.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}
