//! `migratekit orphans …`

use super::client::{Connection, said};
use super::show::{self, Output, number};
use clap::{Args, Subcommand};
use comfy_table::Cell;
use proto::v1;
use proto::v1::orphan_service_client::OrphanServiceClient;
use serde_json::{Value, json};
use std::io::Write;

/// Find what is on storage and compute that no record owns, and remove what a failover left.
///
/// Kinds: machine (with the local backend, its process goes with it), snapshot, clone, replica, and source_snapshot (what a
/// source still holds of an ended migration). Replicas and restore points are shown, and never removed here.
///
/// Exit codes: 0; 1 when it was refused, or when something that was to be removed stays.
#[derive(Debug, Args)]
pub(super) struct Orphans {
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
    /// List them: what each is, why it is thought to be nobody's, and what can be done.
    List,
    /// Remove machines, snapshots and clones that failovers left. Each is looked at again right before. For the role admin.
    #[command(group(clap::ArgGroup::new("which").required(true)))]
    Remove {
        /// Everything of these names.
        #[arg(value_name = "NAME", group = "which")]
        names: Vec<String>,
        /// All that may be removed.
        #[arg(long, group = "which")]
        all: bool,
    },
}

pub(super) async fn run(args: Orphans, out: &mut impl Write) -> anyhow::Result<()> {
    let mut client = OrphanServiceClient::new(args.connection.open().await?);
    match args.verb {
        Verb::List => {
            let answer = client.list(v1::OrphanServiceListRequest {}).await.map_err(|s| said(&s))?;
            list(&answer.into_inner().orphans, args.output, out)
        }
        Verb::Remove { names, all } => {
            let request = v1::OrphanServiceRemoveRequest { names, all };
            let answer = client.remove(request).await.map_err(|s| said(&s))?;
            removed(&answer.into_inner().removals, args.output, out)
        }
    }
}

fn kind_of(kind: v1::OrphanKind) -> String {
    let name = kind.as_str_name();
    name.strip_prefix("ORPHAN_KIND_").unwrap_or(name).to_lowercase()
}

fn or_null(text: &str) -> Value {
    if text.is_empty() { Value::Null } else { json!(text) }
}

fn list(orphans: &[v1::Orphan], output: Output, out: &mut impl Write) -> anyhow::Result<()> {
    if output == Output::Json {
        let rows = orphans.iter().map(|o| {
            json!({
                "kind": kind_of(o.kind()),
                "name": o.name,
                "size_bytes": Some(o.size_bytes).filter(|size| *size > 0),
                "why": o.why,
                "removable": o.removable,
                "keep": or_null(&o.keep),
            })
        });
        let shown = json!({ "orphans": rows.collect::<Vec<_>>() });
        return Ok(writeln!(out, "{}", serde_json::to_string_pretty(&shown)?)?);
    }
    if orphans.is_empty() {
        // stdout stays empty: it is what scripts count.
        return Ok(writeln!(std::io::stderr(), "everything that is there is owned")?);
    }
    let mut table = show::table(&["KIND", "NAME", "SIZE", "REMOVABLE", "WHY"]);
    for o in orphans {
        let size = if o.size_bytes > 0 { show::bytes(o.size_bytes) } else { "-".to_owned() };
        let why = if o.keep.is_empty() { o.why.clone() } else { format!("{}. Kept: {}", o.why, o.keep) };
        table.add_row([
            Cell::new(kind_of(o.kind())),
            Cell::new(&o.name),
            number(size),
            Cell::new(if o.removable { "yes" } else { "no" }),
            Cell::new(why),
        ]);
    }
    Ok(writeln!(out, "{table}")?)
}

fn removed(removals: &[v1::OrphanRemoval], output: Output, out: &mut impl Write) -> anyhow::Result<()> {
    let kind = |r: &v1::OrphanRemoval| match r.kind() {
        v1::OrphanKind::Unspecified => None,
        kind => Some(kind_of(kind)),
    };
    if output == Output::Json {
        let rows = removals.iter().map(
            |r| json!({ "kind": kind(r), "name": r.name, "removed": r.removed, "kept": or_null(&r.kept) }),
        );
        let shown = json!({ "removals": rows.collect::<Vec<_>>() });
        writeln!(out, "{}", serde_json::to_string_pretty(&shown)?)?;
    } else {
        for r in removals {
            let what = kind(r).map(|kind| format!("{kind} ")).unwrap_or_default();
            match r.removed {
                true => writeln!(out, "removed {what}{}", r.name)?,
                false => writeln!(out, "kept    {what}{}: {}", r.name, r.kept)?,
            }
        }
        if removals.is_empty() {
            writeln!(std::io::stderr(), "there is nothing that may be removed")?;
        }
    }
    match removals.iter().filter(|r| !r.removed).count() {
        0 => Ok(()),
        kept => anyhow::bail!("{kept} of {} stay", removals.len()),
    }
}
