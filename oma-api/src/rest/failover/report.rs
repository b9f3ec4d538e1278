//! `GET /api/v1/failover/jobs/{job_id}/report`.

use super::super::body::Query;
use super::super::refusal::Refusal;
use crate::failover::report::{CSP, Format};
use crate::service::App;
use axum::extract::{Path, State};
use axum::http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;
use utoipa::IntoParams;

/// In which form.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::rest) struct Form {
    /// json (when it is left out), markdown or html.
    #[param(pattern = "^(json|markdown|html)?$")]
    format: String,
}

/// How a failover went: steps, age of the data, health, console, findings; after its clean-up, too
#[utoipa::path(get, path = "/api/v1/failover/jobs/{job_id}/report", tag = "failover",
    params(("job_id" = String, Path), Form),
    responses((status = 200, content(
        (Value = "application/json", example = json!({"job_id": "enhanced-test-failover-420570c7-f61f-a930-77c5-1e876786cb3c-1756882765",
            "vm_name": "pgtest1", "status": "completed", "rpo_seconds": 863.1, "rto_seconds": 365.2,
            "health": {"result": "ready", "expected": "\"login:\" on its console within 300 s of its start"},
            "console": {"source": "cleanup", "text": "debian login:"}, "steps": [], "findings": []})),
        (String = "text/markdown"), (String = "text/html"))),
        (status = "4XX", description = "refused")))]
pub(in crate::rest) async fn read(
    State(app): State<App>,
    Path(job): Path<String>,
    Query(Form { format }): Query<Form>,
) -> Result<Response, Refusal> {
    let format = match format.as_str() {
        "" => Format::Json,
        word => word.parse().map_err(|why| Refusal::invalid(format!("format: {why}")))?,
    };
    let report = app.failover_report(&job).await.map_err(|error| super::of_job(error, &job))?;
    let headers = [
        (CONTENT_TYPE, format.content_type()),
        // Guests and sources have written parts of it.
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (CONTENT_SECURITY_POLICY, CSP),
    ];
    Ok((headers, report.render(format)).into_response())
}
