//! Against a zone of both simulators.

mod secrets;

use super::*;
use crate::config::Compute as ComputeConfig;
use crate::testing::zone_settings;
use integration_tests::zone::{OMA, OWN_GROUP, Options, Zone};
use std::path::Path;

/// A configuration for the zone, changed before it is read.
fn config(zone: &Zone, change: impl Fn(String) -> String) -> Config {
    let (storage, compute) = zone_settings(zone);
    let text = format!(
        "database_url = \"sqlite:///nowhere/oma.db\"\nstate_dir = \"/nowhere\"\n[tls]\nca = \"/nowhere\"\ncert = \"/nowhere\"\n\
         key = \"/nowhere\"\n[storage]\nkind = \"linstor\"\n{storage}\n[compute]\nkind = \"cloudstack\"\n{compute}"
    );
    toml::from_str(&change(text)).expect("a configuration")
}

fn missing(found: &[Finding]) -> Vec<&str> {
    found.iter().filter(|finding| finding.is_missing()).map(|finding| finding.what.as_str()).collect()
}

/// How it stands with a thing.
fn standing(found: &[Finding], what: &str) -> Standing {
    let of = found.iter().find(|finding| finding.what == what);
    of.unwrap_or_else(|| panic!("{what} was not looked at:\n{}", said(found))).standing
}

/// Both simulators' states, as they keep them.
fn states(dir: &Path) -> Vec<Vec<u8>> {
    ["linstor", "cloudstack"]
        .map(|of| std::fs::read(dir.join(of).join("state.json")).expect("its state"))
        .into()
}

#[tokio::test]
async fn of_a_target_that_is_well_nothing_is_missing_and_nothing_changes() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let zone = Zone::start(dir.path()).await?;
    let before = states(dir.path());
    let found = survey(&config(&zone, |text| text)).await;
    assert_eq!(missing(&found), Vec::<&str>::new(), "{}", said(&found));
    for well in [
        "LINSTOR node of this host",
        "LINSTOR resource group",
        "LINSTOR node kvm1",
        "LINSTOR pool thin on kvm2, room",
        "CloudStack API key file",
        "CloudStack endpoint",
        "CloudStack keys",
        "CloudStack clock",
        "CloudStack rights",
        "CloudStack zone",
        "CloudStack primary storage, state",
        "CloudStack primary storage, provider",
        "CloudStack primary storage, scope",
        "CloudStack primary storage, resource group",
        "CloudStack disk offering, size",
        "CloudStack disk offering, tag",
        "CloudStack template",
        "CloudStack isolated network",
        "CloudStack hosts",
        "CloudStack UEFI",
        "CloudStack service offering",
        "CloudStack limits of the account",
    ] {
        assert_eq!(standing(&found, well), Standing::Well, "{well}:\n{}", said(&found));
    }
    // What cannot be known is said.
    assert_eq!(standing(&found, "CloudStack plug-in for LINSTOR"), Standing::Doubtful);
    assert_eq!(said(&found).lines().count(), found.len());
    assert!(check(config(&zone, |text| text)).await.is_ok());
    assert_eq!(states(dir.path()), before);
    assert!(zone.linstor().calls().iter().all(|call| call.method == "GET"), "it only asks");
    assert_eq!(zone.cloudstack().unknown_parameters(), Vec::<String>::new());
    Ok(())
}

#[tokio::test]
async fn each_thing_that_is_missing_is_named_beside_the_others() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let mut options = Options::new(dir.path());
    // No host offers UEFI.
    options.adjust = |world| {
        world.retain("host", |host| {
            host["ueficapability"] = false.into();
            true
        });
    };
    let zone = Zone::start_with(options).await?;
    let before = states(dir.path());
    let set = |key: &'static str, value: &'static str| {
        let line = format!("{key} = {value}");
        config(&zone, move |text| {
            let others = text.lines().filter(|have| !have.starts_with(&format!("{key} = ")));
            let others: String = others.map(|have| format!("{have}\n")).collect();
            let (table, kind) = match key {
                "resource_group" | "node" | "floor" => ("[storage]\n", "kind = \"linstor\"\n"),
                _ => ("[compute]\n", "kind = \"cloudstack\"\n"),
            };
            others.replace(&format!("{table}{kind}"), &format!("{table}{kind}{line}\n"))
        })
    };
    let other_group = format!("{OWN_GROUP:?}");
    for (key, value, gone) in [
        (
            "resource_group",
            other_group.leak() as &'static str,
            vec!["CloudStack primary storage, resource group"],
        ),
        (
            "resource_group",
            "\"none\"",
            vec!["LINSTOR resource group", "CloudStack primary storage, resource group"],
        ),
        ("node", "\"elsewhere\"", vec!["LINSTOR node of this host"]),
        ("floor", "\"1TiB\"", vec!["LINSTOR pool thin on kvm1, room", "LINSTOR pool thin on kvm2, room"]),
        ("zone", "\"none\"", vec!["CloudStack zone"]),
        ("template", "\"none\"", vec!["CloudStack template"]),
        ("disk_offering", "\"none\"", vec!["CloudStack disk offering"]),
        ("service_offering", "\"none\"", vec!["CloudStack service offering"]),
        ("isolated_network", "\"sh1\"", vec!["CloudStack isolated network"]),
        ("isolated_network", "\"none\"", vec!["CloudStack isolated network"]),
    ] {
        let found = survey(&set(key, value)).await;
        assert_eq!(missing(&found), gone, "{key} = {value}:\n{}", said(&found));
        assert_eq!(standing(&found, "CloudStack keys"), Standing::Well);
    }
    let found = survey(&config(&zone, |text| text)).await;
    assert_eq!(standing(&found, "CloudStack UEFI"), Standing::Doubtful, "{}", said(&found));
    let error = check(set("zone", "\"none\"")).await.expect_err("something is missing").to_string();
    assert!(error.contains("one thing is missing"), "{error}");
    assert_eq!(states(dir.path()), before);
    Ok(())
}

#[tokio::test]
async fn keys_of_a_plain_user_and_wrong_ones_are_told_before_anything_is_tried() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let zone = Zone::start(dir.path()).await?;
    let keys = |key: &Path, secret: &Path| {
        let mut config = config(&zone, |text| text);
        if let Some(ComputeConfig::CloudStack(settings)) = &mut config.compute {
            settings.api_key_file = key.to_owned();
            settings.secret_key_file = secret.to_owned();
        }
        config
    };
    let (key, secret) = zone.user_keys();
    let found = survey(&keys(&key, &secret)).await;
    assert_eq!(standing(&found, "CloudStack keys"), Standing::Well);
    let rights = found.iter().find(|finding| finding.what == "CloudStack rights").expect("it was looked at");
    assert!(rights.is_missing() && rights.why.contains("listStoragePools"), "{rights}");
    assert!(rights.why.contains("root admin"), "{rights}");

    let wrong = dir.path().join("wrong");
    std::fs::write(&wrong, "nobodys\n")?;
    let found = survey(&keys(&zone.admin_keys().0, &wrong)).await;
    assert_eq!(missing(&found), ["CloudStack keys"], "{}", said(&found));
    assert_eq!(standing(&found, "CloudStack secret key file"), Standing::Doubtful, "others may read it");
    assert!(!said(&found).contains("nobodys"));
    let found = survey(&keys(&zone.admin_keys().0, &dir.path().join("none"))).await;
    assert_eq!(missing(&found), ["CloudStack keys and certificates"], "{}", said(&found));
    Ok(())
}

#[tokio::test]
async fn whoever_does_not_answer_is_named() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let zone = Zone::start(dir.path()).await?;
    let nobody = "http://127.0.0.1:1";
    let standby =
        config(&zone, |text| text.replace("controllers = [", &format!("controllers = [{nobody:?}, ")));
    let found = survey(&standby).await;
    assert_eq!(missing(&found), Vec::<&str>::new(), "{}", said(&found));
    assert_eq!(standing(&found, &format!("LINSTOR controller {nobody}")), Standing::Doubtful);

    let (linstor, cloudstack) = (zone.linstor_url(), zone.cloudstack_url());
    let found = survey(&config(&zone, |text| text.replace(&linstor, nobody))).await;
    assert_eq!(missing(&found), [format!("LINSTOR controller {nobody}")], "{}", said(&found));
    assert_eq!(standing(&found, "CloudStack hosts"), Standing::Well, "the other is asked all the same");
    let found = survey(&config(&zone, |text| text.replace(&cloudstack, nobody))).await;
    assert_eq!(missing(&found), ["CloudStack endpoint"], "{}", said(&found));

    for node in ["kvm1", OMA] {
        let off = |online| integration_tests::linstor_sim::What::Node { name: node.to_owned(), online };
        zone.linstor().now(&off(false));
        let found = survey(&config(&zone, |text| text)).await;
        let what = if node == OMA { "LINSTOR node of this host" } else { "LINSTOR node kvm1" };
        assert_eq!(missing(&found), [what], "{}", said(&found));
        zone.linstor().now(&off(true));
    }
    Ok(())
}

#[tokio::test]
async fn of_a_folder_and_of_no_machines_there_is_nobody_to_ask() {
    let text = "database_url = \"sqlite:///nowhere/oma.db\"\nstate_dir = \"/nowhere\"\n[tls]\nca = \"/nowhere\"\n\
                cert = \"/nowhere\"\nkey = \"/nowhere\"\n[storage]\nkind = \"local\"\npath = \"/nowhere\"\n";
    for more in ["", "[compute]\nkind = \"local\"\npath = \"/nowhere\"\n"] {
        let found = survey(&toml::from_str(&format!("{text}{more}")).expect("a configuration")).await;
        assert_eq!(found.len(), 2, "{}", said(&found));
        assert!(
            found
                .iter()
                .all(|finding| finding.standing == Standing::Well && finding.why.contains("nobody to ask"))
        );
    }
}
