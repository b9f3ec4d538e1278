//! `/api/v1/status`: how the control plane stands with what it needs.

use super::refusal::Refusal;
use crate::service::App;
use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

/// A server that the target is reached by.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TargetServer)]
pub(super) struct Server {
    #[schema(example = "linstor")]
    name: &'static str,
    /// closed (it answers), half-open (one call tries whether it does again) or open (it is not asked for a while).
    #[schema(example = "closed")]
    state: &'static str,
    /// How long it has not answered; 0 while it does.
    #[schema(example = 0)]
    silent_seconds: u64,
    /// Why the last call failed.
    #[schema(example = json!(null))]
    why: Option<String>,
}

/// A cycle that does not get on.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = WaitingCycle)]
pub(super) struct Waits {
    #[schema(example = "0190163d-8694-739b-aea5-966c26f8ad90")]
    migration_id: String,
    #[schema(example = "web-01")]
    vm: String,
    #[schema(example = "job-20261122-093000")]
    job_id: String,
    /// Whether all of its data is there, so that it waits for its commit alone.
    #[schema(example = true)]
    committing: bool,
    #[schema(example = "STORAGE_UNAVAILABLE")]
    reason: String,
    #[schema(
        example = "linstor has not answered for 40 s and is asked again in 8 s at the latest; the last time: …"
    )]
    message: String,
}

/// All of it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SystemStatus)]
pub(super) struct Status {
    /// Of the program.
    #[schema(example = "0.1.0")]
    version: &'static str,
    /// None with a folder and QEMU on the control plane's own host.
    servers: Vec<Server>,
    /// Why no cycle may run, for want of space on the target.
    #[schema(example = json!(null))]
    space_low: Option<String>,
    /// In the order of their VMs.
    waiting: Vec<Waits>,
}

/// How the control plane stands with the target's servers, with room there, and which cycles do not get on
#[utoipa::path(get, path = "/api/v1/status", tag = "status",
    responses((status = 200, body = Status), (status = "4XX", description = "refused")))]
pub(super) async fn get(State(app): State<App>) -> Result<Json<Status>, Refusal> {
    let status = app.status().await?;
    let servers = status.servers.into_iter().map(|of| Server {
        name: of.peer,
        state: of.state.as_str(),
        silent_seconds: of.silent.as_secs(),
        why: Some(of.why).filter(|why| !why.is_empty()),
    });
    let waiting = status.waiting.into_iter().map(|of| Waits {
        migration_id: of.migration.to_string(),
        vm: of.vm,
        job_id: of.job.to_string(),
        committing: of.committing,
        reason: of.reason,
        message: of.message,
    });
    Ok(Json(Status {
        version: shared::telemetry::VERSION,
        servers: servers.collect(),
        space_low: status.space_low.map(|why| why.message),
        waiting: waiting.collect(),
    }))
}
