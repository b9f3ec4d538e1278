//! Against a controller that really keeps bytes, and loses them as a real one does.

mod ways;

use super::*;
use crate::linstor::{Client, Settings};
use bytes::Bytes;
use integration_tests::linstor_sim::{LinstorSim, Options, Rule, Tool, What};
use serde_json::json;
use shared::ids::{DiskKey, MigrationId, VmUuid};
use std::time::Duration;

const MIB: u64 = 1 << 20;

struct Rig {
    sim: LinstorSim,
    options: Options,
    client: Client,
    storage: LinstorStorage,
    _dir: tempfile::TempDir,
}

impl Rig {
    async fn start() -> anyhow::Result<Self> {
        Self::on(|_| {}).await
    }

    /// As `start`, with other options.
    async fn on(set: impl FnOnce(&mut Options)) -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        let mut options = Options::usual(dir.path());
        set(&mut options);
        let sim = LinstorSim::start(options.clone()).await?;
        let (client, storage) = connect(&sim)?;
        Ok(Self { sim, options, client, storage, _dir: dir })
    }

    /// Another controller on the same folder.
    async fn restart(&mut self) -> anyhow::Result<()> {
        self.sim = LinstorSim::start(self.options.clone()).await?;
        (self.client, self.storage) = connect(&self.sim)?;
        Ok(())
    }

    async fn write(&self, volume: &VolumeId, fill: u8) -> anyhow::Result<()> {
        let target = self.storage.open(volume).await?;
        blocking(move || {
            target.write_at(MIB, &[Bytes::from(vec![fill; 4096])])?;
            Ok(target.flush()?)
        })
        .await?;
        Ok(())
    }

    async fn read(&self, volume: &VolumeId) -> anyhow::Result<u8> {
        use std::os::unix::fs::FileExt as _;
        let (file, mut byte) = (std::fs::File::open(self.storage.path(volume).await?)?, [0; 4096]);
        file.read_exact_at(&mut byte, MIB)?;
        assert!(byte.iter().all(|b| *b == byte[0]), "a part of {volume} is something else");
        Ok(byte[0])
    }

    /// A replica that holds 1 in `rp-1`, and 2 since.
    async fn replica(&self) -> anyhow::Result<(VolumeId, SnapshotName)> {
        let (volume, point) = (id("mk-a"), SnapshotName::parse("rp-1")?);
        self.storage.create(&volume, MIB).await?;
        self.write(&volume, 1).await?;
        self.storage.snapshot(std::slice::from_ref(&volume), &point).await?;
        self.write(&volume, 2).await?;
        Ok((volume, point))
    }
}

/// Way 6: whatever is done here, neither one copy of a resource is deleted, which may be the only whole one, nor a node with all that
/// is on it.
impl Drop for Rig {
    fn drop(&mut self) {
        let of = |call: &integration_tests::linstor_sim::Logged| {
            let parts: Vec<_> = call.path.trim_start_matches('/').split('/').map(str::to_owned).collect();
            (call.method == "DELETE").then_some(parts)
        };
        let is_ours = |parts: &Vec<String>| match parts.as_slice() {
            [_, definitions, _] => definitions == "resource-definitions",
            [_, definitions, _, snapshots, _] => {
                definitions == "resource-definitions" && snapshots == "snapshots"
            }
            _ => false,
        };
        let others: Vec<_> = self.sim.calls().iter().filter_map(of).filter(|parts| !is_ours(parts)).collect();
        assert!(
            others.is_empty() || std::thread::panicking(),
            "these deletions are none of ours: {others:?}"
        );
    }
}

fn connect(sim: &LinstorSim) -> anyhow::Result<(Client, LinstorStorage)> {
    connect_within(sim, Duration::from_secs(10))
}

fn connect_within(sim: &LinstorSim, deadline: Duration) -> anyhow::Result<(Client, LinstorStorage)> {
    let settings = Settings { controllers: vec![sim.url()], token_file: None, deadline };
    let client = Client::new(settings, crate::outbound::client(None)?);
    let storage = LinstorStorage::new(Cluster::new(client.clone(), "oma"), Name::parse("cloudstack")?);
    Ok((client, storage))
}

fn id(text: &str) -> VolumeId {
    VolumeId::parse(text).expect("an id")
}

#[tokio::test]
async fn a_volume_lives_as_on_any_storage() -> anyhow::Result<()> {
    let rig = Rig::start().await?;
    let (a, b, clone, point) = (id("mk-a"), id("mk-b"), id("cs-a"), SnapshotName::parse("rp-1")?);
    assert_eq!(rig.storage.volume(&a).await?, None);
    let made = rig.storage.create(&a, MIB + 512).await?;
    assert_eq!(made, VolumeInfo { size: GIB, reads_zero: ReadsZero::Yes });
    // Nothing is known of what was there before.
    assert_eq!(rig.storage.create(&a, MIB).await?.reads_zero, ReadsZero::Unknown);
    assert!(matches!(rig.storage.create(&a, GIB + 1).await, Err(Error::OtherSize { have: GIB, .. })));
    rig.storage.create(&b, GIB).await?;
    rig.write(&a, 1).await?;
    rig.write(&b, 2).await?;
    for _ in 0..2 {
        rig.storage.snapshot(&[a.clone(), b.clone()], &point).await?;
    }
    rig.write(&a, 3).await?;
    assert_eq!(rig.storage.snapshot_size(&point, &a).await?, GIB);
    assert_eq!(
        rig.storage.snapshots().await?,
        [Snapshot { name: point.clone(), volumes: vec![a.clone(), b.clone()] }]
    );

    rig.storage.clone_snapshot(&point, &a, &clone).await?;
    assert_eq!((rig.read(&clone).await?, rig.read(&a).await?), (1, 3));
    let again = rig.storage.clone_snapshot(&point, &a, &clone).await;
    assert!(matches!(again, Err(Error::VolumeExists { .. })), "{again:?}");
    let before = SnapshotName::parse("test-1")?;
    rig.storage.snapshot(std::slice::from_ref(&clone), &before).await?;
    rig.write(&clone, 9).await?;
    rig.storage.reset(&clone, &before).await?;
    assert_eq!((rig.read(&clone).await?, rig.read(&a).await?), (1, 3));

    let label = Label {
        vm: VmUuid::parse("564d1d3a-0000-4000-8000-000000000001")?,
        vm_name: "web".to_owned(),
        disk: DiskKey::parse("root")?,
        size: MIB,
        migration: MigrationId::generate(),
    };
    rig.storage.label(&a, &label).await?;
    rig.storage.resize(&a, 2 * GIB).await?;
    assert!(matches!(rig.storage.resize(&a, GIB).await, Err(Error::OtherSize { .. })));
    let listed: Vec<_> =
        rig.storage.volumes().await?.into_iter().map(|l| (l.volume, l.size >> 30, l.label)).collect();
    assert_eq!(listed, [(clone.clone(), 1, None), (a.clone(), 2, Some(label)), (b.clone(), 1, None)]);
    assert_eq!(rig.read(&a).await?, 3);

    for _ in 0..2 {
        rig.storage.delete_snapshot(&point).await?;
        rig.storage.delete(&clone).await?;
        rig.storage.delete(&a).await?;
    }
    assert_eq!(rig.storage.volumes().await?.len(), 1);
    assert!(rig.storage.snapshots().await?.is_empty());
    let space = rig.storage.space().await?;
    assert!(space.total == 4 * GIB && space.free < space.total, "{space:?}");
    assert_eq!(rig.storage.point_cost().await?, PointCost::Shared);
    Ok(())
}

#[tokio::test]
async fn what_is_not_marked_as_ours_is_left_alone_though_its_name_fits() -> anyhow::Result<()> {
    let rig = Rig::start().await?;
    let (volume, point) = (id("mk-theirs"), SnapshotName::parse("rp-1")?);
    let spawn = json!({"resource_definition_name": "mk-theirs", "volume_sizes": [GIB / 1024]});
    rig.client.change(&http::Method::POST, "/v1/resource-groups/cloudstack/spawn", Some(&spawn)).await?;
    let before = rig.client.definitions().await?;
    let refused = |ended: Result<(), Error>| {
        assert!(
            matches!(&ended, Err(Error::Linstor(fault)) if matches!(**fault, Fault::NotOurs { .. })),
            "{ended:?}"
        );
    };
    refused(rig.storage.create(&volume, GIB).await.map(|_| ()));
    refused(rig.storage.open(&volume).await.map(|_| ()));
    refused(rig.storage.resize(&volume, 2 * GIB).await);
    refused(rig.storage.delete(&volume).await);
    refused(rig.storage.snapshot(std::slice::from_ref(&volume), &point).await);
    refused(rig.storage.reset(&volume, &point).await);
    assert!(rig.storage.volumes().await?.is_empty());
    assert_eq!(rig.client.definitions().await?, before);
    Ok(())
}

/// Ways 2 and 8: what a failed restore leaves becomes an empty volume by any change, and looks like any other.
#[tokio::test]
async fn a_clone_whose_restore_failed_is_never_taken_for_one() -> anyhow::Result<()> {
    let rig = Rig::start().await?;
    let (replica, point) = rig.replica().await?;
    let clone = id("cs-a");
    rig.sim.arm([Rule::first("POST", "/v1/*/snapshot-restore-resource/*", What::ToolFails(Tool::Restore))]);
    assert!(rig.storage.clone_snapshot(&point, &replica, &clone).await.is_err());
    assert_eq!(rig.storage.volume(&clone).await?, None);
    // Somebody changes a property; LINSTOR makes a device.
    let poke = BTreeMap::from([("Aux/poke".to_owned(), "1".to_owned())]);
    rig.client.set_props(&name(&clone)?, &poke, &[]).await?;
    assert_eq!(rig.storage.volume(&clone).await?, None);
    assert!(rig.storage.open(&clone).await.is_err());
    rig.storage.clone_snapshot(&point, &replica, &clone).await?;
    assert_eq!((rig.read(&clone).await?, rig.read(&replica).await?), (1, 2));
    Ok(())
}

/// Of each call in turn the answer is lost after it acted.
#[tokio::test]
async fn a_lost_answer_is_looked_up_and_costs_nothing() -> anyhow::Result<()> {
    for lost in 1..=40 {
        let rig = Rig::start().await?;
        let mut rule = Rule::first("*", "/v1/*", What::DropAnswer);
        rule.nth = lost;
        rig.sim.arm([rule]);
        let (replica, clone, point) = (id("mk-a"), id("cs-a"), SnapshotName::parse("rp-1")?);
        let mut failed = 0;
        while let Err(error) = rig.storage.create(&replica, MIB).await {
            failed += 1;
            assert!(failed < 3, "{error:?}");
        }
        while let Err(error) = rig.storage.snapshot(std::slice::from_ref(&replica), &point).await {
            failed += 1;
            assert!(failed < 3, "{error:?}");
        }
        loop {
            match rig.storage.clone_snapshot(&point, &replica, &clone).await {
                Ok(_) => break,
                // Its last answer was the one that was lost: as of any unknown outcome, who asks looks.
                Err(Error::VolumeExists { .. }) if failed > 0 => break,
                Err(error) => {
                    failed += 1;
                    assert!(failed < 3, "{error:?}");
                }
            }
        }
        assert!(rig.storage.volume(&clone).await?.is_some());
        if failed == 0 {
            assert!(lost > 10, "only {lost} calls");
            return Ok(());
        }
    }
    anyhow::bail!("more calls than that")
}

/// Ways 1, 2 and 4: a rollback deletes and restores, and a controller that dies in between comes back with what was before.
#[tokio::test]
async fn a_reset_that_was_cut_is_repeated() -> anyhow::Result<()> {
    let mut rig = Rig::start().await?;
    let (replica, point) = rig.replica().await?;
    let (clone, before) = (id("cs-a"), SnapshotName::parse("test-1")?);
    rig.storage.clone_snapshot(&point, &replica, &clone).await?;
    rig.storage.snapshot(std::slice::from_ref(&clone), &before).await?;
    rig.write(&clone, 9).await?;
    let rollback = "/v1/*/snapshot-rollback/*";
    rig.sim.arm([Rule::first("POST", rollback, What::ToolFails(Tool::Restore))]);
    assert!(rig.storage.reset(&clone, &before).await.is_err());
    assert_eq!(rig.storage.volume(&clone).await?, None);
    assert!(rig.storage.volumes().await?.iter().all(|listed| listed.volume != clone));
    rig.storage.reset(&clone, &before).await?;
    assert_eq!(rig.read(&clone).await?, 1);

    // Way 2: somebody changes a property in between, and the device that LINSTOR makes is empty.
    rig.write(&clone, 9).await?;
    rig.sim.arm([Rule::first("POST", rollback, What::ToolFails(Tool::Restore))]);
    assert!(rig.storage.reset(&clone, &before).await.is_err());
    // Nothing of ours changes it: it has no device until somebody does.
    let after = SnapshotName::parse("test-2")?;
    assert!(rig.storage.snapshot(std::slice::from_ref(&clone), &after).await.is_err());
    assert!(rig.storage.resize(&clone, 2 * GIB).await.is_err());
    assert!(rig.storage.open(&clone).await.is_err());
    let left = rig.client.resources(&name(&clone)?).await?;
    assert!(left.iter().all(|resource| resource.device().is_err()), "{left:?}");
    let poke = BTreeMap::from([("Aux/poke".to_owned(), "1".to_owned())]);
    rig.client.set_props(&name(&clone)?, &poke, &[]).await?;
    assert!(rig.storage.open(&clone).await.is_err());
    rig.storage.reset(&clone, &before).await?;
    assert_eq!(rig.read(&clone).await?, 1);

    rig.write(&clone, 9).await?;
    rig.sim.arm([Rule::first("POST", rollback, What::Die).at("deleted")]);
    assert!(rig.storage.reset(&clone, &before).await.is_err());
    rig.restart().await?;
    assert_eq!(rig.storage.volume(&clone).await?, None);
    rig.storage.reset(&clone, &before).await?;
    assert_eq!((rig.read(&clone).await?, rig.read(&replica).await?), (1, 2));
    Ok(())
}

#[tokio::test]
async fn a_set_of_snapshots_is_whole_or_is_not() -> anyhow::Result<()> {
    let rig = Rig::start().await?;
    let (a, b, point) = (id("mk-a"), id("mk-b"), SnapshotName::parse("rp-1")?);
    for volume in [&a, &b] {
        rig.storage.create(volume, MIB).await?;
        rig.write(volume, 1).await?;
    }
    rig.sim.arm([Rule::first("POST", "/v1/actions/snapshot/multi", What::ToolFails(Tool::Snapshot))]);
    assert!(rig.storage.snapshot(&[a.clone(), b.clone()], &point).await.is_err());
    assert!(rig.storage.snapshots().await?.is_empty());
    assert!(rig.client.all_snapshots().await?.is_empty(), "a half set keeps the name");
    rig.storage.snapshot(&[a.clone(), b.clone()], &point).await?;
    assert_eq!(rig.storage.snapshots().await?.len(), 1);
    Ok(())
}

#[tokio::test]
async fn a_full_pool_and_a_node_that_is_off_are_said() -> anyhow::Result<()> {
    let rig = Rig::start().await?;
    let (replica, _) = rig.replica().await?;
    rig.sim.now(&What::Node { name: "oma".to_owned(), online: false });
    assert!(
        rig.storage.snapshot(std::slice::from_ref(&replica), &SnapshotName::parse("rp-2")?).await.is_err()
    );
    assert!(matches!(rig.storage.space().await, Err(Error::Linstor(_))));
    rig.sim.now(&What::Node { name: "oma".to_owned(), online: true });
    rig.storage.snapshot(std::slice::from_ref(&replica), &SnapshotName::parse("rp-2")?).await?;
    assert_eq!(rig.read(&replica).await?, 2);
    Ok(())
}
