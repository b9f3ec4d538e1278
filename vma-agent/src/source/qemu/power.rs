//! The guest's power, by the monitor.
//!
//! QEMU's block layer is what snapshots are made of and read from, so its process has to outlive the guest's power. A
//! QEMU that was started with `-no-shutdown` does; any other is told so (`set-action shutdown=pause`) before the guest
//! is asked to power off, as it would end with the guest, and the source with it.
//!
//! QMP has no command that cuts the power. A reset that QEMU takes for a shutdown is one: the guest is not asked, its
//! processor stops, what its devices have in flight is written and flushed, and the run state is "shutdown".

use std::time::Duration;

use serde::Deserialize;
use serde_json::json;

use super::qmp::Session;
use super::{Error, PowerState};

/// How long a reset may take to be done, and between two looks. It is done by the loop that answers, right after.
const RESET: (Duration, Duration) = (Duration::from_secs(10), Duration::from_millis(20));

/// A machine that was never started, or that was reset while it stood still: its guest has run no instruction.
const NEW: &str = "prelaunch";

/// A machine that was powered off.
const OFF: &str = "shutdown";

pub(super) async fn state(session: &mut Session) -> Result<PowerState, Error> {
    match run_state(session).await {
        Ok(state) => Ok(match state.as_str() {
            "running" | "paused" | "suspended" => PowerState::Running,
            OFF | NEW => PowerState::Off,
            _ => PowerState::Unknown,
        }),
        Err(Error::PowerUnsupported { .. }) => Ok(PowerState::Unknown),
        Err(error) => Err(error),
    }
}

/// Presses the power button.
pub(super) async fn shut_down(session: &mut Session) -> Result<(), Error> {
    if is_off(&run_state(session).await?) {
        return Ok(());
    }
    on_reset(session, "reset").await?;
    Ok(session.run("system_powerdown", json!({})).await?)
}

/// Cuts the power.
pub(super) async fn power_off(session: &mut Session) -> Result<(), Error> {
    match run_state(session).await?.as_str() {
        state if is_off(state) => Ok(()),
        "running" => {
            on_reset(session, "shutdown").await?;
            // Decided when it is asked for: what a reset does may be as it was right after.
            let cut = session.run("system_reset", json!({})).await;
            let restored = on_reset(session, "reset").await;
            cut?;
            restored
        }
        // A machine that stands still would not be shut down before it is let go on; reset, it holds nothing more.
        _ => {
            on_reset(session, "reset").await?;
            Ok(session.run("system_reset", json!({})).await?)
        }
    }
}

/// Switches on a machine that is off. One that is paused is on: somebody paused it.
pub(super) async fn power_on(session: &mut Session) -> Result<(), Error> {
    let state = run_state(session).await?;
    match state.as_str() {
        "running" | "paused" | "suspended" => return Ok(()),
        OFF => {
            // An agent that was killed while it cut the power may have left it otherwise.
            on_reset(session, "reset").await?;
            session.run("system_reset", json!({})).await?;
            let asked = tokio::time::Instant::now();
            while run_state(session).await? == OFF && asked.elapsed() < RESET.0 {
                tokio::time::sleep(RESET.1).await;
            }
        }
        NEW => on_reset(session, "reset").await?,
        other => {
            let why = format!("the machine is at {other:?}, which is neither on nor off: reset it");
            return Err(Error::PowerUnsupported { why });
        }
    }
    Ok(session.run("cont", json!({})).await?)
}

fn is_off(state: &str) -> bool {
    state == OFF || state == NEW
}

async fn run_state(session: &mut Session) -> Result<String, Error> {
    #[derive(Deserialize)]
    struct Status {
        status: String,
    }
    match session.execute::<Status>("query-status", json!({})).await {
        Ok(Status { status }) => Ok(status),
        Err(error) if error.is_unknown_command() => {
            let why = "a qemu-storage-daemon has the disks and not the machine".to_owned();
            Err(Error::PowerUnsupported { why })
        }
        Err(error) => Err(error.into()),
    }
}

/// Says what becomes of the machine at a reset, and that its process stays at a shutdown.
async fn on_reset(session: &mut Session, reboot: &str) -> Result<(), Error> {
    match session.run("set-action", json!({ "reboot": reboot, "shutdown": "pause" })).await {
        Err(error) if error.is_unknown_command() => {
            let why = "a QEMU older than 6.0 may end with its guest, and the source with it".to_owned();
            Err(Error::PowerUnsupported { why })
        }
        done => Ok(done?),
    }
}
