//! `StatusService`, and the standard's `Health` of the same: `""` is this program, other names are the target's servers.
//!
//! A server that is away makes nobody restart the control plane: that goes on with what is open, and says `SERVING` of itself.

use crate::outbound::State;
use crate::service::App;
use crate::service::status::Waits;
use futures::Stream;
use proto::v1;
use proto::v1::status_service_server::StatusService;
use std::pin::Pin;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server::Health;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

/// Between looks for somebody who watches.
const PERIOD: Duration = Duration::from_secs(1);

pub(super) struct Statuses(pub(super) App);

#[tonic::async_trait]
impl StatusService for Statuses {
    async fn get(
        &self,
        _: Request<v1::StatusServiceGetRequest>,
    ) -> Result<Response<v1::StatusServiceGetResponse>, Status> {
        let status = self.0.status().await.map_err(|error| error.to_status())?;
        let servers = status.servers.into_iter().map(|of| v1::TargetServer {
            name: of.peer.to_owned(),
            state: state(of.state).into(),
            silent_seconds: of.silent.as_secs(),
            why: of.why,
        });
        Ok(Response::new(v1::StatusServiceGetResponse {
            version: shared::telemetry::VERSION.to_owned(),
            servers: servers.collect(),
            space_low: status.space_low.map(|why| why.message).unwrap_or_default(),
            waiting: status.waiting.into_iter().map(waits).collect(),
        }))
    }
}

fn state(of: State) -> v1::CircuitState {
    match of {
        State::Closed => v1::CircuitState::Closed,
        State::HalfOpen => v1::CircuitState::HalfOpen,
        State::Open => v1::CircuitState::Open,
    }
}

fn waits(of: Waits) -> v1::WaitingCycle {
    v1::WaitingCycle {
        migration_id: of.migration.to_string(),
        vm: of.vm,
        job_id: of.job.to_string(),
        committing: of.committing,
        reason: of.reason,
        message: of.message,
    }
}

/// See the module.
pub(super) struct Healths {
    pub(super) app: App,
    pub(super) shutdown: CancellationToken,
}

/// `None`: nothing of that name is known.
fn serves(app: &App, name: &str) -> Option<ServingStatus> {
    if name.is_empty() {
        return Some(ServingStatus::Serving);
    }
    let of = app.servers().into_iter().find(|of| of.peer == name)?;
    Some(match of.state {
        State::Closed => ServingStatus::Serving,
        State::HalfOpen | State::Open => ServingStatus::NotServing,
    })
}

#[tonic::async_trait]
impl Health for Healths {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let name = request.into_inner().service;
        let unknown = || {
            Status::not_found(format!(
                "no service {name:?} is known here: ask for \"\", or for a server of the target"
            ))
        };
        let status = serves(&self.app, &name).ok_or_else(unknown)?;
        Ok(Response::new(HealthCheckResponse { status: status.into() }))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let (name, app, shutdown) = (request.into_inner().service, self.app.clone(), self.shutdown.clone());
        let changes = futures::stream::unfold(None, move |last| {
            let (name, app, shutdown) = (name.clone(), app.clone(), shutdown.clone());
            async move {
                loop {
                    let now = serves(&app, &name).unwrap_or(ServingStatus::ServiceUnknown);
                    if last != Some(now) {
                        return Some((Ok(HealthCheckResponse { status: now.into() }), Some(now)));
                    }
                    shutdown.run_until_cancelled(tokio::time::sleep(PERIOD)).await?;
                }
            }
        });
        Ok(Response::new(Box::pin(changes)))
    }
}
