//! All tokens, in memory: what is stored of them, who used them when, and who is to be told when one is revoked.

use super::{Bearer, Refusal};
use crate::service::Caller;
use crate::store::TokenRow;
use jiff::Timestamp;
use shared::token::TokenHash;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use tokio_util::sync::CancellationToken;

/// Of one token: when it was last used is kept to the minute, so that a busy script is not a busy database.
const FINENESS_SECONDS: i64 = 60;

#[derive(Debug)]
pub struct Tokens {
    known: RwLock<HashMap<TokenHash, Known>>,
    /// One change at a time, so that the memory takes them in the database's order.
    pub changing: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Debug)]
struct Known {
    row: TokenRow,
    /// As of the last use that counted, and whether the database has it.
    used: Mutex<Used>,
    revoked: CancellationToken,
}

#[derive(Clone, Copy, Debug)]
struct Used {
    at: Option<Timestamp>,
    stored: bool,
}

impl Known {
    fn new(row: TokenRow) -> Self {
        let used = Mutex::new(Used { at: row.last_used_at, stored: true });
        let revoked = CancellationToken::new();
        if row.revoked_at.is_some() {
            revoked.cancel();
        }
        Self { row, used, revoked }
    }

    fn now_used(&self, now: Timestamp) {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        if used.at.is_none_or(|at| now.as_second() - at.as_second() >= FINENESS_SECONDS) {
            *used = Used { at: Some(now), stored: false };
        }
    }

    fn shown(&self) -> TokenRow {
        let used = self.used.lock().unwrap_or_else(PoisonError::into_inner).at;
        TokenRow { last_used_at: used, ..self.row.clone() }
    }

    fn revoke(&mut self, by: &str, now: Timestamp) {
        self.row.revoked_at = Some(now);
        self.row.revoked_by = Some(by.to_owned());
        self.revoked.cancel();
    }
}

impl Tokens {
    /// With all that are stored.
    pub fn new(rows: Vec<TokenRow>) -> Self {
        let known = rows.into_iter().map(|row| (row.hash, Known::new(row))).collect();
        Self { known: RwLock::new(known), changing: Arc::default() }
    }

    fn read(&self) -> RwLockReadGuard<'_, HashMap<TokenHash, Known>> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, HashMap<TokenHash, Known>> {
        self.known.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whose it is, if it still counts. That it was used is noted.
    ///
    /// # Errors
    /// [`Refusal::Unknown`], [`Refusal::Revoked`], [`Refusal::Expired`].
    pub fn find(&self, hash: &TokenHash, now: Timestamp) -> Result<Bearer, Refusal> {
        let known = self.read();
        let token = known.get(hash).ok_or(Refusal::Unknown)?;
        let TokenRow { name, role, expires_at, revoked_at, .. } = &token.row;
        if let Some(at) = *revoked_at {
            return Err(Refusal::Revoked { name: name.clone(), at });
        }
        if *expires_at <= now {
            return Err(Refusal::Expired { name: name.clone(), at: *expires_at });
        }
        token.now_used(now);
        let caller = Caller { name: name.clone(), role: *role };
        Ok(Bearer { caller, revoked: token.revoked.clone(), expires_at: *expires_at })
    }

    /// Whether every token there is was revoked.
    pub fn none_kept(&self) -> bool {
        self.read().values().all(|token| token.row.revoked_at.is_some())
    }

    /// All; the oldest first.
    pub fn list(&self) -> Vec<TokenRow> {
        let mut all: Vec<_> = self.read().values().map(Known::shown).collect();
        all.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
        all
    }

    /// One was stored: it counts from now on, and an expired one of its name is revoked, as it is in the database.
    pub fn add(&self, row: TokenRow) {
        let mut known = self.write();
        for token in known.values_mut().filter(|t| t.row.name == row.name && t.row.revoked_at.is_none()) {
            token.revoke(&row.created_by, row.created_at);
        }
        known.insert(row.hash, Known::new(row));
    }

    /// The living one of that name was revoked: from now on nobody gets in with it.
    pub fn revoke(&self, name: &str, by: &str, now: Timestamp) -> Option<TokenRow> {
        let mut known = self.write();
        let token = known.values_mut().find(|t| t.row.name == name && t.row.revoked_at.is_none())?;
        token.revoke(by, now);
        Some(token.shown())
    }

    /// As the database has them, when what became of a change is not known.
    pub fn replace(&self, rows: Vec<TokenRow>) {
        let mut known = self.write();
        let old =
            std::mem::replace(&mut *known, rows.into_iter().map(|row| (row.hash, Known::new(row))).collect());
        for (hash, old) in old {
            match known.get_mut(&hash) {
                // Whoever was let in with it hears of its end still.
                Some(new) if new.row.revoked_at.is_none() => {
                    // Of uses, what is not stored yet is known only here.
                    (new.revoked, new.used) = (old.revoked, old.used);
                }
                _ => old.revoked.cancel(),
            }
        }
    }

    /// Uses that are to be stored, by id; each is given once.
    pub fn take_used(&self) -> Vec<(String, Timestamp)> {
        let known = self.read();
        let taken = known.values().filter_map(|token| {
            let mut used = token.used.lock().unwrap_or_else(PoisonError::into_inner);
            let at = used.at.filter(|_| !used.stored)?;
            used.stored = true;
            Some((token.row.id.clone(), at))
        });
        taken.collect()
    }
}
