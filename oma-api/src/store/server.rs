//! Whether a MariaDB or MySQL server keeps what it confirms: looked at once, when the database is opened.

use super::Error;
use sqlx::{AnyConnection, Row as _};
use std::collections::HashMap;
use tracing::warn;

/// What the store has to know of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Facts {
    /// One of a Galera cluster: what was committed through one node need not be there yet on another.
    pub(super) galera: bool,
}

/// Names as text in the list of `SHOW VARIABLES`, which MariaDB and MySQL have alike.
const LOOK: &str = "SHOW VARIABLES WHERE Variable_name IN ('version', 'innodb_flush_log_at_trx_commit', \
     'max_allowed_packet', 'log_bin', 'sync_binlog', 'wsrep_on', 'read_only')";

/// The longest row is an inventory or a list of findings; a checkpoint is at most 60 KiB.
const LEAST_PACKET: u64 = 1 << 20;

/// Asks the server, warns of what may lose data, refuses what will.
pub(super) async fn look(connection: &mut AnyConnection, shown: &str) -> Result<Facts, Error> {
    let failed = |source| Error::Connect { url: shown.to_owned(), source };
    let rows = sqlx::query(LOOK).fetch_all(connection).await.map_err(failed)?;
    let mut variables = HashMap::new();
    for row in &rows {
        let pair = row.try_get::<String, _>(0).and_then(|name| Ok((name, row.try_get::<String, _>(1)?)));
        variables.extend([pair.map_err(failed)?]);
    }
    match judge(&variables) {
        Ok((facts, warnings)) => {
            for warning in warnings {
                warn!(database = shown, "{warning}");
            }
            Ok(facts)
        }
        Err(why) => Err(Error::Server { url: shown.to_owned(), why }),
    }
}

fn judge(variables: &HashMap<String, String>) -> Result<(Facts, Vec<&'static str>), String> {
    let of = |name: &str| variables.get(name).map_or("", String::as_str);
    let on = |name: &str| matches!(of(name).to_ascii_uppercase().as_str(), "ON" | "1");
    let version = of("version");
    let least = if version.contains("MariaDB") { (10, 6) } else { (8, 0) };
    if numbers(version).is_none_or(|version| version < least) {
        return Err(format!("its version is {version}; it has to be MariaDB 10.6 or MySQL 8.0, or newer"));
    }
    let mut warnings = Vec::new();
    match of("innodb_flush_log_at_trx_commit") {
        "1" => {}
        "0" => {
            return Err("innodb_flush_log_at_trx_commit is 0, so that a crash of the server takes back up to a \
                        second of what it had confirmed, and disks would be called copied that are not; \
                        set it to 1 in the server's configuration, and with SET GLOBAL"
                .to_owned());
        }
        _ => warnings.push(
            "innodb_flush_log_at_trx_commit is not 1: a power cut at the database server takes back what it had \
             confirmed, and replicas may then be called consistent that are not; set it to 1",
        ),
    }
    if on("log_bin") && of("sync_binlog") != "1" {
        warnings.push(
            "sync_binlog is not 1 while the binary log is on: after a power cut the server takes back transactions \
             that its binary log lacks; set it to 1",
        );
    }
    if on("read_only") {
        return Err(
            "it is read-only (a replica of another server?); name the one that is written to".to_owned()
        );
    }
    match of("max_allowed_packet").parse::<u64>() {
        Ok(bytes) if bytes < LEAST_PACKET => {
            return Err(format!(
                "max_allowed_packet is {bytes}; set it to 1048576 or more (16777216 is usual)"
            ));
        }
        Ok(_) | Err(_) => {}
    }
    Ok((Facts { galera: on("wsrep_on") }, warnings))
}

/// `10.11.19-MariaDB-0+deb12u1` → 10, 11.
fn numbers(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((parts.next()?.ok()?, parts.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(changes: &[(&str, &str)]) -> Result<(Facts, Vec<&'static str>), String> {
        let mut variables: HashMap<String, String> = [
            ("version", "10.11.19-MariaDB-0+deb12u1"),
            ("innodb_flush_log_at_trx_commit", "1"),
            ("max_allowed_packet", "16777216"),
            ("log_bin", "OFF"),
            ("sync_binlog", "0"),
            ("read_only", "OFF"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
        variables.extend(changes.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())));
        judge(&variables)
    }

    #[test]
    fn a_server_that_keeps_its_word_is_taken() {
        assert_eq!(with(&[]), Ok((Facts { galera: false }, vec![])));
        assert_eq!(with(&[("version", "8.0.36")]), Ok((Facts { galera: false }, vec![])));
        assert_eq!(with(&[("wsrep_on", "ON")]), Ok((Facts { galera: true }, vec![])));
    }

    #[test]
    fn one_that_forgets_is_refused_and_one_that_may_is_warned_of() {
        for (name, value, word) in [
            ("innodb_flush_log_at_trx_commit", "0", "set it to 1"),
            ("version", "10.5.23-MariaDB", "10.6"),
            ("version", "5.7.44", "8.0"),
            ("version", "", "10.6"),
            ("max_allowed_packet", "1024", "1048576"),
            ("read_only", "ON", "read-only"),
        ] {
            let refused = with(&[(name, value)]).expect_err(name);
            assert!(refused.contains(word), "{refused}");
        }
        for changes in [&[("innodb_flush_log_at_trx_commit", "2")][..], &[("log_bin", "ON")]] {
            assert_eq!(with(changes).expect("taken").1.len(), 1, "{changes:?}");
        }
        assert_eq!(with(&[("log_bin", "ON"), ("sync_binlog", "1")]).expect("taken").1, [] as [&str; 0]);
    }
}
