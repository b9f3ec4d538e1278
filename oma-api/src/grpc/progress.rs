//! `ProgressService` at the OMA: how the cycles it knows stand.

use crate::service::App;
use proto::v1;
use proto::v1::progress_service_server::ProgressService;
use shared::progress::states;
use shared::wire::{WatchAnswers, watch_answers};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

pub(super) struct Progress {
    pub(super) app: App,
    pub(super) shutdown: CancellationToken,
}

#[tonic::async_trait]
impl ProgressService for Progress {
    type WatchStream = WatchAnswers;

    async fn register(
        &self,
        request: Request<v1::RegisterRequest>,
    ) -> Result<Response<v1::RegisterResponse>, Status> {
        Err(self.app.progress_refuse(&request.into_inner().job_id).to_status())
    }

    async fn update(
        &self,
        request: Request<v1::UpdateRequest>,
    ) -> Result<Response<v1::UpdateResponse>, Status> {
        Err(self.app.progress_refuse(&request.into_inner().job_id).to_status())
    }

    async fn get(
        &self,
        request: Request<v1::ProgressServiceGetRequest>,
    ) -> Result<Response<v1::ProgressServiceGetResponse>, Status> {
        let job = request.into_inner().job_id;
        let of = self.app.progress_find(&job).await.map_err(|e| e.to_status())?;
        let view = self.app.progress_view(&of).await.map_err(|e| e.to_status())?;
        Ok(Response::new(v1::ProgressServiceGetResponse { progress: Some(view.into()) }))
    }

    async fn watch(
        &self,
        request: Request<v1::ProgressServiceWatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let v1::ProgressServiceWatchRequest { job_id, after_sequence } = request.into_inner();
        let of = self.app.progress_find(&job_id).await.map_err(|e| e.to_status())?;
        let numbers = self.app.progress_watch(&of).await.map_err(|e| e.to_status())?;
        let app = self.app.clone();
        let seen = states(numbers, after_sequence, move || {
            let (app, of) = (app.clone(), of.clone());
            async move { app.progress_view(&of).await.map_err(|e| e.to_status()) }
        });
        Ok(Response::new(watch_answers(seen, self.shutdown.clone())))
    }
}
