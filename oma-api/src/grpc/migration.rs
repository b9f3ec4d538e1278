//! `MigrationService`.

use super::view;
use crate::service::App;
use crate::service::verify::{VerifyEvent, VerifySummary};
use crate::store::Which;
use proto::v1;
use proto::v1::migration_service_server::MigrationService;
use proto::v1::verify_response::Kind as Said;
use shared::wire::{action_from_wire, refusal};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Response, Status};

/// A watch says something at least this often.
const WATCH_PERIOD: Duration = Duration::from_secs(30);

/// States are not sent faster than this: enough for a bar.
const WATCH_PACE: Duration = Duration::from_millis(200);

pub(super) struct Migrations {
    pub(super) app: App,
    pub(super) shutdown: CancellationToken,
}

fn named(vm: &str) -> Result<&str, Status> {
    match vm.is_empty() {
        true => Err(refusal::status(
            Code::InvalidArgument,
            "INVALID_ARGUMENT",
            "vm: is missing (uuid, name or migration id)",
        )),
        false => Ok(vm),
    }
}

#[tonic::async_trait]
impl MigrationService for Migrations {
    type WatchStream = ReceiverStream<Result<v1::WatchResponse, Status>>;
    type VerifyStream = ReceiverStream<Result<v1::VerifyResponse, Status>>;

    async fn act(&self, request: Request<v1::ActRequest>) -> Result<Response<v1::ActResponse>, Status> {
        let request = request.into_inner();
        let action = action_from_wire(request.action).map_err(|e| refusal::invalid(&e))?;
        let view = self.app.act(named(&request.vm)?, action).await.map_err(|e| e.to_status())?;
        Ok(Response::new(v1::ActResponse { migration: Some(view::migration(view)) }))
    }

    async fn limit(&self, request: Request<v1::LimitRequest>) -> Result<Response<v1::LimitResponse>, Status> {
        let v1::LimitRequest { vm, rate_bytes_per_second: rate } = request.into_inner();
        let view = self.app.migration_limit(named(&vm)?, rate).await.map_err(|e| e.to_status())?;
        Ok(Response::new(v1::LimitResponse { migration: Some(view::migration(view)) }))
    }

    async fn get(&self, request: Request<v1::GetRequest>) -> Result<Response<v1::GetResponse>, Status> {
        let request = request.into_inner();
        let found = self.app.migration_find(named(&request.vm)?).await.map_err(|e| e.to_status())?;
        let view = self.app.migration_view(&found.id).await.map_err(|e| e.to_status())?;
        Ok(Response::new(v1::GetResponse { migration: Some(view::migration(view)) }))
    }

    async fn list(&self, request: Request<v1::ListRequest>) -> Result<Response<v1::ListResponse>, Status> {
        let which = if request.into_inner().all { Which::All } else { Which::Unfinished };
        let views = self.app.migration_views(which).await.map_err(|e| e.to_status())?;
        let migrations = views.into_iter().map(view::migration).collect();
        Ok(Response::new(v1::ListResponse { migrations }))
    }

    async fn watch(&self, request: Request<v1::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let request = request.into_inner();
        let found = self.app.migration_find(named(&request.vm)?).await.map_err(|e| e.to_status())?;
        let (sender, receiver) = mpsc::channel(1);
        let (app, shutdown) = (self.app.clone(), self.shutdown.clone());
        let watching = async move {
            let mut numbers = app.hub.watch(&found.id);
            let mut sequence = *numbers.borrow_and_update();
            // The client has seen this state already; a number of the future is from before a clock was set back.
            let mut seen = request.after_sequence == sequence;
            loop {
                if !seen {
                    let state = app.migration_view(&found.id).await.map_err(|e| e.to_status());
                    let state =
                        state.map(|v| v1::WatchResponse { sequence, migration: Some(view::migration(v)) });
                    // A slow reader holds this task up, and nobody else: the next state it gets is the latest.
                    if sender.send(state).await.is_err() {
                        return;
                    }
                    tokio::time::sleep(WATCH_PACE).await;
                }
                let _ = tokio::time::timeout(WATCH_PERIOD, numbers.changed()).await;
                sequence = *numbers.borrow_and_update();
                seen = false;
            }
        };
        tokio::spawn(async move {
            tokio::select! {
                () = watching => {}
                () = shutdown.cancelled() => {}
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn verify(
        &self,
        request: Request<v1::VerifyRequest>,
    ) -> Result<Response<Self::VerifyStream>, Status> {
        let request = request.into_inner();
        named(&request.vm)?;
        let (answers, receiver) = mpsc::channel(16);
        let app = self.app.clone();
        let cancel = self.shutdown.child_token();
        tokio::spawn(async move {
            let (events, mut said) = mpsc::channel(64);
            let stop = cancel.clone();
            let verifying = async {
                match request.source {
                    true => app.verify_source(&request.vm, events, stop).await,
                    false => app.verify_replica(&request.vm, events, stop).await,
                }
            };
            let telling = async {
                while let Some(event) = said.recv().await {
                    if answers.send(Ok(response(event_kind(event)))).await.is_err() {
                        // Nobody listens any more.
                        cancel.cancel();
                    }
                }
            };
            let (result, ()) = tokio::join!(verifying, telling);
            let last = result.map(|summary| response(result_kind(&summary))).map_err(|e| e.to_status());
            let _ = answers.send(last).await;
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

fn response(kind: Said) -> v1::VerifyResponse {
    v1::VerifyResponse { kind: Some(kind) }
}

fn event_kind(event: VerifyEvent) -> Said {
    match event {
        VerifyEvent::Progress { disk, key, done, total } => Said::Progress(v1::VerifyProgress {
            disk_id: disk.into(),
            disk_key: key.into(),
            done_bytes: done,
            total_bytes: total,
        }),
        VerifyEvent::Mismatch { disk, key, range } => Said::Mismatch(v1::VerifyMismatch {
            disk_id: disk.into(),
            disk_key: key.into(),
            offset: range.start,
            length: range.len(),
        }),
    }
}

fn result_kind(summary: &VerifySummary) -> Said {
    Said::Result(v1::VerifyResult {
        equal: summary.different == 0,
        compared_bytes: summary.compared,
        different_bytes: summary.different,
        unknown_bytes: summary.unknown,
        restore_point_id: summary.restore_point.as_ref().map(ToString::to_string).unwrap_or_default(),
    })
}
