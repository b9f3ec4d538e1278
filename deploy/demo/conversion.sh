# shellcheck shell=bash
# A guest that cannot find its disks on virtio: tested as it is, and converted; the end of the full demo.
# Sourced by deploy/demo/run.sh, not run.
: "${dir:?run deploy/demo/run.sh, which sources this file}"

debian=billing-01
debian_uuid=42058d3e-6a0b-4f5c-9b0e-1c2d3e4f5a6b
conversion_steps=''

start_debian() {
    note "making a Debian 12 whose initramfs knows an IDE disk and no virtio: a minute"
    "$bin/live-guest" debian --out "$dir/debian.img" >"$dir/debootstrap.log" 2>&1 ||
        die "no Debian could be made: see $dir/debootstrap.log"
    start debian "$bin/live-vm" --dir "$dir/debian" --disk root=1500MiB --image "root=$dir/debian.img"
    wait_for debian ready >/dev/null
    rm "$dir/debian.img"
    {
        printf 'oma = "%s"\nstate_dir = "%s/debian-vma"\n' "$oma" "$dir"
        tls agent-vma-03
        printf '[diagnostics]\nlisten = "127.0.0.1:0"\n[progress]\nlisten = "127.0.0.1:0"\n'
        printf '[[vm]]\nuuid = "%s"\nname = "%s"\n' "$debian_uuid" "$debian"
        cat "$dir/debian/source.toml"
        printf '[vm.configuration]\ncpus = 2\nmemory = "1GiB"\nfirmware = "bios"\nguest_id = "debian12_64Guest"\n'
    } >"$dir/debian-agent.toml"
    start debian_agent "$bin/vma-agent" --config "$dir/debian-agent.toml"
    wait_for debian_agent "connected to the OMA" >/dev/null
    mk migration begin "$debian" --wait >/dev/null
    mk migration sync "$debian" --wait >/dev/null
    note "$debian is replicated"
}

# tried TEXT [OPTION...]: a test failover that is over when TEXT is on the machine's console.
tried() {
    local text=$1
    shift
    shown failover test "$debian" "$@" --ready-console "$text" --ready-timeout 10m --ready-required --wait 2>"$dir/said.log" ||
        die "$(tail -n 3 "$dir/said.log")"
    tested=$(mk failover list --vm "$debian_uuid" -o json | jq -r '.data[0].job_id')
}

cleaned() {
    mk failover cleanup "$tested" --wait >/dev/null
    tested=''
}

conversion() {
    start_debian
    tried "Gave up waiting for root" --skip-virtio-injection
    note "as it is, it finds no disk: $(mk failover console "$tested" | tr -d '\r' | grep -a -m1 'Gave up waiting')"
    cleaned
    tried "guest login:"
    conversion_steps=$(mk failover get "$tested" | grep -E '^(ready in|step|  )')
    note "converted, it asks who logs in: $(mk failover console "$tested" | tr -d '\r' | grep -a -o -m1 'guest login:')"
    cleaned
    mk verify "$debian" >/dev/null || die "the replica of $debian is not what was sent: see $dir/oma.log"
    note "what was converted was a clone: the replica is still what was sent"
}

conversion_table() {
    note ""
    note "test failover of $debian, its conversion included:"
    sed 's/^/   /' <<<"$conversion_steps"
}
