//! Tokens as an operator meets them: with the programs, against a daemon that runs.

use anyhow::Context as _;
use integration_tests::harness::{Options, World, binary};
use serde_json::Value;
use shared::tls::{Files, Role};
use std::path::Path;
use std::process::{Command, Output};

fn options() -> Options {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
    Options::files(&[("root", &file)])
}

/// Who runs the program.
enum As<'a> {
    Certificate(&'a Files),
    Token(&'a str),
    TokenFile(&'a Path),
}

fn migratekit(world: &World, who: &As<'_>, arguments: &[&str]) -> anyhow::Result<Output> {
    let mut cli = Command::new(binary("migratekit")?);
    cli.args(arguments).arg("--oma").arg(&world.address).arg("--ca").arg(world.dir.join("ca/ca.pem"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("MIGRATEKIT_")) {
        cli.env_remove(name);
    }
    match who {
        As::Certificate(files) => cli.arg("--cert").arg(&files.cert).arg("--key").arg(&files.key),
        As::Token(token) => cli.env("MIGRATEKIT_TOKEN", token),
        As::TokenFile(path) => cli.arg("--token-file").arg(path),
    };
    Ok(cli.output()?)
}

/// Standard output of a command that succeeds.
fn done(output: &Output) -> anyhow::Result<String> {
    let said = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "{said}");
    Ok(String::from_utf8(output.stdout.clone())?)
}

/// What a command that is refused says.
fn refused(output: &Output, code: i32, word: &str) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(code) && said.contains(word), "{:?}: {said}", output.status);
}

/// Status and body of a GET at the REST API.
fn rest(world: &World, path: &str, token: Option<&str>) -> anyhow::Result<(String, Value)> {
    let mut curl = Command::new("curl");
    curl.args(["-s", "--max-time", "10", "-w", "\n%{http_code}"]).arg(format!("http://{}{path}", world.rest));
    if let Some(token) = token {
        curl.arg("-H").arg(format!("Authorization: Bearer {token}"));
    }
    let text = String::from_utf8(curl.output()?.stdout)?;
    let (body, status) = text.rsplit_once('\n').context("a status")?;
    Ok((status.to_owned(), serde_json::from_str(body)?))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_stands_in_for_a_certificate_until_it_is_revoked() -> anyhow::Result<()> {
    let mut world = World::start(&options()).await?;
    let [admin, operator] =
        [(Role::Admin, "root"), (Role::Operator, "admin")].map(|(r, n)| world.ca.files(r, n));
    world.oma.wait_for("the REST API asks nobody who they are", std::time::Duration::from_secs(10))?;
    assert_eq!(rest(&world, "/api/v1/replications", None)?.0, "200", "loopback, before the first token");

    let create = ["token", "create", "ci", "--role", "viewer", "--expires", "30d"];
    refused(&migratekit(&world, &As::Certificate(&operator), &create)?, 1, "[WRONG_ROLE]");
    let stranger = shared::token::Token::generate()?;
    let early = migratekit(&world, &As::Token(stranger.expose()), &["vm", "list"])?;
    refused(&early, 1, "it takes tokens once an admin with a certificate has made the first");
    let token = done(&migratekit(&world, &As::Certificate(&admin), &create)?)?.trim().to_owned();
    refused(&migratekit(&world, &As::Certificate(&admin), &create)?, 1, "[TOKEN_EXISTS]");

    // It looks, in every way, and does no more.
    done(&migratekit(&world, &As::Token(&token), &["vm", "list"])?)?;
    let file = world.dir.join("token");
    std::fs::write(&file, format!("{token}\n"))?;
    done(&migratekit(&world, &As::TokenFile(&file), &["migration", "list"])?)?;
    assert_eq!(rest(&world, "/api/v1/replications", Some(&token))?.0, "200");
    let begin = migratekit(&world, &As::Token(&token), &["migration", "begin", "web"])?;
    refused(&begin, 1, "migration.act needs the role operator; this token is viewer/ci [WRONG_ROLE]");
    let (status, body) = rest(&world, "/api/v1/tokens", Some(&token))?;
    assert_eq!((status.as_str(), &body["error_code"]), ("403", &"WRONG_ROLE".into()), "{body}");
    assert_eq!(rest(&world, "/api/v1/replications", None)?.0, "401", "nobody goes unasked any more");
    refused(&migratekit(&world, &As::Token(&token[..40]), &["vm", "list"])?, 64, "cut off");
    refused(&migratekit(&world, &As::Token(stranger.expose()), &["vm", "list"])?, 1, "[TOKEN_UNKNOWN]");

    // It outlives a restart, its agents are still let in, and it ends at once.
    let before = world.oma.logged()?;
    world.oma_restart(&[])?;
    done(&migratekit(&world, &As::Token(&token), &["vm", "list"])?)?;
    world.begin().await?;
    let listed = done(&migratekit(&world, &As::Certificate(&admin), &["token", "list", "-o", "json"])?)?;
    let listed: Value = serde_json::from_str(&listed)?;
    let of = |key: &str| listed[0][key].as_str().unwrap_or_default().to_owned();
    assert_eq!([of("name"), of("role"), of("status"), of("created_by")], ["ci", "viewer", "active", "root"]);
    assert!(!of("last_used_at").is_empty() && !listed.to_string().contains(&token[4..20]), "{listed}");
    done(&migratekit(&world, &As::Certificate(&admin), &["token", "revoke", "ci"])?)?;
    refused(
        &migratekit(&world, &As::Certificate(&admin), &["token", "revoke", "ci"])?,
        1,
        "[TOKEN_NOT_FOUND]",
    );
    assert_eq!(rest(&world, "/api/v1/replications", Some(&token))?.0, "401");
    let shown = done(&migratekit(&world, &As::Certificate(&admin), &["token", "list", "--all"])?)?;
    assert!(shown.contains("revoked"), "{shown}");

    // The REST API over TLS, with the OMA's certificate; nothing in clear there any more.
    let config = world.dir.join("oma.toml");
    let text = std::fs::read_to_string(&config)?;
    std::fs::write(&config, text.replace("[rest]\n", "[rest]\ntls = true\n"))?;
    let before = before + &world.oma.logged()?;
    world.oma_restart(&[])?;
    let mut curl = Command::new("curl");
    curl.args(["-s", "--max-time", "10", "--cacert"]).arg(world.dir.join("ca/ca.pem"));
    let answer = curl.arg(format!("https://{}/api/v1/replications", world.rest)).output()?;
    let answer: Value = serde_json::from_slice(&answer.stdout)?;
    assert!(
        answer["replications"].is_array(),
        "all are revoked, so this machine is served unasked: {answer}"
    );
    assert!(rest(&world, "/api/v1/replications", None).is_err(), "nothing in clear");

    let log = before + &world.oma.logged()?;
    assert!(
        log.contains("token created") && log.contains("by=root") && log.contains("token revoked"),
        "{log}"
    );
    assert!(!log.contains(&token[4..20]), "a log never holds a token");
    Ok(())
}
