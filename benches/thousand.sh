#!/bin/bash
# What a store of many releases costs to look into and to clean:
#   thousand.sh FOLDER-WITH-THE-BINARIES
#
# RELEASES (1,000) hot fixes and updates (fixtures/releases) of a Laravel application, imported one
# after the other into a store in memory (/dev/shm): nothing waits for a disk. Shown are medians of
# ROUNDS (5) runs of the whole program and the highest memory of one; then garbage collection of
# half of them, in its two runs.
set -euo pipefail
repo=$(cd "$(dirname "$0")/.." && pwd)
bin=$(cd "${1:?usage: thousand.sh FOLDER-WITH-THE-BINARIES}" && pwd)
releases=${RELEASES:-1000} rounds=${ROUNDS:-5}
work=/dev/shm/relstore-bench-thousand
finish() { cd /; rm -rf "$work"; }
trap finish EXIT
finish
mkdir -p "$work/home" "$work/project"
RELSTORE_FIXTURE_CACHE=${RELSTORE_FIXTURE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/relstore-fixtures}
export RELSTORE_FIXTURE_CACHE
"$repo/fixtures/releases/base.sh" "$work/tree" 2> "$work/err" || { cat "$work/err" >&2; exit 1; }
unset XDG_CACHE_HOME
export HOME=$work/home RELSTORE_STORE=$work/store
cd "$work/project"

echo
echo "Machine: $(nproc) CPUs ($(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -n 1)), Linux $(uname -r), store in /dev/shm, load $(cut -d' ' -f1 /proc/loadavg)"
began=$(date +%s%3N)
for (( n = 1; n <= releases; n++ )); do
    if [ "$n" -gt 1 ]; then perl "$repo/fixtures/releases/next.pl" "$work/tree" "$n" > /dev/null; fi
    "$bin/relstore" import "$work/tree" --layout plain > "$work/last" 2> "$work/err" || { cat "$work/err" >&2; exit 1; }
    if [ "$n" = $((releases / 2)) ]; then cp "$work/last" "$work/middle"; fi
done
bytes=$(find "$work/store" -type f -printf '%s\n' | awk '{ sum += $1 } END { printf "%.1f", sum / 1e6 }')
echo "$releases releases in $(( ($(date +%s%3N) - began) / 1000 )) s, changes included: $bytes MB, $(find "$work/store" -type f | wc -l) objects; tree at last: $(find "$work/tree" -type f | wc -l) files"
middle=$(cat "$work/middle")

# Wall ms, CPU ms and kB at most of one run.
once() {
    local began; began=$(date +%s%N)
    /usr/bin/time -q -o "$work/time" -f '%e %U %S %M' "$bin/relstore" "$@" > "$work/out" 2> "$work/err" ||
        { cat "$work/err" >&2; echo "bench: relstore $* failed" >&2; exit 1; }
    awk -v ns=$(( $(date +%s%N) - began )) '{ printf "%.1f %d %d\n", ns / 1e6, ($2 + $3) * 1000, $4 }' "$work/time"
}
median() { cut -d' ' -f"$1" "$work/runs" | sort -n | awk '{ all[NR] = $1 } END { print all[int((NR + 1) / 2)] }'; }
row() {
    local name=$1 round
    shift
    : > "$work/runs"
    for (( round = 0; round < rounds; round++ )); do once "$@" >> "$work/runs"; done
    printf '| %s | %s | %s | %s |\n' "$name" "$(median 1)" "$(median 2)" $(( $(median 3) / 1024 ))
}
printf '\n| %s releases | wall, ms | CPU, ms | memory, MB |\n|---|--:|--:|--:|\n' "$releases"
row "start of the program (--version)" --version
printf '| list, nothing remembered | %s | %s | %s |\n' $(once list | awk '{ print $1, $2, int($3 / 1024) }')
row "list" list
row "list -n 10" list -n 10
row "one release by a prefix (show)" show "${middle:0:12}"
row "manifest of the latest" manifest latest
row "import, all known" import "$work/tree" --layout plain
row "store stats" store stats
row "fsck" fsck
"$bin/relstore" store init "$work/copy" > /dev/null
row "push of the latest, all there" push latest --to "$work/copy"
row "gc --dry-run" gc --dry-run

cat > relstore.toml <<T
app = "bench"
[store]
path = "$work/store"
keep_last = $((releases / 2))
keep_for = "1s"
grace = "2s"
T
printf '\n| gc of half of %s | wall, ms | CPU, ms | memory, MB | says |\n|---|--:|--:|--:|---|\n' "$releases"
for run in first second third; do
    sleep 2.5
    figures=$(once gc | awk '{ print $1 " | " $2 " | " int($3 / 1024) }')
    printf '| %s run | %s | %s |\n' $run "$figures" "$(grep -v '^  goes' "$work/out" | paste -sd';')"
done
