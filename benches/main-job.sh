#!/bin/bash
# What the main job costs, over real SSH to this machine, beside what people use today:
#   main-job.sh FOLDER-WITH-THE-BINARIES
#
# relstore: build twice, first deploy, one changed line deployed, rollback, verify. Beside it, for
# the bytes of the same two releases: a copy by tar over ssh, and rsync into a copy of the release
# before (what Deployer and Capistrano with a copy strategy do); those move files and do nothing
# else: no proof, no caches, no health. Peak memory is the program's own, without Composer or Node.
set -euo pipefail
repo=$(cd "$(dirname "$0")/.." && pwd)
bin=$(cd "${1:?usage: main-job.sh FOLDER-WITH-THE-BINARIES}" && pwd)
[ "$(id -u)" = 0 ] || exec sudo -n env "PATH=$PATH" "HOME=$HOME" "$0" "$bin"

# One stack at a time: they share the accounts and Debian's pid file of PHP-FPM.
lock=/var/tmp/relstore-stack.lock
[ -e $lock ] || install -m 644 /dev/null $lock
exec 9< $lock
flock --nonblock 9 || { echo "bench: the tests or the demo are at work, waiting for them" >&2; flock 9; }

work=/var/tmp/relstore-bench
export SSH_PORT=22024 HTTP_PORT=18082 APP=$work/www
stack=$repo/fixtures/stack/stack.sh
finish() { "$stack" stop "$work/stack" >/dev/null 2>&1 || true; }
trap finish EXIT
finish
rm -rf "$work"; install -d -m 755 "$work"
"$stack" init "$work/stack"
"$stack" start "$work/stack" 9<&-     # servers that outlive a killed run must not hold the lock
eval "$("$stack" env "$work/stack")"
token=$(head -c 16 /dev/urandom | od -An -tx1 | tr -d ' \n')
"$stack" dotenv "$work/stack" "$APP" "$token"
"$repo/fixtures/app.sh" "$work/notes" 2> "$work/app.log" || { cat "$work/app.log" >&2; exit 1; }
cd "$work/notes"
cat >> relstore.toml <<T

[env.bench]
hosts = ["deploy@127.0.0.1:$SSH_PORT"]
base = "$APP"
url = "http://127.0.0.1:$HTTP_PORT"
identity_file = "$RELSTORE_SSH_KEY"
known_hosts = "$RELSTORE_KNOWN_HOSTS"
reload = ["sudo -n /usr/local/sbin/relstore-fpm-reload"]
migrate = "run"
health_interval = "1s"
health = [{ path = "/api/health-check", bearer = { env = "HEALTH_TOKEN" } }]
T
export NOTES_BASE=$APP NOTES_URL=http://127.0.0.1:$HTTP_PORT HEALTH_TOKEN=$token HOME=$work/home
export GIT_AUTHOR_NAME=Bench GIT_AUTHOR_EMAIL=bench@example.com GIT_COMMITTER_NAME=Bench GIT_COMMITTER_EMAIL=bench@example.com
mkdir "$HOME"
git commit --quiet --all --message "Bench environment"

row() { printf '  %-34s %8s ms %9s  %s\n' "$1" "$2" "$3" "${4:-}"; }
# Runs the program; sets `took` (ms) and `peak` (MB of resident memory), stdout goes to a file.
took=0 peak=0
relstore() {
    local began pid line
    began=$(date +%s%3N) peak=0
    "$bin/relstore" "$@" > "$work/out" 2> "$work/err" & pid=$!
    while line=$(grep VmHWM "/proc/$pid/status" 2>/dev/null); do
        peak=$(( $(tr -dc 0-9 <<< "$line") / 1024 ))
        sleep 0.01
    done
    wait "$pid" || { cat "$work/out" "$work/err" >&2; exit 1; }
    took=$(( $(date +%s%3N) - began ))
}
field() { grep -o "\"$1\": *[0-9]*" "$work/out" | head -n 1 | grep -o '[0-9]*$'; }
bytes() { echo "$(field sent_bytes) bytes sent, $(field received_bytes) received (encrypted: $(field wire_sent_bytes), $(field wire_received_bytes))"; }

printf '\n  %-34s %11s %9s\n' "" time "memory"
relstore build; row "build, first" $took "$peak MB"
first=$(tail -n 1 "$work/out")
relstore build; row "build, unchanged" $took "$peak MB"
[ "$(tail -n 1 "$work/out")" = "$first" ] || { echo "bench: the same commit gave two releases" >&2; exit 1; }
relstore deploy "$first" --env bench --json; row "deploy, first" $took "$peak MB" "$(bytes)"
sed -i "s|<h1>{{ config('app.name') }}</h1>|<h1>{{ config('app.name') }}!</h1>|" resources/views/home.blade.php
git commit --quiet --all --message "One line"
relstore build; row "build, one line changed" $took "$peak MB"
second=$(tail -n 1 "$work/out")
relstore deploy "$second" --env bench --json; row "deploy, one line changed" $took "$peak MB" "$(bytes)"
relstore deploy "$second" --env bench --json; row "deploy, nothing changed" $took "$peak MB"
relstore verify --env bench; row "verify every byte" $took "$peak MB"
relstore rollback --env bench --to "$first" --json; row "rollback" $took "$peak MB"
relstore status --env bench; row "status" $took "$peak MB"

# The others start from the same two trees, as `deploy`, into folders of their own.
a=$APP/releases/$first b=$APP/releases/$second other=$work/other
install -d -o deploy -g deploy "$other"
ssh="ssh -F /dev/null -p $SSH_PORT -i $RELSTORE_SSH_KEY -o IdentitiesOnly=yes -o UserKnownHostsFile=$RELSTORE_KNOWN_HOSTS -o BatchMode=yes"
exclude=(--exclude ./bootstrap/cache --exclude ./storage --exclude ./.env)
timed() { local began; began=$(date +%s%3N); "$@"; took=$(( $(date +%s%3N) - began )); }
by_tar()   { tar -C "$1" "${exclude[@]}" -czf "$work/copy.tar.gz" . && $ssh deploy@127.0.0.1 "mkdir $other/$2 && tar -C $other/$2 -xzf -" < "$work/copy.tar.gz"; }
by_rsync() { rsync -az --delete --stats "${exclude[@]/.\///}" -e "$ssh" "$1/" "deploy@127.0.0.1:$other/$2/" > "$work/out"; }
stats()    { sed -n 's/^Total bytes sent: \(.*\)/\1 bytes sent/p; s/^Total bytes received: \(.*\)/\1 received/p' "$work/out" | tr -d , | paste -sd, | sed 's/,/, /'; }
echo
timed by_tar "$a" tar1; row "tar.gz over ssh, whole" $took "" "$(stat -c %s "$work/copy.tar.gz") bytes sent"
timed by_rsync "$a" rsync1; row "rsync -az, first" $took "" "$(stats)"
timed eval "$ssh deploy@127.0.0.1 'cp -al $other/rsync1 $other/rsync2' && by_rsync $b rsync2"
row "cp -al, rsync -az, one line" $took "" "$(stats)"
printf '\n  relstore %s bytes, relstore-host %s bytes\n' "$(stat -c %s "$bin/relstore")" "$(stat -c %s "$bin/relstore-host")"
