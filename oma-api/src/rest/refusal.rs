//! What is refused, in the words of the family that its route belongs to.
//!
//! ```text
//!  handler ──► Refusal (as an extension of an empty answer) ──► dress: looks at the path ──► status and body
//!  axum's own refusals (404, 405, 413, …) ──────────────────────────┘
//! ```
//!
//! | family | routes | body |
//! |---|---|---|
//! | progress | `/api/v1/progress`, `/api/v1/replications` | `error, job_id, details, timestamp` |
//! | migration | `/{account}/machines…`, `/{account}/migrations…`, the same under `/api/v1` | `code, message, reason` |
//! | failover | all others | `success, error, error_code, details, troubleshooting` |
//!
//! On the failover API's own routes what is malformed is `INVALID_REQUEST`, `details` has the code once more, as that
//! document shows it in both places, and `troubleshooting` points to a page that is served.

use super::failover::help;
use crate::service::Error;
use axum::Json;
use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use shared::correlation::CorrelationId;
use shared::http::Refused;
use tonic::Code;

/// Longest text of axum's own that is repeated.
const LONGEST: usize = 2 << 10;

/// The failover API's own routes.
pub(super) const FAILOVER: &str = "/api/v1/failover/";

/// Why a request is refused.
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    /// Upper snake case; the same as in gRPC's `ErrorInfo`.
    pub(super) reason: &'static str,
    pub(super) message: String,
    pub(super) headers: Box<HeaderMap>,
    /// What it is about, for families that show it.
    details: Box<Map<String, Value>>,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, reason: &'static str, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { status, reason, message, headers: Box::default(), details: Box::default() }
    }

    /// About this, too.
    pub(super) fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.details.insert(key.to_owned(), value.into());
        self
    }

    /// Of arguments that cannot be used.
    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "INVALID_ARGUMENT", message)
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        let (code, reason) = error.code();
        let status = match &error {
            // It was asked for what it did not do: it is not this server that is away.
            Error::Compute(_) => StatusCode::BAD_GATEWAY,
            _ => status(code),
        };
        Self::new(status, reason, shared::error::chain(&error))
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.headers_mut().extend(HeaderMap::clone(&self.headers));
        response.extensions_mut().insert(self);
        response
    }
}

/// gRPC's codes as HTTP says them.
pub(super) fn status(code: Code) -> StatusCode {
    match code {
        Code::Ok => StatusCode::OK,
        Code::InvalidArgument | Code::OutOfRange => StatusCode::BAD_REQUEST,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::AlreadyExists | Code::FailedPrecondition | Code::Aborted => StatusCode::CONFLICT,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled => StatusCode::SERVICE_UNAVAILABLE,
        Code::Internal | Code::Unknown | Code::DataLoss => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// Whose document a route follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    Progress,
    Migration,
    Failover,
}

impl Family {
    pub(super) const ALL: [Self; 3] = [Self::Progress, Self::Migration, Self::Failover];

    pub(super) fn of(path: &str) -> Self {
        let mut parts = path.trim_start_matches('/').split('/');
        let first = parts.next().unwrap_or_default();
        let (account, next) = match (first, parts.next()) {
            ("api", Some("v1")) => (parts.next().unwrap_or_default(), parts.next()),
            ("api", _) => return Self::Failover,
            (account, next) => (account, next),
        };
        match (account, next) {
            ("progress" | "replications", _) if first == "api" => Self::Progress,
            // Our own routes of these names.
            ("migrations" | "orphans" | "status" | "target-profiles" | "tokens", _) if first == "api" => {
                Self::Failover
            }
            (_, Some("machines" | "migrations")) => Self::Migration,
            _ => Self::Failover,
        }
    }
}

/// By which metrics tell routes apart; `/metrics` itself and what is served for people are nobody's.
pub(super) fn family(route: &str) -> &'static str {
    match Family::of(route) {
        _ if !route.starts_with("/api/") && !route.starts_with("/{account}/") => "other",
        Family::Progress => "progress",
        Family::Migration => "migration",
        Family::Failover => "failover",
    }
}

/// Gives every refusal its body, axum's own included.
pub(super) async fn dress(request: Request, next: Next) -> Response {
    let path = request.uri().path().to_owned();
    let what = format!("{} {path}", request.method());
    let id = request.extensions().get::<CorrelationId>().map(ToString::to_string);
    let response = next.run(request).await;
    if !(response.status().is_client_error() || response.status().is_server_error()) {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let refusal = match parts.extensions.remove::<Refusal>() {
        Some(refusal) => refusal,
        None => of_axum(parts.status, &what, body).await,
    };
    tracing::info!(status = parts.status.as_u16(), reason = refusal.reason, why = %refusal.message, "refused");
    let mut dressed = match Family::of(&path) {
        Family::Progress => progress(&refusal, &path),
        Family::Migration => (refusal.status, Json(migration(&refusal))).into_response(),
        Family::Failover if path.starts_with(FAILOVER) => {
            (refusal.status, Json(failover_of_its_own(refusal, id.as_deref()))).into_response()
        }
        Family::Failover => (refusal.status, Json(failover(&refusal, id.as_deref()))).into_response(),
    };
    parts.headers.remove(CONTENT_LENGTH);
    parts.headers.remove(CONTENT_TYPE);
    dressed.headers_mut().extend(parts.headers);
    dressed
}

/// What axum and its extractors refuse by themselves.
async fn of_axum(status: StatusCode, what: &str, body: Body) -> Refusal {
    let said = axum::body::to_bytes(body, LONGEST).await.map(|b| String::from_utf8_lossy(&b).into_owned());
    let said = said.unwrap_or_default();
    let (reason, message) = match status {
        StatusCode::NOT_FOUND if said.is_empty() => ("NOT_FOUND", format!("there is nothing at {what}")),
        StatusCode::METHOD_NOT_ALLOWED => {
            ("METHOD_NOT_ALLOWED", format!("{what}: this address does not take that method"))
        }
        StatusCode::PAYLOAD_TOO_LARGE => ("BODY_TOO_LARGE", format!("{what}: the body is too large")),
        status if status.is_server_error() => ("INTERNAL", "see the log of oma-api".to_owned()),
        _ => ("INVALID_ARGUMENT", if said.is_empty() { what.to_owned() } else { said }),
    };
    Refusal::new(status, reason, message)
}

fn progress(refusal: &Refusal, path: &str) -> Response {
    let what = match refusal.reason {
        "JOB_NOT_FOUND" => "job not found",
        "JOBS_ARE_THE_AGENTS" => "progress is not taken here",
        "DATABASE_UNAVAILABLE" => "the database is not available",
        "NOT_FOUND" => "not found",
        "METHOD_NOT_ALLOWED" => "method not allowed",
        _ => match refusal.status {
            StatusCode::BAD_REQUEST => "invalid request",
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::TOO_MANY_REQUESTS => "not allowed",
            _ => "internal error",
        },
    };
    let answer = Refused::new(refusal.status, what).details(&refusal.message).timed(Timestamp::now());
    // The document names the job where there is one to name.
    match path.split('/').nth(4).filter(|_| names_a_job(refusal, path)) {
        Some(job) => answer.job(job),
        None => answer,
    }
    .into_response()
}

fn names_a_job(refusal: &Refusal, path: &str) -> bool {
    matches!(refusal.reason, "JOB_NOT_FOUND" | "JOBS_ARE_THE_AGENTS")
        || refusal.status == StatusCode::BAD_REQUEST && path.ends_with("/watch")
}

/// The instance-migration API's two fields; the reason is ours, for scripts.
fn migration(refusal: &Refusal) -> Value {
    let code = match refusal.status {
        StatusCode::BAD_REQUEST if refusal.reason == "MISSING_PARAMETER" => "MissingParameter",
        StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY | StatusCode::UPGRADE_REQUIRED => {
            "InvalidArgument"
        }
        StatusCode::UNSUPPORTED_MEDIA_TYPE => "InvalidHeader",
        StatusCode::PAYLOAD_TOO_LARGE => "RequestTooLarge",
        StatusCode::UNAUTHORIZED => "InvalidCredentials",
        StatusCode::FORBIDDEN => "NotAuthorized",
        StatusCode::NOT_FOUND => "ResourceNotFound",
        StatusCode::METHOD_NOT_ALLOWED => "BadMethod",
        StatusCode::CONFLICT | StatusCode::PRECONDITION_FAILED => "InvalidState",
        StatusCode::TOO_MANY_REQUESTS => "RequestThrottled",
        StatusCode::SERVICE_UNAVAILABLE => "ServiceUnavailable",
        _ => "InternalError",
    };
    json!({ "code": code, "message": refusal.message, "reason": refusal.reason })
}

fn failover(refusal: &Refusal, correlation_id: Option<&str>) -> Value {
    let mut details = Map::clone(&refusal.details);
    details.insert("correlation_id".to_owned(), json!(correlation_id));
    json!({
        "success": false,
        "error": refusal.message,
        "error_code": refusal.reason,
        "details": details,
        "troubleshooting": {
            "suggestions": suggestions(refusal.reason),
            "documentation": "/api/v1/openapi.json",
        },
    })
}

/// As the failover API's document has it. Its sentence for a VM that is none of ours is kept; what is known beyond that
/// is among the details.
fn failover_of_its_own(refusal: Refusal, correlation_id: Option<&str>) -> Value {
    let refusal = match refusal.reason {
        "INVALID_ARGUMENT" => Refusal { reason: "INVALID_REQUEST", ..refusal },
        "VM_NOT_FOUND" => {
            let why = refusal.message.clone();
            let message = "Validation failed: VM not found or not replicated".to_owned();
            Refusal { message, ..refusal }.with("reason", why)
        }
        _ => refusal,
    };
    let code = refusal.reason;
    let refusal = refusal.with("error_code", code);
    let mut body = failover(&refusal, correlation_id);
    body["troubleshooting"]["documentation"] = json!(help::PATH);
    body
}

/// What helps, by reason. The message says what of it is known here.
pub(super) fn suggestions(reason: &str) -> &'static [&'static str] {
    match reason {
        "VM_NOT_FOUND" => &["Verify VM is replicated", "List the migrations: GET /api/v1/migrations"],
        "VALIDATION_FAILED" => &["Check validation details", "Check VM replication status"],
        "SNAPSHOT_FAILED" => &["Check Linstor connectivity", "Check the room on the storage"],
        "VIRTIO_FAILED" => &["Check driver availability", "Leave it out: \"skip_virtio_injection\": true"],
        "VIRTIO_PREREQUISITE" => {
            &["Install what the message names", "Leave it out: \"skip_virtio_injection\": true"]
        }
        "VM_CREATE_FAILED" => &["Check CloudStack config", "Check the [compute] section of oma-api.toml"],
        "VOLUME_ATTACH_FAILED" => &["Check Volume Daemon", "Look for a program that has the clone open"],
        "VM_START_FAILED" => &[
            "Read error_message of the job: it ends with what is missing, or what refused",
            "Look at qemu.log in the machine's folder on the host of oma-api, while that is there",
            "Look at the free memory of that host: \"custom_config\": {\"memory_mb\": …} asks for less",
        ],
        "VM_NOT_READY" => &[
            "Read the console: GET /api/v1/failover/jobs/{job_id}/console",
            "Give wait_for_ready a longer timeout",
        ],
        "VOLUME_IN_USE" => &["Look for a program that has the clone open", "Try again: the action retry"],
        "CLEANUP_FAILED" => &["Read error_message of the clean-up", "Try again: the action retry"],
        "NOTHING_COMMITTED" | "RESTORE_POINT_NOT_FOUND" => &[
            "Make a restore point: migratekit migration sync VM",
            "See which there are: GET /api/v1/migrations/{vm}",
        ],
        "NO_COMPUTE" => &["Give oma-api.toml a [compute] section", "Start oma-api again"],
        "COMPUTE_FAILED" => &["Look at the log of oma-api", "Check the compute backend"],
        "INVALID_REQUEST" => &[
            "Correct the field that the message names",
            "See all fields with their forms: GET /api/v1/openapi.json",
        ],
        "JOB_ENDED" => &[
            "Look at what may be asked still: \"allowed\" of GET /api/v1/failover/jobs/{job_id}",
            "Remove what a test left: POST /api/v1/failover/jobs/{job_id}/cleanup",
        ],
        "NO_MACHINE" => &["See when there is one: \"machine\" of GET /api/v1/failover/jobs/{job_id}"],
        "JOB_NOT_FOUND" => &["List the failovers: GET /api/v1/failover/jobs"],
        "CHAIN_POLICY" => &[
            "Run a test, look at it and clean it up: POST /api/v1/failover/test",
            "Give a reason to do without, which is recorded: \"override_reason\"",
        ],
        "VERIFICATION_DUE" => &["Compare the disks: migratekit verify VM, and migratekit verify VM --source"],
        "DATA_LOSS_NOT_ACCEPTED" => &[
            "Accept as much as the message says: \"accept_loss\"",
            "Plan it while its source can be reached: leave out \"unplanned\"",
        ],
        "NOTHING_TO_COMMIT" => &[
            "Look for the machine on the target",
            "Take it back: POST /api/v1/failover/jobs/{job_id}/rollback",
        ],
        "BUSY" => &["Wait for the end of what is going on: migratekit migration wait VM"],
        "SWITCHED" | "SWITCH_FAILED" => &[
            "Take it back: POST /api/v1/failover/jobs/{job_id}/rollback",
            "Keep it: POST /api/v1/failover/jobs/{job_id}/commit",
        ],
        "AGENT_TOO_OLD" => &["Update vma-agent", "Power the VM off by hand, and ask for \"unplanned\": true"],
        "POWER_OFF_TIMEOUT" | "POWER_OFF_FAILED" | "POWER_UNSUPPORTED" | "POWER_ON_FAILED" => &[
            "Look at the VM at its source, and at the log of vma-agent",
            "Let its power be cut: \"power_off\": {\"force\": true}",
        ],
        "SOURCE_RUNNING" => &["Plan the failover", "Power the VM off at its source"],
        "FINAL_SYNC_FAILED" => {
            &["Read error_message of the job", "Try again when a sync succeeds: migratekit migration sync VM"]
        }
        "ACTION_IN_PROGRESS" => {
            &["Look at the job: GET /api/v1/failover/jobs/{job_id}", "Wait for its end, or cancel it"]
        }
        "TOO_MANY_FAILOVERS" => &["Clean a test of this VM up: POST /api/v1/failover/jobs/{job_id}/cleanup"],
        "RATE_LIMITED" => &["Send the request again after the seconds of Retry-After"],
        "VM_UNKNOWN" | "NOT_PROTECTED" | "VM_AMBIGUOUS" => {
            &["List the VMs: GET /api/v1/vms", "List the migrations: GET /api/v1/migrations?all=true"]
        }
        "AGENT_NOT_CONNECTED" => &["List the agents: GET /api/v1/agents", "Look at the log of vma-agent"],
        "DATABASE_UNAVAILABLE" => &["Look at the log of oma-api", "Check the database server"],
        "CREDENTIALS_MISSING"
        | "NO_TOKENS"
        | "TOKEN_UNKNOWN"
        | "TOKEN_EXPIRED"
        | "TOKEN_REVOKED"
        | "TOKEN_MALFORMED" => &[
            "Send the header: Authorization: Bearer mkt_…",
            "Make a token: migratekit token create NAME --role ROLE",
        ],
        "WRONG_ROLE" => &["Ask an admin for a token of that role: migratekit token create NAME --role ROLE"],
        "TOKEN_NOT_FOUND" | "TOKEN_EXISTS" => &["List the tokens: GET /api/v1/tokens"],
        "NOT_FOUND" | "METHOD_NOT_ALLOWED" => &["See what there is: GET /api/v1/openapi.json"],
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_belongs_to_the_family_of_its_document() {
        for (path, family) in [
            ("/api/v1/progress/job-1", Family::Progress),
            ("/api/v1/replications", Family::Progress),
            ("/my/machines/web-1/migrate", Family::Migration),
            ("/my/migrations", Family::Migration),
            ("/api/v1/my/machines/web-1/migrate", Family::Migration),
            ("/api/v1/my/migrations/web-1", Family::Migration),
            ("/api/v1/migrations/web-1", Family::Failover),
            ("/api/v1/migrations", Family::Failover),
            ("/api/v1/vms", Family::Failover),
            ("/nothing", Family::Failover),
            ("/", Family::Failover),
        ] {
            assert_eq!(Family::of(path), family, "{path}");
        }
    }
}
