//! The journal as Server-Sent Events.
//!
//! Without a `Last-Event-ID` the first event is the state of all migrations that go on; then come events, each with the
//! journal's number as its id. A client that comes back with the last id it saw misses none: they are kept for 90 days.

use super::Server;
use super::body::Query;
use super::refusal::Refusal;
use crate::service::list::Listing;
use crate::store::Event as Entry;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures::stream::{Stream, iter};
use futures::{StreamExt as _, TryStreamExt as _};
use serde::Deserialize;
use serde_json::json;
use std::convert::Infallible;
use std::time::Duration;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// A comment at least this often.
const PERIOD: Duration = Duration::from_secs(15);

/// Migrations of the first event.
const SHOWN: u32 = 500;

pub(super) fn routes() -> OpenApiRouter<Server> {
    OpenApiRouter::new().routes(routes!(versioned)).routes(routes!(unversioned))
}

/// What may be followed.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Of {
    /// Only of this VM or migration.
    vm: Option<String>,
    /// As the header of that name, for clients that cannot set one.
    last_event_id: Option<u64>,
}

/// Everything that happens, as Server-Sent Events
#[utoipa::path(get, path = "/api/v1/events/stream", tag = "events",
    params(Of, ("last-event-id" = Option<u64>, Header, description = "the last id seen")),
    responses((status = 200, content_type = "text/event-stream", body = String), (status = "4XX", description = "refused")))]
async fn versioned(
    server: State<Server>,
    of: Query<Of>,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Refusal> {
    stream(server, of, headers).await
}

/// The same, where older clients look for it
#[utoipa::path(get, path = "/api/events/stream", tag = "events",
    params(Of, ("last-event-id" = Option<u64>, Header, description = "the last id seen")),
    responses((status = 200, content_type = "text/event-stream", body = String), (status = "4XX", description = "refused")))]
async fn unversioned(
    server: State<Server>,
    of: Query<Of>,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Refusal> {
    stream(server, of, headers).await
}

async fn stream(
    State(Server { app, shutdown }): State<Server>,
    Query(of): Query<Of>,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Refusal> {
    let migration = match &of.vm {
        Some(vm) => Some(app.migration_find(vm).await?.id),
        None => None,
    };
    let sent = headers.get("last-event-id").map(|id| id.to_str().unwrap_or_default().parse());
    let last = match sent {
        Some(Ok(id)) => Some(id),
        Some(Err(_)) => return Err(Refusal::invalid("last-event-id: must be the id of an event, a number")),
        None => of.last_event_id,
    };
    let newest = app.journal_last().await?;
    let (first, after) = match last {
        // A number of the future is of another database: from the beginning of now.
        Some(id) if id <= newest => (None, id),
        Some(_) | None => {
            // Read after the number was: what changes in between is said again, not missed.
            let listing = Listing {
                limit: Some(SHOWN),
                text: migration.as_ref().map(ToString::to_string).unwrap_or_default(),
                ..Listing::default()
            };
            let page = app.migration_list(&listing).await?;
            let state: Vec<_> = page
                .migrations
                .iter()
                .map(|view| {
                    let m = &view.migration;
                    json!({
                        "migration_id": m.id.as_str(), "vm_uuid": m.vm.as_str(), "vm_name": m.vm_name,
                        "phase": m.position.phase().as_str(), "state": m.position.state().as_str(),
                        "held": m.held,
                    })
                })
                .collect();
            let body = json!({ "migrations": state, "more": page.next.is_some() });
            (Some(Event::default().id(newest.to_string()).event("state").data(body.to_string())), newest)
        }
    };
    let events = app.journal(after, migration).map_ok(|entry| event(&entry)).or_else(async |error| {
        // The client comes back with its last id.
        tracing::warn!(error = %shared::error::chain(&error), "events cannot be read");
        Err(())
    });
    let events = events.take_while(|event| std::future::ready(event.is_ok())).filter_map(async |e| e.ok());
    let all = iter(first).chain(events).map(Ok).take_until(shutdown.cancelled_owned());
    Ok(Sse::new(all).keep_alive(KeepAlive::new().interval(PERIOD)))
}

fn event(entry: &Entry) -> Event {
    let body = json!({
        "sequence": entry.seq,
        "time": entry.at.to_string(),
        "type": entry.kind,
        "migration_id": entry.migration.as_ref().map(|id| id.as_str()),
        "job_id": entry.job.as_ref().map(|id| id.as_str()),
        "data": entry.body,
    });
    Event::default().id(entry.seq.to_string()).event(&entry.kind).data(body.to_string())
}
