#!/bin/bash
# What a store costs that keeps every release, beside other tools on the same trees in the same run:
#   store.sh FOLDER-WITH-THE-BINARIES
#
# RELEASES (50) of a Laravel application (fixtures/releases) come one after another: hot fixes, every
# fifth a week's update of packages. Each contestant takes each of them as soon as it is there, who
# is first rotates; the store is on a loop-mounted ext4 in FOLDER (/var/tmp), caches warm. Shown are bytes of the stores
# (sum of file lengths; at the end also what they take on disk), medians of wall and CPU time per
# release, and of the wall time together with the `sync` that makes it durable: relstore, ostree,
# restic and borg have done that themselves, tar, casync and git have not.
# Then, with the last tree: a first import, writing a release back out, checking the whole store,
# and copying it, whole and by one release.
set -euo pipefail
repo=$(cd "$(dirname "$0")/.." && pwd)
bin=$(cd "${1:?usage: store.sh FOLDER-WITH-THE-BINARIES}" && pwd)
[ "$(id -u)" = 0 ] || exec sudo -n env "PATH=$PATH" "HOME=$HOME" "FOLDER=${FOLDER:-}" "$0" "$bin"

releases=${RELEASES:-50} rounds=${ROUNDS:-3}
source "$repo/benches/lib/disk.sh"
disk "${FOLDER:-/var/tmp}/relstore-bench-store" 4 600000 5
mkdir "$work/times"
RELSTORE_FIXTURE_CACHE=${RELSTORE_FIXTURE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/relstore-fixtures}
export RELSTORE_FIXTURE_CACHE
"$repo/fixtures/releases/base.sh" "$PWD/tree" 2> "$work/err" || { cat "$work/err" >&2; exit 1; }
unset XDG_CACHE_HOME
export HOME=$work/disk/home GIT_CONFIG_NOSYSTEM=1 RESTIC_PASSWORD=bench BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK=yes BORG_RELOCATED_REPO_ACCESS_IS_OK=yes
export GIT_AUTHOR_NAME=Bench GIT_AUTHOR_EMAIL=bench@example.com GIT_COMMITTER_NAME=Bench GIT_COMMITTER_EMAIL=bench@example.com
export bin tree=$PWD/tree
mkdir "$HOME"

# A store of each kind is made in $1, takes release $2, writes it to $3, checks itself, and is
# copied to $3 (what is there already may be used).
contestants=(relstore casync ostree restic borg git tar)
make_relstore()  { :; }
put_relstore()   { "$bin/relstore" --store "$1" import "$tree" --layout plain; }
check_relstore() { "$bin/relstore" --store "$1" fsck --full; }
copy_relstore()  { "$bin/relstore" --store "$1" push --all --to "$3"; }
make_casync()    { mkdir "$1"; }
put_casync()     { casync make --without=all --with=symlinks --with=permissions --store="$1/store.castr" "$1/$2.caidx" "$tree"; }
get_casync()     { casync extract --without=all --with=symlinks --with=permissions --store="$1/store.castr" "$1/$2.caidx" "$3"; }
make_ostree()    { ostree init --repo="$1" --mode=archive; }
put_ostree()     { ostree commit --repo="$1" --branch=app --subject="$2" --canonical-permissions --tree=dir="$tree"; }
get_ostree()     { ostree checkout --repo="$1" --user-mode app "$3"; }
check_ostree()   { ostree fsck --repo="$1" --quiet; }
copy_ostree()    { [ -d "$3" ] || ostree init --repo="$3" --mode=archive; ostree pull-local --repo="$3" "$1"; }
make_restic()    { restic -q -r "$1" init; }
put_restic()     { restic -q -r "$1" backup "$tree"; }
get_restic()     { restic -q -r "$1" restore latest --target "$3"; }
check_restic()   { restic -q -r "$1" check --read-data; }
make_borg()      { borg init --encryption=none "$1"; }
put_borg()       { borg create --compression zstd,3 "$1::$2" "$tree"; }
get_borg()       { mkdir "$3"; (cd "$3" && borg extract "$1::$2"); }
check_borg()     { borg check --verify-data "$1"; }
make_git()       { git init -q --bare "$1"; git -C "$1" config gc.auto 0; }
put_git()        { git -C "$tree" --git-dir "$1" --work-tree "$tree" add -A -f . && git -C "$tree" --git-dir "$1" --work-tree "$tree" commit -q -m "$2"; }
get_git()        { mkdir "$3"; git --git-dir "$1" archive HEAD | tar -C "$3" -xf -; }
check_git()      { git --git-dir "$1" fsck --full --no-progress; }
copy_git()       { [ -d "$3" ] || git init -q --bare "$3"; git --git-dir "$1" push -q "$3" HEAD:refs/heads/app; }
make_tar()       { mkdir "$1"; }
put_tar()        { tar -C "$tree" -cf - . | zstd -q -T0 -3 -o "$1/$2.tar.zst"; }
get_tar()        { mkdir "$3"; zstd -q -dc "$1/$2.tar.zst" | tar -C "$3" -xf -; }
check_tar()      { zstd -q -t "$1"/*.tar.zst; }
copy_tar()       { rsync -a "$1/" "$3/"; }
# The archive that relstore writes is unpacked as any other.
get_relstore()   { mkdir "$3"; "$bin/relstore" --store "$1" export latest --output - | zstd -q -dc | tar -C "$3" -xf -; }
for name in "${contestants[@]}"; do
    for verb in make put get check copy; do
        if declare -F "${verb}_$name" > /dev/null; then export -f "${verb?}_$name"; fi
    done
done

# Runs `$1_$2 store release place` and adds wall, CPU, wall with sync (ms) to the list $3.
measure() {
    local began synced
    sync -f .
    began=$(date +%s%3N)
    /usr/bin/time -q -o "$work/time" -f '%e %U %S' bash -eo pipefail -c '"$@"' bash "$1_$2" "${@:4}" > "$work/out" 2> "$work/err" ||
        { cat "$work/out" "$work/err" >&2; echo "bench: $1_$2 failed" >&2; exit 1; }
    local wall=$(( $(date +%s%3N) - began ))
    sync -f .
    synced=$(( $(date +%s%3N) - began ))
    tail -n 1 "$work/time" | awk -v wall=$wall -v synced=$synced '{ print wall, int(($2 + $3) * 1000), synced }' >> "$work/times/$3"
}
median() { sort -n | awk '{ all[NR] = $1 } END { print NR ? all[int((NR + 1) / 2)] : "-" }'; }
of()     { cut -d' ' -f"$2" "$work/times/$1" | median; }
bytes()  { { find "$1" -type f -printf '%s\n' 2> /dev/null || true; } | awk '{ sum += $1 } END { print sum + 0 }'; }
mb()     { awk -v n="$1" 'BEGIN { printf "%.2f", n / 1e6 }'; }
kb()     { awk -v n="$1" 'BEGIN { printf "%.0f", n / 1e3 }'; }
ratio()  { awk -v a="$1" -v b="$2" 'BEGIN { if (b > 0) printf "%.2f", a / b; else print "-" }'; }
contents() { find "$1" -type f -printf '%s\n' | awk '{ sum += $1 } END { printf "%d files, %.1f MB", NR, sum / 1e6 }'; }
rotated() { local at=$(( $1 % ${#contestants[@]} )); echo "${contestants[@]:at}" "${contestants[@]:0:at}"; }

echo
echo "Machine: $(nproc) CPUs ($(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -n 1)), $(awk '/MemTotal/ { printf "%.0f", $2 / 1048576 }' /proc/meminfo) GiB, Linux $(uname -r), loop-mounted ext4 in $(dirname "$work") ($(stat -f -c %T "$(dirname "$work")")), load $(cut -d' ' -f1 /proc/loadavg)"
echo "Tree: $(contents tree)"
for name in "${contestants[@]}"; do "make_$name" "$PWD/$name" > /dev/null; done
for (( n = 1; n <= releases; n++ )); do
    if [ $n -gt 1 ]; then perl "$repo/fixtures/releases/next.pl" tree $n > "$work/changed"; fi
    kind=fix
    if [ $(( n % 5 )) = 0 ]; then kind=update; fi
    if [ $n = 1 ]; then kind=first; else cat "$work/changed" >> "$work/times/changed.$kind"; fi
    for name in $(rotated $n); do
        before=$(bytes "$name")
        measure put "$name" "$name.$kind" "$PWD/$name" $n
        after=$(bytes "$name")
        echo $(( after - before )) >> "$work/times/$name.$kind.grown"
        echo "$after" > "$work/times/$name.after$n"
    done
done
echo "Changed files: $(median < "$work/times/changed.fix") per hot fix, $(median < "$work/times/changed.update") per update (medians); tree at last: $(contents tree)"
at10=10
if [ "$releases" -lt 10 ]; then at10=$releases; fi
row_size() {
    local last; last=$(cat "$work/times/$1.after$releases")
    printf '| %s | %s | %s | %s | %s | %s | %s | %s |\n' "$2" "$(mb "$(cat "$work/times/$1.after1")")" \
        "$(mb "$(cat "$work/times/$1.after$at10")")" "$(mb "$last")" "$(mb "$(du -sB1 "$1" | cut -f1)")" \
        "$(kb "$(median < "$work/times/$1.fix.grown")")" "$(kb "$(median < "$work/times/$1.update.grown")")" \
        "$(ratio "$last" "$(cat "$work/times/relstore.after$releases")")"
}
printf '\n| store, MB | after 1 | after %s | after %s | on disk | per hot fix, kB | per update, kB | x relstore |\n|---|--:|--:|--:|--:|--:|--:|--:|\n' "$at10" "$releases"
for name in "${contestants[@]}"; do row_size "$name" "$name"; done
cp -a git packed
measure_gc() { git --git-dir packed gc -q; }
began=$(date +%s%3N); measure_gc 2> /dev/null; took=$(( $(date +%s%3N) - began ))
printf '| git, after a gc of %s ms | | | %s | %s | | | %s |\n' $took "$(mb "$(bytes packed)")" "$(mb "$(du -sB1 packed | cut -f1)")" \
    "$(ratio "$(bytes packed)" "$(cat "$work/times/relstore.after$releases")")"
rm -rf packed

row_time() {
    printf '| %s ' "$1"
    for kind in fix update; do
        printf '| %s | %s | %s | %s ' "$(of "$1.$kind" 1)" "$(of "$1.$kind" 2)" "$(of "$1.$kind" 3)" "$(ratio "$(of "$1.$kind" 3)" "$(of "relstore.$kind" 3)")"
    done
    echo '|'
}
printf '\n| import, ms | hot fix: wall | CPU | with sync | x relstore | update: wall | CPU | with sync | x relstore |\n|---|--:|--:|--:|--:|--:|--:|--:|--:|\n'
for name in "${contestants[@]}"; do row_time "$name"; done

# The rest is measured in rounds, everybody in turn.
for (( round = 0; round < rounds; round++ )); do
    for name in $(rotated $round); do
        rm -rf new out
        "make_$name" "$PWD/new" > /dev/null
        measure put "$name" "$name.new" "$PWD/new" 1
        measure get "$name" "$name.get" "$PWD/$name" "$releases" "$PWD/out"
        [ "$(find out -type f | wc -l)" -ge "$(find tree -type f | wc -l)" ] || { echo "bench: $name did not write everything" >&2; exit 1; }
        rm -rf new out
    done
done
total=$(bytes tree)
speed() { awk -v n="$total" -v ms="$1" 'BEGIN { if (ms > 0) printf "%.0f", n / 1e3 / ms; else print "-" }'; }
printf '\n| last tree, ms | first import: wall | CPU | with sync | MB/s | x relstore | write it out: wall | CPU | MB/s | x relstore |\n|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n'
for name in "${contestants[@]}"; do
    printf '| %s | %s | %s | %s | %s | %s | %s | %s | %s | %s |\n' "$name" \
        "$(of "$name.new" 1)" "$(of "$name.new" 2)" "$(of "$name.new" 3)" "$(speed "$(of "$name.new" 3)")" "$(ratio "$(of "$name.new" 3)" "$(of relstore.new 3)")" \
        "$(of "$name.get" 1)" "$(of "$name.get" 2)" "$(speed "$(of "$name.get" 1)")" "$(ratio "$(of "$name.get" 1)" "$(of relstore.get 1)")"
done

if "$bin/relstore" fsck --help > /dev/null 2>&1; then
    b3=()
    if command -v b3sum > /dev/null; then b3=(b3sum); fi
    check_b3sum() { find "$tree/../relstore" -type f -print0 | xargs -0 -P 2 -n 64 b3sum; }
    export -f check_b3sum
    for (( round = 0; round < rounds; round++ )); do
        for name in relstore ostree restic borg git tar "${b3[@]}"; do measure check "$name" "$name.check" "$PWD/$name"; done
    done
    printf '\n| check every byte of the store, ms | wall | CPU | MB/s of stored bytes | x relstore |\n|---|--:|--:|--:|--:|\n'
    for name in relstore ostree restic borg git tar "${b3[@]}"; do
        store=$name
        if [ "$name" = b3sum ]; then store=relstore; fi
        printf '| %s | %s | %s | %s | %s |\n' "$name" "$(of "$name.check" 1)" "$(of "$name.check" 2)" \
            "$(total=$(bytes "$store") speed "$(of "$name.check" 1)")" "$(ratio "$(of "$name.check" 1)" "$(of relstore.check 1)")"
    done
fi

# Copies: the whole store, and a copy brought up to date by one hot fix.
perl "$repo/fixtures/releases/next.pl" tree $((releases + 1)) > /dev/null
for (( round = 0; round < rounds; round++ )); do
    for name in relstore ostree git tar; do
        rm -rf copy
        cp -a "$name" ahead
        measure copy "$name" "$name.copy" "$PWD/ahead" "$releases" "$PWD/copy"
        "put_$name" "$PWD/ahead" $((releases + 1)) > /dev/null 2>&1
        before=$(bytes copy)
        measure copy "$name" "$name.follow" "$PWD/ahead" "$releases" "$PWD/copy"
        echo $(( $(bytes copy) - before )) > "$work/times/$name.follow.grown"
        rm -rf copy ahead
    done
done
printf '\n| copy to another folder, ms | whole: wall | CPU | with sync | x relstore | one hot fix: wall | CPU | with sync | grown, kB | x relstore |\n|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n'
for name in relstore ostree git tar; do
    printf '| %s | %s | %s | %s | %s | %s | %s | %s | %s | %s |\n' "$name" \
        "$(of "$name.copy" 1)" "$(of "$name.copy" 2)" "$(of "$name.copy" 3)" "$(ratio "$(of "$name.copy" 3)" "$(of relstore.copy 3)")" \
        "$(of "$name.follow" 1)" "$(of "$name.follow" 2)" "$(of "$name.follow" 3)" "$(kb "$(cat "$work/times/$name.follow.grown")")" "$(ratio "$(of "$name.follow" 3)" "$(of relstore.follow 3)")"
done
