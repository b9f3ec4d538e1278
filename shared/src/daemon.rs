//! The frame of a daemon: configuration → telemetry → run until a signal → drain → exit code.

use crate::config::{self, EXIT_CONFIGURATION};
use crate::error::chain;
use crate::telemetry::{self, Log, Traces};
use std::path::Path;
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

/// Why a daemon cannot start.
pub type Unusable = Box<dyn std::error::Error + Send + Sync>;

/// What a daemon is told by its file and its command line.
pub trait Configuration {
    fn log(&self) -> &Log;

    fn traces(&self) -> &Traces;

    /// Whether the daemon can start with it: all that does not depend on the clock or the network.
    ///
    /// # Errors
    /// What is wrong, where, and what to do.
    fn check(&self) -> Result<(), Unusable>;

    /// Whether peers would take its certificate. Not asked at every start: the clock may be set only after us, and the
    /// peers say what they do not take.
    ///
    /// # Errors
    /// As above.
    fn check_certificate(&self) -> Result<(), Unusable>;
}

/// What [`main`] is to do with the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    Serve,
    CheckOnly,
}

/// What `main` of a daemon does, once its command line is read: checks the configuration loaded from `path`, and runs
/// `body` with it (see [`run`]), or says that it could.
pub fn main<C, F, E>(
    name: &'static str,
    path: &Path,
    loaded: Result<C, config::Error>,
    purpose: Purpose,
    body: impl FnOnce(C, CancellationToken) -> F,
) -> ExitCode
where
    C: Configuration,
    F: Future<Output = Result<(), E>>,
    E: Into<Unusable>,
{
    let config = match loaded {
        Ok(config) => config,
        Err(error) => return configuration_error(name, &error),
    };
    if let Err(error) = config.check() {
        return configuration_error(name, error.as_ref());
    }
    if purpose == Purpose::Serve {
        let (log, traces) = (config.log().clone(), config.traces().clone());
        return run(name, &log, &traces, |shutdown| body(config, shutdown));
    }
    if let Err(error) = config.check_certificate() {
        return configuration_error(name, error.as_ref());
    }
    eprintln!("{name}: {} is usable", path.display());
    ExitCode::SUCCESS
}

/// What `main` does for a command that ends by itself: nothing is logged but warnings, and an error is said on stderr.
pub fn command<C, F, E>(
    name: &'static str,
    loaded: Result<C, config::Error>,
    body: impl FnOnce(C) -> F,
) -> ExitCode
where
    F: Future<Output = Result<(), E>>,
    E: Into<Unusable>,
{
    let config = match loaded {
        Ok(config) => config,
        Err(error) => return configuration_error(name, &error),
    };
    let log = Log { level: "warn".to_owned(), ..Log::default() };
    let _exporting = match telemetry::init(name, &log, &Traces::default()) {
        Ok(exporting) => exporting,
        Err(error) => return configuration_error(name, &error),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("{name}: the runtime cannot be started: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(body(config)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{name}: {}", chain(error.into().as_ref()));
            ExitCode::FAILURE
        }
    }
}

/// The same, with a configuration that has to be fit to serve with.
pub fn checked_command<C, F, E>(
    name: &'static str,
    loaded: Result<C, config::Error>,
    body: impl FnOnce(C) -> F,
) -> ExitCode
where
    C: Configuration,
    F: Future<Output = Result<(), E>>,
    E: Into<Unusable>,
{
    match loaded.as_ref().map(Configuration::check) {
        Ok(Err(error)) => configuration_error(name, error.as_ref()),
        Ok(Ok(())) | Err(_) => command(name, loaded, body),
    }
}

/// Says on stderr what is wrong with the configuration; exit code 64.
fn configuration_error(name: &str, error: &dyn std::error::Error) -> ExitCode {
    eprintln!("{name}: {}", chain(error));
    ExitCode::from(EXIT_CONFIGURATION)
}

/// Runs `body` on a new runtime. Its token is cancelled by SIGTERM or SIGINT; it then has to come to an end.
///
/// Exit code 0, or 1 when `body` fails; 64 when logging cannot be set up.
fn run<F, E>(
    name: &'static str,
    log: &Log,
    traces: &Traces,
    body: impl FnOnce(CancellationToken) -> F,
) -> ExitCode
where
    F: Future<Output = Result<(), E>>,
    E: Into<Unusable>,
{
    // Dropped last: spans end with the runtime.
    let _exporting = match telemetry::init(name, log, traces) {
        Ok(exporting) => exporting,
        Err(error) => return configuration_error(name, &error),
    };
    keep_freed_memory();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            error!(%error, "the runtime cannot be started");
            return ExitCode::FAILURE;
        }
    };
    let result = runtime.block_on(async {
        let shutdown = CancellationToken::new();
        let on_signal = shutdown.clone();
        tokio::spawn(async move {
            let what = wait_for_signal().await;
            info!(signal = what, "shutting down");
            on_signal.cancel();
        });
        info!(version = telemetry::VERSION, "{name} starting");
        body(shutdown).await
    });
    // Blocking threads may sit in a read of a dead disk: they must not keep the daemon.
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    match result {
        Ok(()) => {
            info!("stopped");
            ExitCode::SUCCESS
        }
        Err(error) => {
            let error = error.into();
            error!(error = %chain(error.as_ref()), "stopped by an error");
            ExitCode::FAILURE
        }
    }
}

/// Lets the C library keep freed memory for the next buffer instead of giving it back to the kernel each time, where
/// the next buffer has to fault it in again page by page.
///
/// glibc adapts: when a block that was mapped by itself is freed, blocks up to that size come from the heap from then
/// on, and the heap's free end is given back only beyond twice that size (mallopt(3), `M_MMAP_THRESHOLD`). Other
/// libraries just free it.
fn keep_freed_memory() {
    const LARGEST: usize = 8 << 20;
    drop(std::hint::black_box(Vec::<u8>::with_capacity(LARGEST)));
}

async fn wait_for_signal() -> &'static str {
    match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
        (Ok(mut term), Ok(mut int)) => tokio::select! {
            _ = term.recv() => "SIGTERM",
            _ = int.recv() => "SIGINT",
        },
        _ => std::future::pending().await,
    }
}
