//! The daemon, put together from its configuration.

use crate::cycle::{Manager, Outgoing};
use crate::metrics::Shown;
use crate::source::Source;
use crate::{Config, connect, diagnostics, rest};
use anyhow::Context as _;
use shared::claim::{self, Claim};
use shared::ids::{AgentId, VmUuid};
use shared::progress::Register;
use shared::tls::Dialer;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::info;

/// Its ports, bound.
pub struct Listeners {
    diagnostics: TcpListener,
    progress: TcpListener,
}

impl Listeners {
    /// Binds them.
    ///
    /// # Errors
    /// Which one is taken, or not of this machine.
    pub async fn bind(config: &Config) -> anyhow::Result<Self> {
        let bind = async |table: &str, listen: SocketAddr| {
            TcpListener::bind(listen).await.with_context(|| {
                format!(
                    "cannot listen on {listen}: is another vma-agent running? A second one on this host needs a `listen` of its own in \
                     [{table}]"
                )
            })
        };
        Ok(Self {
            diagnostics: bind("diagnostics", config.diagnostics.listen).await?,
            progress: bind("progress", config.progress.listen).await?,
        })
    }
}

/// A daemon that is ready to run.
pub struct Agent {
    id: AgentId,
    dialer: Dialer,
    tls: Arc<rustls::ServerConfig>,
    sources: Vec<(VmUuid, Arc<dyn Source>)>,
    settings: crate::transfer::Settings,
    _claim: Claim,
}

/// One that is ending lets go within seconds.
fn claim(state_dir: &Path) -> Result<Claim, claim::Error> {
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        match Claim::folder("vma-agent", state_dir) {
            Err(claim::Error::Taken { .. }) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(50));
            }
            done => return done,
        }
    }
}

impl Agent {
    /// Reads the certificates and makes the sources; talks to nobody yet.
    ///
    /// # Errors
    /// What is wrong with the certificates, the OMA's address or a VM's source.
    pub fn open(config: &Config) -> anyhow::Result<Self> {
        let id = config.check()?;
        let dialer = config.dialer()?;
        std::fs::create_dir_all(&config.state_dir)
            .with_context(|| format!("state_dir {} cannot be used", config.state_dir.display()))?;
        let claim = claim(&config.state_dir)?;
        let sources = config.sources();
        Ok(Self {
            id,
            dialer,
            tls: config.tls.server()?,
            sources,
            settings: config.settings(),
            _claim: claim,
        })
    }

    /// Runs until `shutdown`, then interrupts what is running; it goes on at the next start.
    ///
    /// # Errors
    /// None after the start: whatever fails is tried again.
    pub async fn serve(self, listeners: Listeners, shutdown: CancellationToken) -> anyhow::Result<()> {
        info!(agent = %self.id, oma = self.dialer.address(), vms = self.sources.len(), "agent ready");
        let register = Arc::<Register>::default();
        let (manager, outgoing): (Manager, mpsc::Receiver<Outgoing>) =
            Manager::start(self.sources, &self.settings, &register);
        let shown = Shown::new(&self.settings.counted, manager.clone(), self.settings.budget.clone());
        let diagnostics =
            diagnostics::Diagnostics { register: Arc::clone(&register), metrics: shown.common().clone() };
        tokio::join!(
            connect::run(self.dialer, self.id, manager, outgoing, shutdown.clone()),
            diagnostics.serve(listeners.diagnostics, self.tls, shutdown.clone()),
            rest::serve(listeners.progress, register, shown, shutdown),
        );
        Ok(())
    }
}
