//! Real NBD servers for tests, each on a Unix socket or a port of its own, ended with the test.

use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::NbdUri;

pub(crate) struct Server {
    child: Child,
    dir: tempfile::TempDir,
}

impl Server {
    /// nbdkit with these arguments (a first plugin or filter; `{dir}` is the server's folder).
    pub(crate) fn nbdkit(args: &[&str]) -> Self {
        Self::nbdkit_with(args, |_| {})
    }

    /// The same, after `prepare` put what is needed into the folder.
    pub(crate) fn nbdkit_with(args: &[&str], prepare: impl FnOnce(&Path)) -> Self {
        Self::start("nbdkit", &["-f", "--exit-with-parent", "-U", "{dir}/nbd.sock"], args, prepare)
    }

    /// qemu-nbd with these arguments.
    pub(crate) fn qemu(args: &[&str], prepare: impl FnOnce(&Path)) -> Self {
        Self::start("qemu-nbd", &["-t", "-e", "8", "-k", "{dir}/nbd.sock"], args, prepare)
    }

    /// nbdkit on a port of 127.0.0.1.
    pub(crate) fn nbdkit_tcp(args: &[&str]) -> (Self, u16) {
        // nbdkit cannot choose a port by itself; the one chosen here is free until somebody else is quicker.
        let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port").port();
        let own = ["-f", "--exit-with-parent", "-i", "127.0.0.1", "-p", &port.to_string()];
        (
            Self::start_when(
                "nbdkit",
                &own,
                args,
                |_| {},
                |_| TcpStream::connect(("127.0.0.1", port)).is_ok(),
            ),
            port,
        )
    }

    fn start(program: &str, own: &[&str], args: &[&str], prepare: impl FnOnce(&Path)) -> Self {
        Self::start_when(program, own, args, prepare, |server| UnixStream::connect(server.socket()).is_ok())
    }

    fn start_when(
        program: &str,
        own: &[&str],
        args: &[&str],
        prepare: impl FnOnce(&Path),
        listens: impl Fn(&Self) -> bool,
    ) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        prepare(dir.path());
        let here = dir.path().to_str().expect("a plain path");
        let child = Command::new(program)
            .args(own.iter().chain(args).map(|a| a.replace("{dir}", here)))
            .stdin(Stdio::null())
            .spawn()
            .unwrap_or_else(|e| {
                panic!("{program} cannot be started (apt-get install nbdkit qemu-utils): {e}")
            });
        let mut server = Self { child, dir };
        let deadline = Instant::now() + Duration::from_secs(20);
        while !listens(&server) {
            let ended = server.child.try_wait().expect("a child of ours");
            assert!(ended.is_none(), "{program} ended: {ended:?}");
            assert!(Instant::now() < deadline, "{program} does not listen");
            std::thread::sleep(Duration::from_millis(5));
        }
        server
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.path().join("nbd.sock")
    }

    pub(crate) fn uri(&self) -> NbdUri {
        NbdUri::unix(&self.socket()).expect("a plain path")
    }

    /// Kills it, as a crash would.
    /// Asks the server to end; it answers what is in flight, and goes.
    pub(crate) fn terminate(&self) {
        let pid = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw);
        rustix::process::kill_process(pid.expect("a process"), rustix::process::Signal::TERM)
            .expect("it runs");
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("a child of ours");
        self.child.wait().expect("a child of ours");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Bytes that repeat nowhere, the same for the same seed.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut out = vec![0; length];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut out);
    out
}
