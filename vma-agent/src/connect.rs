//! The one connection that the agent keeps: out to the OMA, desired state down, reports up.
//!
//! ```text
//! dial ─ Hello ─► ─◄ Welcome ─ ┬ desired state ─► cycle::Manager
//!   ▲                          ├ reports, inventory, heartbeat ─►
//!   └─── back-off ◄── broken ──┘
//! ```
//!
//! It decides nothing about cycles. Whatever is lost with a connection is made good by the next desired state, which
//! comes whole.

use crate::cycle::{Manager, Outgoing};
use proto::v1::agent_service_client::AgentServiceClient;
use proto::v1::{self, connect_request::Kind as Up, connect_response::Kind as Down};
use rand::Rng as _;
use shared::cycle::{CAPABILITIES, DesiredState, Hello, PROTOCOL_VERSIONS, Vm, Welcome};
use shared::ids::AgentId;
use shared::tls::Dialer;
use shared::wire::refusal;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

/// First and longest wait between two attempts.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(15));

/// Between two looks at the sources.
const INVENTORY_PERIOD: Duration = Duration::from_secs(60);

/// For a source's answer before the hello: one that cannot be reached must not keep the others from the OMA.
const HELLO_PATIENCE: Duration = Duration::from_secs(2);

/// For the OMA's first answer.
const WELCOME_DEADLINE: Duration = Duration::from_secs(15);

/// Keeps connecting until `shutdown`.
pub async fn run(
    dialer: Dialer,
    agent: AgentId,
    manager: Manager,
    mut outgoing: mpsc::Receiver<Outgoing>,
    shutdown: CancellationToken,
) {
    let mut wait = BACKOFF.0;
    loop {
        let session = Session { dialer: &dialer, agent: &agent, manager: &manager, outgoing: &mut outgoing };
        let ended = tokio::select! {
            ended = session.run(&mut wait) => ended,
            () = shutdown.cancelled() => break,
        };
        manager.disconnected();
        if matches!(ended, Ended::Overtaken) {
            // Two that take the connection from each other would interrupt each other's cycles all the time.
            wait = BACKOFF.1;
        }
        // Jitter: a hundred agents must not come back in step.
        let pause = wait.mul_f64(rand::rng().random_range(0.75..1.25));
        match ended {
            Ended::Refused(reason) => {
                error!(oma = dialer.address(), %reason, retry_in = ?pause, "the OMA refuses this agent");
                wait = BACKOFF.1;
            }
            Ended::Overtaken => {
                error!(oma = dialer.address(), agent = %agent, retry_in = ?pause,
                       "another connection took over: does a second vma-agent run with this agent's certificate?");
            }
            Ended::Broken(reason) => {
                warn!(oma = dialer.address(), %reason, retry_in = ?pause, "not connected to the OMA");
                wait = (wait * 2).min(BACKOFF.1);
            }
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = shutdown.cancelled() => break,
        }
    }
    manager.stop().await;
}

enum Ended {
    /// Trying again soon will not help, but an operator may mend it.
    Refused(String),
    /// Somebody with the same identity is connected now.
    Overtaken,
    Broken(String),
}

impl Ended {
    fn of_status(status: &tonic::Status, dialer: &Dialer) -> Self {
        let reason = refusal::reason_of(status).unwrap_or_else(|| format!("{:?}", status.code()));
        if reason == "OVERTAKEN" {
            return Self::Overtaken;
        }
        let said = format!("{reason}: {}", status.message());
        match (dialer.take_refusal(), status.code()) {
            (Some(tls), _) => Self::Refused(tls),
            (
                None,
                tonic::Code::PermissionDenied
                | tonic::Code::Unauthenticated
                | tonic::Code::InvalidArgument
                | tonic::Code::FailedPrecondition
                | tonic::Code::Unimplemented,
            ) => Self::Refused(said),
            _ => Self::Broken(said),
        }
    }
}

struct Session<'a> {
    dialer: &'a Dialer,
    agent: &'a AgentId,
    manager: &'a Manager,
    outgoing: &'a mut mpsc::Receiver<Outgoing>,
}

impl Session<'_> {
    async fn run(self, wait: &mut Duration) -> Ended {
        let channel = match self.dialer.connect().await {
            Ok(channel) => channel,
            Err(reason) => return Ended::Broken(reason),
        };
        let (up, requests) = mpsc::channel(64);
        let mut told = self.manager.inventory(HELLO_PATIENCE).await;
        let hello = Hello {
            agent: self.agent.clone(),
            software_version: env!("CARGO_PKG_VERSION").to_owned(),
            protocol_versions: PROTOCOL_VERSIONS.to_vec(),
            capabilities: CAPABILITIES.iter().map(ToString::to_string).collect(),
            inventory: told.clone(),
        };
        // Room for 64: the first cannot wait.
        let _ = up.send(request(Up::Hello(hello.into()))).await;
        let mut client = AgentServiceClient::new(channel.clone());
        let opening = async {
            let mut down = client.connect(ReceiverStream::new(requests)).await?.into_inner();
            match down.message().await? {
                Some(v1::ConnectResponse { kind: Some(Down::Welcome(welcome)) }) => {
                    Ok((down, Welcome::from(welcome)))
                }
                _ => Err(tonic::Status::internal("the first answer was no welcome")),
            }
        };
        let (mut down, welcome) = match tokio::time::timeout(WELCOME_DEADLINE, opening).await {
            Ok(Ok(opened)) => opened,
            Ok(Err(status)) => return Ended::of_status(&status, self.dialer),
            Err(_) => return Ended::Broken(format!("no welcome within {WELCOME_DEADLINE:?}")),
        };
        info!(oma = self.dialer.address(), session = %welcome.session_id, version = welcome.protocol_version,
              oma_version = %welcome.software_version, "connected to the OMA");
        *wait = BACKOFF.0;
        self.manager.connected(channel);
        let mut heartbeat = tokio::time::interval(welcome.heartbeat);
        // At once: a source that the hello did not wait for may have answered since.
        let looking = look(self.manager, Duration::ZERO);
        tokio::pin!(looking);
        let mut revision = 0;
        // Three heartbeats of silence from below HTTP/2's own keep-alive would be a stuck OMA; its pings see to that.
        loop {
            let sent = tokio::select! {
                message = down.next() => match message {
                    Some(Ok(message)) => {
                        if let Err(ended) = self.take(message, &mut revision) {
                            return ended;
                        }
                        continue;
                    }
                    Some(Err(status)) => return Ended::of_status(&status, self.dialer),
                    None => return Ended::Broken("the OMA closed the connection".to_owned()),
                },
                out = self.outgoing.recv() => match out {
                    Some(Outgoing::Report(report)) => up.send(request(Up::Report(report.into()))).await,
                    Some(Outgoing::Released { vm, migration }) => {
                        let released = v1::VmReleased { vm_uuid: vm.into(), migration_id: migration.into() };
                        up.send(request(Up::Released(released))).await
                    }
                    Some(Outgoing::Power(report)) => up.send(request(Up::Power(report.into()))).await,
                    None => return Ended::Broken("shutting down".to_owned()),
                },
                found = &mut looking => {
                    looking.set(look(self.manager, INVENTORY_PERIOD));
                    if found == told {
                        continue;
                    }
                    told.clone_from(&found);
                    let vms = found.into_iter().map(Into::into).collect();
                    up.send(request(Up::Inventory(v1::InventoryReport { vms }))).await
                }
                _ = heartbeat.tick() => {
                    let running_job_ids = self.manager.running().into_iter().map(String::from).collect();
                    up.send(request(Up::Heartbeat(v1::Heartbeat { running_job_ids }))).await
                }
            };
            if sent.is_err() {
                return Ended::Broken("the connection to the OMA broke".to_owned());
            }
        }
    }

    /// `newest` is the revision of the last desired state of this connection.
    fn take(&self, message: v1::ConnectResponse, newest: &mut u64) -> Result<(), Ended> {
        match message.kind {
            Some(Down::Desired(desired)) => match DesiredState::try_from(desired) {
                // Taken for the last word, it would undo what was begun since, and nothing would come after it.
                Ok(desired) if desired.revision < *newest => {
                    warn!(
                        revision = desired.revision,
                        newest, "a desired state that was overtaken is ignored"
                    );
                }
                Ok(desired) => {
                    *newest = desired.revision;
                    self.manager.desire(desired);
                }
                Err(error) => {
                    return Err(Ended::Refused(format!("the desired state is not usable: {error}")));
                }
            },
            Some(Down::Welcome(_)) => warn!("a second welcome is ignored"),
            // A newer OMA's word; what we negotiated does not have it.
            None => warn!("a message of an unknown kind is ignored"),
        }
        Ok(())
    }
}

/// The inventory, after a while, or when a snapshot was asked for: a VM may come, or get another disk, while the agent
/// is connected.
async fn look(manager: &Manager, after: Duration) -> Vec<Vm> {
    tokio::select! {
        () = tokio::time::sleep(after) => {}
        () = manager.may_have_changed() => {}
    }
    manager.inventory(INVENTORY_PERIOD).await
}

fn request(kind: Up) -> v1::ConnectRequest {
    v1::ConnectRequest { kind: Some(kind) }
}
