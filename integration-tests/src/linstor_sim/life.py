"""Drives a whole life with python-linstor, as it is published, against the controller at sys.argv[1].

Prints one line a step; leaves with 1 at the first answer that is not as it should be.
"""

import sys

import linstor
from linstor import consts


def done(step, replies):
    """All entries of a change are good."""
    bad = [str(reply) for reply in replies if isinstance(reply, linstor.responses.ApiCallResponse) and reply.is_error()]
    if bad:
        sys.exit(f"{step}: {bad}")
    print(step)
    return replies


def refused(step, replies, code):
    """One entry is an error of this code."""
    if not any(reply.is_error(code) for reply in replies):
        sys.exit(f"{step}: not refused with {code}: {[str(reply) for reply in replies]}")
    print(step)


def same(step, left, right):
    if left != right:
        sys.exit(f"{step}: {left!r} is not {right!r}")
    print(step)


def device(lin, name):
    return lin.volume_list(filter_by_resources=[name])[0].resources[0].volumes[0].device_path


def life(lin):
    same("version", lin.controller_version().version, "1.33.3")
    same("nodes", [node.name for node in lin.node_list_raise().nodes], ["oma"])
    same("pools", [pool.name for pool in lin.storage_pool_list_raise(filter_by_stor_pools=["thin"]).storage_pools], ["thin"])
    made = lin.resource_group_create(
        "py", place_count=1, storage_pool=["thin"], layer_list=["storage"], provider_list=["FILE_THIN"]
    )
    done("resource group", made)
    done("volume group", lin.volume_group_create("py"))
    group = [group for group in lin.resource_group_list_raise().resource_groups if group.name == "py"]
    same("group is listed", len(group), 1)
    done("size info", lin.resource_group_qmvs("py"))
    done("spawn", lin.resource_group_spawn("py", "py-one", ["16M"]))
    refused("spawn again", lin.resource_group_spawn("py", "py-one", ["16M"]), consts.FAIL_EXISTS_RSC_DFN)
    sizes = lin.resource_dfn_list_raise(query_volume_definitions=True, filter_by_resource_definitions=["py-one"])
    same("size", sizes.resource_definitions[0].volume_definitions[0].size, 16 * 1024)
    done("make available", lin.resource_make_available("oma", "py-one"))
    done("property", lin.resource_dfn_modify("py-one", {"Aux/mk": "1"}, delete_props=["Aux/never"]))
    with open(device(lin, "py-one"), "r+b") as disk:
        disk.write(b"before")
    done("snapshot", lin.snapshot_create([], "py-one", "s1", False))
    listed = lin.snapshot_dfn_list_raise(filter_by_resources=["py-one"]).snapshots
    same("snapshot is listed", [snapshot.name for snapshot in listed], ["s1"])
    same("and is whole", listed[0].flags, ["SUCCESSFUL"])
    with open(device(lin, "py-one"), "r+b") as disk:
        disk.write(b"after!")
    done("definition", lin.resource_dfn_create("py-two", resource_group="py"))
    done("volumes of the snapshot", lin.snapshot_volume_definition_restore("py-one", "s1", "py-two"))
    done("resources of the snapshot", lin.snapshot_resource_restore([], "py-one", "s1", "py-two"))
    with open(device(lin, "py-two"), "rb") as disk:
        same("the clone's bytes", disk.read(6), b"before")
    done("rollback", lin.snapshot_rollback("py-one", "s1"))
    with open(device(lin, "py-one"), "rb") as disk:
        same("bytes after the rollback", disk.read(6), b"before")
    done("grow", lin.volume_dfn_modify("py-one", 0, size=32 * 1024))
    several = lin.snapshot_create_multi([], ["py-one", "py-two"], "m1")
    done("snapshots of both", several)
    refused("deletion with snapshots", lin.resource_dfn_delete("py-one"), consts.FAIL_EXISTS_SNAPSHOT_DFN)
    for name, snapshot in [("py-one", "m1"), ("py-two", "m1"), ("py-one", "s1")]:
        done(f"delete {snapshot} of {name}", lin.snapshot_delete(name, snapshot))
    done("resource delete", lin.resource_delete("oma", "py-two"))
    by_hand = lin.resource_create([linstor.ResourceData("oma", "py-two", storage_pool="thin")])
    done("resource by hand", by_hand)
    done("properties", lin.keyvaluestore_modify("py", {"a": "1"}))
    same("and back", lin.keyvaluestore_list("py").properties, {"a": "1"})
    for name in ["py-one", "py-two"]:
        done(f"delete {name}", lin.resource_dfn_delete(name))
    done("delete the group", lin.resource_group_delete("py"))
    same("nothing is left", lin.resource_dfn_list_raise().resource_definitions, [])


with linstor.Linstor(sys.argv[1]) as connected:
    life(connected)
    print("whole life done")
