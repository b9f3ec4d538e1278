//! Schedules of migrations.

use super::body::Body;
use super::refusal::Refusal;
use crate::schedule::Spec;
use crate::service::{App, ScheduleView};
use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A migration's schedule, and what follows from it.
#[derive(Serialize, ToSchema)]
#[schema(as = SetSchedule)]
pub(super) struct Schedule {
    schedule: Spec,
    set_at: String,
    /// When the next cycle starts by itself; `null`: none does.
    next_cycle_at: Option<String>,
    /// In one line, and why it starts nothing if so.
    text: String,
}

/// A schedule to be tried.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = TriedSchedule)]
pub(super) struct Asked {
    schedule: Spec,
    /// How many times.
    #[serde(default = "ten")]
    #[schema(minimum = 1, maximum = 1000)]
    count: u32,
}

fn ten() -> u32 {
    10
}

/// The times of a schedule that is set now.
#[derive(Serialize, ToSchema)]
#[schema(as = ScheduleTimes)]
pub(super) struct Times {
    times: Vec<String>,
}

fn time(at: Timestamp) -> String {
    format!("{at:.6}")
}

impl From<ScheduleView> for Schedule {
    fn from(ScheduleView { spec, set_at, next, text }: ScheduleView) -> Self {
        Self { schedule: spec, set_at: time(set_at), next_cycle_at: next.map(time), text }
    }
}

/// A migration's schedule
#[utoipa::path(get, path = "/api/v1/migrations/{vm}/schedule", tag = "schedules",
    params(("vm" = String, Path, description = "VM uuid, VM name or migration id")),
    responses((status = 200, body = Schedule), (status = "4XX", description = "refused")))]
pub(super) async fn get(State(app): State<App>, Path(vm): Path<String>) -> Result<Json<Schedule>, Refusal> {
    Ok(Json(app.schedule_find(&vm).await?.into()))
}

/// Give a migration a schedule, in the place of the one it has
#[utoipa::path(put, path = "/api/v1/migrations/{vm}/schedule", tag = "schedules",
    params(("vm" = String, Path, description = "VM uuid, VM name or migration id")),
    request_body(content = Spec, example = json!({"every_seconds": 900, "time_zone": "Europe/Berlin",
        "blackout": ["mon-fri 08:00-18:00"], "rpo_seconds": 3600,
        "bandwidth": [{"window": "mon-fri 08:00-18:00", "rate_bytes_per_second": 20971520}]})),
    responses((status = 200, body = Schedule), (status = "4XX", description = "refused")))]
pub(super) async fn put(
    State(app): State<App>,
    Path(vm): Path<String>,
    Body(spec): Body<Spec>,
) -> Result<Json<Schedule>, Refusal> {
    Ok(Json(app.schedule_set(&vm, &spec).await?.into()))
}

/// Take a migration's schedule away; none is success
#[utoipa::path(delete, path = "/api/v1/migrations/{vm}/schedule", tag = "schedules",
    params(("vm" = String, Path, description = "VM uuid, VM name or migration id")),
    responses((status = 204, description = "gone"), (status = "4XX", description = "refused")))]
pub(super) async fn delete(State(app): State<App>, Path(vm): Path<String>) -> Result<StatusCode, Refusal> {
    app.schedule_delete(&vm).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// When cycles would start under a schedule that is set now; changes nothing
#[utoipa::path(post, path = "/api/v1/schedules/preview", tag = "schedules",
    request_body(content = Asked, example = json!({"schedule": {"cron": "30 2 * * *", "time_zone": "Europe/Berlin"}, "count": 3})),
    responses((status = 200, body = Times), (status = "4XX", description = "refused")))]
pub(super) async fn preview(
    State(app): State<App>,
    Body(asked): Body<Asked>,
) -> Result<Json<Times>, Refusal> {
    let count = usize::try_from(asked.count).unwrap_or(usize::MAX);
    let times = app.schedule_preview(&asked.schedule, count)?;
    Ok(Json(Times { times: times.into_iter().map(time).collect() }))
}
