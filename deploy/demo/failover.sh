# shellcheck shell=bash
# A machine that runs: replicated while it writes, tested on the target, moved there, and brought back; part of the demo.
# Sourced by deploy/demo/run.sh and cloud.sh, not run. They say what it asks of the target: console_of JOB, nothing_is_left
# WHEN, and how a test waits for its machine ($ready_flags).
: "${dir:?run deploy/demo/run.sh, which sources this file}"

guest=shop-01
guest_uuid=420570c7-f61f-a930-77c5-1e876786cb3c
tested='' # the failover whose machine may be there
failover_steps=''
move_steps=''

# A small Linux on disks as VMware's, which writes numbered records to both.
start_guest() {
    start guest "$bin/live-guest" run --dir "$dir/guest" --bus pvscsi --root 1GiB --data 1GiB
    wait_for guest ready >/dev/null
    {
        printf 'oma = "%s"\nstate_dir = "%s/guest-vma"\n' "$oma" "$dir"
        tls agent-vma-02
        printf '[diagnostics]\nlisten = "127.0.0.1:0"\n[progress]\nlisten = "127.0.0.1:0"\n'
        printf '[[vm]]\nuuid = "%s"\nname = "%s"\n' "$guest_uuid" "$guest"
        cat "$dir/guest/source.toml"
    } >"$dir/guest-agent.toml"
    start guest_agent "$bin/vma-agent" --config "$dir/guest-agent.toml"
    wait_for guest_agent "connected to the OMA" >/dev/null
    note "$guest runs, on pvscsi disks and one vmxnet3 card: $("$bin/live-guest" ask --dir "$dir/guest" status)"
}

failover() {
    local said before
    start_guest
    mk migration begin "$guest" --wait >/dev/null
    mk migration sync "$guest" --wait >/dev/null
    before=$("$bin/live-guest" ask --dir "$dir/guest" status | sed 's/.*record //')
    mk migration sync "$guest" --wait >/dev/null
    note "replicated twice while it writes; before the second sync it had written record $before"
    # It finds its disks by itself: there is no conversion to wait for.
    shown failover test "$guest" --skip-virtio-injection "${ready_flags[@]}" --wait 2>"$dir/said.log" ||
        die "$(tail -n 3 "$dir/said.log")"
    tested=$(mk failover list --vm "$guest_uuid" -o json | jq -r '.data[0].job_id')
    failover_steps=$(mk failover get "$tested" | grep -E '^(ready in|step)')
    said=$(console_of "$tested" | tr -d '\r' | grep -a 'guest: boot' | tail -n1)
    note "its copy on the target, on virtio disks, says: $said"
    grep -q intact <<<"$said" || die "the copy is damaged: see $dir/oma.log"
    [ "$(sed 's/.*last record \([0-9]*\),.*/\1/' <<<"$said")" -ge "$before" ] ||
        die "records are missing: $before were written before the sync, and the copy says: $said"
    mk migration sync "$guest" --wait >/dev/null 2>&1
    note "a cycle was committed meanwhile; the source writes on: $("$bin/live-guest" ask --dir "$dir/guest" status)"
    shown failover cleanup "$tested" --wait 2>/dev/null | grep -E 'failover cleanup|clean-up|status'
    tested=''
    nothing_is_left "the test"
    mk verify "$guest" >/dev/null || die "the replica of $guest is not what was sent: see $dir/oma.log"
    note "nothing of the test is left, and the replica is what was sent"
}

# The last record that a copy found when it booted.
found_by_copy() {
    local said
    said=$(console_of "$1" | tr -d '\r' | grep -a 'guest: boot' | tail -n1)
    grep -q intact <<<"$said" || die "the copy is damaged, it says: $said; see $dir/oma.log"
    sed 's/.*last record \([0-9]*\),.*/\1/' <<<"$said"
}

# The VM itself: powered off, moved with what it wrote last, and back again.
move() {
    local before found status predicted down
    mk verify "$guest" --source >/dev/null || die "the source of $guest is not what was sent: see $dir/oma.log"
    before=$("$bin/live-guest" ask --dir "$dir/guest" status | sed 's/.*record //')
    note "both arms of the verification are equal, and a test has passed: it may move; it has written record $before"
    predicted=$(mk migration estimate "$guest" -o json | jq -r '.predicted_downtime_ms // empty | . / 1000')
    shown failover live "$guest" --skip-virtio-injection "${ready_flags[@]}" --wait 2>"$dir/said.log" ||
        die "$(tail -n 3 "$dir/said.log")"
    tested=$(mk failover list --vm "$guest_uuid" -o json | jq -r '.data[0].job_id')
    found=$(found_by_copy "$tested")
    [ "$found" -ge "$before" ] || die "records are missing: $before were written before, and it found $found"
    note "the source is off, with its final delta read back; on the target it found all $found records, and writes on"
    down=$(mk failover report "$tested" --format json | jq -r '.live.downtime_seconds * 10 | round / 10')
    note "it was down for $down s, its shutdown and its boot included (for its data alone ${predicted:-?} s were predicted)"
    shown failover rollback "$tested" --wait 2>/dev/null | grep -E 'failover rollback|rollback|status|standing'
    # It says its records once it has booted.
    until status=$("$bin/live-guest" ask --dir "$dir/guest" status) && grep -q record <<<"$status"; do sleep 1; done
    note "the target is off and what it wrote there is kept; the source runs again: $status"
    move_steps=$(mk failover get "$tested" | grep -E '^(ready in|step|  )')
    mk migration sync "$guest" --wait >/dev/null
    note "and replication went on: $(migration_of_guest)"
    mk failover cleanup "$tested" --wait >/dev/null
    tested=''
    mk verify "$guest" >/dev/null || die "the replica of $guest is not what was sent: see $dir/oma.log"
    nothing_is_left "the way back"
}

migration_of_guest() {
    mk migration get "$guest" -o json |
        jq -r '.cycle | "\(.kind) cycle \(.status), \([.disks[].data_bytes] | add / 1048576 | . * 10 | round / 10) MiB of data"'
}

failover_table() {
    note ""
    note "test failover of $guest, from the request on:"
    sed 's/^/   /' <<<"$failover_steps"
    note ""
    note "live failover of $guest, and its way back:"
    sed 's/^/   /' <<<"$move_steps"
}
