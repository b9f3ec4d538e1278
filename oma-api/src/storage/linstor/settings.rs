//! `[storage] kind = "linstor"`.

use crate::linstor::{Client, Cluster, Name, Settings as Controllers};
use crate::outbound;
use crate::storage::Floor;
use serde::Deserialize;
use shared::config::Period;
use std::path::PathBuf;
use std::time::Duration;

/// Which cluster, and what of it. Every key is documented in `deploy/examples/oma-api.toml`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// `http://host:3370` or `https://host:3371`, one each.
    pub controllers: Vec<String>,
    /// Holds a bearer token.
    pub token_file: Option<PathBuf>,
    /// Authorities of the controllers' certificates; those of the system otherwise.
    pub ca_file: Option<PathBuf>,
    /// Where replicas are placed: that of the pool which CloudStack uses.
    pub resource_group: Name,
    /// What LINSTOR calls this host, on which the devices are opened.
    #[serde(default = "own_name")]
    pub node: String,
    /// For one call.
    #[serde(default = "default_deadline")]
    pub deadline: Period,
    /// What has to stay free of the pools.
    #[serde(default)]
    pub floor: Floor,
}

/// As LINSTOR's own client names a node that is added without a name.
fn own_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// As LINSTOR's own client waits: a call answers when all satellites are done, one after the other.
fn default_deadline() -> Period {
    Period::seconds(300)
}

impl Settings {
    /// What no controller can be asked with: the key, and a sentence that goes on from it.
    pub fn unusable(&self) -> Option<(&'static str, String)> {
        let has_scheme = |url: &String| {
            let uri = url.parse::<http::Uri>().ok();
            uri.is_some_and(|uri| matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some())
        };
        if self.controllers.is_empty() {
            return Some(("storage.controllers", "must name one controller at least".to_owned()));
        }
        if let Some(bad) = self.controllers.iter().find(|url| !has_scheme(url)) {
            let form = "expected http://host:3370, or https://host:3371 with TLS";
            return Some((
                "storage.controllers",
                format!("holds {bad:?}, which is no controller's URL: {form}"),
            ));
        }
        if let Some(bad) = self.controllers.iter().find(|url| self.token_file.is_some() && is_clear(url)) {
            let why = "the token of storage.token_file would travel in clear there: use https";
            return Some(("storage.controllers", format!("holds {bad:?}: {why}")));
        }
        if !is_host(&self.node) {
            let why = "cannot be a node's name: expected what `linstor node list` calls this host";
            return Some(("storage.node", format!("= {:?} {why}", self.node)));
        }
        (self.deadline.0 < Duration::from_secs(1))
            .then(|| ("storage.deadline", "must be at least 1s".to_owned()))
    }

    /// What these settings lead to; asks nobody yet.
    ///
    /// # Errors
    /// Certificates that cannot be used.
    pub fn cluster(&self) -> Result<Cluster, outbound::Error> {
        Ok(Cluster::new(self.client(&self.controllers)?, &self.node))
    }

    /// One client for these controllers; asks nobody yet.
    pub(super) fn client(&self, controllers: &[String]) -> Result<Client, outbound::Error> {
        let settings = Controllers {
            controllers: controllers.to_vec(),
            token_file: self.token_file.clone(),
            deadline: self.deadline.0,
        };
        Ok(Client::new(settings, outbound::client(self.ca_file.as_deref())?))
    }
}

/// Whether what is sent there can be read on the way.
fn is_clear(url: &str) -> bool {
    let uri = url.parse::<http::Uri>().unwrap_or_default();
    uri.scheme_str() != Some("https") && !is_here(url)
}

/// Whether it is on this host.
pub(super) fn is_here(url: &str) -> bool {
    let uri = url.parse::<http::Uri>().unwrap_or_default();
    uri.host().is_some_and(|host| {
        let address = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
        host == "localhost" || address.is_ok_and(|address| address.is_loopback())
    })
}

/// It stands in paths of requests.
fn is_host(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    !name.is_empty() && name.chars().all(plain)
}
