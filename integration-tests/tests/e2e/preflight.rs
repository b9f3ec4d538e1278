//! Preflight and plan through all three edges: the same findings, the same plan, and a begin that is stopped by them.

use crate::configuration::{cli, json};
use crate::hand::reason;
use anyhow::{Context as _, ensure};
use integration_tests::harness::{Options, VM_UUID, World};
use proto::v1;
use proto::v1::migration_service_client::MigrationServiceClient;
use proto::v1::target_profile_service_client::TargetProfileServiceClient;
use serde_json::{Value, json};
use shared::tls::Role;
use std::process::Command;

const DECLARED: &str = r#"
[vm.configuration]
cpus = 4
memory = "8GiB"
firmware = "efi"
tpm = true
[[vm.configuration.nics]]
key = "4000"
mac = "00-50-56-8A-01-02"
model = "vmxnet3"
network = "VM Network"
"#;

/// Status and body.
fn post(world: &World, path: &str, body: &Value) -> anyhow::Result<(u16, Value)> {
    let mut curl = Command::new("curl");
    curl.args(["-s", "--max-time", "10", "-w", "\n%{http_code}", "-H", "Content-Type: application/json"]);
    curl.args(["-d", &body.to_string(), &format!("http://{}{path}", world.rest)]);
    let text = String::from_utf8(curl.output()?.stdout)?;
    let (body, status) = text.rsplit_once('\n').context("a status")?;
    Ok((status.parse()?, serde_json::from_str(body)?))
}

fn codes(findings: &Value) -> Vec<&str> {
    findings.as_array().into_iter().flatten().filter_map(|f| f["code"].as_str()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_says_the_same_through_all_edges_and_stops_begin() -> anyhow::Result<()> {
    let file = tempfile::NamedTempFile::new()?;
    file.as_file().set_len(1 << 20)?;
    let options = Options { configuration: DECLARED.to_owned(), ..Options::files(&[("root", file.path())]) };
    let world = World::start(&options).await?;
    // Profiles are an admin's; to look is not.
    let admin = world.channel_as(&world.ca.files(Role::Admin, "root")).await?;
    let shop = v1::TargetProfile {
        name: "shop".to_owned(),
        backend: v1::TargetBackend::Local.into(),
        zone: "zone-1".to_owned(),
        networks: vec![v1::NetworkMapping {
            source: "VM Network".to_owned(),
            live: "production".to_owned(),
            test: String::new(),
        }],
        ..v1::TargetProfile::default()
    };
    let request = v1::TargetProfileServiceCreateRequest { profile: Some(shop) };
    TargetProfileServiceClient::new(admin).create(request).await?;

    // The same, word for word, over REST and from the CLI.
    let (status, rest) =
        post(&world, "/api/v1/migrations/check", &json!({"vm": "web", "target_profile": "shop"}))?;
    ensure!(status == 200 && rest["vm_uuid"] == VM_UUID && rest["target_profile"] == "shop", "{rest}");
    let mut shown = json(&world, &["migration", "plan", "web", "--target", "shop"])?;
    let mut expected = rest.clone();
    for answer in [&mut shown, &mut expected] {
        // Others write to this file system, too.
        answer["room"]["free_bytes"] = Value::Null;
        answer["room"]["left_bytes"] = Value::Null;
        let findings = answer["findings"].as_array_mut().context("findings")?;
        findings.retain(|f| !f["code"].as_str().is_some_and(|code| code.starts_with("TARGET_ROOM")));
    }
    ensure!(shown == expected, "{shown:#}\n{expected:#}");
    let found = codes(&expected["findings"]);
    for code in
        ["NETWORK_UNMAPPED_TEST", "TPM_LOST", "NO_CHANGE_TRACKING", "DISK_ROUNDED_UP", "TARGET_MAKES_NO_VM"]
    {
        ensure!(found.contains(&code), "{code} is not among {found:?}");
    }
    ensure!(!found.contains(&"NETWORK_UNMAPPED_LIVE") && !found.contains(&"PROFILE_MISSING"), "{found:?}");
    let rows = rest["plan"].as_array().context("a plan")?;
    let row = |field: &str| rows.iter().find(|row| row["field"] == field).cloned().unwrap_or_default();
    ensure!(
        row("disks[root].size")
            == json!({"field": "disks[root].size", "source": "1MiB", "target": "1GiB", "change": "changed",
                      "reason": "the target's volumes are whole GiB; what is added reads zero"}),
        "{rest:#}"
    );
    ensure!(
        row("nics[4000].network.test")["change"] == "lost" && row("zone")["target"] == "zone-1",
        "{rest:#}"
    );

    // And over gRPC.
    let mut grpc = MigrationServiceClient::new(world.channel().await?);
    let request = v1::CheckRequest { vm: VM_UUID.to_owned(), target_profile: "shop".to_owned() };
    let said = grpc.check(request).await?.into_inner();
    ensure!(said.plan.len() == rows.len() && said.room.is_some() && !said.blocked, "{said:?}");
    let nobody = v1::CheckRequest { vm: "web".to_owned(), target_profile: "none".to_owned() };
    ensure!(reason(&grpc.check(nobody).await.expect_err("no such profile")) == "PROFILE_UNKNOWN", "unknown");
    let (status, unknown) = post(&world, "/api/v1/migrations/check", &json!({"vm": "mail"}))?;
    ensure!(status == 404 && unknown["error_code"] == "VM_UNKNOWN", "{unknown}");
    let (status, wrong) = post(&world, "/api/v1/migrations/check", &json!({"vm": "web", "profile": "shop"}))?;
    ensure!(status == 400 && wrong["error"].as_str().is_some_and(|e| e.contains("profile")), "{wrong}");

    // For people: a table, and what to do about each finding; no colours in a pipe.
    let table = cli(&world, &["migration", "plan", "web", "--target", "shop"])?;
    ensure!(table.status.code() == Some(0), "{table:?}");
    let table = String::from_utf8(table.stdout)?;
    ensure!(!table.contains('\u{1b}'), "{table}");
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let has = |expected: &str| table.lines().any(|line| words(line) == words(expected));
    ensure!(has("memory 8GiB 8GiB kept of an offering that lets it be chosen"), "{table}");
    ensure!(has("tpm on - lost what is sealed in it cannot be taken out"), "{table}");
    ensure!(table.contains("warn  TPM_LOST (vm): "), "{table}");

    // Begun by that profile, and what was found is in its journal.
    let begun = v1::ActRequest {
        vm: "web".to_owned(),
        action: v1::Action::Begin.into(),
        target_profile: "shop".to_owned(),
        ..v1::ActRequest::default()
    };
    let migration = grpc.act(begun).await?.into_inner().migration.context("begun")?;
    ensure!(migration.target_profile == "shop", "{migration:?}");
    let events = v1::EventsRequest { vm: "web".to_owned(), after_sequence: Some(0) };
    let mut events = grpc.events(events).await?.into_inner();
    let recorded = loop {
        let event = events.message().await?.context("the journal goes on")?;
        if event.r#type == "preflight" {
            break serde_json::from_str::<Value>(&event.data)?;
        }
    };
    ensure!(
        codes(&recorded["findings"]).contains(&"TPM_LOST") && recorded["forced"] == Value::Null,
        "{recorded}"
    );

    // Now something blocks: a script sees it by the exit code.
    let blocked = cli(&world, &["migration", "plan", "web"])?;
    ensure!(blocked.status.code() == Some(2), "{blocked:?}");
    ensure!(
        String::from_utf8(blocked.stdout)?.contains("block MIGRATION_UNFINISHED (vm): "),
        "said in the table"
    );
    ensure!(String::from_utf8(blocked.stderr)?.contains("web is protected already"), "and in a line");
    Ok(())
}
