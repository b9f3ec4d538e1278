//! `POST /api/v1/migrations/{vm}/accept`: a source whose disks changed.

use super::super::body::Body;
use super::super::refusal::Refusal;
use super::view;
use crate::service::{App, Caller};
use axum::Json;
use axum::extract::{Path, State};
use serde::Deserialize;
use shared::ids::DiskKey;
use utoipa::ToSchema;

/// The source's name of a disk.
#[derive(ToSchema)]
#[schema(as = DiskKey, pattern = "^[A-Za-z0-9_-][A-Za-z0-9_.-]{0,63}$", example = "scsi0-1")]
#[expect(dead_code, reason = "what the document says of DiskKey, which knows no documents")]
struct Key(String);

/// Which disks are accepted as they are now.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Accept {
    /// Only these, by the source's key; all that changed when it is left out or empty.
    #[schema(value_type = Vec<Key>, example = json!(["scsi0-1"]))]
    disks: Vec<DiskKey>,
}

/// Protect a VM whose disks came, went or have another size, as its source has them now, from the next sync on
#[utoipa::path(post, path = "/api/v1/migrations/{vm}/accept", tag = "migrations",
    params(("vm" = String, Path, description = "uuid or name of the VM, or id of the migration", example = "web-01")),
    request_body(content = Accept),
    responses((status = 200, body = view::Migration), (status = "4XX", description = "refused")))]
pub(super) async fn accept(
    State(app): State<App>,
    caller: Caller,
    Path(vm): Path<String>,
    Body(Accept { disks }): Body<Accept>,
) -> Result<Json<view::Migration>, Refusal> {
    Ok(Json(app.accept(&caller, &vm, &disks).await?.into()))
}
