//! The daemon, put together from its configuration.

use crate::access::Access;
use crate::clock::Clock;
use crate::compute::{CloudStackCompute, Compute, LocalCompute};
use crate::config::{self, Compute as ComputeConfig, Config, Storage as StorageConfig};
use crate::conversion::Converter;
use crate::failover::{self, Conversions, Hands};
use crate::hub::Hub;
use crate::notify::{self, Notifier};
use crate::reconcile::Guards;
use crate::service::App;
use crate::service::transfer::Transfers;
use crate::storage::{LinstorStorage, LocalStorage, Storage};
use crate::store::{self, DatabaseClaim, Store};
use crate::workflow::{self, lease::Owner};
use crate::{grpc, reconcile, rest};
use anyhow::Context as _;
use rustls::ServerConfig;
use shared::claim::Claim;
use shared::tls::{self, Limits, Protection};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// The program.
const NAME: &str = "oma-api";

/// Its ports, bound.
pub struct Listeners {
    grpc: TcpListener,
    cleartext: Option<TcpListener>,
    rest: TcpListener,
}

impl Listeners {
    /// Binds them.
    ///
    /// # Errors
    /// Which one is taken, or not of this machine.
    pub async fn bind(config: &Config) -> anyhow::Result<Self> {
        let bind = async |what: &str, listen: SocketAddr| {
            TcpListener::bind(listen)
                .await
                .with_context(|| format!("cannot listen on {listen} for {what}: is another oma-api running?"))
        };
        Ok(Self {
            grpc: bind("agents and operators", config.listen).await?,
            cleartext: match config.listen_cleartext {
                Some(listen) => Some(bind("agents in clear", listen).await?),
                None => None,
            },
            rest: bind("the REST API", config.rest.listen).await?,
        })
    }
}

/// A daemon that is ready to serve.
pub struct Oma {
    app: App,
    guards: Guards,
    /// `None`: no mail is sent.
    notifier: Option<Notifier>,
    tls: Protection,
    rest_tls: Option<Arc<ServerConfig>>,
    rest_limits: config::Limits,
    limits: Limits,
    _claims: Vec<Claim>,
    /// On a server's; that on a file is among the others.
    database: Option<DatabaseClaim>,
}

impl Oma {
    /// Opens database and storage and brings the schema up to date.
    ///
    /// # Errors
    /// What cannot be opened, and what to do.
    pub async fn open(config: &Config) -> anyhow::Result<Self> {
        let mut held = claim(config).await?;
        let storage = Arc::clone(&held.storage);
        let manifests = config.state_dir.join("manifests");
        let store = Store::connect(config.database_url.as_str()).await?;
        let database = store.claim().await?;
        store.migrate().await?;
        store.must_be_whole().await?;
        store.agent_disconnect_all().await?;
        let transfers = Transfers::new(store.clone(), Arc::clone(&storage), manifests);
        let hub = Arc::new(Hub::default());
        store.show(&hub.metrics.common);
        let access = Arc::new(Access::new(store.token_list().await?));
        let heartbeat = config.limits.heartbeat.0;
        let floor = config.storage.floor();
        let clock = Clock::wall();
        let compute = compute(config, &mut held).await?;
        let Held { claims, .. } = held;
        let conversions = Conversions {
            converter: Converter::new(config.conversion.clone()),
            logs: config.state_dir.join("conversions"),
        };
        let hands = Hands {
            store: store.clone(),
            storage: Arc::clone(&storage),
            compute: compute.clone(),
            converter: Some(conversions),
            floor,
            clock,
            hub: Arc::clone(&hub),
            transfers: Arc::clone(&transfers),
        };
        let owner = Owner::new(&instance(&config.state_dir).await?);
        let engine = failover::engine(hands, workflow::Options::new(owner, clock));
        let mailer = config.notifications.as_ref().map(notify::Settings::mailer).transpose()?;
        let notifier = mailer.map(|mailer| Notifier::new(store.clone(), mailer, clock));
        let (policy, retention) = (config.failover, config.restore_points);
        let app = App {
            store,
            storage,
            compute,
            engine,
            hub,
            transfers,
            access,
            clock,
            retention,
            heartbeat,
            policy,
        };
        let guards = Guards { floor, stalled: config.limits.stalled.0 };
        let tls = protection(&config.tls, &app)?;
        let rest_tls = config.rest.tls.then(|| config.tls.server_http()).transpose()?;
        Ok(Self {
            app,
            guards,
            notifier,
            tls,
            rest_tls,
            rest_limits: config.limits.clone(),
            limits: config.tls_limits(),
            _claims: claims,
            database,
        })
    }

    /// Serves until `shutdown`; running cycles are interrupted and go on after the next start.
    ///
    /// # Errors
    /// When the services cannot be put together, and when another control plane has taken the database.
    pub async fn serve(self, listeners: Listeners, shutdown: CancellationToken) -> anyhow::Result<()> {
        let stop = shutdown.child_token();
        let Listeners { grpc, cleartext, rest } = listeners;
        let routes = grpc::routes(&self.app, &stop)?;
        if let Some(listener) = &cleartext {
            warn!(listen = %listener.local_addr()?, "agents are taken in clear: whoever reaches this port is believed");
        }
        info!(listen = %grpc.local_addr()?, "control plane ready");
        let in_clear = async {
            if let Some(listener) = cleartext {
                let (limits, routes) = (self.limits.clone(), routes.clone());
                tls::serve(listener, Protection::Cleartext, limits, routes, stop.clone()).await;
            }
        };
        let database = self.database;
        let claim = async {
            let kept = match database {
                Some(claim) => claim.keep(stop.clone()).await,
                None => Ok(()),
            };
            if kept.is_err() {
                stop.cancel();
            }
            kept
        };
        let notify = async {
            if let Some(notifier) = &self.notifier {
                notifier.run(stop.clone()).await;
            }
        };
        let rest_address = rest.local_addr()?;
        let ((), (), (), (), (), (), (), (), (), kept) = tokio::join!(
            in_clear,
            tls::serve(grpc, self.tls, self.limits.clone(), routes.clone(), stop.clone()),
            rest::serve_over(self.rest_tls, &self.rest_limits, rest, self.app.clone(), stop.clone()),
            self.app.progress_run(stop.clone()),
            self.app.agents_run(stop.clone()),
            self.app.tokens_run(rest_address, stop.clone()),
            self.app.failovers_run(stop.clone()),
            notify,
            reconcile::run(self.app.clone(), self.guards, stop.clone()),
            claim,
        );
        self.app.store.close().await;
        Ok(kept?)
    }
}

/// Takes state folder, database file and storage for this program, and opens the storage. (The database of a server is
/// claimed by its store.)
pub(crate) async fn claim(config: &Config) -> anyhow::Result<Held> {
    tokio::fs::create_dir_all(config.state_dir.join("manifests"))
        .await
        .with_context(|| format!("state_dir {} cannot be used", config.state_dir.display()))?;
    let mut claims = vec![Claim::folder(NAME, &config.state_dir)?];
    if let Some(file) = store::lock_file(config.database_url.as_str())? {
        claims.push(Claim::file(NAME, &file)?);
    }
    let mut linstor = None;
    let storage: Arc<dyn Storage> = match &config.storage {
        StorageConfig::Local { path, .. } => {
            let unusable = || format!("storage.path {} cannot be used", path.display());
            tokio::fs::create_dir_all(path).await.with_context(unusable)?;
            // First: opening it removes what is half-made, and another's is.
            claims.push(Claim::folder(NAME, path)?);
            Arc::new(LocalStorage::open(path).await.with_context(unusable)?)
        }
        StorageConfig::Linstor(settings) => {
            let opened = LinstorStorage::open(settings);
            let opened = Arc::new(opened.context("LINSTOR, named in [storage], cannot be used")?);
            linstor = Some(Arc::clone(&opened));
            opened
        }
    };
    Ok(Held { storage, linstor, claims })
}

/// What is this program's alone.
pub(crate) struct Held {
    pub(crate) storage: Arc<dyn Storage>,
    /// The same, where it is LINSTOR.
    linstor: Option<Arc<LinstorStorage>>,
    pub(crate) claims: Vec<Claim>,
}

/// What makes machines, its folder taken for this program.
async fn compute(config: &Config, held: &mut Held) -> anyhow::Result<Option<Arc<dyn Compute>>> {
    let path = match &config.compute {
        None => return Ok(None),
        Some(ComputeConfig::CloudStack(settings)) => {
            let linstor =
                held.linstor.clone().context("[compute] \"cloudstack\" needs [storage] \"linstor\"")?;
            let opened = CloudStackCompute::open(settings, linstor);
            return Ok(Some(Arc::new(opened.context("CloudStack, named in [compute], cannot be used")?)));
        }
        Some(ComputeConfig::Local { path, .. }) => path,
        #[cfg(any(test, feature = "test-compute"))]
        Some(ComputeConfig::Instant { path }) => path,
    };
    let unusable = || format!("compute.path {} cannot be used", path.display());
    tokio::fs::create_dir_all(path).await.with_context(unusable)?;
    held.claims.push(Claim::folder(NAME, path)?);
    Ok(match &config.compute {
        None | Some(ComputeConfig::CloudStack(_)) => None,
        Some(ComputeConfig::Local { accel, .. }) => {
            let local = LocalCompute::open(path, Arc::clone(&held.storage), *accel).await;
            Some(Arc::new(local.with_context(unusable)?))
        }
        #[cfg(any(test, feature = "test-compute"))]
        Some(ComputeConfig::Instant { .. }) => {
            Some(Arc::new(crate::compute::Machines::open(path).with_context(unusable)?))
        }
    })
}

/// The name of this control plane, which stays as long as its state folder does; that is ours by its lock.
async fn instance(state_dir: &Path) -> anyhow::Result<String> {
    let path = state_dir.join("instance");
    let unusable = || format!("{} cannot be used", path.display());
    match tokio::fs::read_to_string(&path).await {
        Ok(name) if !name.trim().is_empty() => return Ok(name.trim().to_owned()),
        // Empty: the machine lost its power when it was made.
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(unusable),
    }
    let name = uuid::Uuid::new_v4().to_string();
    tokio::fs::write(&path, &name).await.with_context(unusable)?;
    Ok(name)
}

/// Certificates are asked for; once a token was made, a peer may come without one, and has to show a token instead. Before
/// that, who has no certificate is refused in the handshake, where both logs say why.
pub(crate) fn protection(files: &tls::Files, app: &App) -> anyhow::Result<Protection> {
    let (strict, optional, access) = (files.server()?, files.server_optional()?, Arc::clone(&app.access));
    Ok(Protection::Chosen(Arc::new(move || match access.is_open() {
        true => Arc::clone(&strict),
        false => Arc::clone(&optional),
    })))
}
