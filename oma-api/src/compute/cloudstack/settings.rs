//! `[compute] kind = "cloudstack"`.

use crate::cloudstack::{self, Client};
use crate::outbound;
use serde::Deserialize;
use shared::config::Period;
use std::path::PathBuf;

/// Where machines are made, as whom, and of what. Names may be ids as well.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// `https://host:8443/client/api`.
    pub endpoint: String,
    pub api_key_file: PathBuf,
    pub secret_key_file: PathBuf,
    /// Trusted instead of the system's authorities.
    pub ca_file: Option<PathBuf>,
    pub zone: String,
    /// CloudStack's primary storage on LINSTOR; its resource group is that of `[storage]`.
    pub pool: String,
    /// Of any size, with a tag that only that pool has.
    pub disk_offering: String,
    /// Machines are deployed of it, stopped; its disk is taken away at once.
    pub template: String,
    /// Left out: the one that fits the machine.
    pub service_offering: Option<String>,
    /// Where cards go that nobody maps.
    pub isolated_network: Option<String>,
    /// For one command.
    #[serde(default = "default_deadline")]
    pub deadline: Period,
    /// For a job of CloudStack's, until it is looked up what became of it.
    #[serde(default = "default_job_deadline")]
    pub job_deadline: Period,
    /// Before the first question how a job stands; they grow rarer.
    #[serde(default = "default_poll")]
    pub poll: Period,
}

/// They cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    #[error(transparent)]
    Keys(#[from] cloudstack::Error),
    #[error(transparent)]
    Certificates(#[from] outbound::Error),
}

impl Settings {
    /// What is wrong with them, by key.
    pub fn unusable(&self) -> Option<(&'static str, String)> {
        let is_url =
            self.endpoint.parse::<reqwest::Url>().is_ok_and(|url| matches!(url.scheme(), "http" | "https"));
        if !is_url {
            let why =
                format!("{:?} is no address such as https://cloud.example:8443/client/api", self.endpoint);
            return Some(("compute.endpoint", why));
        }
        let least = |period: Period, least| period.0 < std::time::Duration::from_millis(least);
        if least(self.deadline, 1000) {
            return Some(("compute.deadline", "must be at least 1s".to_owned()));
        }
        if least(self.job_deadline, 1000) {
            return Some(("compute.job_deadline", "must be at least 1s".to_owned()));
        }
        None
    }

    /// Reads the keys; asks nobody.
    pub(super) fn client(&self) -> Result<Client, Unusable> {
        let http = outbound::client(self.ca_file.as_deref())?;
        let settings = cloudstack::Settings {
            endpoint: self.endpoint.clone(),
            api_key_file: self.api_key_file.clone(),
            secret_key_file: self.secret_key_file.clone(),
            deadline: self.deadline.0,
            poll: self.poll.0,
        };
        Ok(Client::new(settings, http)?)
    }
}

fn default_deadline() -> Period {
    Period::seconds(30)
}

fn default_job_deadline() -> Period {
    Period::seconds(600)
}

fn default_poll() -> Period {
    Period::seconds(1)
}
