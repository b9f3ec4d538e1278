//! `AgentService`.

use super::access;
use crate::service::App;
use proto::v1::agent_service_server::AgentService;
use proto::v1::{self, connect_request::Kind as Up, connect_response::Kind as Down};
use shared::correlation::carried;
use shared::cycle::{Hello, PowerReport, Report};
use shared::ids::{AgentId, MigrationId};
use shared::tls::Peer;
use shared::wire::{Invalid, inventory_from_wire, refusal};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Response, Status, Streaming};
use tracing::{info, warn};

/// For the first message.
const HELLO_DEADLINE: Duration = Duration::from_secs(15);

pub(super) struct Agents {
    pub(super) app: App,
    pub(super) shutdown: CancellationToken,
}

type Answers = mpsc::Sender<Result<v1::ConnectResponse, Status>>;

#[tonic::async_trait]
impl AgentService for Agents {
    type ConnectStream = ReceiverStream<Result<v1::ConnectResponse, Status>>;

    async fn connect(
        &self,
        request: Request<Streaming<v1::ConnectRequest>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        let agent = access::agent_of(request.extensions())?;
        let peer = request.extensions().get::<Peer>().cloned();
        let address = peer.map_or_else(|| ([0, 0, 0, 0], 0).into(), |peer| peer.address);
        let mut up = request.into_inner();
        let hello = first(&mut up).await?;
        let (connection, welcome) = match self.app.agent_connect(&agent, address, hello).await {
            Ok(connected) => connected,
            Err(error) => {
                let reason = shared::error::chain(&error);
                warn!(%agent, %address, %reason, "agent refused");
                return Err(error.to_status());
            }
        };
        let (answers, receiver) = mpsc::channel(16);
        // Room for 16: the first cannot wait.
        let _ = answers.send(Ok(v1::ConnectResponse { kind: Some(Down::Welcome(welcome.into())) })).await;
        let session = Session { app: self.app.clone(), agent: agent.clone() };
        let shutdown = self.shutdown.clone();
        tokio::spawn(carried(async move {
            let ended = tokio::select! {
                ended = session.up(up) => ended,
                ended = session.down(&connection, &answers) => ended,
                () = connection.overtaken() => Err(refusal::status(
                    Code::Aborted, "OVERTAKEN", "another connection of this agent took over")),
                () = shutdown.cancelled() => Err(refusal::status(
                    Code::Unavailable, "SHUTTING_DOWN", "the control plane is being stopped")),
            };
            if let Err(status) = ended {
                info!(agent = %session.agent, reason = status.message(), "agent's connection ended");
                let _ = answers.send(Err(status)).await;
            }
            session.app.agent_disconnect(&session.agent, connection).await;
        }));
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

async fn first(up: &mut Streaming<v1::ConnectRequest>) -> Result<Hello, Status> {
    let message = tokio::time::timeout(HELLO_DEADLINE, up.message())
        .await
        .map_err(|_| refusal::status(Code::DeadlineExceeded, "NO_HELLO", "no hello within 15 s"))??;
    match message {
        Some(v1::ConnectRequest { kind: Some(Up::Hello(hello)) }) => {
            Hello::try_from(hello).map_err(|e| refusal::invalid(&e))
        }
        _ => Err(refusal::status(Code::InvalidArgument, "NO_HELLO", "the first message must be a hello")),
    }
}

struct Session {
    app: App,
    agent: AgentId,
}

impl Session {
    /// What the agent says, until it ends or breaks.
    async fn up(&self, mut up: Streaming<v1::ConnectRequest>) -> Result<(), Status> {
        // Three heartbeats may be lost.
        let silence = self.app.heartbeat * 4;
        loop {
            let message = tokio::time::timeout(silence, up.message()).await.map_err(|_| {
                refusal::status(Code::DeadlineExceeded, "SILENT", format!("nothing for {silence:?}"))
            })??;
            let Some(message) = message else { return Ok(()) };
            self.take(message).await?;
        }
    }

    async fn take(&self, message: v1::ConnectRequest) -> Result<(), Status> {
        let invalid = |e: Invalid| refusal::invalid(&e);
        let result = match message.kind {
            Some(Up::Heartbeat(_)) => {
                self.app.agent_seen(&self.agent);
                Ok(())
            }
            Some(Up::Report(report)) => {
                let report = Report::try_from(report).map_err(invalid)?;
                self.app.agent_report(&self.agent, report).await
            }
            Some(Up::Inventory(inventory)) => {
                let vms = inventory_from_wire(inventory.vms).map_err(invalid)?;
                self.app.agent_inventory(&self.agent, &vms).await
            }
            Some(Up::Released(released)) => {
                let id = MigrationId::parse(released.migration_id)
                    .map_err(|e| invalid(Invalid::new("released.migration_id", e)))?;
                self.app.agent_released(&self.agent, &id).await
            }
            Some(Up::Power(report)) => {
                let report = PowerReport::try_from(report).map_err(invalid)?;
                self.app.agent_power(&self.agent, report).await
            }
            Some(Up::Hello(_)) => return Err(invalid(Invalid::new("kind", "a second hello"))),
            // A newer agent's word; what was negotiated does not have it.
            None => Ok(()),
        };
        result.map_err(|error| {
            warn!(agent = %self.agent, error = %shared::error::chain(&error), "a report could not be taken");
            error.to_status()
        })
    }

    /// The desired state, whole, at once and after every change.
    async fn down(&self, connection: &crate::hub::AgentConnection, answers: &Answers) -> Result<(), Status> {
        let mut revision = 0;
        loop {
            revision += 1;
            let desired = self.app.agent_desired(&self.agent, revision).await.map_err(|e| e.to_status())?;
            let message = v1::ConnectResponse { kind: Some(Down::Desired(desired.into())) };
            if answers.send(Ok(message)).await.is_err() {
                return Ok(());
            }
            connection.changed().await;
        }
    }
}
