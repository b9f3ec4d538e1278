//! Target profiles through all three edges: what one of them made, the others change and refuse.

use crate::configuration::{cli, json};
use crate::hand::reason;
use anyhow::{Context as _, ensure};
use integration_tests::harness::{Options, World};
use proto::v1;
use proto::v1::target_profile_service_client::TargetProfileServiceClient;
use serde_json::{Value, json};
use std::process::Command;

/// Status and body.
fn rest(world: &World, method: &str, path: &str, body: Option<&Value>) -> anyhow::Result<(u16, Value)> {
    let url = format!("http://{}/api/v1/target-profiles{path}", world.rest);
    let mut curl = Command::new("curl");
    curl.args(["-s", "--max-time", "10", "-w", "\n%{http_code}", "-X", method, &url]);
    if let Some(body) = body {
        curl.args(["-H", "Content-Type: application/json", "-d", &body.to_string()]);
    }
    let text = String::from_utf8(curl.output()?.stdout)?;
    let (body, status) = text.rsplit_once('\n').context("a status")?;
    Ok((status.parse()?, if body.is_empty() { Value::Null } else { serde_json::from_str(body)? }))
}

fn network(source: &str, live: &str, test: &str) -> v1::NetworkMapping {
    v1::NetworkMapping { source: source.to_owned(), live: live.to_owned(), test: test.to_owned() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_profile_is_the_same_through_all_edges() -> anyhow::Result<()> {
    let file = tempfile::NamedTempFile::new()?;
    file.as_file().set_len(1 << 20)?;
    let world = World::start(&Options::files(&[("root", file.path())])).await?;
    let admin = world.channel_as(&world.ca.files(shared::tls::Role::Admin, "root")).await?;
    let mut grpc = TargetProfileServiceClient::new(admin);

    // Made by gRPC.
    let shop = v1::TargetProfile {
        name: "shop".to_owned(),
        backend: v1::TargetBackend::Local.into(),
        zone: "zone-1".to_owned(),
        networks: vec![network("VM Network", "production", "isolated")],
        is_default: true,
        ..v1::TargetProfile::default()
    };
    let create = |profile: &v1::TargetProfile| v1::TargetProfileServiceCreateRequest {
        profile: Some(profile.clone()),
    };
    let made = grpc.create(create(&shop)).await?.into_inner().profile.context("the profile")?;
    ensure!(made.generation == 1 && made.live_mac() == v1::MacPolicy::Keep, "{made:?}");
    let twice = grpc.create(create(&shop)).await.expect_err("it is there");
    ensure!(reason(&twice) == "PROFILE_EXISTS" && twice.code() == tonic::Code::AlreadyExists, "{twice:?}");
    let cloud =
        v1::TargetProfile { name: "c".into(), backend: v1::TargetBackend::Cloudstack.into(), ..shop.clone() };
    let refused = grpc.create(create(&cloud)).await.expect_err("not in this version");
    ensure!(reason(&refused) == "BACKEND_NOT_AVAILABLE", "{refused:?}");

    // Read and changed by REST.
    let (status, mut body) = rest(&world, "GET", "/shop", None)?;
    let settings = &body["settings"];
    ensure!(status == 200 && settings["networks"][0]["test"] == "isolated", "{body}");
    ensure!(
        settings["default"] == true && settings["live_mac"] == "keep" && settings["addresses"] == "keep",
        "{body}"
    );
    for field in ["name", "created_at", "updated_at"] {
        body.as_object_mut().context("an object")?.remove(field);
    }
    body["settings"]["notes"] = json!("né 💾");
    let (status, changed) = rest(&world, "PUT", "/shop", Some(&body))?;
    ensure!(
        status == 200 && changed["generation"] == 2 && changed["settings"]["notes"] == "né 💾",
        "{changed}"
    );
    let (status, late) = rest(&world, "PUT", "/shop", Some(&body))?;
    ensure!(status == 409 && late["error_code"] == "CHANGED_MEANWHILE", "{late}");
    ensure!(late["error"].as_str().is_some_and(|e| e.contains("generation 2")), "{late}");

    // A test network is never live: refused by REST, by gRPC and by the CLI, on both ways in, both named.
    let new = |name: &str, network: Value| {
        json!({"name": name, "settings": {
        "backend": "local", "zone": "zone-1", "networks": [network]}})
    };
    let lab = new("lab", json!({"source": "LAN", "test": "Production"}));
    let (status, refused) = rest(&world, "POST", "", Some(&lab))?;
    let said = refused["error"].as_str().unwrap_or_default();
    ensure!(status == 409 && refused["error_code"] == "TEST_NETWORK_IS_LIVE", "{refused}");
    ensure!(
        said.contains("\"LAN\" in profile lab") && said.contains("\"VM Network\" in profile shop"),
        "{said}"
    );
    let made = new("lab", json!({"source": "LAN", "live": "lab"}));
    ensure!(rest(&world, "POST", "", Some(&made))?.0 == 201, "lab can be made");
    let both =
        v1::TargetProfile { networks: vec![network("LAN", "isolated", "")], generation: 1, ..shop.clone() };
    let both = v1::TargetProfile { name: "lab".into(), ..both };
    let request = v1::TargetProfileServiceUpdateRequest { profile: Some(both) };
    let refused = grpc.update(request).await.expect_err("isolated is a test network of shop");
    ensure!(reason(&refused) == "TEST_NETWORK_IS_LIVE", "{refused:?}");
    let refused = cli(&world, &["target", "update", "lab", "--test", "LAN=lab"])?;
    let said = String::from_utf8(refused.stderr)?;
    ensure!(refused.status.code() == Some(1) && said.ends_with("[TEST_NETWORK_IS_LIVE]\n"), "{said}");

    // Mistakes are named, and nothing is made of them.
    for (body, status, says) in [
        (json!({"name": "x", "settings": {"backend": "local", "zones": "z"}}), 400, "zones"),
        (json!({"name": "x", "settings": {"backend": "local"}, "generation": 1}), 400, "generation"),
        (json!({"name": "X", "settings": {"backend": "local"}}), 400, "profile name"),
        (json!({"name": "x", "settings": {"backend": "vsphere"}}), 400, "vsphere"),
        (new("x", json!({"source": "a", "lives": "b"})), 400, "settings.networks[0]"),
        (new("x", json!({"source": "a", "live": "b\n"})), 400, "control character"),
        (new("x", json!({"source": " ", "live": "b"})), 400, "names no source"),
    ] {
        let (got, said) = rest(&world, "POST", "", Some(&body))?;
        ensure!(
            got == status && said["error"].as_str().is_some_and(|e| e.contains(says)),
            "{body}: {got} {said}"
        );
    }
    ensure!(
        rest(&world, "GET", "/x", None)?.0 == 404 && rest(&world, "GET", "/X%2F..", None)?.0 == 404,
        "none"
    );
    let without = v1::TargetProfileServiceUpdateRequest { profile: Some(shop.clone()) };
    let refused = grpc.update(without).await.expect_err("no generation");
    ensure!(refused.code() == tonic::Code::InvalidArgument, "{refused:?}");

    // The default is recorded by begin, and held while the migration goes on.
    let migration = world.begin().await?;
    ensure!(migration.target_profile == "shop", "{migration:?}");
    let (status, held) = rest(&world, "DELETE", "/shop", None)?;
    ensure!(status == 409 && held["error_code"] == "PROFILE_IN_USE", "{held}");
    ensure!(held["error"].as_str().is_some_and(|e| e.contains("\"web\"")), "{held}");
    world.act(v1::Action::Abort).await?;
    world.wait("the end", std::time::Duration::from_secs(30), |m| !m.finished_at.is_empty()).await?;

    // By the CLI, from a file and by flags.
    let listed = json(&world, &["target", "list"])?;
    ensure!(listed.as_array().map(Vec::len) == Some(2) && listed[1]["name"] == "shop", "{listed}");
    let updated =
        json(&world, &["target", "update", "shop", "--live-mac", "new", "--nic-test", "4000=lonely"])?;
    ensure!(
        updated["settings"]["live_mac"] == "new"
            && updated["settings"]["notes"] == "né 💾"
            && updated["generation"] == 3,
        "{updated}"
    );
    let path = world.dir.join("third.toml");
    std::fs::write(
        &path,
        "backend = 'local'\nzone = 'zone-2'\ndefault = true\n[[networks]]\nsource = 'LAN'\ntest = 'production'\n",
    )?;
    let third = cli(&world, &["target", "create", "third", "--file", &path.display().to_string()])?;
    let shown = String::from_utf8(third.stdout)?;
    ensure!(shown.lines().any(|l| l == "network     LAN: live: -, test: production"), "{shown}");
    ensure!(
        json(&world, &["target", "get", "shop"])?["settings"]["default"] == false,
        "the default went to the third"
    );
    let stale = cli(&world, &["target", "delete", "shop", "--generation", "3"])?;
    ensure!(stale.status.code() == Some(1), "it lost the default meanwhile");
    ensure!(cli(&world, &["target", "delete", "shop"])?.status.success(), "removed");
    ensure!(rest(&world, "DELETE", "/lab?generation=1", None)? == (204, Value::Null), "removed");
    let missing = cli(&world, &["target", "get", "shop"])?;
    ensure!(String::from_utf8(missing.stderr)?.contains("[PROFILE_UNKNOWN]"), "it is gone");
    let wrong = cli(&world, &["target", "update", "third"])?;
    ensure!(wrong.status.code() == Some(64), "nothing to change: {wrong:?}");
    Ok(())
}
