//! `FailoverService`.

mod live;
mod report;
mod view;

use super::access::caller_of;
use crate::failover::request::{Checks, HttpAsked, Invalid, Ready, Weight};
use crate::failover::{FailoverView, Request as Asked};
use crate::service::App;
use crate::service::failovers::{FailoverFilter, Refused};
use crate::workflow::Ask;
use futures::StreamExt as _;
use futures::stream::{BoxStream, unfold};
use proto::v1;
use proto::v1::failover_service_server::FailoverService;
use serde_json::{Map, Value};
use shared::wire::refusal;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Response, Status};
use view::to_wire;

pub(super) struct Failovers {
    pub(super) app: App,
    pub(super) shutdown: CancellationToken,
}

#[tonic::async_trait]
impl FailoverService for Failovers {
    type WatchStream = BoxStream<'static, Result<v1::FailoverServiceWatchResponse, Status>>;

    async fn start_test(
        &self,
        request: Request<v1::FailoverServiceStartTestRequest>,
    ) -> Result<Response<v1::FailoverServiceStartTestResponse>, Status> {
        let caller = caller_of(request.extensions())?;
        let asked = asked(request.into_inner())?;
        let begun = self.app.failover_test(&caller, &asked).await.map_err(|e| e.to_status())?;
        Ok(Response::new(v1::FailoverServiceStartTestResponse { failover: Some(to_wire(&begun)) }))
    }

    async fn start_live(
        &self,
        request: Request<v1::FailoverServiceStartLiveRequest>,
    ) -> Result<Response<v1::FailoverServiceStartLiveResponse>, Status> {
        let caller = caller_of(request.extensions())?;
        let asked = live::asked(request.into_inner())?;
        let begun = self.app.failover_live(&caller, &asked).await.map_err(|e| e.to_status())?;
        Ok(Response::new(v1::FailoverServiceStartLiveResponse { failover: Some(to_wire(&begun)) }))
    }

    async fn rollback(
        &self,
        request: Request<v1::FailoverServiceRollbackRequest>,
    ) -> Result<Response<v1::FailoverServiceRollbackResponse>, Status> {
        let caller = caller_of(request.extensions())?;
        let job = request.into_inner().job_id;
        let back = self.app.failover_rollback(&caller, &job).await.map_err(|e| e.to_status())?;
        Ok(Response::new(v1::FailoverServiceRollbackResponse { failover: Some(to_wire(&back)) }))
    }

    async fn commit(
        &self,
        request: Request<v1::FailoverServiceCommitRequest>,
    ) -> Result<Response<v1::FailoverServiceCommitResponse>, Status> {
        let caller = caller_of(request.extensions())?;
        let job = request.into_inner().job_id;
        let committed = self.app.failover_commit(&caller, &job).await.map_err(|e| e.to_status())?;
        Ok(Response::new(v1::FailoverServiceCommitResponse { failover: Some(to_wire(&committed)) }))
    }

    async fn cleanup(
        &self,
        request: Request<v1::FailoverServiceCleanupRequest>,
    ) -> Result<Response<v1::FailoverServiceCleanupResponse>, Status> {
        let caller = caller_of(request.extensions())?;
        let job = request.into_inner().job_id;
        let cleaned = self.app.failover_cleanup(&caller, &job).await.map_err(|e| e.to_status())?;
        Ok(Response::new(v1::FailoverServiceCleanupResponse { failover: Some(to_wire(&cleaned)) }))
    }

    async fn get(
        &self,
        request: Request<v1::FailoverServiceGetRequest>,
    ) -> Result<Response<v1::FailoverServiceGetResponse>, Status> {
        let job = request.into_inner().job_id;
        let found = self.app.failover_find(&job).await.map_err(|e| e.to_status())?;
        Ok(Response::new(v1::FailoverServiceGetResponse { failover: Some(to_wire(&found)) }))
    }

    async fn list(
        &self,
        request: Request<v1::FailoverServiceListRequest>,
    ) -> Result<Response<v1::FailoverServiceListResponse>, Status> {
        let v1::FailoverServiceListRequest { status, r#type, vm_id, limit, before } = request.into_inner();
        // 0 is what was left out.
        let limit = Some(limit).filter(|limit| *limit > 0);
        let filter = FailoverFilter { status, kind: r#type, vm: vm_id, before, limit };
        let page = self.app.failover_list(&filter).await.map_err(|e| e.to_status())?;
        Ok(Response::new(v1::FailoverServiceListResponse {
            failovers: page.failovers.iter().map(to_wire).collect(),
            total: page.total,
            next_before: page.next_before.map(|id| id.to_string()).unwrap_or_default(),
        }))
    }

    async fn watch(
        &self,
        request: Request<v1::FailoverServiceWatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let job = request.into_inner().job_id;
        let states = self.app.failover_watch(&job).await.map_err(|e| e.to_status())?;
        let answers = unfold(Some((states, None)), next).map(Ok);
        let answers = answers.take_until(self.shutdown.clone().cancelled_owned());
        Ok(Response::new(answers.boxed()))
    }

    async fn ask(
        &self,
        request: Request<v1::FailoverServiceAskRequest>,
    ) -> Result<Response<v1::FailoverServiceAskResponse>, Status> {
        let caller = caller_of(request.extensions())?;
        let request = request.into_inner();
        let ask = action(request.action, request.reason)?;
        let asked = self.app.failover_ask(&caller, &request.job_id, &ask).await.map_err(|e| e.to_status())?;
        Ok(Response::new(v1::FailoverServiceAskResponse { failover: Some(to_wire(&asked)) }))
    }

    async fn console(
        &self,
        request: Request<v1::FailoverServiceConsoleRequest>,
    ) -> Result<Response<v1::FailoverServiceConsoleResponse>, Status> {
        let v1::FailoverServiceConsoleRequest { job_id, offset } = request.into_inner();
        let part = self.app.failover_console(&job_id, offset).await.map_err(|e| e.to_status())?;
        Ok(Response::new(v1::FailoverServiceConsoleResponse {
            offset: part.offset,
            data: part.data.into(),
            end: part.end,
        }))
    }

    async fn report(
        &self,
        request: Request<v1::FailoverServiceReportRequest>,
    ) -> Result<Response<v1::FailoverServiceReportResponse>, Status> {
        report::report(&self.app, request.into_inner()).await.map(Response::new)
    }
}

/// Where a watch is: what it follows, and the number that it said last. `None`: the last state was said.
type Following = Option<(watch::Receiver<FailoverView>, Option<u64>)>;

/// The state as it is now, once for each number; whoever is slow gets the latest.
async fn next(following: Following) -> Option<(v1::FailoverServiceWatchResponse, Following)> {
    let (mut states, said) = following?;
    loop {
        let view = states.borrow_and_update().clone();
        let sequence = view.sequence();
        // A lease that goes on living is no change of the failover.
        if said != Some(sequence) {
            let answer = v1::FailoverServiceWatchResponse { sequence, failover: Some(to_wire(&view)) };
            return Some((answer, (!view.has_ended()).then_some((states, Some(sequence)))));
        }
        states.changed().await.ok()?;
    }
}

fn invalid(field: &'static str, why: impl Into<String>) -> Status {
    let why = Refused::Invalid(Invalid { field, why: why.into() });
    crate::service::Error::from(why).to_status()
}

fn said(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

/// What was left out is empty.
fn asked(request: v1::FailoverServiceStartTestRequest) -> Result<Asked, Status> {
    Ok(Asked {
        vm_id: request.vm_id,
        vm_name: request.vm_name,
        restore_point: said(request.restore_point),
        auto_cleanup: request.auto_cleanup,
        test_duration: said(request.test_duration),
        skip_validation: request.skip_validation,
        skip_snapshot: request.skip_snapshot,
        skip_virtio_injection: request.skip_virtio_injection,
        network_mappings: request.network_mappings.into_iter().collect(),
        custom_config: object("custom_config", request.custom_config)?,
        notification_config: None,
        live: None,
        ready: request.wait_for_ready.map(ready).transpose()?,
    })
}

/// Empty is none.
fn object(field: &'static str, text: String) -> Result<Option<Map<String, Value>>, Status> {
    let Some(text) = said(text) else { return Ok(None) };
    match serde_json::from_str(&text) {
        Ok(Value::Object(object)) => Ok(Some(object)),
        Ok(_) => Err(invalid(field, "is JSON, but no object")),
        Err(error) => Err(invalid(field, format!("is no JSON object: {error}"))),
    }
}

fn ready(wanted: v1::FailoverReady) -> Result<Ready, Status> {
    let v1::FailoverReady { console, timeout, required, tcp_port, http, guest_agent } = wanted;
    let said = |text: String| Some(text).filter(|text| !text.is_empty());
    let number = |n| Some(n).filter(|n| *n > 0);
    let http = http.map(|v1::FailoverHttp { port, path, status, text }| HttpAsked {
        port: number(port),
        path: said(path),
        status: number(status),
        text: said(text),
    });
    let checks = Checks { console: said(console), tcp_port: number(tcp_port), http, guest_agent };
    let weight = if required { Weight::Required } else { Weight::Advisory };
    Ready::new(checks, said(timeout).as_deref(), weight).map_err(|wrong| invalid(wrong.field, wrong.why))
}

fn action(action: i32, why: String) -> Result<Ask, Status> {
    use v1::FailoverAction as A;
    let unusable = |why| refusal::status(Code::InvalidArgument, "INVALID_REQUEST", why);
    match A::try_from(action) {
        Ok(A::Pause) => Ok(Ask::Pause),
        Ok(A::Resume) => Ok(Ask::Resume),
        Ok(A::Cancel) => Ok(Ask::Cancel),
        Ok(A::Approve) => Ok(Ask::Approve),
        Ok(A::Retry) => Ok(Ask::Retry),
        Ok(A::Skip) => Ok(Ask::Skip { why }),
        Ok(A::RollForward) => Ok(Ask::RollForward),
        Ok(A::Unspecified) => Err(unusable("action: is missing")),
        Err(_) => Err(unusable("action: is none that this OMA knows; update it")),
    }
}

#[cfg(test)]
mod tests;
