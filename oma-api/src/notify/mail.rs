//! One mail to one relay, by SMTP.

use crate::store::DueNotice;
use lettre::message::{Mailbox, Message};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, CertificateStore, Tls, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use lettre::{AsyncSmtpTransport, AsyncTransport as _, Tokio1Executor};
use serde::Deserialize;
use std::path::PathBuf;
use std::time::Duration;
use tokio::time::timeout;

/// For one answer of the relay, and for a mail as a whole.
const ANSWER: Duration = Duration::from_secs(20);
const WHOLE: Duration = Duration::from_secs(60);

/// Of the relay for one mailbox: it will not be there later either.
const NO_MAILBOX: [u16; 3] = [550, 551, 553];

/// `[notifications]` of the configuration.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The relay: `host:port`.
    pub smtp: String,
    /// Who sends, such as `MigrateKit <migratekit@example.org>`.
    pub from: String,
    #[serde(default)]
    pub tls: Security,
    /// PEM file of the CA that the relay's certificate comes from; the system's where it is left out.
    pub ca: Option<PathBuf>,
    pub user: Option<String>,
    /// What is in it is the password, but for white space around it.
    pub password_file: Option<PathBuf>,
}

/// How the way to the relay is protected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Security {
    /// Not at all: for a relay on this host.
    #[default]
    None,
    /// In clear at first, TLS before anything is said; port 587.
    StartTls,
    /// TLS from the first byte on; port 465.
    Tls,
}

/// Why the settings cannot be used, or a mail was not sent.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("notifications.{key}: {why}")]
    Settings { key: &'static str, why: String },
    #[error("notifications.{key}: {} cannot be read", path.display())]
    Unreadable { key: &'static str, path: PathBuf, source: std::io::Error },
    #[error("{to:?} is no mail address")]
    Address { to: String, source: lettre::address::AddressError },
    #[error("the mail cannot be made")]
    Mail(#[from] lettre::error::Error),
    #[error("the relay did not take the mail")]
    Smtp(#[from] lettre::transport::smtp::Error),
    #[error("the relay took longer than {} s", WHOLE.as_secs())]
    Silent,
}

impl Error {
    /// The same again would fail again.
    pub fn is_final(&self) -> bool {
        match self {
            Self::Address { .. } | Self::Mail(_) => true,
            Self::Smtp(error) => error.status().is_some_and(|code| NO_MAILBOX.contains(&code.into())),
            // A relay that is away or wrongly configured is made good.
            Self::Settings { .. } | Self::Unreadable { .. } | Self::Silent => false,
        }
    }
}

impl Settings {
    /// What sends.
    ///
    /// # Errors
    /// [`Error::Settings`], [`Error::Unreadable`].
    pub fn mailer(&self) -> Result<Mailer, Error> {
        let wrong = |key, why: &str| Error::Settings { key, why: why.to_owned() };
        let (host, port) = self
            .smtp
            .rsplit_once(':')
            .filter(|(host, _)| !host.is_empty())
            .ok_or_else(|| wrong("smtp", "names the relay as host:port"))?;
        let port: u16 = port.parse().map_err(|_| wrong("smtp", "names the relay as host:port"))?;
        // An IPv6 address stands in brackets.
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let from: Mailbox = self.from.parse().map_err(|_| {
            wrong("from", "takes a mail address, such as MigrateKit <migratekit@example.org>")
        })?;
        let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(host)
            .port(port)
            .timeout(Some(ANSWER))
            .hello_name(ClientId::Domain(from.email.domain().to_owned()))
            .tls(self.security(host)?);
        match (&self.user, &self.password_file) {
            (None, None) => {}
            (Some(_), Some(_)) if self.tls == Security::None => {
                return Err(wrong("tls", "must be \"starttls\" or \"tls\": no password is sent in clear"));
            }
            (Some(user), Some(path)) => {
                let password = read("password_file", path)?.trim().to_owned();
                builder = builder.credentials(Credentials::new(user.clone(), password));
            }
            (Some(_), None) | (None, Some(_)) => {
                return Err(wrong("user", "and password_file are given together, or neither"));
            }
        }
        Ok(Mailer { transport: builder.build(), from })
    }

    fn security(&self, host: &str) -> Result<Tls, Error> {
        if self.tls == Security::None {
            return Ok(Tls::None);
        }
        let unusable = |key, error: &lettre::transport::smtp::Error| Error::Settings {
            key,
            why: shared::error::chain(error),
        };
        let mut parameters = TlsParameters::builder(host.to_owned());
        if let Some(path) = &self.ca {
            let ca = Certificate::from_pem(read("ca", path)?.as_bytes()).map_err(|e| unusable("ca", &e))?;
            parameters = parameters.certificate_store(CertificateStore::None).add_root_certificate(ca);
        }
        let parameters = parameters.build_rustls().map_err(|e| unusable("tls", &e))?;
        Ok(match self.tls {
            Security::None => Tls::None,
            Security::StartTls => Tls::Required(parameters),
            Security::Tls => Tls::Wrapper(parameters),
        })
    }
}

fn read(key: &'static str, path: &std::path::Path) -> Result<String, Error> {
    std::fs::read_to_string(path).map_err(|source| Error::Unreadable { key, path: path.to_owned(), source })
}

/// Sends mails to a relay.
pub struct Mailer {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
}

impl Mailer {
    /// Returns when the relay has taken it.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn send(&self, notice: &DueNotice) -> Result<(), Error> {
        let to = notice.to.parse().map_err(|source| Error::Address { to: notice.to.clone(), source })?;
        let mail = Message::builder()
            .from(self.from.clone())
            .to(Mailbox::new(None, to))
            .message_id(Some(format!("<{}@{}>", notice.id, self.from.email.domain())))
            .subject(notice.subject.as_str())
            .header(lettre::message::header::ContentType::TEXT_PLAIN)
            .body(notice.body.clone())?;
        match timeout(WHOLE, self.transport.send(mail)).await {
            Ok(sent) => sent.map(|_| ()).map_err(Error::from),
            Err(_) => Err(Error::Silent),
        }
    }
}
