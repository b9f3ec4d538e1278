//! `updateVirtualMachine`: at once, running or not. A new map of details replaces the old one.

use super::call::Call;
use super::refusal::Refusal;
use super::state::Nic;
use super::vm_view;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

/// The most that user data may be, decoded, where no setting says otherwise.
const MOST_USER_DATA: usize = 32_768;

pub(super) fn update(call: &Call<'_>) -> Result<Value, Refusal> {
    let vm = call.vm("id")?;
    let params = &call.params;
    if let Some(text) = params.get("userdata") {
        check_user_data(text)?;
        let has_no_router =
            |nic: &Nic| call.sim.world.get("network", &nic.network).is_some_and(|own| own["type"] == "L2");
        if vm.nics.iter().all(has_no_router) {
            let text = "Failed to update VM, due to: Failed to reset userdata for the virtual machine ";
            return Err(Refusal::runtime(text));
        }
    }
    let id = match params.get("customid") {
        Some(_) => call.id_for_new(true)?,
        None => vm.id.clone(),
    };
    call.sim.change(|state| {
        let Some(own) = state.vm_mut(&vm.id) else { return };
        if let Some(name) = params.get("name") {
            own.name = name.to_owned();
        }
        if let Some(name) = params.get("displayname") {
            own.display_name = name.to_owned();
        }
        if let Some(os) = params.get("ostypeid") {
            own.os_type = os.to_owned();
        }
        if let Some(protected) = params.flag("deleteprotection") {
            own.delete_protection = protected;
        }
        if params.flag("cleanupdetails") == Some(true) {
            own.details.clear();
        } else if let Some(details) = params.first("details") {
            own.details = details;
            own.shows_boot = false;
        }
        own.id.clone_from(&id);
        for volume in state.volumes.iter_mut().filter(|volume| volume.vm.as_deref() == Some(&vm.id)) {
            volume.vm = Some(id.clone());
        }
    });
    Ok(vm_view::result(call, &id))
}

fn check_user_data(text: &str) -> Result<(), Refusal> {
    let failed = |why: &str| Refusal::runtime(format!("Failed to update VM, due to: {why}"));
    let decoded = STANDARD.decode(text).map_err(|_| failed("User data is not base64 encoded."))?;
    if decoded.len() > MOST_USER_DATA {
        return Err(failed("User data is too long."));
    }
    Ok(())
}
