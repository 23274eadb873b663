# A file system of its own for a benchmark, sourced by those that need one:
#   disk WORK-FOLDER GIGABYTES INODES FREE-GIGABYTES
#
# Makes the work folder anew with a loop-mounted ext4 below disk/, goes there, and removes both when
# the script ends.
disk() {
    work=$1
    finish() { cd /; if mountpoint -q "$work/disk"; then umount "$work/disk"; fi; rm -rf "$work"; }
    trap finish EXIT
    finish
    mkdir -p "$work/disk"
    local free; free=$(df --output=avail -k "$work" | tail -n 1)
    [ "$free" -gt "$4"000000 ] || { echo "bench: needs $4 GB in $work" >&2; exit 1; }
    truncate -s "$2G" "$work/image"
    mkfs.ext4 -q -F -m 0 -N "$3" "$work/image"
    mount -o loop,discard "$work/image" "$work/disk"
    cd "$work/disk"
}
