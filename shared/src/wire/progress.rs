//! The progress API's updates and views ↔ the schema's messages.

use super::{Invalid, refusal};
use crate::progress::{
    Error, PhaseView, Registration, Seen, Status, Throughput, Timing, Update, View, VmInfo,
};
use futures::stream::unfold;
use futures::{Stream, StreamExt as _};
use proto::v1;
use std::pin::Pin;
use tokio_util::sync::CancellationToken;
use tonic::Code;

impl From<v1::RegisterRequest> for Registration {
    fn from(request: v1::RegisterRequest) -> Self {
        let unsaid = Self::default();
        let or = |said: String, unsaid: String| if said.is_empty() { unsaid } else { said };
        Self {
            sync_type: or(request.sync_type, unsaid.sync_type),
            vm_name: or(request.vm_name, unsaid.vm_name),
            vm_path: or(request.vm_path, unsaid.vm_path),
            total_bytes: request.total_bytes,
            cbt_enabled: request.cbt_enabled,
        }
    }
}

impl TryFrom<v1::UpdateRequest> for Update {
    type Error = Invalid;

    fn try_from(request: v1::UpdateRequest) -> Result<Self, Invalid> {
        let status = v1::ProgressStatus::try_from(request.status)
            .map_err(|_| Invalid::new("status", format!("has no value {}", request.status)))?;
        Ok(Self {
            status: match status {
                v1::ProgressStatus::Unspecified => None,
                v1::ProgressStatus::Queued => Some(Status::Queued),
                v1::ProgressStatus::Running => Some(Status::Running),
                v1::ProgressStatus::Completed => Some(Status::Completed),
                v1::ProgressStatus::Failed => Some(Status::Failed),
            },
            stage: request.stage,
            bytes_transferred: request.bytes_transferred,
            total_bytes: request.total_bytes,
            throughput_bps: request.throughput_bps,
            percent: request.percent,
            disk_id: request.disk_id,
        })
    }
}

fn status_to_wire(status: Status) -> i32 {
    match status {
        Status::Queued => v1::ProgressStatus::Queued,
        Status::Running => v1::ProgressStatus::Running,
        Status::Completed => v1::ProgressStatus::Completed,
        Status::Failed => v1::ProgressStatus::Failed,
    }
    .into()
}

impl From<View> for v1::Progress {
    fn from(view: View) -> Self {
        let Throughput { current_mbps, average_mbps, peak_mbps, last_update } = view.throughput;
        let throughput = v1::ProgressThroughput { current_mbps, average_mbps, peak_mbps, last_update };
        let Timing { start_time, last_update, elapsed_ms, phase_start, phase_elapsed_ms, eta_seconds } =
            view.timing;
        let timing = v1::ProgressTiming {
            start_time,
            last_update,
            elapsed_ms,
            phase_start,
            phase_elapsed_ms,
            eta_seconds,
        };
        let VmInfo { name, path, disk_size_gb, disk_size_bytes, cbt_enabled } = view.vm_info;
        let vm_info = v1::ProgressVmInfo { name, path, disk_size_gb, disk_size_bytes, cbt_enabled };
        Self {
            job_id: view.job_id,
            status: status_to_wire(view.status),
            sync_type: view.sync_type,
            phase: view.phase,
            percentage: view.percentage,
            current_operation: view.current_operation,
            bytes_transferred: view.bytes_transferred,
            total_bytes: view.total_bytes,
            throughput: Some(throughput),
            timing: Some(timing),
            vm_info: Some(vm_info),
            phases: view.phases.into_iter().map(Into::into).collect(),
            errors: view.errors,
            last_error: view.last_error.unwrap_or_default(),
        }
    }
}

impl From<PhaseView> for v1::ProgressPhase {
    fn from(phase: PhaseView) -> Self {
        let PhaseView { name, status, start_time, end_time, duration_ms } = phase;
        Self { name, status: status_to_wire(status), start_time, end_time, duration_ms }
    }
}

impl From<Seen> for v1::ProgressServiceWatchResponse {
    fn from(Seen { sequence, view }: Seen) -> Self {
        Self { sequence, progress: Some(view.into()) }
    }
}

/// What a watch answers with.
pub type WatchAnswers =
    Pin<Box<dyn Stream<Item = Result<v1::ProgressServiceWatchResponse, tonic::Status>> + Send>>;

/// A watch's states as messages. Cut short by `shutdown` it ends with an error: only the end of the job is a good end.
pub fn watch_answers(
    seen: impl Stream<Item = Result<Seen, tonic::Status>> + Send + 'static,
    shutdown: CancellationToken,
) -> WatchAnswers {
    let going_on = Some(Box::pin(seen));
    Box::pin(unfold((going_on, shutdown), async |(seen, shutdown)| {
        let mut seen = seen?;
        tokio::select! {
            next = seen.next() => Some((next?.map(Into::into), (Some(seen), shutdown))),
            () = shutdown.cancelled() => {
                let why = "the daemon is being stopped: watch again when it is back";
                Some((Err(refusal::status(Code::Unavailable, "SHUTTING_DOWN", why)), (None, shutdown)))
            }
        }
    }))
}

/// What the register refuses.
pub fn progress_refused(job: &str, error: &Error) -> tonic::Status {
    match error {
        Error::NotFound => refusal::status(
            Code::NotFound,
            "JOB_NOT_FOUND",
            format!("job {job} not found: nobody registered it, or it ended more than an hour ago"),
        ),
        Error::Invalid(why) => refusal::status(Code::InvalidArgument, "INVALID_PROGRESS_DATA", why.clone()),
        Error::Full => refusal::status(Code::ResourceExhausted, "TOO_MANY_JOBS", error.to_string()),
        Error::Ended(_) => refusal::status(Code::FailedPrecondition, "JOB_ENDED", format!("{job}: {error}")),
        Error::NotYours => {
            refusal::status(Code::FailedPrecondition, "JOBS_ARE_THE_AGENTS", format!("{job}: {error}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_engine_leaves_out_is_as_over_http() {
        let said = v1::RegisterRequest { vm_name: "web".to_owned(), ..Default::default() };
        let told: Registration = serde_json::from_str(r#"{"vm_name": "web"}"#).expect("a registration");
        assert_eq!(Registration::from(said), told);
        let said =
            v1::UpdateRequest { stage: "Transfer".to_owned(), bytes_transferred: 5, ..Default::default() };
        let told: Update =
            serde_json::from_str(r#"{"stage": "Transfer", "bytes_transferred": 5}"#).expect("an update");
        assert_eq!(Update::try_from(said.clone()), Ok(told));
        let newer = v1::UpdateRequest { status: 99, ..said };
        assert_eq!(Update::try_from(newer), Err(Invalid::new("status", "has no value 99")));
    }

    #[test]
    fn a_view_is_the_same_over_grpc() {
        use crate::progress::Register;
        let register = Register::default();
        let now = "2026-11-21T10:00:00Z".parse().expect("a time");
        register.register("job-1", &Registration::default(), now).expect("registered");
        let body = r#"{"stage": "Convert", "status": "Queued", "bytes_transferred": 3, "total_bytes": 12}"#;
        register.update("job-1", &serde_json::from_str(body).expect("an update"), now).expect("taken");
        let wire = v1::Progress::from(register.view("job-1", now).expect("there"));
        let queued: i32 = v1::ProgressStatus::Queued.into();
        assert_eq!((wire.status, wire.percentage, wire.last_error.as_str()), (queued, 25.0, ""));
        let phase = v1::ProgressPhase {
            name: "Convert".to_owned(),
            status: queued,
            start_time: "2026-11-21T10:00:00Z".to_owned(),
            end_time: String::new(),
            duration_ms: 0,
        };
        assert_eq!(wire.phases, [phase]);
        register.complain("job-1", "the source went away", now).expect("taken");
        let wire = v1::Progress::from(register.view("job-1", now).expect("there"));
        assert_eq!((wire.last_error.as_str(), wire.errors.len()), ("the source went away", 1));
    }

    #[test]
    fn a_refusal_says_whether_saying_it_again_helps() {
        for (error, code, word) in [
            (Error::NotFound, Code::NotFound, "job-1"),
            (Error::Ended(Status::Completed), Code::FailedPrecondition, "ended as Completed"),
            (Error::NotYours, Code::FailedPrecondition, "choose another id"),
            (Error::Full, Code::ResourceExhausted, "outside engines"),
        ] {
            let refused = progress_refused("job-1", &error);
            assert_eq!(refused.code(), code);
            assert!(refused.message().contains(word), "{}", refused.message());
        }
    }
}
