//! `/api/v1/orphans`: what the backends have that no record owns.

use super::body::Body;
use super::refusal::Refusal;
use crate::service::orphans::{self, Chosen};
use crate::service::{App, Caller};
use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Something that no record owns.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Orphan {
    /// machine, snapshot, clone, replica or source_snapshot.
    #[schema(example = "clone")]
    kind: &'static str,
    #[schema(example = "cs-4b0c1d4e-6a0b-5f4e-9d3c-0c8f0a4b2d11")]
    name: String,
    /// Of volumes.
    #[schema(example = 10_737_418_240_u64)]
    size_bytes: Option<u64>,
    /// Why it is thought to be one.
    #[schema(
        example = "the failover enhanced-test-failover-420570c7-f61f-a930-77c5-1e876786cb3c-1756882765 of web-01 has ended, \
                        and nothing of it should be there"
    )]
    why: String,
    /// Whether it may be removed here.
    removable: bool,
    /// Where not: why, and what to do instead.
    #[schema(example = json!(null))]
    keep: Option<String>,
}

/// All of them, in the order of their kinds and names.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = OrphanList)]
pub(super) struct List {
    orphans: Vec<Orphan>,
}

/// Which are to be removed: names, or all.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = OrphansToRemove)]
pub(super) struct Asked {
    /// Everything of these names.
    #[serde(default)]
    #[schema(max_items = 1000, example = json!(["test-420570c7-1756882765"]))]
    names: Vec<String>,
    /// All that may be removed.
    #[serde(default)]
    all: bool,
}

/// What became of one of them.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = OrphanRemoval)]
pub(super) struct Removal {
    /// Null: there is nothing of this name that nobody owns.
    #[schema(example = "machine")]
    kind: Option<&'static str>,
    #[schema(example = "test-420570c7-1756882765")]
    name: String,
    removed: bool,
    /// Where it is not removed: why.
    #[schema(example = json!(null))]
    kept: Option<String>,
}

/// One for each that was meant.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = OrphanRemovals)]
pub(super) struct Removals {
    removals: Vec<Removal>,
}

impl From<orphans::Orphan> for Orphan {
    fn from(orphan: orphans::Orphan) -> Self {
        Self {
            kind: orphan.kind.as_str(),
            name: orphan.name,
            size_bytes: orphan.size,
            why: orphan.why,
            removable: orphan.keep.is_none(),
            keep: orphan.keep,
        }
    }
}

impl From<orphans::Removal> for Removal {
    fn from(removal: orphans::Removal) -> Self {
        let kind = removal.kind.map(orphans::OrphanKind::as_str);
        Self { kind, name: removal.name, removed: removal.kept.is_none(), kept: removal.kept }
    }
}

/// What the backends have that no record owns
#[utoipa::path(get, path = "/api/v1/orphans", tag = "orphans",
    responses((status = 200, body = List), (status = "4XX", description = "refused")))]
pub(super) async fn list(State(app): State<App>) -> Result<Json<List>, Refusal> {
    let orphans = app.orphans().await?.into_iter().map(Into::into).collect();
    Ok(Json(List { orphans }))
}

/// Remove some of them: machines, then snapshots, then clones; never a replica or a restore point
#[utoipa::path(post, path = "/api/v1/orphans/remove", tag = "orphans", request_body = Asked,
    responses((status = 200, body = Removals), (status = "4XX", description = "refused")))]
pub(super) async fn remove(
    State(app): State<App>,
    caller: Caller,
    Body(Asked { names, all }): Body<Asked>,
) -> Result<Json<Removals>, Refusal> {
    let chosen = match (all, names.is_empty()) {
        (false, _) => Chosen::Named(names),
        (true, true) => Chosen::All,
        (true, false) => return Err(Refusal::invalid("names: are not taken with all")),
    };
    let removals = app.orphans_remove(&caller, &chosen).await?.into_iter().map(Into::into).collect();
    Ok(Json(Removals { removals }))
}
