//! The frame of a daemon: telemetry → run until a signal → drain → exit code.

use crate::config::EXIT_CONFIGURATION;
use crate::error::chain;
use crate::telemetry::{self, Log};
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

/// Says on stderr what is wrong with the configuration; exit code 64.
pub fn configuration_error(name: &str, error: &dyn std::error::Error) -> ExitCode {
    eprintln!("{name}: {}", chain(error));
    ExitCode::from(EXIT_CONFIGURATION)
}

/// Runs `body` on a new runtime. Its token is cancelled by SIGTERM or SIGINT; it then has to come to an end.
///
/// Exit code 0, or 1 when `body` fails; 64 when logging cannot be set up.
pub fn run<F, E>(name: &'static str, log: &Log, body: impl FnOnce(CancellationToken) -> F) -> ExitCode
where
    F: Future<Output = Result<(), E>>,
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    if let Err(error) = telemetry::init(name, log) {
        return configuration_error(name, &error);
    }
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
