//! The connection to the control plane.

use shared::tls::{Dialer, Files};
use shared::wire::refusal;
use std::path::PathBuf;
use tonic::service::interceptor::InterceptedService;
use tonic::{Request, Status, transport};

/// A connection whose calls go on with the command's trace.
pub(super) type Channel = InterceptedService<transport::Channel, Traced>;

/// See [`Channel`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Traced;

impl tonic::service::Interceptor for Traced {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        shared::telemetry::inject(request.metadata_mut());
        Ok(request)
    }
}

/// What has to be given before anything can be asked; exit code 64.
#[derive(Debug, thiserror::Error)]
#[error(
    "--{flag} is missing (or {env} in the environment): {what}; `migratekit dev-ca` makes a development set"
)]
pub(super) struct Missing {
    flag: &'static str,
    env: &'static str,
    what: &'static str,
}

/// An address that is none; exit code 64.
#[derive(Debug, thiserror::Error)]
#[error("--oma: {0}")]
pub(super) struct BadAddress(String);

/// Where the control plane is and who we are.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Connection")]
pub(super) struct Connection {
    /// The OMA
    #[arg(
        long,
        global = true,
        value_name = "HOST:PORT",
        env = "MIGRATEKIT_OMA",
        hide_env_values = true,
        default_value = "localhost:8443"
    )]
    oma: String,
    /// CA of the OMA's certificate (PEM)
    #[arg(long, global = true, value_name = "FILE", env = "MIGRATEKIT_CA", hide_env_values = true)]
    ca: Option<PathBuf>,
    /// The operator's certificate (PEM)
    #[arg(long, global = true, value_name = "FILE", env = "MIGRATEKIT_CERT", hide_env_values = true)]
    cert: Option<PathBuf>,
    /// Its private key (PEM)
    #[arg(long, global = true, value_name = "FILE", env = "MIGRATEKIT_KEY", hide_env_values = true)]
    key: Option<PathBuf>,
}

impl Connection {
    /// Connects, or says what is missing.
    pub(super) async fn open(&self) -> anyhow::Result<Channel> {
        let needed = |file: &Option<PathBuf>, missing: Missing| file.clone().ok_or(missing);
        let (ca, cert, key) = ("MIGRATEKIT_CA", "MIGRATEKIT_CERT", "MIGRATEKIT_KEY");
        let files = Files {
            ca: needed(&self.ca, Missing { flag: "ca", env: ca, what: "the CA of the OMA's certificate" })?,
            cert: needed(&self.cert, Missing { flag: "cert", env: cert, what: "your operator certificate" })?,
            key: needed(&self.key, Missing { flag: "key", env: key, what: "its private key" })?,
        };
        let dialer = Dialer::new(&self.oma, files.client()?).map_err(BadAddress)?;
        let channel = dialer.connect().await.map_err(anyhow::Error::msg)?;
        let channel = InterceptedService::new(channel, Traced);
        // With TLS 1.3 a refused certificate shows on the first read: ask something harmless, so that the reason is
        // said here and not "transport error" somewhere else.
        match proto::v1::inventory_service_client::InventoryServiceClient::new(channel.clone())
            .list_agents(proto::v1::ListAgentsRequest {})
            .await
        {
            Ok(_) => Ok(channel),
            Err(status) => {
                // What the OMA says while it closes the connection may be read after the call has failed of that.
                for _ in 0..10 {
                    if refusal::reason_of(&status).is_some() {
                        break;
                    }
                    if let Some(reason) = dialer.take_refusal() {
                        anyhow::bail!("OMA {}: {reason}", self.oma);
                    }
                    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                }
                Err(said(&status))
            }
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
