//! Who a certificate says its holder is: one URI in the SAN, `spiffe://DOMAIN/ROLE/ID`.

use crate::ids::AgentId;
use rustls_pki_types::CertificateDer;
use std::fmt;

/// What the holder of a certificate is: a daemon, or a person in one of three roles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Agent,
    Oma,
    /// Looks.
    Viewer,
    /// Looks and acts.
    Operator,
    /// All that, and says who may.
    Admin,
}

impl Role {
    const ALL: [Self; 5] = [Self::Agent, Self::Oma, Self::Viewer, Self::Operator, Self::Admin];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Oma => "oma",
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}

/// Role and name of a certificate's holder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub role: Role,
    pub name: AgentId,
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.role.as_str(), self.name)
    }
}

impl Identity {
    /// Reads the identity from the leaf certificate; the text says what is wrong with it.
    pub fn of_certificate(certificate: &CertificateDer<'_>) -> Result<Self, String> {
        let leaf = webpki::EndEntityCert::try_from(certificate)
            .map_err(|e| format!("certificate unreadable: {e}"))?;
        let mut uris = leaf.valid_uri_names();
        match (uris.next(), uris.next()) {
            (Some(uri), None) => Self::parse(uri),
            (None, _) => {
                Err("certificate has no URI in its SAN (expected spiffe://DOMAIN/ROLE/ID)".to_owned())
            }
            (Some(_), Some(_)) => Err("certificate has more than one URI in its SAN".to_owned()),
        }
    }

    fn parse(uri: &str) -> Result<Self, String> {
        let wrong = || format!("SAN {uri:?} is not spiffe://DOMAIN/(agent|oma|viewer|operator|admin)/ID");
        let mut parts = uri.strip_prefix("spiffe://").ok_or_else(wrong)?.split('/');
        let (Some(domain), Some(role), Some(name), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(wrong());
        };
        let role = Role::ALL.into_iter().find(|known| known.as_str() == role).ok_or_else(wrong)?;
        if domain.is_empty() {
            return Err(wrong());
        }
        AgentId::parse(name).map(|name| Self { role, name }).map_err(|_| wrong())
    }
}

/// The other end of a connection, put into every request's extensions by [`serve`](super::serve).
#[derive(Clone, Debug)]
pub struct Peer {
    pub address: std::net::SocketAddr,
    pub identity: Result<Identity, Unnamed>,
}

/// Why a connection says nothing of who dialled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unnamed {
    /// Only where the listener lets such in: a token has to say it then.
    #[error("the connection has no certificate")]
    NoCertificate,
    /// The certificate's CA is right, and yet it names nobody; the text says why.
    #[error("{0}")]
    Certificate(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_spelling_is_an_identity() {
        let ok = Identity::parse("spiffe://migratekit/agent/vma-01").expect("valid");
        assert_eq!((ok.role, ok.name.as_str()), (Role::Agent, "vma-01"));
        for role in ["viewer", "operator", "admin"] {
            let person = Identity::parse(&format!("spiffe://migratekit/{role}/x")).expect("valid");
            assert_eq!(person.to_string(), format!("{role}/x"));
        }
        for bad in [
            "https://migratekit/agent/a",
            "spiffe://migratekit/agent",
            "spiffe://migratekit/agent/",
            "spiffe://migratekit/agent/a/b",
            "spiffe:///agent/a",
            "spiffe://migratekit/root/a",
            "spiffe://migratekit/agent/../oma",
        ] {
            assert!(Identity::parse(bad).is_err(), "{bad}");
        }
    }
}
