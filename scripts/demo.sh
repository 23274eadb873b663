#!/bin/bash
# The main job from beginning to end on this machine: `make demo`.
#
# Everything lies below /var/tmp/relstore-demo; a real nginx, PHP-FPM and MariaDB on loopback are
# started and ended by pid. Builds and deploys as the user `deploy`; PHP runs as www-data.
set -euo pipefail
repo=$(cd "$(dirname "$0")/.." && pwd)
bin=${1:?usage: demo.sh FOLDER-WITH-THE-BINARIES}
work=/var/tmp/relstore-demo

# How the network is reached from here, for npm; everything else of the caller's environment is
# left out.
network=()
for name in {HTTP,HTTPS,NO,ALL}_PROXY {http,https,no,all}_proxy SSL_CERT_FILE SSL_CERT_DIR NODE_EXTRA_CA_CERTS; do
    if [ -n "${!name:-}" ]; then network+=("$name=${!name}"); fi
done

if [ "$(id -u)" != 0 ]; then
    sudo -n true 2>/dev/null || { echo "demo: needs root or sudo without a password (accounts, nginx as www-data)" >&2; exit 1; }
    exec sudo -n env "PATH=$PATH" "HOME=$HOME" NO_COLOR="${NO_COLOR:-}" "${network[@]}" "$0" "$@"
fi

if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then bold=$'\e[1m' dim=$'\e[2m' green=$'\e[32m' plain=$'\e[0m'; else bold= dim= green= plain=; fi
say()  { printf '\n%s== %s%s\n' "$bold" "$*" "$plain"; }
note() { printf '%s   %s%s\n' "$dim" "$*" "$plain"; }

# One stack at a time: they share the accounts and Debian's pid file of PHP-FPM.
lock=/var/tmp/relstore-stack.lock
[ -e $lock ] || install -m 644 /dev/null $lock
exec 9< $lock
flock --nonblock 9 || { echo "demo: another run of the tests or the demo is at work, waiting for it" >&2; flock 9; }
began=$(date +%s)

export SSH_PORT=22023 HTTP_PORT=18081 APP=$work/www
stack=$repo/fixtures/stack/stack.sh
finish() { "$stack" stop "$work/stack" >/dev/null 2>&1 || true; }
trap finish EXIT
finish
rm -rf "$work"; mkdir -p "$work/bin"; chmod 755 "$work"
cp "$bin/relstore" "$bin/relstore-host" "$work/bin/"
token=$(head -c 16 /dev/urandom | od -An -tx1 | tr -d ' \n')

say "A server: nginx, PHP-FPM as www-data, MariaDB, the deploy user \`deploy\`"
"$stack" init "$work/stack"
"$stack" start "$work/stack" mariadb fpm nginx 9<&-     # servers that outlive a killed run must not hold the lock
"$stack" dotenv "$work/stack" "$APP" "$token"
"$repo/fixtures/app.sh" "$work/notes" 2> "$work/app.log" || { cat "$work/app.log" >&2; exit 1; }
mkdir "$work/home"; chown -R deploy "$work/notes" "$work/home"

url=http://127.0.0.1:$HTTP_PORT
as_deploy() {
    (cd "$work/notes" && exec setpriv --reuid deploy --regid deploy --init-groups env -i \
        PATH="$work/bin:$PATH" HOME="$work/home" NO_COLOR="${NO_COLOR:-}" TERM="${TERM:-dumb}" "${network[@]}" \
        NOTES_BASE="$APP" NOTES_URL="$url" HEALTH_TOKEN="$token" \
        USER=deploy GIT_AUTHOR_NAME=Demo GIT_AUTHOR_EMAIL=demo@example.com GIT_COMMITTER_NAME=Demo GIT_COMMITTER_EMAIL=demo@example.com "$@")
}
relstore() { printf '%s$ relstore %s%s\n' "$bold" "$*" "$plain" >&2; as_deploy relstore "$@"; }
page() { curl -fsS "$url/"; }
shows() { page | grep -o '<meta name="release" content="[0-9a-f]*' | grep -o '[0-9a-f]*$' | cut -c1-12; }
ms() { date +%s%3N; }
# Milliseconds and bytes for people.
s()  { if [ "$1" -lt 1000 ]; then echo "$1 ms"; else printf '%d.%d s' $(( $1 / 1000 )) $(( $1 % 1000 / 100 )); fi; }
kb() { if [ "$1" -lt 10000 ]; then echo "$1 bytes"; elif [ "$1" -lt 1000000 ]; then echo "$(( $1 / 1000 )) kB"; else printf '%d.%d MB' $(( $1 / 1000000 )) $(( $1 % 1000000 / 100000 )); fi; }

say "Build: sources, Composer, Vite, gates, the project's own checks, store"
t=$(ms); relstore build | tee "$work/first"; first=$(tail -n 1 "$work/first"); build_first=$(( $(ms) - t ))

say "Deploy the first release"
t=$(ms); relstore deploy HEAD --env local; deploy_first=$(( $(ms) - t ))
note "the page: $(page | grep -o '<h1>.*</h1>') from release $(shows)"

say "Change one line, build, deploy the difference"
as_deploy sed -i 's|<h1>{{ config(.app.name.) }}</h1>|<h1>{{ config("app.name") }}, improved</h1>|' resources/views/home.blade.php
as_deploy git commit --quiet --all --message "Improve the heading"
t=$(ms); relstore build > "$work/second"; second=$(tail -n 1 "$work/second"); build_again=$(( $(ms) - t ))
t=$(ms); relstore deploy HEAD --env local --json > "$work/second.json"; deploy_second=$(( $(ms) - t ))
sent=$(grep -o '"sent_bytes": *[0-9]*' "$work/second.json" | head -n 1 | grep -o '[0-9]*$')
whole=$(as_deploy relstore show "$second" --json | grep -o '^  "bytes": *[0-9]*' | grep -o '[0-9]*$')
note "the page: $(page | grep -o '<h1>.*</h1>') from release $(shows)"
note "$(kb "$sent") went to the host for a release of $(kb "$whole")"

say "What exactly changed"
relstore diff "${first:0:12}" "${second:0:12}"

say "A release whose health check fails"
as_deploy sed -i "s|'status' => 'ok', 'release'|'status' => abort(503), 'release'|" app/Http/Controllers/HealthController.php
as_deploy git commit --quiet --all --message "Break the health check"
code=0; relstore build || code=$?
[ "$code" = 12 ] || { echo "demo: expected exit code 12 (a check failed), got $code" >&2; exit 1; }
note "the project's tests refuse it; so that the deploy can be seen to refuse it too, they are left out now"
relstore build --no-checks > "$work/third"; third=$(tail -n 1 "$work/third")
t=$(ms); code=0; relstore deploy HEAD --env local || code=$?; deploy_third=$(( $(ms) - t ))
[ "$code" = 6 ] || { echo "demo: expected exit code 6 (rolled back), got $code" >&2; exit 1; }
[ "$(shows)" = "${second:0:12}" ] || { echo "demo: the old release does not serve" >&2; exit 1; }
note "the page again comes from release $(shows)"

say "Is the live tree what was deployed?"
t=$(ms); relstore verify --env local; verify=$(( $(ms) - t ))

say "Back to the first release, by its hash"
t=$(ms); relstore rollback --env local --to "${first:0:12}"; rollback=$(( $(ms) - t ))
[ "$(shows)" = "${first:0:12}" ] || { echo "demo: the first release does not serve" >&2; exit 1; }

say "Who did what"
relstore history --env local

files=$(as_deploy relstore manifest "$first" | grep -c '^[fx]')
cat <<X

$green$bold   All of it worked.$plain

   application       Laravel 8.83, $files files, $(kb "$whole")
   build             $(s $build_first), $(s $build_again) after a change: Composer, npm, Vite, gates, style and tests on MariaDB
   first deploy      $(s $deploy_first), caches, migrations and health included
   next deploy       $(s $deploy_second), $(kb "$sent") sent: one byte of $(( whole / sent )) in the release
   broken release    refused by its health check, ${second:0:12} serves again after $(s $deploy_third)
   verify            $(s $verify) for every byte on the host
   rollback          $(s $rollback), by hash
   everything        $(( $(date +%s) - began )) s

   It lies in $work; nothing is left running.
   Next: relstore init in your own project, and README.md.
X
