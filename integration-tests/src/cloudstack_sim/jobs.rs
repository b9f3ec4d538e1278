//! Asynchronous jobs: one at a time for each machine, in no given order, each taking its time.
//!
//! A job is in the state from its submission on. What is pending when the process ends has failed when the next one
//! starts: status 2, code 530, no result.

use super::call::{Begun, Call, Caller, now};
use super::fault::What;
use super::params::Params;
use super::refusal::Refusal;
use super::state::{Job, State};
use super::{Order, Sim, commands, list};
use rand::seq::IndexedRandom as _;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Starts what may run until the simulator ends.
pub(super) async fn run(sim: Arc<Sim>, ended: CancellationToken) {
    loop {
        for job in sim.take_ready() {
            let (sim, ended) = (Arc::clone(&sim), ended.clone());
            tokio::spawn(async move {
                let time = sim.switches().job_time;
                tokio::select! {
                    () = tokio::time::sleep(time) => {}
                    () = ended.cancelled() => return,
                }
                let on = Arc::clone(&sim);
                let queue = job.queue.clone();
                if let Err(error) = tokio::task::spawn_blocking(move || on.perform(&job)).await {
                    tracing::error!(%error, "a job panicked");
                }
                sim.switches().running.remove(&queue);
                sim.wake.notify_one();
            });
        }
        tokio::select! {
            () = sim.wake.notified() => {}
            () = ended.cancelled() => return,
        }
    }
}

impl Sim {
    /// Puts a job into its queue, and gives the answer to the command.
    pub(super) fn submit(&self, call: &Call<'_>, begun: Begun, fault: Option<What>) -> Value {
        let id = super::call::new_id();
        let mut answer = json!({"jobid": id});
        if let Some(made) = &begun.made {
            answer["id"] = json!(made);
        }
        self.change(|state| {
            let job = Job {
                id: id.clone(),
                number: state.next_number(),
                command: call.command.to_owned(),
                params: call.params.0.clone(),
                account: call.caller.account.clone(),
                queue: begun.queue.unwrap_or_else(|| id.clone()),
                instance: begun.instance,
                status: 0,
                code: 0,
                result: None,
                created: now(),
                completed: None,
                interrupted: false,
                fault,
            };
            state.jobs.push(job);
            state.forget_old();
        });
        self.wake.notify_one();
        answer
    }

    /// One job for each queue that nothing runs of.
    fn take_ready(&self) -> Vec<Job> {
        let mut waiting: BTreeMap<String, Vec<Job>> = BTreeMap::new();
        self.read(|state| {
            for job in state.jobs.iter().filter(|job| job.status == 0) {
                waiting.entry(job.queue.clone()).or_default().push(job.clone());
            }
        });
        let mut switches = self.switches();
        waiting.retain(|queue, _| !switches.running.contains(queue));
        let ready = waiting.into_values().filter_map(|jobs| match switches.order {
            Order::Submission => jobs.into_iter().next(),
            Order::Any => jobs.choose(&mut rand::rng()).cloned(),
        });
        let ready: Vec<_> = ready.collect();
        switches.running.extend(ready.iter().map(|job| job.queue.clone()));
        ready
    }

    fn perform(&self, job: &Job) {
        let known = self.accounts.iter().find(|account| account.caller.account == job.account);
        let Some(caller) = known.map(|account| account.caller.clone()) else { return };
        let done = match &job.fault {
            Some(What::JobFail { code, text }) => Err(Refusal::new(*code, 4250, text.clone())),
            Some(What::Capacity) => Err(Refusal::capacity("Insufficient capacity: no host has room for it")),
            _ => {
                let (params, fault) = (Params(job.params.clone()), job.fault.clone());
                let (command, id) = (job.command.as_str(), Some(job.id.clone()));
                commands::perform(&Call { sim: self, command, params, caller, job: id, fault })
            }
        };
        self.change(|state| finish(state, job, done));
    }
}

fn finish(state: &mut State, job: &Job, done: Result<Value, Refusal>) {
    let Some(own) = state.job_mut(&job.id) else { return };
    own.completed = Some(now());
    let done = match &job.fault {
        Some(What::FailedThoughDone) => {
            done.and_then(|_| Err(Refusal::runtime("the job's answer was lost: what it was to do is done")))
        }
        _ => done,
    };
    match done {
        _ if job.fault == Some(What::NoResult) => {
            (own.status, own.code, own.interrupted) = (2, 530, true);
        }
        Ok(result) => {
            own.status = 1;
            let has_job = job.command != "migrateVolume";
            own.result = Some(if has_job { with_job(result, &job.id) } else { result });
        }
        Err(refusal) => {
            (own.status, own.code) = (2, refusal.code);
            own.result = Some(refusal.of_job());
        }
    }
}

/// The object inside a result carries the job that made it, as if it were pending.
fn with_job(mut result: Value, id: &str) -> Value {
    for kind in ["virtualmachine", "volume"] {
        if let Some(object) = result.get_mut(kind).filter(|object| object.get("id").is_some()) {
            object["jobid"] = json!(id);
            object["jobstatus"] = json!(0);
        }
    }
    result
}

/// What a job is pending on shows the job.
pub(super) fn on_its_way(state: &State, id: &str, mut shown: Value) -> Value {
    let on = |job: &&Job| job.status == 0 && job.instance.as_ref().is_some_and(|(_, own)| own == id);
    if let Some(job) = state.jobs.iter().find(on) {
        shown["jobid"] = json!(job.id);
        shown["jobstatus"] = json!(0);
    }
    shown
}

/// As `queryAsyncJobResult` and `listAsyncJobs` show it.
fn view(sim: &Sim, job: &Job, caller: &Caller) -> Value {
    let domain = sim.world.all("domain").first();
    let domain = domain.map(|domain| (domain["id"].clone(), domain["path"].clone())).unwrap_or_default();
    let mut shown = json!({
        "accountid": caller.account_id, "account": job.account, "domainid": domain.0, "domainpath": domain.1,
        "userid": caller.user_id, "cmd": commands::java_class(&job.command), "jobprocstatus": 0,
        "jobresultcode": job.code, "created": job.created, "jobid": job.id, "jobstatus": job.status,
    });
    if let Some((kind, id)) = &job.instance {
        shown["jobinstancetype"] = json!(kind);
        // One that has moved a volume forgets which.
        if job.command != "migrateVolume" || job.status != 1 {
            shown["jobinstanceid"] = json!(id);
        }
    }
    if let Some(result) = &job.result {
        shown["jobresulttype"] = json!("object");
        shown["jobresult"] = result.clone();
    }
    if let Some(completed) = &job.completed {
        shown["completed"] = json!(completed);
    }
    if job.status == 0 || job.interrupted {
        shown["managementserverid"] = json!("28be3150-d6d9-4007-91ee-868f45db946c");
        shown["managementservername"] = json!("localhost");
    }
    shown
}

/// `queryAsyncJobResult`.
pub(super) fn query(call: &Call<'_>) -> Result<Value, Refusal> {
    let id = call.params.required("jobid");
    let job = call.sim.read(|state| state.job(id).cloned());
    let job = job.ok_or_else(|| Refusal::parameter(format!("no job {id}")))?;
    if !call.caller.is_admin && job.account != call.caller.account {
        let Caller { account, account_id, .. } = &call.caller;
        let text = format!(
            "Account Account [{{\"accountName\":\"{account}\",\"uuid\":\"{account_id}\"}}] is not authorized to see job \
             id={}",
            job.number
        );
        return Err(Refusal::permission(text));
    }
    Ok(view(call.sim, &job, &call.caller))
}

/// `listAsyncJobs`: pending ones only.
pub(super) fn list_pending(call: &Call<'_>) -> Result<Value, Refusal> {
    let mine = |job: &&Job| job.account == call.caller.account || call.caller.is_admin;
    let jobs = call.sim.read(|state| {
        let pending = state.jobs.iter().filter(|job| job.status == 0).filter(mine);
        pending.cloned().collect::<Vec<_>>()
    });
    let shown = jobs.iter().map(|job| view(call.sim, job, &call.caller)).collect();
    list::page(call, "asyncjobs", shown)
}
