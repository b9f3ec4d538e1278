//! `TokenService`.

use super::access::caller_of;
use crate::service::tokens::{NewToken, TokenStatus};
use crate::service::{App, Role};
use crate::store::TokenRow;
use jiff::Timestamp;
use proto::v1;
use proto::v1::token_service_server::TokenService;
use shared::wire::{Invalid, refusal};
use std::time::Duration;
use tonic::{Request, Response, Status};

pub(super) struct Tokens(pub(super) App);

#[tonic::async_trait]
impl TokenService for Tokens {
    async fn create(
        &self,
        request: Request<v1::TokenServiceCreateRequest>,
    ) -> Result<Response<v1::TokenServiceCreateResponse>, Status> {
        let by = caller_of(request.extensions())?;
        let asked = request.into_inner();
        let role = role(asked.role).map_err(|e| refusal::invalid(&e))?;
        let lifetime = Duration::from_secs(asked.lifetime_seconds);
        let new = NewToken::new(&asked.name, role, lifetime).map_err(|e| e.to_status())?;
        let (secret, row) = self.0.token_create(&by, new).await.map_err(|e| e.to_status())?;
        let token = Some(token(row, TokenStatus::Active));
        Ok(Response::new(v1::TokenServiceCreateResponse { secret: secret.expose().to_owned(), token }))
    }

    async fn list(
        &self,
        _: Request<v1::TokenServiceListRequest>,
    ) -> Result<Response<v1::TokenServiceListResponse>, Status> {
        let tokens = self.0.token_list().into_iter().map(|(row, status)| token(row, status)).collect();
        Ok(Response::new(v1::TokenServiceListResponse { tokens }))
    }

    async fn revoke(
        &self,
        request: Request<v1::TokenServiceRevokeRequest>,
    ) -> Result<Response<v1::TokenServiceRevokeResponse>, Status> {
        let by = caller_of(request.extensions())?;
        let row = self.0.token_revoke(&by, &request.into_inner().name).await.map_err(|e| e.to_status())?;
        Ok(Response::new(v1::TokenServiceRevokeResponse { token: Some(token(row, TokenStatus::Revoked)) }))
    }
}

fn role(asked: i32) -> Result<Role, Invalid> {
    match v1::AccessRole::try_from(asked) {
        Ok(v1::AccessRole::Viewer) => Ok(Role::Viewer),
        Ok(v1::AccessRole::Operator) => Ok(Role::Operator),
        Ok(v1::AccessRole::Admin) => Ok(Role::Admin),
        Ok(v1::AccessRole::Unspecified) => Err(Invalid::missing("role")),
        Err(_) => Err(Invalid::new("role", format!("{asked} is none of viewer, operator, admin"))),
    }
}

fn token(row: TokenRow, status: TokenStatus) -> v1::Token {
    let role = match row.role {
        Role::Viewer => v1::AccessRole::Viewer,
        Role::Operator => v1::AccessRole::Operator,
        Role::Admin => v1::AccessRole::Admin,
    };
    let or_empty = |at: Option<Timestamp>| at.map(|at| at.to_string()).unwrap_or_default();
    v1::Token {
        id: row.id,
        name: row.name,
        role: role.into(),
        created_at: row.created_at.to_string(),
        created_by: row.created_by,
        expires_at: row.expires_at.to_string(),
        last_used_at: or_empty(row.last_used_at),
        revoked_at: or_empty(row.revoked_at),
        revoked_by: row.revoked_by.unwrap_or_default(),
        status: status.as_str().to_owned(),
    }
}
