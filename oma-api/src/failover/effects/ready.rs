//! Whether the machine works: waited for, never longer than was said, a restart of the control plane included.
//!
//! Here is how long, and what follows; `look` looks once, whatever the check is.

mod http;
mod look;
#[cfg(test)]
mod tests;

use super::{Hands, machine_name, of_compute, plan};
use crate::compute::{Compute, MachineName, State};
use crate::failover::request::{Ready as Wanted, Weight};
use crate::workflow::{Effect, Job, Kind, Problem, Turn};
use jiff::Timestamp;
use look::{Looks, Seen};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tracing::warn;

const CODE: &str = "VM_NOT_READY";

/// Between looks.
const PERIOD: Duration = Duration::from_millis(250);

/// Bytes of the console that a failure shows.
const SHOWN: u64 = 2 << 10;

/// It shows what was said that it would.
pub(crate) struct Ready(pub(crate) Arc<Hands>);

/// Why it was not; with what was seen last instead, where there is more to say.
enum Unready {
    Late(Option<String>),
    Stopped,
    /// It cannot ever be.
    NoCard,
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
        // From when it was first waited for; anew where somebody asks for that.
        let until = turn.step.started_at.unwrap_or_else(|| self.0.clock.now()) + wanted.within;
        let waited = tokio::select! {
            waited = self.wait(compute, &name, wanted, until, &turn) => waited?,
            // In the middle of a look, too.
            () = turn.stop().cancelled() => {
                return Err(Problem::new(Kind::Permanent, "CANCELLED", "the wait for the machine was cancelled"));
            }
        };
        let Err(unready) = waited else { return Ok(json!({ "ready": true })) };
        let why = describe(compute, &name, wanted, &unready).await;
        match wanted.weight {
            Weight::Required => Err(Problem::new(Kind::Permanent, CODE, why)),
            Weight::Advisory => {
                warn!(machine = %name, why, "a machine is not ready; its failover goes on");
                Ok(json!({ "ready": false, "warning": why }))
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
        let mut looks = Looks::new(compute, name, &wanted.check);
        let mut seen = None;
        loop {
            turn.check()?;
            // Its state first: what a machine says before it ends is read.
            let machine = compute.find(name).await.map_err(of_compute(CODE))?;
            let left = Duration::try_from(until.duration_since(self.0.clock.now())).unwrap_or_default();
            match looks.once(left).await.map_err(of_compute(CODE))? {
                Seen::Ready => return Ok(Ok(())),
                Seen::Not(instead) => seen = instead.or(seen),
            }
            let Some(machine) = machine.filter(|m| m.state == State::Running) else {
                return Ok(Err(Unready::Stopped));
            };
            if looks.by_network() && machine.cards == 0 {
                return Ok(Err(Unready::NoCard));
            }
            if left.is_zero() {
                return Ok(Err(Unready::Late(seen)));
            }
            tokio::time::sleep(PERIOD).await;
        }
    }
}

async fn describe(compute: &dyn Compute, name: &MachineName, wanted: &Wanted, unready: &Unready) -> String {
    let Wanted { check, within, .. } = wanted;
    let what = match unready {
        Unready::Late(None) => format!("machine {name} did not show {check} within {within:?}"),
        Unready::Late(Some(seen)) => {
            format!("machine {name} did not show {check} within {within:?} ({seen})")
        }
        Unready::Stopped => format!("machine {name} stopped before it showed {check}"),
        Unready::NoCard => format!("machine {name} cannot show {check}: it has no network card"),
    };
    match tail(compute, name).await.as_str() {
        "" => format!("{what}; its console is empty"),
        tail => format!("{what}; the end of its console: {tail}"),
    }
}

/// The last of what its console says, as plain text; empty where there is nothing.
pub(in crate::failover) async fn tail(compute: &dyn Compute, name: &MachineName) -> String {
    let Ok(end) = compute.console(name, 0, 1).await.map(|part| part.end) else { return String::new() };
    let most = usize::try_from(SHOWN).unwrap_or(usize::MAX);
    let Ok(part) = compute.console(name, end.saturating_sub(SHOWN), most).await else { return String::new() };
    let text = String::from_utf8_lossy(&part.data).replace('\r', "");
    text.chars().filter(|c| *c == '\n' || !c.is_control()).collect::<String>().trim().to_owned()
}
