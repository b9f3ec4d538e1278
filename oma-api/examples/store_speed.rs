//! How fast a database is for the control plane: `cargo run --release -p oma-api --example store_speed -- URL`.
//!
//! Names an empty database: the example leaves an agent and its events in it. One commit is what a heartbeat costs (the
//! smallest transaction there is); four tasks at once show that writers queue and do not disturb each other.

use jiff::Timestamp;
use oma_api::store::{AgentHello, Store};
use shared::ids::AgentId;
use std::time::{Duration, Instant};

const FOR: Duration = Duration::from_secs(3);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let url = std::env::args().nth(1).ok_or_else(|| anyhow::anyhow!("name a database_url"))?;
    let mut last = Instant::now();
    let mut lap = |what: &str| {
        eprintln!("{what:<22} {:?}", last.elapsed());
        last = Instant::now();
    };
    let store = Store::connect(&url).await?;
    lap("connect");
    let _claim = store.claim().await?;
    lap("claim");
    store.migrate().await?;
    lap("schema");
    let agent = AgentId::parse("speed")?;
    let hello = AgentHello {
        id: agent.clone(),
        software_version: String::new(),
        protocol_version: 1,
        address: String::new(),
        session_id: "speed".to_owned(),
        inventory: vec![],
    };
    store.agent_connected(&hello, Timestamp::now()).await?;
    for tasks in [1, 4] {
        let end = Instant::now() + FOR;
        let task = |_| {
            let (store, agent) = (store.clone(), agent.clone());
            tokio::spawn(async move {
                let mut commits = 0_u32;
                while Instant::now() < end {
                    store.agents_seen(&[(agent.clone(), Timestamp::now())]).await?;
                    commits += 1;
                }
                anyhow::Ok(commits)
            })
        };
        let mut commits = 0;
        for task in (0..tasks).map(task).collect::<Vec<_>>() {
            commits += task.await??;
        }
        eprintln!("{tasks} at once              {:.0} commits/s", f64::from(commits) / FOR.as_secs_f64());
    }
    store.close().await;
    Ok(())
}
