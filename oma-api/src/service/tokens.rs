//! Tokens: made, listed, revoked; and what happens with them over time.

use super::{App, Caller, Error, Role};
use crate::store::{self, TokenRow};
use jiff::Timestamp;
use shared::config::Period;
use shared::token::Token;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// How long a token may live at most.
pub const LONGEST: Duration = Duration::from_secs(366 * 86_400);

/// Longest name, in bytes: that of an agent.
const NAME: usize = 64;

/// Between two writes of who was here.
const STORED_EVERY: Duration = Duration::from_secs(60);

/// Between two warnings that nobody is asked who they are.
const WARNED_EVERY: Duration = Duration::from_secs(3600);

/// What a token is to be.
#[derive(Clone, Debug)]
pub struct NewToken {
    name: String,
    role: Role,
    lifetime: Duration,
}

impl NewToken {
    /// As it was asked for.
    ///
    /// # Errors
    /// [`Error::TokenName`], [`Error::TokenLifetime`].
    pub fn new(name: &str, role: Role, lifetime: Duration) -> Result<Self, Error> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if name.is_empty() || name.len() > NAME || !name.chars().all(plain) {
            return Err(Error::TokenName { asked: name.chars().take(NAME).collect() });
        }
        if lifetime.is_zero() || lifetime > LONGEST {
            return Err(Error::TokenLifetime { asked: Period(lifetime) });
        }
        Ok(Self { name: name.to_owned(), role, lifetime })
    }
}

/// Whether a token counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenStatus {
    Active,
    Expired,
    Revoked,
}

impl TokenStatus {
    /// At that time.
    pub fn of(token: &TokenRow, now: Timestamp) -> Self {
        match (token.revoked_at, token.expires_at <= now) {
            (Some(_), _) => Self::Revoked,
            (None, true) => Self::Expired,
            (None, false) => Self::Active,
        }
    }

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        }
    }
}

impl App {
    /// Makes one. The token itself is in this answer and nowhere else.
    ///
    /// # Errors
    /// [`Error::NoRandom`], [`Error::Store`].
    pub async fn token_create(&self, by: &Caller, new: NewToken) -> Result<(Token, TokenRow), Error> {
        let token = Token::generate()?;
        let now = Timestamp::now();
        let row = TokenRow {
            id: uuid::Uuid::now_v7().to_string(),
            name: new.name,
            role: new.role,
            hash: token.hash(),
            created_at: now,
            created_by: by.name.clone(),
            expires_at: now + new.lifetime,
            last_used_at: None,
            revoked_at: None,
            revoked_by: None,
        };
        let (app, stored) = (self.clone(), row.clone());
        self.token_change(async move {
            app.store.token_create(&stored).await?;
            app.access.tokens.add(stored);
            Ok(())
        })
        .await?;
        info!(token = %row.name, role = %row.role, expires_at = %row.expires_at, %by, "token created");
        Ok((token, row))
    }

    /// Revokes the living one of that name; from the answer on nobody gets in with it.
    ///
    /// # Errors
    /// [`Error::TokenUnknown`], [`Error::Store`].
    pub async fn token_revoke(&self, by: &Caller, name: &str) -> Result<TokenRow, Error> {
        let (app, asked, who, now) = (self.clone(), name.to_owned(), by.name.clone(), Timestamp::now());
        let revoked = self.token_change(async move {
            app.store.token_revoke(&asked, &who, now).await?;
            Ok(app.access.tokens.revoke(&asked, &who, now))
        });
        let unknown = || Error::TokenUnknown { asked: name.to_owned() };
        let revoked = match revoked.await {
            Err(Error::Store(store::Error::NotFound { .. })) => return Err(unknown()),
            done => done?.ok_or_else(unknown)?,
        };
        info!(token = name, %by, "token revoked");
        if self.access.is_open() {
            warn!("no token is left: the REST API asks nobody on this machine who they are");
        }
        Ok(revoked)
    }

    /// All, with whether they count now.
    pub fn token_list(&self) -> Vec<(TokenRow, TokenStatus)> {
        let now = Timestamp::now();
        let all = self.access.tokens.list().into_iter();
        all.map(|token| (token.clone(), TokenStatus::of(&token, now))).collect()
    }

    /// One change of database and memory. It goes on when who asked for it has gone: a token that is revoked in one of
    /// them only would be worse than either.
    async fn token_change<T: Send + 'static>(
        &self,
        change: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Error> {
        let app = self.clone();
        let changing = tokio::spawn(async move {
            let _one = std::sync::Arc::clone(&app.access.tokens.changing).lock_owned().await;
            let changed = change.await;
            if changed.is_err() {
                // It may have been done all the same.
                match app.store.token_list().await {
                    Ok(rows) => app.access.tokens.replace(rows),
                    Err(error) => {
                        warn!(error = %shared::error::chain(&error), "the tokens cannot be read again");
                    }
                }
            }
            changed
        });
        changing.await.map_err(|_| Error::Interrupted)?
    }

    /// Stores who was here, and warns while nobody is asked. `rest` says where the REST API listens.
    pub async fn tokens_run(&self, rest: std::net::SocketAddr, shutdown: CancellationToken) {
        let mut store = tokio::time::interval(STORED_EVERY);
        let mut warned = tokio::time::interval(WARNED_EVERY);
        loop {
            tokio::select! {
                _ = store.tick() => self.tokens_store().await,
                _ = warned.tick() => self.tokens_warn(rest),
                () = shutdown.cancelled() => break,
            }
        }
        self.tokens_store().await;
    }

    fn tokens_warn(&self, rest: std::net::SocketAddr) {
        if !self.access.is_open() {
            return;
        }
        match rest.ip().to_canonical().is_loopback() {
            true => warn!(
                listen = %rest,
                "the REST API asks nobody who they are: whoever can log in to this machine is admin there; make a token with \
                 `migratekit token create`"
            ),
            false => warn!(
                listen = %rest,
                "the REST API refuses everybody, because no token was made: make one with `migratekit token create`"
            ),
        }
    }

    async fn tokens_store(&self) {
        let used = self.access.tokens.take_used();
        if used.is_empty() {
            return;
        }
        if let Err(error) = self.store.token_used(&used).await {
            // The next use is stored again; what is lost is a minute.
            warn!(error = %shared::error::chain(&error), "when tokens were used last was not stored");
        }
    }
}
