//! `MigrationService`.

use super::view;
use crate::service::App;
use crate::service::act::{Acted, Ask, Key, Schedule};
use crate::service::list::Listing;
use crate::service::verify::{VerifyEvent, VerifySummary};
use futures::stream::BoxStream;
use futures::{StreamExt as _, TryStreamExt as _};
use prost::Message as _;
use proto::v1;
use proto::v1::migration_service_server::MigrationService;
use proto::v1::verify_response::Kind as Said;
use shared::correlation::carried;
use shared::ids::DiskKey;
use shared::wire::{action_from_wire, phase_from_wire, refusal, state_from_wire};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Response, Status};

/// A watch says something at least this often.
const WATCH_PERIOD: Duration = Duration::from_secs(30);

pub(super) struct Migrations {
    pub(super) app: App,
    pub(super) shutdown: CancellationToken,
}

pub(super) fn named(vm: &str) -> Result<&str, Status> {
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
    type EventsStream = BoxStream<'static, Result<v1::EventsResponse, Status>>;
    type VerifyStream = ReceiverStream<Result<v1::VerifyResponse, Status>>;

    async fn act(&self, request: Request<v1::ActRequest>) -> Result<Response<v1::ActResponse>, Status> {
        let caller = super::access::caller_of(request.extensions())?;
        let request = request.into_inner();
        let ask = ask(&request)?;
        let answer =
            match self.app.act(&caller, named(&request.vm)?, &ask).await.map_err(|e| e.to_status())? {
                Acted::Again(answer) => v1::ActResponse::decode(answer.as_slice()).map_err(|_| {
                    refusal::status(Code::Internal, "ANSWER_LOST", "the answer that was kept is damaged")
                })?,
                Acted::Done(view) => {
                    let answer = v1::ActResponse { migration: Some(view::migration(*view)) };
                    if let Some(key) = &ask.key {
                        self.app.attempt_answered(key, &answer.encode_to_vec()).await;
                    }
                    answer
                }
            };
        Ok(Response::new(answer))
    }

    async fn check(&self, request: Request<v1::CheckRequest>) -> Result<Response<v1::CheckResponse>, Status> {
        let v1::CheckRequest { vm, target_profile } = request.into_inner();
        let profile = Some(target_profile.as_str()).filter(|name| !name.is_empty());
        let checked = self.app.check(named(&vm)?, profile).await.map_err(|e| e.to_status())?;
        Ok(Response::new(super::preflight::checked(checked)))
    }

    async fn estimate(
        &self,
        request: Request<v1::EstimateRequest>,
    ) -> Result<Response<v1::EstimateResponse>, Status> {
        let estimate =
            self.app.estimate(named(&request.into_inner().vm)?).await.map_err(|e| e.to_status())?;
        Ok(Response::new(view::estimate(&estimate)))
    }

    async fn events(
        &self,
        request: Request<v1::EventsRequest>,
    ) -> Result<Response<Self::EventsStream>, Status> {
        let v1::EventsRequest { vm, after_sequence } = request.into_inner();
        let migration = match vm.is_empty() {
            true => None,
            false => Some(self.app.migration_find(&vm).await.map_err(|e| e.to_status())?.id),
        };
        let after = match after_sequence {
            Some(after) => after,
            None => self.app.journal_last().await.map_err(|e| e.to_status())?,
        };
        let events = self.app.journal(after, migration);
        let events = events.map_ok(|event| view::event(&event)).map_err(|e| e.to_status());
        Ok(Response::new(events.take_until(self.shutdown.clone().cancelled_owned()).boxed()))
    }

    async fn accept(
        &self,
        request: Request<v1::AcceptRequest>,
    ) -> Result<Response<v1::AcceptResponse>, Status> {
        let caller = super::access::caller_of(request.extensions())?;
        let v1::AcceptRequest { vm, disk_keys } = request.into_inner();
        let keys = disk_keys.into_iter().map(DiskKey::parse).collect::<Result<Vec<_>, _>>();
        let keys = keys.map_err(|e| {
            refusal::status(Code::InvalidArgument, "INVALID_ARGUMENT", format!("disk_keys: {e}"))
        })?;
        let view = self.app.accept(&caller, named(&vm)?, &keys).await.map_err(|e| e.to_status())?;
        Ok(Response::new(v1::AcceptResponse { migration: Some(view::migration(view)) }))
    }

    async fn adopt(&self, request: Request<v1::AdoptRequest>) -> Result<Response<v1::AdoptResponse>, Status> {
        let caller = super::access::caller_of(request.extensions())?;
        let v1::AdoptRequest { vm, volumes } = request.into_inner();
        let named: Vec<_> = volumes.into_iter().map(|v| (v.disk_key, v.volume)).collect();
        let adopted = self.app.adopt(&caller, self::named(&vm)?, &named).await.map_err(|e| e.to_status())?;
        Ok(Response::new(v1::AdoptResponse {
            migration: Some(view::migration(adopted.view)),
            volumes: adopted
                .volumes
                .into_iter()
                .map(|(key, volume)| v1::AdoptedVolume { disk_key: key.into(), volume: volume.to_string() })
                .collect(),
            old_snapshots: adopted.old_snapshots.iter().map(ToString::to_string).collect(),
        }))
    }

    async fn limit(&self, request: Request<v1::LimitRequest>) -> Result<Response<v1::LimitResponse>, Status> {
        let v1::LimitRequest { vm, rate_bytes_per_second: rate } = request.into_inner();
        let view = self.app.migration_limit(named(&vm)?, rate).await.map_err(|e| e.to_status())?;
        Ok(Response::new(v1::LimitResponse { migration: Some(view::migration(view)) }))
    }

    async fn get(&self, request: Request<v1::GetRequest>) -> Result<Response<v1::GetResponse>, Status> {
        let v1::GetRequest { vm, history } = request.into_inner();
        let found = self.app.migration_find(named(&vm)?).await.map_err(|e| e.to_status())?;
        let view = self.app.migration_view(&found.id).await.map_err(|e| e.to_status())?;
        let view = self.app.with_history(view, history).await.map_err(|e| e.to_status())?;
        Ok(Response::new(v1::GetResponse { migration: Some(view::migration(view)) }))
    }

    async fn list(&self, request: Request<v1::ListRequest>) -> Result<Response<v1::ListResponse>, Status> {
        let listing = listing(request.into_inner())?;
        let page = self.app.migration_list(&listing).await.map_err(|e| e.to_status())?;
        Ok(Response::new(v1::ListResponse {
            migrations: page.migrations.into_iter().map(view::migration).collect(),
            next_page_token: page.next.map(String::from).unwrap_or_default(),
        }))
    }

    async fn watch(&self, request: Request<v1::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let v1::WatchRequest { vm, after_sequence } = request.into_inner();
        let mut states = self.app.migration_watch(named(&vm)?).await.map_err(|e| e.to_status())?;
        let (sender, receiver) = mpsc::channel(1);
        let shutdown = self.shutdown.clone();
        let watching = async move {
            let Some(mut state) = states.next().await else { return };
            // What the client has seen already. A number of the future is from before a clock was set back.
            let mut known = state.sequence == after_sequence;
            loop {
                let migration = Some(view::migration(state.view.clone()));
                let answer = v1::WatchResponse { sequence: state.sequence, migration };
                // A slow reader holds this task up, and nobody else: the next state it gets is the latest.
                if !known && sender.send(Ok(answer)).await.is_err() {
                    return;
                }
                known = false;
                match tokio::time::timeout(WATCH_PERIOD, states.next()).await {
                    Ok(Some(next)) => state = next,
                    Ok(None) => return,
                    // After so long without a change the same is sent again, to show that somebody is there.
                    Err(_) => {}
                }
            }
        };
        tokio::spawn(carried(async move {
            tokio::select! {
                () = watching => {}
                () = shutdown.cancelled() => {}
            }
        }));
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
        tokio::spawn(carried(async move {
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
        }));
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

fn ask(request: &v1::ActRequest) -> Result<Ask, Status> {
    let invalid = |field: &str, why: String| {
        refusal::status(Code::InvalidArgument, "INVALID_ARGUMENT", format!("{field}: {why}"))
    };
    let said = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
    let action = action_from_wire(request.action).map_err(|e| refusal::invalid(&e))?;
    let schedule = match (said(&request.scheduled_timestamp), request.cancel_scheduled) {
        (None, false) => None,
        (None, true) => Some(Schedule::Cancel),
        (Some(at), false) => {
            Some(Schedule::At(at.parse().map_err(|e| invalid("scheduled_timestamp", format!("{e}")))?))
        }
        (Some(_), true) => {
            return Err(invalid("cancel_scheduled", "goes without a scheduled_timestamp".to_owned()));
        }
    };
    let key = said(&request.idempotency_key).map(|key| Key::parse("grpc", &key));
    Ok(Ask {
        affinity: request.affinity.clone(),
        target_profile: said(&request.target_profile),
        force: said(&request.force_reason),
        schedule,
        max_downtime: (request.max_downtime_ms > 0).then(|| Duration::from_millis(request.max_downtime_ms)),
        max_cycles: (request.max_cycles > 0).then_some(request.max_cycles),
        key: key.transpose().map_err(|e| e.to_status())?,
        ..Ask::new(action)
    })
}

/// Of these enums, unspecified is "any".
fn listing(request: v1::ListRequest) -> Result<Listing, Status> {
    let phase = match request.phase {
        0 => String::new(),
        given => phase_from_wire(given).map_err(|e| refusal::invalid(&e))?.to_string(),
    };
    let state = match request.state {
        0 => String::new(),
        given => state_from_wire(given).map_err(|e| refusal::invalid(&e))?.to_string(),
    };
    Ok(Listing {
        all: request.all,
        phase,
        state,
        agent: request.agent_id,
        text: request.text,
        limit: (request.page_size > 0).then_some(request.page_size),
        token: request.page_token,
        history: request.history,
    })
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
