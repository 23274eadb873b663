#!/bin/bash
# Builds `relstore-host`, the static helper for hosts, and puts it beside the program:
#   helper.sh [PROFILE]         build; copy to target/PROFILE/ (default: release); print that folder
#   helper.sh --place PROFILE   copy what was built last to target/PROFILE/, if anything was
#
# Always a release build without default features: it is copied to hosts, with whatever libc they
# have, so it must not need theirs.
set -euo pipefail
cd "$(dirname "$0")/.."
target=$(cargo metadata --no-deps --format-version 1 | sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')
built=$target/static/relstore-host

# By rename: cargo hard-links its own output to this name, and writing into it would change both.
place() {
    local to=$target/$1
    mkdir -p "$to"
    cp "$built" "$to/.relstore-host.$$"
    mv -f "$to/.relstore-host.$$" "$to/relstore-host"
}

if [ "${1:-}" = --place ]; then
    if [ -f "$built" ]; then place "${2:?usage: helper.sh --place PROFILE}"; fi
    exit 0
fi
profile=${1:-release}

triple=$(rustc -vV | sed -n 's/^host: //p')
# --target keeps the flag away from build scripts and procedural macros, which cannot be static.
RUSTFLAGS="${RUSTFLAGS:-} -C target-feature=+crt-static" cargo build --release --locked \
    --package relstore-deployer --bin relstore-host --no-default-features --target "$triple" >&2
mkdir -p "$target/static"
cp "$target/$triple/release/relstore-host" "$built.$$"
mv -f "$built.$$" "$built"
# ldd answers 0 and "statically linked" for a static-pie, 1 and "not a dynamic executable" otherwise.
ldd "$built" 2>&1 | grep -qE 'statically linked|not a dynamic executable' ||
    { echo "helper: $built is not static:" >&2; ldd "$built" >&2; exit 1; }
place "$profile"
echo "$target/$profile"
