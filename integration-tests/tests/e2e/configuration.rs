//! What a VM is made of, from the agent's file to the operator's terminal; kept by the migration as it was at begin.

use anyhow::{Context as _, ensure};
use integration_tests::harness::{Options, VM_UUID, World, binary, eventually};
use proto::v1;
use serde_json::Value;
use shared::tls::Role;
use std::process::Command;
use std::time::Duration;

const DECLARED: &str = r#"
[vm.configuration]
cpus = 4
memory = "8GiB"
firmware = "efi"
secure_boot = true
notes = "belongs to the shop"
[[vm.configuration.controllers]]
key = "1000"
kind = "pvscsi"
[[vm.configuration.disks]]
key = "root"
controller = "1000"
unit = 0
[[vm.configuration.nics]]
key = "4000"
mac = "00-50-56-8A-01-02"
model = "vmxnet3"
network = "VM Network"
addresses = ["192.0.2.10"]
"#;

/// What the operator's program prints.
pub(crate) fn cli(world: &World, arguments: &[&str]) -> anyhow::Result<std::process::Output> {
    // Profiles are an admin's; an admin may do all that an operator does.
    let files = world.ca.files(Role::Admin, "root");
    let mut cli = Command::new(binary("migratekit")?);
    cli.args(arguments).args(["--oma", &world.address]);
    cli.arg("--ca").arg(files.ca).arg("--cert").arg(files.cert).arg("--key").arg(files.key);
    Ok(cli.output()?)
}

pub(crate) fn json(world: &World, arguments: &[&str]) -> anyhow::Result<Value> {
    let said = cli(world, &[arguments, &["-o", "json"]].concat())?;
    ensure!(said.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&said.stderr));
    Ok(serde_json::from_slice(&said.stdout)?)
}

#[tokio::test(flavor = "multi_thread")]
async fn begin_keeps_what_the_vm_was_made_of() -> anyhow::Result<()> {
    let file = tempfile::NamedTempFile::new()?;
    file.as_file().set_len(1 << 20)?;
    let declared = DECLARED.to_owned();
    let options = Options { configuration: declared, ..Options::files(&[("root", file.path())]) };
    let mut world = World::start(&options).await?;
    let migration = world.begin().await?;
    let recorded = migration.configuration.context("recorded")?;
    ensure!(recorded.cpus == 4 && recorded.memory_bytes == 8 << 30, "{recorded:?}");
    ensure!(recorded.firmware() == v1::Firmware::Efi && recorded.secure_boot == Some(true), "{recorded:?}");
    ensure!(recorded.nics[0].mac == "00:50:56:8a:01:02" && recorded.disks[0].unit == Some(0), "{recorded:?}");
    ensure!(recorded.change_tracking == Some(false) && recorded.tpm.is_none(), "{recorded:?}");

    // The VM gets another network, and the agent is started again.
    let path = world.dir.join("vma.toml");
    let text =
        std::fs::read_to_string(&path)?.replace("\"VM Network\"", "\"DMZ\"").replace("cpus = 4", "cpus = 8");
    std::fs::write(&path, text)?;
    world.agent_restart()?;
    let shown = eventually("the new inventory", Duration::from_secs(30), || async {
        let shown = json(&world, &["vm", "get", "web"])?;
        Ok((shown["configuration"]["cpus"] == 8).then_some(shown))
    })
    .await?;
    ensure!(shown["configuration"]["nics"][0]["network"] == "DMZ" && shown["vm_uuid"] == VM_UUID, "{shown}");
    let fields: Vec<_> =
        shown["changes"].as_array().context("changes")?.iter().map(|c| &c["field"]).collect();
    ensure!(fields == ["cpus", "nics[4000].network"], "{shown}");
    let kept = json(&world, &["migration", "get", "web"])?;
    let kept = &kept["configuration"];
    ensure!(kept["cpus"] == 4 && kept["nics"][0]["network"] == "VM Network", "{kept}");
    ensure!(kept["controllers"][0]["kind"] == "pvscsi" && kept["notes"] == "belongs to the shop", "{kept}");

    // The same over REST.
    let rest = |path: &str| {
        let url = format!("http://{}/api/v1/{path}", world.rest);
        let said = Command::new("curl").args(["-s", "--max-time", "10", &url]).output()?;
        anyhow::Ok(serde_json::from_slice::<Value>(&said.stdout)?)
    };
    let vms = rest("vms?vm=web")?;
    ensure!(vms["vms"][0]["configuration"]["nics"][0]["mac"] == "00:50:56:8a:01:02", "{vms}");
    ensure!(
        vms["vms"][0]["changes"][0] == serde_json::json!({"field": "cpus", "recorded": "4", "present": "8"}),
        "{vms}"
    );
    ensure!(rest("vms?vm=mail")?["error_code"] == "VM_UNKNOWN", "nobody has it");
    let all = rest("migrations")?;
    ensure!(all["migrations"][0]["configuration"]["firmware"] == "efi", "{all}");

    let table = cli(&world, &["vm", "get", "web"])?;
    let table = String::from_utf8(table.stdout)?;
    for line in [
        "cpus        8",
        "firmware    efi (secure boot: yes, TPM: not known)",
        "disk        root 1.00 MiB on pvscsi 1000:0",
        "nic         4000 vmxnet3 00:50:56:8a:01:02 192.0.2.10 on \"DMZ\"",
        "changed     cpus: 4 when it was begun, 8 now",
    ] {
        ensure!(table.lines().any(|l| l == line), "{line:?} is not in\n{table}");
    }
    let nobody = cli(&world, &["vm", "get", "mail"])?;
    let said = String::from_utf8(nobody.stderr)?;
    ensure!(nobody.status.code() == Some(1) && said.contains("[VM_UNKNOWN]"), "{said}");
    Ok(())
}
