//! `POST /api/v1/failover/live`, as the document has it, and ours beside it: what becomes of one.

use super::super::body::{Body, NoFields};
use super::super::refusal::Refusal;
use super::begun::{LiveBegun, Protection};
use super::{WaitForReady, of_job, view};
use crate::failover::live::{Asked, CommitPolicy, Live, Mode, PowerOff};
use crate::failover::request::Ready;
use crate::failover::{Request, Standing};
use crate::service::failovers::Refused;
use crate::service::{App, Caller, Error};
use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// A VM that is to move.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, expecting = "a JSON object")]
#[schema(as = NewFailoverLive)]
pub(in crate::rest) struct New {
    /// The VM's uuid at its source.
    #[schema(min_length = 1, max_length = 256)]
    vm_id: String,
    /// Its name there, to make sure that it is the one that is meant.
    #[schema(min_length = 1, max_length = 256)]
    vm_name: String,
    /// Leaves out what is policy (room, programs of the backend), never what keeps data.
    #[serde(default)]
    skip_validation: bool,
    /// Leaves out the snapshot of the clones before they are changed.
    #[serde(default)]
    skip_snapshot: bool,
    #[serde(default)]
    skip_virtio_injection: bool,
    /// By the source's name of a network, the target's.
    #[serde(default)]
    network_mappings: BTreeMap<String, String>,
    /// Kept and shown.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    notification_config: Option<Map<String, Value>>,
    /// Kept and shown. Known keys: cpu_count, memory_mb, disk_bus (virtio-blk, virtio-scsi, sata, ide).
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    custom_config: Option<Map<String, Value>>,
    #[serde(default)]
    wait_for_ready: Option<WaitForReady>,
    /// Without the source, as of a restore point: what the VM wrote after it is lost.
    #[serde(default)]
    unplanned: bool,
    /// Of an unplanned one: id or storage snapshot of a restore point; the newest when it is left out.
    #[serde(default)]
    restore_point: Option<String>,
    /// Of an unplanned one: how much of what the VM wrote last may be lost; nothing when it is left out.
    #[serde(default)]
    #[schema(pattern = "^([1-9][0-9]?|[1-6][0-9]{2})h([1-5]?[0-9]m)?$|^[1-9][0-9]{0,2}[ms]$")]
    accept_loss: Option<String>,
    /// Of a planned one.
    #[serde(default)]
    power_off: Option<HowOff>,
    /// What becomes of it when nobody decides; none (it waits) when it is left out.
    #[serde(default)]
    commit_policy: Option<Policy>,
    /// When that is done, from its success on, 1s to 744h; 24h when it is left out.
    #[serde(default)]
    #[schema(pattern = "^([1-9][0-9]?|[1-6][0-9]{2})h([1-5]?[0-9]m)?$|^[1-9][0-9]{0,2}[ms]$")]
    commit_timeout: Option<String>,
    /// Sets aside what policy asks for (a passed test; the source's verification where there is no source), and is recorded.
    #[serde(default)]
    #[schema(min_length = 1, max_length = 500)]
    override_reason: Option<String>,
}

/// How the VM is powered off at its source.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = FailoverPowerOff)]
struct HowOff {
    /// How long its guest may take, 0s (at once) to 24h; 5m when it is left out.
    #[serde(default)]
    #[schema(pattern = "^0s$|^[1-9]h$|^[1-9][0-9]{0,2}[ms]$")]
    timeout: Option<String>,
    /// Its power is cut then; without it, the failover is taken back.
    #[serde(default)]
    force: bool,
}

#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = FailoverCommitPolicy)]
enum Policy {
    None,
    Commit,
    Rollback,
}

impl From<Policy> for CommitPolicy {
    fn from(policy: Policy) -> Self {
        match policy {
            Policy::None => Self::None,
            Policy::Commit => Self::Commit,
            Policy::Rollback => Self::Rollback,
        }
    }
}

impl New {
    fn into_request(self) -> Result<Request, Error> {
        let live = Live::try_from(Asked {
            mode: Some(if self.unplanned { Mode::Unplanned } else { Mode::Planned }),
            accept_loss: self.accept_loss,
            power_off: self.power_off.map(|off| PowerOff { timeout: off.timeout, force: off.force }),
            commit_policy: self.commit_policy.map(|policy| CommitPolicy::from(policy).to_string()),
            commit_timeout: self.commit_timeout,
            override_reason: self.override_reason,
        });
        let ready = self.wait_for_ready.map(Ready::try_from);
        Ok(Request {
            vm_id: self.vm_id,
            vm_name: self.vm_name,
            restore_point: self.restore_point,
            skip_validation: self.skip_validation,
            skip_snapshot: self.skip_snapshot,
            skip_virtio_injection: self.skip_virtio_injection,
            network_mappings: self.network_mappings,
            custom_config: self.custom_config,
            notification_config: self.notification_config,
            live: Some(live.map_err(Refused::from)?),
            ready: ready.transpose().map_err(Refused::from)?,
            // Of tests.
            auto_cleanup: false,
            test_duration: None,
        })
    }
}

/// Move a VM: it is powered off at its source and started on the target; it can be rolled back until it is committed
#[utoipa::path(post, path = "/api/v1/failover/live", tag = "failover",
    request_body(content = New, example = json!({"vm_id": "420570c7-f61f-a930-77c5-1e876786cb3c", "vm_name": "pgtest1",
        "skip_validation": false, "skip_snapshot": false, "skip_virtio_injection": false,
        "network_mappings": {"source_network_id": "target_network_id"},
        "notification_config": {"email": "admin@company.com"}})),
    responses((status = 202, body = LiveBegun), (status = "4XX", description = "refused")))]
pub(in crate::rest) async fn live(
    State(app): State<App>,
    caller: Caller,
    Body(new): Body<New>,
) -> Result<(StatusCode, Json<LiveBegun>), Refusal> {
    let asked = Protection::of(new.skip_snapshot, new.skip_virtio_injection);
    let vm = new.vm_id.clone();
    let begun = async { app.failover_live(&caller, &new.into_request()?).await };
    match begun.await {
        Ok(begun) => Ok((StatusCode::ACCEPTED, Json(LiveBegun::new(&begun, asked)))),
        Err(error) => Err(Refusal::from(error).with("vm_id", vm).with("step", "validation")),
    }
}

/// Take a live failover back: the VM goes on at its source, what its machine wrote is kept for a time; again, it is the same way back
#[utoipa::path(post, path = "/api/v1/failover/jobs/{job_id}/rollback", tag = "failover", params(("job_id" = String, Path)),
    responses((status = 202, body = view::Taken), (status = "4XX", description = "refused")))]
pub(in crate::rest) async fn rollback(
    State(app): State<App>,
    caller: Caller,
    Path(job): Path<String>,
    NoFields: NoFields,
) -> Result<(StatusCode, Json<view::Taken>), Refusal> {
    let back = app.failover_rollback(&caller, &job).await.map_err(|error| of_job(error, &job))?;
    let message = match back.standing {
        Standing::There => "Rollback initiated successfully",
        Standing::Kept | Standing::Gone | Standing::HandedOver => "This failover was rolled back",
    };
    Ok((StatusCode::ACCEPTED, Json(view::Taken::new(message, &back))))
}

/// Make a live failover final: machine and volumes are production, the replica goes, there is no way back; again: as it is
#[utoipa::path(post, path = "/api/v1/failover/jobs/{job_id}/commit", tag = "failover", params(("job_id" = String, Path)),
    responses((status = 202, body = view::Taken), (status = "4XX", description = "refused")))]
pub(in crate::rest) async fn commit(
    State(app): State<App>,
    caller: Caller,
    Path(job): Path<String>,
    NoFields: NoFields,
) -> Result<(StatusCode, Json<view::Taken>), Refusal> {
    let committed = app.failover_commit(&caller, &job).await.map_err(|error| of_job(error, &job))?;
    Ok((StatusCode::ACCEPTED, Json(view::Taken::new("Live failover committed", &committed))))
}
