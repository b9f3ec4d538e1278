//! The instance-migration API, as its document has it: actions, list, get, watch.
//!
//! One tenant: any account is the same one. Every route is there twice, at the root and under `/api/v1`.

mod view;
mod watch;

use super::Server;
use super::body::{Body, Query};
use super::caller::Opened;
use super::gate;
use super::refusal::Refusal;
use crate::access::operations;
use crate::service::act::{Acted, Ask, Key, Schedule};
use crate::service::list::Listing;
use crate::service::{App, Caller};
use axum::Json;
use axum::body::Bytes;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::{Path, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde::{Deserialize, Deserializer};
use shared::migration::Action;
use std::time::Duration;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use view::{Estimate, Migration};

/// Runs of phases that one migration shows.
const HISTORY: u32 = 100;

const IDEMPOTENCY_KEY: &str = "idempotency-key";
const NEXT: HeaderName = HeaderName::from_static("x-next-page-token");

pub(super) fn routes() -> OpenApiRouter<Server> {
    OpenApiRouter::new()
        .routes(routes!(act, estimate))
        .routes(routes!(list))
        .routes(routes!(get))
        .routes(routes!(follow))
}

/// What may be asked of a migration.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
#[schema(as = AskedAction, example = json!({"action": "begin", "affinity": ["instance!=web-02"]}))]
struct Asked {
    /// begin, sync, switch, automatic, pause, hold, release, abort, finalize or rollback; start is begin; watch follows.
    action: Option<String>,
    /// Of begin and automatic: kept and shown.
    affinity: Vec<String>,
    /// Of begin and automatic: the profile by which its VM is made; left out: the default, else none.
    #[schema(example = "shop")]
    target_profile: Option<String>,
    /// Of switch: to be made then (RFC 3339); null: not to be made when it was scheduled.
    #[serde(deserialize_with = "given")]
    #[schema(value_type = Option<String>, format = DateTime)]
    scheduled_timestamp: Option<Option<Timestamp>>,
    /// Of begin and automatic: go on although a finding blocks, for this reason, which is recorded.
    force: Option<String>,
    /// Of automatic: switch when the predicted downtime is not longer.
    max_downtime_ms: Option<u64>,
    /// Of automatic: give up after so many cycles.
    max_cycles: Option<u32>,
}

/// Told apart from what was left out.
fn given<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Option<Timestamp>>, D::Error> {
    Option::deserialize(from).map(Some)
}

/// What may stand in the address of an action.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct OfAction {
    /// Instead of the body's.
    action: Option<String>,
    /// Of watch: the last sequence number seen.
    after: u64,
}

impl Asked {
    fn ask(self, action: Action, key: Option<Key>) -> Ask {
        Ask {
            affinity: self.affinity,
            target_profile: self.target_profile,
            force: self.force,
            schedule: self.scheduled_timestamp.map(|at| at.map_or(Schedule::Cancel, Schedule::At)),
            max_downtime: self.max_downtime_ms.map(Duration::from_millis),
            max_cycles: self.max_cycles,
            key,
            ..Ask::new(action)
        }
    }
}

/// Act on a migration, or watch it
///
/// The same request with the same `Idempotency-Key` does nothing again and is answered as before, for 24 hours.
#[utoipa::path(post, path = "/{account}/machines/{machine}/migrate", tag = "instance migration",
    params(
        ("account" = String, Path, description = "any: there is one tenant", example = "my"),
        ("machine" = String, Path, description = "uuid or name of the VM, or id of the migration", example = "web-01"),
        ("idempotency-key" = Option<String>, Header, description = "1 to 255 visible ASCII characters"),
        OfAction
    ),
    request_body(content = Asked),
    responses(
        (status = 201, body = Migration),
        (status = 200, description = "of finalize, without a body; of watch, a line of JSON a state",
         content_type = "application/x-json-stream", body = String,
         example = json!("{\"type\":\"progress\",\"sequence\":1795338742074654,\"phase\":\"sync\",\"state\":\"running\",\"current_progress\":58720256,\"total_progress\":100663296}\n{\"type\":\"end\",\"sequence\":1795338742074660,\"phase\":\"sync\",\"state\":\"paused\"}\n")),
        (status = "4XX", description = "refused")))]
async fn act(
    State(server): State<Server>,
    caller: Caller,
    Path((_, machine)): Path<(String, String)>,
    Query(of): Query<OfAction>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refusal> {
    let mut asked = match body.is_empty() {
        true => Asked::default(),
        false => Body::read(&headers, &body)?.0,
    };
    let word = match (asked.action.take(), of.action) {
        (Some(one), Some(other)) if one != other => {
            return Err(Refusal::invalid(format!("action: the body says {one:?}, the address {other:?}")));
        }
        (Some(word), _) | (None, Some(word)) => word,
        (None, None) => {
            let message = "action: is missing; send {\"action\": \"begin\"}, for example";
            return Err(Refusal::new(StatusCode::BAD_REQUEST, "MISSING_PARAMETER", message));
        }
    };
    if word == "watch" {
        let states = server.app.migration_watch(&machine).await?;
        return Ok(watch::lines(watch::events(states, of.after), server.shutdown));
    }
    operations::permit_act(&caller).map_err(|refused| gate::refusal_of(&refused))?;
    let action = match word.as_str() {
        "start" => Action::Begin,
        word => word.parse().map_err(|error| Refusal::invalid(format!("action: {error}, or watch")))?,
    };
    let key = match headers.get(IDEMPOTENCY_KEY) {
        Some(key) => Some(Key::parse("rest", key.to_str().unwrap_or_default())?),
        None => None,
    };
    let ask = asked.ask(action, key);
    let answer = match server.app.act(&caller, &machine, &ask).await? {
        Acted::Again(answer) => answer,
        Acted::Done(view) => {
            let view = server.app.with_history(*view, HISTORY).await?;
            let answer = serde_json::to_vec(&Migration::from(view)).unwrap_or_default();
            if let Some(key) = &ask.key {
                server.app.attempt_answered(key, &answer).await;
            }
            answer
        }
    };
    Ok(match action {
        Action::Finalize => StatusCode::OK.into_response(),
        _ => (StatusCode::CREATED, [(CONTENT_TYPE, "application/json")], answer).into_response(),
    })
}

/// What a cycle and a switch would take
#[utoipa::path(get, path = "/{account}/machines/{machine}/migrate", tag = "instance migration",
    params(
        ("account" = String, Path, description = "any: there is one tenant", example = "my"),
        ("machine" = String, Path, description = "uuid or name of the VM, or id of the migration", example = "web-01")
    ),
    responses((status = 200, body = Estimate), (status = "4XX", description = "refused")))]
async fn estimate(
    State(app): State<App>,
    Path((_, machine)): Path<(String, String)>,
) -> Result<Json<Estimate>, Refusal> {
    Ok(Json(Estimate::from(&app.estimate(&machine).await?)))
}

/// What a list may be asked for.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct OfList {
    /// Ended migrations too; so when left out.
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
    /// The X-Next-Page-Token of the answer before.
    #[param(pattern = "^([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})?$")]
    page_token: String,
    /// Newest runs of each that are wanted.
    #[param(maximum = 1000)]
    progress_history: u32,
}

impl Default for OfList {
    fn default() -> Self {
        let (phase, state, agent, text, page_token) = Default::default();
        Self { all: true, phase, state, agent, text, limit: None, page_token, progress_history: 0 }
    }
}

/// Migrations, newest first
#[utoipa::path(get, path = "/{account}/migrations", tag = "instance migration",
    params(("account" = String, Path, description = "any: there is one tenant", example = "my"), OfList),
    responses(
        (status = 200, body = Vec<Migration>,
         headers(("x-next-page-token" = String, description = "where the next page begins; absent: this was the last"))),
        (status = "4XX", description = "refused")))]
async fn list(
    State(app): State<App>,
    Path(_): Path<String>,
    Query(of): Query<OfList>,
) -> Result<Response, Refusal> {
    let listing = Listing {
        all: of.all,
        phase: of.phase,
        state: of.state,
        agent: of.agent,
        text: of.text,
        limit: of.limit,
        token: of.page_token,
        history: of.progress_history,
    };
    let page = app.migration_list(&listing).await?;
    let mut headers = HeaderMap::new();
    if let Some(next) = page.next.and_then(|id| HeaderValue::from_str(id.as_str()).ok()) {
        headers.insert(NEXT, next);
    }
    let migrations: Vec<_> = page.migrations.into_iter().map(Migration::from).collect();
    Ok((headers, Json(migrations)).into_response())
}

/// A migration with how it went
#[utoipa::path(get, path = "/{account}/migrations/{machine}", tag = "instance migration",
    params(
        ("account" = String, Path, description = "any: there is one tenant", example = "my"),
        ("machine" = String, Path, description = "uuid or name of the VM, or id of the migration", example = "web-01")
    ),
    responses((status = 200, body = Migration), (status = "4XX", description = "refused")))]
async fn get(
    State(app): State<App>,
    Path((_, machine)): Path<(String, String)>,
) -> Result<Json<Migration>, Refusal> {
    let found = app.migration_find(&machine).await?;
    let view = app.migration_view(&found.id).await?;
    Ok(Json(app.with_history(view, HISTORY).await?.into()))
}

/// Where a watch goes on.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct OfWatch {
    /// The last sequence number seen.
    after: u64,
}

/// Follow a migration over a WebSocket: a message of JSON a state, until it stops running
#[utoipa::path(get, path = "/{account}/migrations/{machine}/watch", tag = "instance migration",
    params(
        ("account" = String, Path, description = "any: there is one tenant", example = "my"),
        ("machine" = String, Path, description = "uuid or name of the VM, or id of the migration", example = "web-01"),
        OfWatch
    ),
    responses((status = 101, description = "a WebSocket"), (status = "4XX", description = "refused")))]
async fn follow(
    State(server): State<Server>,
    Path((_, machine)): Path<(String, String)>,
    Query(OfWatch { after }): Query<OfWatch>,
    opened: Opened,
    upgrade: Result<WebSocketUpgrade, axum::extract::ws::rejection::WebSocketUpgradeRejection>,
) -> Result<Response, Refusal> {
    let states = server.app.migration_watch(&machine).await?;
    let upgrade = upgrade.map_err(|rejection| {
        let message = format!("this is a WebSocket; connect with one: {}", rejection.body_text());
        Refusal::new(StatusCode::UPGRADE_REQUIRED, "NOT_A_WEBSOCKET", message)
    })?;
    let (events, shutdown) = (watch::events(states, after), server.shutdown);
    Ok(upgrade.max_message_size(4 << 10).on_upgrade(async move |socket| {
        tokio::select! {
            () = watch::messages(socket, events, shutdown) => {}
            () = opened.ended() => {}
        }
    }))
}
