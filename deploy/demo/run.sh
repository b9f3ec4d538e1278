#!/bin/bash
# The demo: an operator's day with a live source: plan, begin, syncs, a kill in the middle of one, pause, schedule, a breach
# of the RPO and its recovery, and the proof; then a running machine, tested on the target, moved there, and brought back.
# `make demo` builds and runs it, `make demo-full` with all of it.
#
#   deploy/demo/run.sh            programs from target/release; MIGRATEKIT_BIN names another folder
#   deploy/demo/run.sh --full     and a guest that has to be converted before it can boot on the target; as root
#
# Everything lies in DEMO_DIR (/var/tmp/migratekit-demo-UID). What it starts, it ends, Ctrl-C included.
set -Eeuo pipefail
export PATH="$PATH:/usr/sbin:/sbin" LC_ALL=C

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
bin=${MIGRATEKIT_BIN:-$(realpath -m "${CARGO_TARGET_DIR:-$root/target}")/release}
dir=${DEMO_DIR:-/var/tmp/migratekit-demo-$(id -u)}
vm=demo-vm
mib=$((1 << 20))
fs_size=$((1024 * mib))   # the file system: of real files, never written by the guest
root_size=$((1600 * mib)) # disk "root": the file system, then room where the guest writes
data_size=$((256 * mib))  # disk "data"
full=''
case "${1:-}" in
    '') ;;
    --full) full=yes ;;
    *) sed -n '6,7s/^# *//p' "$0" >&2 && exit 64 ;;
esac
declare -A pids=()
rows=()
# shellcheck source=lib.sh
. "$here/lib.sh"
# shellcheck source=day.sh
. "$here/day.sh"
# shellcheck source=failover.sh
. "$here/failover.sh"
# shellcheck source=conversion.sh
. "$here/conversion.sh"

migration() { mk migration get "$vm" -o json; }
sum() { jq "[.cycle.disks[].$1] | add"; } # of a migration's JSON
metered() { echo $((10#$(cat "$dir/vm/metered-bytes"))); }

# --- what there is to migrate --------------------------------------------------------------------------------------

# An ext4 of real files: the first folder of this machine that fits. Few big files first: mke2fs takes minutes for many.
make_file_system() {
    local from used
    for from in "/usr/lib/$(uname -m)-linux-gnu" /usr/bin /usr/share /etc; do
        used=$(du -sxm "$from" 2>/dev/null | cut -f1)
        if [ "${used:-9999}" -lt 800 ] &&
            mke2fs -q -F -t ext4 -d "$from" "$dir/root.img" $((fs_size / 1024))k >"$dir/mke2fs.log" 2>&1; then
            note "disk root: $(mib $root_size), an ext4 of $(mib $fs_size) with the $used MiB of $from, then room to write"
            return
        fi
        rm -f "$dir/root.img"
    done
    die "no file system could be made: see $dir/mke2fs.log"
}

start_vm() {
    make_file_system
    note "disk data: $(mib $data_size)"
    start vm "$bin/live-vm" --dir "$dir/vm" --disk "root=$root_size" --disk "data=$data_size" \
        --image "root=$dir/root.img" --writer 2MiB --writer-range "root=$fs_size-$root_size" --meter
    wait_for vm ready >/dev/null
    rm "$dir/root.img"
    note "the guest writes 2 MiB/s to each disk from now to the end"
}

# The guest writes a lot at once: all the room behind the file system, and the whole data disk.
overwrite() {
    local offset piece=$((64 * mib))
    local root=() data=()
    head -c "$piece" /dev/urandom >"$dir/noise"
    for ((offset = fs_size; offset < root_size; offset += piece)); do
        root+=(-c "write -q -s $dir/noise $offset $piece")
    done
    for ((offset = 0; offset < data_size; offset += piece)); do
        data+=(-c "write -q -s $dir/noise $offset $piece")
    done
    qemu-io -f raw "${root[@]}" "nbd+unix:///live-root?socket=$dir/vm/nbd.sock" >>"$dir/qemu-io.log" 2>&1
    qemu-io -f raw "${data[@]}" "nbd+unix:///live-data?socket=$dir/vm/nbd.sock" >>"$dir/qemu-io.log" 2>&1
    rm "$dir/noise"
}

# --- the daemons ---------------------------------------------------------------------------------------------------

start_oma() {
    {
        printf 'listen = "127.0.0.1:0"\ndatabase_url = "sqlite://%s/oma.db"\nstate_dir = "%s/oma"\n' "$dir" "$dir"
        tls oma-main
        printf '[compute]\nkind = "local"\npath = "%s/machines"\n' "$dir"
        printf '[storage]\nkind = "local"\npath = "%s/replicas"\n[rest]\nlisten = "127.0.0.1:0"\n' "$dir"
    } >"$dir/oma-api.toml"
    start oma "$bin/oma-api" --config "$dir/oma-api.toml"
    oma_is_ready
    note "oma-api on $oma, its database $dir/oma.db"
}

start_agent() {
    local skip
    {
        printf 'oma = "%s"\nstate_dir = "%s/vma"\n' "$oma" "$dir"
        tls agent-vma-01
        printf '[diagnostics]\nlisten = "127.0.0.1:0"\n[progress]\nlisten = "127.0.0.1:0"\n'
        printf '[[vm]]\nuuid = "4211a3c8-0f43-4a0e-9d0c-8f1d3a5b6c7e"\nname = "%s"\n' "$vm"
        cat "$dir/vm/source.toml"
    } >"$dir/vma-agent.toml"
    touch "$dir/agent.log"
    skip=$(wc -l <"$dir/agent.log")
    start agent "$bin/vma-agent" --config "$dir/vma-agent.toml"
    wait_for agent "connected to the OMA" "$skip" >/dev/null
}

# --- what failover.sh asks of a target -----------------------------------------------------------------------------

ready_flags=(--ready-console "guest: ready" --ready-required)
console_of() { mk failover console "$1"; }
nothing_is_left() {
    [ -z "$(ls -A "$dir/machines/machines")" ] || die "a machine is left in $dir/machines after $1"
    [ -z "$(find "$dir/replicas/volumes" -name 'cs-*')" ] || die "clones are left in $dir/replicas/volumes after $1"
}

# --- cycles --------------------------------------------------------------------------------------------------------

sync_and_wait() { mk migration sync "$vm" --wait >"$dir/last.txt"; }

# verified [--source]: says what was compared, or ends the demo.
verified() {
    local found
    if ! found=$(mk verify "$vm" "$@" -o json); then
        jq -r '.mismatches[] | "disk \(.disk_key): \(.length) bytes at \(.offset)"' <<<"$found" >&2
        die "the replica is not the source: see $dir/oma.log"
    fi
    echo "equal ($(mib "$(jq .compared_bytes <<<"$found")"))"
}

# row NAME WIRE REDONE: of the last cycle, for the table at the end. The replica is verified at once.
row() {
    local name=$1 wire=$2 redone=$3 m data seconds verdict
    m=$(migration)
    data=$(jq '[.cycle.disks[] | .data_bytes] | add' <<<"$m")
    seconds=$(jq -r '.cycle | "\(.finished_at) \(.started_at)"' <<<"$m" |
        while read -r end begin; do
            awk -v e="$(date -d "$end" +%s.%N)" -v b="$(date -d "$begin" +%s.%N)" 'BEGIN { printf "%.1f", e - b }'
        done)
    verdict=$(verified)
    rows+=("$name|$(mib $((root_size + data_size)))|$(mib "$data")|$(mib "$wire")|$seconds s|$(
        awk -v n="$data" -v s="$seconds" 'BEGIN { printf "%.0f MiB/s", n / 1048576 / (s > 0.1 ? s : 0.1) }'
    )|$redone|replica")
    note "$(jq -r .cycle.job_id <<<"$m") committed after $seconds s; read back and compared with what was sent: $verdict"
}

# The watch ends when nothing runs, so the sync is asked for first.
watched_full() {
    mk migration sync "$vm" >/dev/null
    watched mk migration wait "$vm" -o json
    row "full" "$(migration | sum wire_bytes)" -
}

whole_cycle() { # NAME
    sync_and_wait
    row "$1" "$(migration | sum wire_bytes)" -
}

# The agent dies when it has read $1 bytes of the cycle. It is not asked: kill -9.
kill_agent_after() {
    local from=$1 bytes=$2
    while [ $(($(metered) - from)) -lt "$bytes" ]; do
        kill -0 "${pids[agent]}" || die "the agent ended by itself: see $dir/agent.log"
        sleep 0.005
    done
    stop agent KILL
}

interrupted_cycle() {
    local changed before killed m resumed planned read_twice percent waiting
    changed=$((root_size - fs_size + data_size))
    before=$(metered)
    mk migration sync "$vm" --wait >"$dir/last.txt" 9>&- &
    waiting=$!
    kill_agent_after "$before" $((changed * 45 / 100))
    killed=$(($(metered) - before))
    start_agent
    wait "$waiting" || die "the interrupted sync did not end well: see above and $dir/oma.log"
    note "the agent was killed (-9) when it had read $(mib $killed) of about $(mib $changed), and started again"
    m=$(migration)
    planned=$(sum planned_bytes <<<"$m")
    resumed=$(sum resumed_bytes <<<"$m")
    read_twice=$(($(metered) - before - planned))
    [ $read_twice -gt 0 ] || read_twice=0
    percent=$((resumed * 100 / planned))
    if [ $percent -lt 10 ] || [ $percent -gt 90 ]; then
        die "the kill came when $percent % were durable, not in the middle: run it again"
    fi
    note "at the kill $percent % were durable, and were not sent again; read a second time: $(mib $read_twice) (at most 64 a disk)"
    # Of both agents; what the killed one sent after its last report, half a second at most, is not in it.
    row "incremental, agent killed" "$(sum wire_bytes <<<"$m")" "$(mib $read_twice)"
}

# --- the end -------------------------------------------------------------------------------------------------------

prove() {
    local image disk
    note "replica = manifest: $(verified)"
    note "source = manifest, wherever nothing changed since: $(verified --source)"
    rows[-1]=${rows[-1]%replica}"both arms"
    disk=$(migration | jq -r '.disks[] | select(.key == "root").disk_id')
    image=$dir/replicas/volumes/mk-$disk.img
    e2fsck -fn "$image" >"$dir/e2fsck.log" 2>&1 || die "the replica's file system is damaged: see $dir/e2fsck.log"
    note "e2fsck on the replica: clean ($(tail -n1 "$dir/e2fsck.log" | sed 's/.*: //'))"
}

table() {
    local line widths='%-26s %9s %9s %9s %8s %11s %9s %9s\n'
    # shellcheck disable=SC2059 # the format is ours
    {
        printf "$widths" cycle disks data wire time throughput redone verified
        for line in "${rows[@]}"; do
            IFS='|' read -ra cells <<<"$line"
            printf "$widths" "${cells[@]}"
        done
    }
}

main() {
    local began=$SECONDS
    trap clean_up EXIT
    trap 'exit 130' INT TERM
    trap 'echo "demo: line $LINENO: $BASH_COMMAND failed; logs are in $dir" >&2' ERR
    [ -x "$bin/oma-api" ] || die "$bin/oma-api is not built: \`make demo\` builds it"
    [ -z "$full" ] || [ "$(id -u)" = 0 ] || die "the guest to convert is made by debootstrap, which needs root"
    claim_folder
    need_space "${full:+1}"8192
    say "a live VM's disks, beside the source"
    start_vm
    say "the two daemons"
    mount_replicas
    make_certificates
    start_oma
    start_agent
    say "the plan, before anything is made"
    plan
    say "begin, and the full copy while the guest writes"
    mk migration begin "$vm" --wait >/dev/null
    watched_full
    say "the difference"
    whole_cycle "incremental"
    say "a big difference, and the agent killed in the middle of it"
    overwrite
    interrupted_cycle
    say "the operator's day: pause, schedule, a breach of the RPO and its recovery"
    pause_and_go_on
    schedule_and_breach
    say "proof: replica = manifest, source = manifest, and a file system that knows nothing of us"
    prove
    say "a machine that runs and writes: replicated, and tested on the target"
    failover
    say "the machine itself: moved to the target with all that it wrote, and brought back"
    move
    if [ -n "$full" ]; then
        say "a machine that was not prepared for virtio: converted"
        conversion
    fi
    say "what it came to"
    table
    failover_table
    if [ -n "$full" ]; then conversion_table; fi
    mk migration get "$vm" >"$dir/migration.txt"
    note ""
    note "logs $dir/{oma,agent,vm,guest}.log   configuration $dir/{oma-api,vma-agent}.toml   database $dir/oma.db"
    if mountpoint -q "$dir/replicas"; then
        note "replicas and restore points: mount -o loop $dir/replicas.xfs /mnt"
    else
        note "replicas and restore points: $dir/replicas"
    fi
    note "done in $((SECONDS - began)) s; everything that was started is stopped now"
}

main
