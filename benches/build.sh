#!/bin/bash
# What a build costs, beside the commands that people run today, in the same run:
#   build.sh FOLDER-WITH-THE-BINARIES
#
# The applications `notes` and `slim`, once in memory and once on disk, without checks: the first
# build (its caches and store empty, so npm downloads), one into an empty store (what was
# downloaded is there), then unchanged, one changed line of PHP, one of JavaScript. Shown are
# medians of ROUNDS builds (the first one happens once), the highest memory of the program, without
# Composer or Node, the wall time in relation to the plain commands, and the steps that ran.
#
# The plain commands, with caches that are warm: copy the project, composer install, npm ci, vite
# build. They start from nothing every time, as in CI; neither gates nor a store nor a sandbox are
# theirs.
set -euo pipefail
repo=$(cd "$(dirname "$0")/.." && pwd)
bin=$(cd "${1:?usage: build.sh FOLDER-WITH-THE-BINARIES}" && pwd)
rounds=${ROUNDS:-3} work=
finish() { if [ -n "$work" ]; then rm -rf "$work"; fi; }
trap finish EXIT

export GIT_AUTHOR_NAME=Bench GIT_AUTHOR_EMAIL=bench@example.com GIT_COMMITTER_NAME=Bench GIT_COMMITTER_EMAIL=bench@example.com
export RELSTORE_FIXTURE_CACHE=${RELSTORE_FIXTURE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/relstore-fixtures}
export COMPOSER_ALLOW_SUPERUSER=1 VITE_APP_NAME=Slim
unset XDG_CACHE_HOME

# Runs a build: adds wall ms and peak MB to list $1, remembers the steps that ran.
relstore() {
    local began pid line peak=0
    began=$(date +%s%3N)
    "$bin/relstore" --store "$work/store" build --no-checks --json > "$work/out" 2> "$work/err" & pid=$!
    while line=$(grep VmHWM "/proc/$pid/status" 2>/dev/null); do
        peak=$(( $(tr -dc 0-9 <<< "$line") / 1024 ))
        sleep 0.01
    done
    wait "$pid" || { cat "$work/out" "$work/err" >&2; exit 1; }
    echo "$(( $(date +%s%3N) - began )) $peak" >> "$work/times/$1"
    php -r '$built = json_decode(file_get_contents($argv[1]), true);
        $ran = array_filter($built["steps"], fn ($step) => !$step["cached"]);
        echo implode(", ", array_column($ran, "name")) ?: "none";' "$work/out" > "$work/times/$1.ran"
}
release() { grep -o '"release": *"[^"]*"' "$work/out"; }

plain() {
    local began
    rm -rf "$work/plain"
    began=$(date +%s%3N)
    (
        cp -R "$work/app" "$work/plain"
        cd "$work/plain"
        composer install --no-dev --optimize-autoloader --no-interaction
        npm ci
        node_modules/.bin/vite build
    ) > "$work/out" 2>&1 || { cat "$work/out" >&2; exit 1; }
    echo "$(( $(date +%s%3N) - began )) 0" >> "$work/times/plain"
}

# Commits one more line at the end of a file.
line() { echo "$2" >> "$1"; git commit --quiet --all --message "One line"; }

median() { cut -d' ' -f1 "$work/times/$1" | sort -n | awk '{ all[NR] = $1 } END { print all[int((NR + 1) / 2)] }'; }
row() {
    local wall peak
    wall=$(median "$1") peak=$(cut -d' ' -f2 "$work/times/$1" | sort -n | tail -n 1)
    [ "$peak" = 0 ] && peak="" || peak="$peak MB"
    printf '  %-34s %8s ms %9s %8s  %s\n' "$2" "$wall" "$peak" \
        "$(awk -v a="$wall" -v b="$(median plain)" 'BEGIN { printf "%.2f", a / (b ? b : 1) }')" \
        "$(cat "$work/times/$1.ran" 2>/dev/null || true)"
}

compare() {
    local place=$1 app=$2 round before
    work=$(mktemp -d "$place/relstore-bench-XXXXXX")
    mkdir "$work/home" "$work/times"
    "$repo/fixtures/app.sh" --app "$app" "$work/app" 2> "$work/err" || { cat "$work/err" >&2; exit 1; }
    cd "$work/app"
    export HOME=$work/home
    relstore first
    plain; rm "$work/times/plain"       # fills its caches
    for (( round = 0; round < rounds; round++ )); do
        plain
        rm -rf "$work/store"
        relstore empty; before=$(release)
        relstore unchanged
        [ "$(release)" = "$before" ] || { echo "bench: the same commit gave two releases" >&2; exit 1; }
        line routes/web.php "// $round"
        relstore php
        line resources/js/app.js "console.log($round);"
        relstore js
    done
    row plain "composer, npm ci, vite build"
    row first "relstore, first"
    row empty "relstore, store empty"
    row unchanged "relstore, unchanged"
    row php "relstore, one line of PHP"
    row js "relstore, one line of JavaScript"
    cd /
    rm -rf "$work"
}

for place in /dev/shm /var/tmp; do
    for app in notes slim; do
        printf '\n  %-34s %11s %9s %8s  %s\n' "$app, $place" time memory "x plain" "steps that ran"
        compare $place $app
    done
done
