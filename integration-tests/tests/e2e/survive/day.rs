//! The operator's day under the knife: every request has a key, and one whose answer was lost is made again.

use super::books::Books;
use super::knife::Knife;
use super::mib;
use crate::findings::{SOON, equal, guest_writes, ours_at_the_source};
use crate::interrupted::{durable, job};
use anyhow::{Context as _, bail, ensure};
use integration_tests::harness::{VM_UUID, World};
use proto::v1;
use proto::v1::inventory_service_client::InventoryServiceClient;
use proto::v1::migration_service_client::MigrationServiceClient;
use std::time::{Duration, Instant};

/// A start, and what follows it.
const ORDER: Duration = Duration::from_secs(20);

pub(super) const SIZE: u64 = mib(14) + 512;

/// A control plane that may be killed at any moment, once.
struct Day<'a> {
    world: &'a mut World,
    knife: &'a Knife,
    fell: bool,
    keys: u64,
    round: u32,
}

/// Whether the knife fell in it.
pub(super) async fn live_through(
    world: &mut World,
    books: &Books,
    knife: &Knife,
    n: u32,
    round: u32,
) -> anyhow::Result<bool> {
    let mut day = Day { world, knife, fell: false, keys: 0, round };
    if !day.knife.start(day.world, n) {
        day.revive()?;
    }
    guest_writes(day.world.live()?, "root", 0, SIZE, u64::from(round))?;
    day.agent_there().await?;
    let m = day.act(v1::Action::Begin).await?;
    let id = m.migration_id.clone();
    day.until("begin/paused", |m| m.state() != v1::State::Running).await?;
    let mut runs = vec!["begin", "sync"];
    day.act(v1::Action::Sync).await?;
    day.until("a durable part", |m| durable(m) > 0 || m.state() != v1::State::Running).await?;
    // Refused when the copy was quicker: then there is nothing to pause.
    if day.ask(v1::Action::Pause).await?.is_ok() {
        let m = day.until("the pause", |m| m.state() != v1::State::Running).await?;
        if m.cycle.as_ref().is_some_and(|cycle| cycle.status == "paused") {
            day.act(v1::Action::Sync).await?;
            runs.push("sync");
        }
    }
    let m = day.until("the first commit", |m| m.state() != v1::State::Running).await?;
    committed(&m, 1)?;
    guest_writes(day.world.live()?, "root", mib(3), mib(2), u64::from(round) + 7)?;
    day.act(v1::Action::Sync).await?;
    runs.push("sync");
    let first = job(&m);
    let m = day.until("the second commit", |m| m.state() != v1::State::Running).await?;
    ensure!(job(&m) != first, "no second cycle: {m:?}");
    committed(&m, 2)?;
    day.order("books in order between two cycles", |world| books.at_rest(world, &id, 2)).await?;
    if day.fell && round.is_multiple_of(3) {
        // It may have fallen a moment ago, and the source's side is asked, too.
        day.agent_there().await?;
        equal(day.world, &m).await?;
    }
    day.act(v1::Action::Abort).await?;
    runs.push("abort");
    let m = day.until("the end of the abort", |m| m.state() != v1::State::Running).await?;
    ensure!(m.state() == v1::State::Aborted && m.migration_id == id, "{m:?}");
    day.order("the source released", |world| {
        let left = ours_at_the_source(world.live()?)?;
        ensure!(left.is_empty(), "{left:?}");
        Ok(())
    })
    .await?;
    crate::interrupted::nothing_kept(day.world)?;
    books.closed(&id, &runs, u64::from(round))?;
    let (keys, attempts) = (day.keys, books.attempts(&id)?);
    ensure!(keys == attempts, "{keys} actions were answered, {attempts} are recorded");
    Ok(day.fell)
}

fn committed(m: &v1::Migration, points: usize) -> anyhow::Result<()> {
    ensure!(m.phase() == v1::Phase::Sync && m.state() == v1::State::Paused, "{m:?}");
    ensure!(m.restore_points.len() >= points && m.error_reason.is_empty(), "{m:?}");
    let mut of: Vec<_> = m.restore_points.iter().map(|point| &point.job_id).collect();
    of.dedup();
    ensure!(of.len() == m.restore_points.len(), "two restore points of one cycle: {m:?}");
    Ok(())
}

impl Day<'_> {
    /// It was killed: started again, the knife put away.
    fn revive(&mut self) -> anyhow::Result<()> {
        ensure!(!self.fell, "it ended a second time, and nobody killed it");
        self.fell = true;
        self.knife.sheathe(self.world)
    }

    fn revive_if_dead(&mut self) -> anyhow::Result<()> {
        if self.world.oma.is_running() { Ok(()) } else { self.revive() }
    }

    /// An answer of the VM's agent is there.
    async fn agent_there(&mut self) -> anyhow::Result<()> {
        let end = Instant::now() + SOON;
        loop {
            self.revive_if_dead()?;
            if let Ok(channel) = self.world.channel().await
                && let Ok(answer) =
                    InventoryServiceClient::new(channel).list_vms(v1::ListVmsRequest::default()).await
                && answer.get_ref().vms.iter().any(|vm| vm.agent_connected)
            {
                return Ok(());
            }
            ensure!(Instant::now() < end, "the agent does not come");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Asks until there is an answer, always under one key.
    async fn ask(&mut self, action: v1::Action) -> anyhow::Result<Result<v1::Migration, tonic::Status>> {
        let request = v1::ActRequest {
            vm: VM_UUID.to_owned(),
            action: action.into(),
            idempotency_key: format!("{}-{}-{action:?}", self.round, self.keys),
            ..v1::ActRequest::default()
        };
        let end = Instant::now() + SOON;
        loop {
            let answer = match self.world.channel().await {
                Ok(channel) => Some(MigrationServiceClient::new(channel).act(request.clone()).await),
                Err(_) => None,
            };
            match answer {
                Some(Ok(answer)) => {
                    self.keys += 1;
                    return Ok(Ok(answer.into_inner().migration.context("no migration in the answer")?));
                }
                // Said by it, and not by the lack of it. An agent that is on its way back is waited for.
                Some(Err(status))
                    if status.code() == tonic::Code::FailedPrecondition
                        && !status.message().contains("not connected") =>
                {
                    return Ok(Err(status));
                }
                Some(Err(status))
                    if matches!(
                        status.code(),
                        tonic::Code::InvalidArgument
                            | tonic::Code::AlreadyExists
                            | tonic::Code::Internal
                            | tonic::Code::NotFound
                    ) =>
                {
                    bail!("{action:?}: {status:?}")
                }
                Some(Err(_)) | None => {}
            }
            ensure!(Instant::now() < end, "no answer to {action:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
            self.revive_if_dead()?;
        }
    }

    /// What comes a moment after the answer, or after the next start.
    async fn order(&mut self, what: &str, hold: impl Fn(&World) -> anyhow::Result<()>) -> anyhow::Result<()> {
        let end = Instant::now() + ORDER;
        loop {
            self.revive_if_dead()?;
            match hold(self.world) {
                Ok(()) => return Ok(()),
                Err(error) if Instant::now() > end => return Err(error.context(what.to_owned())),
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    async fn act(&mut self, action: v1::Action) -> anyhow::Result<v1::Migration> {
        self.ask(action).await?.with_context(|| format!("{action:?} was refused"))
    }

    async fn until(
        &mut self,
        what: &str,
        wanted: impl Fn(&v1::Migration) -> bool,
    ) -> anyhow::Result<v1::Migration> {
        let (end, mut last) = (Instant::now() + SOON, None);
        loop {
            self.revive_if_dead()?;
            if let Ok(m) = self.world.get().await {
                if wanted(&m) {
                    ensure!(m.state() != v1::State::Failed, "failed: {} {}", m.error_reason, m.error_message);
                    return Ok(m);
                }
                last = Some(m);
            }
            ensure!(Instant::now() < end, "{what}: not within {SOON:?}; last seen {last:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}
