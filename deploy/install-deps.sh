#!/bin/bash
# Installs what MigrateKit needs from outside, on Debian 12, and nothing else.
#
#   deploy/install-deps.sh GROUP...      runtime | build | lint | test | slow | bench | demo | conversion
#   deploy/install-deps.sh --list        what each group installs, and why
#
# What is there already is left alone; when nothing is missing, neither rights nor a network are needed.
# Debian packages need root. Tools that Debian does not have go to target/tools/bin, never into the system.
# Exit codes: 0; 64 wrong arguments; 69 something cannot be had here; 77 not root.
set -euo pipefail
export PATH="$PATH:/usr/sbin:/sbin"

root=$(cd "$(dirname "$0")/.." && pwd)
tools="$(realpath -m "${CARGO_TARGET_DIR:-$root/target}")/tools"
grpcurl_version=v1.9.4
buf_version=1.75.0
schemathesis_version=4.32.5
python_linstor_version=1.29.1
cs_version=5.2.0 # a CloudStack client that is not ours
promtool_of=prometheus # the Debian package that holds it
guest_kernel=linux-image-cloud-amd64 # the Debian package that depends on the one that holds it
# What the guest may find itself on, here and after a move; each with what it depends on.
guest_modules="scsi_common scsi_mod sd_mod libata ata_piix vmw_pvscsi virtio_ring virtio virtio_pci_legacy_dev
    virtio_pci_modern_dev virtio_pci virtio_blk virtio_scsi failover net_failover virtio_net vmxnet3 virtio_console button evdev"
guest_version=2 # of what is put together for it: another one is made anew

# package | how to see that it is there | groups | why
#
# qemu-utils, qemu-system-common and qemu-system-x86 stand or fall together: which holds what differs between Debian 12
# and its backports, and installing only one makes apt remove the others.
table() {
    cat <<'TABLE'
gcc                | cmd:cc                       | build lint test demo         | compiles the crypto library, links
libc6-dev          | file:/usr/include/stdio.h    | build lint test demo         | headers and start-up code for that
libnbd-dev         | pc:libnbd                    | build lint test demo         | NBD client library: the engine is linked to it
pkg-config         | cmd:pkg-config               | build lint test demo         | finds that library
libnbd0            | lib:libnbd.so.0              | runtime                      | NBD client library
nbdkit             | cmd:nbdkit                   | runtime test demo            | NBD server the agent starts; sources and faults in tests
libnbd-bin         | cmd:nbdinfo                  | test demo                    | nbdinfo, nbdcopy: a client that is not ours, to compare with
qemu-utils         | cmd:qemu-img                 | runtime test demo            | the scratch image of a live source's snapshot; disks in tests
qemu-system-common | cmd:qemu-storage-daemon      | test demo                    | the live source: a running VM's disks, without the VM
qemu-system-x86    | cmd:qemu-system-x86_64       | runtime test demo            | the machines of compute.kind = "local"; a live source as a whole machine
ovmf               | file:/usr/share/OVMF         | runtime test demo            | their EFI firmware
syslinux           | cmd:syslinux                 | test demo                    | that machine's boot loader, put on its disk without root
syslinux-common    | file:/usr/lib/syslinux/mbr/mbr.bin | test demo              | the same one's first sector
mtools             | cmd:mcopy                    | test demo                    | writes into that disk's boot partition without root
e2fsprogs          | cmd:mke2fs                   | test demo                    | a disk with a file system of real files
xfsprogs           | cmd:mkfs.xfs                 | test demo                    | a target with reflinks: cheap restore points
sqlite3            | cmd:sqlite3                  | test demo                    | looks into the OMA's database, as an operator would
mariadb-server     | cmd:mariadbd                 | test                         | the control plane's other database, started by the tests
openssl            | cmd:openssl                  | test                         | judges our certificates
gnutls-bin         | cmd:certtool                 | test                         | certificates for NBD over TLS
strace             | cmd:strace                   | test                         | shows that a flush happened
faketime           | cmd:faketime                 | test                         | a wall clock that jumps, for the daemons alone
curl               | cmd:curl                     | test demo                    | asks the progress API as its users do
jq                 | cmd:jq                       | test demo                    | reads -o json
b3sum              | cmd:b3sum                    | bench                        | hashes a file by one thread: what a verification is measured against
virt-v2v           | cmd:virt-v2v-in-place        | conversion slow              | makes guests able to run on virtio
guestfish          | cmd:guestfish                | conversion slow              | looks into a guest's disks
linux-image-cloud-amd64 | glob:/lib/modules/*/modules.dep | conversion slow      | the kernel that both start for that; any will do
ntfs-3g            | cmd:ntfs-3g                  | conversion slow              | mounts Windows' file systems there
lz4                | cmd:lz4                      | conversion slow              | unpacks the initramfs of an Ubuntu
xz-utils           | cmd:xz                       | conversion slow              | unpacks that of others
qemu-system-x86    | cmd:qemu-system-x86_64       | conversion slow              | runs that kernel; boots a converted guest in tests
guestfs-tools      | cmd:virt-win-reg             | slow                         | reads a guest's registry: what says the same as we do
libwin-hivex-perl  | cmd:hivexregedit             | slow                         | makes the registry of the phony Windows
debootstrap        | cmd:debootstrap              | slow                         | makes a Debian to convert
TABLE
}

say() { echo "install-deps: $*" >&2; }

usage() {
    sed -n '2,9s/^# \{0,1\}//p' "$0" >&2
    exit 64
}

list() {
    echo "Debian packages:"
    table | awk -F' *[|] *' '{ printf "  %-19s %-22s %s\n", $1, $3, $4 }'
    echo "In $tools/bin:"
    printf '  %-19s %-22s %s\n' grpcurl "test" "$grpcurl_version, by go install: a gRPC client that is not ours"
    printf '  %-19s %-22s %s\n' promtool "test" "out of Debian's package $promtool_of, which is not installed: judges metrics and alert rules"
    printf '  %-19s %-22s %s\n' ../guest "test demo" "a kernel out of what $guest_kernel depends on, busybox out of busybox-static, qemu-ga out of qemu-guest-agent: a machine to move"
    printf '  %-19s %-22s %s\n' schemathesis "test" "$schemathesis_version, by pip into a venv of its own (../venv): the REST API against its document"
    printf '  %-19s %-22s %s\n' python-linstor "test" "$python_linstor_version, by pip into a venv of its own (../venv-linstor): a LINSTOR client that is not ours"
    printf '  %-19s %-22s %s\n' cs "test" "$cs_version, by pip into the same venv: drives cloudstack-sim as a client that is not ours"
    printf '  %-19s %-22s %s\n' buf "lint test" "$buf_version, by npm: lints the schema"
}

is_there() {
    case $1 in
        cmd:*) command -v "${1#cmd:}" >/dev/null ;;
        file:*) [ -e "${1#file:}" ] ;;
        glob:*) compgen -G "${1#glob:}" >/dev/null ;;
        pc:*) command -v pkg-config >/dev/null && pkg-config --exists "${1#pc:}" ;;
        lib:*) ldconfig -p | grep -q -F "${1#lib:}" ;;
    esac
}

missing_packages() { # groups...
    local package probe groups why group
    while IFS='|' read -r package probe groups why; do
        for group in "$@"; do
            if [[ " $(echo $groups) " == *" $group "* ]] && ! is_there "$(echo $probe)"; then
                echo $package
                break
            fi
        done
    done < <(table)
}

install_packages() { # packages...
    if ! command -v apt-get >/dev/null; then
        say "these are missing: $*"
        say "this is no Debian (no apt-get): install their counterparts yourself, then run this again"
        exit 69
    fi
    if [ "$(id -u)" != 0 ]; then
        say "these Debian packages are missing: $*"
        say "run as root, or: sudo $0 $groups"
        exit 77
    fi
    # Packages, not names: see the note at the table.
    if [[ " $* " == *" qemu-"* ]]; then
        set -- "$@" qemu-utils qemu-system-common qemu-system-x86
    fi
    say "apt-get install $*"
    local apt=(apt-get -q -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3)
    export DEBIAN_FRONTEND=noninteractive
    if ! "${apt[@]}" update </dev/null >&2 ||
        ! "${apt[@]}" install -y --no-install-recommends "$@" </dev/null >&2; then
        say "apt-get failed (see above): check the network and /etc/apt, then run this again"
        exit 69
    fi
}

# A tool that cannot be had is no failure: what needs it says so and is skipped.
tool_grpcurl() {
    [ -x "$tools/bin/grpcurl" ] && return
    if command -v grpcurl >/dev/null; then
        mkdir -p "$tools/bin" && ln -sf "$(command -v grpcurl)" "$tools/bin/grpcurl"
    elif ! command -v go >/dev/null; then
        say "Go is not here, so there is no grpcurl: SKIPPED are the tests that call the daemons with it"
    else
        say "go install grpcurl $grpcurl_version (once, about a minute)"
        mkdir -p "$tools/bin"
        GOBIN="$tools/bin" GOFLAGS=-buildvcs=false \
            go install "github.com/fullstorydev/grpcurl/cmd/grpcurl@$grpcurl_version" </dev/null >&2 ||
            say "grpcurl could not be built (Go too old, or no network): SKIPPED are the tests that call the daemons with it"
    fi
}

tool_buf() {
    [ -x "$tools/bin/buf" ] && return
    if command -v buf >/dev/null; then
        mkdir -p "$tools/bin" && ln -sf "$(command -v buf)" "$tools/bin/buf"
    elif ! command -v npm >/dev/null; then
        say "npm is not here, so there is no buf: SKIPPED is the lint of the schema"
    else
        say "npm install @bufbuild/buf $buf_version (once, seconds)"
        mkdir -p "$tools/bin" "$tools/npm"
        if npm install --prefix "$tools/npm" --no-audit --no-fund --loglevel=error "@bufbuild/buf@$buf_version" \
            </dev/null >&2; then
            ln -sf "$tools/npm/node_modules/.bin/buf" "$tools/bin/buf"
        else
            say "buf could not be installed (no network?): SKIPPED is the lint of the schema"
        fi
    fi
}

# Of PyPI, into a venv of ours, which is made where it is missing or was moved: a moved one's programs cannot be started.
tool_of_pypi() { # name version venv skipped probe...
    local name=$1 version=$2 venv=$tools/$3 skipped="SKIPPED is $4"
    shift 4
    "$venv/bin/$1" "${@:2}" >/dev/null 2>&1 && return
    if ! command -v python3 >/dev/null; then
        say "python3 is not here, so there is no $name: $skipped"
        return
    fi
    say "pip install $name $version (once, half a minute)"
    mkdir -p "$tools"
    if ! { { "$venv/bin/pip" --version >/dev/null 2>&1 || python3 -m venv --clear "$venv"; } &&
        "$venv/bin/pip" install -q --disable-pip-version-check --retries 1 --timeout 20 \
            "$name==$version"; } </dev/null >&2; then
        say "$name could not be had (no network, or no python3-venv): $skipped"
    fi
}

tool_schemathesis() {
    tool_of_pypi schemathesis "$schemathesis_version" venv "the test of the REST API against its document" \
        schemathesis --version
}

# Run by nothing but the simulator's tests, so that its licence (LGPL) is no concern of what is shipped.
tool_python_linstor() {
    tool_of_pypi python-linstor "$python_linstor_version" venv-linstor "the life of a LINSTOR client against the simulator" \
        python -c "import linstor"
}

tool_cs() {
    tool_of_pypi cs "$cs_version" venv "a life on cloudstack-sim by a client that is not ours" python -c "import cs"
}

# Taken out of the package: installed, it would start a Prometheus on this machine. Built from source, it takes half an
# hour. apt checks the package's hash against the signed list as it does for one that it installs.
tool_promtool() {
    [ -x "$tools/bin/promtool" ] && return
    local skipped="SKIPPED is what Prometheus's own tool says of our metrics and alert rules" at
    if command -v promtool >/dev/null; then
        mkdir -p "$tools/bin" && ln -sf "$(command -v promtool)" "$tools/bin/promtool"
    elif ! command -v apt-get >/dev/null || ! command -v dpkg-deb >/dev/null; then
        say "this is no Debian, so there is no promtool: $skipped"
    else
        say "apt-get download $promtool_of, for promtool (once, seconds)"
        mkdir -p "$tools/bin"
        at=$(mktemp -d)
        # The user that apt would rather download as cannot reach a folder of ours; it says so and goes on.
        if (cd "$at" && apt-get -q download "$promtool_of" </dev/null >&2) &&
            dpkg-deb -x "$at/$promtool_of"_*.deb "$at/x" && [ -x "$at/x/usr/bin/promtool" ]; then
            # Under its name only when it is whole.
            cp "$at/x/usr/bin/promtool" "$tools/bin/.promtool.$$"
            mv "$tools/bin/.promtool.$$" "$tools/bin/promtool"
        else
            say "promtool could not be had (no network, or no package lists: apt-get update): $skipped"
        fi
        rm -rf "$at"
    fi
}

# The agent with the libraries that it needs: QEMU needs them too, so this machine has them.
guest_agent() { # folder
    local needs
    (cd "$1" && apt-get -q download qemu-guest-agent </dev/null >&2) && dpkg-deb -x "$1"/qemu-guest-agent_*.deb "$1/agent" &&
        needs=$(ldd "$1/agent/usr/sbin/qemu-ga") && ! grep -q 'not found' <<<"$needs" &&
        mkdir -p "$1/guest/agent" && cp -L $(grep -o '/[^ ]*' <<<"$needs") "$1/guest/agent/" &&
        cp "$1/agent/usr/sbin/qemu-ga" "$1/guest/agent/"
}

# Taken out of the packages: installed, the kernel would want to be booted from, and busybox-static would push out another
# busybox; the agent would be started here. The folder: vmlinuz, busybox, modules/*.ko, agent/. See integration-tests/src/guest.
tool_guest() {
    [ "$(cat "$tools/guest/version" 2>/dev/null)" = "$guest_version" ] && return
    local skipped="SKIPPED is what needs a machine that boots" kernel at module
    if [ "$(uname -m)" != x86_64 ] || ! command -v apt-get >/dev/null || ! command -v dpkg-deb >/dev/null; then
        say "this is no Debian on x86_64, so there is no kernel for the guest: $skipped"
        return
    fi
    say "apt-get download of a kernel, a busybox and an agent for the guest (once, seconds, 28 MB)"
    mkdir -p "$tools"
    at=$(mktemp -d "$tools/.guest.XXXXXX")
    # The user that apt would rather download as cannot reach a folder of ours; it says so and goes on.
    if kernel=$(apt-cache depends "$guest_kernel" 2>/dev/null | awk '$1 == "Depends:" && $2 ~ /^linux-image-/ { print $2; exit }') &&
        [ -n "$kernel" ] && (cd "$at" && apt-get -q download "$kernel" busybox-static </dev/null >&2) &&
        dpkg-deb -x "$at"/linux-image-*.deb "$at/kernel" && dpkg-deb -x "$at"/busybox-static_*.deb "$at/busybox" &&
        mkdir -p "$at/guest/modules" && cp "$at"/busybox/bin/busybox "$at/guest/" &&
        cp "$at"/kernel/boot/vmlinuz-* "$at/guest/vmlinuz"; then
        # What another kernel has built in is no file.
        for module in $guest_modules; do
            find "$at/kernel" -name "$module.ko" -exec cp {} "$at/guest/modules/" ';'
        done
        guest_agent "$at" ||
            say "there is no agent for the guest (not in the package lists, or a library of QEMU's is missing here): SKIPPED is what asks one"
        echo "$guest_version" >"$at/guest/version"
        # Under its name only when it is whole.
        rm -rf "$tools/guest"
        mv "$at/guest" "$tools/guest"
    else
        say "the guest's kernel or busybox could not be had (no network, or no package lists: apt-get update): $skipped"
    fi
    rm -rf "$at"
}

rust_is_there() {
    command -v cargo >/dev/null && return
    say "cargo is missing: install Rust 1.95 or newer (https://rustup.rs), Debian's own is too old"
    exit 69
}

[ $# -gt 0 ] || usage
[ "$1" != --list ] || { list; exit 0; }
for group in "$@"; do
    case $group in
        runtime | build | lint | test | slow | bench | demo | conversion) ;;
        *)
            say "no such group: $group"
            usage
            ;;
    esac
done
groups="$*"
mapfile -t missing < <(missing_packages "$@")
if [ ${#missing[@]} != 0 ]; then
    install_packages "${missing[@]}"
    mapfile -t missing < <(missing_packages "$@")
    if [ ${#missing[@]} != 0 ]; then
        say "apt-get succeeded, but what these should bring is still not there: ${missing[*]}"
        say "is this Debian 12? 'deploy/install-deps.sh --list' says what is looked for"
        exit 69
    fi
fi
for group in "$@"; do
    case $group in
        build) rust_is_there ;;
        demo) rust_is_there && tool_guest ;;
        lint) rust_is_there && tool_buf ;;
        test) rust_is_there && tool_buf && tool_grpcurl && tool_promtool && tool_schemathesis && tool_cs &&
            tool_python_linstor && tool_guest ;;
    esac
done
