//! `migratekit verify VM [--source]`

use super::client::{Connection, said};
use super::show::{Output, bytes};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use proto::v1;
use proto::v1::migration_service_client::MigrationServiceClient;
use proto::v1::verify_response::Kind;
use serde_json::json;
use std::collections::HashMap;
use std::io::{IsTerminal as _, Write};

/// Prove that the replica is what was sent, or that what was sent is the source.
///
/// Without --source, the replica is read back past the page cache and compared with the manifest: this finds what the
/// storage lost. With --source, a new snapshot of the source is compared with the manifest wherever no change was
/// reported: this finds what change tracking left out. Neither writes the replica; what differs is sent by the next
/// sync. Exit code 1 when something differs.
#[derive(Debug, clap::Args)]
pub(super) struct Verify {
    /// Name or uuid of the VM, or the migration's id.
    #[arg(value_name = "VM")]
    vm: String,
    /// Compare the source instead of the replica.
    #[arg(long)]
    source: bool,
    /// How the result is printed.
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
    #[command(flatten)]
    connection: Connection,
}

pub(super) async fn run(args: Verify, out: &mut impl Write) -> anyhow::Result<()> {
    let channel = args.connection.open().await?;
    let request = v1::VerifyRequest { vm: args.vm.clone(), source: args.source };
    let answer = MigrationServiceClient::new(channel).verify(request).await.map_err(|s| said(&s))?;
    let mut said_so_far = answer.into_inner();
    let bars = std::io::stderr().is_terminal().then(MultiProgress::new);
    let mut of_disk: HashMap<String, ProgressBar> = HashMap::new();
    let mut mismatches = Vec::new();
    while let Some(response) = said_so_far.message().await.map_err(|s| said(&s))? {
        match response.kind {
            Some(Kind::Progress(p)) => {
                if let Some(bars) = &bars {
                    let bar = of_disk.entry(p.disk_id.clone()).or_insert_with(|| {
                        let template = "{prefix:>12} {bar:32} {binary_bytes:>10} of {binary_total_bytes:<10}";
                        let style = ProgressStyle::with_template(template).expect("a constant");
                        bars.add(ProgressBar::new(p.total_bytes).with_style(style).with_prefix(p.disk_key))
                    });
                    bar.set_position(p.done_bytes);
                }
            }
            Some(Kind::Mismatch(m)) => mismatches.push(m),
            Some(Kind::Result(result)) => {
                of_disk.values().for_each(ProgressBar::finish_and_clear);
                return verdict(&args, &mismatches, &result, out);
            }
            None => {}
        }
    }
    anyhow::bail!(
        "the control plane ended the verification without a verdict: look at its log, then run it again"
    )
}

fn verdict(
    args: &Verify,
    mismatches: &[v1::VerifyMismatch],
    result: &v1::VerifyResult,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let arm = if args.source { "source" } else { "replica" };
    match args.output {
        Output::Json => {
            let all: Vec<_> = mismatches
                .iter()
                .map(|m| json!({"disk_id": m.disk_id, "disk_key": m.disk_key, "offset": m.offset, "length": m.length}))
                .collect();
            let verdict = json!({
                "arm": arm,
                "equal": result.equal,
                "compared_bytes": result.compared_bytes,
                "different_bytes": result.different_bytes,
                "unknown_bytes": result.unknown_bytes,
                "restore_point_id": result.restore_point_id,
                "mismatches": all,
            });
            writeln!(out, "{}", serde_json::to_string_pretty(&verdict)?)?;
        }
        Output::Table | Output::Wide => {
            for m in mismatches {
                writeln!(out, "disk {}: {} bytes at offset {} differ", m.disk_key, m.length, m.offset)?;
            }
            let left_out = match result.unknown_bytes {
                0 => String::new(),
                n => format!(", {} changed or unknown since the last commit not compared", bytes(n)),
            };
            let verdict = if result.equal { "equal" } else { "DIFFERENT" };
            writeln!(out, "{arm} {verdict}: {} compared{left_out}", bytes(result.compared_bytes))?;
        }
    }
    match result.equal {
        true => Ok(()),
        false => anyhow::bail!(
            "{} bytes of the {arm} are not what the manifest says; `migratekit migration sync {}` sends them again",
            result.different_bytes,
            args.vm
        ),
    }
}
