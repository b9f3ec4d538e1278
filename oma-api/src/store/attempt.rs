//! `attempts`: what was asked under an idempotency key, recorded by the transaction that did it.

use super::error::Doing as _;
use super::row::{Row, sql, time};
use super::{Error, Store, Write};
use jiff::Timestamp;
use shared::ids::MigrationId;

/// Something asked under a key. Both are hashes, 64 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    pub key: String,
    /// Of all that was asked.
    pub fingerprint: String,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempted {
    pub fingerprint: String,
    pub migration: MigrationId,
    /// As it was given; `None`: the process ended before.
    pub answer: Option<Vec<u8>>,
}

impl Store {
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Database`].
    pub async fn attempt_fetch(&self, key: &str) -> Result<Option<Attempted>, Error> {
        self.reading(|| async {
            let row =
                sql("SELECT key_hash, fingerprint, migration_id, answer FROM attempts WHERE key_hash = ?")
                    .bind(key)
                    .fetch_optional(&self.read)
                    .await
                    .doing("looking for an idempotency key")?;
            let Some(row) = row else { return Ok(None) };
            let row = Row::new(&row, "attempts", "key_hash")?;
            Ok(Some(Attempted {
                fingerprint: row.text("fingerprint")?,
                migration: row.parsed("migration_id")?,
                answer: row.opt_blob("answer")?,
            }))
        })
        .await
    }

    /// Keeps the answer that was given, for who asks again.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn attempt_answer(&self, key: &str, answer: &[u8]) -> Result<(), Error> {
        self.write(|mut w| async move {
            sql("UPDATE attempts SET answer = ? WHERE key_hash = ?")
                .bind(answer)
                .bind(key)
                .execute(&mut *w.tx)
                .await
                .doing("keeping an answer")?;
            w.commit().await
        })
        .await
    }

    /// Forgets attempts older than `before`.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn attempt_delete(&self, before: Timestamp) -> Result<u64, Error> {
        self.write(|mut w| async move {
            let done = sql("DELETE FROM attempts WHERE recorded_at < ?")
                .bind(time(before))
                .execute(&mut *w.tx)
                .await
                .doing("forgetting idempotency keys")?;
            w.commit().await?;
            Ok(done.rows_affected())
        })
        .await
    }
}

impl Write {
    /// One writer at a time: nobody can put the same key in between the two statements.
    pub(super) async fn attempt_insert(
        &mut self,
        attempt: &Attempt,
        migration: &MigrationId,
        now: Timestamp,
    ) -> Result<(), Error> {
        let there = sql("SELECT key_hash FROM attempts WHERE key_hash = ?")
            .bind(attempt.key.as_str())
            .fetch_optional(&mut *self.tx)
            .await
            .doing("recording an idempotency key")?;
        if there.is_some() {
            return Err(Error::Attempted);
        }
        sql("INSERT INTO attempts (key_hash, fingerprint, migration_id, recorded_at) VALUES (?, ?, ?, ?)")
            .bind(attempt.key.as_str())
            .bind(attempt.fingerprint.as_str())
            .bind(migration.as_str())
            .bind(time(now))
            .execute(&mut *self.tx)
            .await
            .doing("recording an idempotency key")?;
        Ok(())
    }
}
