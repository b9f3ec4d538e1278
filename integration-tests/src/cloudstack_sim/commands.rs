//! Which code carries out which command.

use super::call::{Begun, Call};
use super::refusal::Refusal;
use super::{
    account, jobs, list, nic, snapshot, tag, vm_change, vm_deploy, vm_end, vm_power, vm_view, volume_attach,
    volume_change, volume_create, volume_end, volume_view,
};
use serde_json::{Value, json};

/// Those that answer at once.
pub(super) fn run(call: &Call<'_>) -> Result<Value, Refusal> {
    match call.command {
        "listApis" => list::apis(call),
        "listCapabilities" => list::one(call, "capability"),
        "listDetailOptions" => list::one(call, "detailoptions"),
        "listZones" => list::zones(call),
        "listPods" => list::of_world(call, "pod"),
        "listClusters" => list::of_world(call, "cluster"),
        "listHosts" => list::hosts(call),
        "listStoragePools" => list::pools(call),
        "listNetworks" => list::networks(call),
        "listServiceOfferings" => list::of_world(call, "serviceoffering"),
        "listDiskOfferings" => list::of_world(call, "diskoffering"),
        "listOsTypes" => list::of_world(call, "ostype"),
        "listTemplates" => list::templates(call),
        "listIsos" => list::isos(call),
        "listHypervisors" => list::of_world(call, "hypervisor"),
        "listCapacity" => list::of_world(call, "capacity"),
        "listConfigurations" => list::of_world(call, "configuration"),
        "listDomains" => list::of_world(call, "domain"),
        "listUsers" => account::list(call, "user"),
        "listAccounts" => account::list(call, "account"),
        "listResourceLimits" => account::list_limits(call),
        "updateResourceLimit" => account::set_limit(call),
        "listEvents" => list::events(call),
        "listAsyncJobs" => jobs::list_pending(call),
        "queryAsyncJobResult" => jobs::query(call),
        "listVirtualMachines" => vm_view::list(call),
        "updateVirtualMachine" => vm_change::update(call),
        "recoverVirtualMachine" => vm_end::recover(call),
        "listNics" => nic::list(call),
        "listVolumes" => volume_view::list(call),
        "deleteVolume" => volume_end::delete(call),
        "recoverVolume" => volume_end::recover(call),
        "listSnapshots" => snapshot::list(call),
        "listTags" => tag::list(call),
        other => Err(Refusal::new(501, 9999, format!("cloudstack-sim does not simulate {other}"))),
    }
}

/// What an asynchronous command does before it answers: refuses, or makes what has an id.
pub(super) fn begin(call: &Call<'_>) -> Result<Begun, Refusal> {
    match call.command {
        "deployVirtualMachine" => vm_deploy::begin(call),
        "createVolume" => volume_create::begin(call),
        "createSnapshot" => snapshot::begin(call),
        "deleteSnapshot" | "revertSnapshot" => {
            let id = call.params.required("id").to_owned();
            Ok(Begun { made: None, instance: Some(("Snapshot".to_owned(), id)), queue: None })
        }
        "createTags" | "deleteTags" => Ok(Begun::default()),
        "attachVolume" => {
            let volume = call.volume("id")?;
            let vm = call.vm("virtualmachineid")?;
            Ok(Begun::on_volume(&volume.id, Some(&vm.id)))
        }
        "migrateVolume" => {
            let volume = call.volume("volumeid")?;
            Ok(Begun::on_volume(&volume.id, volume.vm.as_deref()))
        }
        "detachVolume" => volume_attach::begin_detach(call),
        "updateVolume" => {
            let volume = call.volume("id")?;
            // The job is known by the id that the volume has afterwards.
            let id = call.params.get("customid").unwrap_or(&volume.id).to_owned();
            Ok(Begun::on_volume(&id, volume.vm.as_deref()))
        }
        "destroyVolume" | "resizeVolume" => {
            let volume = call.volume("id")?;
            Ok(Begun::on_volume(&volume.id, volume.vm.as_deref()))
        }
        "addNicToVirtualMachine" => Ok(Begun::on_vm(&call.vm("virtualmachineid")?.id)),
        "removeNicFromVirtualMachine" => {
            let queue = Some(call.vm("virtualmachineid")?.id);
            Ok(Begun { queue, ..Begun::default() })
        }
        "updateVmNicIp" => nic::begin_update(call),
        _ => Ok(Begun::on_vm(&call.vm("id")?.id)),
    }
}

/// What its job does; gives the job's result.
pub(super) fn perform(call: &Call<'_>) -> Result<Value, Refusal> {
    match call.command {
        "deployVirtualMachine" => vm_deploy::perform(call),
        "startVirtualMachine" => vm_power::start(call),
        "stopVirtualMachine" => vm_power::stop(call),
        "rebootVirtualMachine" => vm_power::reboot(call),
        "destroyVirtualMachine" => vm_end::destroy(call),
        "expungeVirtualMachine" => vm_end::expunge(call),
        "addNicToVirtualMachine" => nic::add(call),
        "removeNicFromVirtualMachine" => nic::remove(call),
        "updateVmNicIp" => nic::update(call),
        "createVolume" => volume_create::perform(call),
        "attachVolume" => volume_attach::attach(call),
        "detachVolume" => volume_attach::detach(call),
        "destroyVolume" => volume_end::destroy(call),
        "resizeVolume" => volume_change::resize(call),
        "updateVolume" => volume_change::update(call),
        "migrateVolume" => volume_change::migrate(call),
        "createSnapshot" => snapshot::create(call),
        "deleteSnapshot" => snapshot::delete(call),
        "revertSnapshot" => snapshot::revert(call),
        "createTags" => tag::create(call),
        "deleteTags" => tag::delete(call),
        other => Err(Refusal::new(501, 9999, format!("cloudstack-sim does not simulate {other}"))),
    }
}

/// A success without anything else.
pub(super) fn success() -> Value {
    json!({"success": true})
}

/// What the real server calls the command inside.
pub(super) fn java_class(command: &str) -> String {
    let (package, class) = match command {
        "deployVirtualMachine" => ("admin.vm", "DeployVMCmdByAdmin"),
        "startVirtualMachine" => ("admin.vm", "StartVMCmdByAdmin"),
        "stopVirtualMachine" => ("admin.vm", "StopVMCmdByAdmin"),
        "rebootVirtualMachine" => ("admin.vm", "RebootVMCmdByAdmin"),
        "destroyVirtualMachine" => ("admin.vm", "DestroyVMCmdByAdmin"),
        "expungeVirtualMachine" => ("admin.vm", "ExpungeVMCmd"),
        "addNicToVirtualMachine" => ("admin.vm", "AddNicToVMCmdByAdmin"),
        "removeNicFromVirtualMachine" => ("admin.vm", "RemoveNicFromVMCmdByAdmin"),
        "updateVmNicIp" => ("user.vm", "UpdateVmNicIpCmd"),
        "createTags" => ("user.tag", "CreateTagsCmd"),
        "deleteTags" => ("user.tag", "DeleteTagsCmd"),
        "createSnapshot" => ("user.snapshot", "CreateSnapshotCmd"),
        "deleteSnapshot" => ("user.snapshot", "DeleteSnapshotCmd"),
        "revertSnapshot" => ("user.snapshot", "RevertSnapshotCmd"),
        volume => {
            let mut letters = volume.chars();
            let first = letters.next().map(|c| c.to_ascii_uppercase()).unwrap_or_default();
            let class = format!("{first}{}CmdByAdmin", letters.as_str());
            return format!("org.apache.cloudstack.api.command.admin.volume.{class}");
        }
    };
    format!("org.apache.cloudstack.api.command.{package}.{class}")
}
