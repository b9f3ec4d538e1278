//! Taking back replicas whose database is lost.

use super::super::body::Body;
use super::super::refusal::Refusal;
use super::view;
use crate::service::{App, Caller};
use axum::Json;
use axum::extract::{Path, State};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// Which volumes are the VM's replica.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Adopt {
    /// Disk keys and volumes, for volumes that do not say whose they are.
    #[schema(example = json!({"2000": "mk-0190163d-8694-739b-aea5-966c26f8ad90"}))]
    volumes: BTreeMap<String, String>,
}

#[derive(Serialize, ToSchema)]
pub(super) struct Adopted {
    migration: view::Migration,
    /// Disk keys and volumes.
    #[schema(example = json!({"2000": "mk-0190163d-8694-739b-aea5-966c26f8ad90"}))]
    volumes: BTreeMap<String, String>,
    /// Snapshots of these volumes that no restore point names. They stay.
    #[schema(example = json!(["rp-job-20261121-120000"]))]
    old_snapshots: Vec<String>,
}

/// Protect a VM with volumes that are on the storage and nobody's; the first sync compares them with it
#[utoipa::path(post, path = "/api/v1/migrations/{vm}/adopt", tag = "migrations",
    params(("vm" = String, Path, description = "uuid or name of the VM", example = "web-01")),
    request_body(content = Adopt),
    responses((status = 200, body = Adopted), (status = "4XX", description = "refused")))]
pub(super) async fn adopt(
    State(app): State<App>,
    caller: Caller,
    Path(vm): Path<String>,
    Body(Adopt { volumes }): Body<Adopt>,
) -> Result<Json<Adopted>, Refusal> {
    let named: Vec<_> = volumes.into_iter().collect();
    let adopted = app.adopt(&caller, &vm, &named).await?;
    let pairs = adopted.volumes.into_iter();
    Ok(Json(Adopted {
        migration: adopted.view.into(),
        volumes: pairs.map(|(key, volume)| (key.into(), volume.to_string())).collect(),
        old_snapshots: adopted.old_snapshots.iter().map(ToString::to_string).collect(),
    }))
}
