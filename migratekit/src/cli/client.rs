//! The connection to the control plane: by certificate, or by token.

use shared::tls::{Dialer, Files, client_without_certificate};
use shared::token::Token;
use shared::wire::refusal;
use std::path::PathBuf;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::{Request, Status, transport};

/// A connection on which every call says who asks, and goes on with the command's trace.
pub(super) type Channel = InterceptedService<transport::Channel, Bearer>;

/// What has to be given before anything can be asked; exit code 64.
#[derive(Debug, thiserror::Error)]
#[error(
    "--{flag} is missing (or {env} in the environment): {what}{instead}; `migratekit dev-ca` makes a development set"
)]
pub(super) struct Missing {
    flag: &'static str,
    env: &'static str,
    what: &'static str,
    instead: &'static str,
}

/// A token that is none; exit code 64.
#[derive(Debug, thiserror::Error)]
pub(super) enum BadToken {
    #[error("--token-file {} cannot be read", path.display())]
    File { path: PathBuf, source: std::io::Error },
    #[error(transparent)]
    Text(#[from] shared::token::InvalidToken),
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
    /// A token, instead of certificate and key. Others on this machine see arguments: --token-file and the environment are
    /// more discreet
    #[arg(
        long,
        global = true,
        value_name = "TOKEN",
        env = "MIGRATEKIT_TOKEN",
        hide_env_values = true,
        conflicts_with = "token_file"
    )]
    token: Option<Secret>,
    /// File that holds the token
    #[arg(long, global = true, value_name = "FILE", env = "MIGRATEKIT_TOKEN_FILE", hide_env_values = true)]
    token_file: Option<PathBuf>,
}

/// A token as it was given; `Debug` shows nothing of it, whatever it is.
#[derive(Clone)]
struct Secret(String);

impl std::str::FromStr for Secret {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("…")
    }
}

/// Adds the token, where there is one, to every call, and the trace.
#[derive(Clone)]
pub(super) struct Bearer(Option<MetadataValue<Ascii>>);

impl Bearer {
    fn of(token: Option<&Token>) -> Self {
        Self(token.map(|token| {
            let mut value: MetadataValue<Ascii> =
                format!("Bearer {}", token.expose()).parse().expect("letters and digits");
            value.set_sensitive(true);
            value
        }))
    }
}

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(value) = &self.0 {
            request.metadata_mut().insert("authorization", value.clone());
        }
        shared::telemetry::inject(request.metadata_mut());
        Ok(request)
    }
}

impl Connection {
    fn token(&self) -> Result<Option<Token>, BadToken> {
        let text = match (&self.token, &self.token_file) {
            (Some(Secret(text)), _) => text.clone(),
            (None, Some(path)) => std::fs::read_to_string(path)
                .map_err(|source| BadToken::File { path: path.clone(), source })?,
            (None, None) => return Ok(None),
        };
        Ok(Some(Token::parse(&text)?))
    }

    /// What the connection itself shows: the certificate, where there is one; with a token it may be left out.
    fn tls(&self, token: Option<&Token>) -> anyhow::Result<std::sync::Arc<rustls::ClientConfig>> {
        let needed = |file: &Option<PathBuf>, missing: Missing| file.clone().ok_or(missing);
        let missing = |flag, env, what, instead| Missing { flag, env, what, instead };
        let ca = needed(&self.ca, missing("ca", "MIGRATEKIT_CA", "the CA of the OMA's certificate", ""))?;
        if token.is_some() && self.cert.is_none() && self.key.is_none() {
            return Ok(client_without_certificate(&ca)?);
        }
        let instead = ", or --token";
        let cert = missing("cert", "MIGRATEKIT_CERT", "your operator certificate", instead);
        let key = missing("key", "MIGRATEKIT_KEY", "its private key", instead);
        Ok(Files { ca, cert: needed(&self.cert, cert)?, key: needed(&self.key, key)? }.client()?)
    }

    /// Connects, or says what is missing.
    pub(super) async fn open(&self) -> anyhow::Result<Channel> {
        let token = self.token()?;
        let dialer = Dialer::new(&self.oma, self.tls(token.as_ref())?).map_err(BadAddress)?;
        let channel = dialer.connect().await.map_err(anyhow::Error::msg)?;
        let channel = InterceptedService::new(channel, Bearer::of(token.as_ref()));
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
                        let hint = match token.is_some() && self.cert.is_none() {
                            true => "; it takes tokens once an admin with a certificate has made the first",
                            false => "",
                        };
                        anyhow::bail!("OMA {}: {reason}{hint}", self.oma);
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

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    #[derive(Debug, clap::Parser)]
    struct Wrapper {
        #[command(flatten)]
        connection: Connection,
    }

    #[test]
    fn a_token_does_not_show() {
        let token = Token::generate().expect("random");
        let text = format!("Bearer {}", token.expose());
        let bearer = Bearer::of(Some(&token));
        assert_eq!(bearer.0.as_ref().and_then(|value| value.to_str().ok()), Some(text.as_str()));
        assert!(!format!("{:?}", bearer.0).contains(token.expose()), "sensitive");
        let given = Wrapper::try_parse_from(["x", "--token", token.expose()]).expect("parsed");
        assert!(!format!("{given:?}").contains(token.expose()), "{given:?}");
        assert_eq!(given.connection.token().expect("a token"), Some(token));
    }
}
