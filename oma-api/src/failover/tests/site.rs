//! A world whose VM can fail over for good: its agent does what it is told, and its source can be switched.

use super::world::{World, somebody};
use crate::compute::State;
use crate::failover::live::Live;
use crate::failover::{Failover, FailoverView, Request};
use crate::service::Error;
use crate::store::{Arm, JobStatus, Wanted};
use crate::testing::{Plant, cut};
use crate::workflow::{Ask, Engine, Job, Wish, WorkflowId};
use integration_tests::mariadb::Server;
use shared::cycle::{CycleKind, CycleRun, How, PowerFailure, PowerReport, PowerWish};
use shared::migration::{Action, Position};
use shared::vm::Power;
use std::sync::Mutex;
use std::time::Duration;

pub(crate) struct Site {
    pub(crate) world: World,
    /// The VM at its source, and how it has been since the failover began.
    power: Mutex<Vec<Power>>,
    /// Its guest does not hear the button.
    pub(crate) deaf: Mutex<bool>,
    /// What the final cycle brings; none: it never ends.
    pub(crate) last: Mutex<Option<u8>>,
    /// What goes wrong at storage and source.
    pub(crate) trouble: Mutex<Option<Trouble>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// The storage loses what is written to the first disk.
    Loses,
    /// The source changes what its change tracking calls unchanged.
    Hides,
}

impl Site {
    pub(crate) async fn sqlite() -> Self {
        Self::on(None).await
    }

    pub(crate) async fn mariadb() -> Self {
        Self::on(Some(Server::shared().database().expect("a database"))).await
    }

    /// With a restore point of `a`, both arms of verification run, and nothing else.
    async fn on(database: Option<String>) -> Self {
        Self::made(Plant::begun_on(database).await).await
    }

    /// On CloudStack and LINSTOR.
    pub(crate) async fn zone() -> Self {
        Self::made(Plant::begun_in_zone(None).await).await
    }

    async fn made(plant: Plant) -> Self {
        cycle(&plant, b'a', "1").await;
        for disk in plant.disks().await {
            for arm in [Arm::Replica, Arm::Source] {
                let now = jiff::Timestamp::now();
                plant.app.store.disk_verified_set(&disk.id, arm, now).await.expect("stored");
            }
        }
        Self {
            world: World::of(plant),
            power: Mutex::new(vec![Power::On]),
            deaf: Mutex::new(false),
            last: Mutex::new(Some(b'z')),
            trouble: Mutex::default(),
        }
    }

    pub(crate) fn power(&self) -> Power {
        *self.power.lock().expect("whole").last().expect("always one")
    }

    pub(crate) fn switch_source(&self, to: Power) {
        self.power.lock().expect("whole").push(to);
    }

    /// Without a test, for a reason.
    pub(crate) async fn request(&self) -> Request {
        let override_reason = Some("no time for a test".to_owned());
        Request {
            live: Some(Live { override_reason, graceful: Duration::ZERO, ..Live::default() }),
            ..self.world.request().await
        }
    }

    pub(crate) async fn ask(&self, request: &Request) -> Result<FailoverView, Error> {
        self.world.plant.app.failover_live(&somebody(), request).await
    }

    pub(crate) async fn begin(&self) -> WorkflowId {
        self.ask(&self.request().await).await.expect("taken").failover.record.job
    }

    /// Until nothing goes on by itself, and the migration follows.
    pub(crate) async fn drive(&self, id: &WorkflowId) -> Job {
        let engine = self.world.engine();
        tokio::select! {
            driven = Box::pin(engine.drive_now(id)) => driven.expect("driven"),
            () = Box::pin(self.agent()) => {}
            () = Box::pin(self.tell(&engine, id)) => {}
        }
        self.world.plant.step().await;
        self.world.plant.app.store.workflow_fetch(id).await.expect("read")
    }

    /// That a job is to end; the services tell an engine of their own, which drives nothing here.
    async fn tell(&self, engine: &Engine, id: &WorkflowId) {
        loop {
            let job = self.world.plant.app.store.workflow_fetch(id).await.expect("read");
            if job.wish == Some(Wish::Cancel) {
                engine.stop(id);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// The program dies after so many polls; whether it did.
    pub(crate) async fn drive_and_die(&self, id: &WorkflowId, after: u32) -> bool {
        let engine = self.world.engine();
        tokio::select! {
            ended = cut(Box::pin(engine.drive_now(id)), after) => ended.is_none(),
            () = Box::pin(self.agent()) => false,
        }
    }

    pub(crate) async fn roll_back(&self, id: &WorkflowId) -> WorkflowId {
        let view = self.world.plant.app.failover_rollback(&somebody(), id.as_str()).await.expect("taken");
        view.failover.rollback.expect("made").id
    }

    /// Its agent has seen it so, and says it.
    pub(crate) async fn seen(&self, power: Power) {
        let plant = &self.world.plant;
        let mut vm = plant.app.vm_list().await.expect("read").remove(0).vm;
        if let Some(configuration) = &mut vm.configuration {
            configuration.power = power;
        }
        plant.app.agent_inventory(&plant.agent, &[vm]).await.expect("taken");
    }

    /// Its agent is asked how the source's power is.
    pub(crate) async fn commit(&self, id: &WorkflowId) -> Result<FailoverView, Error> {
        let caller = somebody();
        tokio::select! {
            committed = Box::pin(self.world.plant.app.failover_commit(&caller, id.as_str())) => committed,
            () = Box::pin(self.agent()) => panic!("it goes on for ever"),
        }
    }

    pub(crate) async fn failover(&self, id: &WorkflowId) -> Failover {
        self.world.failover(id).await
    }

    pub(crate) async fn position(&self) -> Position {
        self.world.plant.migration().await.position
    }

    pub(crate) async fn cancel(&self, id: &WorkflowId) {
        self.world.engine().ask(id, &Ask::Cancel, "tester").await.expect("taken");
    }

    /// What all of a volume's bytes are; `None`: they differ, or it is not there.
    pub(crate) fn content(&self, volume: &str) -> Option<u8> {
        let path = self.world.plant.folder.path().join("storage/volumes").join(format!("{volume}.img"));
        let bytes = std::fs::read(path).ok()?;
        let first = *bytes.first()?;
        bytes.iter().all(|b| *b == first).then_some(first)
    }

    /// Behind everybody's back.
    pub(crate) async fn write_replica(&self, disk: usize, byte: u8) {
        let volume = self.world.plant.disks().await.swap_remove(disk).volume;
        let path = self.world.plant.folder.path().join("storage/volumes").join(format!("{volume}.img"));
        let file = std::fs::File::options().write(true).open(path).expect("there");
        std::os::unix::fs::FileExt::write_all_at(&file, &[byte; 4096], 0).expect("written");
        file.sync_all().expect("on disk");
    }

    pub(crate) fn target_runs(&self) -> bool {
        self.world.there().machines.iter().any(|(.., state)| *state == State::Running)
    }

    /// The agent, and the control plane's reconcilers: they go on as long as they are polled.
    pub(crate) async fn agent(&self) {
        let plant = &self.world.plant;
        loop {
            self.obey().await;
            plant.step().await;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    async fn obey(&self) {
        let plant = &self.world.plant;
        let Some(desired) = plant.app.agent_desired(&plant.agent, 1).await.expect("read").vms.pop() else {
            return;
        };
        if let Some(order) = desired.power {
            let was = self.power();
            let deaf = *self.deaf.lock().expect("whole") && !order.force;
            let (how, failure) = match (order.wish, was) {
                (PowerWish::Report, _) | (PowerWish::Off, Power::Off) | (PowerWish::On, Power::On) => {
                    (Some(How::Already), None)
                }
                (PowerWish::Off, _) if deaf => {
                    let (reason, message) = ("POWER_OFF_TIMEOUT".to_owned(), "it does not hear".to_owned());
                    (None, Some(PowerFailure { reason, message }))
                }
                (PowerWish::Off, _) => {
                    self.switch_source(Power::Off);
                    (Some(if order.force { How::Forced } else { How::Graceful }), None)
                }
                (PowerWish::On, _) => {
                    assert!(!self.target_runs(), "the source is switched on beside its target");
                    self.switch_source(Power::On);
                    (Some(How::Graceful), None)
                }
            };
            let (vm, migration) = (desired.vm.clone(), desired.migration.clone());
            let report = PowerReport { vm, migration, order: order.id, state: self.power(), how, failure };
            plant.app.agent_power(&plant.agent, report).await.expect("taken");
        }
        let last = *self.last.lock().expect("whole");
        if let (Some(wanted), Some(byte)) = (desired.cycle, last)
            && wanted.run == CycleRun::Run
        {
            let job = plant.app.store.job_fetch(&wanted.job).await.expect("read");
            if job.status != JobStatus::Running || job.wanted != Wanted::Run {
                return;
            }
            if job.snapshot.is_none() {
                plant.snapshot_taken(&job, "2").await;
                return;
            }
            let trouble = *self.trouble.lock().expect("whole");
            if wanted.kind == CycleKind::VerifySource {
                if trouble == Some(Trouble::Hides) {
                    let _ = plant.compared_with(&job, 0, b'!').await;
                }
                plant.seal(&job).await;
                return;
            }
            for disk in 0..job.disks.len() {
                // Its program may have died meanwhile.
                let _ = plant.sent_all_of(&job, disk, byte).await;
            }
            if trouble == Some(Trouble::Loses) {
                self.write_replica(0, b'?').await;
            }
        }
    }
}

/// A whole cycle that sends `byte` everywhere.
pub(crate) async fn cycle(plant: &Plant, byte: u8, change_id: &str) {
    plant.act(Action::Sync).await;
    plant.step().await;
    let job = plant.job().await;
    plant.snapshot_taken(&job, change_id).await;
    for disk in 0..job.disks.len() {
        plant.sent_all_of(&job, disk, byte).await.expect("sent");
    }
    plant.step().await;
}
