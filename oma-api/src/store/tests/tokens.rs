//! Tokens: one living of a name, and what is kept of it.

use super::*;
use crate::service::Role;
use shared::token::Token;

fn made(name: &str, now: Timestamp, expires_at: Timestamp) -> TokenRow {
    TokenRow {
        id: uuid::Uuid::now_v7().to_string(),
        name: name.to_owned(),
        role: Role::Operator,
        hash: Token::generate().expect("random").hash(),
        created_at: now,
        created_by: "root".to_owned(),
        expires_at,
        last_used_at: None,
        revoked_at: None,
        revoked_by: None,
    }
}

#[tokio::test]
async fn a_name_has_one_living_token() {
    let mut f = Fixture::new().await;
    let first = made("ci", at(0), at(100));
    f.store.token_create(&first).await.expect("made");
    let again = f.store.token_create(&made("ci", at(1), at(100))).await;
    assert!(matches!(again, Err(Error::TokenExists { ref name }) if name == "ci"), "{again:?}");
    f.store.token_create(&made("Ci", at(1), at(100))).await.expect("another name");
    f.restart().await;
    assert_eq!(f.store.token_list().await.expect("list")[0], first, "as it was made");

    f.store.token_revoke("ci", "alice", at(2)).await.expect("revoked");
    let gone = f.store.token_revoke("ci", "alice", at(3)).await;
    assert!(matches!(gone, Err(Error::NotFound { what: "token", .. })), "{gone:?}");
    f.store.token_create(&made("ci", at(4), at(10))).await.expect("the name is free again");
    // One that has expired gives its name away, and is revoked by that.
    f.store.token_create(&made("ci", at(10), at(20))).await.expect("expired at that moment");
    let all = f.store.token_list().await.expect("list");
    let ends: Vec<_> =
        all.iter().filter(|t| t.name == "ci").map(|t| (t.revoked_at, t.revoked_by.clone())).collect();
    let by = |who: &str, when| (Some(at(when)), Some(who.to_owned()));
    assert_eq!(ends, [by("alice", 2), by("root", 10), (None, None)]);
}

#[tokio::test]
async fn use_is_kept_and_both_ends_are_events() {
    let f = Fixture::new().await;
    let token = made("ci", at(0), at(100));
    f.store.token_create(&token).await.expect("made");
    f.store.token_used(&[(token.id.clone(), at(60))]).await.expect("kept");
    assert_eq!(f.store.token_list().await.expect("list")[0].last_used_at, Some(at(60)));
    f.store.token_revoke("ci", "alice", at(61)).await.expect("revoked");
    let events = f.store.event_list(0, None, 10).await.expect("events");
    let kinds: Vec<_> = events.iter().map(|e| e.kind.as_str()).collect();
    assert_eq!(kinds, ["token_created", "token_revoked"]);
    let text = format!("{events:?}");
    assert!(text.contains("alice") && !text.contains(&token.hash.hex()), "{text}");
}
