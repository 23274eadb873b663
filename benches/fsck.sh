#!/usr/bin/env bash
# How fast a store is read and checked in full, against b3sum of the same files.
#
#   benches/fsck.sh FOLDER [MEGABYTES]
#
# FOLDER holds the release build of `relstore` (target/release). The store is made below $TMPDIR and removed.
set -euo pipefail
relstore=$(realpath "$1")/relstore
megabytes=${2:-400}
work=$(mktemp -d "${TMPDIR:-/dev/shm}/relstore-fsck-XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir "$work/tree"
# A third does not compress, the rest is source code of this project, each file different.
sources=$(dirname "$0")/..
files=0
while [ "$(du -sm "$work/tree" | cut -f1)" -lt "$megabytes" ]; do
    files=$((files + 1))
    mkdir -p "$work/tree/$files"
    find "$sources/src" "$sources/store/src" "$sources/builder/src" -name '*.rs' | while read -r file; do
        { echo "// $files"; cat "$file"; } > "$work/tree/$files/$(echo "$file" | tr / _)"
    done
    head -c 1000000 /dev/urandom > "$work/tree/$files/image.bin"
done
"$relstore" import "$work/tree" --layout plain --store "$work/store" > /dev/null 2>&1
rm -rf "$work/tree"
bytes=$(cat "$work"/store/bundles/* | wc -c)
blobs=$(zstd -dc "$work"/store/bundles/*.tar.zst | wc -c)
rate() { # command
    local began ended
    began=$(date +%s%N)
    "$@" > /dev/null
    ended=$(date +%s%N)
    awk -v ns=$((ended - began)) -v bytes="$bytes" -v raw="$blobs" 'BEGIN {
        printf "%.2f s  %5.0f MB/s stored  %5.0f MB/s raw\n", ns / 1e9, bytes * 1e3 / ns, raw * 1e3 / ns }'
}
mkdir "$work/raw"
echo "store: $((bytes / 1000000)) MB in bundles, $((blobs / 1000000)) MB raw, $(nproc) cores"
for _ in 1 2 3; do
    printf 'relstore fsck         '; rate "$relstore" fsck --store "$work/store"
    printf 'relstore fsck --full  '; rate "$relstore" fsck --full --store "$work/store"
    printf 'b3sum of the bundles  '; rate b3sum "$work"/store/bundles/*
    printf 'zstd -t               '; rate zstd -qt "$work"/store/bundles/*
    printf 'unpack, b3sum *       '; rate sh -c 'cd "$1/raw" && cat ../store/bundles/* | zstd -dc | tar -x && find . -type f | xargs b3sum' sh "$work"
    rm -rf "$work/raw"; mkdir "$work/raw"
done
