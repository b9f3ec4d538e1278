//! Secrets of the configuration are in no log line (TRACE, of all libraries), error, `Debug`, finding or argument: after calls that
//! succeed, are refused, are answered by something that repeats them, get no answer, and reach nobody.

use super::super::survey;
use super::{config, said};
use crate::cloudstack::{Client as CloudStack, Params, Settings as CloudStackSettings};
use crate::compute::CloudStackCompute;
use crate::config::{Compute, Storage};
use crate::linstor::{Client as Linstor, Settings as LinstorSettings};
use crate::store::Store;
use crate::testing::scripted::{Said, Scripted};
use http::Method;
use integration_tests::zone::Zone;
use serde_json::{Value, json};
use shared::error::chain;
use std::error::Error;
use std::fmt::Debug;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tracing::Dispatch;
use tracing_subscriber::fmt::MakeWriter;

const KEY: &str = "plantedApiKeyQWERTY";
const SECRET: &str = "plantedSecretKeyASDFGH";
const TOKEN: &str = "plantedTokenZXCVBN";
const PASSWORD: &str = "plantedPasswordUIOP";
const PLANTED: [&str; 4] = [KEY, SECRET, TOKEN, PASSWORD];

/// All that was logged or shown.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<u8>>>);

impl Write for Seen {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Seen {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Seen {
    /// Logs of this thread come here from now on, until what it gives is dropped. The second subscriber sees nothing: with one
    /// alone, what another thread logs first would be taken for something that nobody wants.
    fn listen(&self) -> (tracing::subscriber::DefaultGuard, Dispatch) {
        let all = || tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_ansi(false);
        let second = Dispatch::new(all().with_writer(io::sink).finish());
        (tracing::subscriber::set_default(all().with_writer(self.clone()).finish()), second)
    }

    fn show(&self, what: &dyn Debug) {
        let _ = writeln!(self.clone(), "{what:?} {what:#?}");
    }

    fn error(&self, error: &(dyn Error + 'static)) {
        let _ = writeln!(self.clone(), "{} {error:?} {error:#?}", chain(error));
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }

    fn holds_none(&self) {
        let text = self.text();
        for planted in PLANTED {
            let at = text.find(planted);
            let around = at.map(|at| text.get(at.saturating_sub(300)..at + planted.len()));
            assert_eq!(at, None, "{around:?}");
        }
    }
}

/// Files with what is planted.
fn plant(dir: &Path) -> io::Result<[PathBuf; 3]> {
    let files = ["key", "secret", "token"].map(|name| dir.join(name));
    for (file, planted) in files.iter().zip(PLANTED) {
        std::fs::write(file, format!("{planted}\n"))?;
    }
    Ok(files)
}

/// Takes connections, and never says a word.
async fn mute() -> io::Result<String> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((connection, _)) = listener.accept().await {
            held.push(connection);
        }
    });
    Ok(url)
}

#[derive(Debug, serde::Deserialize)]
struct Item {
    #[expect(dead_code, reason = "it is only read into")]
    id: u64,
}

/// By what a server, or something on the way, says of a request.
fn repeated(of_request: &[&str]) -> String {
    format!("<h1>Bad request</h1> {} ", of_request.join(" "))
}

#[tokio::test]
async fn keys_of_cloudstack_are_never_shown() -> anyhow::Result<()> {
    let (dir, seen) = (tempfile::tempdir()?, Seen::default());
    let _listening = seen.listen();
    let [key, secret, _] = plant(dir.path())?;
    let refusal = |code: u16, text: &str| {
        Said::with(
            code,
            json!({"listzonesresponse": {"errorcode": code, "cserrorcode": 9999, "errortext": text}}),
        )
    };
    let client = |url: &str| {
        let settings = CloudStackSettings {
            endpoint: format!("{url}/client/api"),
            api_key_file: key.clone(),
            secret_key_file: secret.clone(),
            deadline: Duration::from_millis(500),
            poll: Duration::from_millis(5),
        };
        seen.show(&settings);
        CloudStack::new(settings, crate::outbound::client(None)?).map_err(anyhow::Error::from)
    };
    let answers = [
        Said::ok(json!({"listzonesresponse": {"count": 1, "zone": [{"id": KEY, "name": SECRET}]}})),
        refusal(401, "unable to verify user credentials and/or request signature"),
        refusal(431, &repeated(&[KEY, SECRET])),
        refusal(530, &repeated(&[KEY, SECRET])),
        Said::with(502, repeated(&[KEY, SECRET])),
        Said::with(404, json!({"listzonesresponse": {"apikey": KEY, "secretkey": SECRET}})),
        Said::ok(repeated(&[KEY, SECRET])),
        // Of another kind than was asked for.
        Said::ok(json!({"listzonesresponse": {"count": 1, "zone": [KEY]}})),
    ];
    let (count, server) = (answers.len(), Scripted::start(answers).await?);
    let answering = client(&server.url)?;
    let mut failed = 0;
    for _ in 0..count - 1 {
        match answering.call("listZones", Params::new()).await {
            Ok(value) => seen.show(&value),
            Err(error) => {
                failed += 1;
                seen.error(&error);
            }
        }
    }
    let listed = answering.list::<Item>("listZones", "zone", Params::new()).await;
    seen.error(&listed.expect_err("it cannot be read"));
    assert_eq!(failed, count - 2);
    assert!(server.asked().iter().all(|asked| asked.body.contains(KEY)), "it was sent");
    for url in [mute().await?, "http://127.0.0.1:1".to_owned()] {
        let error = client(&url)?.call("listZones", Params::new()).await.expect_err("nobody says a word");
        seen.error(&error);
    }
    let text = seen.text();
    assert!(text.contains("asked CloudStack") && text.contains("hyper"), "nothing was captured: {text}");
    seen.holds_none();
    Ok(())
}

#[tokio::test]
async fn the_token_of_linstor_is_never_shown() -> anyhow::Result<()> {
    let (dir, seen) = (tempfile::tempdir()?, Seen::default());
    let _listening = seen.listen();
    let [_, _, token] = plant(dir.path())?;
    let client = |url: &str| {
        let (controllers, token_file) = (vec![url.to_owned()], Some(token.clone()));
        let settings = LinstorSettings { controllers, token_file, deadline: Duration::from_millis(500) };
        seen.show(&settings);
        Ok::<_, anyhow::Error>(Linstor::new(settings, crate::outbound::client(None)?))
    };
    let entry =
        |code: i64| json!([{"ret_code": code, "message": repeated(&[TOKEN]), "cause": repeated(&[TOKEN])}]);
    let refused = -4_611_686_018_406_153_242_i64;
    let server = Scripted::start([
        Said::ok(json!([])),
        Said::with(401, repeated(&[TOKEN])),
        Said::with(500, entry(refused)),
        Said::with(404, repeated(&[TOKEN])),
        // Of another kind than was asked for.
        Said::ok(json!(TOKEN)),
        // With a warning, which is logged.
        Said::ok(entry(-9_223_372_036_817_550_358)),
        Said::with(500, entry(refused)),
        Said::with(400, repeated(&[TOKEN])),
    ])
    .await?;
    let answering = client(&server.url)?;
    for _ in 0..5 {
        match answering.get::<Vec<Value>>("/v1/nodes").await {
            Ok(value) => seen.show(&value),
            Err(error) => seen.error(&error),
        }
    }
    for _ in 0..3 {
        match answering.change(&Method::POST, "/v1/resource-definitions", Some(&json!({}))).await {
            Ok(replies) => seen.show(&replies),
            Err(error) => seen.error(&error),
        }
    }
    let asked = server.asked();
    let sent = asked.iter().filter_map(|asked| asked.head.headers.get("authorization")?.to_str().ok());
    assert_eq!(sent.filter(|sent| *sent == format!("Bearer {TOKEN}")).count(), 8, "it was sent");
    for url in [mute().await?, "http://127.0.0.1:1".to_owned()] {
        let away = client(&url)?;
        seen.error(&away.get::<Value>("/v1/nodes").await.expect_err("nobody says a word"));
        let change = away.change(&Method::POST, "/v1/nodes", Some(&json!({}))).await;
        seen.error(&change.expect_err("nobody says a word"));
    }
    // Which no header can hold.
    std::fs::write(&token, format!("{TOKEN}\n{TOKEN}"))?;
    seen.error(&answering.get::<Value>("/v1/nodes").await.expect_err("it cannot be sent"));
    let text = seen.text();
    assert!(text.contains("asked LINSTOR") && text.contains("LINSTOR warns"), "nothing was captured: {text}");
    seen.holds_none();
    Ok(())
}

#[tokio::test]
async fn nothing_of_a_configuration_is_shown() -> anyhow::Result<()> {
    let (dir, seen) = (tempfile::tempdir()?, Seen::default());
    let _listening = seen.listen();
    let [key, secret, token] = plant(dir.path())?;
    let zone = Zone::start(dir.path().join("zone")).await?;
    let url = format!("mysql://oma:{PASSWORD}@127.0.0.1:1/oma");
    let mut config = config(&zone, |text| text.replace("sqlite:///nowhere/oma.db", &url));
    let (Storage::Linstor(storage), Some(Compute::CloudStack(compute))) =
        (&mut config.storage, &mut config.compute)
    else {
        anyhow::bail!("{config:?}");
    };
    storage.token_file = Some(token);
    (compute.api_key_file, compute.secret_key_file) = (key, secret);
    seen.show(storage);
    seen.show(compute);
    seen.show(&config);
    assert_eq!(config.database_url.as_str(), url);
    // Refused by the real ones' stand-ins: they know neither key nor token.
    let found = survey(&config).await;
    let _ = writeln!(seen.clone(), "{}", said(&found));
    assert!(found.iter().any(|finding| finding.what == "CloudStack keys" && finding.is_missing()));
    for url in [
        url,
        format!("mysql://oma:{PASSWORD}@db.example:port/oma"),
        format!("postgres://oma:{PASSWORD}@db/oma"),
    ] {
        seen.error(&Store::connect(&url).await.expect_err("there is no such database"));
    }
    // A file that holds no key says so without what it holds.
    let Some(Compute::CloudStack(compute)) = &config.compute else { anyhow::bail!("{config:?}") };
    std::fs::write(&compute.secret_key_file, format!("{SECRET} {SECRET}\n"))?;
    let Storage::Linstor(storage) = &config.storage else { anyhow::bail!("{config:?}") };
    let storage = Arc::new(crate::storage::LinstorStorage::open(storage)?);
    let error = CloudStackCompute::open(compute, storage).err();
    seen.error(&error.expect("two words are no key"));
    for of in ["cmdline", "environ"] {
        seen.clone().write_all(&std::fs::read(format!("/proc/self/{of}"))?)?;
    }
    seen.holds_none();
    Ok(())
}
