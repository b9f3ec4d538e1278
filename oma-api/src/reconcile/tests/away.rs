//! The target's storage goes away while a cycle runs, and comes back.

use super::*;
use crate::linstor::{Client, Cluster, Name, Settings};
use crate::outbound::State;
use crate::service::transfer::{Mode, OpenRequest, Sent};
use crate::storage::{LinstorStorage, Storage};
use crate::store::JobStatus;
use bytes::Bytes;
use integration_tests::linstor_sim::{LinstorSim, Options};
use migratekit::manifest::leaf_hashes;
use migratekit::piece::Piece;
use shared::range::{ByteRange, RangeSet};
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

/// Of each of the plant's disks.
const SIZE: u64 = 128 << 10;

/// On the same address: its clients know no other.
async fn start(options: &Options) -> LinstorSim {
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    loop {
        match LinstorSim::start(options.clone()).await {
            Ok(sim) => return sim,
            // The one before is just ending.
            Err(error) => assert!(std::time::Instant::now() < deadline, "{error:#}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Data goes on to volumes that are open; the commit waits for the snapshot, says why, and is made when LINSTOR is back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_waits_for_linstor_and_is_made_when_it_is_back() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let mut options = Options::usual(folder.path());
    let sim = start(&options).await;
    options.listen = sim.address();
    let settings =
        Settings { controllers: vec![sim.url()], token_file: None, deadline: Duration::from_secs(10) };
    let client = Client::new(settings, crate::outbound::client(None)?);
    let cluster = Cluster::new(client, "oma");
    let storage: Arc<dyn Storage> = Arc::new(LinstorStorage::new(cluster, Name::parse("cloudstack")?));
    let plant = Plant::on_storage(storage).await;
    plant.act(Action::Begin).await;
    plant.step().await;
    plant.act(Action::Sync).await;
    plant.step().await;
    let job = plant.job().await;
    plant.snapshot_taken(&job, "1").await;
    plant.sent_all_of(&job, 0, b'a').await?;
    let disk = &job.disks[1];
    let (of_job, of_disk) = (job.id.clone(), disk.disk.clone());
    let request = OpenRequest { job: of_job, disk: of_disk, epoch: disk.epoch, size: SIZE, mode: Mode::Data };
    let opened = plant.app.transfers.open(&plant.agent, &request).await?;
    drop(sim);

    opened.transfer.intend(RangeSet::from_iter([ByteRange::new(0, SIZE)]))?.await?;
    let data = Bytes::from(vec![b'b'; usize::try_from(SIZE)?]);
    let hashes = leaf_hashes(&data);
    opened.transfer.write(Piece::Data { offset: 0, data, hashes }).await?;
    opened.transfer.seal(&plant.app.hub, Sent { data: SIZE, zero: 0 }).await?;

    let stop = CancellationToken::new();
    let guards = super::super::Guards { floor: "0%".parse()?, stalled: Duration::from_secs(600) };
    let running = tokio::spawn(run(plant.app.clone(), guards, stop.clone()));
    let mut changes = plant.app.hub.watch(&job.migration);
    let waiting = loop {
        match plant.app.migration_view(&job.migration).await?.waiting {
            Some(waiting) => break waiting,
            None if plant.migration().await.has_committed => anyhow::bail!("a commit without its snapshot"),
            None => changes.changed().await?,
        }
    };
    assert_eq!(waiting.reason, "STORAGE_UNAVAILABLE", "{}", waiting.message);
    stop.cancel();
    running.await?;
    // And goes on trying.
    for _ in 0..3 {
        assert!(one(&plant.app, &plant.migration().await).await.is_err());
    }
    let standing = plant.app.storage.standing().ok_or_else(|| anyhow::anyhow!("a server"))?;
    assert_ne!(standing.state, State::Closed);
    assert!(!standing.why.is_empty());
    let page = plant.app.metrics().await;
    assert!(page.contains("migratekit_commits_waiting 1\n"), "{page}");
    assert!(page.contains("migratekit_target_circuit{peer=\"linstor\",state=\"closed\"} 0\n"), "{page}");
    let status = plant.app.status().await?;
    assert_eq!(status.servers.iter().map(|of| of.peer).collect::<Vec<_>>(), ["linstor"]);
    assert!(matches!(&status.waiting[..], [waits] if waits.committing && waits.job == job.id), "{status:?}");
    let now = plant.migration().await;
    assert_eq!((now.position, now.has_committed), (Position::SyncRunning, false));
    assert_eq!(plant.job().await.status, JobStatus::Committing);

    let _sim = start(&options).await;
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    while one(&plant.app, &plant.migration().await).await.is_err() {
        assert!(std::time::Instant::now() < deadline, "it is back");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let now = plant.migration().await;
    assert_eq!((now.position, now.has_committed), (Position::SyncPaused, true));
    assert_eq!(plant.app.migration_view(&job.migration).await?.waiting, None);
    assert_eq!(plant.app.storage.standing().map(|standing| standing.state), Some(State::Closed));

    let (storage, point) = (&plant.app.storage, SnapshotName::of_commit(&job.id)?);
    let snapshots = storage.snapshots().await?;
    assert_eq!(snapshots.iter().map(|s| &s.name).collect::<Vec<_>>(), [&point]);
    for (disk, byte) in plant.disks().await.into_iter().zip(*b"ab") {
        let clone = VolumeId::parse(format!("cs-{}", disk.id))?;
        storage.clone_snapshot(&point, &VolumeId::parse(disk.volume)?, &clone).await?;
        let mut read = vec![0; usize::try_from(SIZE)?];
        std::fs::File::open(storage.path(&clone).await?)?.read_exact_at(&mut read, 0)?;
        assert!(read.iter().all(|b| *b == byte), "disk {} holds what was sent", disk.key);
    }
    Ok(())
}
