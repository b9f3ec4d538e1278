//! A certificate authority for development, demonstrations and tests.
//!
//! Makes what the daemons' mutual TLS asks for: leaf certificates with one `spiffe://migratekit/ROLE/NAME` URI and the
//! names the holder is dialled by. Tests also need certificates that must be refused, so validity and names are free.
//!
//! Not a product CA: no revocation, no renewal, the CA's key lies in a file. In production the certificates come from
//! the operator's own CA, with the same URIs.

mod folder;

use std::net::IpAddr;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use shared::tls::Role;
use time::{Duration, OffsetDateTime};

pub use folder::{Existing, Folder, Holder, Made, make};

/// Trust domain of the certificates made here.
pub const DOMAIN: &str = "migratekit";

/// How long a CA made here is valid, in days: longer than any of its certificates.
pub const CA_DAYS: u32 = 3650;

/// A certificate that could not be made, or a file that could not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A DNS name, an IP address or a URI that cannot stand in a certificate.
    #[error("{name:?} cannot stand in a certificate: give a host name or an IP address")]
    Name {
        /// As given.
        name: String,
        /// The library's reason.
        #[source]
        source: rcgen::Error,
    },
    /// Key generation, signing or reading back a CA.
    #[error("{what} failed")]
    Crypto {
        /// What was tried.
        what: &'static str,
        /// The library's reason.
        #[source]
        source: rcgen::Error,
    },
    /// Files of an earlier run are there.
    #[error(
        "{} exists already and is not overwritten: choose another --out, or give --force to keep its CA and make new \
         certificates",
        path.display()
    )]
    Exists {
        /// The first such file.
        path: std::path::PathBuf,
    },
    /// A CA without its key, or the reverse.
    #[error("{} is missing although the other half of the CA is there: restore it, or choose another --out", path.display())]
    HalfCa {
        /// The missing file.
        path: std::path::PathBuf,
    },
    /// A file or folder.
    #[error("{} cannot be {action}", path.display())]
    File {
        /// Which.
        path: std::path::PathBuf,
        /// What was tried: `read`, `written`, `made`.
        action: &'static str,
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },
}

/// When a certificate is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// First moment.
    pub not_before: OffsetDateTime,
    /// Last moment.
    pub not_after: OffsetDateTime,
}

impl Validity {
    /// From an hour ago (clocks differ) until `days` from now.
    pub fn days(days: u32) -> Self {
        let now = OffsetDateTime::now_utc();
        Self { not_before: now - Duration::HOUR, not_after: now + Duration::days(i64::from(days)) }
    }

    /// Ended an hour ago.
    pub fn expired() -> Self {
        let now = OffsetDateTime::now_utc();
        Self { not_before: now - Duration::DAY, not_after: now - Duration::HOUR }
    }

    /// Begins in an hour.
    pub fn not_yet() -> Self {
        let now = OffsetDateTime::now_utc();
        Self { not_before: now + Duration::HOUR, not_after: now + Duration::DAY }
    }
}

/// What a certificate says of its holder.
#[derive(Clone, Debug)]
pub struct Leaf {
    /// Common name; for people, nothing is decided by it.
    pub common_name: String,
    /// URIs in the SAN; exactly one names a holder.
    pub uris: Vec<String>,
    /// DNS names and IP addresses in the SAN: what the holder may be dialled by.
    pub hosts: Vec<String>,
    /// When it is valid.
    pub validity: Validity,
}

impl Leaf {
    /// A good one: `spiffe://migratekit/ROLE/NAME`, dialled by `hosts`, valid for 30 days.
    pub fn new(role: Role, name: &str, hosts: &[&str]) -> Self {
        Self {
            common_name: format!("{} {name}", role.as_str()),
            uris: vec![format!("spiffe://{DOMAIN}/{}/{name}", role.as_str())],
            hosts: hosts.iter().map(|&host| host.to_owned()).collect(),
            validity: Validity::days(30),
        }
    }

    /// The same with another validity.
    pub fn valid(self, validity: Validity) -> Self {
        Self { validity, ..self }
    }

    fn params(&self) -> Result<CertificateParams, Error> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, self.common_name.as_str());
        params.not_before = self.validity.not_before;
        params.not_after = self.validity.not_after;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        // Both: an agent dials the OMA and answers diagnostics with the same certificate.
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        let text = |name: &String| {
            name.as_str().try_into().map_err(|source| Error::Name { name: name.clone(), source })
        };
        for uri in &self.uris {
            params.subject_alt_names.push(SanType::URI(text(uri)?));
        }
        for host in &self.hosts {
            params.subject_alt_names.push(match host.parse::<IpAddr>() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => SanType::DnsName(text(host)?),
            });
        }
        Ok(params)
    }
}

/// A certificate and its private key, PEM.
pub struct Pair {
    /// `BEGIN CERTIFICATE`.
    pub cert_pem: String,
    /// `BEGIN PRIVATE KEY` (PKCS #8).
    pub key_pem: String,
}

impl std::fmt::Debug for Pair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pair").field("cert_pem", &self.cert_pem).finish_non_exhaustive()
    }
}

/// A certificate authority.
pub struct Ca {
    pair: Pair,
    issuer: Issuer<'static, KeyPair>,
}

impl Ca {
    /// A new one, with a key of its own, valid for [`CA_DAYS`].
    ///
    /// # Errors
    /// [`Error::Crypto`] when no key can be made.
    pub fn new(common_name: &str) -> Result<Self, Error> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, common_name);
        let validity = Validity::days(CA_DAYS);
        params.not_before = validity.not_before;
        params.not_after = validity.not_after;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key =
            KeyPair::generate().map_err(|source| Error::Crypto { what: "making the CA's key", source })?;
        let cert = params.self_signed(&key);
        let cert = cert.map_err(|source| Error::Crypto { what: "signing the CA's certificate", source })?;
        let pair = Pair { cert_pem: cert.pem(), key_pem: key.serialize_pem() };
        Ok(Self { pair, issuer: Issuer::new(params, key) })
    }

    /// One that was made before.
    ///
    /// # Errors
    /// [`Error::Crypto`] when either text is not what it should be.
    pub fn from_pair(pair: Pair) -> Result<Self, Error> {
        let key = KeyPair::from_pem(&pair.key_pem);
        let key = key.map_err(|source| Error::Crypto { what: "reading the CA's key", source })?;
        let issuer = Issuer::from_ca_cert_pem(&pair.cert_pem, key);
        let issuer =
            issuer.map_err(|source| Error::Crypto { what: "reading the CA's certificate", source })?;
        Ok(Self { pair, issuer })
    }

    /// The CA's own certificate and key.
    pub fn pair(&self) -> &Pair {
        &self.pair
    }

    /// A certificate with a new key.
    ///
    /// # Errors
    /// [`Error::Name`] for a name that cannot stand in a certificate, [`Error::Crypto`] otherwise.
    pub fn issue(&self, leaf: &Leaf) -> Result<Pair, Error> {
        let params = leaf.params()?;
        let key = KeyPair::generate().map_err(|source| Error::Crypto { what: "making a key", source })?;
        let cert = params.signed_by(&key, &self.issuer);
        let cert = cert.map_err(|source| Error::Crypto { what: "signing a certificate", source })?;
        Ok(Pair { cert_pem: cert.pem(), key_pem: key.serialize_pem() })
    }
}

impl std::fmt::Debug for Ca {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ca").field("pair", &self.pair).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
