//! Makes a snapshot's scratch image: an empty qcow2 file in QEMU's hands.
//!
//! QEMU creates and opens the file, so that it is QEMU's to write to whoever the agent runs as; `qemu-img` then lays
//! the image out in it, through an export that is there for that only. QEMU could do all of it by `blockdev-create`,
//! and while it does, a look at the block graph by *any* client of any of its monitors ends the process and the guest
//! in it (see [`super::jobs`]).

use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use migratekit::nbd::NbdUri;
use serde_json::json;
use tokio::process::Command;
use tokio::time::timeout;

use super::super::{Error, SnapshotName};
use super::config::NbdServer;
use super::make::Part;
use super::qmp::Session;
use super::{jobs, make};

/// The file's first size: holds the image's tables for any disk, and nothing is written to most of it.
const FILE_SIZE: u64 = 16 << 20;

/// The longest that `qemu-img` may take. It writes a few hundred KiB.
const PATIENCE: Duration = Duration::from_secs(30);

/// Makes the image of `size` bytes at `path`, its file open as the part's file node.
pub(super) async fn create(
    session: &mut Session,
    snapshot: &SnapshotName,
    part: &Part,
    path: &Path,
    size: u64,
    nbd: &NbdServer,
) -> Result<(), Error> {
    let names = &part.names;
    jobs::create(session, &names.job, json!({ "driver": "file", "filename": path, "size": FILE_SIZE }))
        .await?;
    let file = json!({ "driver": "file", "node-name": names.file, "filename": path });
    session.run("blockdev-add", file).await?;
    let export = json!({
        "type": "nbd", "id": names.layout_export, "name": names.layout_export,
        "node-name": names.file, "writable": true,
    });
    session.run("block-export-add", export).await?;
    let laid_out = lay_out(&nbd.uri(&names.layout_export)?, size).await;
    make::unexport(session, snapshot, std::slice::from_ref(&names.layout_export)).await?;
    laid_out.map_err(|why| Error::Scratch { disk: part.key.clone(), why })
}

/// Runs `qemu-img create`; an error says why not.
async fn lay_out(uri: &NbdUri, size: u64) -> Result<(), String> {
    let mut command = Command::new("qemu-img");
    command.args(["create", "-q", "-f", "qcow2"]).arg(uri.to_string()).arg(size.to_string());
    command.stdin(Stdio::null()).kill_on_drop(true);
    let ended = timeout(PATIENCE, command.output()).await;
    let ended = ended.map_err(|_| format!("qemu-img did not end within {} s", PATIENCE.as_secs()))?;
    let Output { status, stderr, .. } =
        ended.map_err(|error| format!("cannot run qemu-img (package qemu-utils): {error}"))?;
    match status.success() {
        true => Ok(()),
        false => Err(format!("qemu-img ended with {status}: {}", String::from_utf8_lossy(&stderr).trim())),
    }
}
