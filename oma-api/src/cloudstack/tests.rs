//! The client against a server that says what real ones said, and against what a wire does.

use super::*;
use crate::outbound::Outcome;
use crate::testing::scripted::{Said, Scripted};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

struct Rig {
    client: Client,
    server: Scripted,
    secret: PathBuf,
    _dir: tempfile::TempDir,
}

impl Rig {
    async fn start(answers: impl IntoIterator<Item = Said>) -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        let [key, secret] = ["key", "secret"].map(|name| dir.path().join(name));
        std::fs::write(&key, "KEY")?;
        std::fs::write(&secret, "SECRET")?;
        let server = Scripted::start(answers).await?;
        let settings = Settings {
            endpoint: format!("{}/client/api", server.url),
            api_key_file: key,
            secret_key_file: secret.clone(),
            deadline: Duration::from_secs(5),
            poll: Duration::from_secs(1),
        };
        Ok(Self { client: Client::new(settings, crate::outbound::client(None)?)?, server, secret, _dir: dir })
    }

    /// Fields of the form that was sent at this request.
    fn form(&self, at: usize) -> anyhow::Result<BTreeMap<String, String>> {
        let asked = self.server.asked();
        let request = asked.get(at).ok_or_else(|| anyhow::anyhow!("{} requests", asked.len()))?;
        assert_eq!((request.head.method.as_str(), request.head.uri.path()), ("POST", "/client/api"));
        Ok(request
            .body
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .collect())
    }
}

fn refusal(code: u16, text: &str) -> Said {
    let inner = json!({"uuidList": [], "errorcode": code, "cserrorcode": 9999, "errortext": text});
    Said::with(code, json!({"listvolumesresponse": inner}))
}

fn page(count: usize, ids: std::ops::Range<usize>) -> Said {
    let volumes: Vec<_> = ids.map(|id| json!({"id": id})).collect();
    Said::ok(json!({"listvolumesresponse": {"count": count, "volume": volumes}}))
}

fn polled(job: Value) -> Said {
    Said::ok(json!({"queryasyncjobresultresponse": job}))
}

#[tokio::test]
async fn a_command_is_a_signed_form_that_expires_soon() -> anyhow::Result<()> {
    let rig = Rig::start([Said::ok(json!({"listzonesresponse": {"count": 0}}))]).await?;
    let value = rig.client.call("listZones", Params::new().with("name", "a b")).await?;
    assert_eq!(value, json!({"count": 0}));
    let form = rig.form(0)?;
    let names: Vec<_> = form.keys().map(String::as_str).collect();
    assert_eq!(names, ["apiKey", "command", "expires", "name", "response", "signature", "signatureVersion"]);
    assert_eq!((form["signatureVersion"].as_str(), form["name"].as_str()), ("3", "a%20b"));
    let expires = form["expires"].replace("%3A", ":").replace("%2B0000", "Z");
    let left = expires.parse::<Timestamp>()?.duration_since(Timestamp::now());
    assert!((60..=120).contains(&left.as_secs()), "{expires}");
    Ok(())
}

#[tokio::test]
async fn it_waits_as_long_as_the_server_asks_for() -> anyhow::Result<()> {
    let text = "The given user has reached his/her account api limit, please retry after [300] ms.";
    let rig = Rig::start([refusal(429, text), Said::ok(json!({"listzonesresponse": {}}))]).await?;
    let begun = std::time::Instant::now();
    rig.client.call("listZones", Params::new()).await?;
    assert!(begun.elapsed() >= Duration::from_millis(300));
    let rig = Rig::start([refusal(429, &text.replace("300", "600000"))]).await?;
    let error = rig.client.call("listZones", Params::new()).await.err();
    assert!(error.is_some_and(|error| error.outcome() == Outcome::NotDone));
    Ok(())
}

#[tokio::test]
async fn a_wrong_clock_is_told_from_a_wrong_key() -> anyhow::Result<()> {
    let text = "unable to verify user credentials and/or request signature";
    let rig =
        Rig::start([refusal(401, text).header("date", "Tue, 03 Mar 2020 10:00:00 GMT"), refusal(401, text)])
            .await?;
    let error = rig.client.call("listZones", Params::new()).await.err();
    assert!(
        matches!(error, Some(Error::Clock { apart, .. }) if apart > Duration::from_secs(86_400)),
        "{error:?}"
    );
    let error = rig.client.call("listZones", Params::new()).await.err();
    assert!(
        matches!(&error, Some(Error::Refused { refusal, .. }) if refusal.reason() == Reason::Credentials),
        "{error:?}"
    );
    Ok(())
}

#[tokio::test]
async fn new_credentials_are_read_when_the_old_ones_are_refused() -> anyhow::Result<()> {
    let rig =
        Rig::start([refusal(401, "no"), Said::ok(json!({"listzonesresponse": {}})), refusal(401, "no")])
            .await?;
    std::fs::write(&rig.secret, "ANOTHER")?;
    rig.client.call("listZones", Params::new()).await?;
    // The same ones once more are no reason to ask twice.
    assert!(rig.client.call("listZones", Params::new()).await.is_err());
    assert_eq!(rig.server.asked().len(), 3);
    assert_ne!(rig.form(0)?["signature"], rig.form(1)?["signature"]);
    Ok(())
}

#[tokio::test]
async fn what_stands_between_is_not_taken_for_an_answer() -> anyhow::Result<()> {
    let rig = Rig::start([
        Said::with(503, "<html>starting</html>"),
        Said::with(200, "{}"),
        Said::with(502, json!({"xresponse": {}})),
    ])
    .await?;
    for status in [503, 200, 502] {
        let error = rig.client.call("createVolume", Params::new()).await.err();
        assert!(matches!(error, Some(Error::Strange { status: s, .. }) if s == status), "{error:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_server_that_is_away_or_silent_is_told_apart() -> anyhow::Result<()> {
    let mut rig = Rig::start([]).await?;
    let mut settings =
        Settings { endpoint: "http://127.0.0.1:1/client/api".to_owned(), ..settings_of(&rig)? };
    rig.client = Client::new(settings.clone(), crate::outbound::client(None)?)?;
    let error = rig.client.call("createVolume", Params::new()).await.err();
    assert!(matches!(&error, Some(Error::Unreachable { .. })), "{error:?}");
    assert_eq!(error.map(|e| e.outcome()), Some(Outcome::NotDone));
    // And is left alone after three times in a row.
    for _ in 0..2 {
        assert!(matches!(rig.client.call("listZones", Params::new()).await, Err(Error::Unreachable { .. })));
    }
    let error = rig.client.call("createVolume", Params::new()).await.err();
    assert!(matches!(&error, Some(Error::Away(_))), "{error:?}");
    assert_eq!(error.map(|e| e.outcome()), Some(Outcome::NotDone));

    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    settings.endpoint = format!("http://{}/client/api", silent.local_addr()?);
    settings.deadline = Duration::from_millis(200);
    let client = Client::new(settings, crate::outbound::client(None)?)?;
    let error = client.call("createVolume", Params::new()).await.err();
    assert!(matches!(&error, Some(Error::NoAnswer { .. })), "{error:?}");
    assert_eq!(error.map(|e| e.outcome()), Some(Outcome::Unknown));
    Ok(())
}

fn settings_of(rig: &Rig) -> anyhow::Result<Settings> {
    let key = rig.secret.with_file_name("key");
    Ok(Settings {
        endpoint: String::new(),
        api_key_file: key,
        secret_key_file: rig.secret.clone(),
        deadline: Duration::from_secs(5),
        poll: Duration::from_secs(1),
    })
}

#[tokio::test]
async fn a_list_is_read_page_by_page() -> anyhow::Result<()> {
    let rig = Rig::start([page(700, 0..500), page(700, 500..700)]).await?;
    let ids: Vec<Value> = rig.client.list("listVolumes", "volume", Params::new()).await?;
    assert_eq!((ids.len(), ids.last()), (700, Some(&json!({"id": 699}))));
    assert_eq!((rig.form(1)?["page"].as_str(), rig.form(1)?["pagesize"].as_str()), ("2", "500"));
    // Exactly full: the next page is none.
    let end = Said::ok(json!({"listvolumesresponse": {"count": 500}}));
    let rig = Rig::start([page(500, 0..500), end]).await?;
    assert_eq!(rig.client.list::<Value>("listVolumes", "volume", Params::new()).await?.len(), 500);
    let rig = Rig::start([Said::ok(json!({"listvolumesresponse": {}}))]).await?;
    assert!(rig.client.list::<Value>("listVolumes", "volume", Params::new()).await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn a_server_with_smaller_pages_is_asked_for_those() -> anyhow::Result<()> {
    let too_large = refusal(431, "Page size can't exceed max allowed page size value: 2");
    let rig = Rig::start([too_large, page(3, 0..2), page(3, 2..3)]).await?;
    assert_eq!(rig.client.list::<Value>("listVolumes", "volume", Params::new()).await?.len(), 3);
    assert_eq!(rig.form(2)?["pagesize"], "2");
    Ok(())
}

#[tokio::test]
async fn a_list_that_shows_nothing_of_what_it_counts_is_no_empty_one() -> anyhow::Result<()> {
    let rig = Rig::start([page(3, 0..3)]).await?;
    let error = rig.client.list::<Value>("listVolumes", "volumes", Params::new()).await.err();
    assert!(matches!(error, Some(Error::Incomplete { missing: "volumes", .. })), "{error:?}");
    Ok(())
}

#[tokio::test]
async fn a_job_is_waited_for_through_a_server_that_is_away() -> anyhow::Result<()> {
    let rig = Rig::start([
        Said::ok(json!({"createvolumeresponse": {"id": "v", "jobid": "j"}})),
        Said::with(503, "<html>"),
        polled(json!({"jobstatus": 1, "jobresult": {"volume": {"id": "v", "jobstatus": 0}}})),
    ])
    .await?;
    let job = rig.client.begin("createVolume", Params::new()).await?;
    assert_eq!(job.makes.as_deref(), Some("v"));
    let result = rig.client.finish(&job, Duration::from_secs(30)).await?;
    assert_eq!(result["volume"]["id"], "v");
    assert_eq!(rig.form(2)?["jobid"], "j");
    Ok(())
}

#[tokio::test]
async fn the_ends_of_a_job_are_told_apart() -> anyhow::Result<()> {
    let job = Job { id: JobId::from("j"), command: "startVirtualMachine".to_owned(), makes: None };
    let rig = Rig::start([
        polled(json!({"jobstatus": 2, "jobresult": {"errorcode": 530, "errortext": "no room"}})),
        polled(json!({"jobstatus": 2, "jobresultcode": 530})),
        refusal(
            431,
            "Invalid parameter jobid value=j due to incorrect long value format, or entity does not exist",
        ),
        polled(json!({"jobstatus": 0})),
    ])
    .await?;
    let mut ends = Vec::new();
    for _ in 0..4 {
        let error = rig.client.finish(&job, Duration::from_millis(1_500)).await.err();
        assert!(error.as_ref().is_some_and(|error| error.outcome() == Outcome::Unknown), "{error:?}");
        ends.push(match error {
            Some(Error::JobFailed { refusal, .. }) => refusal.text,
            Some(Error::JobLost { why, .. }) => why.to_owned(),
            Some(Error::JobSlow { .. }) => "slow".to_owned(),
            other => anyhow::bail!("{other:?}"),
        });
    }
    assert_eq!((ends[0].as_str(), ends[3].as_str()), ("no room", "slow"));
    assert!(ends[1].contains("restarted") && ends[2].contains("no record"), "{ends:?}");
    Ok(())
}

/// What a real server answered, as long as it was JSON: a refusal exactly where the status says so, with that code.
#[test]
fn every_recorded_answer_is_understood() -> anyhow::Result<()> {
    use integration_tests::recordings::{Recording, exchanges};
    let (mut values, mut refusals) = (0, 0);
    let handed_over = exchanges(Recording::HandOver)?.into_iter().filter(|e| e["api"] == "cloudstack");
    for exchange in exchanges(Recording::CloudStack)?.into_iter().chain(handed_over) {
        let Some(status) = exchange.get("status").and_then(Value::as_u64) else { continue };
        // Of the recorder's own: a reference to another file, a mock of the server's.
        let Some(body) = exchange.get("answer").filter(|a| a.is_object() && a.get("simulatormock").is_none())
        else {
            continue;
        };
        match answer::Answer::of(body.to_string().as_bytes()) {
            answer::Answer::Value(_) => {
                assert_eq!(status, 200, "{exchange}");
                values += 1;
            }
            answer::Answer::Refusal(refusal) => {
                assert_eq!(u64::from(refusal.code), status, "{exchange}");
                assert_ne!(refusal.reason(), Reason::Unknown, "{exchange}");
                refusals += 1;
            }
            answer::Answer::Strange(excerpt) => panic!("{excerpt}"),
        }
    }
    assert!(values > 1_000 && refusals > 200, "{values} values, {refusals} refusals");
    Ok(())
}
