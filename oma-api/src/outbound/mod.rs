//! HTTP to the target's own APIs: what both of its clients share.

mod answer;
mod circuit;

pub use answer::{Again, Outcome, excerpt, hide};
pub use circuit::{Away, Circuit, Standing, State};

use rustls_pki_types::CertificateDer;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// For a connection to be there, TLS included.
const CONNECT: Duration = Duration::from_secs(10);

/// The certificates of an authority cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot read the certificates in {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} holds no certificate in PEM", path.display())]
    Form { path: PathBuf },
    #[error("no HTTP client can be made")]
    Client(#[source] reqwest::Error),
}

/// A client that follows no redirect (a request is signed for, or meant for, the one it was sent to), and uses no proxy of
/// the environment. Trusts the authorities of the system, or those of `ca` alone.
///
/// # Errors
/// [`Error`].
pub fn client(ca: Option<&Path>) -> Result<reqwest::Client, Error> {
    shared::tls::install_provider();
    let mut builder = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT)
        .no_proxy();
    if let Some(path) = ca {
        builder = builder.tls_certs_only(certificates(path)?);
    }
    builder.build().map_err(Error::Client)
}

/// For logs.
pub fn milliseconds(took: Duration) -> f64 {
    took.as_secs_f64() * 1e3
}

fn certificates(path: &Path) -> Result<Vec<reqwest::Certificate>, Error> {
    use rustls_pki_types::pem::PemObject as _;
    let form = || Error::Form { path: path.to_owned() };
    let text = std::fs::read(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let found = found.ok().filter(|found| !found.is_empty()).ok_or_else(form)?;
    found.iter().map(|one| reqwest::Certificate::from_der(one).map_err(|_| form())).collect()
}
