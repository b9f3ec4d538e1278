//! Certificates from files.

use super::client::OmaVerifier;
use super::identity::Role;
use super::reason;
use crate::ids::AgentId;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::client::{VerifierBuilderError, WantsClientCert};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{CertificateError, ClientConfig, ConfigBuilder, RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where the certificates lie; all PEM.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Files {
    /// The CA that the peers' certificates must come from.
    pub ca: PathBuf,
    /// Our own certificate, chain included.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// A certificate file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{what} {} cannot be read: {why}; `migratekit dev-ca` makes a development set", path.display())]
    Unreadable { what: &'static str, path: PathBuf, why: String },
    #[error("no peer will accept certificate {}: {why}", path.display())]
    Unfit { path: PathBuf, why: String },
    #[error("{what} {} holds no PEM block of that kind", path.display())]
    Empty { what: &'static str, path: PathBuf },
    #[error("certificate {} and key {} do not belong together or are unusable", cert.display(), key.display())]
    Mismatch { cert: PathBuf, key: PathBuf, source: rustls::Error },
    #[error("CA file {} is not usable: {why}", path.display())]
    BadCa { path: PathBuf, why: String },
}

impl Files {
    /// For a listener: TLS 1.3 only, the peer must present a certificate of our CA.
    pub fn server(&self) -> Result<Arc<ServerConfig>, Error> {
        super::install_provider();
        let verifier = WebPkiClientVerifier::builder(Arc::new(self.roots()?)).build();
        self.listening(verifier.map_err(|e| self.bad_ca(&e))?, b"h2")
    }

    /// The same, and a peer may come without a certificate; one that is presented must be of our CA still.
    pub fn server_optional(&self) -> Result<Arc<ServerConfig>, Error> {
        super::install_provider();
        let verifier = WebPkiClientVerifier::builder(Arc::new(self.roots()?)).allow_unauthenticated().build();
        self.listening(verifier.map_err(|e| self.bad_ca(&e))?, b"h2")
    }

    /// For HTTP/1.1: TLS 1.3 only, no certificate is asked for.
    pub fn server_http(&self) -> Result<Arc<ServerConfig>, Error> {
        super::install_provider();
        self.listening(WebPkiClientVerifier::no_client_auth(), b"http/1.1")
    }

    fn listening(
        &self,
        verifier: Arc<dyn ClientCertVerifier>,
        protocol: &[u8],
    ) -> Result<Arc<ServerConfig>, Error> {
        let builder = ServerConfig::builder_with_protocol_versions(&[&rustls::version::TLS13]);
        let mut config = builder
            .with_client_cert_verifier(verifier)
            .with_single_cert(self.chain()?, self.private_key()?)
            .map_err(|source| self.mismatch(source))?;
        config.alpn_protocols = vec![protocol.to_vec()];
        // No tickets: every connection shows its certificate anew.
        config.send_tls13_tickets = 0;
        Ok(Arc::new(config))
    }

    /// For dialling an OMA: its certificate must come from our CA and say `…/oma/…`.
    pub fn client(&self) -> Result<Arc<ClientConfig>, Error> {
        let config = dialling(&self.ca)?
            .with_client_auth_cert(self.chain()?, self.private_key()?)
            .map_err(|source| self.mismatch(source))?;
        Ok(speaking_h2(config))
    }

    /// Who our own certificate says we are.
    pub fn identity(&self) -> Result<super::Identity, Error> {
        let chain = self.chain()?;
        let leaf = chain.first().ok_or(Error::Empty { what: "certificate", path: self.cert.clone() })?;
        super::Identity::of_certificate(leaf).map_err(|why| Error::Unreadable {
            what: "certificate",
            path: self.cert.clone(),
            why,
        })
    }

    /// The name in our own certificate, which must be of this role.
    ///
    /// # Errors
    /// When it is another's: a daemon under a wrong name is refused by every peer, much later.
    pub fn name_as(&self, role: Role) -> Result<AgentId, Error> {
        let identity = self.identity()?;
        match identity.role == role {
            true => Ok(identity.name),
            false => Err(Error::Unreadable {
                what: "certificate",
                path: self.cert.clone(),
                why: format!(
                    "it is {identity}, not of role {role} (spiffe://DOMAIN/{role}/NAME in its SAN)",
                    role = role.as_str()
                ),
            }),
        }
    }

    /// Whether our own certificate would be taken by a peer with our CA, now. The host name is the peers' to judge.
    ///
    /// # Errors
    /// When it has expired, is not yet valid, or is not of the CA.
    pub fn check_own(&self, role: Role) -> Result<(), Error> {
        super::install_provider();
        let (roots, chain, now) = (Arc::new(self.roots()?), self.chain()?, UnixTime::now());
        let Some((leaf, rest)) = chain.split_first() else {
            return Err(Error::Empty { what: "certificate", path: self.cert.clone() });
        };
        let verdict = match role {
            Role::Oma => {
                let verifier = WebPkiServerVerifier::builder(roots).build().map_err(|e| self.bad_ca(&e))?;
                let name = ServerName::try_from("localhost").expect("a host name");
                verifier.verify_server_cert(leaf, rest, &name, &[], now).map(|_| ())
            }
            Role::Agent | Role::Viewer | Role::Operator | Role::Admin => {
                let verifier = WebPkiClientVerifier::builder(roots).build().map_err(|e| self.bad_ca(&e))?;
                verifier.verify_client_cert(leaf, rest, now).map(|_| ())
            }
        };
        match verdict {
            Ok(())
            | Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(()),
            Err(error) => Err(Error::Unfit { path: self.cert.clone(), why: reason::of_tls(&error) }),
        }
    }

    fn mismatch(&self, source: rustls::Error) -> Error {
        Error::Mismatch { cert: self.cert.clone(), key: self.key.clone(), source }
    }

    fn bad_ca(&self, why: &dyn std::error::Error) -> Error {
        Error::BadCa { path: self.ca.clone(), why: why.to_string() }
    }

    fn roots(&self) -> Result<RootCertStore, Error> {
        read_roots(&self.ca)
    }

    fn chain(&self) -> Result<Vec<CertificateDer<'static>>, Error> {
        read_certs("certificate", &self.cert)
    }

    fn private_key(&self) -> Result<PrivateKeyDer<'static>, Error> {
        PrivateKeyDer::from_pem_file(&self.key).map_err(|e| Error::Unreadable {
            what: "private key",
            path: self.key.clone(),
            why: e.to_string(),
        })
    }
}

/// For dialling an OMA without a certificate of our own: a token has to say who asks.
///
/// # Errors
/// When the CA's file cannot be used.
pub fn client_without_certificate(ca: &Path) -> Result<Arc<ClientConfig>, Error> {
    Ok(speaking_h2(dialling(ca)?.with_no_client_auth()))
}

fn dialling(ca: &Path) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, Error> {
    super::install_provider();
    let bad_ca = |e: VerifierBuilderError| Error::BadCa { path: ca.into(), why: e.to_string() };
    let verifier = OmaVerifier::new(read_roots(ca)?).map_err(bad_ca)?;
    let builder = ClientConfig::builder_with_protocol_versions(&[&rustls::version::TLS13]);
    Ok(builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier)))
}

fn speaking_h2(mut config: ClientConfig) -> Arc<ClientConfig> {
    config.alpn_protocols = vec![b"h2".to_vec()];
    Arc::new(config)
}

fn read_roots(ca: &Path) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    for cert in read_certs("CA file", ca)? {
        roots.add(cert).map_err(|e| Error::BadCa { path: ca.into(), why: e.to_string() })?;
    }
    Ok(roots)
}

fn read_certs(what: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let unreadable =
        |e: rustls_pki_types::pem::Error| Error::Unreadable { what, path: path.into(), why: e.to_string() };
    let certs: Vec<_> = CertificateDer::pem_file_iter(path)
        .and_then(|certs| certs.collect::<Result<_, _>>())
        .map_err(unreadable)?;
    match certs.is_empty() {
        true => Err(Error::Empty { what, path: path.into() }),
        false => Ok(certs),
    }
}
