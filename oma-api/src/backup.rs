//! One file with all that the control plane knows: `oma-api backup`, `oma-api restore`.
//!
//! It holds the database and the manifests that the database names, of one moment; not the volumes and their snapshots,
//! which are the storage's, nor configuration, certificates and keys. Without the manifests a replica could be compared
//! with nothing but its source; they are 16 bytes for each 64 KiB of data.
//!
//! What it deliberately is not: a way back in time for volumes. A restored database knows less than has happened; see
//! `store::restored` for what follows from that.

mod format;
mod make;
mod restore;

pub use format::{Error, Header};
pub use make::{Existing, Made, backup};
pub use restore::{Done, Present, restore};

use crate::Config;
use clap::{Args, Subcommand};
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;

/// What `oma-api` does besides serving.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Write database and manifests into one file, while oma-api runs or not. Holds no passwords, tokens or keys.
    Backup(BackupArgs),
    /// Make database and manifests of a backup. oma-api must not run; run it as oma-api's user.
    Restore(RestoreArgs),
}

#[derive(Args, Clone, Debug)]
pub struct BackupArgs {
    /// The file to make; readable by its owner only.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Configuration file of oma-api.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Replace the file if it is there.
    #[arg(long)]
    force: bool,
}

#[derive(Args, Clone, Debug)]
pub struct RestoreArgs {
    /// A file that `oma-api backup` made, of whichever database.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Configuration file of oma-api.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Replace a database that has something in it. A SQLite file is kept under another name; on a server it is gone.
    #[arg(long)]
    replace: bool,
}

impl Command {
    /// Where the configuration is.
    pub fn config(&self) -> &std::path::Path {
        match self {
            Self::Backup(args) => &args.config,
            Self::Restore(args) => &args.config,
        }
    }

    /// # Errors
    /// What is in the way, and what to do.
    pub async fn run(self, config: Config) -> anyhow::Result<()> {
        let said = match self {
            Self::Backup(BackupArgs { file, force, .. }) => {
                let existing = if force { Existing::Replace } else { Existing::Refuse };
                let made = backup(&config, &file, existing).await?;
                said_of_backup(&file.display().to_string(), &made)
            }
            Self::Restore(RestoreArgs { file, replace, .. }) => {
                let present = if replace { Present::Replace } else { Present::Refuse };
                said_of_restore(&restore(&config, &file, present).await?)
            }
        };
        // A closed stdout is no reason to fail.
        let _ = std::io::stdout().write_all(said.as_bytes());
        Ok(())
    }
}

fn said_of_backup(file: &str, made: &Made) -> String {
    let Made { rows, manifests, bytes, missing } = made;
    let mut said = format!("{file}: {rows} rows, {manifests} manifests, {bytes} bytes\n");
    for name in missing {
        let _ = writeln!(said, "manifest {name} is missing: its disk will be compared with its source");
    }
    said
}

fn said_of_restore(done: &Done) -> String {
    let Done { header, restored, orphan_volumes, orphan_snapshots, before } = done;
    let mut said =
        format!("restored what was at {}: {} migrations\n", header.taken_at, restored.migrations.len());
    let mut line = |text: String| {
        let _ = writeln!(said, "{text}");
    };
    if let Some(before) = before {
        line(format!("the database before is {}", before.display()));
    }
    for vm in &restored.migrations {
        line(format!(
            "{vm}: on hold; its next sync compares all of it (`migratekit migration sync`, then `release`)"
        ));
    }
    for cycle in &restored.cycles {
        line(format!("cycle {cycle}: was not finished then; closed"));
    }
    for (vm, snapshot) in &restored.dropped {
        line(format!("{vm}: restore point dropped, its snapshot {snapshot} is gone"));
    }
    for (vm, disk, volume) in &restored.lost {
        line(format!("{vm}: volume {volume} of disk {disk} is gone: abort and begin again"));
    }
    for volume in orphan_volumes {
        line(format!("volume {volume} is nobody's, and stays (`migratekit migration adopt` takes one back)"));
    }
    for snapshot in orphan_snapshots {
        line(format!("snapshot {snapshot} is no restore point, and stays"));
    }
    if restored.tokens > 0 {
        line(format!(
            "{} tokens can be used, also those that were revoked since: look at `migratekit token list`",
            restored.tokens
        ));
    }
    said
}
