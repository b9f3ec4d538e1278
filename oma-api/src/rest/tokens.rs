//! Tokens. For the role admin.

use super::body::Body;
use super::refusal::Refusal;
use crate::service::tokens::{NewToken, TokenStatus};
use crate::service::{App, Caller};
use crate::store::TokenRow;
use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use shared::config::Period;
use std::time::Duration;
use utoipa::ToSchema;

/// How long a token lives when nobody says.
const USUAL: Duration = Duration::from_secs(90 * 86_400);

/// A token that is asked for.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewToken)]
pub(super) struct Asked {
    /// Letters, digits, dots, dashes and underscores; unique among the living.
    #[schema(min_length = 1, max_length = 64, pattern = "^[A-Za-z0-9._-]+$", example = "ci")]
    name: String,
    /// viewer, operator or admin.
    #[schema(pattern = "^(viewer|operator|admin)$", example = "operator")]
    role: String,
    /// From now, such as 30d; 90d when left out, at most 366d.
    #[schema(example = "30d")]
    expires: Option<String>,
}

/// What is kept of a token.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Token {
    id: String,
    #[schema(example = "ci")]
    name: String,
    #[schema(example = "operator")]
    role: &'static str,
    created_at: String,
    created_by: String,
    expires_at: String,
    /// To the minute.
    last_used_at: Option<String>,
    revoked_at: Option<String>,
    revoked_by: Option<String>,
    /// active, expired or revoked.
    #[schema(example = "active")]
    status: &'static str,
}

/// A new token, with the secret that is shown this once.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = CreatedToken)]
pub(super) struct Created {
    /// For the header `Authorization: Bearer …`; nobody can show it again.
    #[schema(example = "mkt_…")]
    secret: String,
    token: Token,
}

/// Tokens, the oldest first.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TokenList)]
pub(super) struct List {
    tokens: Vec<Token>,
}

impl Token {
    fn of(row: TokenRow, status: TokenStatus) -> Self {
        Self {
            id: row.id,
            name: row.name,
            role: row.role.as_str(),
            created_at: row.created_at.to_string(),
            created_by: row.created_by,
            expires_at: row.expires_at.to_string(),
            last_used_at: row.last_used_at.map(|at| at.to_string()),
            revoked_at: row.revoked_at.map(|at| at.to_string()),
            revoked_by: row.revoked_by,
            status: status.as_str(),
        }
    }
}

/// Make a token
#[utoipa::path(post, path = "/api/v1/tokens", tag = "tokens", request_body = Asked,
    responses((status = 201, body = Created), (status = "4XX", description = "refused")))]
pub(super) async fn create(
    State(app): State<App>,
    by: Caller,
    Body(asked): Body<Asked>,
) -> Result<(StatusCode, Json<Created>), Refusal> {
    let role = asked.role.parse().map_err(|why| Refusal::invalid(format!("role: {why}")))?;
    let lifetime = match asked.expires {
        None => USUAL,
        Some(text) => {
            text.parse::<Period>().map_err(|why| Refusal::invalid(format!("expires: {why}")))?.into()
        }
    };
    let (secret, row) = app.token_create(&by, NewToken::new(&asked.name, role, lifetime)?).await?;
    let token = Token::of(row, TokenStatus::Active);
    Ok((StatusCode::CREATED, Json(Created { secret: secret.expose().to_owned(), token })))
}

/// All tokens that are kept, revoked and expired ones too
#[utoipa::path(get, path = "/api/v1/tokens", tag = "tokens",
    responses((status = 200, body = List), (status = "4XX", description = "refused")))]
pub(super) async fn list(State(app): State<App>) -> Json<List> {
    let tokens = app.token_list().into_iter().map(|(row, status)| Token::of(row, status)).collect();
    Json(List { tokens })
}

/// Revoke a token: from the answer on nobody gets in with it
#[utoipa::path(delete, path = "/api/v1/tokens/{name}", tag = "tokens", params(("name" = String, Path)),
    responses((status = 200, body = Token), (status = "4XX", description = "refused")))]
pub(super) async fn revoke(
    State(app): State<App>,
    by: Caller,
    Path(name): Path<String>,
) -> Result<Json<Token>, Refusal> {
    Ok(Json(Token::of(app.token_revoke(&by, &name).await?, TokenStatus::Revoked)))
}
