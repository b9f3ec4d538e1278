//! `OrphanService`.

use super::access::caller_of;
use crate::service::App;
use crate::service::orphans::{Chosen, Orphan, OrphanKind, Removal};
use proto::v1;
use proto::v1::orphan_service_server::OrphanService;
use shared::wire::{Invalid, refusal};
use tonic::{Request, Response, Status};

pub(super) struct Orphans(pub(super) App);

#[tonic::async_trait]
impl OrphanService for Orphans {
    async fn list(
        &self,
        _: Request<v1::OrphanServiceListRequest>,
    ) -> Result<Response<v1::OrphanServiceListResponse>, Status> {
        let found = self.0.orphans().await.map_err(|e| e.to_status())?;
        let orphans = found.into_iter().map(orphan).collect();
        Ok(Response::new(v1::OrphanServiceListResponse { orphans }))
    }

    async fn remove(
        &self,
        request: Request<v1::OrphanServiceRemoveRequest>,
    ) -> Result<Response<v1::OrphanServiceRemoveResponse>, Status> {
        let caller = caller_of(request.extensions())?;
        let v1::OrphanServiceRemoveRequest { names, all } = request.into_inner();
        let chosen = match (all, names.is_empty()) {
            (false, _) => Chosen::Named(names),
            (true, true) => Chosen::All,
            (true, false) => return Err(refusal::invalid(&Invalid::new("names", "are not taken with all"))),
        };
        let removals = self.0.orphans_remove(&caller, &chosen).await.map_err(|e| e.to_status())?;
        let removals = removals.into_iter().map(removal).collect();
        Ok(Response::new(v1::OrphanServiceRemoveResponse { removals }))
    }
}

fn kind(of: OrphanKind) -> v1::OrphanKind {
    match of {
        OrphanKind::Machine => v1::OrphanKind::Machine,
        OrphanKind::Snapshot => v1::OrphanKind::Snapshot,
        OrphanKind::Clone => v1::OrphanKind::Clone,
        OrphanKind::Replica => v1::OrphanKind::Replica,
        OrphanKind::SourceSnapshot => v1::OrphanKind::SourceSnapshot,
    }
}

fn orphan(orphan: Orphan) -> v1::Orphan {
    v1::Orphan {
        kind: kind(orphan.kind).into(),
        name: orphan.name,
        size_bytes: orphan.size.unwrap_or_default(),
        why: orphan.why,
        removable: orphan.keep.is_none(),
        keep: orphan.keep.unwrap_or_default(),
    }
}

fn removal(removal: Removal) -> v1::OrphanRemoval {
    v1::OrphanRemoval {
        kind: removal.kind.map_or(v1::OrphanKind::Unspecified, kind).into(),
        name: removal.name,
        removed: removal.kept.is_none(),
        kept: removal.kept.unwrap_or_default(),
    }
}
