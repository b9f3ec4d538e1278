//! Everything about migrations, and what agents offer: the twins of MigrationService and InventoryService. (The
//! instance-migration API shows the fields of its document only.)

mod accept;
mod adopt;
mod view;

use super::Server;
use super::body::{Body, Query};
use super::refusal::Refusal;
use crate::service::list::Listing;
use crate::service::verify::{VerifyEvent, VerifySummary};
use crate::service::{App, Caller, Error};
use axum::Json;
use axum::extract::{Path, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use std::convert::Infallible;
use tokio::sync::mpsc;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// Runs of phases that one migration shows when nobody says.
const HISTORY: u32 = 20;

pub(super) fn routes() -> OpenApiRouter<Server> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(get))
        .routes(routes!(adopt::adopt))
        .routes(routes!(limit))
        .routes(routes!(accept::accept))
        .routes(routes!(verify))
        .routes(routes!(vms))
        .routes(routes!(agents))
}

/// What a list may be asked for.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct OfList {
    /// Ended migrations too.
    all: bool,
    /// begin, sync, switch, finalize, abort or rollback.
    #[param(pattern = "^(begin|sync|switch|finalize|abort|rollback)?$")]
    phase: String,
    /// running, paused, failed, successful or aborted.
    #[param(pattern = "^(running|paused|failed|successful|aborted)?$")]
    state: String,
    /// An agent's id.
    #[param(pattern = "^([A-Za-z0-9_-][A-Za-z0-9._-]{0,63})?$")]
    agent: String,
    /// In the VM's name, its uuid or the migration's id.
    #[param(pattern = "^[^\\x00-\\x1f\\x7f-\\x9f]*$")]
    text: String,
    /// Most migrations of the answer; 50 when left out.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<u32>,
    /// The next_page_token of the answer before.
    #[param(pattern = "^([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})?$")]
    page_token: String,
    /// Newest runs of each that are wanted.
    #[param(maximum = 1000)]
    history: u32,
}

/// Migrations, newest first
#[utoipa::path(get, path = "/api/v1/migrations", tag = "migrations", params(OfList),
    responses((status = 200, body = view::Page), (status = "4XX", description = "refused")))]
async fn list(State(app): State<App>, Query(of): Query<OfList>) -> Result<Json<view::Page>, Refusal> {
    let listing = Listing {
        all: of.all,
        phase: of.phase,
        state: of.state,
        agent: of.agent,
        text: of.text,
        limit: of.limit,
        token: of.page_token,
        history: of.history,
    };
    Ok(Json(app.migration_list(&listing).await?.into()))
}

/// What one migration may be asked for.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct OfOne {
    /// Newest runs that are wanted.
    #[param(maximum = 1000)]
    history: u32,
}

impl Default for OfOne {
    fn default() -> Self {
        Self { history: HISTORY }
    }
}

/// A migration with its disks, its cycle, its restore points and how it went
#[utoipa::path(get, path = "/api/v1/migrations/{vm}", tag = "migrations",
    params(("vm" = String, Path, description = "uuid or name of the VM, or id of the migration", example = "web-01"), OfOne),
    responses((status = 200, body = view::Migration), (status = "4XX", description = "refused")))]
async fn get(
    State(app): State<App>,
    Path(vm): Path<String>,
    Query(OfOne { history }): Query<OfOne>,
) -> Result<Json<view::Migration>, Refusal> {
    let found = app.migration_find(&vm).await?;
    let view = app.migration_view(&found.id).await?;
    Ok(Json(app.with_history(view, history).await?.into()))
}

/// What its transfers may take.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Limit {
    /// For all its disks together, at least 65536; 0: no limit of its own.
    #[schema(maximum = 9_223_372_036_854_775_807_i64, example = 52_428_800)]
    rate_bytes_per_second: u64,
}

/// Bound what a migration's transfers take of the network, from now on
#[utoipa::path(put, path = "/api/v1/migrations/{vm}/limit", tag = "migrations",
    params(("vm" = String, Path, description = "uuid or name of the VM, or id of the migration", example = "web-01")),
    request_body(content = Limit),
    responses((status = 200, body = view::Migration), (status = "4XX", description = "refused")))]
async fn limit(
    State(app): State<App>,
    _: Caller,
    Path(vm): Path<String>,
    Body(limit): Body<Limit>,
) -> Result<Json<view::Migration>, Refusal> {
    Ok(Json(app.migration_limit(&vm, limit.rate_bytes_per_second).await?.into()))
}

/// Which arm of verification.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Verify {
    /// true: compare the source with the manifest; else the replica.
    #[serde(default)]
    source: bool,
}

/// Run one arm of verification: a line of JSON for each thing found, the last is the result
#[utoipa::path(post, path = "/api/v1/migrations/{vm}/verify", tag = "migrations",
    params(("vm" = String, Path, description = "uuid or name of the VM, or id of the migration", example = "web-01")),
    request_body(content = Verify),
    responses((status = 200, content_type = "application/x-ndjson", body = String,
        example = json!("{\"type\":\"progress\",\"disk_key\":\"scsi0-0\",\"done_bytes\":67108864,\"total_bytes\":67108864}\n{\"type\":\"result\",\"equal\":true,\"compared_bytes\":67108864,\"different_bytes\":0,\"unknown_bytes\":0}\n")), (status = "4XX", description = "refused")))]
async fn verify(
    State(Server { app, shutdown }): State<Server>,
    Path(vm): Path<String>,
    Body(Verify { source }): Body<Verify>,
) -> Result<Response, Refusal> {
    app.migration_find(&vm).await?;
    let (events, said) = mpsc::channel(64);
    let (last, result) = mpsc::channel(1);
    let stop = shutdown.child_token();
    // Ends with its reader: the channel's other end goes.
    let ended = stop.clone().drop_guard();
    tokio::spawn(async move {
        let done = match source {
            true => app.verify_source(&vm, events, stop).await,
            false => app.verify_replica(&vm, events, stop).await,
        };
        let _ = last.send(outcome(done)).await;
    });
    let lines = ReceiverStream::new(said).map(|event| found(&event)).chain(ReceiverStream::new(result));
    let lines = lines.map(move |line| {
        let _kept = &ended;
        Ok::<_, Infallible>(format!("{line}\n"))
    });
    let body = axum::body::Body::from_stream(lines);
    Ok(([(CONTENT_TYPE, "application/x-ndjson")], body).into_response())
}

fn found(event: &VerifyEvent) -> Value {
    match event {
        VerifyEvent::Progress { disk, key, done, total } => json!({
            "type": "progress", "disk_id": disk.as_str(), "disk_key": key.as_str(),
            "done_bytes": done, "total_bytes": total,
        }),
        VerifyEvent::Mismatch { disk, key, range } => json!({
            "type": "mismatch", "disk_id": disk.as_str(), "disk_key": key.as_str(),
            "offset": range.start, "length": range.len(),
        }),
    }
}

fn outcome(done: Result<VerifySummary, Error>) -> Value {
    match done {
        Ok(summary) => json!({
            "type": "result", "equal": summary.different == 0, "compared_bytes": summary.compared,
            "different_bytes": summary.different, "unknown_bytes": summary.unknown,
            "restore_point_id": summary.restore_point.as_ref().map(ToString::to_string),
        }),
        Err(error) => json!({
            "type": "error", "error": shared::error::chain(&error), "error_code": error.reason(),
        }),
    }
}

/// Which VMs are wanted.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct OfVms {
    /// Of this uuid or name; all when left out.
    vm: String,
}

/// VMs that agents offer
#[utoipa::path(get, path = "/api/v1/vms", tag = "inventory", params(OfVms),
    responses((status = 200, body = view::Vms), (status = "4XX", description = "refused")))]
async fn vms(State(app): State<App>, Query(of): Query<OfVms>) -> Result<Json<view::Vms>, Refusal> {
    let found = match of.vm.as_str() {
        "" => app.vm_list().await?,
        asked => app.vm_find(asked).await?,
    };
    Ok(Json(view::Vms { vms: found.into_iter().map(Into::into).collect() }))
}

/// Agents that have connected
#[utoipa::path(get, path = "/api/v1/agents", tag = "inventory", responses((status = 200, body = view::Agents)))]
async fn agents(State(app): State<App>) -> Result<Json<view::Agents>, Refusal> {
    Ok(Json(view::Agents { agents: app.agent_list().await?.into_iter().map(Into::into).collect() }))
}
