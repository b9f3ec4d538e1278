//! The connection ends at what is said when something other than a copy happens: a pause, a source that is away, a
//! failure, another inventory, an order about power, the end of a protection.

use super::{Behind, MOMENTS};
use crate::cycles::live_hashes;
use crate::findings::{MIB, SOON, ours_at_the_source, quiet};
use anyhow::{Context as _, ensure};
use bytes::Bytes;
use integration_tests::harness::eventually;
use integration_tests::middle::{Kind, Moment, Rewrite, Rule, message};
use prost::Message as _;
use proto::v1::inventory_service_client::InventoryServiceClient;
use proto::v1::{self, connect_request::Kind as Up, connect_response::Kind as Down, cycle_report::Event};
use std::sync::Arc;

/// The control plane wants something else of every VM.
fn desiring(change: fn(&mut v1::DesiredVm)) -> Rewrite {
    Arc::new(move |kind: Option<&Kind>, bytes: Bytes| {
        if kind.is_some_and(|kind| kind.as_str() == "ConnectResponse.desired")
            && let Ok(v1::ConnectResponse { kind: Some(Down::Desired(mut state)) }) =
                v1::ConnectResponse::decode(bytes.clone())
        {
            state.vms.iter_mut().for_each(change);
            return vec![message(&v1::ConnectResponse { kind: Some(Down::Desired(state)) })];
        }
        vec![bytes]
    })
}

/// So many bytes a second: a copy of this test lasts for seconds.
fn slow() -> Rewrite {
    desiring(|vm| vm.rate_bytes_per_second = 2 * MIB)
}

/// What is under way at a pause has 3 s to become durable: this keeps the rest of a copy for later.
fn slower() -> Rewrite {
    desiring(|vm| vm.rate_bytes_per_second = MIB / 4)
}

/// Off, which this source cannot do.
fn order_off(vm: &mut v1::DesiredVm) {
    vm.power = Some(v1::PowerOrder {
        order_id: "order-1".to_owned(),
        wish: v1::PowerWish::Off.into(),
        graceful_seconds: 300,
        force: true,
    });
}

/// The agent gives up where it would try again.
fn giving_up() -> Rewrite {
    Arc::new(|_: Option<&Kind>, bytes: Bytes| {
        if let Ok(v1::ConnectRequest { kind: Some(Up::Report(mut report)) }) =
            v1::ConnectRequest::decode(bytes.clone())
            && let Some(Event::Waiting(waiting)) = report.event
        {
            let v1::CycleWaiting { reason, message: why } = waiting;
            report.event = Some(Event::Failed(v1::CycleFailed { reason, message: why }));
            return vec![message(&v1::ConnectRequest { kind: Some(Up::Report(report)) })];
        }
        vec![bytes]
    })
}

fn as_it_is() -> Rewrite {
    Arc::new(|_: Option<&Kind>, bytes: Bytes| vec![bytes])
}

#[tokio::test(flavor = "multi_thread")]
async fn cut_at_every_message_of_other_events() -> anyhow::Result<()> {
    let mut behind = Behind::start(13, "links::events::cut_at_every_message_of_other_events").await?;
    behind.resumed().await?;
    behind.paused().await?;
    behind.waiting().await?;
    behind.failed().await?;
    behind.power().await?;
    behind.inventory().await?;
    behind.released().await?;
    behind.seed.survived();
    Ok(())
}

impl Behind {
    /// What is durable is told to who comes back, as often as that may be.
    async fn resumed(&mut self) -> anyhow::Result<()> {
        self.guest_writes()?;
        self.middle.rewrite(slow());
        let rules = vec![
            // The small disk is sealed with its first.
            Rule { nth: 2, ..self.cut("PushResponse.durable", Moment::After) },
            self.cut("PushResponse.page", Moment::Before),
            self.cut("PushResponse.page", Moment::After),
        ];
        let unmet = self.cycle(rules).await?;
        ensure!(unmet.is_empty(), "{unmet:?}");
        Ok(())
    }

    async fn paused(&mut self) -> anyhow::Result<()> {
        for moment in MOMENTS {
            self.guest_writes()?;
            let source = live_hashes(&self.world)?;
            let before = self.world.get().await?.cycle.map(|cycle| cycle.job_id);
            self.middle.rewrite(slower());
            self.world.act(v1::Action::Sync).await?;
            crate::cycles::snapshot_of_next(&self.world, before.as_deref()).await?;
            let rule = self.cut("ConnectRequest.report.paused", moment);
            self.middle.arm([rule]);
            self.world.act(v1::Action::Pause).await?;
            self.middle.all_fired(SOON).await?;
            let paused = |m: &v1::Migration| m.cycle.as_ref().is_some_and(|c| c.status == "paused");
            let m = self.world.wait("the pause", SOON, paused).await?;
            ensure!(m.state() == v1::State::Paused, "{m:?}");
            self.middle.rewrite(as_it_is());
            let m = self.world.sync().await?;
            self.proof.of(&self.world, &m, &source).await?;
        }
        Ok(())
    }

    /// Asks for a sync while the source is away, and meets the reports of that.
    async fn away(&mut self, kind: &str) -> anyhow::Result<()> {
        quiet(&self.world).await?;
        self.guest_writes()?;
        self.world.vm.as_mut().context("live")?.stop();
        let rules = MOMENTS.map(|moment| self.cut(kind, moment));
        self.middle.arm(rules);
        self.world.act(v1::Action::Sync).await?;
        self.middle.all_fired(SOON).await
    }

    async fn waiting(&mut self) -> anyhow::Result<()> {
        let m = self.world.get().await?;
        self.away("ConnectRequest.report.waiting").await?;
        let said = |m: &v1::Migration| m.error_reason == "SOURCE_UNAVAILABLE";
        let now = self.world.wait("the reason", SOON, said).await?;
        ensure!(now.restore_points == m.restore_points && now.state() == v1::State::Running, "{now:?}");
        self.world.vm.as_mut().context("live")?.restart()?;
        let source = live_hashes(&self.world)?;
        let m = self.world.synced().await?;
        self.proof.of(&self.world, &m, &source).await
    }

    async fn failed(&mut self) -> anyhow::Result<()> {
        self.middle.rewrite(giving_up());
        self.away("ConnectRequest.report.failed").await?;
        let m = self.world.wait("the end", SOON, |m| m.state() != v1::State::Running).await?;
        ensure!(m.state() == v1::State::Failed && m.error_reason == "SOURCE_UNAVAILABLE", "{m:?}");
        self.middle.rewrite(as_it_is());
        self.world.vm.as_mut().context("live")?.restart()?;
        self.cycle(vec![]).await.map(|_| ())
    }

    /// A disk that grew is in the inventory, whether or not the report of it arrived.
    async fn inventory(&mut self) -> anyhow::Result<()> {
        for (moment, size) in MOMENTS.into_iter().zip([4 * MIB, 5 * MIB]) {
            quiet(&self.world).await?;
            self.world.vm.as_mut().context("live")?.resize_disk("data", size)?;
            let rule = self.cut("ConnectRequest.inventory", moment);
            self.middle.arm([rule]);
            self.world.act(v1::Action::Sync).await?;
            self.middle.all_fired(SOON).await?;
            let m = self.world.wait("the end", SOON, |m| m.state() != v1::State::Running).await?;
            ensure!(m.state() == v1::State::Failed && m.error_reason == "DISK_RESIZED", "{m:?}");
            eventually("the new size in the inventory", SOON, || async {
                let channel = self.world.channel().await?;
                let answer =
                    InventoryServiceClient::new(channel).list_vms(v1::ListVmsRequest::default()).await?;
                let mut disks =
                    answer.into_inner().vms.into_iter().flat_map(|vm| vm.vm).flat_map(|vm| vm.disks);
                Ok(disks.any(|disk| disk.key == "data" && disk.size_bytes == size).then_some(()))
            })
            .await?;
        }
        Ok(())
    }

    /// An order is answered over every connection anew, and what comes of it keeps no cycle from its end.
    async fn power(&mut self) -> anyhow::Result<()> {
        quiet(&self.world).await?;
        self.middle.rewrite(desiring(order_off));
        let rules = MOMENTS.map(|moment| self.cut("ConnectRequest.power", moment));
        self.middle.arm(rules);
        let how = self.how();
        self.middle.cut(how);
        self.middle.all_fired(SOON).await?;
        let said = self.middle.seen("ConnectRequest.power");
        eventually("the answer once more", SOON, || async {
            Ok((self.middle.seen("ConnectRequest.power") > said).then_some(()))
        })
        .await?;
        let logged = self.world.agent.logged()?;
        ensure!(logged.contains("POWER_UNSUPPORTED"), "{logged}");
        self.middle.rewrite(as_it_is());
        self.cycle(vec![]).await?;
        self.order_in_a_cycle().await
    }

    /// One that comes while a cycle runs is carried out at once, and the cycle goes on to its end.
    async fn order_in_a_cycle(&mut self) -> anyhow::Result<()> {
        self.guest_writes()?;
        let source = live_hashes(&self.world)?;
        self.middle.rewrite(slow());
        let [said, chunks] = ["ConnectRequest.power", "PushResponse.durable"].map(|k| self.middle.seen(k));
        self.world.act(v1::Action::Sync).await?;
        eventually("a running copy", SOON, || async {
            Ok((self.middle.seen("PushResponse.durable") > chunks).then_some(()))
        })
        .await?;
        self.middle.rewrite(desiring(|vm| {
            vm.rate_bytes_per_second = 2 * MIB;
            order_off(vm);
        }));
        // The desired state comes again.
        self.world.act(v1::Action::Hold).await?;
        eventually("the answer", SOON, || async {
            Ok((self.middle.seen("ConnectRequest.power") > said).then_some(()))
        })
        .await?;
        let m = self.world.get().await?;
        ensure!(m.state() == v1::State::Running, "it waited for the end of the cycle: {m:?}");
        let m = self.world.synced().await?;
        self.proof.of(&self.world, &m, &source).await?;
        self.world.act(v1::Action::Release).await?;
        self.middle.rewrite(as_it_is());
        self.cycle(vec![]).await.map(|_| ())
    }

    /// Nothing of ours stays at the source, and the VM can be protected again.
    async fn released(&mut self) -> anyhow::Result<()> {
        let rules = MOMENTS.map(|moment| self.cut("ConnectRequest.released", moment));
        self.middle.arm(rules);
        self.world.act(v1::Action::Abort).await?;
        let ended = |m: &v1::Migration| m.state() == v1::State::Aborted;
        self.world.wait("the end of the abort", SOON, ended).await?;
        self.middle.all_fired(SOON).await?;
        // `begin` asks for the agent, and the last cut may not have come through yet.
        self.middle.welcomed(SOON).await?;
        eventually("the source without anything of ours", SOON, || async {
            Ok(ours_at_the_source(self.world.live()?)?.is_empty().then_some(()))
        })
        .await?;
        self.world.begin().await?;
        self.cycle(vec![]).await.map(|_| ())
    }
}
