//! One VM, one agent, one control plane.

use super::daemon::Daemon;
use super::eventually;
use crate::link::{Link, Shape};
use crate::live_vm::LiveVm;
use anyhow::Context as _;
use migratekit::dev_ca::{Existing, Folder, Holder, make};
use proto::v1;
use proto::v1::inventory_service_client::InventoryServiceClient;
use proto::v1::migration_service_client::MigrationServiceClient;
use shared::ids::AgentId;
use shared::tls::{Dialer, Files, Role};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;
use tonic::transport::Channel;

/// The VM's uuid in every world.
pub const VM_UUID: &str = "564d1d3a-0000-4000-8000-000000000001";

const OMA: &str = "oma-api";

/// Where the VM's disks are.
#[derive(Clone, Debug, Default)]
pub enum SourceKind {
    /// The live VM.
    #[default]
    Live,
    /// Files that the agent serves to itself: key and path.
    Files(Vec<(String, PathBuf)>),
    /// NBD servers that the test runs: key and URI.
    Uris(Vec<(String, String)>),
    /// A source of the test's own: the VM's part of the agent's configuration.
    Own(String),
}

/// What lies between agent and OMA.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Transport {
    #[default]
    Tls,
    Cleartext,
}

/// How a world is made.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Key and bytes of the live VM's disks.
    pub disks: Vec<(String, u64)>,
    pub source: SourceKind,
    /// Lines for the agent's `[transfer]` table.
    pub transfer: String,
    /// Whether the agent dials with TLS.
    pub transport: Transport,
    /// What the network between them is like; `None`: loopback.
    pub link: Option<Shape>,
    /// Where the replicas are; `None`: in the world's folder.
    pub replicas: Option<PathBuf>,
    /// Lines of the VM's `[vm.configuration]`, heading included.
    pub configuration: String,
    /// The control plane's `database_url`; `None`: a file in the world's folder.
    pub database: Option<String>,
    /// Lines that follow the level in the `[log]` table of both daemons: its other keys, and further tables.
    pub log: String,
}

impl Options {
    /// A live VM with these disks.
    pub fn live(disks: &[(&str, u64)]) -> Self {
        let disks = disks.iter().map(|&(key, size)| (key.to_owned(), size)).collect();
        Self { disks, source: SourceKind::Live, transfer: two_connections(), ..Self::default() }
    }

    /// Disks that are files.
    pub fn files(files: &[(&str, &Path)]) -> Self {
        let files = files.iter().map(|&(key, path)| (key.to_owned(), path.to_owned())).collect();
        Self { source: SourceKind::Files(files), transfer: two_connections(), ..Self::default() }
    }

    /// A source that the test started: the VM's part of the agent's configuration.
    pub fn own(source: String) -> Self {
        Self { source: SourceKind::Own(source), transfer: two_connections(), ..Self::default() }
    }
}

/// Whatever the machine has: answers out of order come from several connections.
fn two_connections() -> String {
    "connections = 2\n".to_owned()
}

/// See the module.
pub struct World {
    /// `None` where the source is not the live VM.
    pub vm: Option<LiveVm>,
    pub oma: Daemon,
    pub agent: Daemon,
    pub dir: PathBuf,
    pub ca: Folder,
    /// Of the OMA, as `localhost:PORT`; kept over restarts.
    pub address: String,
    /// Of the OMA's REST API; kept over restarts.
    pub rest: String,
    /// Of the agent's diagnostics.
    pub diagnostics: String,
    /// Of the agent's progress API.
    pub progress: String,
    /// The program of the control plane, from its next start on: `oma-api`, or another that is configured as it is.
    pub control_plane: &'static str,
    /// What both daemons run under when they are started again: a program and its arguments.
    pub wrapper: Vec<String>,
    replicas: PathBuf,
    _link: Option<Link>,
    // Last: removed when all else has ended.
    _temp: TempDir,
}

/// Everything starts within this, on a busy machine too.
const START: Duration = Duration::from_secs(30);

impl World {
    /// Starts everything and waits until the agent is connected.
    ///
    /// # Errors
    /// Whatever does not start, with the end of its log.
    pub async fn start(options: &Options) -> anyhow::Result<Self> {
        let temp = tempfile::Builder::new().prefix("mk-world-").tempdir()?;
        let dir = temp.path().to_owned();
        let ca = Folder::new(dir.join("ca"));
        let hosts = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let holder =
            |role, name: &str| anyhow::Ok(Holder { role, name: AgentId::parse(name)?, hosts: hosts.clone() });
        let holders = [
            holder(Role::Oma, "main")?,
            holder(Role::Agent, "vma-01")?,
            holder(Role::Agent, "vma-02")?,
            holder(Role::Operator, "admin")?,
            holder(Role::Admin, "root")?,
        ];
        make(&ca, &holders, 2, Existing::Refuse)?;
        let disks: Vec<_> = options.disks.iter().map(|(key, size)| (key.as_str(), *size)).collect();
        let vm = match options.source {
            SourceKind::Live => Some(LiveVm::start(&dir.join("vm"), &disks)?),
            SourceKind::Files(_) | SourceKind::Uris(_) | SourceKind::Own(_) => None,
        };
        let replicas = options.replicas.clone().unwrap_or_else(|| dir.join("replicas"));
        let database =
            options.database.clone().unwrap_or_else(|| format!("sqlite://{}/oma.db", dir.display()));
        let cleartext = options.transport == Transport::Cleartext;
        let mut ports = Ports { grpc: 0, rest: 0, cleartext: cleartext.then_some(0) };
        write_oma_config(&dir, &ca, ports, &replicas, &database, &options.log)?;
        let mut oma = Daemon::start(OMA, &dir.join("oma.toml"), &dir.join("oma.log"), &[])?;
        if cleartext {
            ports.cleartext = Some(port_of(&oma.wait_for("agents are taken in clear", START)?)?);
        }
        ports.grpc = port_of(&oma.wait_for("control plane ready", START)?)?;
        ports.rest = port_of(&oma.wait_for("REST API ready", START)?)?;
        // The same ports after a restart: the agent finds it again.
        write_oma_config(&dir, &ca, ports, &replicas, &database, &options.log)?;
        let [address, rest] = [ports.grpc, ports.rest].map(|port| format!("localhost:{port}"));
        let dialled = ports.cleartext.unwrap_or(ports.grpc);
        let link = match options.link {
            Some(shape) => Some(Link::start(([127, 0, 0, 1], dialled).into(), shape).await?),
            None => None,
        };
        let dialled = link.as_ref().map_or(dialled, |link| link.address().port());
        write_agent_config(
            &dir,
            &ca.files(Role::Agent, "vma-01"),
            &format!("localhost:{dialled}"),
            options,
            vm.as_ref(),
            "vma.toml",
        )?;
        let mut agent = Daemon::start("vma-agent", &dir.join("vma.toml"), &dir.join("vma.log"), &[])?;
        agent.wait_for("connected to the OMA", START)?;
        let diagnostics = format!("localhost:{}", port_of(&agent.wait_for("diagnostics ready", START)?)?);
        let progress = format!("localhost:{}", port_of(&agent.wait_for("progress API ready", START)?)?);
        Ok(Self {
            vm,
            oma,
            agent,
            dir,
            ca,
            address,
            rest,
            diagnostics,
            progress,
            control_plane: OMA,
            wrapper: vec![],
            replicas,
            _link: link,
            _temp: temp,
        })
    }

    /// The live VM.
    pub fn live(&self) -> anyhow::Result<&LiveVm> {
        self.vm.as_ref().context("this world has no live VM")
    }

    /// Starts the agent again, after it ended; waits until it is connected.
    pub fn agent_restart(&mut self) -> anyhow::Result<()> {
        self.agent.kill();
        let wrapper: Vec<_> = self.wrapper.iter().map(String::as_str).collect();
        self.agent =
            Daemon::start("vma-agent", &self.dir.join("vma.toml"), &self.dir.join("vma.log"), &wrapper)?;
        self.agent.wait_for("connected to the OMA", START)?;
        Ok(())
    }

    /// Starts the OMA again, after it ended, under `wrapper` if there is one, within the world's own.
    pub fn oma_restart(&mut self, wrapper: &[&str]) -> anyhow::Result<()> {
        self.oma.kill();
        let wrapper: Vec<_> =
            self.wrapper.iter().map(String::as_str).chain(wrapper.iter().copied()).collect();
        let (program, config, log) =
            (self.control_plane, self.dir.join("oma.toml"), self.dir.join("oma.log"));
        self.oma = Daemon::start(program, &config, &log, &wrapper)?;
        self.oma.wait_for("control plane ready", START)?;
        Ok(())
    }

    /// A connection as the operator.
    pub async fn channel(&self) -> anyhow::Result<Channel> {
        self.channel_as(&self.ca.files(Role::Operator, "admin")).await
    }

    /// A connection with these certificates.
    pub async fn channel_as(&self, files: &Files) -> anyhow::Result<Channel> {
        let dialer = Dialer::new(&self.address, files.client()?).map_err(anyhow::Error::msg)?;
        dialer.connect().await.map_err(anyhow::Error::msg)
    }

    pub async fn act(&self, action: v1::Action) -> anyhow::Result<v1::Migration> {
        let request =
            v1::ActRequest { vm: VM_UUID.to_owned(), action: action.into(), ..v1::ActRequest::default() };
        let answer = MigrationServiceClient::new(self.channel().await?).act(request).await?;
        answer.into_inner().migration.context("no migration in the answer")
    }

    pub async fn get(&self) -> anyhow::Result<v1::Migration> {
        let request = v1::GetRequest { vm: VM_UUID.to_owned(), ..v1::GetRequest::default() };
        let answer = MigrationServiceClient::new(self.channel().await?).get(request).await?;
        answer.into_inner().migration.context("no migration in the answer")
    }

    /// Waits until the migration is as `wanted` says. A control plane that is away is asked again.
    pub async fn wait(
        &self,
        what: &str,
        deadline: Duration,
        wanted: impl Fn(&v1::Migration) -> bool,
    ) -> anyhow::Result<v1::Migration> {
        let last = std::cell::RefCell::new(String::new());
        let found = eventually(what, deadline, || async {
            match self.get().await {
                Ok(m) if wanted(&m) => Ok(Some(m)),
                Ok(m) => {
                    *last.borrow_mut() = format!("{m:?}");
                    Ok(None)
                }
                Err(error) => {
                    *last.borrow_mut() = format!("{error:#}");
                    Ok(None)
                }
            }
        });
        found.await.with_context(|| format!("last seen: {}", last.borrow()))
    }

    /// `begin`, until the replica's volumes are there.
    pub async fn begin(&self) -> anyhow::Result<v1::Migration> {
        self.begin_as(v1::ActRequest::default()).await
    }

    /// The same although a finding blocks, for this reason.
    pub async fn begin_forced(&self, reason: &str) -> anyhow::Result<v1::Migration> {
        self.begin_as(v1::ActRequest { force_reason: reason.to_owned(), ..v1::ActRequest::default() }).await
    }

    async fn begin_as(&self, request: v1::ActRequest) -> anyhow::Result<v1::Migration> {
        // The inventory arrives with the agent's hello, a moment after the log line.
        eventually("the VM in the inventory", START, || async {
            let channel = self.channel().await?;
            let answer = InventoryServiceClient::new(channel).list_vms(v1::ListVmsRequest::default()).await?;
            Ok(answer.into_inner().vms.iter().any(|vm| vm.agent_connected).then_some(()))
        })
        .await?;
        let request = v1::ActRequest { vm: VM_UUID.to_owned(), action: v1::Action::Begin.into(), ..request };
        MigrationServiceClient::new(self.channel().await?).act(request).await?;
        self.wait("begin/paused", START, |m| m.state() != v1::State::Running).await
    }

    /// `sync`, until it is committed. Fails when the cycle fails.
    pub async fn sync(&self) -> anyhow::Result<v1::Migration> {
        self.act(v1::Action::Sync).await?;
        self.synced().await
    }

    /// Waits for the end of the running sync. Fails when the cycle fails.
    pub async fn synced(&self) -> anyhow::Result<v1::Migration> {
        let ended =
            self.wait("the end of the sync", Duration::from_secs(120), |m| m.state() != v1::State::Running);
        let m = ended.await?;
        anyhow::ensure!(
            m.state() == v1::State::Paused,
            "the sync ended as {:?}: {} {}",
            m.state(),
            m.error_reason,
            m.error_message
        );
        Ok(m)
    }

    /// Both messages and verdict of a verification.
    pub async fn verify(&self, source: bool) -> anyhow::Result<(v1::VerifyResult, Vec<v1::VerifyMismatch>)> {
        use v1::verify_response::Kind;
        let request = v1::VerifyRequest { vm: VM_UUID.to_owned(), source };
        let mut said = MigrationServiceClient::new(self.channel().await?).verify(request).await?.into_inner();
        let mut mismatches = Vec::new();
        while let Some(response) = said.message().await? {
            match response.kind {
                Some(Kind::Mismatch(mismatch)) => mismatches.push(mismatch),
                Some(Kind::Result(result)) => return Ok((result, mismatches)),
                Some(Kind::Progress(_)) | None => {}
            }
        }
        anyhow::bail!("no verdict")
    }

    /// File of a disk's replica.
    pub fn replica(&self, m: &v1::Migration, key: &str) -> anyhow::Result<PathBuf> {
        let disk = m.disks.iter().find(|d| d.key == key).with_context(|| format!("no disk {key}"))?;
        Ok(self.replicas.join("volumes").join(format!("mk-{}.img", disk.disk_id)))
    }

    /// File of a disk in the newest restore point.
    pub fn restore_point(&self, m: &v1::Migration, key: &str) -> anyhow::Result<PathBuf> {
        let disk = m.disks.iter().find(|d| d.key == key).with_context(|| format!("no disk {key}"))?;
        let point = m.restore_points.last().context("no restore point")?;
        let name = format!("rp-{}", point.job_id);
        Ok(self.replicas.join("snapshots").join(name).join(format!("mk-{}.img", disk.disk_id)))
    }
}

/// BLAKE3 of a file.
pub fn hash_file(path: &Path) -> anyhow::Result<[u8; 32]> {
    let mut hasher = blake3::Hasher::new();
    let file = std::fs::File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    hasher.update_reader(file)?;
    Ok(*hasher.finalize().as_bytes())
}

fn port_of(line: &str) -> anyhow::Result<u16> {
    // As text, or as JSON.
    let at = line.split("listen=").nth(1).or_else(|| line.split("\"listen\":\"").nth(1));
    let at = at.with_context(|| format!("no listen= in {line:?}"))?;
    let address = at.split([' ', '"']).next().unwrap_or(at);
    address.rsplit(':').next().and_then(|p| p.parse().ok()).with_context(|| format!("no port in {line:?}"))
}

fn tls(files: &Files) -> String {
    let [ca, cert, key] = [&files.ca, &files.cert, &files.key].map(|p| p.display());
    format!("[tls]\nca = \"{ca}\"\ncert = \"{cert}\"\nkey = \"{key}\"\n")
}

/// Of the OMA; 0: any.
#[derive(Clone, Copy)]
struct Ports {
    grpc: u16,
    rest: u16,
    cleartext: Option<u16>,
}

fn write_oma_config(
    dir: &Path,
    ca: &Folder,
    ports: Ports,
    replicas: &Path,
    database: &str,
    log: &str,
) -> anyhow::Result<()> {
    let (at, replicas) = (dir.display(), replicas.display());
    let listen = |key: &str, port: u16| format!("{key} = \"127.0.0.1:{port}\"\n");
    let text = format!(
        "{}{}database_url = \"{database}\"\nstate_dir = \"{at}/oma\"\n{}\
         [storage]\nkind = \"local\"\npath = \"{replicas}\"\nfloor = \"0%\"\n\
         [compute]\nkind = \"local\"\npath = \"{at}/machines\"\naccel = \"tcg\"\n[conversion]\naccel = \"force_tcg\"\n[rest]\n{}[limits]\nhandshake = \"3s\"\npreface = \"2s\"\n\
         [log]\nlevel = \"info,oma_api=debug,shared=debug,migratekit=debug\"\n{log}",
        listen("listen", ports.grpc),
        ports.cleartext.map(|port| listen("listen_cleartext", port)).unwrap_or_default(),
        tls(&ca.files(Role::Oma, "main")),
        listen("listen", ports.rest),
    );
    Ok(std::fs::write(dir.join("oma.toml"), text)?)
}

/// Writes a configuration of an agent with these certificates into the world's folder.
pub fn write_agent_config(
    dir: &Path,
    files: &Files,
    address: &str,
    options: &Options,
    vm: Option<&LiveVm>,
    name: &str,
) -> anyhow::Result<()> {
    let mut text = format!(
        "oma = \"{address}\"\noma_cleartext = {}\nstate_dir = \"{}/{name}.state\"\n{}[diagnostics]\nlisten = \"127.0.0.1:0\"\n[progress]\nlisten = \"127.0.0.1:0\"\n\
         [transfer]\n{}\n[log]\nlevel = \"info,vma_agent=debug,shared=debug,migratekit=debug\"\n{}\
         [[vm]]\nuuid = \"{VM_UUID}\"\nname = \"web\"\n",
        options.transport == Transport::Cleartext,
        dir.display(),
        tls(files),
        options.transfer,
        options.log
    );
    if let Some(vm) = vm {
        write!(
            text,
            "[vm.qemu]\nqmp = \"{}\"\nnbd = \"unix:{}\"\n",
            vm.agent_qmp().display(),
            vm.nbd_socket().display()
        )?;
        for disk in vm.disks() {
            let (key, node, top) = (&disk.key, &disk.node, &disk.top);
            write!(text, "[[vm.qemu.disks]]\nkey = \"{key}\"\nnode = \"{node}\"\ntop = \"{top}\"\n")?;
        }
    }
    match &options.source {
        SourceKind::Live => {}
        SourceKind::Own(source) => text += source,
        SourceKind::Files(files) => {
            for (key, path) in files {
                write!(text, "[[vm.plain.disks]]\nkey = \"{key}\"\nfile = \"{}\"\n", path.display())?;
            }
        }
        SourceKind::Uris(uris) => {
            for (key, uri) in uris {
                write!(text, "[[vm.plain.disks]]\nkey = \"{key}\"\nuri = \"{uri}\"\n")?;
            }
        }
    }
    text += &options.configuration;
    Ok(std::fs::write(dir.join(name), text)?)
}
