//! The gRPC edge: authorise, convert, call a service, convert back.

mod access;
mod agent;
mod failover;
mod inventory;
mod migration;
mod orphan;
mod preflight;
mod profile;
mod progress;
mod push;
mod replication;
mod schedule;
mod status;
mod token;
mod view;

use crate::service::App;
use anyhow::Context as _;
use http::{Request, Response};
use proto::v1::agent_service_server::AgentServiceServer;
use proto::v1::failover_service_server::FailoverServiceServer;
use proto::v1::inventory_service_server::InventoryServiceServer;
use proto::v1::migration_service_server::MigrationServiceServer;
use proto::v1::orphan_service_server::OrphanServiceServer;
use proto::v1::progress_service_server::ProgressServiceServer;
use proto::v1::replication_service_server::ReplicationServiceServer;
use proto::v1::schedule_service_server::ScheduleServiceServer;
use proto::v1::status_service_server::StatusServiceServer;
use proto::v1::target_profile_service_server::TargetProfileServiceServer;
use proto::v1::token_service_server::TokenServiceServer;
use shared::wire::call::Called;
use std::convert::Infallible;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::service::Routes;
use tonic_health::pb::health_server::HealthServer;
use tower::Service;

/// All services behind the table of who may call what.
///
/// # Errors
/// When the reflection service refuses the schema: a defect of the build.
pub fn routes(
    app: &App,
    shutdown: &CancellationToken,
) -> anyhow::Result<
    impl Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send>
    + Clone
    + Send
    + Sync
    + 'static,
> {
    let health = HealthServer::new(status::Healths { app: app.clone(), shutdown: shutdown.clone() });
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(proto::DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            // What a refusal carries, so that grpcurl can print its reason.
            .register_encoded_file_descriptor_set(shared::wire::refusal::DESCRIPTOR_SET)
    };
    let what = "the schema for reflection";
    let agents = agent::Agents { app: app.clone(), shutdown: shutdown.clone() };
    let routes = Routes::new(health)
        .add_service(reflection().build_v1().context(what)?)
        .add_service(reflection().build_v1alpha().context(what)?)
        .add_service(AgentServiceServer::new(agents))
        .add_service(push::PushService(app.clone()))
        .add_service(MigrationServiceServer::new(migration::Migrations {
            app: app.clone(),
            shutdown: shutdown.clone(),
        }))
        .add_service(FailoverServiceServer::new(failover::Failovers {
            app: app.clone(),
            shutdown: shutdown.clone(),
        }))
        .add_service(ProgressServiceServer::new(progress::Progress {
            app: app.clone(),
            shutdown: shutdown.clone(),
        }))
        .add_service(OrphanServiceServer::new(orphan::Orphans(app.clone())))
        .add_service(ReplicationServiceServer::new(replication::Replications(app.clone())))
        .add_service(ScheduleServiceServer::new(schedule::Schedules(app.clone())))
        .add_service(StatusServiceServer::new(status::Statuses(app.clone())))
        .add_service(TokenServiceServer::new(token::Tokens(app.clone())))
        .add_service(TargetProfileServiceServer::new(profile::Profiles(app.clone())))
        .add_service(InventoryServiceServer::new(inventory::Inventory(app.clone())))
        .prepare();
    let gate = access::Gate::new(Arc::clone(&app.access), routes);
    Ok(Called::new(app.hub.metrics.common.clone(), gate))
}
