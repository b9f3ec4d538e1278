//! Both sides of the wire by hand: an agent that does only what a test says, and pushes made message by message.

use anyhow::Context as _;
use integration_tests::harness::{VM_UUID, World};
use proto::v1::agent_service_client::AgentServiceClient;
use proto::v1::transfer_service_client::TransferServiceClient;
use proto::v1::{self, connect_request::Kind as Up, connect_response::Kind as Down};
use proto::v1::{push_request::Kind as Ask, push_response::Kind as Answer};
use shared::tls::Role;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Status, Streaming};

/// Bytes of a leaf.
pub(crate) const LEAF: u64 = 64 << 10;

/// For one answer, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Takes the place of the world's agent, under its certificate.
pub(crate) struct HandAgent {
    up: mpsc::Sender<v1::ConnectRequest>,
    down: Streaming<v1::ConnectResponse>,
    pub(crate) channel: Channel,
}

pub(crate) fn hello(agent: &str, disks: &[(&str, u64)]) -> v1::ConnectRequest {
    let disks = disks.iter().map(|&(key, size_bytes)| v1::VmDisk { key: key.to_owned(), size_bytes });
    let vm = v1::Vm {
        uuid: VM_UUID.to_owned(),
        name: "web".to_owned(),
        disks: disks.collect(),
        configuration: None,
    };
    let hello = v1::Hello {
        agent_id: agent.to_owned(),
        software_version: "by hand".to_owned(),
        protocol_versions: vec![1],
        capabilities: vec![],
        inventory: vec![vm],
    };
    v1::ConnectRequest { kind: Some(Up::Hello(hello)) }
}

/// The reason in a refusal, empty where it has none.
pub(crate) fn reason(status: &Status) -> String {
    shared::wire::refusal::reason_of(status).unwrap_or_default()
}

impl HandAgent {
    /// Connects as vma-01; the VM has these disks. The world's own agent must be dead.
    pub(crate) async fn connect(world: &World, disks: &[(&str, u64)]) -> anyhow::Result<Self> {
        let channel = world.channel_as(&world.ca.files(Role::Agent, "vma-01")).await?;
        let (up, requests) = mpsc::channel(16);
        up.send(hello("vma-01", disks)).await?;
        let answer = AgentServiceClient::new(channel.clone()).connect(ReceiverStream::new(requests)).await?;
        let beats = up.clone();
        tokio::spawn(async move {
            let beat = || v1::ConnectRequest { kind: Some(Up::Heartbeat(v1::Heartbeat::default())) };
            while beats.send(beat()).await.is_ok() {
                tokio::time::sleep(Duration::from_secs(2)).await;
            }
        });
        Ok(Self { up, down: answer.into_inner(), channel })
    }

    /// Reads on until the desired state has a VM like that.
    pub(crate) async fn desired(
        &mut self,
        wanted: impl Fn(&v1::DesiredVm) -> bool,
    ) -> anyhow::Result<v1::DesiredVm> {
        let reading = async {
            loop {
                let message = self.down.message().await?.context("the OMA closed the connection")?;
                let Some(Down::Desired(state)) = message.kind else { continue };
                if let Some(vm) = state.vms.into_iter().find(|vm| wanted(vm)) {
                    return anyhow::Ok(vm);
                }
            }
        };
        tokio::time::timeout(PATIENCE, reading).await.context("no such desired state")?
    }

    /// A cycle that is to run, snapshot taken and on record.
    pub(crate) async fn cycle(&mut self, disks: &[(&str, u64)]) -> anyhow::Result<v1::DesiredCycle> {
        let running = |vm: &v1::DesiredVm| vm.cycle.as_ref().is_some_and(|c| c.run() == v1::CycleRun::Run);
        let cycle = self.desired(running).await?.cycle.context("just seen")?;
        if !cycle.snapshot_id.is_empty() {
            return Ok(cycle);
        }
        let disk = |&(key, size_bytes): &(&str, u64)| v1::SnapshotDisk {
            key: key.to_owned(),
            size_bytes,
            change_id: format!("{}.{key}", cycle.job_id),
        };
        let taken = v1::SnapshotTaken {
            snapshot_id: format!("mk-{}", cycle.job_id),
            taken_at: "2026-01-01T00:00:00Z".to_owned(),
            disks: disks.iter().map(disk).collect(),
        };
        self.report(&cycle.job_id, v1::cycle_report::Event::SnapshotTaken(taken)).await?;
        let recorded = |vm: &v1::DesiredVm| {
            vm.cycle.as_ref().is_some_and(|c| c.run() == v1::CycleRun::Run && !c.snapshot_id.is_empty())
        };
        self.desired(recorded).await?.cycle.context("just seen")
    }

    pub(crate) async fn report(&self, job: &str, event: v1::cycle_report::Event) -> anyhow::Result<()> {
        let report = v1::CycleReport { job_id: job.to_owned(), event: Some(event) };
        Ok(self.up.send(v1::ConnectRequest { kind: Some(Up::Report(report)) }).await?)
    }
}

/// What opens a transfer of the cycle's only disk.
pub(crate) fn open_of(cycle: &v1::DesiredCycle, size: u64) -> v1::Open {
    let disk = &cycle.disks[0];
    v1::Open {
        job_id: cycle.job_id.clone(),
        disk_id: disk.disk_id.clone(),
        epoch: disk.epoch,
        size_bytes: size,
        mode: v1::PushMode::Data.into(),
    }
}

/// An open transfer.
pub(crate) struct Hand {
    up: mpsc::Sender<v1::PushRequest>,
    down: Streaming<v1::PushResponse>,
    /// Bytes called durable to this stream.
    pub(crate) durable: u64,
    /// Bytes that the opening called durable, and required.
    pub(crate) prior: (u64, u64),
}

impl Hand {
    pub(crate) async fn open(channel: &Channel, open: v1::Open) -> Result<Self, Status> {
        let (up, requests) = mpsc::channel(4);
        let first = v1::PushRequest { kind: Some(Ask::Open(open)) };
        let _ = up.send(first).await;
        let push = TransferServiceClient::new(channel.clone()).push(ReceiverStream::new(requests)).await?;
        let mut this = Self { up, down: push.into_inner(), durable: 0, prior: (0, 0) };
        loop {
            match this.answer().await? {
                Answer::Page(page) => {
                    this.prior.0 += page.durable.iter().map(|r| r.length).sum::<u64>();
                    this.prior.1 += page.required.iter().map(|r| r.length).sum::<u64>();
                }
                Answer::Opened(_) => return Ok(this),
                other => return Err(Status::internal(format!("{other:?} before the opening"))),
            }
        }
    }

    /// The next answer; the end of the stream is an error too.
    pub(crate) async fn answer(&mut self) -> Result<Answer, Status> {
        let message = tokio::time::timeout(PATIENCE, self.down.message()).await;
        let message =
            message.map_err(|_| Status::deadline_exceeded("the test waited a minute in vain"))??;
        let kind = message.and_then(|m| m.kind).ok_or_else(|| Status::ok("the stream ended"))?;
        if let Answer::Durable(durable) = &kind {
            self.durable += durable.ranges.iter().map(|r| r.length).sum::<u64>();
        }
        Ok(kind)
    }

    /// `false`: the other side has ended the stream; [`answer`](Self::answer) says why.
    pub(crate) async fn send(&self, kind: Ask) -> bool {
        self.up.send(v1::PushRequest { kind: Some(kind) }).await.is_ok()
    }

    /// One leaf filled with a byte; the receiver makes the hash.
    pub(crate) async fn leaf(&self, index: u64, fill: u8) -> bool {
        let leaf = usize::try_from(LEAF).unwrap_or(0);
        self.chunk(index * LEAF, vec![fill; leaf]).await
    }

    pub(crate) async fn chunk(&self, offset: u64, data: Vec<u8>) -> bool {
        self.send(Ask::Chunk(v1::Chunk { offset, leaf_hashes: Default::default(), data: data.into() })).await
    }

    pub(crate) async fn zero(&self, offset: u64, length: u64) -> bool {
        self.send(Ask::Zero(v1::ZeroRange { offset, length })).await
    }

    pub(crate) async fn intent(&self, offset: u64, length: u64) -> bool {
        let ranges = vec![v1::ByteRange { offset, length }];
        self.send(Ask::Intent(v1::Intent { ranges })).await
    }

    /// Reads on until this many bytes were called durable.
    pub(crate) async fn wait_durable(&mut self, bytes: u64) -> Result<(), Status> {
        while self.durable < bytes {
            self.answer().await?;
        }
        Ok(())
    }

    /// Reads on until the stream ends, and gives its status.
    pub(crate) async fn refusal(&mut self) -> Status {
        loop {
            if let Err(status) = self.answer().await {
                return status;
            }
        }
    }

    pub(crate) async fn finish(&mut self) -> Result<(), Status> {
        self.send(Ask::Finish(v1::Finish::default())).await;
        while !matches!(self.answer().await?, Answer::Finished(_)) {}
        Ok(())
    }
}
