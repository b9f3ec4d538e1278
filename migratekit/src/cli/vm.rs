//! `migratekit vm …`

use super::client::{Connection, said};
use super::show::{self, Output, bytes, number};
use clap::{Args, Subcommand};
use comfy_table::Cell;
use proto::v1;
use proto::v1::inventory_service_client::InventoryServiceClient;
use serde_json::json;
use std::io::Write;

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
}

pub(super) async fn run(args: Vm, out: &mut impl Write) -> anyhow::Result<()> {
    let Verb::List = args.verb;
    let channel = args.connection.open().await?;
    let answer =
        InventoryServiceClient::new(channel).list_vms(v1::ListVmsRequest {}).await.map_err(|s| said(&s))?;
    let vms: Vec<_> = answer.into_inner().vms.into_iter().filter_map(|o| Some((o.vm.clone()?, o))).collect();
    match args.output {
        Output::Json => {
            let all: Vec<_> = vms
                .iter()
                .map(|(vm, offered)| {
                    json!({
                        "vm_uuid": vm.uuid,
                        "vm_name": vm.name,
                        "disks": vm.disks.iter().map(|d| json!({"key": d.key, "size_bytes": d.size_bytes})).collect::<Vec<_>>(),
                        "agent_id": offered.agent_id,
                        "agent_connected": offered.agent_connected,
                        "migration_id": if offered.migration_id.is_empty() { None } else { Some(&offered.migration_id) },
                    })
                })
                .collect();
            writeln!(out, "{}", serde_json::to_string_pretty(&all)?)?;
        }
        Output::Table => {
            let mut table = show::table(&["VM", "UUID", "DISKS", "SIZE", "AGENT", "PROTECTED"]);
            for (vm, offered) in &vms {
                let agent = match offered.agent_connected {
                    true => offered.agent_id.clone(),
                    false => format!("{} (away)", offered.agent_id),
                };
                table.add_row([
                    Cell::new(&vm.name),
                    Cell::new(&vm.uuid),
                    number(vm.disks.len()),
                    number(bytes(vm.disks.iter().map(|d| d.size_bytes).sum())),
                    Cell::new(agent),
                    Cell::new(if offered.migration_id.is_empty() { "no" } else { "yes" }),
                ]);
            }
            writeln!(out, "{table}")?;
        }
    }
    Ok(())
}
