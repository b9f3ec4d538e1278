//! What database and folders say of a migration, looked at past the control plane.

use anyhow::{Context as _, ensure};
use integration_tests::harness::World;
use integration_tests::mariadb::Server;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where they are kept.
pub(super) enum Books {
    Sqlite(PathBuf),
    MariaDb { server: &'static Server, database: String },
}

impl Books {
    /// The lines of a query of one column.
    fn lines(&self, query: &str) -> anyhow::Result<Vec<String>> {
        let text = match self {
            Self::Sqlite(file) => {
                let said = Command::new("sqlite3")
                    .args(["-readonly", "-cmd", ".timeout 10000"])
                    .arg(file)
                    .arg(query)
                    .output()?;
                ensure!(said.status.success(), "{query}: {}", String::from_utf8_lossy(&said.stderr));
                String::from_utf8(said.stdout)?
            }
            Self::MariaDb { server, database } => server.sql(database, query)?,
        };
        Ok(text.lines().map(str::to_owned).collect())
    }

    fn number(&self, query: &str) -> anyhow::Result<u64> {
        let lines = self.lines(query)?;
        let [one] = lines.as_slice() else { anyhow::bail!("{query}: {lines:?}") };
        one.parse().with_context(|| format!("{query}: {one}"))
    }

    fn hold(&self, what: &str, query: &str, expected: u64) -> anyhow::Result<()> {
        let found = self.number(query)?;
        ensure!(found == expected, "{what}: {found}, and not {expected} ({query})");
        Ok(())
    }

    /// Nothing twice, and every event has its number: at any time.
    fn sound(&self) -> anyhow::Result<()> {
        let twice = "SELECT COUNT(*) FROM (SELECT migration_id FROM migration_history WHERE finished_at IS NULL \
                     GROUP BY migration_id HAVING COUNT(*) > 1) t";
        self.hold("migrations with two open runs", twice, 0)?;
        let of_none = "SELECT COUNT(*) FROM migration_history h JOIN migrations m ON m.id = h.migration_id \
                       WHERE h.finished_at IS NULL AND m.state <> 'running'";
        self.hold("open runs of a migration that does not run", of_none, 0)?;
        let running =
            "SELECT COUNT(*) FROM replication_jobs WHERE active_migration IS NULL AND finished_at IS NULL";
        self.hold("cycles that ended without an end", running, 0)?;
        let newest = "SELECT value - (SELECT COUNT(*) FROM events) - (SELECT COALESCE(MIN(seq), 1) - 1 FROM events) \
                      FROM counters WHERE name = 'events'";
        self.hold("events that are missing or counted twice", newest, 0)
    }

    /// A migration between two cycles: so many commits, of so many cycles, and no file but theirs.
    pub(super) fn at_rest(&self, world: &World, id: &str, commits: u64) -> anyhow::Result<()> {
        self.sound()?;
        self.hold(
            "cycles",
            &format!("SELECT COUNT(*) FROM replication_jobs WHERE migration_id = '{id}'"),
            commits,
        )?;
        self.hold(
            "running cycles",
            "SELECT COUNT(*) FROM replication_jobs WHERE active_migration IS NOT NULL",
            0,
        )?;
        let commit = format!(
            "SELECT COUNT(*) FROM events WHERE migration_id = '{id}' AND kind = 'cycle_changed' AND body LIKE '%completed%'"
        );
        self.hold("events of commits", &commit, commits)?;
        let volumes = self.lines("SELECT d.volume FROM disks d JOIN migrations m ON m.id = d.migration_id WHERE m.unfinished_vm IS NOT NULL")?;
        same(
            "volumes",
            &files(&world.dir.join("replicas/volumes"))?,
            volumes.iter().map(|v| format!("{v}.img")),
        )?;
        let snapshots = self.lines("SELECT snapshot_name FROM restore_points")?;
        same("snapshots", &files(&world.dir.join("replicas/snapshots"))?, snapshots.into_iter())?;
        let manifests = self.lines("SELECT manifest_file FROM restore_point_disks UNION SELECT d.manifest_file FROM disks d \
                                    JOIN migrations m ON m.id = d.migration_id WHERE m.unfinished_vm IS NOT NULL")?;
        same("manifests", &files(&world.dir.join("oma/manifests"))?, manifests.into_iter())
    }

    /// A migration that is history: what it went through, once each, and nothing that it owned.
    pub(super) fn closed(&self, id: &str, runs: &[&str], migrations: u64) -> anyhow::Result<()> {
        self.sound()?;
        self.hold("migrations", "SELECT COUNT(*) FROM migrations", migrations)?;
        self.hold("unfinished ones", "SELECT COUNT(*) FROM migrations WHERE unfinished_vm IS NOT NULL", 0)?;
        let history = self.lines(&format!(
            "SELECT phase FROM migration_history WHERE migration_id = '{id}' ORDER BY number"
        ))?;
        ensure!(history == runs, "it went through {history:?}, and not {runs:?}");
        for what in ["restore_points", "schedules", "system_pauses"] {
            self.hold(what, &format!("SELECT COUNT(*) FROM {what} WHERE migration_id = '{id}'"), 0)?;
        }
        self.hold("disks of restore points", "SELECT COUNT(*) FROM restore_point_disks", 0)
    }

    /// So many tests and live failovers, and all of their workflows went well in the end.
    pub(super) fn drilled(&self, of_each: u64, jobs: u64) -> anyhow::Result<()> {
        self.sound()?;
        for kind in ["test", "live"] {
            self.hold(kind, &format!("SELECT COUNT(*) FROM failovers WHERE job_type = '{kind}'"), of_each)?;
        }
        self.hold("workflows", "SELECT COUNT(*) FROM workflow_jobs WHERE state = 'succeeded'", jobs)?;
        self.hold("other workflows", "SELECT COUNT(*) FROM workflow_jobs WHERE state <> 'succeeded'", 0)?;
        self.hold(
            "migrations that are not replicated",
            "SELECT COUNT(*) FROM migrations WHERE phase <> 'sync'",
            0,
        )
    }

    /// Keys of a migration's actions.
    pub(super) fn attempts(&self, id: &str) -> anyhow::Result<u64> {
        self.number(&format!("SELECT COUNT(*) FROM attempts WHERE migration_id = '{id}'"))
    }
}

fn files(folder: &Path) -> anyhow::Result<BTreeSet<String>> {
    let names = std::fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    names.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
}

fn same(what: &str, there: &BTreeSet<String>, owned: impl Iterator<Item = String>) -> anyhow::Result<()> {
    let owned: BTreeSet<_> = owned.collect();
    ensure!(*there == owned, "{what}: there are {there:?}, and owned {owned:?}");
    Ok(())
}
