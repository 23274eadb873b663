#!/bin/bash
# What an import costs, beside other tools on the same tree in the same run:
#   import.sh FOLDER-WITH-THE-BINARIES
#
# Trees: 1,000, 15,000 and 100,000 files of this machine's own programs and documents, each with a
# line of its own so that hardly one equals another, and one file of 3 GiB. Contestants take turns
# on a loop-mounted ext4, caches warm, ROUNDS (3) times; shown are medians of wall and CPU time, the
# highest memory of one process, and the wall time in relation to tar and zstd. relstore, git and
# nix-store leave what they wrote findable by hash, relstore durably as well; tar does neither.
set -euo pipefail
repo=$(cd "$(dirname "$0")/.." && pwd)
bin=$(cd "${1:?usage: import.sh FOLDER-WITH-THE-BINARIES}" && pwd)
[ "$(id -u)" = 0 ] || exec sudo -n env "PATH=$PATH" "HOME=$HOME" "$0" "$bin"

rounds=${ROUNDS:-3}
source "$repo/benches/lib/disk.sh"
disk /var/tmp/relstore-bench-import 12 1500000 14
mkdir "$work/home"
export HOME=$work/home GIT_CONFIG_NOSYSTEM=1

# Regular files below 128 kB, in the same order every time, as often as needed.
find /usr/share /usr/lib /usr/include -xdev -type f -size -128k 2>/dev/null | LC_ALL=C sort > "$work/files"
make_tree() {
    local tree=$1 count=$2 round=0 made=0 part
    while [ $made -lt "$count" ]; do
        mkdir -p "$tree/$round"
        head -n $((count - made)) "$work/files" | tar -C / -T - -cf - 2>/dev/null | tar -C "$tree/$round" -xf -
        part=$(find "$tree/$round" -type f | wc -l)
        [ "$part" -gt 0 ] || { echo "bench: no files found to copy" >&2; exit 1; }
        made=$((made + part)) round=$((round + 1))
    done
    find "$tree" -type f -print0 | xargs -0 -n 2000 perl -e \
        'for (@ARGV) { chmod 0644, $_; open my $f, ">>", $_ or die "$_: $!"; print $f "\n$_\n" }'
}

# Each writes below `to`, which is new, what it makes of the folder $1.
by_relstore() { "$bin/relstore" --store to/store import "$1" --layout plain; }
by_again()    { "$bin/relstore" --store kept import "$1" --layout plain; }
by_tar()      { tar -C "$1" -cf - . | zstd -q -T0 -3 -o to/tree.tar.zst; }
by_synced()   { by_tar "$1" && sync to/tree.tar.zst; }
by_git()      { git init -q to/repository && git --git-dir to/repository/.git --work-tree "$1" add -A -f .; }
by_nix()      { nix-store --store "local?root=$PWD/to" --add "$1"; }
export bin; export -f by_relstore by_again by_tar by_synced by_git by_nix

# Runs one of them: adds wall ms, CPU ms and peak kB to its list.
measure() {
    chmod -R u+w to 2>/dev/null || true
    rm -rf to; mkdir to; sync
    /usr/bin/time -q -o "$work/time" -f '%e %U %S %M' bash -ec '"$@"' bash "by_$1" "$2" > "$work/out" 2> "$work/err" ||
        { cat "$work/err" >&2; exit 1; }
    tail -n 1 "$work/time" | awk '{ print int($1 * 1000), int(($2 + $3) * 1000), $4 }' >> "$work/$1"
}
median() { cut -d' ' -f"$2" "$work/$1" | sort -n | awk '{ all[NR] = $1 } END { print all[int((NR + 1) / 2)] }'; }
row() {
    local wall; wall=$(median "$1" 1)
    printf '  %-26s %8s ms %8s ms %7s MB   %s\n' "$2" "$wall" "$(median "$1" 2)" $(($(median "$1" 3) / 1024)) \
        "$(awk -v a="$wall" -v b="$(median tar 1)" 'BEGIN { printf "%.2f", a / (b ? b : 1) }')"
}

compare() {
    local tree=$1 name round
    shift
    rm -rf kept "$work"/{relstore,again,tar,synced,git,nix}
    "$bin/relstore" --store kept import "$tree" --layout plain > /dev/null 2>&1
    for (( round = 0; round < rounds; round++ )); do
        for name in "$@"; do measure "$name" "$tree"; done
    done
    printf '\n  %-26s %11s %11s %10s   x tar|zstd\n' "$(find "$tree" -type f | wc -l) files, $(du -sh --apparent-size "$tree" | cut -f1)" wall CPU memory
    row tar "tar | zstd -T0 -3"
    row synced "tar | zstd -T0 -3, synced"
    row relstore "relstore import"
    row again "relstore import, all known"
    row git "git add"
    row nix "nix-store --add"
    chmod -R u+w to; rm -rf to "$tree"
}

for count in 1000 15000 100000; do
    make_tree tree $count
    compare tree relstore tar synced git nix again
done
mkdir tree
# Half of it compresses to nothing, half not at all.
head -c 1610612736 /dev/urandom > tree/long.bin
truncate -s 3221225472 tree/long.bin
compare tree relstore tar synced git nix again
