# shellcheck shell=bash
# The operator's day, part of the demo: plan, watch, pause, schedule, a breach of the RPO and its recovery. Sourced by
# deploy/demo/run.sh, not run.
: "${dir:?run deploy/demo/run.sh, which sources this file}"

# until_json SECONDS FILTER: until the migration's JSON fulfils it.
until_json() {
    local end=$((SECONDS + $1))
    until migration | jq -e "$2" >/dev/null; do
        [ $SECONDS -lt $end ] || die "after $1 s it is still not so: $2; see $dir/oma.log"
        sleep 0.5
    done
}

# What stands against protecting the VM, and what would be made of it.
plan() {
    shown migration plan "$vm"
    shown migration estimate "$vm"
}

# The stream that a script follows, for as long as something runs: its first and its last line.
watched() {
    local waiting
    curl -sSN -X POST "http://$rest/my/machines/$vm/migrate?action=watch" >"$dir/watch.json" 9>&- &
    waiting=$!
    "$@" >/dev/null
    wait "$waiting" || die "the watch did not end well: see $dir/oma.log"
    note "$ curl -X POST http://$rest/my/machines/$vm/migrate?action=watch     ($(wc -l <"$dir/watch.json") lines)"
    jq -c '{type, phase, state, current_progress, total_progress, eta_ms, transfer_bytes_second}' "$dir/watch.json" |
        sed -n '1p;$p' | sed 's/^/   /'
}

# A sync on a narrow link, paused at a durable point, and gone on with.
pause_and_go_on() {
    local began took
    mk migration limit "$vm" --rate 4MiB >/dev/null
    mk migration sync "$vm" >/dev/null
    until_json 30 '.cycle.status == "running" and .cycle.snapshot_taken_at != null'
    began=$(date +%s%N)
    mk migration pause "$vm" --wait >/dev/null
    took=$((($(date +%s%N) - began) / 1000000))
    note "paused at a durable point after $took ms; $(migration | jq -r '.cycle | "\(.job_id) is \(.status)"')"
    mk migration limit "$vm" --rate 0 >/dev/null
    sync_and_wait
    note "gone on with: $(migration | jq -r '.cycle | "\(.job_id) is \(.status)"')"
}

# A schedule, a hold that makes the restore point too old, and the recovery.
schedule_and_breach() {
    shown migration schedule set "$vm" --every 1m --rpo 1m --blackout 'sun 02:00-02:05 Europe/Berlin'
    shown migration schedule preview --cron '30 2 * * *' --time-zone Europe/Berlin --count 2
    mk migration hold "$vm" >/dev/null
    note "held: no cycle starts by itself, and the last restore point gets older"
    until_json 120 '.rpo_breached'
    note "breach:   $(mk migration get "$vm" | grep '^rpo')"
    mk migration release "$vm" >/dev/null
    until_json 120 '.rpo_breached | not'
    note "recovery: $(mk migration get "$vm" | grep '^rpo')   (the schedule made the missed cycle up)"
    for _ in $(seq 20); do
        sqlite3 -readonly "$dir/oma.db" "SELECT kind FROM events" | grep -q rpo_recovered && break
        sleep 0.5
    done
    curl -sS "http://$rest/metrics" | grep -E '^migratekit_migration_rpo_seconds' | sed 's/^/   /'
    sqlite3 -readonly "$dir/oma.db" \
        "SELECT seq, recorded_at, kind FROM events WHERE kind LIKE 'rpo_%' ORDER BY seq" | sed 's/^/   /'
    mk migration schedule clear "$vm" >/dev/null
    # One that has begun meanwhile ends first.
    mk migration wait "$vm" --timeout 2m >/dev/null
    shown migration list -o wide
}
