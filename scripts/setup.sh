#!/bin/bash
# Installs what this machine lacks:  setup.sh build|demo|test|bench|lint|fuzz
#
#   build   compile relstore
#   demo    also build the example application (PHP, Composer, Node) and serve it (nginx, PHP-FPM,
#           MariaDB, sshd)
#   test    also test it: nix, b3sum, a load generator, cargo-nextest, Garage, schemas of record
#           formats, pnpm and Yarn
#   bench   what demo needs, and what to compare with: rsync, zstd, nix, casync, ostree, restic,
#           borg, rclone; a load generator; buckets only where Garage is installed (test)
#   lint    compile relstore; rustfmt, clippy, cargo-deny
#   fuzz    compile relstore; nightly Rust, cargo-fuzz
#
# Debian packages come by apt, as root or by `sudo -n`; without either, the command to run is
# printed and the exit code is 1. Rust itself is expected to be there. What is there already is
# left alone: Node and Composer may come from anywhere.
set -euo pipefail

mode=${1:-}
case $mode in build|demo|test|bench|lint|fuzz) ;; *) sed -n '2,13p' "$0" >&2; exit 2 ;; esac
export PATH="$PATH:${CARGO_HOME:-$HOME/.cargo}/bin:/usr/sbin:/sbin"

missing=()
has()     { command -v "$1" >/dev/null 2>&1; }
# A program, from wherever it comes; else this package.
program() { has "$1" || missing+=("${@:2}"); }
# Debian packages, where only Debian's own will do.
package() {
    local name
    for name in "$@"; do
        [ "$(dpkg-query -W -f='${db:Status-Status}' "$name" 2>/dev/null)" = installed ] || missing+=("$name")
    done
}

has cargo || { echo "setup: Rust is missing (https://rustup.rs), at least version $(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$(dirname "$0")/../Cargo.toml")" >&2; exit 1; }
has cc && [ -e /usr/include/stdlib.h ] || missing+=(gcc libc6-dev)   # ring, zstd and blake3 are partly C
program git git

if [ "$mode" = fuzz ]; then program c++ g++; fi

if [ "$mode" = demo ] || [ "$mode" = test ] || [ "$mode" = bench ]; then
    # vite 6 runs on Node 18 (Debian's), 20, 22 and newer.
    if has node; then
        node -e 'process.exit(+process.versions.node.split(".")[0] >= 18 ? 0 : 1)' ||
            { echo "setup: $(command -v node) is $(node --version), but the example needs Node 18 or newer" >&2; exit 1; }
    fi
    program node nodejs npm
    program npm npm
    program composer composer
    program bwrap bubblewrap
    program unzip unzip
    program curl curl ca-certificates
    # The example's Composer packages are cut from these; extensions as Laravel wants them.
    package php8.2-cli php8.2-mbstring php8.2-xml php8.2-zip php8.2-sqlite3 php8.2-mysql \
        php-laravel-framework php-mockery phpunit php-codesniffer
    package php8.2-fpm
    program nginx nginx-light
    program mariadbd mariadb-server
    program sshd openssh-server
    program ssh openssh-client
    program sudo sudo
    program setfacl acl
    program setpriv util-linux
    program ps procps
fi
if [ "$mode" = test ]; then
    program b3sum b3sum
    program make make                    # Garage brings libsodium, which is configured and made
    program nix nix-bin
    program wrk wrk
    program openssl openssl
    program zstd zstd
    program bsdtar libarchive-tools
    program faketime faketime
    program mkfs.ext4 e2fsprogs
    program mkfs.xfs xfsprogs
    program taskset util-linux
    package php8.2-phpdbg                # measures coverage without changing how PHP runs elsewhere
    python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3 python3-venv)
fi

if [ "$mode" = bench ]; then
    program rsync rsync
    program rclone rclone
    program wrk wrk
    program python3 python3
    program nix-store nix-bin
    program casync casync
    program ostree ostree
    program restic restic
    program borg borgbackup
    program b3sum b3sum
    program zstd zstd
    [ -x /usr/bin/time ] || missing+=(time)
fi

install_packages() {
    local names; mapfile -t names < <(printf '%s\n' "${missing[@]}" | sort -u)
    local line="apt-get install --yes --no-install-recommends ${names[*]}"
    if ! has apt-get; then
        echo "setup: needs Debian 12; missing: ${names[*]}" >&2; exit 1
    fi
    if [ "$(id -u)" != 0 ] && ! sudo -n true 2>/dev/null; then
        printf 'setup: these packages are missing; as root:\n  %s\n' "$line" >&2; exit 1
    fi
    local as_root=()
    if [ "$(id -u)" != 0 ]; then as_root=(sudo -n); fi
    echo "setup: installing ${names[*]}" >&2
    # Servers come with the packages; installed for their programs, they are neither started now
    # (policy-rc.d is how Debian's scripts ask) nor at the next boot.
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive bash -euo pipefail -s "${names[@]}" >&2 <<'ROOT'
policy=/usr/sbin/policy-rc.d
log=$(mktemp)
if [ -e $policy ]; then
    trap 'rm -f $log' EXIT
else
    printf '#!/bin/sh\nexit 101\n' > $policy; chmod 755 $policy
    trap 'rm -f $log $policy' EXIT
fi
quietly() { "$@" < /dev/null > "$log" 2>&1 || { cat "$log"; exit 1; }; }
quietly apt-get update
quietly apt-get install --yes --no-install-recommends "$@"
if [ -d /run/systemd/system ]; then
    for name in "$@"; do
        case $name in
            nginx-light)    systemctl disable --quiet nginx ;;
            php8.2-fpm)     systemctl disable --quiet php8.2-fpm ;;
            mariadb-server) systemctl disable --quiet mariadb ;;
            openssh-server) systemctl disable --quiet ssh ;;
        esac
    done
fi
ROOT
}
if [ ${#missing[@]} -gt 0 ]; then install_packages; fi

# Cargo's subcommands are compiled here, from the registry.
subcommand() {
    cargo "$1" --version >/dev/null 2>&1 && return
    echo "setup: installing cargo-$1 (takes minutes)" >&2
    cargo install --locked --quiet "cargo-$1" < /dev/null >&2
}
# A real S3 server.
bucket_server() {
    has garage && return
    echo "setup: installing garage (takes minutes)" >&2
    cargo install --locked --quiet garage < /dev/null >&2
}
component() {
    "$2" --version >/dev/null 2>&1 && return
    echo "setup: installing $1" >&2
    rustup component add "$1" < /dev/null >&2
}
# What checks records against the standards they follow, in a Python environment of its own.
schemas() {
    local from to
    from=$(dirname "$0")/../fixtures/schemas/requirements.txt
    to=$(dirname "$0")/../target/record-schemas
    cmp --silent "$from" "$to/requirements.txt" && return
    echo "setup: installing the schemas of record formats" >&2
    python3 -m venv --clear "$to"
    "$to/bin/pip" install --quiet --disable-pip-version-check --no-deps --requirement "$from" < /dev/null >&2
    cp "$from" "$to/requirements.txt"
}
# Package managers beside npm, each in a folder of its own: two of them are called yarn.
managers() {
    local to=$(dirname "$0")/../target/managers name package
    for package in pnpm@9.15.9 yarn@1.22.22 @yarnpkg/cli-dist@4.9.2; do
        case $package in pnpm@*) name=pnpm ;; yarn@1.*) name=yarn-1 ;; *) name=yarn-4 ;; esac
        [ "$(cat "$to/$name/installed" 2>/dev/null)" = "$package" ] && continue
        echo "setup: installing $package" >&2
        npm install --global --prefix "$to/$name" --ignore-scripts --no-audit --no-fund --loglevel error "$package" < /dev/null >&2
        echo "$package" > "$to/$name/installed"
    done
}
if [ "$mode" = test ]; then subcommand nextest; bucket_server; schemas; managers; fi
if [ "$mode" = fuzz ]; then
    cargo +nightly --version >/dev/null 2>&1 || rustup toolchain install nightly --profile minimal < /dev/null >&2
    subcommand fuzz
fi
if [ "$mode" = lint ]; then
    component rustfmt rustfmt
    component clippy cargo-clippy
    subcommand deny
fi
