//! `migratekit migration accept …`

use super::client::{Channel, said};
use clap::Args;
use proto::v1;
use proto::v1::migration_service_client::MigrationServiceClient;

#[derive(Debug, Args)]
pub(super) struct Accept {
    /// Name or uuid of the VM, or the migration's id.
    #[arg(value_name = "VM")]
    vm: String,
    /// Only this disk, by its key at the source; may be given several times. Default: all that changed.
    #[arg(long = "disk", value_name = "KEY")]
    disks: Vec<String>,
}

/// The migration as it is then.
pub(super) async fn accept(asked: Accept, channel: Channel) -> anyhow::Result<v1::Migration> {
    let request = v1::AcceptRequest { vm: asked.vm, disk_keys: asked.disks };
    let answer = MigrationServiceClient::new(channel).accept(request).await.map_err(|s| said(&s))?;
    Ok(answer.into_inner().migration.unwrap_or_default())
}
