#!/bin/bash
# All tests, the end-to-end ones against a real sshd, nginx, PHP-FPM and MariaDB on loopback:
#   test.sh [arguments for cargo nextest run]
# Ends what it started. The last thing printed is the runner's summary, the exit code is its own.
set -euo pipefail

# A function, so that the shell has read all of it before it runs: editing this file meanwhile, or
# checking out another commit, changes nothing.
main() {
    repo=$(cd "$(dirname "$0")/.." && pwd)
    cd "$repo"
    export PATH="$PATH:${CARGO_HOME:-$HOME/.cargo}/bin:/usr/sbin:/sbin"
    work=/var/tmp/relstore-test
    stack=$repo/fixtures/stack/stack.sh
    select=(--workspace --locked --features e2e)

    # Accounts, www-data's PHP and folders of `deploy` need root; compiling does not, and must not
    # leave files of root in the target folder. So only the tests themselves run as root.
    root=()
    if [ "$(id -u)" != 0 ]; then
        sudo -n true 2>/dev/null || { echo "test: needs root or sudo without a password (accounts, nginx as www-data)" >&2; exit 1; }
        root=(sudo -n --preserve-env env "PATH=$PATH" "HOME=$HOME")
        triple=$(rustc -vV | sed -n 's/^host: //p')
        runner=$(printf "'%s', " "${root[@]}")
        select+=(--config "target.$triple.runner = [${runner%, }]")
    fi

    scripts/setup.sh test
    scripts/flake-check.sh
    scripts/helper.sh debug >/dev/null
    cargo nextest run "${select[@]}" --no-run

    # One stack at a time: they share the accounts and Debian's pid file of PHP-FPM.
    # Opened for reading: root and another user can share the file, whoever made it.
    lock=/var/tmp/relstore-stack.lock
    [ -e $lock ] || install -m 644 /dev/null $lock
    exec 9< $lock
    flock --nonblock 9 || { echo "test: another run of the tests or the demo is at work, waiting for it" >&2; flock 9; }

    finish() { "${root[@]}" "$stack" stop "$work/stack" >/dev/null 2>&1 || true; }
    trap finish EXIT
    finish                                   # what a killed run may have left
    "${root[@]}" rm -rf "$work"
    "${root[@]}" install -d -m 755 "$work"
    export SSH_PORT=22022 HTTP_PORT=18080 APP=$work/www
    "${root[@]}" fixtures/app.sh "$work/notes"
    "${root[@]}" "$stack" init "$work/stack"
    "${root[@]}" "$stack" start "$work/stack" 9<&-     # servers that outlive a killed run must not hold the lock
    variables=$("${root[@]}" "$stack" env "$work/stack")
    eval "$variables"
    export RELSTORE_FIXTURE_APP=$work/notes

    code=0
    cargo nextest run "${select[@]}" "$@" < /dev/null 9<&- || code=$?
    exit "$code"
}
main "$@"
