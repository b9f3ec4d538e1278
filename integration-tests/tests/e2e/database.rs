//! The control plane on a MariaDB server: killed in the middle, and its server killed under it. Cycles go on, nothing is
//! lost, and while the database is away that is what everybody is told.

use crate::findings::{SOON, equal};
use crate::interrupted::{in_the_middle, job, small_window};
use anyhow::ensure;
use integration_tests::harness::{Daemon, Options, World, eventually};
use integration_tests::mariadb::Server;
use proto::v1;

async fn world_on(server: &Server) -> anyhow::Result<World> {
    World::start(&Options { database: Some(server.database()?), ..small_window() }).await
}

/// Everything the control plane has said since the world began.
fn log(world: &World) -> anyhow::Result<String> {
    Ok(std::fs::read_to_string(world.dir.join("oma.log"))?)
}

/// One commit more than before, of that cycle, and the replica is the disk.
async fn committed(world: &World, before: &v1::Migration, m: &v1::Migration) -> anyhow::Result<()> {
    ensure!(job(m) == job(before), "another cycle took its place: {m:?}");
    let of_it = m.restore_points.iter().filter(|p| p.job_id == job(m)).count();
    ensure!(of_it == 1, "{of_it} restore points of one cycle");
    equal(world, m).await
}

#[tokio::test(flavor = "multi_thread")]
async fn on_mariadb_a_killed_control_plane_goes_on_where_it_was() -> anyhow::Result<()> {
    let mut world = world_on(Server::shared()).await?;
    world.begin().await?;
    world.sync().await?;
    let cycle = in_the_middle(&mut world).await?;
    world.oma_restart(&[])?;
    let m = world.synced().await?;
    committed(&world, &cycle, &m).await?;

    // A second control plane with folders of its own does not get the database.
    let config = std::fs::read_to_string(world.dir.join("oma.toml"))?;
    let at = world.dir.display().to_string();
    let config = config
        .replace(&format!("\"{at}/oma\""), &format!("\"{at}/oma-2\""))
        .replace(&format!("\"{at}/replicas\""), &format!("\"{at}/replicas-2\""))
        .replace(&world.address.replace("localhost", "127.0.0.1"), "127.0.0.1:0")
        .replace(&world.rest.replace("localhost", "127.0.0.1"), "127.0.0.1:0");
    let file = world.dir.join("second.toml");
    std::fs::write(&file, config)?;
    let mut second = Daemon::start("oma-api", &file, &world.dir.join("second.log"), &[])?;
    second.wait_for("is used by another oma-api that still runs", SOON)?;
    eventually("the end of the second", SOON, || {
        let ended = !second.is_running();
        async move { Ok(ended.then_some(())) }
    })
    .await?;
    let m = world.sync().await?;
    equal(&world, &m).await?;
    let said = log(&world)? + &std::fs::read_to_string(world.dir.join("second.log"))?;
    ensure!(!said.contains("p@ss") && !said.contains("p%40ss"), "the password is in the log");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_server_that_dies_under_a_cycle_is_waited_for() -> anyhow::Result<()> {
    let mut server = Server::start(&[])?;
    let mut world = world_on(&server).await?;
    world.begin().await?;
    world.sync().await?;
    let cycle = in_the_middle(&mut world).await?;
    server.kill()?;
    let said = eventually("a clear word", SOON, || async {
        Ok(world.get().await.err().map(|e| format!("{e:#}")).filter(|e| e.contains("does not answer")))
    })
    .await?;
    ensure!(said.contains("see that its server runs"), "{said}");
    ensure!(world.oma.is_running() && world.agent.is_running(), "somebody gave up");
    server.restart()?;
    let m = world.synced().await?;
    committed(&world, &cycle, &m).await?;
    // The claim is held again: the next program is refused, this one is not.
    eventually("the claim", SOON, || async {
        Ok(log(&world)?.contains("the claim on the database is held again").then_some(()))
    })
    .await?;
    let m = world.sync().await?;
    equal(&world, &m).await
}
