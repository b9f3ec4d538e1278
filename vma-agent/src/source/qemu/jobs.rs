//! QEMU's jobs. Ours is one kind: those that create the file of a scratch image.
//!
//! While a job creates a *qcow2 image* nobody may ask for the block nodes: QEMU 7.2 finds the image half made and
//! aborts, and takes the guest with it (`qcow2_get_specific_info: Assertion`). We start no such job, but a management
//! layer may for a backup of its own, so [`none_creates`] comes before every look at the graph.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::qmp::{Error, Session};

/// The longest wait for a job to conclude. Creating an empty image takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(30);

/// Time between two looks.
const PAUSE: Duration = Duration::from_millis(5);

#[derive(Deserialize)]
struct Job {
    id: String,
    #[serde(rename = "type")]
    kind: String,
    status: String,
    error: Option<String>,
}

impl Job {
    fn has_ended(&self) -> bool {
        matches!(self.status.as_str(), "concluded" | "null")
    }
}

/// Creates a file by QEMU itself, so that it is QEMU's to write to.
pub(super) async fn create(session: &mut Session, id: &str, options: Value) -> Result<(), Error> {
    session.run("blockdev-create", json!({ "job-id": id, "options": options })).await?;
    match dismiss(session, id).await? {
        None => Ok(()),
        Some(description) => {
            Err(Error::Refused { command: "blockdev-create", class: "JobFailed".to_owned(), description })
        }
    }
}

/// Waits until the job has concluded, if there is one, and removes it. Returns why it failed, where it did.
pub(super) async fn dismiss(session: &mut Session, id: &str) -> Result<Option<String>, Error> {
    let running = |job: &Job| job.id == id && !job.has_ended();
    let jobs = wait_while_any(session, running).await?;
    let Some(job) = jobs.into_iter().find(|job| job.id == id) else { return Ok(None) };
    session.run("job-dismiss", json!({ "id": id })).await?;
    Ok(job.error)
}

/// Waits until no image is being created, by whomever.
pub(super) async fn none_creates(session: &mut Session) -> Result<(), Error> {
    wait_while_any(session, |job| job.kind == "create" && !job.has_ended()).await.map(|_| ())
}

/// The jobs there are, once none of them is one to wait for.
async fn wait_while_any(session: &mut Session, busy: impl Fn(&Job) -> bool) -> Result<Vec<Job>, Error> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let jobs: Vec<Job> = session.execute("query-jobs", json!({})).await?;
        match jobs.iter().find(|job| busy(job)) {
            None => return Ok(jobs),
            Some(job) if Instant::now() >= deadline => {
                return Err(Error::Unfinished { job: job.id.clone(), after: PATIENCE });
            }
            Some(_) => sleep(PAUSE).await,
        }
    }
}
