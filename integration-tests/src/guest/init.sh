#!/bin/sh
# Process 1 of the guest, run by busybox: finds its disks by label, says whether what it wrote before is whole, writes on.
#
#   guest: disks root=/dev/vda2 data=/dev/vdb
#   guest: boot 3, last record 1234, records 1..1234 intact       or: guest: DAMAGED: WHY
#   guest: ready
#
# Its network card has the address that QEMU's own network gives first. When it is ready it serves /health at port 80, and the
# QEMU guest agent answers, where it is on board.
#
# On the console it takes: status, poweroff, deaf. The button does what poweroff does; after deaf, nothing.
#
# A record is a line of 4096 bytes: "rNUMBERbBOOT" over and over, so that nothing but the whole record is one. Record N is
# synced to the log on disk data before it is written to the one on disk root: at every point in time that is one
# for both disks, data has as many records as root, or one more. A log is a ring of $slots records.

slots=8192
size=4096
unit=16

say() { echo "guest: $*"; }

# The reader of the console ends with this shell, so that it may call it.
power_off() {
    : >/run/stop
    sync
    tries=0
    while grep -q '^/dev/[^ ]* /disks' /proc/mounts && [ $tries -lt 100 ]; do
        umount /disks/data 2>/dev/null
        umount /disks/root 2>/dev/null
        tries=$((tries + 1))
        usleep 50000
    done
    say "powering off"
    poweroff -f
}

# record NUMBER BOOT: into $record, without a process of its own: emulated, each costs 10 ms and more.
record() {
    number_padded=0000000000$1
    number_padded=${number_padded#"${number_padded%??????????}"}
    boot_padded=0000$2
    record=r${number_padded}b${boot_padded#"${boot_padded%????}"}
    record=$record$record$record$record
    record=$record$record$record$record
    record=$record$record$record$record
    record=$record$record$record$record
    record=${record%?}
}

# append DISK NUMBER: $record becomes durable on that disk.
append() {
    dd of="/disks/$1/log" bs=$size seek=$((($2 - 1) % slots)) conv=notrunc,fsync 2>/dev/null <<END
$record
END
}

# check DISK: prints "LAST BOOT", or what is wrong with its log.
check() {
    awk -v slots=$slots -v size=$size -v unit=$unit '
        # To this awk, what begins with 0 is octal.
        function decimal(digits) { sub(/^0+/, "", digits); return digits + 0 }
        {
            number = decimal(substr($0, 2, 10))
            want = substr($0, 1, unit)
            if (want !~ /^r[0-9]*b[0-9]*$/) { print "slot " NR " holds no record"; bad = 1; exit }
            while (length(want) < size) want = want want
            if ($0 != substr(want, 1, size - 1)) { print "record " number " is not whole"; bad = 1; exit }
            if ((number - 1) % slots != NR - 1) { print "slot " NR " holds record " number; bad = 1; exit }
            seen[NR] = number
            if (number > last) { last = number; boot = decimal(substr($0, 13, 4)) }
        }
        END {
            if (bad) exit
            first = last > slots ? last - slots + 1 : 1
            for (number = first; number <= last; number++)
                if (seen[(number - 1) % slots + 1] != number) { print "record " number " is missing"; exit }
            print last + 0, boot + 0
        }' "/disks/$1/log"
}

find_disks() {
    tries=0
    # Disks appear by and by, SCSI ones last.
    until root=$(findfs LABEL=guest-root 2>/dev/null) && data=$(findfs LABEL=guest-data 2>/dev/null); do
        tries=$((tries + 1))
        if [ $tries -gt 40 ]; then
            say "DAMAGED: no disk with the label guest-root or guest-data among these:" $(ls /sys/block)
            return 1
        fi
        usleep 100000
    done
    say "disks root=$root data=$data"
}

mount_disks() {
    for disk in root data; do
        eval "device=\$$disk"
        mkdir -p "/disks/$disk"
        # What a crash left in the journal is replayed here.
        if ! mount -t ext4 -o errors=panic "$device" "/disks/$disk"; then
            say "DAMAGED: $device cannot be mounted"
            return 1
        fi
        [ -e "/disks/$disk/log" ] || : >"/disks/$disk/log"
    done
}

# Sets $last and $boot.
check_disks() {
    of_root=$(check root)
    of_data=$(check data)
    case $of_root$of_data in
        *[!0-9\ ]*)
            say "DAMAGED: root: ${of_root:-cannot be read}; data: ${of_data:-cannot be read}"
            return 1
            ;;
    esac
    last=${of_data% *}
    behind=$((last - ${of_root% *}))
    boot=$((${of_data#* } + 1))
    if [ $behind -lt 0 ] || [ $behind -gt 1 ]; then
        say "DAMAGED: data has records up to $last, root up to ${of_root% *}: not of one point in time"
        return 1
    fi
    if [ $behind = 1 ]; then
        record "$last" ${of_data#* }
        append root "$last"
    fi
    first=1
    [ "$last" -le $slots ] || first=$((last - slots + 1))
    if [ "$last" = 0 ]; then
        say "boot $boot, no record yet"
    else
        say "boot $boot, last record $last, records $first..$last intact"
    fi
}

# Five a second, as far as the processor allows.
write_on() {
    number=$last
    while [ ! -e /run/stop ]; do
        number=$((number + 1))
        record $number "$boot"
        append data $number && append root $number || {
            say "DAMAGED: record $number cannot be written"
            return
        }
        echo $number >/run/last
        usleep 170000
    done
}

# A key event is 24 bytes; the first from a power button is that it was pressed.
watch_buttons() {
    for input in /sys/class/input/event*; do
        [ "$(cat "$input/device/name" 2>/dev/null)" = "Power Button" ] || continue
        (head -c 24 "/dev/input/${input##*/}" >/dev/null && say "the power button was pressed" && [ ! -e /run/deaf ] && power_off) &
    done
}

# As udev would name it; there is none here.
start_agent() {
    for port in /sys/class/virtio-ports/*; do
        [ "$(cat "$port/name" 2>/dev/null)" = org.qemu.guest_agent.0 ] || continue
        [ -x /bin/qemu-ga ] && qemu-ga -m virtio-serial -p "/dev/${port##*/}" -t /run -f /run/qemu-ga.pid >/run/qemu-ga.log 2>&1 &
    done
}

serve() {
    ip link set lo up
    for nic in /sys/class/net/*; do
        [ -e "$nic/device" ] || continue
        ip link set "${nic##*/}" up && ip addr add 10.0.2.15/24 dev "${nic##*/}"
    done
    echo "boot $boot is well" >/www/health
    httpd -p 80 -h /www
    start_agent
}

mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev 2>/dev/null
exec </dev/console >/dev/console 2>&1
for module in $(cat /modules/order); do
insmod "/modules/$module" 2>/dev/null
done
watch_buttons
for nic in /sys/class/net/*; do
    [ -e "$nic/device" ] && say "network card ${nic##*/} $(cat "$nic/address")"
done
if find_disks && mount_disks && check_disks; then
    echo "$last" >/run/last
    write_on &
    serve
    say ready
fi
while :; do
    read -r line || usleep 500000
    case $line in
        status) say "boot ${boot:-0}, record $(cat /run/last 2>/dev/null)" ;;
        poweroff) power_off ;;
        deaf) : >/run/deaf && say "deaf" ;;
        "") ;;
        *) say "no such command: status, poweroff, deaf" ;;
    esac
done
