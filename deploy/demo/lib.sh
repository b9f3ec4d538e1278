# shellcheck shell=bash
# What deploy/demo/run.sh is built of: processes and mounts that never outlive it, waiting, sizes for people.
# Sourced, not run. Everything lies in $dir, which is the demo's own; $pids maps names to process ids.
: "${dir:?run deploy/demo/run.sh, which sources this file}"

say() { printf '\n\033[1m== %s\033[0m\n' "$*"; }
note() { printf '   %s\n' "$*"; }
die() {
    printf 'demo: %s\n' "$*" >&2
    exit 1
}

# --- processes -----------------------------------------------------------------------------------------------------

# start NAME COMMAND...: in the background, its output in $dir/NAME.log, its pid in $dir/pids.
start() {
    local name=$1
    shift
    NO_COLOR=1 "$@" </dev/null >>"$dir/$name.log" 2>&1 9>&- & # 9: see claim_folder
    pids["$name"]=$!
    echo "$!" >>"$dir/pids"
    disown "$!" # or the shell would report its death
}

# stop NAME [SIGNAL]: and waits for its end; kill -9 after 20 s.
stop() {
    local name=$1 signal=${2:-TERM} pid=${pids[$1]:-} tries
    [ -n "$pid" ] || return 0
    unset "pids[$name]"
    kill -s "$signal" "$pid" 2>/dev/null || true
    for ((tries = 0; tries < 200; tries++)); do
        kill -0 "$pid" 2>/dev/null || break
        sleep 0.1
    done
    kill -s KILL "$pid" 2>/dev/null || true
}

# wait_for NAME TEXT: until a line of NAME's log after the first $skip lines has TEXT; prints the line.
wait_for() {
    local name=$1 text=$2 skip=${3:-0} tries line
    for ((tries = 0; tries < 300; tries++)); do
        line=$(tail -n "+$((skip + 1))" "$dir/$name.log" 2>/dev/null | grep -m1 -F -- "$text") && {
            echo "$line"
            return
        }
        kill -0 "${pids[$name]}" 2>/dev/null || break
        sleep 0.1
    done
    tail -n 15 "$dir/$name.log" >&2
    die "$name did not say \"$text\"; the end of its log is above, all of it in $dir/$name.log"
}

# What a demo left that was killed itself: processes that it started and that still have $dir in their arguments.
stop_left_overs() {
    local pid
    [ -e "$dir/pids" ] || return 0
    while read -r pid; do
        if { tr '\0' ' ' <"/proc/$pid/cmdline"; } 2>/dev/null | grep -q -F -- "$dir/"; then
            note "ending process $pid of an earlier demo"
            kill -s KILL "$pid" 2>/dev/null || true
        fi
    done <"$dir/pids"
}

# What machines of the simulated CloudStack are left: they outlive it, as those of a real one would.
stop_machines() {
    local file pid
    for file in "$dir"/cloudstack/machines/*/pid; do
        pid=$(cat "$file" 2>/dev/null) || continue
        if { tr '\0' ' ' <"/proc/$pid/cmdline"; } 2>/dev/null | grep -q -F -- "$dir/cloudstack/"; then
            kill -s KILL "$pid" 2>/dev/null || true
        fi
    done
}

# --- the control plane ---------------------------------------------------------------------------------------------

mk() { "$bin/migratekit" "$@"; }

make_certificates() {
    mk dev-ca --out "$dir/tls" --agent vma-01 --agent vma-02 --agent vma-03 >"$dir/dev-ca.txt"
    note "a development CA and certificates for the OMA, the agent and an operator: $dir/tls"
}

tls() { # NAME of the certificate
    printf '[tls]\nca = "%s"\ncert = "%s"\nkey = "%s"\n' "$dir/tls/ca.pem" "$dir/tls/$1.pem" "$dir/tls/$1.key"
}

# oma_is_ready: its addresses, and the operator's own certificate for migratekit.
oma_is_ready() {
    oma=localhost:$(wait_for oma "control plane ready" | sed 's/.*listen=[^ ]*:\([0-9]*\).*/\1/')
    rest=127.0.0.1:$(wait_for oma "REST API ready" | sed 's/.*listen=[^ ]*:\([0-9]*\).*/\1/')
    export MIGRATEKIT_OMA=$oma MIGRATEKIT_CA=$dir/tls/ca.pem
    export MIGRATEKIT_CERT=$dir/tls/operator-admin.pem MIGRATEKIT_KEY=$dir/tls/operator-admin.key
}

# --- the demo's folder ---------------------------------------------------------------------------------------------

claim_folder() {
    if [ -e "$dir" ] && [ ! -e "$dir/.migratekit-demo" ]; then
        die "$dir is there and not of an earlier demo: remove it, or name another folder by DEMO_DIR"
    fi
    { mkdir -p "$dir" && touch "$dir/.migratekit-demo"; } || die "cannot use $dir: name another folder by DEMO_DIR"
    # The lock goes with this shell; what outlives it must not hold it.
    exec 9>"$dir/.migratekit-demo"
    flock -n 9 || die "another demo is running in $dir: wait for its end, or name another folder by DEMO_DIR"
    stop_left_overs
    stop_machines
    unmount_replicas
    find "$dir" -mindepth 1 -maxdepth 1 ! -name .migratekit-demo -exec rm -rf {} +
}

need_space() { # mebibytes
    local free
    free=$(df -Pm "$dir" | awk 'NR == 2 { print $4 }')
    [ "$free" -ge "$1" ] || die "$dir has $free MiB free, the demo needs $1: name another folder by DEMO_DIR"
}

# Replicas on XFS if we may: restore points are then reflinks. Elsewhere they are copies.
mount_replicas() {
    mkdir -p "$dir/replicas"
    if [ "$(id -u)" != 0 ]; then
        note "replicas in a plain folder (not root, so no loop device): each restore point is a copy"
        return
    fi
    truncate -s 8G "$dir/replicas.xfs"
    if mkfs.xfs -q -m reflink=1 "$dir/replicas.xfs" >"$dir/xfs.log" 2>&1 &&
        mount -o loop "$dir/replicas.xfs" "$dir/replicas" 2>>"$dir/xfs.log"; then
        note "replicas on XFS with reflinks, in an image on a loop device: $dir/replicas.xfs"
    else
        rm -f "$dir/replicas.xfs"
        note "replicas in a plain folder (no loop device here, see $dir/xfs.log): each restore point is a copy"
    fi
}

unmount_replicas() {
    local tries
    for ((tries = 0; tries < 50; tries++)); do
        mountpoint -q "$dir/replicas" 2>/dev/null || return 0
        umount "$dir/replicas" 2>/dev/null || sleep 0.1
    done
    die "$dir/replicas cannot be unmounted: see who uses it (fuser -vm $dir/replicas), then run this again"
}

clean_up() {
    local name
    trap '' INT TERM
    # Its machine outlives the control plane, and would outlive this.
    # A live one is taken back first.
    if [ -n "${tested:-}" ]; then
        mk failover rollback "$tested" --wait >/dev/null 2>&1 || true
        mk failover cleanup "$tested" --wait >/dev/null 2>&1 || true
    fi
    for name in agent guest_agent debian_agent oma vm guest debian cloudstack linstor; do stop "$name"; done
    stop_machines
    (unmount_replicas) || true
}

# --- for people ----------------------------------------------------------------------------------------------------

mib() { awk -v n="$1" 'BEGIN { printf (n < 10485760 ? "%.1f MiB" : "%.0f MiB"), n / 1048576 }'; }

now() { date +%s.%N; }

# shown COMMAND...: what an operator would type, and what it prints.
shown() {
    local typed='$ migratekit' word
    for word in "$@"; do
        case $word in *[!a-zA-Z0-9/._:=-]*) typed+=" '$word'" ;; *) typed+=" $word" ;; esac
    done
    note "$typed"
    mk "$@" | sed 's/^/   /'
}
