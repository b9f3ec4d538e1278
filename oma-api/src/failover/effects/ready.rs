//! Whether the machine works: waited for, never longer than was said, a restart of the control plane included.

use super::{Hands, machine_name, of_compute, plan};
use crate::compute::{Compute, MachineName, State};
use crate::failover::request::{Check, Ready as Wanted, Weight};
use crate::workflow::{Effect, Job, Kind, Problem, Turn};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tracing::warn;

const CODE: &str = "VM_NOT_READY";

/// Between looks.
const PERIOD: Duration = Duration::from_millis(250);

/// Bytes of the console that are read at once, and that a failure shows.
const PART: usize = 64 << 10;
const SHOWN: u64 = 2 << 10;

/// It shows what was said that it would.
pub(crate) struct Ready(pub(crate) Arc<Hands>);

/// Why it was not.
enum Unready {
    Late,
    Stopped,
}

#[async_trait::async_trait]
impl Effect for Ready {
    fn name(&self, _: &Job) -> Option<String> {
        None
    }

    /// Looking changes nothing: it is looked again.
    async fn look_up(&self, _: Turn<'_>) -> Result<Option<Value>, Problem> {
        Ok(None)
    }

    async fn act(&self, turn: Turn<'_>) -> Result<Value, Problem> {
        let plan = plan(turn.job)?;
        let Some(wanted) = &plan.ready else { return Ok(json!({ "ready": null })) };
        let (compute, name) = (self.0.compute()?, machine_name(&plan));
        let since = turn.job.steps.iter().find(|s| s.plan.name == "start").and_then(|s| s.ended_at);
        let until = since.unwrap_or_else(|| self.0.clock.now()) + wanted.within;
        match self.wait(compute, &name, wanted, until, &turn).await? {
            Ok(()) => Ok(json!({ "ready": true })),
            Err(unready) => {
                let why = describe(compute, &name, wanted, &unready).await;
                match wanted.weight {
                    Weight::Required => Err(Problem::new(Kind::Permanent, CODE, why)),
                    Weight::Advisory => {
                        warn!(machine = %name, why, "a machine is not ready; its failover goes on");
                        Ok(json!({ "ready": false, "warning": why }))
                    }
                }
            }
        }
    }

    async fn undo(&self, _: Turn<'_>) -> Result<(), Problem> {
        Ok(())
    }
}

impl Ready {
    async fn wait(
        &self,
        compute: &dyn Compute,
        name: &MachineName,
        wanted: &Wanted,
        until: Timestamp,
        turn: &Turn<'_>,
    ) -> Result<Result<(), Unready>, Problem> {
        let Check::Console { text } = &wanted.check;
        let mut from = 0;
        loop {
            turn.check()?;
            // Its state first: what a machine says before it ends is read.
            let runs = compute
                .find(name)
                .await
                .map_err(of_compute(CODE))?
                .is_some_and(|m| m.state == State::Running);
            let late = self.0.clock.now() >= until;
            loop {
                let part = compute.console(name, from, PART).await.map_err(of_compute(CODE))?;
                if part.data.windows(text.len()).any(|window| window == text.as_bytes()) {
                    return Ok(Ok(()));
                }
                let end = part.offset + part.data.len() as u64;
                // It may have begun at the end of this part.
                from = from.max(end.saturating_sub(text.len() as u64 - 1));
                if end >= part.end {
                    break;
                }
            }
            if !runs {
                return Ok(Err(Unready::Stopped));
            }
            if late {
                return Ok(Err(Unready::Late));
            }
            tokio::select! {
                () = tokio::time::sleep(PERIOD) => {}
                () = turn.stop().cancelled() => {
                    return Err(Problem::new(Kind::Permanent, "CANCELLED", "the wait for the machine was cancelled"));
                }
            }
        }
    }
}

async fn describe(compute: &dyn Compute, name: &MachineName, wanted: &Wanted, unready: &Unready) -> String {
    let Check::Console { text } = &wanted.check;
    let what = match unready {
        Unready::Late => {
            format!("machine {name} did not say {text:?} on its console within {:?}", wanted.within)
        }
        Unready::Stopped => format!("machine {name} stopped before it said {text:?} on its console"),
    };
    match tail(compute, name).await.as_str() {
        "" => format!("{what}; its console is empty"),
        tail => format!("{what}; the end of its console: {tail}"),
    }
}

/// The last of what its console says, as plain text; empty where there is nothing.
pub(in crate::failover) async fn tail(compute: &dyn Compute, name: &MachineName) -> String {
    let Ok(end) = compute.console(name, 0, 1).await.map(|part| part.end) else { return String::new() };
    let most = usize::try_from(SHOWN).unwrap_or(PART);
    let Ok(part) = compute.console(name, end.saturating_sub(SHOWN), most).await else { return String::new() };
    let text = String::from_utf8_lossy(&part.data).replace('\r', "");
    text.chars().filter(|c| *c == '\n' || !c.is_control()).collect::<String>().trim().to_owned()
}
