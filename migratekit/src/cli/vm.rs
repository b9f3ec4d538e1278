//! `migratekit vm …`

use super::client::{Channel, Connection, said};
use super::configuration;
use super::show::{self, Output, bytes, number};
use clap::{Args, Subcommand};
use comfy_table::Cell;
use proto::v1;
use proto::v1::inventory_service_client::InventoryServiceClient;
use serde_json::{Value, json};
use std::io::Write;

/// Of an answer: a thousand VMs with all they are made of.
const MOST_BYTES: usize = 64 << 20;

/// Look at the VMs that agents offer.
#[derive(Debug, Args)]
pub(super) struct Vm {
    /// How the result is printed.
    #[arg(short, long, global = true, value_enum, default_value_t)]
    output: Output,
    #[command(subcommand)]
    verb: Verb,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List the VMs of all agents, and which of them are protected.
    List,
    /// Show what one VM is made of at its source, and what changed there since its protection was begun.
    Get {
        /// Name or uuid of the VM.
        #[arg(value_name = "VM")]
        vm: String,
    },
}

type Offered = (v1::Vm, v1::AgentVm);

pub(super) async fn run(args: Vm, out: &mut impl Write) -> anyhow::Result<()> {
    let channel = args.connection.open().await?;
    match args.verb {
        Verb::List => list(&ask(channel, String::new()).await?, args.output, out),
        Verb::Get { vm } => get(&ask(channel, vm).await?, args.output, out),
    }
}

async fn ask(channel: Channel, vm: String) -> anyhow::Result<Vec<Offered>> {
    let mut client = InventoryServiceClient::new(channel).max_decoding_message_size(MOST_BYTES);
    let answer = client.list_vms(v1::ListVmsRequest { vm }).await.map_err(|s| said(&s))?;
    Ok(answer.into_inner().vms.into_iter().filter_map(|o| Some((o.vm.clone()?, o))).collect())
}

fn json_of((vm, offered): &Offered) -> Value {
    json!({
        "vm_uuid": vm.uuid,
        "vm_name": vm.name,
        "disks": vm.disks.iter().map(|d| json!({"key": d.key, "size_bytes": d.size_bytes})).collect::<Vec<_>>(),
        "configuration": vm.configuration.as_ref().map(configuration::json_of),
        "agent_id": offered.agent_id,
        "agent_connected": offered.agent_connected,
        "migration_id": if offered.migration_id.is_empty() { None } else { Some(&offered.migration_id) },
        "changes": offered.changes.iter().map(|c| json!({
            "field": c.field, "recorded": c.recorded, "present": c.present,
        })).collect::<Vec<_>>(),
    })
}

fn agent(offered: &v1::AgentVm) -> String {
    match offered.agent_connected {
        true => offered.agent_id.clone(),
        false => format!("{} (away)", offered.agent_id),
    }
}

fn list(vms: &[Offered], output: Output, out: &mut impl Write) -> anyhow::Result<()> {
    if output == Output::Json {
        let all: Vec<_> = vms.iter().map(json_of).collect();
        return Ok(writeln!(out, "{}", serde_json::to_string_pretty(&all)?)?);
    }
    let mut table = show::table(&["VM", "UUID", "DISKS", "SIZE", "AGENT", "PROTECTED"]);
    for (vm, offered) in vms {
        table.add_row([
            Cell::new(&vm.name),
            Cell::new(&vm.uuid),
            number(vm.disks.len()),
            number(bytes(vm.disks.iter().map(|d| d.size_bytes).sum())),
            Cell::new(agent(offered)),
            Cell::new(if offered.migration_id.is_empty() { "no" } else { "yes" }),
        ]);
    }
    Ok(writeln!(out, "{table}")?)
}

fn get(vms: &[Offered], output: Output, out: &mut impl Write) -> anyhow::Result<()> {
    let [one] = vms else {
        anyhow::bail!(
            "{} VMs have that name or uuid: name it by its uuid, and have one agent offer it",
            vms.len()
        );
    };
    match output {
        Output::Json => writeln!(out, "{}", serde_json::to_string_pretty(&json_of(one))?)?,
        Output::Table | Output::Wide => writeln!(out, "{}", text(one))?,
    }
    Ok(())
}

fn text((vm, offered): &Offered) -> String {
    let mut lines = vec![
        format!("vm          {} ({})", vm.name, vm.uuid),
        format!("agent       {}", agent(offered)),
        format!("protected   {}", if offered.migration_id.is_empty() { "no" } else { &offered.migration_id }),
    ];
    let configuration = vm.configuration.clone().unwrap_or_default();
    lines.extend(configuration::lines(&configuration, &vm.disks));
    for change in &offered.changes {
        let or_none = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
        let (was, is) = (or_none(&change.recorded), or_none(&change.present));
        lines.push(format!("changed     {}: {was} when it was begun, {is} now", change.field));
    }
    lines.join("\n")
}
