//! Delete, destroy, expunge, recover. What storage refuses to delete stays `Expunging`, and nobody comes back for it.

use super::call::Call;
use super::commands::success;
use super::refusal::Refusal;
use super::state::Volume;
use super::{vm_deploy, volume_view};
use serde_json::{Value, json};

fn may_go(volume: &Volume) -> Result<(), Refusal> {
    if volume.vm.is_some() {
        return Err(Refusal::value("Please specify a volume that is not attached to any VM."));
    }
    if volume.delete_protection {
        return Err(Refusal::value(format!(
            "Volume [id = {}, name = {}] has delete protection enabled and cannot be deleted.",
            volume.id, volume.name
        )));
    }
    Ok(())
}

/// `deleteVolume`: at once, gone.
pub(super) fn delete(call: &Call<'_>) -> Result<Value, Refusal> {
    let volume = call.volume("id")?;
    may_go(&volume)?;
    remove(call, &volume.id)?;
    Ok(success())
}

/// `destroyVolume`: kept for a while, or expunged.
pub(super) fn destroy(call: &Call<'_>) -> Result<Value, Refusal> {
    let volume = call.volume("id")?;
    may_go(&volume)?;
    let expunge = call.params.flag("expunge") == Some(true);
    if !expunge && volume.state != "Ready" {
        let text = "The volume in Allocated/Uploaded state can only be expunged not destroyed/recovered";
        return Err(Refusal::value(text));
    }
    call.sim.change(|state| {
        if let Some(volume) = state.volume_mut(&volume.id) {
            volume.state = "Destroy".to_owned();
        }
    });
    let mut shown = volume_view::result(call, &volume.id);
    if expunge {
        remove(call, &volume.id)?;
        shown["volume"]["destroyed"] = json!(true);
    }
    Ok(shown)
}

/// `recoverVolume`.
pub(super) fn recover(call: &Call<'_>) -> Result<Value, Refusal> {
    let volume = call.volume("id")?;
    if volume.state != "Destroy" {
        return Err(Refusal::value("Please specify a volume in Destroy state."));
    }
    call.sim.change(|state| {
        if let Some(volume) = state.volume_mut(&volume.id) {
            volume.state = "Ready".to_owned();
        }
    });
    Ok(volume_view::result(call, &volume.id))
}

/// Off storage and out of the lists. A path that storage does not know is deleted, too: so volumes are released.
pub(super) fn remove(call: &Call<'_>, id: &str) -> Result<(), Refusal> {
    let volume = call.sim.read(|state| state.volume(id).cloned());
    let volume = volume.ok_or_else(|| Refusal::runtime("the volume is gone"))?;
    // Of one that is only allocated nothing is looked for, whatever path it has.
    if volume.pool.is_some() && volume.state != "Allocated" {
        call.sim.change(|state| {
            if let Some(volume) = state.volume_mut(id) {
                volume.state = "Expunging".to_owned();
            }
        });
        call.sim.delete_on_storage(&volume).map_err(Refusal::runtime)?;
    }
    call.sim.change(|state| {
        if let Some(volume) = state.volume_mut(id) {
            volume.state = "Expunged".to_owned();
            volume.removed = true;
            (volume.vm, volume.device) = (None, None);
        }
        state.tags.retain(|tag| tag.resource != id);
        vm_deploy::event(call, state, "VOLUME.DELETE", id);
    });
    Ok(())
}
