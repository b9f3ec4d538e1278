//! `TargetProfileService`.

use crate::service::App;
use crate::store::Profile;
use proto::v1;
use proto::v1::target_profile_service_server::TargetProfileService;
use shared::wire::{Invalid, profile_from_wire, profile_to_wire, refusal};
use tonic::{Request, Response, Status};

pub(super) struct Profiles(pub(super) App);

fn shown(profile: Profile) -> v1::TargetProfile {
    v1::TargetProfile {
        generation: profile.generation,
        created_at: profile.created_at.to_string(),
        updated_at: profile.updated_at.to_string(),
        ..profile_to_wire(&profile.name, profile.settings)
    }
}

fn given(profile: Option<v1::TargetProfile>) -> Result<v1::TargetProfile, Status> {
    profile.ok_or_else(|| refusal::invalid(&Invalid::missing("profile")))
}

#[tonic::async_trait]
impl TargetProfileService for Profiles {
    async fn create(
        &self,
        request: Request<v1::TargetProfileServiceCreateRequest>,
    ) -> Result<Response<v1::TargetProfileServiceCreateResponse>, Status> {
        let profile = given(request.into_inner().profile)?;
        let (name, settings) = profile_from_wire(profile).map_err(|e| refusal::invalid(&e))?;
        let made = self.0.profile_create(&name, settings).await.map_err(|e| e.to_status())?;
        Ok(Response::new(v1::TargetProfileServiceCreateResponse { profile: Some(shown(made)) }))
    }

    async fn get(
        &self,
        request: Request<v1::TargetProfileServiceGetRequest>,
    ) -> Result<Response<v1::TargetProfileServiceGetResponse>, Status> {
        let found = self.0.profile_get(&request.into_inner().name).await.map_err(|e| e.to_status())?;
        Ok(Response::new(v1::TargetProfileServiceGetResponse { profile: Some(shown(found)) }))
    }

    async fn list(
        &self,
        _: Request<v1::TargetProfileServiceListRequest>,
    ) -> Result<Response<v1::TargetProfileServiceListResponse>, Status> {
        let all = self.0.profile_list().await.map_err(|e| e.to_status())?;
        let profiles = all.into_iter().map(shown).collect();
        Ok(Response::new(v1::TargetProfileServiceListResponse { profiles }))
    }

    async fn update(
        &self,
        request: Request<v1::TargetProfileServiceUpdateRequest>,
    ) -> Result<Response<v1::TargetProfileServiceUpdateResponse>, Status> {
        let profile = given(request.into_inner().profile)?;
        let generation = profile.generation;
        if generation == 0 {
            return Err(refusal::invalid(&Invalid::new(
                "profile.generation",
                "is missing: get the profile, change it, and send it with the generation it had",
            )));
        }
        let (name, settings) = profile_from_wire(profile).map_err(|e| refusal::invalid(&e))?;
        let changed =
            self.0.profile_update(name.as_str(), settings, generation).await.map_err(|e| e.to_status())?;
        Ok(Response::new(v1::TargetProfileServiceUpdateResponse { profile: Some(shown(changed)) }))
    }

    async fn delete(
        &self,
        request: Request<v1::TargetProfileServiceDeleteRequest>,
    ) -> Result<Response<v1::TargetProfileServiceDeleteResponse>, Status> {
        let v1::TargetProfileServiceDeleteRequest { name, generation } = request.into_inner();
        let generation = Some(generation).filter(|g| *g > 0);
        self.0.profile_delete(&name, generation).await.map_err(|e| e.to_status())?;
        Ok(Response::new(v1::TargetProfileServiceDeleteResponse {}))
    }
}
