//! `ProgressService` at the agent: the register behind the progress API, over gRPC.

use futures::StreamExt as _;
use jiff::Timestamp;
use proto::v1;
use proto::v1::progress_service_server::{ProgressService, ProgressServiceServer};
use shared::progress::{Register, Registered, Registration, Update, states};
use shared::wire::{WatchAnswers, progress_refused, refusal, watch_answers};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

pub(crate) struct Progress {
    register: Arc<Register>,
    shutdown: CancellationToken,
}

/// For the diagnostics server.
pub(crate) fn progress(
    register: Arc<Register>,
    shutdown: &CancellationToken,
) -> ProgressServiceServer<Progress> {
    ProgressServiceServer::new(Progress { register, shutdown: shutdown.clone() })
}

#[tonic::async_trait]
impl ProgressService for Progress {
    type WatchStream = WatchAnswers;

    async fn register(
        &self,
        request: Request<v1::RegisterRequest>,
    ) -> Result<Response<v1::RegisterResponse>, Status> {
        let request = request.into_inner();
        let job = request.job_id.clone();
        let registered = self
            .register
            .outside()
            .register(&job, &Registration::from(request), Timestamp::now())
            .map_err(|e| progress_refused(&job, &e))?;
        Ok(Response::new(v1::RegisterResponse { registered: registered == Registered::New }))
    }

    async fn update(
        &self,
        request: Request<v1::UpdateRequest>,
    ) -> Result<Response<v1::UpdateResponse>, Status> {
        let request = request.into_inner();
        let job = request.job_id.clone();
        let update = Update::try_from(request).map_err(|e| refusal::invalid(&e))?;
        let taken = self.register.outside().update(&job, &update, Timestamp::now());
        taken.map_err(|e| progress_refused(&job, &e))?;
        Ok(Response::new(v1::UpdateResponse {}))
    }

    async fn get(
        &self,
        request: Request<v1::ProgressServiceGetRequest>,
    ) -> Result<Response<v1::ProgressServiceGetResponse>, Status> {
        let job = request.into_inner().job_id;
        let view = self.register.view(&job, Timestamp::now()).map_err(|e| progress_refused(&job, &e))?;
        Ok(Response::new(v1::ProgressServiceGetResponse { progress: Some(view.into()) }))
    }

    async fn watch(
        &self,
        request: Request<v1::ProgressServiceWatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let v1::ProgressServiceWatchRequest { job_id: job, after_sequence } = request.into_inner();
        let numbers = self.register.watch(&job, Timestamp::now()).map_err(|e| progress_refused(&job, &e))?;
        let (register, id) = (Arc::clone(&self.register), job.clone());
        let seen =
            states(numbers, after_sequence, move || std::future::ready(register.view(&id, Timestamp::now())));
        let seen = seen.map(move |seen| seen.map_err(|e| progress_refused(&job, &e)));
        Ok(Response::new(watch_answers(seen, self.shutdown.clone())))
    }
}
