//! The control plane killed at every point at which its database is told something, through begin, sync, pause, sync,
//! sync and abort, and through test failover, live failover and their ways back: it goes on, no answer that was lost makes anything twice, and nothing is left without an owner.
//!
//! ```text
//! round N:  start with a knife at the N-th sync (or write, or COMMIT) ─► the operator's day ─► the knife falls
//!           start without ─► the request whose answer was lost, again ─► the rest of the day ─► the books are right
//! ```
//!
//! On SQLite the knife is strace's: a kill in place of the N-th fdatasync of the database (the data is written and nobody
//! was told), or of the N-th write to its log (a transaction is half there). On MariaDB it is on the wire: the N-th COMMIT
//! is not sent, or its answer does not come. On every day each test has its minute and N is a matter of chance;
//! `MIGRATEKIT_KILLS=200` (`make soak`) takes every N from 1 to the first that is never reached. A failure says its N;
//! `MIGRATEKIT_AT=N cargo test … survive::` repeats it.

mod books;
mod day;
mod drill;
mod knife;

use crate::findings::MIB;
use crate::live::Site;
use crate::seed::Seed;
use anyhow::Context as _;
use books::Books;
use drill::Drill;
use integration_tests::harness::{Options, World};
use integration_tests::mariadb::Server;
use knife::{CommitWire, Knife, Side};
use rand::Rng as _;
use std::time::{Duration, Instant};

/// Of each test, on every day.
const BUDGET: Duration = Duration::from_secs(50);

fn options() -> Options {
    // A full copy takes a second, and its first half is durable in its middle.
    let transfer = "connections = 1\nwindow = \"8MiB\"\nrate = \"12MiB\"\n".to_owned();
    Options { transfer, ..Options::live(&[("root", day::SIZE)]) }
}

fn number(name: &str) -> Option<u32> {
    std::env::var(name).ok()?.parse().ok()
}

/// What is lived through under a knife, again and again.
trait Days {
    /// So many points at which it falls are supposed, until it is known how many there are.
    const SUPPOSED: u32;

    /// Whether it fell.
    async fn live_through(&mut self, n: u32, round: u32) -> anyhow::Result<bool>;
}

struct Replication {
    world: World,
    books: Books,
    knife: Knife,
}

impl Days for Replication {
    const SUPPOSED: u32 = 80;

    async fn live_through(&mut self, n: u32, round: u32) -> anyhow::Result<bool> {
        day::live_through(&mut self.world, &self.books, &self.knife, n, round).await
    }
}

/// Rounds until the budget is spent, or for every N there is.
async fn rounds<D: Days>(mut days: D, name: &'static str) -> anyhow::Result<()> {
    let mut seed = Seed::new(61, name);
    let all = number("MIGRATEKIT_KILLS").is_some_and(|kills| kills > 40);
    let (begun, mut most, mut round, mut kills) = (Instant::now(), D::SUPPOSED, 0, 0);
    loop {
        round += 1;
        let n = match number("MIGRATEKIT_AT") {
            Some(n) => n,
            None if all => round,
            None => seed.random.random_range(1..=most),
        };
        let told = || format!("MIGRATEKIT_AT={n} {name}");
        let fell = days.live_through(n, round).await.with_context(told)?;
        kills += u32::from(fell);
        if !fell {
            most = most.min(n.max(2));
        }
        let enough = if all { !fell } else { begun.elapsed() > BUDGET };
        if enough || number("MIGRATEKIT_AT").is_some() {
            break;
        }
    }
    eprintln!("{name}: {kills} kills in {round} days, {} s", begun.elapsed().as_secs());
    anyhow::ensure!(kills > 0 || number("MIGRATEKIT_AT").is_some(), "no knife fell: nothing was tested");
    seed.survived();
    Ok(())
}

async fn on_sqlite(knife: impl Fn(&World) -> Knife, name: &'static str) -> anyhow::Result<()> {
    let world = World::start(&options()).await?;
    let (books, knife) = (Books::Sqlite(world.dir.join("oma.db")), knife(&world));
    rounds(Replication { world, books, knife }, name).await
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_a_sync_of_sqlite() -> anyhow::Result<()> {
    let name = "survive::killed_at_a_sync_of_sqlite";
    on_sqlite(|world| Knife::tracing(world, "fdatasync,fsync"), name).await
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_a_write_of_sqlite() -> anyhow::Result<()> {
    on_sqlite(|world| Knife::tracing(world, "write,pwrite64"), "survive::killed_at_a_write_of_sqlite").await
}

/// A database behind a wire, its address there, and where it is looked at past it.
async fn wired(side: Side) -> anyhow::Result<(Knife, String, Books)> {
    let server = Server::shared();
    let url = server.database()?;
    let database = url.rsplit('/').next().context("a name")?.to_owned();
    let wire = CommitWire::start(server.port(), side).await?;
    let url = url.replace(&format!(":{}/", server.port()), &format!(":{}/", wire.port()));
    Ok((Knife::Wire(wire), url, Books::MariaDb { server, database }))
}

async fn on_mariadb(side: Side, name: &'static str) -> anyhow::Result<()> {
    let (knife, url, books) = wired(side).await?;
    let world = World::start(&Options { database: Some(url), ..options() }).await?;
    rounds(Replication { world, books, knife }, name).await
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_before_a_commit_on_mariadb() -> anyhow::Result<()> {
    on_mariadb(Side::Before, "survive::killed_before_a_commit_on_mariadb").await
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_after_a_commit_on_mariadb() -> anyhow::Result<()> {
    on_mariadb(Side::After, "survive::killed_after_a_commit_on_mariadb").await
}

#[tokio::test(flavor = "multi_thread")]
async fn failovers_killed_at_a_sync_of_sqlite() -> anyhow::Result<()> {
    let Some(site) = Site::start(None).await? else { return Ok(()) };
    let books = Books::Sqlite(site.world.dir.join("oma.db"));
    let knife = Knife::tracing(&site.world, "fdatasync,fsync");
    rounds(Drill { site, books, knife, fell: false }, "survive::failovers_killed_at_a_sync_of_sqlite").await
}

async fn failovers_on_mariadb(side: Side, name: &'static str) -> anyhow::Result<()> {
    let (knife, url, books) = wired(side).await?;
    let Some(site) = Site::start(Some(url)).await? else { return Ok(()) };
    rounds(Drill { site, books, knife, fell: false }, name).await
}

#[tokio::test(flavor = "multi_thread")]
async fn failovers_killed_before_a_commit_on_mariadb() -> anyhow::Result<()> {
    failovers_on_mariadb(Side::Before, "survive::failovers_killed_before_a_commit_on_mariadb").await
}

#[tokio::test(flavor = "multi_thread")]
async fn failovers_killed_after_a_commit_on_mariadb() -> anyhow::Result<()> {
    failovers_on_mariadb(Side::After, "survive::failovers_killed_after_a_commit_on_mariadb").await
}

/// Bytes as the day's disk has them.
const fn mib(n: u64) -> u64 {
    n * MIB
}
