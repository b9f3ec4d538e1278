//! `ReplicationService`: the rows of `replication_jobs`.

use super::view;
use crate::service::App;
use crate::service::replications::ReplicationFilter;
use proto::v1;
use proto::v1::replication_service_server::ReplicationService;
use tonic::{Request, Response, Status};

pub(super) struct Replications(pub(super) App);

#[tonic::async_trait]
impl ReplicationService for Replications {
    async fn list(
        &self,
        request: Request<v1::ReplicationServiceListRequest>,
    ) -> Result<Response<v1::ReplicationServiceListResponse>, Status> {
        let asked = request.into_inner();
        // 0 is what was left out.
        let limit = Some(asked.limit).filter(|limit| *limit > 0);
        let filter =
            ReplicationFilter::parse(limit, &asked.before, &asked.status).map_err(|e| e.to_status())?;
        let page = self.0.replication_list(&filter).await.map_err(|e| e.to_status())?;
        Ok(Response::new(v1::ReplicationServiceListResponse {
            replications: page.replications.into_iter().map(view::replication).collect(),
            next_before: page.next_before.map(String::from).unwrap_or_default(),
        }))
    }

    async fn get(
        &self,
        request: Request<v1::ReplicationServiceGetRequest>,
    ) -> Result<Response<v1::ReplicationServiceGetResponse>, Status> {
        let found = self.0.replication_find(&request.into_inner().id).await.map_err(|e| e.to_status())?;
        let replication = Some(view::replication(found));
        Ok(Response::new(v1::ReplicationServiceGetResponse { replication }))
    }
}
