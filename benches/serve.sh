#!/bin/bash
# `relstore serve` beside nginx with the same files, asked by wrk:
#   serve.sh FOLDER-WITH-THE-BINARIES
#
# Both serve one store on loopback, take turns ROUNDS (3) times for SECONDS (5) each, with all cores,
# 32 connections and no log. Shown are medians of requests and megabytes per second, and what part of
# nginx's that is. nginx hands files to the kernel (sendfile); relstore reads through the interface that
# also serves stores in a bucket.
set -euo pipefail
bin=$(cd "${1:?usage: serve.sh FOLDER-WITH-THE-BINARIES}" && pwd)
rounds=${ROUNDS:-3} seconds=${SECONDS_EACH:-5}
PATH=$PATH:/usr/sbin:/sbin
for program in nginx wrk; do
    command -v $program > /dev/null || { echo "bench: $program is missing (scripts/setup.sh bench)" >&2; exit 1; }
done

work=$(mktemp -d /var/tmp/relstore-bench-serve.XXXXXX) ended=()
finish() { for pid in "${ended[@]}"; do kill "$pid" 2>/dev/null || true; wait "$pid" 2>/dev/null || true; done; rm -rf "$work"; }
trap finish EXIT
export HOME=$work
chmod 755 "$work"

# 8,000 small files and one that does not compress: a bundle of some 64 MB.
mkdir "$work/tree"
for (( at = 0; at < 8000; at++ )); do echo "file $at" > "$work/tree/$at.txt"; done
head -c 67108864 /dev/urandom > "$work/tree/long.bin"
"$bin/relstore" --quiet --store "$work/store" import "$work/tree" --layout plain > /dev/null
rm -rf "$work/tree"
cd "$work/store"
mark=$(echo releases/*) manifest=$(echo manifests/*) bundle=$(echo bundles/*)

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
port=$(free_port)
cat > "$work/nginx.conf" <<CONF
daemon off; worker_processes auto; pid $work/nginx.pid; error_log $work/error.log;
$([ "$(id -u)" = 0 ] && echo 'user root;')
events { worker_connections 1024; }
http {
    access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000000;
    client_body_temp_path $work/t1; proxy_temp_path $work/t2; fastcgi_temp_path $work/t3; uwsgi_temp_path $work/t4; scgi_temp_path $work/t5;
    server { listen 127.0.0.1:$port; root $work/store; }
}
CONF
nginx -p "$work" -c nginx.conf -e error.log & ended+=($!)
nginx_url=http://127.0.0.1:$port
"$bin/relstore" --quiet --store "$work/store" serve --listen 127.0.0.1:0 > "$work/said" & ended+=($!)
for (( wait = 0; wait < 100; wait++ )); do
    sleep 0.1
    if [ -s "$work/said" ] && curl -sf "$nginx_url/$mark" > /dev/null; then break; fi
done
relstore_url=$(sed -n 's|.*\(http://[^/]*\)/$|\1|p' "$work/said")

# One measurement: requests/s and MB/s; any error ends the run.
ask() {
    local url=$1 said; shift
    said=$(wrk -t2 -c32 -d"${seconds}s" --timeout 30s "$@" "$url")
    case $said in *'Socket errors'*|*Non-2xx*) echo "$said" >&2; exit 1 ;; esac
    awk '/^Requests\/sec/ { requests = $2 } /^Transfer\/sec/ { rate = $2 }
        END { unit = substr(rate, length(rate) - 1, 1); sub(/[A-Z]+$/, "", rate)
              if (unit == "K") rate /= 1000; if (unit == "G") rate *= 1000; printf "%.1f %.1f\n", requests, rate }' <<< "$said"
}
median() { cut -d' ' -f"$2" "$work/$1" | sort -n | awk '{ all[NR] = $1 } END { print all[int((NR + 1) / 2)] }'; }
compare() {
    local label=$1 name=$2 round; shift 2
    rm -f "$work/nginx" "$work/relstore"
    for (( round = 0; round < rounds; round++ )); do
        ask "$nginx_url/$name" "$@" >> "$work/nginx"
        ask "$relstore_url/$name" "$@" >> "$work/relstore"
    done
    printf '  %-22s %9s /s %8s MB/s %9s /s %8s MB/s   %s\n' "$label" "$(median nginx 1)" "$(median nginx 2)" "$(median relstore 1)" \
        "$(median relstore 2)" "$(awk -v a="$(median relstore 1)" -v b="$(median nginx 1)" 'BEGIN { printf "%.2f", a / (b ? b : 1) }')"
}

printf '\n  %-22s %26s %26s   %s\n' '32 connections' nginx 'relstore serve' 'x nginx'
compare "a mark, 19 B" "$mark"
compare "manifest, $(($(stat -c %s "$manifest") / 1000)) kB" "$manifest"
compare "1 MiB of a bundle" "$bundle" -H 'Range: bytes=20000000-21048575'
compare "bundle, $(($(stat -c %s "$bundle") / 1000000)) MB" "$bundle"
