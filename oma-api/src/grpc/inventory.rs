//! `InventoryService`.

use crate::service::App;
use proto::v1;
use proto::v1::inventory_service_server::InventoryService;
use tonic::{Request, Response, Status};

pub(super) struct Inventory(pub(super) App);

#[tonic::async_trait]
impl InventoryService for Inventory {
    async fn list_vms(
        &self,
        request: Request<v1::ListVmsRequest>,
    ) -> Result<Response<v1::ListVmsResponse>, Status> {
        let offered = match request.into_inner().vm.as_str() {
            "" => self.0.vm_list().await,
            asked => self.0.vm_find(asked).await,
        };
        let offered = offered.map_err(|e| e.to_status())?;
        let vms = offered.into_iter().map(|o| v1::AgentVm {
            changes: o.changes.into_iter().map(Into::into).collect(),
            vm: Some(o.vm.into()),
            agent_id: o.agent.into(),
            agent_connected: o.agent_connected,
            migration_id: o.migration.map(String::from).unwrap_or_default(),
        });
        Ok(Response::new(v1::ListVmsResponse { vms: vms.collect() }))
    }

    async fn list_agents(
        &self,
        _: Request<v1::ListAgentsRequest>,
    ) -> Result<Response<v1::ListAgentsResponse>, Status> {
        let agents = self.0.agent_list().await.map_err(|e| e.to_status())?;
        let agents = agents.into_iter().map(|a| v1::Agent {
            agent_id: a.id.into(),
            connected: a.connected,
            software_version: a.software_version,
            last_seen_at: a.last_seen_at.to_string(),
            address: a.address,
        });
        Ok(Response::new(v1::ListAgentsResponse { agents: agents.collect() }))
    }
}
