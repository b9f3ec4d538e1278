//! `migratekit migration adopt`

use super::client::{Channel, said};
use super::migration::one;
use super::show::{self, Output};
use clap::Args;
use proto::v1;
use proto::v1::migration_service_client::MigrationServiceClient;
use serde_json::json;
use std::io::Write;

#[derive(Debug, Args)]
pub(super) struct Adopt {
    /// Name or uuid of the VM.
    #[arg(value_name = "VM")]
    vm: String,
    /// The volume of a disk, where it does not say itself whose it is; may be given for each disk.
    #[arg(long = "disk", value_name = "KEY=VOLUME", value_parser = pair)]
    disks: Vec<(String, String)>,
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, volume)) if !key.is_empty() && !volume.is_empty() => {
            Ok((key.to_owned(), volume.to_owned()))
        }
        Some(_) | None => {
            Err("expected KEY=VOLUME, such as 2000=mk-0190163d-8694-739b-aea5-966c26f8ad90".to_owned())
        }
    }
}

pub(super) async fn run(
    asked: Adopt,
    channel: Channel,
    output: Output,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let volumes = asked.disks.into_iter().map(|(disk_key, volume)| v1::AdoptedVolume { disk_key, volume });
    let request = v1::AdoptRequest { vm: asked.vm, volumes: volumes.collect() };
    let answer = MigrationServiceClient::new(channel).adopt(request).await.map_err(|s| said(&s))?;
    let v1::AdoptResponse { migration, volumes, old_snapshots } = answer.into_inner();
    let migration = migration.unwrap_or_default();
    if output == Output::Json {
        let volumes: Vec<_> =
            volumes.iter().map(|v| json!({ "disk_key": v.disk_key, "volume": v.volume })).collect();
        let all = json!({
            "migration": show::migration_json(&migration), "volumes": volumes, "old_snapshots": old_snapshots,
        });
        writeln!(out, "{}", serde_json::to_string_pretty(&all)?)?;
        return Ok(());
    }
    one(&migration, output, out)?;
    for of in &volumes {
        writeln!(out, "disk {} is volume {}", of.disk_key, of.volume)?;
    }
    if !old_snapshots.is_empty() {
        writeln!(
            out,
            "snapshots from before, which stay until you remove them at the storage: {}",
            old_snapshots.join(", ")
        )?;
    }
    writeln!(out, "`migratekit migration sync` compares the volumes with the VM and copies what differs")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_and_its_volume_are_named_as_a_pair() {
        assert_eq!(pair("2000=mk-1"), Ok(("2000".to_owned(), "mk-1".to_owned())));
        for wrong in ["2000", "=mk-1", "2000=", ""] {
            assert!(pair(wrong).is_err(), "{wrong:?}");
        }
    }
}
