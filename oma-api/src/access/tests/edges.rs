//! What both edges do with tokens: their whole life, and the time before the first.

use super::server::{Server, Shows, bearer};
use super::*;
use serde_json::Value;
use shared::wire::refusal::reason_of;
use std::time::Duration;
use tonic::Code;

const GET: &str = "/migratekit.v1.InventoryService/ListAgents";

/// The reason in a refusal of the family of new routes.
fn reason(body: &str) -> String {
    let body: Value = serde_json::from_str(body).unwrap_or_else(|e| panic!("{e}: {body}"));
    body["error_code"].as_str().unwrap_or_default().to_owned()
}

async fn rest(server: &Server, token: &str) -> (u16, String) {
    let (status, _, body) = server.ask("GET", "/api/v1/tokens", &bearer(token)).await;
    (status, if status == 200 { String::new() } else { reason(&body) })
}

async fn grpc(server: &Server, token: &str) -> Result<(), String> {
    let called = server.call(GET, Shows::Token(token)).await;
    called.map_err(|status| reason_of(&status).unwrap_or_else(|| format!("{status:?}")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_counts_until_it_is_revoked_or_expires() {
    let server = Server::start().await;
    let app = &server.plant.app;
    let admin = server.token("root", Role::Admin).await;
    assert_eq!(rest(&server, &admin).await, (200, String::new()));
    assert_eq!(grpc(&server, &admin).await, Ok(()));

    // Revoked: at once, on a connection that is open, too.
    let by = Caller { name: "alice".to_owned(), role: Role::Admin };
    let gone = server.token("gone", Role::Admin).await;
    assert_eq!(grpc(&server, &gone).await, Ok(()));
    app.token_revoke(&by, "gone").await.expect("revoked");
    assert_eq!(rest(&server, &gone).await, (401, "TOKEN_REVOKED".to_owned()));
    assert_eq!(grpc(&server, &gone).await, Err("TOKEN_REVOKED".to_owned()));
    let again = app.token_revoke(&by, "gone").await.expect_err("once");
    assert_eq!(again.reason(), "TOKEN_NOT_FOUND");

    let unknown = Token::generate().expect("random");
    assert_eq!(rest(&server, unknown.expose()).await, (401, "TOKEN_UNKNOWN".to_owned()));
    assert_eq!(grpc(&server, unknown.expose()).await, Err("TOKEN_UNKNOWN".to_owned()));
    let cut = &admin[..admin.len() - 3];
    assert_eq!(rest(&server, cut).await, (401, "TOKEN_MALFORMED".to_owned()));
    let (status, head, body) =
        server.ask("GET", "/api/v1/tokens", &["Authorization: Basic eA==".to_owned()]).await;
    assert_eq!((status, reason(&body).as_str()), (401, "TOKEN_MALFORMED"));
    assert!(head.to_lowercase().contains("www-authenticate: bearer"), "{head}");

    // What is stored makes the same decisions after a restart, and holds no token.
    let rows = app.store.token_list().await.expect("read");
    assert!(rows.iter().all(|row| !format!("{row:?}").contains(&admin[4..20])), "{rows:?}");
    let restarted = Access::new(rows.clone());
    let from = [127, 0, 0, 1].into();
    let shown = |token: &str| format!("Bearer {token}").into_bytes();
    let now = Timestamp::now();
    assert_eq!(restarted.bearer(&shown(&admin), from, now).expect("good").caller.name, "root");
    assert!(matches!(restarted.bearer(&shown(&gone), from, now), Err(Refusal::Revoked { .. })));
    let later = now + Duration::from_secs(3600);
    assert!(matches!(restarted.bearer(&shown(&admin), from, later), Err(Refusal::Expired { .. })));
    assert!(!restarted.is_open(), "an expired token keeps the door shut");
    let just = rows[0].expires_at - Duration::from_micros(1);
    assert!(restarted.bearer(&shown(&admin), from, just).is_ok());
}

#[tokio::test]
async fn uses_are_stored_once_a_minute() {
    let plant = crate::testing::Plant::new().await;
    let by = Caller { name: "test".to_owned(), role: Role::Admin };
    let new =
        crate::service::tokens::NewToken::new("ci", Role::Viewer, Duration::from_secs(3600)).expect("usable");
    let (token, row) = plant.app.token_create(&by, new).await.expect("made");
    let tokens = &plant.app.access.tokens;
    let used = |seconds: u64| {
        tokens.find(&token.hash(), row.created_at + Duration::from_secs(seconds)).expect("good");
        tokens.take_used()
    };
    let stored = |seconds: u64| vec![(row.id.clone(), row.created_at + Duration::from_secs(seconds))];
    assert_eq!(used(1), stored(1));
    assert_eq!(used(2), []);
    assert_eq!(used(59), []);
    assert_eq!(used(61), stored(61));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn before_the_first_token_only_this_machine_is_served() {
    let server = Server::start().await;
    let list = async |headers: &[&str]| {
        let headers: Vec<_> = headers.iter().map(|&h| h.to_owned()).collect();
        let (status, _, body) = server.ask("GET", "/api/v1/tokens", &headers).await;
        (status, if status == 200 { String::new() } else { reason(&body) })
    };
    assert_eq!(list(&[]).await.0, 200);
    assert_eq!(list(&["Host: rebound.example:8082"]).await, (403, "FOREIGN_HOST".to_owned()));
    assert_eq!(list(&["Origin: http://evil.example"]).await, (403, "FOREIGN_ORIGIN".to_owned()));
    assert_eq!(list(&["X-Forwarded-For: 192.0.2.1"]).await, (403, "PROXIED".to_owned()));
    assert_eq!(list(&["Authorization: Bearer nonsense"]).await, (401, "TOKEN_MALFORMED".to_owned()));
    // By gRPC nobody comes without a certificate: refused in the handshake, as before there were tokens.
    let refused = server.call(GET, Shows::Nothing).await.expect_err("no certificate");
    assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");

    // The first one shuts the door, for this machine, too; the last one that is revoked opens it again.
    server.token("first", Role::Viewer).await;
    assert_eq!(list(&[]).await, (401, "CREDENTIALS_MISSING".to_owned()));
    let refused = server.call(GET, Shows::Nothing).await.expect_err("nothing shown");
    assert_eq!(
        (refused.code(), reason_of(&refused)),
        (Code::Unauthenticated, Some("CREDENTIALS_MISSING".to_owned()))
    );
    let by = Caller { name: "test".to_owned(), role: Role::Admin };
    server.plant.app.token_revoke(&by, "first").await.expect("revoked");
    assert_eq!(list(&[]).await.0, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_that_others_reach_serves_nobody_without_a_token() {
    let server = Server::listening("0.0.0.0:0").await;
    let (status, _, body) = server.ask("GET", "/api/v1/openapi.json", &[]).await;
    assert_eq!((status, reason(&body).as_str()), (401, "NO_TOKENS"), "{body}");
    assert!(body.contains("migratekit token create"), "{body}");
    let viewer = server.token("v", Role::Viewer).await;
    assert_eq!(server.ask("GET", "/api/v1/openapi.json", &bearer(&viewer)).await.0, 200);
}

/// Red when who may only look can act, or cannot follow.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_viewer_watches_and_does_not_act_at_the_route_of_both() {
    let server = Server::start().await;
    let (viewer, operator) = (server.token("v", Role::Viewer).await, server.token("o", Role::Operator).await);
    for action in [
        "begin",
        "sync",
        "switch",
        "automatic",
        "pause",
        "hold",
        "release",
        "abort",
        "finalize",
        "rollback",
        "start",
        "x",
    ] {
        for root in ["", "/api/v1"] {
            let path = format!("{root}/my/machines/web-1/migrate?action={action}");
            let (status, _, body) = server.ask("POST", &path, &bearer(&viewer)).await;
            assert!(status == 403 && body.contains("WRONG_ROLE"), "{action}: {status} {body}");
        }
    }
    let path = "/my/machines/web-1/migrate?action=watch";
    assert_eq!(server.ask("POST", path, &bearer(&viewer)).await.0, 200);
    let path = "/my/machines/web-1/migrate?action=hold";
    assert_eq!(server.ask("POST", path, &bearer(&operator)).await.0, 201);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_person_with_both_the_token_counts() {
    let server = Server::start().await;
    let viewer = server.token("v", Role::Viewer).await;
    let act = "/migratekit.v1.MigrationService/Act";
    let alone =
        server.call(act, Shows::Certificate(CertificateRole::Operator)).await.expect_err("empty message");
    assert_eq!(alone.code(), Code::InvalidArgument, "{alone:?}");
    let both = server.call(act, Shows::Both(CertificateRole::Operator, &viewer)).await.expect_err("a viewer");
    assert_eq!(both.code(), Code::PermissionDenied, "{both:?}");
    assert!(both.message().contains("needs the role operator; this token is viewer/v"), "{both:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_guesses_waits_and_who_has_a_good_token_does_not() {
    let server = Server::start().await;
    let good = server.token("good", Role::Admin).await;
    for _ in 0..failures::MOST {
        let guess = Token::generate().expect("random");
        assert_eq!(rest(&server, guess.expose()).await, (401, "TOKEN_UNKNOWN".to_owned()));
    }
    let guess = Token::generate().expect("random");
    let (status, head, body) = server.ask("GET", "/api/v1/tokens", &bearer(guess.expose())).await;
    assert_eq!((status, reason(&body).as_str()), (429, "TOO_MANY_FAILURES"));
    assert!(head.to_lowercase().contains("retry-after: "), "{head}");
    let refused = server.call(GET, Shows::Token(guess.expose())).await.expect_err("the same address");
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused:?}");
    assert_eq!(rest(&server, &good).await, (200, String::new()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_there_is_told_to_those_who_may_know() {
    let server = Server::start().await;
    let viewer = server.token("v", Role::Viewer).await;
    assert_eq!(server.ask("GET", "/api/v1/nothing", &[]).await.0, 401);
    assert_eq!(server.ask("GET", "/api/v1/nothing", &bearer(&viewer)).await.0, 404);
    let (status, head, body) = server.ask("PATCH", "/api/v1/tokens", &bearer(&viewer)).await;
    assert_eq!((status, reason(&body).as_str()), (405, "METHOD_NOT_ALLOWED"));
    assert!(head.to_lowercase().contains("allow: get, post"), "{head}");
    assert_eq!(server.ask("HEAD", "/api/v1/replications", &bearer(&viewer)).await.0, 200);
    let refused = server.call("/migratekit.v1.Nothing/At", Shows::Token(&viewer)).await.expect_err("nothing");
    assert_eq!(refused.code(), Code::Unimplemented, "{refused:?}");
    let refused = server.call("/migratekit.v1.Nothing/At", Shows::Nothing).await.expect_err("nobody");
    assert_eq!(refused.code(), Code::Unauthenticated, "{refused:?}");
}
