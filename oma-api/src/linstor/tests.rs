//! The client against controllers that say what real ones said, stand by, or are away.

use super::*;
use crate::outbound::{Again, Outcome};
use crate::testing::scripted::{Said, Scripted};
use http::Method;
use serde_json::{Value, json};
use std::time::Duration;

const AWAY: &str = "http://127.0.0.1:1";

fn client(controllers: &[&str]) -> anyhow::Result<Client> {
    let settings = Settings {
        controllers: controllers.iter().map(ToString::to_string).collect(),
        token_file: None,
        deadline: Duration::from_secs(5),
    };
    Ok(Client::new(settings, crate::outbound::client(None)?))
}

fn version() -> Said {
    Said::ok(json!({"version": "1.33.3", "rest_api_version": "1.27.0"}))
}

fn made() -> Said {
    Said::with(201, json!([{"ret_code": 20_447_233, "message": "New resource definition 'mk-x' created."}]))
}

async fn spawn(client: &Client) -> Result<Replies, Error> {
    let body = json!({"resource_definition_name": "mk-x", "volume_sizes": [1024]});
    client.change(&Method::POST, "/v1/resource-groups/g/spawn", Some(&body)).await
}

#[tokio::test]
async fn a_standby_is_passed_over_and_the_active_one_remembered() -> anyhow::Result<()> {
    let standby = Scripted::start([Said::with(302, "").header("location", "https://active:3371/")]).await?;
    let active = Scripted::start([version(), made()]).await?;
    let client = client(&[AWAY, &standby.url, &active.url])?;
    let version: Value = client.get("/v1/controller/version").await?;
    assert_eq!(version["version"], "1.33.3");
    spawn(&client).await?;
    assert_eq!((standby.asked().len(), active.asked().len()), (1, 2));
    let asked = &active.asked()[1];
    assert_eq!((asked.head.method.as_str(), asked.head.uri.path()), ("POST", "/v1/resource-groups/g/spawn"));
    assert_eq!(serde_json::from_str::<Value>(&asked.body)?["volume_sizes"], json!([1024]));
    Ok(())
}

#[tokio::test]
async fn when_nobody_answers_it_says_of_each_why() -> anyhow::Result<()> {
    let standby = Scripted::start([Said::with(302, "").header("location", "https://active:3371/")]).await?;
    let error = spawn(&client(&[AWAY, &standby.url])?).await.err();
    let Some(error @ Error::NoController { .. }) = error else { anyhow::bail!("{error:?}") };
    assert_eq!(error.outcome(), Outcome::NotDone);
    let said = error.to_string();
    assert!(said.contains("127.0.0.1:1") && said.contains("https://active:3371/"), "{said}");
    Ok(())
}

#[tokio::test]
async fn who_is_away_is_left_alone_and_a_refusal_is_an_answer() -> anyhow::Result<()> {
    let away = client(&[AWAY])?;
    for _ in 0..3 {
        assert!(matches!(spawn(&away).await, Err(Error::NoController { .. })));
    }
    let error = spawn(&away).await.err();
    let Some(error @ Error::Away(_)) = error else { anyhow::bail!("{error:?}") };
    assert_eq!((error.outcome(), error.again()), (Outcome::NotDone, Again::Later));
    assert!(error.to_string().contains("127.0.0.1:1"), "why, the last time: {error}");

    let no = json!([{"ret_code": -4_611_686_018_406_153_244_i64, "message": "no room"}]);
    let server = Scripted::start((0..5).map(|_| Said::with(500, no.clone()))).await?;
    let refusing = client(&[&server.url])?;
    for _ in 0..5 {
        assert!(matches!(spawn(&refusing).await, Err(Error::Refused { .. })));
    }
    Ok(())
}

#[tokio::test]
async fn a_change_that_was_sent_is_not_sent_to_another() -> anyhow::Result<()> {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let other = Scripted::start([version()]).await?;
    let settings = Settings {
        controllers: vec![format!("http://{}", silent.local_addr()?), other.url.clone()],
        token_file: None,
        deadline: Duration::from_millis(200),
    };
    let client = Client::new(settings, crate::outbound::client(None)?);
    let error = spawn(&client).await.err();
    assert!(matches!(error, Some(Error::NoAnswer { .. })), "{error:?}");
    assert_eq!(error.map(|error| error.outcome()), Some(Outcome::Unknown));
    assert!(other.asked().is_empty());
    // What only asks may be asked of anybody.
    client.get::<Value>("/v1/controller/version").await?;
    Ok(())
}

#[tokio::test]
async fn a_refusal_says_why_and_whether_something_is_there_now() -> anyhow::Result<()> {
    let exists = json!([{"ret_code": -4_611_686_018_406_153_739_i64, "message": "exists"}]);
    let half = json!([
        {"ret_code": 20_447_233, "message": "New resource definition 'mk-x' created."},
        {"ret_code": -4_611_686_018_406_153_242_i64, "message": "a tool failed"},
    ]);
    // An error with a status that says otherwise is one all the same.
    let server =
        Scripted::start([Said::with(500, exists.clone()), Said::with(500, half), Said::with(200, exists)])
            .await?;
    let client = client(&[&server.url])?;
    for (problem, outcome) in [
        (Problem::Exists, Outcome::NotDone),
        (Problem::ToolFailed, Outcome::Unknown),
        (Problem::Exists, Outcome::NotDone),
    ] {
        let error = spawn(&client).await.err();
        assert_eq!(
            error.as_ref().map(|e| (e.problem(), e.outcome())),
            Some((Some(problem), outcome)),
            "{error:?}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_look_up_of_nothing_is_no_failure_of_the_controller() -> anyhow::Result<()> {
    let missing = json!([{"ret_code": -4_611_686_018_427_387_603_i64, "message": "not found"}]);
    let server = Scripted::start([Said::with(404, missing), Said::with(404, "<html>")]).await?;
    let client = client(&[&server.url])?;
    let error = client.get::<Value>("/v1/resource-definitions/mk-x").await.err();
    assert_eq!(error.and_then(|error| error.problem()), Some(Problem::NotFound));
    let error = client.get::<Value>("/v1/resource-definitions/mk-x").await.err();
    assert!(matches!(error, Some(Error::Strange { status: 404, .. })), "{error:?}");
    Ok(())
}

#[tokio::test]
async fn a_token_is_read_anew_and_a_refusal_of_it_is_named() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let token = dir.path().join("token");
    let server = Scripted::start([version(), Said::with(401, ""), Said::with(412, "")]).await?;
    let settings = Settings {
        controllers: vec![server.url.clone()],
        token_file: Some(token.clone()),
        deadline: Duration::from_secs(5),
    };
    let client = Client::new(settings, crate::outbound::client(None)?);
    assert!(matches!(client.get::<Value>("/v1/controller/version").await, Err(Error::Token { .. })));
    std::fs::write(&token, "t1\n")?;
    client.get::<Value>("/v1/controller/version").await?;
    std::fs::write(&token, "t2\n")?;
    for _ in 0..2 {
        assert!(matches!(client.get::<Value>("/v1/controller/version").await, Err(Error::Denied { .. })));
    }
    let sent: Vec<_> =
        server.asked().iter().filter_map(|a| a.head.headers.get("authorization").cloned()).collect();
    assert_eq!(sent, ["Bearer t1", "Bearer t2", "Bearer t2"]);
    Ok(())
}

/// What real controllers answered: the status is that of the first error.
#[test]
fn every_recorded_answer_is_understood() -> anyhow::Result<()> {
    use integration_tests::recordings::{Recording, exchanges};
    let mut understood = 0;
    for of in [Recording::Linstor, Recording::LinstorNext, Recording::HandOver] {
        for exchange in exchanges(of)? {
            let Some(status) = exchange.get("status").and_then(Value::as_u64) else { continue };
            let is_entries = |body: &&Value| body.get(0).is_some_and(|entry| entry.get("ret_code").is_some());
            let body = ["answer", "body"].iter().find_map(|key| exchange.get(key));
            let Some(body) = body.filter(is_entries) else { continue };
            let replies: Replies = serde_json::from_value(body.clone())?;
            let expected: &[u64] = match replies.problem() {
                None => &[200, 201],
                Some(Problem::NotFound) => &[404],
                Some(Problem::Denied) => &[401, 403, 412],
                // Of a route or a method that there is not, too.
                Some(Problem::ToolFailed) => &[404, 405, 500],
                // The controller could not read the request.
                Some(Problem::Invalid | Problem::Other(_)) => &[400, 500],
                Some(_) => &[500],
            };
            assert!(expected.contains(&status), "{status}, not {expected:?}: {exchange}");
            understood += 1;
        }
    }
    assert!(understood > 500, "{understood}");
    Ok(())
}
