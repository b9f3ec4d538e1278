//! Guests that virt-v2v takes for real ones, made here from what Debian has: for tests of the conversion.
//!
//! `deploy/install-deps.sh slow` brings the programs. Nothing here is downloaded but Debian's own packages.

pub mod debian;
pub mod windows;

use anyhow::{Context as _, ensure};
use std::path::Path;
use std::process::{Command, Stdio};

/// A command of libguestfs that keeps its appliance in `scratch`. Emulated: `/dev/kvm` may be there and not work.
pub fn command(program: &str, scratch: &Path) -> Command {
    let mut command = Command::new(program);
    let path = std::env::var("PATH").unwrap_or_default();
    command
        .env("LIBGUESTFS_BACKEND", "direct")
        .env("LIBGUESTFS_BACKEND_SETTINGS", "force_tcg")
        .env("LIBGUESTFS_CACHEDIR", scratch)
        .env("TMPDIR", scratch)
        // hivexregedit wants the Perl that it was packaged for.
        .env("PATH", format!("/usr/bin:/bin:/usr/sbin:/sbin:{path}"))
        .stdin(Stdio::null());
    command
}

/// Runs it to its end; what it prints.
///
/// # Errors
/// It cannot be run, or fails: with what it said.
pub fn run(command: &mut Command) -> anyhow::Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let done =
        command.output().with_context(|| format!("{program}: deploy/install-deps.sh slow installs it"))?;
    let said = String::from_utf8_lossy(&done.stderr);
    ensure!(done.status.success(), "{program} ended with {}: {said}", done.status);
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}
