//! The NBD servers of a run, and the certificates that they and their client show.

use crate::harness::eventually;
use anyhow::Context as _;
use migratekit::dev_ca::{Ca, Leaf};
use shared::tls::Role;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// An `nbdkit` on one file. Dropping it ends it.
pub(super) struct Nbdkit {
    child: Child,
    /// What a client connects to.
    pub(super) uri: String,
    /// Where, if it is on TCP.
    pub(super) address: Option<SocketAddr>,
}

impl Nbdkit {
    /// Read-only, on a Unix socket.
    pub(super) async fn source(file: &Path, socket: &Path) -> anyhow::Result<Self> {
        let mut command = Command::new("nbdkit");
        command.args(["--foreground", "--readonly", "--unix"]).arg(socket).arg("file").arg(file);
        let child = start(&mut command)?;
        let uri = format!("nbd+unix:///?socket={}", socket.display());
        let this = Self { child, uri, address: None };
        eventually("nbdkit's socket", PATIENCE, || async { Ok(socket.exists().then_some(())) }).await?;
        Ok(this)
    }

    /// Writable, over TCP; with certificates over TLS, for clients with one of the same CA only.
    pub(super) async fn target(file: &Path, tls: Option<&Certificates>) -> anyhow::Result<Self> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut command = Command::new("nbdkit");
        command.args(["--foreground", "--ipaddr=127.0.0.1"]).arg(format!("--port={port}"));
        if let Some(tls) = tls {
            let certificates = format!("--tls-certificates={}", tls.server.display());
            command.args(["--tls=require", "--tls-verify-peer"]).arg(certificates);
        }
        let child = start(command.arg("file").arg(file))?;
        let this = Self { child, uri: uri(port, tls), address: Some(([127, 0, 0, 1], port).into()) };
        eventually("nbdkit's port", PATIENCE, || async {
            Ok(std::net::TcpStream::connect(("127.0.0.1", port)).ok())
        })
        .await?;
        Ok(this)
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }
}

/// Of a server on this machine, or of a link to it.
pub(super) fn uri(port: u16, tls: Option<&Certificates>) -> String {
    match tls {
        Some(tls) => format!("nbds://localhost:{port}/?tls-certificates={}", tls.client.display()),
        None => format!("nbd://localhost:{port}/"),
    }
}

impl Drop for Nbdkit {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const PATIENCE: Duration = Duration::from_secs(10);

fn start(command: &mut Command) -> anyhow::Result<Child> {
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command.spawn().context("cannot start nbdkit: make bench installs it")
}

/// Under the names that GnuTLS programs look for.
pub(super) struct Certificates {
    server: PathBuf,
    client: PathBuf,
}

impl Certificates {
    pub(super) fn make(folder: &Path) -> anyhow::Result<Self> {
        let ca = Ca::new("bench")?;
        let (server, client) = (folder.join("server"), folder.join("client"));
        for (folder, kind, role) in [(&server, "server", Role::Oma), (&client, "client", Role::Agent)] {
            std::fs::create_dir_all(folder)?;
            let pair = ca.issue(&Leaf::new(role, "bench", &["localhost", "127.0.0.1"]))?;
            std::fs::write(folder.join("ca-cert.pem"), &ca.pair().cert_pem)?;
            std::fs::write(folder.join(format!("{kind}-cert.pem")), pair.cert_pem)?;
            std::fs::write(folder.join(format!("{kind}-key.pem")), pair.key_pem)?;
        }
        Ok(Self { server, client })
    }
}

/// Copies, flushes, and ends.
pub(super) fn nbdcopy(from: &str, to: &str) -> anyhow::Result<()> {
    let copied = Command::new("nbdcopy").args(["--flush", from, to]).stdin(Stdio::null()).status();
    let copied = copied.context("cannot start nbdcopy: make bench installs it")?;
    anyhow::ensure!(copied.success(), "nbdcopy {from} {to} ended with {copied}");
    Ok(())
}
