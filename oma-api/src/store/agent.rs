//! `agents` and `agent_vms`: who has connected, and what it offers.

use super::error::Doing as _;
use super::row::{Row, int, sql, time};
use super::{Error, Store, Write};
use jiff::Timestamp;
use serde_json::json;
use shared::cycle::{Vm, VmDisk};
use shared::ids::AgentId;
use shared::vm::Configuration;
use sqlx::any::AnyRow;
use std::collections::HashMap;

/// A row of `agents` with its VMs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agent {
    pub id: AgentId,
    pub software_version: String,
    pub protocol_version: u32,
    /// Of the peer, as `192.0.2.7:40312`.
    pub address: String,
    /// As of the last word of a session; a crash of this daemon leaves it set until [`Store::agent_disconnect_all`].
    pub connected: bool,
    pub first_seen_at: Timestamp,
    pub last_seen_at: Timestamp,
    /// In the agent's order.
    pub inventory: Vec<Vm>,
}

/// A session that begins.
#[derive(Clone, Debug)]
pub struct AgentHello {
    pub id: AgentId,
    pub software_version: String,
    /// The negotiated one.
    pub protocol_version: u32,
    pub address: String,
    /// Unique; what [`Store::agent_disconnected`] must name.
    pub session_id: String,
    pub inventory: Vec<Vm>,
}

#[derive(serde::Serialize, serde::Deserialize)]
struct StoredDisk {
    key: String,
    size_bytes: u64,
}

const AGENTS: &str = "SELECT id, software_version, protocol_version, address, connected, first_seen_at, \
     last_seen_at FROM agents ORDER BY id";
const VMS: &str =
    "SELECT agent_id, vm_uuid, name, disks, configuration FROM agent_vms ORDER BY agent_id, position";
const CALLED: &str = "SELECT agent_id, vm_uuid, name, disks, configuration FROM agent_vms WHERE vm_uuid = ? OR name = ? \
     ORDER BY agent_id, position";

impl Store {
    /// A session begins: stores who it is, that it is connected, and its inventory whole.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn agent_connected(&self, hello: &AgentHello, now: Timestamp) -> Result<(), Error> {
        self.write(|mut w| async move {
            let known = sql(
                "UPDATE agents SET software_version = ?, protocol_version = ?, address = ?, connected = 1, \
             session_id = ?, last_seen_at = ? WHERE id = ?",
            )
            .bind(hello.software_version.as_str())
            .bind(i64::from(hello.protocol_version))
            .bind(hello.address.as_str())
            .bind(hello.session_id.as_str())
            .bind(time(now))
            .bind(hello.id.as_str())
            .execute(&mut *w.tx)
            .await
            .doing("storing an agent")?;
            if known.rows_affected() == 0 {
                sql(
                "INSERT INTO agents (id, software_version, protocol_version, address, connected, session_id, \
                 first_seen_at, last_seen_at) VALUES (?, ?, ?, ?, 1, ?, ?, ?)",
            )
            .bind(hello.id.as_str())
            .bind(hello.software_version.as_str())
            .bind(i64::from(hello.protocol_version))
            .bind(hello.address.as_str())
            .bind(hello.session_id.as_str())
            .bind(time(now))
            .bind(time(now))
            .execute(&mut *w.tx)
            .await
            .doing("storing an agent")?;
            }
            w.inventory_replace(&hello.id, &hello.inventory).await?;
            w.agent_event(&hello.id, "agent_connected", now).await?;
            w.commit().await
        })
        .await
    }

    /// Stores a new inventory, whole.
    ///
    /// # Errors
    /// [`Error::AgentUnknown`], [`Error::Database`].
    pub async fn agent_inventory_set(&self, id: &AgentId, vms: &[Vm], now: Timestamp) -> Result<(), Error> {
        self.write(|mut w| async move {
            w.agent_touch(id, now).await?;
            w.inventory_replace(id, vms).await?;
            w.agent_event(id, "agent_inventory_changed", now).await?;
            w.commit().await
        })
        .await
    }

    /// When agents were last heard of; no event. One that is not known is passed over.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn agents_seen(&self, seen: &[(AgentId, Timestamp)]) -> Result<(), Error> {
        if seen.is_empty() {
            return Ok(());
        }
        self.write(|mut w| async move {
            for (id, at) in seen {
                sql("UPDATE agents SET last_seen_at = ? WHERE id = ?")
                    .bind(time(*at))
                    .bind(id.as_str())
                    .execute(&mut *w.tx)
                    .await
                    .doing("storing an agent")?;
            }
            w.commit().await
        })
        .await
    }

    /// A session ended. One that a newer session has replaced changes nothing.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn agent_disconnected(
        &self,
        id: &AgentId,
        session_id: &str,
        now: Timestamp,
    ) -> Result<(), Error> {
        self.write(|mut w| async move {
            let done =
                sql("UPDATE agents SET connected = 0 WHERE id = ? AND session_id = ? AND connected = 1")
                    .bind(id.as_str())
                    .bind(session_id)
                    .execute(&mut *w.tx)
                    .await
                    .doing("storing an agent")?;
            if done.rows_affected() > 0 {
                w.agent_event(id, "agent_disconnected", now).await?;
            }
            w.commit().await
        })
        .await
    }

    /// At the start of the daemon nobody is connected.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn agent_disconnect_all(&self) -> Result<(), Error> {
        self.write(|mut w| async move {
            sql("UPDATE agents SET connected = 0").execute(&mut *w.tx).await.doing("storing agents")?;
            w.commit().await
        })
        .await
    }

    /// # Errors
    /// [`Error::AgentUnknown`], [`Error::Corrupt`], [`Error::Database`].
    pub async fn agent_fetch(&self, id: &AgentId) -> Result<Agent, Error> {
        let all = self.agent_list().await?;
        all.into_iter().find(|a| a.id == *id).ok_or_else(|| Error::AgentUnknown { agent: id.clone() })
    }

    /// By id.
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Database`].
    pub async fn agent_list(&self) -> Result<Vec<Agent>, Error> {
        self.reading(|| async {
            let mut c = self.read.begin().await.doing("listing agents")?;
            let rows = sql(AGENTS).fetch_all(&mut *c).await.doing("listing agents")?;
            let vms = sql(VMS).fetch_all(&mut *c).await.doing("listing the agents' VMs")?;
            let mut inventories: HashMap<AgentId, Vec<Vm>> = HashMap::new();
            for row in &vms {
                let (agent, vm) = vm_of(row)?;
                inventories.entry(agent).or_default().push(vm);
            }
            let mut agents = Vec::with_capacity(rows.len());
            for row in &rows {
                let row = Row::new(row, "agents", "id")?;
                let id: AgentId = row.parsed("id")?;
                let version = row.count("protocol_version")?;
                agents.push(Agent {
                    software_version: row.text("software_version")?,
                    protocol_version: u32::try_from(version)
                        .map_err(|e| row.corrupt("protocol_version", e))?,
                    address: row.text("address")?,
                    connected: row.flag("connected")?,
                    first_seen_at: row.time("first_seen_at")?,
                    last_seen_at: row.time("last_seen_at")?,
                    inventory: inventories.remove(&id).unwrap_or_default(),
                    id,
                });
            }
            Ok(agents)
        })
        .await
    }

    /// The VMs of this uuid or name, with the agents that offer them, in the agents' order.
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Database`].
    pub async fn vms_called(&self, asked: &str) -> Result<Vec<(AgentId, Vm)>, Error> {
        self.reading(|| async {
            let rows = sql(CALLED).bind(asked).bind(asked).fetch_all(&self.read).await;
            rows.doing("looking for a VM")?.iter().map(vm_of).collect()
        })
        .await
    }
}

impl Write {
    async fn agent_touch(&mut self, id: &AgentId, now: Timestamp) -> Result<(), Error> {
        let done = sql("UPDATE agents SET last_seen_at = ? WHERE id = ?")
            .bind(time(now))
            .bind(id.as_str())
            .execute(&mut *self.tx)
            .await
            .doing("storing an agent")?;
        if done.rows_affected() == 0 {
            return Err(Error::AgentUnknown { agent: id.clone() });
        }
        Ok(())
    }

    async fn inventory_replace(&mut self, id: &AgentId, vms: &[Vm]) -> Result<(), Error> {
        sql("DELETE FROM agent_vms WHERE agent_id = ?")
            .bind(id.as_str())
            .execute(&mut *self.tx)
            .await
            .doing("storing an inventory")?;
        for (position, vm) in (0i64..).zip(vms) {
            let disks: Vec<_> = vm
                .disks
                .iter()
                .map(|d| {
                    Ok(StoredDisk {
                        key: d.key.to_string(),
                        size_bytes: int("a disk's size", d.size).map(|_| d.size)?,
                    })
                })
                .collect::<Result<_, Error>>()?;
            sql("INSERT INTO agent_vms (agent_id, position, vm_uuid, name, disks, configuration) \
             VALUES (?, ?, ?, ?, ?, ?)")
            .bind(id.as_str())
            .bind(position)
            .bind(vm.uuid.as_str())
            .bind(vm.name.as_str())
            .bind(serde_json::to_string(&disks).expect("strings and numbers have a JSON form"))
            .bind(vm.configuration.as_ref().map(Configuration::to_json))
            .execute(&mut *self.tx)
            .await
            .doing("storing an inventory")?;
        }
        Ok(())
    }

    async fn agent_event(&mut self, id: &AgentId, kind: &'static str, now: Timestamp) -> Result<(), Error> {
        self.event(now, None, None, kind, json!({ "agent_id": id.as_str() })).await
    }
}

fn vm_of(row: &AnyRow) -> Result<(AgentId, Vm), Error> {
    let row = Row::new(row, "agent_vms", "agent_id")?;
    let disks: Vec<StoredDisk> =
        serde_json::from_str(&row.text("disks")?).map_err(|e| row.corrupt("disks", e))?;
    let disk = |d: StoredDisk| {
        Ok(VmDisk { key: d.key.parse().map_err(|e| row.corrupt("disks", e))?, size: d.size_bytes })
    };
    let vm = Vm {
        uuid: row.parsed("vm_uuid")?,
        name: row.text("name")?,
        disks: disks.into_iter().map(disk).collect::<Result<_, Error>>()?,
        configuration: row.configuration("configuration")?,
    };
    Ok((row.parsed("agent_id")?, vm))
}
