//! A database as a year of use leaves it, made by SQL: through the control plane itself it would take hours.

use crate::harness::World;
use anyhow::Context as _;
use shared::vm::Configuration;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;

/// How much of everything there is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Year {
    pub(crate) migrations: usize,
    pub(crate) agents: usize,
    /// Of each migration, all committed.
    pub(crate) cycles: usize,
    pub(crate) events: usize,
}

impl Year {
    /// Those of the floors.
    pub(crate) const FULL: Self = Self { migrations: 10_000, agents: 1000, cycles: 12, events: 500_000 };
    /// To see whether it runs.
    pub(crate) const QUICK: Self = Self { migrations: 500, agents: 100, cycles: 4, events: 5000 };

    /// For people.
    pub(super) fn shown(&self) -> String {
        let (migrations, jobs) = (self.migrations, self.migrations * self.cycles);
        format!(
            "{migrations} migrations (a fifth of them history, {} with schedules), {} disks, {jobs} cycles with {} rows of \
             disks, {} restore points, {} runs in histories, {} events, {} agents",
            migrations * 2 / 5,
            migrations * 2,
            jobs * 2,
            migrations * 8 / 5,
            jobs + migrations,
            self.events,
            self.agents
        )
    }

    /// The uuid of a VM.
    pub(super) fn vm(number: usize) -> String {
        format!("564d1d3a-0000-4000-9000-{number:012x}")
    }

    /// The name of an agent.
    pub(super) fn agent(number: usize) -> String {
        format!("crowd-{number:04}")
    }

    /// The control plane ends meanwhile, and is not started again.
    pub(super) fn fill(&self, world: &mut World) -> anyhow::Result<()> {
        world.oma.stop(Duration::from_secs(20))?;
        let words = [
            ("$MIGRATIONS", self.migrations.to_string()),
            ("$AGENTS", self.agents.to_string()),
            ("$CYCLES", self.cycles.to_string()),
            ("$EVENTS", self.events.to_string()),
            ("$CONFIGURATION", configuration().replace('\'', "''")),
        ];
        let script =
            words.iter().fold(include_str!("year.sql").to_owned(), |s, (word, by)| s.replace(word, by));
        let mut sqlite = Command::new("sqlite3")
            .args(["-bail", "-batch"])
            .arg(world.dir.join("oma.db"))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .context("sqlite3 cannot be started: deploy/install-deps.sh test installs it")?;
        sqlite.stdin.take().context("no pipe")?.write_all(script.as_bytes())?;
        let ended = sqlite.wait()?;
        anyhow::ensure!(ended.success(), "sqlite3 ended with {ended}");
        Ok(())
    }
}

/// Of a usual VM.
fn configuration() -> String {
    Configuration {
        cpus: Some(4),
        cores_per_socket: Some(2),
        memory_bytes: Some(16 << 30),
        guest_id: Some("debian12_64Guest".to_owned()),
        guest_name: Some("Debian GNU/Linux 12 (64-bit)".to_owned()),
        tags: vec!["tier=web".to_owned(), "owner=shop".to_owned()],
        notes: Some(
            "A note such as operators write: whom to call, what runs here, when it may stop. ".repeat(4),
        ),
        change_tracking: Some(true),
        ..Configuration::default()
    }
    .to_json()
}
