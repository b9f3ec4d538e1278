//! The whole database as of one moment, row by row, for a backup. In no database's own words: what one was taken of, the
//! other can be made of.

use super::dialect::{Dialect, Role};
use super::error::Doing as _;
use super::url::Location;
use super::{CONNECT_TIMEOUT, Error, schema, set_up, url};
use futures::TryStreamExt as _;
use serde::{Deserialize, Serialize};
use sqlx::any::{AnyConnectOptions, AnyRow, AnyTypeInfoKind};
use sqlx::{AnyConnection, AssertSqlSafe, Column as _, Connection as _, Row as _, ValueRef as _};
use std::collections::BTreeSet;
use std::path::Path;
use std::str::FromStr as _;

const DOING: &str = "reading the database for a backup";

/// The version of the schema that brought that table.
const RETIRED_DISKS: i64 = 12;

/// What stands in a column.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Value {
    Null,
    Int(i64),
    Double(f64),
    Text(String),
    Blob(Vec<u8>),
}

/// A row of a table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    pub table: String,
    pub columns: Vec<String>,
    pub values: Vec<Value>,
}

/// The database as it was when this was made, whatever is written since. Other writers are not held up.
#[derive(Debug)]
pub struct Moment {
    connection: AnyConnection,
    schema: i64,
}

impl Moment {
    /// Connects, and changes nothing. A control plane may be at work there.
    ///
    /// # Errors
    /// [`Error::Url`], [`Error::Connect`]; [`Error::NoDatabase`] where none was made yet.
    pub async fn of(database_url: &str) -> Result<Self, Error> {
        sqlx::any::install_default_drivers();
        let (dialect, url, shown) = match url::parse(database_url)? {
            // The driver would make it.
            Location::Sqlite(file) if !Path::new(&file.shown).exists() => {
                return Err(Error::NoDatabase { url: file.shown });
            }
            Location::Sqlite(file) => (Dialect::Sqlite, file.url, file.shown),
            Location::MariaDb(server) => (Dialect::MariaDb, server.url, server.shown),
        };
        let failed = |source| Error::Connect { url: shown.clone(), source };
        let options = AnyConnectOptions::from_str(&url).map_err(failed)?;
        let opened = tokio::time::timeout(CONNECT_TIMEOUT, AnyConnection::connect_with(&options)).await;
        let mut connection = opened.unwrap_or(Err(sqlx::Error::PoolTimedOut)).map_err(failed)?;
        set_up(&mut connection, dialect, Role::Reader).await.map_err(failed)?;
        let begin = match dialect {
            // The first read, which follows, is the moment.
            Dialect::Sqlite => "BEGIN",
            Dialect::MariaDb => "START TRANSACTION WITH CONSISTENT SNAPSHOT",
        };
        sqlx::raw_sql(begin).execute(&mut connection).await.doing(DOING)?;
        match schema::current(&mut connection).await {
            Ok(Some(schema)) => Ok(Self { connection, schema }),
            Ok(None) | Err(_) => Err(Error::NoDatabase { url: shown }),
        }
    }

    /// The version of its schema.
    pub fn schema(&self) -> i64 {
        self.schema
    }

    /// File names of all manifests that it refers to.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn manifests(&mut self) -> Result<BTreeSet<String>, Error> {
        macro_rules! named {
            ($but:literal) => {
                concat!(
                    "SELECT manifest_file FROM disks WHERE manifest_file IS NOT NULL AND migration_id IN \
                     (SELECT id FROM migrations WHERE unfinished_vm IS NOT NULL)",
                    $but,
                    " UNION SELECT manifest_file FROM restore_point_disks"
                )
            };
        }
        // A disk that was retired has its row for ever; its manifest goes with its volume.
        let statement = match self.schema < RETIRED_DISKS {
            true => named!(""),
            false => {
                named!(" AND id NOT IN (SELECT disk_id FROM retired_disks WHERE volume_gone = 1)")
            }
        };
        let rows = super::row::sql(statement).fetch_all(&mut self.connection).await.doing(DOING)?;
        rows.iter().map(|row| row.try_get(0).doing(DOING)).collect()
    }

    /// Gives every row of every table to `take`, each table after those it refers to, until `take` fails.
    ///
    /// # Errors
    /// [`Error::Database`]; within, what `take` said.
    pub async fn rows<E>(
        mut self,
        mut take: impl FnMut(Record) -> Result<(), E>,
    ) -> Result<Result<(), E>, Error> {
        for table in schema::tables(self.schema) {
            let query = sqlx::query(AssertSqlSafe(format!("SELECT * FROM {table}")));
            let mut rows = query.fetch(&mut self.connection);
            while let Some(row) = rows.try_next().await.doing(DOING)? {
                if let Err(error) = take(record(table, &row).doing(DOING)?) {
                    return Ok(Err(error));
                }
            }
        }
        Ok(Ok(()))
    }
}

fn record(table: &str, row: &AnyRow) -> Result<Record, sqlx::Error> {
    let columns = row.columns().iter().map(|column| column.name().to_owned()).collect();
    let values = (0..row.len()).map(|at| value(row, at)).collect::<Result<_, _>>()?;
    Ok(Record { table: table.to_owned(), columns, values })
}

fn value(row: &AnyRow, at: usize) -> Result<Value, sqlx::Error> {
    let kind = row.try_get_raw(at)?.type_info().kind();
    Ok(match kind {
        AnyTypeInfoKind::Null => Value::Null,
        AnyTypeInfoKind::Bool => Value::Int(i64::from(row.try_get::<bool, _>(at)?)),
        AnyTypeInfoKind::SmallInt | AnyTypeInfoKind::Integer | AnyTypeInfoKind::BigInt => {
            Value::Int(row.try_get(at)?)
        }
        AnyTypeInfoKind::Real | AnyTypeInfoKind::Double => Value::Double(row.try_get(at)?),
        AnyTypeInfoKind::Text => Value::Text(row.try_get(at)?),
        AnyTypeInfoKind::Blob => Value::Blob(row.try_get(at)?),
    })
}
