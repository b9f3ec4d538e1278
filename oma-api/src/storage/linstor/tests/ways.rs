//! Ways to lose data, by their numbers in `contracts/LINSTOR.md`: each is taken, and the bytes are looked at. 1, 2, 4 and 8 are
//! beside this file; 6 is looked for at the end of every test of this backend ([`Rig`]).

use super::*;
use std::process::Command;
use std::time::Instant;

const ROLLBACK: &str = "/v1/*/snapshot-rollback/*";

impl Rig {
    /// A clone that holds 9, and 1 in `test-1`.
    async fn written_clone(&self) -> anyhow::Result<(VolumeId, SnapshotName)> {
        let (replica, point) = self.replica().await?;
        let (clone, before) = (id("cs-a"), SnapshotName::parse("test-1")?);
        self.storage.clone_snapshot(&point, &replica, &clone).await?;
        self.storage.snapshot(std::slice::from_ref(&clone), &before).await?;
        self.write(&clone, 9).await?;
        Ok((clone, before))
    }

    /// Waits until LINSTOR is within a rollback of it, or no longer is.
    async fn rolls_back(&self, volume: &VolumeId, wanted: bool) -> anyhow::Result<()> {
        let begun = Instant::now();
        loop {
            let all = self.client.snapshots(&name(volume)?).await?;
            if all.iter().any(|snapshot| snapshot.name.starts_with("safety-snap")) == wanted {
                return Ok(());
            }
            anyhow::ensure!(begun.elapsed() < Duration::from_secs(20), "{all:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// Way 3: LINSTOR lets a snapshot be deleted under its own rollback, and destroys both. Here they wait for each other.
#[tokio::test]
async fn a_snapshot_is_not_deleted_under_its_own_reset() -> anyhow::Result<()> {
    let rig = Rig::start().await?;
    let (clone, before) = rig.written_clone().await?;
    rig.sim.arm([Rule::first("POST", ROLLBACK, What::DelayMs(500)).at("deleted")]);
    let (reset, deleted) = tokio::join!(rig.storage.reset(&clone, &before), async {
        rig.rolls_back(&clone, true).await?;
        Ok::<_, anyhow::Error>(rig.storage.delete_snapshot(&before).await?)
    });
    reset?;
    deleted?;
    assert_eq!(rig.read(&clone).await?, 1);
    assert!(rig.storage.snapshots().await?.iter().all(|s| s.name != before));
    Ok(())
}

/// The same, when whoever asked for the reset is gone: LINSTOR goes on.
#[tokio::test]
async fn nor_when_nobody_waits_for_the_reset_any_more() -> anyhow::Result<()> {
    let rig = Rig::start().await?;
    let (clone, before) = rig.written_clone().await?;
    rig.sim.arm([Rule::first("POST", ROLLBACK, What::DelayMs(500)).at("deleted")]);
    tokio::select! {
        reset = rig.storage.reset(&clone, &before) => anyhow::bail!("it waits: {reset:?}"),
        begun = rig.rolls_back(&clone, true) => begun?,
    }
    rig.storage.delete_snapshot(&before).await?;
    assert_eq!(rig.read(&clone).await?, 1);
    Ok(())
}

/// The same, when the deadline was over before the rollback was: the lock is free, and what became of it is not known.
#[tokio::test]
async fn nor_when_nobody_knows_whether_the_reset_has_ended() -> anyhow::Result<()> {
    let mut rig = Rig::start().await?;
    let (clone, before) = rig.written_clone().await?;
    (rig.client, rig.storage) = connect_within(&rig.sim, Duration::from_secs(1))?;
    rig.sim.arm([Rule::first("POST", ROLLBACK, What::DelayMs(3000)).at("deleted")]);
    assert!(rig.storage.reset(&clone, &before).await.is_err());
    rig.rolls_back(&clone, true).await?;
    rig.storage.delete_snapshot(&before).await?;
    rig.rolls_back(&clone, false).await?;
    // Kept, as all that there may be of the clone; so is the rule that nothing but this makes it whole again.
    assert_eq!(rig.storage.volume(&clone).await?, None);
    rig.storage.reset(&clone, &before).await?;
    assert_eq!(rig.read(&clone).await?, 1);
    rig.storage.delete_snapshot(&before).await?;
    rig.storage.delete(&clone).await?;
    Ok(())
}

/// Way 5: without DRBD LINSTOR takes away what is open, and the open one is a deleted file.
#[tokio::test]
async fn what_is_open_is_neither_reset_nor_deleted() -> anyhow::Result<()> {
    let rig = Rig::start().await?;
    let (clone, before) = rig.written_clone().await?;
    let refused = async |by: &str| {
        for ended in [rig.storage.reset(&clone, &before).await, rig.storage.delete(&clone).await] {
            let said = ended.err().map(|error| error.to_string()).unwrap_or_default();
            assert!(said.contains("cs-a is open") && said.contains(by), "{said:?}");
        }
    };
    let own = rig.storage.open(&clone).await?;
    refused("this control plane").await;
    drop(own);
    let path = rig.storage.path(&clone).await?;
    let mut other = Command::new("sleep").arg("600").stdin(std::fs::File::open(&path)?).spawn()?;
    refused(&format!("process {} (sleep)", other.id())).await;
    other.kill()?;
    other.wait()?;
    assert_eq!(rig.read(&clone).await?, 9, "nothing was done");
    rig.storage.reset(&clone, &before).await?;
    assert_eq!(rig.read(&clone).await?, 1);
    rig.storage.delete(&clone).await?;
    Ok(())
}

/// Who opens while it is taken away gets what is there afterwards, or nothing.
#[tokio::test]
async fn who_opens_a_volume_waits_for_its_reset() -> anyhow::Result<()> {
    let rig = Rig::start().await?;
    let (clone, before) = rig.written_clone().await?;
    rig.sim.arm([Rule::first("POST", ROLLBACK, What::DelayMs(300)).at("safety")]);
    let (reset, written) = tokio::join!(rig.storage.reset(&clone, &before), async {
        rig.rolls_back(&clone, true).await?;
        rig.write(&clone, 7).await
    });
    reset?;
    written?;
    assert_eq!(rig.read(&clone).await?, 7, "what was written then is there");
    Ok(())
}

/// Way 7: LINSTOR says yes, forgets the snapshot at once, and its blocks stay taken on the node that was off.
#[tokio::test]
async fn a_snapshot_is_not_deleted_while_a_node_that_holds_it_is_off() -> anyhow::Result<()> {
    let rig = Rig::on(|options| options.nodes.push("kvm1".to_owned())).await?;
    let (replica, point) = rig.replica().await?;
    let files = || anyhow::Ok(std::fs::read_dir(rig.options.dir.join("pools/kvm1/thin"))?.count());
    assert_eq!(files()?, 2, "the volume and its snapshot");
    rig.sim.now(&What::Node { name: "kvm1".to_owned(), online: false });
    for ended in [rig.storage.delete_snapshot(&point).await, rig.storage.delete(&replica).await] {
        let said = ended.err().map(|error| error.to_string()).unwrap_or_default();
        assert!(said.contains("lies on node kvm1, which is not online"), "{said:?}");
    }
    assert_eq!(rig.storage.snapshots().await?.len(), 1);
    rig.sim.now(&What::Node { name: "kvm1".to_owned(), online: true });
    rig.storage.delete_snapshot(&point).await?;
    assert_eq!(files()?, 1);
    rig.storage.delete(&replica).await?;
    assert_eq!(files()?, 0);
    Ok(())
}
