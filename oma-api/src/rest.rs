//! The REST edge: convert, call a service, convert back. Every route has its twin over gRPC.
//!
//! ```text
//!  /api/v1/replications, /api/v1/progress     the progress API's document    ReplicationService, ProgressService
//!  /{account}/machines, /{account}/migrations the instance-migration API's   MigrationService
//!  /api/v1/migrations, vms, agents            all there is of them           MigrationService, InventoryService
//!  /api/v1/events/stream                      the journal                    MigrationService.Events
//!  /api/v1/migrations/{vm}/schedule, /api/v1/schedules/preview                ScheduleService
//!  /metrics                                   for Prometheus
//!  /api/v1/failover, /docs/failover           the failover API's document    FailoverService
//!  /api/v1/orphans                            ours                           OrphanService
//!  /api/v1/status                             ours                           StatusService
//!  /api/v1/tokens                             ours                           TokenService
//!  /api/v1/target-profiles                    ours                           TargetProfileService
//!  /api/v1/openapi.json                       made of the routes below       reflection
//! ```
//!
//! A route is registered with what the document says of it ([`utoipa_axum`]): what is served is what is described. Refusals
//! get their body from `refusal`, by the family of the route.

mod body;
mod caller;
mod document;
mod events;
mod failover;
mod gate;
mod instance;
mod limit;
mod migrations;
mod orphans;
mod preflight;
mod profiles;
mod progress;
mod refusal;
mod replications;
mod schedules;
mod status;
mod tokens;
mod view;

use crate::config::Limits;
use crate::service::App;
use axum::extract::{DefaultBodyLimit, FromRef};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::get;
use axum::{Json, Router};
use rustls::ServerConfig;
use shared::{http, telemetry};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::error;
use utoipa::OpenApi as _;
use utoipa::openapi::OpenApi;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// Largest request body.
const LARGEST: usize = 256 << 10;

/// What the handlers have.
#[derive(Clone)]
struct Server {
    app: App,
    /// Ends what would go on for ever.
    shutdown: CancellationToken,
}

impl FromRef<Server> for App {
    fn from_ref(server: &Server) -> Self {
        server.app.clone()
    }
}

/// The head of the document.
#[derive(utoipa::OpenApi)]
#[openapi(info(
    title = "MigrateKit control plane",
    description = "Protects running virtual machines and moves them. Times are RFC 3339 in UTC, sizes are bytes.",
    license(name = "Apache-2.0")
), modifiers(&Security), security(("bearer" = [])))]
struct Head;

/// How a request says who asks.
struct Security;

impl utoipa::Modify for Security {
    fn modify(&self, document: &mut OpenApi) {
        let mut bearer = Http::new(HttpAuthScheme::Bearer);
        let what = "A token, mkt_…: POST /api/v1/tokens or `migratekit token create` makes one. Before the first one was made, \
                    this machine alone is served, over loopback and without it.";
        bearer.description = Some(what.to_owned());
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("bearer", SecurityScheme::Http(bearer));
    }
}

/// Serves until `shutdown`, in clear.
pub async fn serve(listener: TcpListener, app: App, shutdown: CancellationToken) {
    serve_over(None, &Limits::default(), listener, app, shutdown).await;
}

/// Serves until `shutdown`, over TLS where there is a configuration for it.
pub async fn serve_over(
    tls: Option<Arc<ServerConfig>>,
    limits: &Limits,
    listener: TcpListener,
    app: App,
    shutdown: CancellationToken,
) {
    let address = match listener.local_addr() {
        Ok(address) => address,
        Err(error) => return error!(%error, "the REST API is not served: its port cannot be told"),
    };
    let metrics = app.hub.metrics.common.clone();
    let (routes, _) = router(app, limits, address, shutdown.clone());
    let routes = http::measured(routes, &metrics, refusal::family);
    match tls {
        Some(tls) => http::serve_tls(listener, tls, "REST API", routes, shutdown).await,
        None => http::serve(listener, "REST API", routes, shutdown).await,
    }
}

/// All routes, and what is said of them.
pub(crate) fn router(
    app: App,
    limits: &Limits,
    listener: SocketAddr,
    shutdown: CancellationToken,
) -> (Router, OpenApi) {
    let limiter = Arc::new(limit::Limiter::new(limits));
    let gate = gate::Gate { access: Arc::clone(&app.access), listener };
    let mut head = Head::openapi();
    telemetry::VERSION.clone_into(&mut head.info.version);
    let (routes, mut document) = OpenApiRouter::with_openapi(head)
        .routes(routes!(replications::list))
        .routes(routes!(replications::one))
        .routes(routes!(progress::get, progress::register))
        .routes(routes!(progress::update))
        .routes(routes!(progress::watch))
        .routes(routes!(profiles::list, profiles::create))
        .routes(routes!(profiles::one, profiles::update, profiles::delete))
        .merge(events::routes())
        .routes(routes!(preflight::check))
        .merge(migrations::routes())
        .merge(instance::routes())
        .nest("/api/v1", instance::routes())
        .merge(failover::routes())
        .routes(routes!(status::get))
        .routes(routes!(orphans::list))
        .routes(routes!(orphans::remove))
        .routes(routes!(schedules::get, schedules::put, schedules::delete))
        .routes(routes!(schedules::preview))
        .routes(routes!(tokens::list, tokens::create))
        .routes(routes!(tokens::revoke))
        .with_state(Server { app: app.clone(), shutdown })
        .split_for_parts();
    document::complete(&mut document);
    let shown = Arc::new(document.clone());
    let routes = routes
        .route("/metrics", get(async move || http::metrics_page(app.metrics().await)))
        .route("/api/v1/openapi.json", get(async move || Json(OpenApi::clone(&shown))))
        .layer(DefaultBodyLimit::max(LARGEST))
        .layer(from_fn_with_state(limiter, limit::pass))
        .layer(from_fn_with_state(gate, gate::pass))
        .layer(from_fn(refusal::dress));
    (routes, document)
}

#[cfg(test)]
mod tests;
