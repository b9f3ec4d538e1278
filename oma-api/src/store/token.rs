//! `tokens`: who may ask without a certificate. The tokens themselves are not here, only their hashes.

use super::error::Doing as _;
use super::row::{Row, sql, time};
use super::{Error, Store};
use crate::service::Role;
use jiff::Timestamp;
use serde_json::json;
use shared::token::TokenHash;
use sqlx::any::AnyRow;

/// A row of `tokens`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRow {
    pub id: String,
    /// Unique among those that are not revoked.
    pub name: String,
    pub role: Role,
    pub hash: TokenHash,
    pub created_at: Timestamp,
    pub created_by: String,
    pub expires_at: Timestamp,
    pub last_used_at: Option<Timestamp>,
    pub revoked_at: Option<Timestamp>,
    pub revoked_by: Option<String>,
}

const ALL: &str = "SELECT id, name, role, hash, created_at, created_by, expires_at, last_used_at, revoked_at, \
     revoked_by FROM tokens ORDER BY created_at, id";

impl Store {
    /// Keeps a new token. One of the same name that has expired is revoked by it.
    ///
    /// # Errors
    /// [`Error::TokenExists`], [`Error::Database`].
    pub async fn token_create(&self, token: &TokenRow) -> Result<(), Error> {
        self.write(|mut w| async move {
            sql("UPDATE tokens SET living_name = NULL, revoked_at = ?, revoked_by = ? WHERE living_name = ? AND expires_at <= ?")
                .bind(time(token.created_at))
                .bind(token.created_by.as_str())
                .bind(token.name.as_str())
                .bind(time(token.created_at))
                .execute(&mut *w.tx)
                .await
                .doing("replacing an expired token")?;
            let living = sql("SELECT id FROM tokens WHERE living_name = ?")
                .bind(token.name.as_str())
                .fetch_optional(&mut *w.tx)
                .await
                .doing("looking for a token")?;
            if living.is_some() {
                return Err(Error::TokenExists { name: token.name.clone() });
            }
            sql("INSERT INTO tokens (id, name, living_name, role, hash, created_at, created_by, expires_at) \
                 VALUES (?, ?, ?, ?, ?, ?, ?, ?)")
            .bind(token.id.as_str())
            .bind(token.name.as_str())
            .bind(token.name.as_str())
            .bind(token.role.as_str())
            .bind(token.hash.hex())
            .bind(time(token.created_at))
            .bind(token.created_by.as_str())
            .bind(time(token.expires_at))
            .execute(&mut *w.tx)
            .await
            .doing("storing a token")?;
            let body = json!({ "name": token.name, "role": token.role.as_str(), "by": token.created_by });
            w.event(token.created_at, None, None, "token_created", body).await?;
            w.commit().await
        })
        .await
    }

    /// Revokes the living token of that name.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Database`].
    pub async fn token_revoke(&self, name: &str, by: &str, now: Timestamp) -> Result<(), Error> {
        self.write(|mut w| async move {
            let done = sql(
                "UPDATE tokens SET living_name = NULL, revoked_at = ?, revoked_by = ? WHERE living_name = ?",
            )
            .bind(time(now))
            .bind(by)
            .bind(name)
            .execute(&mut *w.tx)
            .await
            .doing("revoking a token")?;
            if done.rows_affected() == 0 {
                return Err(Error::NotFound { what: "token", id: name.to_owned() });
            }
            w.event(now, None, None, "token_revoked", json!({ "name": name, "by": by })).await?;
            w.commit().await
        })
        .await
    }

    /// Keeps when tokens were last used; no event.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn token_used(&self, used: &[(String, Timestamp)]) -> Result<(), Error> {
        self.write(|mut w| async move {
            for (id, at) in used {
                sql("UPDATE tokens SET last_used_at = ? WHERE id = ?")
                    .bind(time(*at))
                    .bind(id.as_str())
                    .execute(&mut *w.tx)
                    .await
                    .doing("storing the use of a token")?;
            }
            w.commit().await
        })
        .await
    }

    /// All, revoked and expired ones too; the oldest first.
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Database`].
    pub async fn token_list(&self) -> Result<Vec<TokenRow>, Error> {
        self.reading(|| async {
            let rows = sql(ALL).fetch_all(&self.read).await.doing("listing tokens")?;
            rows.iter().map(token).collect()
        })
        .await
    }
}

fn token(row: &AnyRow) -> Result<TokenRow, Error> {
    let row = Row::new(row, "tokens", "id")?;
    let hash = TokenHash::from_hex(&row.text("hash")?);
    Ok(TokenRow {
        id: row.text("id")?,
        name: row.text("name")?,
        role: row.parsed("role")?,
        hash: hash.ok_or_else(|| row.corrupt("hash", "not 64 hexadecimal digits"))?,
        created_at: row.time("created_at")?,
        created_by: row.text("created_by")?,
        expires_at: row.time("expires_at")?,
        last_used_at: row.opt_time("last_used_at")?,
        revoked_at: row.opt_time("revoked_at")?,
        revoked_by: row.opt_text("revoked_by")?,
    })
}
