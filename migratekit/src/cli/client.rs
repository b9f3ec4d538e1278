//! The connection to the control plane.

use anyhow::Context as _;
use shared::tls::{Dialer, Files};
use shared::wire::refusal;
use std::path::PathBuf;
use tonic::transport::Channel;

/// Where the control plane is and who we are.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Connection")]
pub(super) struct Connection {
    /// The OMA.
    #[arg(
        long,
        global = true,
        value_name = "HOST:PORT",
        env = "MIGRATEKIT_OMA",
        default_value = "localhost:8443"
    )]
    oma: String,
    /// CA of the OMA's certificate (PEM).
    #[arg(long, global = true, value_name = "FILE", env = "MIGRATEKIT_CA")]
    ca: Option<PathBuf>,
    /// The operator's certificate (PEM).
    #[arg(long, global = true, value_name = "FILE", env = "MIGRATEKIT_CERT")]
    cert: Option<PathBuf>,
    /// Its private key (PEM).
    #[arg(long, global = true, value_name = "FILE", env = "MIGRATEKIT_KEY")]
    key: Option<PathBuf>,
}

impl Connection {
    /// Connects, or says what is missing.
    pub(super) async fn open(&self) -> anyhow::Result<Channel> {
        let needed = |file: &Option<PathBuf>, flag: &str| {
            let env = flag.to_uppercase();
            file.clone().with_context(|| {
                format!(
                    "--{flag} is missing (or MIGRATEKIT_{env}); `migratekit dev-ca` makes a development set"
                )
            })
        };
        let files = Files {
            ca: needed(&self.ca, "ca")?,
            cert: needed(&self.cert, "cert")?,
            key: needed(&self.key, "key")?,
        };
        let dialer = Dialer::new(&self.oma, files.client()?).map_err(anyhow::Error::msg)?;
        let channel = dialer.connect().await.map_err(anyhow::Error::msg)?;
        // With TLS 1.3 a refused certificate shows on the first read: ask something harmless, so that the reason is
        // said here and not "transport error" somewhere else.
        match proto::v1::inventory_service_client::InventoryServiceClient::new(channel.clone())
            .list_agents(proto::v1::ListAgentsRequest {})
            .await
        {
            Ok(_) => Ok(channel),
            Err(status) => Err(match dialer.take_refusal() {
                Some(reason) => anyhow::anyhow!("OMA {}: {reason}", self.oma),
                None => said(&status),
            }),
        }
    }
}

/// A status for a person: what the control plane said, with its reason for scripts.
pub(super) fn said(status: &tonic::Status) -> anyhow::Error {
    match refusal::reason_of(status) {
        Some(reason) => anyhow::anyhow!("{} [{reason}]", status.message()),
        None => anyhow::anyhow!("{} [{:?}]", status.message(), status.code()),
    }
}
