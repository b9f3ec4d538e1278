//! The check before a begin.

use super::body::Body;
use super::refusal::Refusal;
use crate::preflight::{Finding, Report, Room, Row};
use crate::service::App;
use crate::service::check::Checked;
use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Which VM, and by which profile it would be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = PreflightCheck, example = json!({"vm": "web-01", "target_profile": "shop"}))]
pub(super) struct Asked {
    /// Uuid or name of the VM, or id of its migration.
    vm: String,
    /// Left out: its migration's, else the default, else none.
    #[serde(default)]
    target_profile: Option<String>,
}

/// What stands against it, and what would be made.
#[derive(Serialize, ToSchema)]
#[schema(as = PreflightChecked)]
pub(super) struct Answer {
    vm_uuid: String,
    #[schema(example = "web-01")]
    vm_name: String,
    agent_id: String,
    /// Null: none.
    target_profile: Option<String>,
    /// Begin would be refused, unless forced.
    blocked: bool,
    /// What blocks first, then by code.
    findings: Vec<Finding>,
    /// In the order in which a person reads a VM.
    plan: Vec<Row>,
    /// On the target, after the copy; null: the target could not tell.
    room: Option<Room>,
}

impl From<Checked> for Answer {
    fn from(checked: Checked) -> Self {
        let Checked { vm, vm_name, agent, target_profile, report } = checked;
        let blocked = report.blocking().next().is_some();
        let Report { findings, plan, room } = report;
        Self {
            vm_uuid: vm.into(),
            vm_name,
            agent_id: agent.into(),
            target_profile: target_profile.map(String::from),
            blocked,
            findings,
            plan,
            room,
        }
    }
}

/// Find what stands against the protection of a VM, and plan what would be made of it; changes nothing
#[utoipa::path(post, path = "/api/v1/migrations/check", tag = "migrations", request_body = Asked,
    responses((status = 200, body = Answer), (status = "4XX", description = "refused")))]
pub(super) async fn check(
    State(app): State<App>,
    Body(Asked { vm, target_profile }): Body<Asked>,
) -> Result<Json<Answer>, Refusal> {
    Ok(Json(app.check(&vm, target_profile.as_deref()).await?.into()))
}
