//! Against a zone of both simulators, whose LINSTOR really keeps bytes and whose plug-in takes and makes volumes as the real one.

mod life;
mod traps;

use super::*;
use crate::compute::{Bus, Firmware, Isolation, Nic, State};
use crate::storage::{SnapshotName, Storage as _};
use bytes::Bytes;
use integration_tests::zone::Zone;
use std::os::unix::fs::FileExt as _;
use uuid::Uuid;

pub(super) const GIB: u64 = 1 << 30;
const MIB: u64 = 1 << 20;

pub(super) struct Rig {
    pub(super) zone: Zone,
    pub(super) storage: Arc<LinstorStorage>,
    pub(super) compute: Arc<CloudStackCompute>,
    _dir: tempfile::TempDir,
}

impl Rig {
    pub(super) async fn start() -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        let zone = Zone::start(dir.path()).await?;
        let (storage, compute) = crate::testing::on_zone(&zone);
        Ok(Self { zone, storage, compute, _dir: dir })
    }

    /// The clone of a replica that holds that byte.
    pub(super) async fn clone(&self, fill: u8) -> anyhow::Result<VolumeId> {
        let replica = VolumeId::parse(format!("mk-{}", Uuid::new_v4()))?;
        let clone = VolumeId::parse(format!("cs-{}", Uuid::new_v4()))?;
        let point = SnapshotName::parse("rp-1")?;
        self.storage.create(&replica, GIB).await?;
        let target = self.storage.open(&replica).await?;
        tokio::task::spawn_blocking(move || {
            target.write_at(MIB, &[Bytes::from(vec![fill; 4096])])?;
            target.flush()
        })
        .await??;
        self.storage.snapshot(std::slice::from_ref(&replica), &point).await?;
        self.storage.clone_snapshot(&point, &replica, &clone).await?;
        Ok(clone)
    }

    pub(super) async fn byte(&self, volume: &VolumeId) -> anyhow::Result<u8> {
        let (file, mut byte) = (std::fs::File::open(self.storage.path(volume).await?)?, [0; 1]);
        file.read_exact_at(&mut byte, MIB)?;
        Ok(byte[0])
    }

    /// Defined, without a disk.
    pub(super) async fn bare(&self, name: &MachineName) -> anyhow::Result<()> {
        self.compute.define(name, &machine(name)).await?;
        for surplus in self.compute.surplus(name).await? {
            self.compute.shed(name, &surplus).await?;
        }
        Ok(())
    }

    /// Defined, with those disks.
    pub(super) async fn with_disks(&self, name: &MachineName, disks: &[VolumeId]) -> anyhow::Result<()> {
        self.bare(name).await?;
        for (position, disk) in disks.iter().enumerate() {
            self.compute.adopt(name, position, disk, Guard::Deletable).await?;
            self.compute.attach(name, position, disk).await?;
        }
        Ok(())
    }

    /// What CloudStack was asked since the start, but for questions.
    pub(super) async fn changes(&self) -> anyhow::Result<Vec<String>> {
        let url = self.zone.cloudstack_url().replace("/client/api", "/sim/calls");
        let calls = crate::outbound::client(None)?.get(url).send().await?.bytes().await?;
        let calls: Vec<serde_json::Value> = serde_json::from_slice(&calls)?;
        let commands = calls.iter().filter_map(|call| call["command"].as_str().map(str::to_owned));
        Ok(commands.filter(|command| !command.starts_with("list") && !command.starts_with("query")).collect())
    }
}

pub(super) fn name(text: &str) -> MachineName {
    MachineName::parse(text).expect("a name")
}

pub(super) fn machine(name: &MachineName) -> Definition {
    let nic = Nic {
        mac: "52:54:00:00:00:07".parse().expect("an address"),
        network: "isolated".to_owned(),
        isolation: Isolation::Isolated,
    };
    Definition {
        uuid: name.uuid(0),
        title: "web 1".to_owned(),
        cpus: 1,
        memory_bytes: 512 << 20,
        firmware: Firmware::Bios,
        bus: Bus::VirtioBlk,
        nics: vec![nic],
        guest_id: None,
    }
}
