//! The failover API of its document: asked for (a test here, a live one in [`live`]), listed, shown; and ours beside it:
//! clean-up, rollback, commit, actions, console.
//!
//! Times have whole seconds, as the document prints them.

mod begun;
mod console;
pub(super) mod help;
mod live;
mod report;
mod view;

use super::Server;
use super::body::{Body, NoFields, Query};
use super::refusal::Refusal;
use crate::failover::Request;
use crate::failover::request::{Checks, HttpAsked, Invalid, Ready, Weight};
use crate::service::failovers::{FailoverFilter, Refused};
use crate::service::{App, Caller, Error};
use crate::workflow::Ask;
use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use begun::{Begun, Protection};
use serde::Deserialize;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(super) fn routes() -> OpenApiRouter<Server> {
    OpenApiRouter::new()
        .routes(routes!(test))
        .routes(routes!(live::live))
        .routes(routes!(list))
        .routes(routes!(one))
        .routes(routes!(live::rollback))
        .routes(routes!(live::commit))
        .routes(routes!(cleanup))
        .routes(routes!(act))
        .routes(routes!(console::read))
        .routes(routes!(report::read))
        .routes(routes!(help::page))
}

/// A test that is to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, expecting = "a JSON object")]
#[schema(as = NewFailoverTest)]
pub(super) struct New {
    /// The VM's uuid at its source.
    #[schema(min_length = 1, max_length = 256)]
    vm_id: String,
    /// Its name there, to make sure that it is the one that is meant.
    #[schema(min_length = 1, max_length = 256)]
    vm_name: String,
    /// Id or storage snapshot of a restore point; the newest when it is left out.
    #[serde(default)]
    restore_point: Option<String>,
    /// Whether it is removed by itself when `test_duration` is over.
    #[serde(default)]
    auto_cleanup: bool,
    /// How long it is kept then, 1s to 744h; 24h when it is left out.
    #[serde(default)]
    #[schema(pattern = "^([1-9][0-9]?|[1-6][0-9]{2})h([1-5]?[0-9]m)?$|^[1-9][0-9]{0,2}[ms]$")]
    test_duration: Option<String>,
    /// Leaves out what is policy (room, programs of the backend), never what keeps data.
    #[serde(default)]
    skip_validation: bool,
    /// Leaves out the snapshot of the clones before they are changed.
    #[serde(default)]
    skip_snapshot: bool,
    #[serde(default)]
    skip_virtio_injection: bool,
    /// By the source's name of a network, the target's; it must not be live in any profile.
    #[serde(default)]
    network_mappings: BTreeMap<String, String>,
    /// Kept and shown. Known keys: cpu_count, memory_mb, disk_bus (virtio-blk, virtio-scsi, sata, ide).
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    custom_config: Option<Map<String, Value>>,
    #[serde(default)]
    wait_for_ready: Option<WaitForReady>,
}

/// What shows that the machine works: exactly one of console, tcp_port, http and guest_agent.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct WaitForReady {
    /// Its serial console says this text.
    #[serde(default)]
    #[schema(min_length = 1, max_length = 256)]
    console: Option<String>,
    /// Its guest takes connections at this TCP port.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 65535)]
    tcp_port: Option<u32>,
    /// A web server of its guest answers.
    #[serde(default)]
    http: Option<HttpCheck>,
    /// The QEMU guest agent in it answers.
    #[serde(default)]
    guest_agent: bool,
    /// From its start on, 1s to 24h; 5m when it is left out.
    #[serde(default)]
    #[schema(pattern = "^[1-9]h$|^[1-9][0-9]{0,2}[ms]$")]
    timeout: Option<String>,
    /// Without it, a machine that is not ready is a warning; with it, the failover fails and is taken back.
    #[serde(default)]
    required: bool,
}

/// A GET, in clear; a redirection is an answer, and is not followed.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct HttpCheck {
    /// 80 when it is left out.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 65535)]
    port: Option<u32>,
    /// With its query; `/` when it is left out.
    #[serde(default)]
    #[schema(max_length = 256, pattern = "^/[!$-;=?-Z_a-z]*$", example = "/health")]
    path: Option<String>,
    /// Of the answer; any from 200 to 399 when it is left out.
    #[serde(default)]
    #[schema(minimum = 100, maximum = 599)]
    status: Option<u32>,
    /// In the first 64 KiB of its body.
    #[serde(default)]
    #[schema(min_length = 1, max_length = 256)]
    text: Option<String>,
}

impl TryFrom<WaitForReady> for Ready {
    type Error = Invalid;

    fn try_from(wanted: WaitForReady) -> Result<Self, Invalid> {
        let WaitForReady { console, tcp_port, http, guest_agent, timeout, required } = wanted;
        let http = http.map(|HttpCheck { port, path, status, text }| HttpAsked { port, path, status, text });
        let weight = if required { Weight::Required } else { Weight::Advisory };
        Self::new(Checks { console, tcp_port, http, guest_agent }, timeout.as_deref(), weight)
    }
}

impl New {
    fn into_request(self) -> Result<Request, Error> {
        let ready = self.wait_for_ready.map(Ready::try_from);
        Ok(Request {
            vm_id: self.vm_id,
            vm_name: self.vm_name,
            restore_point: self.restore_point,
            auto_cleanup: self.auto_cleanup,
            test_duration: self.test_duration,
            skip_validation: self.skip_validation,
            skip_snapshot: self.skip_snapshot,
            skip_virtio_injection: self.skip_virtio_injection,
            network_mappings: self.network_mappings,
            custom_config: self.custom_config,
            notification_config: None,
            live: None,
            ready: ready.transpose().map_err(Refused::from)?,
        })
    }
}

/// Which failovers.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Which {
    /// pending, validating, executing, completed or failed.
    #[param(pattern = "^(pending|validating|executing|completed|failed)?$")]
    status: String,
    /// test or live.
    #[serde(rename = "type")]
    #[param(rename = "type", pattern = "^(test|live)?$")]
    kind: String,
    /// The VM's uuid at its source.
    vm_id: String,
    /// Most entries of the answer; 50 when left out.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<u32>,
    /// The `next_before` of the page before.
    #[param(pattern = "^[a-z0-9-]{0,70}$")]
    before: String,
}

/// What is asked of a failover.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = FailoverAction)]
pub(super) struct Asked {
    action: Action,
    /// Of skip: recorded with the step that is left out.
    #[serde(default)]
    reason: String,
}

#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = FailoverActionName)]
enum Action {
    /// Stop before the next step.
    Pause,
    Resume,
    /// Take everything back.
    Cancel,
    Approve,
    /// What failed, again.
    Retry,
    /// Go on without what failed; the reason is recorded.
    Skip,
    /// Go on with the steps instead of taking them back.
    RollForward,
}

impl From<Asked> for Ask {
    fn from(asked: Asked) -> Self {
        match asked.action {
            Action::Pause => Self::Pause,
            Action::Resume => Self::Resume,
            Action::Cancel => Self::Cancel,
            Action::Approve => Self::Approve,
            Action::Retry => Self::Retry,
            Action::Skip => Self::Skip { why: asked.reason },
            Action::RollForward => Self::RollForward,
        }
    }
}

/// Begin a test failover: a second copy of the VM, in isolated networks, while replication goes on
#[utoipa::path(post, path = "/api/v1/failover/test", tag = "failover",
    request_body(content = New, example = json!({"vm_id": "420570c7-f61f-a930-77c5-1e876786cb3c", "vm_name": "pgtest1",
        "auto_cleanup": false, "test_duration": "30m", "skip_validation": false, "skip_snapshot": false,
        "skip_virtio_injection": false, "network_mappings": {"source_network_id": "target_network_id"},
        "custom_config": {"key": "value"},
        "wait_for_ready": {"http": {"port": 80, "path": "/health"}, "timeout": "5m", "required": true}})),
    responses((status = 202, body = Begun), (status = "4XX", description = "refused")))]
pub(super) async fn test(
    State(app): State<App>,
    caller: Caller,
    Body(new): Body<New>,
) -> Result<(StatusCode, Json<Begun>), Refusal> {
    let asked = Protection::of(new.skip_snapshot, new.skip_virtio_injection);
    let vm = new.vm_id.clone();
    let begun = async { app.failover_test(&caller, &new.into_request()?).await };
    match begun.await {
        Ok(begun) => Ok((StatusCode::ACCEPTED, Json(Begun::new(&begun, asked)))),
        Err(error) => Err(Refusal::from(error).with("vm_id", vm).with("step", "validation")),
    }
}

/// Failover jobs, the newest first
#[utoipa::path(get, path = "/api/v1/failover/jobs", tag = "failover", params(Which),
    responses((status = 200, body = view::Jobs), (status = "4XX", description = "refused")))]
pub(super) async fn list(
    State(app): State<App>,
    Query(which): Query<Which>,
) -> Result<Json<view::Jobs>, Refusal> {
    let Which { status, kind, vm_id, limit, before } = which;
    let filter = FailoverFilter { status, kind, vm: vm_id, before, limit };
    Ok(Json(app.failover_list(&filter).await?.into()))
}

/// One failover job: its steps, what was made of what, what may be asked of it
#[utoipa::path(get, path = "/api/v1/failover/jobs/{job_id}", tag = "failover", params(("job_id" = String, Path)),
    responses((status = 200, body = view::One), (status = "4XX", description = "refused")))]
pub(super) async fn one(State(app): State<App>, Path(job): Path<String>) -> Result<Json<view::One>, Refusal> {
    let found = app.failover_find(&job).await.map_err(|error| of_job(error, &job))?;
    Ok(Json(view::One::from(&found)))
}

/// Remove what a test made, or what was kept of a live failover that was rolled back; again, it is the same clean-up
#[utoipa::path(post, path = "/api/v1/failover/jobs/{job_id}/cleanup", tag = "failover", params(("job_id" = String, Path)),
    responses((status = 202, body = view::Taken), (status = "4XX", description = "refused")))]
pub(super) async fn cleanup(
    State(app): State<App>,
    caller: Caller,
    Path(job): Path<String>,
    NoFields: NoFields,
) -> Result<(StatusCode, Json<view::Taken>), Refusal> {
    let cleaned = app.failover_cleanup(&caller, &job).await.map_err(|error| of_job(error, &job))?;
    let message = match cleaned.is_there {
        true => "Clean-up initiated successfully",
        false => "Nothing of this failover is there any more",
    };
    Ok((StatusCode::ACCEPTED, Json(view::Taken::new(message, &cleaned))))
}

/// Ask something of the job, or of its rollback or clean-up once there is one; `allowed` of the job says what is possible
#[utoipa::path(post, path = "/api/v1/failover/jobs/{job_id}/actions", tag = "failover", params(("job_id" = String, Path)),
    request_body(content = Asked, example = json!({"action": "cancel", "reason": "the wrong VM"})),
    responses((status = 202, body = view::Taken), (status = "4XX", description = "refused")))]
pub(super) async fn act(
    State(app): State<App>,
    caller: Caller,
    Path(job): Path<String>,
    Body(asked): Body<Asked>,
) -> Result<(StatusCode, Json<view::Taken>), Refusal> {
    let ask = Ask::from(asked);
    let taken = app.failover_ask(&caller, &job, &ask).await.map_err(|error| of_job(error, &job))?;
    Ok((StatusCode::ACCEPTED, Json(view::Taken::new(&format!("Action {} taken", ask.as_str()), &taken))))
}

fn of_job(error: Error, job: &str) -> Refusal {
    Refusal::from(error).with("job_id", job)
}

#[cfg(test)]
mod tests;
