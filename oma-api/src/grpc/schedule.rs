//! `ScheduleService`.

use super::migration::named;
use crate::schedule::{BlackoutRunning, RateSpec, Spec};
use crate::service::{App, ScheduleView};
use proto::v1;
use proto::v1::schedule_service_server::ScheduleService;
use shared::wire::refusal;
use tonic::{Code, Request, Response, Status};

/// Times of a preview that says no number.
const PREVIEWED: u32 = 10;

pub(super) struct Schedules(pub(super) App);

#[tonic::async_trait]
impl ScheduleService for Schedules {
    async fn set(
        &self,
        request: Request<v1::ScheduleServiceSetRequest>,
    ) -> Result<Response<v1::ScheduleServiceSetResponse>, Status> {
        let v1::ScheduleServiceSetRequest { vm, schedule } = request.into_inner();
        let spec = from_wire(schedule)?;
        let set = self.0.schedule_set(named(&vm)?, &spec).await.map_err(|e| e.to_status())?;
        Ok(Response::new(v1::ScheduleServiceSetResponse { state: Some(to_wire(set)) }))
    }

    async fn get(
        &self,
        request: Request<v1::ScheduleServiceGetRequest>,
    ) -> Result<Response<v1::ScheduleServiceGetResponse>, Status> {
        let vm = request.into_inner().vm;
        let found = self.0.schedule_find(named(&vm)?).await.map_err(|e| e.to_status())?;
        Ok(Response::new(v1::ScheduleServiceGetResponse { state: Some(to_wire(found)) }))
    }

    async fn delete(
        &self,
        request: Request<v1::ScheduleServiceDeleteRequest>,
    ) -> Result<Response<v1::ScheduleServiceDeleteResponse>, Status> {
        let vm = request.into_inner().vm;
        self.0.schedule_delete(named(&vm)?).await.map_err(|e| e.to_status())?;
        Ok(Response::new(v1::ScheduleServiceDeleteResponse {}))
    }

    async fn preview(
        &self,
        request: Request<v1::ScheduleServicePreviewRequest>,
    ) -> Result<Response<v1::ScheduleServicePreviewResponse>, Status> {
        let v1::ScheduleServicePreviewRequest { schedule, count } = request.into_inner();
        let spec = from_wire(schedule)?;
        // 0 is what was left out.
        let count = usize::try_from(if count == 0 { PREVIEWED } else { count }).unwrap_or(usize::MAX);
        let times = self.0.schedule_preview(&spec, count).map_err(|e| e.to_status())?;
        let times = times.iter().map(ToString::to_string).collect();
        Ok(Response::new(v1::ScheduleServicePreviewResponse { times }))
    }
}

/// What was left out is 0 or empty.
fn from_wire(schedule: Option<v1::Schedule>) -> Result<Spec, Status> {
    let invalid = |message: &str| refusal::status(Code::InvalidArgument, "INVALID_ARGUMENT", message);
    let schedule = schedule.ok_or_else(|| invalid("schedule: is missing"))?;
    let running = v1::BlackoutRunning::try_from(schedule.blackout_running).map_err(|_| {
        invalid("schedule.blackout_running: is none that this OMA knows; update it, or leave it out")
    })?;
    Ok(Spec {
        every_seconds: Some(schedule.every_seconds).filter(|seconds| *seconds > 0),
        cron: Some(schedule.cron).filter(|cron| !cron.is_empty()),
        time_zone: schedule.time_zone,
        blackout: schedule.blackout,
        blackout_running: match running {
            v1::BlackoutRunning::Unspecified | v1::BlackoutRunning::Finish => BlackoutRunning::Finish,
            v1::BlackoutRunning::Pause => BlackoutRunning::Pause,
        },
        rpo_seconds: Some(schedule.rpo_seconds).filter(|seconds| *seconds > 0),
        bandwidth: schedule
            .bandwidth
            .into_iter()
            .map(|w| RateSpec { window: w.window, rate_bytes_per_second: w.rate_bytes_per_second })
            .collect(),
    })
}

fn to_wire(view: ScheduleView) -> v1::ScheduleState {
    let ScheduleView { spec, set_at, next, text } = view;
    let bandwidth = spec.bandwidth.into_iter().map(|rate| v1::BandwidthWindow {
        window: rate.window,
        rate_bytes_per_second: rate.rate_bytes_per_second,
    });
    let schedule = v1::Schedule {
        every_seconds: spec.every_seconds.unwrap_or(0),
        cron: spec.cron.unwrap_or_default(),
        time_zone: spec.time_zone,
        blackout: spec.blackout,
        blackout_running: match spec.blackout_running {
            BlackoutRunning::Finish => v1::BlackoutRunning::Finish,
            BlackoutRunning::Pause => v1::BlackoutRunning::Pause,
        }
        .into(),
        rpo_seconds: spec.rpo_seconds.unwrap_or(0),
        bandwidth: bandwidth.collect(),
    };
    v1::ScheduleState {
        schedule: Some(schedule),
        set_at: set_at.to_string(),
        next_cycle_at: next.map(|at| at.to_string()).unwrap_or_default(),
        text,
    }
}
