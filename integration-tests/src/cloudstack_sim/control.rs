//! The switchboard's side of the server: `/sim/…`, as the module above lists it.

use super::fault::Rule;
use super::{Order, Sim, Throttle};
use axum::extract::State;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

pub(super) fn routes() -> Router<Arc<Sim>> {
    Router::new()
        .route("/faults", get(armed).post(arm).delete(disarm))
        .route("/calls", get(calls))
        .route("/unknown-parameters", get(unknown))
        .route("/settings", post(settings))
        .route("/state", get(state))
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Rules {
    Many(Vec<Rule>),
    One(Rule),
}

async fn arm(State(sim): State<Arc<Sim>>, Json(rules): Json<Rules>) -> Json<Value> {
    let rules = match rules {
        Rules::Many(rules) => rules,
        Rules::One(rule) => vec![rule],
    };
    let mut switches = sim.switches();
    switches.board.arm(rules);
    Json(json!({"armed": switches.board.armed(), "fired": switches.board.fired}))
}

async fn armed(State(sim): State<Arc<Sim>>) -> Json<Value> {
    let switches = sim.switches();
    Json(json!({"armed": switches.board.armed(), "fired": switches.board.fired}))
}

async fn disarm(State(sim): State<Arc<Sim>>) -> Json<Value> {
    Json(json!({"disarmed": sim.switches().board.disarm()}))
}

async fn calls(State(sim): State<Arc<Sim>>) -> Json<Value> {
    Json(json!(sim.switches().calls))
}

async fn unknown(State(sim): State<Arc<Sim>>) -> Json<Value> {
    Json(json!(sim.switches().unknown))
}

/// What is not said stays as it is; `"throttle": null` ends it.
#[derive(Deserialize)]
struct Settings {
    job_ms: Option<u64>,
    order: Option<Order>,
    #[serde(default, deserialize_with = "said")]
    throttle: Option<Option<Throttle>>,
}

fn said<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Option<Throttle>>, D::Error> {
    Option::deserialize(from).map(Some)
}

async fn settings(State(sim): State<Arc<Sim>>, Json(settings): Json<Settings>) -> Json<Value> {
    let mut switches = sim.switches();
    if let Some(ms) = settings.job_ms {
        switches.job_time = Duration::from_millis(ms);
    }
    if let Some(order) = settings.order {
        switches.order = order;
    }
    if let Some(throttle) = settings.throttle {
        switches.throttle = throttle;
        switches.windows.clear();
    }
    Json(json!({
        "job_ms": u64::try_from(switches.job_time.as_millis()).unwrap_or(u64::MAX),
        "order": switches.order, "throttle": switches.throttle,
    }))
}

async fn state(State(sim): State<Arc<Sim>>) -> Json<Value> {
    Json(sim.read(|state| json!(state)))
}
