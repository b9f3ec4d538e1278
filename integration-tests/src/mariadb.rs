//! A real MariaDB server for tests: started in half a second in a folder of its own, gone with the process.
//!
//! ```text
//!  test ── pipe ──► sh ──► mariadbd            the pipe ends (return, panic, kill -9): the server is killed,
//!                                              its folder removed
//! ```
//!
//! One server serves all tests of a process ([`Server::shared`]); each test has a database of its own. A test that kills
//! its server starts one for itself. The server's defaults are unlike what the product needs (latin1, no strict mode, a
//! time zone, READ UNCOMMITTED), and the user may do nothing outside its databases: what works here relies on neither.

use anyhow::{Context as _, ensure};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Words on stdin, an answer a line; the end of stdin is the end of all.
const SUPERVISOR: &str = r#"
trap '' INT TERM HUP
dir=$1; shift; pid=
while read -r word; do
    case $word in
    start) setpriv --pdeathsig KILL "$@" </dev/null >>"$dir/log" 2>&1 & pid=$!; echo "$pid" ;;
    kill) kill -9 "$pid"; wait "$pid" 2>/dev/null; pid=; echo killed ;;
    esac
done
[ -z "$pid" ] || { kill -9 "$pid"; wait "$pid" 2>/dev/null; }
rm -rf "$dir"
"#;

/// A busy machine included.
const START: Duration = Duration::from_secs(60);

/// The user of every database; the characters of its password have to be escaped in a URL.
const USER: &str = "oma";
const PASSWORD: &str = "p@ss/word#1";
const PASSWORD_IN_URL: &str = "p%40ss%2Fword%231";

/// A running server.
#[derive(Debug)]
pub struct Server {
    supervisor: Child,
    words: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    dir: PathBuf,
    port: u16,
    databases: AtomicU32,
}

impl Server {
    /// The one of this process.
    ///
    /// # Panics
    /// When it cannot be started: `deploy/install-deps.sh test` installs it.
    pub fn shared() -> &'static Self {
        static SERVER: OnceLock<Server> = OnceLock::new();
        SERVER.get_or_init(|| Self::start(&[]).unwrap_or_else(|e| panic!("no MariaDB server: {e:#}")))
    }

    /// One of its own, with these options behind the usual ones.
    ///
    /// # Errors
    /// What did not start, with the end of its log.
    pub fn start(options: &[&str]) -> anyhow::Result<Self> {
        // In memory where that can be had: flushing a busy disk would be most of the time, and what is tested survives
        // the death of the server, not that of the machine.
        let memory = Path::new("/dev/shm");
        let parent = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let dir = tempfile::Builder::new().prefix("mk-mariadb-").tempdir_in(parent)?.keep();
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let user = if rustix::process::geteuid().is_root() { vec!["--user=root"] } else { vec![] };
        let data = format!("--datadir={}", dir.join("data").display());
        let small = ["--innodb-log-file-size=16M", "--innodb-buffer-pool-size=64M"];
        let mut command = Command::new("sh");
        command
            .args(["-c", SUPERVISOR, "sh"])
            .arg(&dir)
            .args(["mariadbd", "--no-defaults", &data])
            .args(small);
        command.arg(format!("--socket={}", dir.join("socket").display()));
        command.arg(format!("--pid-file={}", dir.join("pid").display()));
        command.arg(format!("--port={port}"));
        command.args(["--bind-address=127.0.0.1", "--skip-name-resolve", "--max-connections=1000"]);
        command.args(["--character-set-server=latin1", "--sql-mode=", "--default-time-zone=+05:00"]);
        command.args(["--transaction-isolation=READ-UNCOMMITTED"]).args(&user).args(options);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).process_group(0);
        let mut supervisor = command.spawn().context("sh")?;
        let words = supervisor.stdin.take();
        let answers = BufReader::new(supervisor.stdout.take().context("a pipe was asked for")?);
        let mut server = Self { supervisor, words, answers, dir, port, databases: AtomicU32::new(0) };
        let mut install = Command::new("mariadb-install-db");
        install.args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db", &data]);
        let made = install.args(small).args(&user).output().context("mariadb-install-db")?;
        ensure!(made.status.success(), "mariadb-install-db: {}", String::from_utf8_lossy(&made.stderr));
        server.restart()?;
        server.sql(
            "",
            &format!("CREATE USER '{USER}'@'127.0.0.1' IDENTIFIED BY '{PASSWORD}'; GRANT ALL ON `mk\\_%`.* TO '{USER}'@'127.0.0.1'"),
        )?;
        Ok(server)
    }

    /// Makes a database, and gives the URL for it.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn database(&self) -> anyhow::Result<String> {
        let name = format!("mk_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.sql("", &format!("CREATE DATABASE {name}"))?;
        Ok(self.url(&name))
    }

    /// The URL of a database.
    pub fn url(&self, database: &str) -> String {
        format!("mysql://{USER}:{PASSWORD_IN_URL}@127.0.0.1:{}/{database}", self.port)
    }

    /// Where it listens, on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its folder: gone when the server is.
    pub fn folder(&self) -> &Path {
        &self.dir
    }

    /// Runs statements as root, with the server's own client, and gives what it prints: columns by tabs, no header.
    ///
    /// # Errors
    /// What the client said.
    pub fn sql(&self, database: &str, statements: &str) -> anyhow::Result<String> {
        let mut client = Command::new("mariadb");
        client.args([
            "--no-defaults",
            "--user=root",
            "--batch",
            "--skip-column-names",
            "--connect-timeout=5",
        ]);
        client.arg(format!("--socket={}", self.dir.join("socket").display()));
        let said = client.arg(format!("--execute={statements}")).arg(database).output().context("mariadb")?;
        ensure!(said.status.success(), "{statements}: {}", String::from_utf8_lossy(&said.stderr).trim());
        Ok(String::from_utf8(said.stdout)?)
    }

    /// kill -9. What was committed is there after [`restart`](Self::restart).
    ///
    /// # Errors
    /// When the supervisor is gone.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.say("kill").map(|_| ())
    }

    /// Starts it, at the same port, after it was killed.
    ///
    /// # Errors
    /// When it does not answer in time, with the end of its log.
    pub fn restart(&mut self) -> anyhow::Result<()> {
        let pid = self.say("start")?;
        let end = Instant::now() + START;
        while self.sql("", "SELECT 1").is_err() {
            let runs = Path::new("/proc").join(&pid).exists();
            if !runs || Instant::now() >= end {
                let log = std::fs::read_to_string(self.dir.join("log")).unwrap_or_default();
                let tail: Vec<_> = log.lines().rev().take(12).collect();
                let tail = tail.into_iter().rev().collect::<Vec<_>>().join("\n");
                anyhow::bail!("mariadbd is not ready (running: {runs}); its log ends with\n{tail}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    fn say(&mut self, word: &str) -> anyhow::Result<String> {
        let words = self.words.as_mut().context("it is ended")?;
        writeln!(words, "{word}").context("the supervisor is gone")?;
        let mut answer = String::new();
        self.answers.read_line(&mut answer)?;
        ensure!(!answer.is_empty(), "the supervisor is gone");
        Ok(answer.trim().to_owned())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.words.take());
        let _ = self.supervisor.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_left_of_a_server() {
        let mut server = Server::start(&[]).expect("started");
        let url = server.database().expect("a database");
        let name = url.rsplit('/').next().expect("a name");
        server.sql(name, "CREATE TABLE t (a INT); INSERT INTO t VALUES (7)").expect("made");
        server.kill().expect("killed");
        server.restart().expect("again");
        assert_eq!(server.sql(name, "SELECT a FROM t").expect("read"), "7\n");
        let folder = server.folder().to_owned();
        let pid = std::fs::read_to_string(folder.join("pid")).expect("its pid");
        assert!(Path::new("/proc").join(pid.trim()).exists());
        drop(server);
        assert!(!Path::new("/proc").join(pid.trim()).exists() && !folder.exists());
    }
}
