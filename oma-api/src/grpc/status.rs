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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Plant;
    use futures::StreamExt as _;
    use tonic::Code;

    fn ask(name: &str) -> Request<HealthCheckRequest> {
        Request::new(HealthCheckRequest { service: name.to_owned() })
    }

    #[tokio::test]
    async fn a_server_that_is_away_is_not_the_control_planes_own_health() -> anyhow::Result<()> {
        let plant = Plant::on_absent_linstor().await?;
        let shutdown = CancellationToken::new();
        let health = Healths { app: plant.app.clone(), shutdown: shutdown.clone() };
        let says =
            async |name: &str| health.check(ask(name)).await.map(|answer| answer.into_inner().status());
        let mut watched = health.watch(ask("linstor")).await?.into_inner();
        let mut next = async || watched.next().await.transpose().map(|said| said.map(|said| said.status()));
        assert_eq!(says("linstor").await?, ServingStatus::Serving, "nothing was asked of it yet");
        assert_eq!(next().await?, Some(ServingStatus::Serving));
        for _ in 0..3 {
            assert!(plant.app.storage.space().await.is_err());
        }
        assert_eq!(says("linstor").await?, ServingStatus::NotServing);
        assert_eq!(next().await?, Some(ServingStatus::NotServing));
        assert_eq!(says("").await?, ServingStatus::Serving);
        assert_eq!(says("cloudstack").await.err().map(|status| status.code()), Some(Code::NotFound));
        shutdown.cancel();
        assert_eq!(next().await?, None);

        let said = Statuses(plant.app.clone()).get(Request::new(v1::StatusServiceGetRequest {})).await?;
        let [server] = &said.into_inner().servers[..] else { anyhow::bail!("one server") };
        assert_eq!((server.name.as_str(), server.state()), ("linstor", v1::CircuitState::Open));
        assert!(server.why.contains("127.0.0.1:1"), "{}", server.why);
        Ok(())
    }
}
