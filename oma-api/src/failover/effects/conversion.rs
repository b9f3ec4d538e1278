//! The guest on the clones, made able to run on virtio.

use super::{Hands, disk, of_storage, plan, point};
use crate::conversion::{self, Disk, Outcome};
use crate::failover::{Plan, names};
use crate::workflow::{Effect, Job, Kind, Problem, Step, Turn};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::Arc;

const CODE: &str = "VIRTIO_FAILED";

/// Lines of the log that a failure shows.
const SHOWN: usize = 20;

/// It runs on virtio, or nobody could tell.
pub(crate) struct Convert(pub(crate) Arc<Hands>);

#[async_trait::async_trait]
impl Effect for Convert {
    fn name(&self, job: &Job) -> Option<String> {
        plan(job).ok().map(|plan| plan.name)
    }

    /// A conversion that was cut short leaves clones that look converted: it is begun again, on new ones.
    async fn look_up(&self, _: Turn<'_>) -> Result<Option<Value>, Problem> {
        Ok(None)
    }

    async fn act(&self, turn: Turn<'_>) -> Result<Value, Problem> {
        let plan = plan(turn.job)?;
        let converter = self.0.converter()?;
        if turn.step.attempts > 1 {
            self.renew(&plan, &turn).await?;
        }
        let mut disks = Vec::new();
        for n in 0..plan.disks.len() {
            let (_, clone) = disk(&plan, n)?;
            disks.push(Disk { path: self.0.storage.path(&clone).await.map_err(of_storage(CODE))? });
        }
        let log = self.log(&plan).await?;
        turn.check()?;
        match converter.converter.convert(&disks, &log, turn.stop()).await {
            Ok(outcome) => Ok(told(&outcome)),
            Err(error) => Err(problem(&error)),
        }
    }

    /// What it wrote goes with the clones.
    async fn undo(&self, _: Turn<'_>) -> Result<(), Problem> {
        Ok(())
    }
}

impl Convert {
    /// The clones as they were made: from their own snapshot where there is one, else from the restore point.
    async fn renew(&self, plan: &Plan, turn: &Turn<'_>) -> Result<(), Problem> {
        let storage = &self.0.storage;
        let protected = turn.job.steps.iter().any(|s: &Step| s.plan.name == "snapshot");
        for n in 0..plan.disks.len() {
            let (planned, clone) = disk(plan, n)?;
            turn.check()?;
            if let Some(opener) = storage.opener(&clone).await.map_err(of_storage(CODE))? {
                let why = format!(
                    "an earlier conversion still has volume {clone} open ({opener}): wait for its end, or end it"
                );
                return Err(Problem::new(Kind::Transient, "VOLUME_IN_USE", why));
            }
            if protected {
                storage.reset(&clone, &names::snapshot(&plan.name)).await.map_err(of_storage(CODE))?;
            } else {
                storage.delete(&clone).await.map_err(of_storage(CODE))?;
                let (snapshot, from) = (point(turn.job, plan)?, super::volume(&planned.volume)?);
                storage.clone_snapshot(&snapshot, &from, &clone).await.map_err(of_storage(CODE))?;
            }
        }
        Ok(())
    }

    async fn log(&self, plan: &Plan) -> Result<PathBuf, Problem> {
        let logs = &self.0.converter()?.logs;
        let made = tokio::fs::create_dir_all(logs).await;
        made.map_err(|error| {
            let why =
                format!("the folder {} for logs of conversions cannot be made: {error}", logs.display());
            Problem::new(Kind::Transient, CODE, why)
        })?;
        Ok(logs.join(format!("{}.log", plan.name)))
    }
}

/// For the journal; a warning where nobody could tell.
fn told(outcome: &Outcome) -> Value {
    let mut told = json!({ "outcome": outcome });
    if let Outcome::NotRecognised(guest) = outcome {
        told["warning"] = json!(format!("{guest} was not converted: {}", guest.virtio));
    }
    told
}

fn problem(error: &conversion::Error) -> Problem {
    let tail = error.log_tail();
    let tail = tail[tail.len().saturating_sub(SHOWN)..].join("\n");
    let mut why = shared::error::chain(error);
    if !tail.is_empty() {
        why = format!("{why}; the end of its log: {tail}");
    }
    Problem::new(Kind::Permanent, error.code(), why)
}
