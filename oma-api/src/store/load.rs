//! The whole database from a backup.
//!
//! ```text
//!  schema as it was ─► mark ─► all rows in one transaction ─► newest schema ─► what is unknown since (`restored`), mark gone
//! ```
//!
//! On a server a schema cannot be changed in a transaction: the mark keeps a control plane from starting on a database
//! whose restore was cut short.

use super::dump::{Record, Value};
use super::error::Doing as _;
use super::row::sql;
use super::{Error, Store, schema};
use sqlx::{Any, AssertSqlSafe, Row as _, Transaction};

const DOING: &str = "restoring the database";

/// Tables whose rows nobody would miss are left out.
const OF_WORTH: &[&str] = &["agents", "migrations", "tokens", "target_profiles"];

/// A restore under way; dropped without [`finish`](Self::finish), no row was written.
pub struct Load {
    tx: Transaction<'static, Any>,
    schema: i64,
}

impl Store {
    /// Whether there is nothing in it that anybody would miss.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn is_empty(&self) -> Result<bool, Error> {
        let mut c = self.read.acquire().await.doing(DOING)?;
        let Ok(Some(version)) = schema::current(&mut c).await else { return Ok(true) };
        for table in schema::tables(version).into_iter().filter(|t| OF_WORTH.contains(t)) {
            let count = sqlx::query(AssertSqlSafe(format!("SELECT COUNT(*) FROM {table}")));
            let count: i64 = count.fetch_one(&mut *c).await.and_then(|row| row.try_get(0)).doing(DOING)?;
            if count > 0 {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Removes all that is there, makes the schema of that version, and waits for its rows.
    ///
    /// # Errors
    /// [`Error::Schema`], [`Error::Database`].
    pub async fn load(&self, version: i64) -> Result<Load, Error> {
        schema::down(&self.write, self.dialect, 0).await?;
        schema::up_to(&self.write, self.dialect, version).await?;
        let mark = "INSERT INTO counters (name, value) VALUES ('restoring', 1)";
        sql(mark).execute(&self.write).await.doing(DOING)?;
        let mut tx = self.write.begin_with(self.dialect.begin()).await.doing(DOING)?;
        for table in schema::tables(version).into_iter().rev() {
            // What the schema itself put there.
            let all = AssertSqlSafe(format!("DELETE FROM {table}"));
            sqlx::query(all).execute(&mut *tx).await.doing(DOING)?;
        }
        sql(mark).execute(&mut *tx).await.doing(DOING)?;
        Ok(Load { tx, schema: version })
    }

    /// # Errors
    /// [`Error::HalfRestored`], [`Error::Database`].
    pub async fn must_be_whole(&self) -> Result<(), Error> {
        let mark =
            sql("SELECT value FROM counters WHERE name = 'restoring'").fetch_optional(&self.read).await;
        match mark.doing("looking for a restore that was cut short")? {
            Some(_) => Err(Error::HalfRestored { url: self.shown.to_string() }),
            None => Ok(()),
        }
    }
}

impl Load {
    /// # Errors
    /// [`Error::BadRecord`], [`Error::Database`].
    pub async fn row(&mut self, record: &Record) -> Result<(), Error> {
        let Record { table, columns, values } = record;
        let plain =
            |name: &String| name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        let known = schema::tables(self.schema).contains(&table.as_str());
        if !known || columns.len() != values.len() || !columns.iter().all(plain) {
            return Err(Error::BadRecord { table: table.clone() });
        }
        let places = vec!["?"; columns.len()].join(", ");
        let text = format!("INSERT INTO {table} ({}) VALUES ({places})", columns.join(", "));
        let mut insert = sqlx::query(AssertSqlSafe(text));
        for value in values {
            insert = match value {
                Value::Null => insert.bind(None::<String>),
                Value::Int(value) => insert.bind(*value),
                Value::Double(value) => insert.bind(*value),
                Value::Text(value) => insert.bind(value.clone()),
                Value::Blob(value) => insert.bind(value.clone()),
            };
        }
        insert.execute(&mut *self.tx).await.doing(DOING)?;
        Ok(())
    }

    /// All rows are in.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn finish(self) -> Result<(), Error> {
        self.tx.commit().await.doing(DOING)
    }
}
