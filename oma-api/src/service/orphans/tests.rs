//! What nobody owns is found and removed; what somebody owns never is, wherever its job is.

use super::{Chosen, OrphanKind};
use crate::compute::{Bus, Compute as _, Definition, Firmware, MachineName, State};
use crate::failover::tests::world::{World, somebody};
use crate::failover::{Kind, names};
use crate::service::Error;
use crate::storage::{SnapshotName, Storage, VolumeId};
use crate::testing::cut;
use crate::workflow::{Ask, JobState};
use shared::ids::VmUuid;
use shared::migration::Action;
use std::collections::BTreeSet;
use uuid::Uuid;

fn volume(name: &str) -> VolumeId {
    VolumeId::parse(name).expect("a name")
}

fn snapshot(name: &str) -> SnapshotName {
    SnapshotName::parse(name).expect("a name")
}

fn definition() -> Definition {
    Definition {
        uuid: Uuid::from_u128(7),
        title: "nobody's".to_owned(),
        cpus: 1,
        memory_bytes: 1 << 28,
        firmware: Firmware::Bios,
        bus: Bus::VirtioBlk,
        nics: vec![],
        guest_id: None,
    }
}

impl World {
    fn storage(&self) -> &dyn Storage {
        &*self.plant.app.storage
    }

    async fn machine(&self, name: &str) -> MachineName {
        let name = MachineName::parse(name).expect("a name");
        self.plant.machines.define(&name, &definition()).await.expect("made");
        name
    }

    /// Kind, name, and whether it may be removed.
    async fn orphans(&self) -> Vec<(OrphanKind, String, bool)> {
        let found = self.plant.app.orphans().await.expect("read");
        found.into_iter().map(|o| (o.kind, o.name, o.keep.is_none())).collect()
    }

    /// What became of each.
    async fn remove(&self, chosen: Chosen) -> Vec<(String, bool)> {
        let removals = self.plant.app.orphans_remove(&somebody(), &chosen).await.expect("taken");
        removals.into_iter().map(|r| (r.name, r.kept.is_none())).collect()
    }

    /// All that the backends have.
    async fn inventory(&self) -> BTreeSet<String> {
        let mut all: BTreeSet<String> =
            self.plant.machines.inventory().into_iter().map(|(name, ..)| format!("machine {name}")).collect();
        let snapshots = self.storage().snapshots().await.expect("read");
        all.extend(snapshots.into_iter().map(|s| format!("snapshot {}", s.name)));
        let volumes = self.storage().volumes().await.expect("read");
        all.extend(volumes.into_iter().map(|v| format!("volume {}", v.volume)));
        all
    }
}

fn named(names: &[&str]) -> Chosen {
    Chosen::Named(names.iter().map(|name| (*name).to_owned()).collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_owns_is_shown_and_only_what_is_a_failovers_is_removed() {
    let world = World::sqlite().await;
    let owned = world.inventory().await;
    assert_eq!(world.orphans().await, [], "the migration's are its own");
    // Of a test that was taken back by hand, in the database only.
    let job = world.begin().await;
    assert_eq!(world.drive(&job).await.state, JobState::Succeeded);
    let cleanup = world.clean(&job).await;
    assert_eq!(world.drive(&cleanup).await.state, JobState::Succeeded);
    let disk = world.plant.disks().await.remove(0);
    let clone = names::clone_of(&job, &disk.id);
    let name = world.failover(&job).await.record.name;
    world.storage().create(&clone, 1 << 20).await.expect("made");
    world.storage().snapshot(std::slice::from_ref(&clone), &snapshot(&name)).await.expect("made");
    let machine = world.machine(&name).await;
    world.plant.machines.attach(&machine, 0, &clone).await.expect("attached");
    world.plant.machines.start(&machine).await.expect("started");
    // Nobody's at all.
    world.machine("test-0000beef-1756882765").await;
    world.machine("live-0000beef-1756882765").await;
    world.machine("db-1").await;
    for foreign in ["cs-00000000-0000-4000-8000-00000000000e", "mk-lost", "somebodys"] {
        world.storage().create(&volume(foreign), 1 << 20).await.expect("made");
    }
    for foreign in ["rp-job-20200101-000000", "backup", "test-0000beef-1756882765"] {
        let of = [volume("somebodys")];
        world.storage().snapshot(&of, &snapshot(foreign)).await.expect("made");
    }
    let replica = volume(&disk.volume);
    let of_replica = "test-0000cafe-1756882765";
    world.storage().snapshot(&[replica], &snapshot(of_replica)).await.expect("made");
    use OrphanKind as K;
    let mut expected = vec![
        (K::Machine, "db-1", false),
        (K::Machine, "live-0000beef-1756882765", false),
        (K::Machine, "test-0000beef-1756882765", true),
        (K::Machine, &name, true),
        (K::Snapshot, "backup", false),
        (K::Snapshot, "rp-job-20200101-000000", false),
        (K::Snapshot, of_replica, false),
        (K::Snapshot, "test-0000beef-1756882765", true),
        (K::Snapshot, &name, true),
        (K::Clone, "cs-00000000-0000-4000-8000-00000000000e", false),
        (K::Clone, clone.as_str(), true),
        (K::Replica, "mk-lost", false),
    ];
    expected.sort();
    let found = world.orphans().await;
    assert_eq!(found.iter().map(|(k, n, r)| (*k, n.as_str(), *r)).collect::<Vec<_>>(), expected);
    // By name: what may not be removed stays, and so does a clone that a machine has.
    let kept = ["backup", "mk-lost", "live-0000beef-1756882765", clone.as_str(), &disk.volume, "no-such"];
    let before = world.inventory().await;
    let removals = world.remove(named(&kept)).await;
    assert!(removals.len() == kept.len() && removals.iter().all(|(_, removed)| !removed), "{removals:?}");
    assert_eq!(world.inventory().await, before);
    // All: a running machine first, then what it ran on.
    let removals = world.remove(Chosen::All).await;
    assert!(removals.len() == 5 && removals.iter().all(|(_, removed)| *removed), "{removals:?}");
    let mut left = owned;
    left.extend(expected.iter().filter(|(.., removable)| !removable).map(|(kind, name, _)| match kind {
        K::Clone | K::Replica => format!("volume {name}"),
        kind => format!("{kind} {name}"),
    }));
    left.insert("volume somebodys".to_owned());
    assert_eq!(world.inventory().await, left);
    assert_eq!(world.remove(Chosen::All).await, [], "again: nothing");
    let asked = named(&[&name, "no-such"]);
    let removals = world.plant.app.orphans_remove(&somebody(), &asked).await.expect("taken");
    let told = |n: usize| removals.get(n).and_then(|r| r.kept.as_deref()).unwrap_or_default();
    assert!(told(0).contains("that nobody owns") && told(1).contains("is cleaned up"), "{removals:?}");
}

/// Wherever a test, its undoing and its clean-up were cut short, nothing of it is an orphan; once it has ended without a trace
/// in the journal, nothing is there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_job_has_half_made_or_half_removed_is_its_own() {
    let world = World::sqlite().await;
    let replica = world.inventory().await;
    let mut at = 0;
    loop {
        let id = world.begin().await;
        let finished = cut(world.engine().drive_now(&id), at).await.is_some();
        assert_eq!(world.orphans().await, [], "cut at {at}");
        assert_eq!(world.remove(Chosen::All).await, []);
        // Taken back, or cleaned up: cut there, too.
        let ends = if finished {
            world.clean(&id).await
        } else {
            world.engine().ask(&id, &Ask::Cancel, "tester").await.expect("taken");
            id.clone()
        };
        drop(cut(world.engine().drive_now(&ends), at).await);
        let before = world.inventory().await;
        let failover = world.failover(&id).await;
        match failover.is_there() {
            true => {
                assert_eq!(world.orphans().await, [], "cut at {at}");
                let name = failover.record.name.as_str();
                assert_eq!(world.remove(named(&[name])).await, [(name.to_owned(), false)]);
                assert_eq!(world.inventory().await, before);
            }
            false => assert_eq!(before, replica, "cut at {at}"),
        }
        world.drive(&ends).await;
        assert_eq!(world.inventory().await, replica, "cut at {at}");
        if finished {
            break;
        }
        at += 7;
    }
    assert!(at > 40, "only {at}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_for_somebody_is_its_own() {
    use crate::failover::tests::world::{At, Fault};
    let world = World::sqlite().await;
    // It cannot be taken back, and waits.
    world.fails("start", At::Act, &[Fault::Permanent]);
    world.fails("define", At::Undo, &[Fault::Permanent]);
    let stuck = world.begin().await;
    assert_eq!(world.drive(&stuck).await.state, JobState::NeedsAttention);
    // It is stopped between two steps.
    let paused = world.begin().await;
    world.engine().ask(&paused, &Ask::Pause, "tester").await.expect("taken");
    assert_eq!(world.drive(&paused).await.state, JobState::Paused);
    assert!(!world.nothing_there());
    assert_eq!(world.orphans().await, []);
    let before = world.inventory().await;
    let name = world.failover(&stuck).await.record.name;
    assert_eq!(world.remove(named(&[&name])).await, [(name, false)]);
    assert_eq!(world.inventory().await, before);
    // What somebody said to go on without is nobody's in the end.
    world.engine().ask(&stuck, &Ask::Skip { why: "by hand".to_owned() }, "tester").await.expect("taken");
    assert_eq!(world.drive(&stuck).await.state, JobState::RolledBack);
    let found = world.orphans().await;
    assert!(found.iter().any(|(kind, _, removable)| *kind == OrphanKind::Machine && *removable), "{found:?}");
    assert!(world.remove(Chosen::All).await.iter().all(|(_, removed)| *removed));
    assert_eq!(world.orphans().await, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_a_job_takes_meanwhile_is_refused() {
    let world = World::sqlite().await;
    let vm: VmUuid = world.plant.migration().await.vm;
    let now = world.plant.app.clock.now().as_second();
    for second in now..now + 10 {
        world.machine(&names::name(Kind::Test, &vm, second)).await;
    }
    let listed = world.plant.app.orphans().await.expect("read");
    assert!(listed.len() == 10 && listed.iter().all(|o| o.keep.is_none()), "{listed:?}");
    let id = world.begin().await;
    let name = world.failover(&id).await.record.name;
    let meanwhile = listed.iter().find(|o| o.name == name).expect("within ten seconds");
    let why = world.plant.app.orphan_remove(meanwhile).await.expect_err("it is a job's now");
    assert!(why.contains(id.as_str()), "{why}");
    assert!(world.plant.machines.inventory().iter().any(|(machine, ..)| *machine == name));
    // One that went by itself is gone all the same.
    let other = listed.iter().find(|o| o.name != name).expect("nine");
    world.plant.machines.remove(&MachineName::parse(&*other.name).expect("a name")).await.expect("removed");
    assert_eq!(world.plant.app.orphan_remove(other).await, Ok(()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_cycle_is_about_to_commit_is_owned() {
    let world = World::sqlite().await;
    world.plant.act(Action::Sync).await;
    world.plant.step().await;
    let job = world.plant.job().await;
    // Its commit has taken the snapshot, and not yet said so.
    let volumes: Vec<_> = world.plant.disks().await.iter().map(|d| volume(&d.volume)).collect();
    world
        .storage()
        .snapshot(&volumes, &SnapshotName::of_commit(&job.id).expect("a name"))
        .await
        .expect("made");
    assert_eq!(world.orphans().await, []);
}

/// Its volumes are gone; what its source has is the agent's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_source_holds_of_an_ended_migration_is_shown_only() {
    let world = World::sqlite().await;
    world.plant.act(Action::Abort).await;
    let id = world.plant.app.store.migration_list(crate::store::Which::All).await.expect("read").remove(0).id;
    for _ in 0..3 {
        let migration = world.plant.app.store.migration_fetch(&id).await.expect("read");
        if migration.position.ended() {
            break;
        }
        crate::reconcile::one(&world.plant.app, &migration).await.expect("done");
    }
    assert_eq!(world.orphans().await, [(OrphanKind::SourceSnapshot, "web-1".to_owned(), false)]);
    assert_eq!(world.remove(named(&["web-1"])).await, [("web-1".to_owned(), false)]);
    world.plant.app.agent_released(&world.plant.agent, &id).await.expect("taken");
    assert_eq!(world.orphans().await, []);
}

/// A machine whose name looks like a test's, with somebody's replica as a disk.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_on_what_somebody_owns_is_kept() {
    let world = World::sqlite().await;
    let name = world.machine("test-0000beef-1756882765").await;
    let disk = world.plant.disks().await.remove(0);
    world.plant.machines.attach(&name, 0, &volume(&disk.volume)).await.expect("attached");
    world.plant.machines.start(&name).await.expect("started");
    assert_eq!(world.remove(named(&[name.as_str()])).await, [(name.to_string(), false)]);
    assert_eq!(world.remove(Chosen::All).await, []);
    let (_, _, state) = world.plant.machines.inventory().remove(0);
    assert_eq!(state, State::Running);
}

/// Whoever has it open is named.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clone_that_is_open_elsewhere_is_kept() {
    let world = World::sqlite().await;
    let job = world.begin().await;
    world.drive(&job).await;
    let cleanup = world.clean(&job).await;
    world.drive(&cleanup).await;
    let clone = names::clone_of(&job, &world.plant.disks().await.remove(0).id);
    world.storage().create(&clone, 1 << 20).await.expect("made");
    let file = std::fs::File::open(world.storage().path(&clone).await.expect("there")).expect("readable");
    let mut held = std::process::Command::new("sleep").arg("600").stdin(file).spawn().expect("started");
    let removed = world.plant.app.orphans_remove(&somebody(), &Chosen::All).await.expect("taken");
    held.kill().expect("ended");
    held.wait().expect("ended");
    let why = removed.first().and_then(|removal| removal.kept.as_deref()).expect("it stays");
    assert!(why.contains(&format!("open in process {} (sleep)", held.id())), "{why}");
    assert!(world.storage().volume(&clone).await.expect("asked").is_some());
}

#[tokio::test]
async fn a_removal_names_something() {
    let world = World::sqlite().await;
    for chosen in [Chosen::Named(vec![]), Chosen::Named(vec!["x".to_owned(); 1001])] {
        let refused = world.plant.app.orphans_remove(&somebody(), &chosen).await.expect_err("refused");
        assert!(matches!(refused, Error::Argument { what: "names", .. }), "{refused:?}");
    }
}
