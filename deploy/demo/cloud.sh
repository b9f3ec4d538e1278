#!/bin/bash
# The demo on the real targets' terms: a running machine, replicated to LINSTOR, tested on CloudStack, moved there, and brought
# back, beside machines of somebody else. Both targets are simulators: LINSTOR's keeps real bytes, CloudStack's boots real guests
# on them. `make demo-cloud` builds and runs it.
#
#   deploy/demo/cloud.sh          programs from target/release; MIGRATEKIT_BIN names another folder
#
# Everything lies in DEMO_DIR (/var/tmp/migratekit-demo-cloud-UID). What it starts, it ends, Ctrl-C included.
set -Eeuo pipefail
export PATH="$PATH:/usr/sbin:/sbin" LC_ALL=C

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
bin=${MIGRATEKIT_BIN:-$(realpath -m "${CARGO_TARGET_DIR:-$root/target}")/release}
dir=${DEMO_DIR:-/var/tmp/migratekit-demo-cloud-$(id -u)}
declare -A pids=()
# shellcheck source=lib.sh
. "$here/lib.sh"
# shellcheck source=failover.sh
. "$here/failover.sh"
moved=''

# --- the targets ---------------------------------------------------------------------------------------------------

start_targets() {
    start linstor "$bin/linstor-sim" --dir "$dir/linstor" --listen 127.0.0.1:0 --drbd \
        --node kvm1 --node kvm2 --diskless-node oma --pool thin=16GiB --group cloudstack=thin
    linstor=http://$(wait_for linstor "ready listen=" | sed 's/.*listen=//')
    start cloudstack "$bin/cloudstack-sim" --dir "$dir/cloudstack" --linstor-url "$linstor" --qemu
    cloud=http://$(wait_for cloudstack "ready listen=" | sed 's/.*listen=//')
    wait_for cloudstack secret_key_file >/dev/null
    key=$(sed -n 's/^api_key_file = "\(.*\)"$/\1/p' "$dir/cloudstack.log")
    secret=$(sed -n 's/^secret_key_file = "\(.*\)"$/\1/p' "$dir/cloudstack.log")
    note "LINSTOR (simulated) on $linstor: nodes kvm1, kvm2 with a pool, and this one without"
    note "CloudStack (simulated) on $cloud/client/api: a zone with KVM hosts; machines run in QEMU"
}

# cs COMMAND [NAME=VALUE]...: what CloudStack answers to whoever has the root admin's keys. Values need no encoding here.
cs() {
    local query signature
    query=$(printf '%s\n' "command=$1" "${@:2}" response=json "apiKey=$(cat "$key")" | sort -t= -k1,1 | paste -sd'&')
    signature=$(printf '%s' "${query,,}" | openssl dgst -sha1 -hmac "$(cat "$secret")" -binary | base64 |
        sed 's/+/%2B/g; s,/,%2F,g; s/=/%3D/g')
    curl -sS "$cloud/client/api" -d "$query&signature=$signature"
}

# Like cs, until the job that it began has ended well.
cs_job() {
    local job said
    job=$(cs "$@" | jq -r '.[].jobid // empty')
    [ -n "$job" ] || die "$1: no job was begun: $(cs "$@")"
    until said=$(cs queryAsyncJobResult "jobid=$job") && [ "$(jq '.[].jobstatus' <<<"$said")" != 0 ]; do sleep 0.3; done
    [ "$(jq '.[].jobstatus' <<<"$said")" = 1 ] || die "$1: $(jq -c '.[].jobresult' <<<"$said")"
    jq -c '.[].jobresult' <<<"$said"
}

id_of() { jq -r --arg kind "$1" --arg name "$2" '.[$kind][] | select(.name == $name) | .id' "$dir/cloudstack/world.json"; }

# Machines and a volume of somebody else's: one machine runs, with a disk on the same LINSTOR.
make_theirs() {
    local zone template offering vm disk n
    zone=$(jq -r '.zone[0].id' "$dir/cloudstack/world.json")
    template=$(jq -r '[.template[] | select(.templatetype != "SYSTEM")][0].id' "$dir/cloudstack/world.json")
    offering=$(id_of serviceoffering "Small Instance")
    for n in 1 2; do
        vm=$(cs_job deployVirtualMachine "zoneid=$zone" "templateid=$template" "serviceofferingid=$offering" \
            "networkids=$(id_of network l2v)" "name=theirs-$n" startvm=$([ $n = 1 ] && echo true || echo false) |
            jq -r .virtualmachine.id)
        [ $n = 2 ] || theirs=$vm
    done
    disk=$(cs_job createVolume "zoneid=$zone" "diskofferingid=$(id_of diskoffering linstor-custom)" name=theirs-data size=1 |
        jq -r .volume.id)
    cs_job stopVirtualMachine "id=$theirs" forced=true >/dev/null
    cs_job attachVolume "id=$disk" "virtualmachineid=$theirs" >/dev/null
    their_disk=cs-$disk
    printf 'nobody else may write this\n' | dd of="$(their_device)" conv=notrunc status=none
    cs_job startVirtualMachine "id=$theirs" >/dev/null
    note "somebody else has two machines there, theirs-1 that runs with a disk on LINSTOR, and theirs-2 that is off"
    theirs_state >"$dir/theirs-before.json"
}

their_device() {
    curl -sS "$linstor/v1/view/resources?resources=$their_disk" |
        jq -r '[.[] | select(.volumes[0].device_path) | .volumes[0].device_path][0]'
}

# All that the simulators know of them, and the bytes on the disk.
theirs_state() {
    curl -sS "$cloud/sim/state" | jq -S '
        [.vms[] | select(.name | startswith("theirs"))] as $vms |
        { vms: $vms, volumes: [.volumes[] | select(.vm as $vm | $vms | any(.id == $vm))] }'
    curl -sS "$linstor/v1/resource-definitions/$their_disk" | jq -S '{ uuid, props, resource_group_name }'
    head -c 65536 "$(their_device)" | sha256sum
}

# --- the control plane ---------------------------------------------------------------------------------------------

start_oma() {
    {
        printf 'listen = "127.0.0.1:0"\ndatabase_url = "sqlite://%s/oma.db"\nstate_dir = "%s/oma"\n' "$dir" "$dir"
        tls oma-main
        printf '[rest]\nlisten = "127.0.0.1:0"\n'
        printf '[storage]\nkind = "linstor"\ncontrollers = ["%s"]\nresource_group = "cloudstack"\nnode = "oma"\n' "$linstor"
        printf '[compute]\nkind = "cloudstack"\nendpoint = "%s/client/api"\n' "$cloud"
        printf 'api_key_file = "%s"\nsecret_key_file = "%s"\n' "$key" "$secret"
        printf 'zone = "%s"\npool = "linstor"\ndisk_offering = "linstor-custom"\n' \
            "$(jq -r '.zone[0].name' "$dir/cloudstack/world.json")"
        printf 'template = "%s"\nisolated_network = "l2a"\n' \
            "$(jq -r '[.template[] | select(.templatetype != "SYSTEM")][0].name' "$dir/cloudstack/world.json")"
    } >"$dir/oma-api.toml"
    start oma "$bin/oma-api" --config "$dir/oma-api.toml"
    oma_is_ready
    note "oma-api on $oma, with [storage] linstor and [compute] cloudstack: $dir/oma-api.toml"
}

# --- what failover.sh asks of a target ------------------------------------------------------------------------------

# CloudStack's API shows no consoles: what the guest says is read where the simulator's host keeps it.
ready_flags=()
console_of() { # JOB
    local id tries
    id=$(mk failover get "$1" -o json | jq -r '.data.destination_vm_id // .destination_vm_id')
    for ((tries = 0; tries < 1200; tries++)); do
        if grep -aq 'guest: ready' "$dir/cloudstack/consoles/$id.log" 2>/dev/null; then break; fi
        sleep 0.1
    done
    cat "$dir/cloudstack/consoles/$id.log"
}

nothing_is_left() { # what was cleaned up
    local left
    left=$(curl -sS "$cloud/sim/state" | jq -r '
        (.vms[] | select(.removed | not) | .name | select(startswith("theirs") | not)),
        (.volumes[] | select(.removed | not) | select(.vm == null) | .name)')
    left+=$(curl -sS "$linstor/v1/resource-definitions" |
        jq -r --arg theirs "$their_disk" '.[].name | select(startswith("cs-") and . != $theirs)')
    [ -z "$left" ] || die "left after $1: $left"
}

# --- what was asked ------------------------------------------------------------------------------------------------

mark() { since=$(date +%s%3N); }

# Everything that changed something since the mark, and how often was looked.
calls() { # TITLE
    {
        curl -sS "$cloud/sim/calls" | jq -c --argjson since "$since" '.[] | select(.at >= $since) |
            { at, who: "CloudStack", what: .command, result: .status, ms, looks: (.command | test("^(list|query)")) }'
        curl -sS "$linstor/sim/calls" | jq -c --argjson since "$since" '.[] | select(.at >= $since) |
            { at, who: "LINSTOR", what: "\(.method) \(.path)", result: .status, ms, looks: (.method == "GET") }'
    } | jq -s 'sort_by(.at)' >"$dir/calls.json"
    note ""
    note "$1: what both targets were asked ($(jq length "$dir/calls.json") calls, of which $(
        jq '[.[] | select(.looks)] | length' "$dir/calls.json") only looked; the simulated plug-in's are among them)"
    jq -r '.[] | select(.looks | not) | [.who, .what, .result, "\(.ms) ms"] | @tsv' "$dir/calls.json" |
        awk -F'\t' '{ printf "   %-10s %-92s %4s %9s\n", $1, (length($2) > 92 ? substr($2, 1, 89) "..." : $2), $3, $4 }'
}

main() {
    local began=$SECONDS test_calls live_calls
    trap clean_up EXIT
    trap 'exit 130' INT TERM
    trap 'echo "demo: line $LINENO: $BASH_COMMAND failed; logs are in $dir" >&2' ERR
    [ -x "$bin/cloudstack-sim" ] || die "$bin/cloudstack-sim is not built: \`make demo-cloud\` builds it"
    claim_folder
    need_space 6144
    say "two simulated targets, and what somebody else has there"
    start_targets
    make_theirs
    say "the control plane"
    make_certificates
    start_oma
    say "a machine that runs and writes: replicated to LINSTOR, and tested on CloudStack"
    mark
    failover
    test_calls=$(calls "begin, two syncs, test and clean-up")
    say "the machine itself: moved to CloudStack with all that it wrote, and brought back"
    mark
    move
    live_calls=$(calls "live failover, rollback and clean-up")
    say "what somebody else has there"
    theirs_state >"$dir/theirs-after.json"
    diff -u "$dir/theirs-before.json" "$dir/theirs-after.json" || die "what is somebody else's has changed: see above"
    note "their machines, their volume, its resource and its bytes are as they were"
    say "what it came to"
    printf '%s\n%s\n' "$test_calls" "$live_calls"
    failover_table
    note ""
    note "tested against simulators of both targets, not against the targets themselves"
    note "logs $dir/{oma,guest,guest_agent,linstor,cloudstack}.log   configuration $dir/oma-api.toml"
    note "done in $((SECONDS - began)) s; everything that was started is stopped now"
}

main
