//! Target profiles.

use super::body::{Body, Query};
use super::refusal::Refusal;
use crate::service::App;
use crate::store;
use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use shared::ids::ProfileName;
use shared::profile::Settings;
use utoipa::{IntoParams, ToSchema};

/// A profile, as it is kept.
#[derive(Serialize, ToSchema)]
#[schema(as = TargetProfile)]
pub(super) struct Profile {
    #[schema(pattern = "^[a-z0-9][a-z0-9-]{0,63}$", example = "shop")]
    name: String,
    settings: Settings,
    /// Grows with each change.
    generation: u64,
    created_at: String,
    updated_at: String,
}

/// All of them, by name.
#[derive(Serialize, ToSchema)]
#[schema(as = TargetProfiles)]
pub(super) struct Profiles {
    profiles: Vec<Profile>,
}

/// A profile to be made.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewTargetProfile)]
pub(super) struct NewProfile {
    #[schema(value_type = String, pattern = "^[a-z0-9][a-z0-9-]{0,63}$", example = "shop")]
    name: ProfileName,
    settings: Settings,
}

/// All that a profile is to say.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ChangedTargetProfile)]
pub(super) struct ChangedProfile {
    /// That it had when it was read.
    #[schema(minimum = 1, maximum = 9_223_372_036_854_775_807_i64)]
    generation: u64,
    settings: Settings,
}

/// Which state of it is meant.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Meant {
    /// That it had when it was read; left out: whatever it has.
    #[param(minimum = 1, maximum = 9_223_372_036_854_775_807_i64)]
    generation: Option<u64>,
}

impl From<store::Profile> for Profile {
    fn from(p: store::Profile) -> Self {
        Self {
            name: p.name.into(),
            settings: p.settings,
            generation: p.generation,
            created_at: format!("{:.6}", p.created_at),
            updated_at: format!("{:.6}", p.updated_at),
        }
    }
}

/// All target profiles, by name
#[utoipa::path(get, path = "/api/v1/target-profiles", tag = "target-profiles",
    responses((status = 200, body = Profiles), (status = "4XX", description = "refused")))]
pub(super) async fn list(State(app): State<App>) -> Result<Json<Profiles>, Refusal> {
    let profiles = app.profile_list().await?.into_iter().map(Into::into).collect();
    Ok(Json(Profiles { profiles }))
}

/// Make a target profile
#[utoipa::path(post, path = "/api/v1/target-profiles", tag = "target-profiles", request_body = NewProfile,
    responses((status = 201, body = Profile), (status = "4XX", description = "refused")))]
pub(super) async fn create(
    State(app): State<App>,
    Body(new): Body<NewProfile>,
) -> Result<(StatusCode, Json<Profile>), Refusal> {
    let made = app.profile_create(&new.name, new.settings).await?;
    Ok((StatusCode::CREATED, Json(made.into())))
}

/// One target profile
#[utoipa::path(get, path = "/api/v1/target-profiles/{name}", tag = "target-profiles",
    params(("name" = String, Path)),
    responses((status = 200, body = Profile), (status = "4XX", description = "refused")))]
pub(super) async fn one(State(app): State<App>, Path(name): Path<String>) -> Result<Json<Profile>, Refusal> {
    Ok(Json(app.profile_get(&name).await?.into()))
}

/// Replace all that a target profile says, if nobody has changed it since it was read
#[utoipa::path(put, path = "/api/v1/target-profiles/{name}", tag = "target-profiles",
    params(("name" = String, Path)), request_body = ChangedProfile,
    responses((status = 200, body = Profile), (status = "4XX", description = "refused")))]
pub(super) async fn update(
    State(app): State<App>,
    Path(name): Path<String>,
    Body(changed): Body<ChangedProfile>,
) -> Result<Json<Profile>, Refusal> {
    let done = app.profile_update(&name, changed.settings, changed.generation).await?;
    Ok(Json(done.into()))
}

/// Remove a target profile that no unfinished migration refers to
#[utoipa::path(delete, path = "/api/v1/target-profiles/{name}", tag = "target-profiles",
    params(("name" = String, Path), Meant),
    responses((status = 204, description = "it is gone"), (status = "4XX", description = "refused")))]
pub(super) async fn delete(
    State(app): State<App>,
    Path(name): Path<String>,
    Query(meant): Query<Meant>,
) -> Result<StatusCode, Refusal> {
    app.profile_delete(&name, meant.generation).await?;
    Ok(StatusCode::NO_CONTENT)
}
