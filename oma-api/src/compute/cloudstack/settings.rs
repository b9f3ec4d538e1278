//! `[compute] kind = "cloudstack"`.

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

fn default_deadline() -> Period {
    Period::seconds(30)
}

fn default_job_deadline() -> Period {
    Period::seconds(600)
}

fn default_poll() -> Period {
    Period::seconds(1)
}
