#!/bin/bash
# What it costs to bring releases to another store and back, beside tools that copy files:
#   remote.sh FOLDER-WITH-THE-BINARIES
#
# RELEASES (10) of fixtures/releases are in a store of relstore in /dev/shm. It is pushed whole to an
# empty place, then by one hot fix, and the hot fix is pulled into a store that has all but it:
# to a bucket (Garage on loopback, one node, nothing synced) beside rclone, and over SSH (sshd on
# loopback) beside rsync. The others copy the same files of the same store and prove nothing.
# Medians of ROUNDS (3). What is not installed (rclone, garage) is left out.
set -euo pipefail
repo=$(cd "$(dirname "$0")/.." && pwd)
bin=$(cd "${1:?usage: remote.sh FOLDER-WITH-THE-BINARIES}" && pwd)
releases=${RELEASES:-10} rounds=${ROUNDS:-3}
export PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin:/usr/sbin:/sbin
work=/dev/shm/relstore-bench-remote
servers=()
finish() {
    cd /
    for pid in "${servers[@]}"; do kill "$pid" 2> /dev/null || true; done
    rm -rf "$work"
}
trap finish EXIT
rm -rf "$work"
mkdir -p "$work"/{home,project,garage,sshd}
RELSTORE_FIXTURE_CACHE=${RELSTORE_FIXTURE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/relstore-fixtures}
export RELSTORE_FIXTURE_CACHE
"$repo/fixtures/releases/base.sh" "$work/tree" 2> "$work/err" || { cat "$work/err" >&2; exit 1; }
unset XDG_CACHE_HOME
export HOME=$work/home
cd "$work/project"
run() { "$bin/relstore" "$@" > "$work/out" 2> "$work/err" || { cat "$work/out" "$work/err" >&2; echo "bench: relstore $* failed" >&2; exit 1; }; }
for (( n = 1; n <= releases + 1; n++ )); do
    if [ $n -gt 1 ]; then perl "$repo/fixtures/releases/next.pl" "$work/tree" $n > /dev/null; fi
    if [ $n -gt "$releases" ]; then cp -a "$work/store" "$work/before"; fi
    run import "$work/tree" --layout plain --store "$work/store"
done
free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
await() { for _ in $(seq 100); do (exec 3<> "/dev/tcp/127.0.0.1/$1") 2> /dev/null && return; sleep 0.1; done; echo "bench: nothing answers on port $1" >&2; exit 1; }

ssh_port=$(free_port)
ssh-keygen -q -t ed25519 -N '' -f "$work/sshd/host"
ssh-keygen -q -t ed25519 -N '' -f "$work/sshd/key"
mkdir -p /run/sshd
/usr/sbin/sshd -D -e -f /dev/null -p "$ssh_port" -h "$work/sshd/host" -o ListenAddress=127.0.0.1 -o UsePAM=no -o StrictModes=no \
    -o PidFile=none -o PermitRootLogin=prohibit-password -o "AuthorizedKeysFile=$work/sshd/key.pub" 2> "$work/sshd/log" &
servers+=($!)
await "$ssh_port"
echo "[127.0.0.1]:$ssh_port $(cut -d' ' -f1,2 "$work/sshd/host.pub")" > "$work/sshd/known_hosts"
# The settings that a user has in ~/.ssh/config, for relstore (which asks `ssh -G`) and rsync alike.
cat > "$work/sshd/config" <<T
Host 127.0.0.1
    Port $ssh_port
    IdentityFile $work/sshd/key
    IdentitiesOnly yes
    UserKnownHostsFile $work/sshd/known_hosts
    BatchMode yes
T
mkdir "$work/bin"
printf '#!/bin/sh\nexec %s -F %s "$@"\n' "$(command -v ssh)" "$work/sshd/config" > "$work/bin/ssh"
chmod +x "$work/bin/ssh"
export PATH=$work/bin:$PATH
user=$(id -un)

if command -v garage > /dev/null; then
    s3=$(free_port) rpc=$(free_port)
    cat > "$work/garage/garage.toml" <<T
metadata_dir = "$work/garage/meta"
data_dir = "$work/garage/data"
db_engine = "sqlite"
replication_factor = 1
rpc_bind_addr = "127.0.0.1:$rpc"
rpc_public_addr = "127.0.0.1:$rpc"
rpc_secret = "$(head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n')"
[s3_api]
s3_region = "garage"
api_bind_addr = "127.0.0.1:$s3"
root_domain = ".localhost"
T
    RUST_LOG=garage=warn garage -c "$work/garage/garage.toml" server > "$work/garage/log" 2>&1 &
    servers+=($!)
    await "$s3"
    ask() { garage -c "$work/garage/garage.toml" "$@" > "$work/out" 2>&1 || { cat "$work/out" >&2; exit 1; }; }
    ask layout assign "$(garage -c "$work/garage/garage.toml" node id -q 2> /dev/null | cut -d@ -f1)" -z one -c 4G
    ask layout apply --version 1
    AWS_ACCESS_KEY_ID=GK$(head -c 12 /dev/urandom | od -An -tx1 | tr -d ' \n')
    AWS_SECRET_ACCESS_KEY=$(head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n')
    export AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY
    ask key import --yes -n bench "$AWS_ACCESS_KEY_ID" "$AWS_SECRET_ACCESS_KEY"
    ask bucket create releases
    ask bucket allow releases --read --write --key bench
    export RCLONE_CONFIG_G_TYPE=s3 RCLONE_CONFIG_G_PROVIDER=Other RCLONE_CONFIG_G_ENV_AUTH=true RCLONE_CONFIG_G_REGION=garage RCLONE_CONFIG_G_ENDPOINT=http://127.0.0.1:$s3
fi

# A place of each kind for round $1; copies of the store $2 go there and come back to $2.
at() { echo "$work/places/$1"; }
settings() {
    cat > relstore.toml <<T
app = "bench"
[store.remotes.ssh]
url = "ssh://$user@127.0.0.1$(at "$1")"
[store.remotes.bucket]
url = "s3://releases/$1"
endpoint = "http://127.0.0.1:${s3:-1}"
region = "garage"
path_style = true
T
}
push_bucket() { run push --all --to bucket --store "$2"; }
pull_bucket() { run pull latest --from bucket --store "$2"; }
push_ssh()    { run push --all --to ssh --store "$2"; }
pull_ssh()    { run pull latest --from ssh --store "$2"; }
push_rclone() { rclone copy -q --transfers 8 --checkers 8 "$2" "g:releases/$1"; }
pull_rclone() { rclone copy -q --transfers 8 --checkers 8 "g:releases/$1" "$2"; }
push_rsync()  { rsync -a "$2/" "$user@127.0.0.1:$(at "$1")/"; }
pull_rsync()  { rsync -a "$user@127.0.0.1:$(at "$1")/" "$2/"; }
measure() {
    local began; began=$(date +%s%3N)
    "$1_$2" "$4" "$5"
    echo $(( $(date +%s%3N) - began )) >> "$work/times.$2.$3"
}
median() { sort -n "$work/times.$1.$2" | awk '{ all[NR] = $1 } END { print all[int((NR + 1) / 2)] }'; }

contestants=(ssh rsync)
if command -v garage > /dev/null; then
    contestants+=(bucket)
    if command -v rclone > /dev/null; then contestants+=(rclone); fi
fi
mkdir "$work/places"
for (( round = 0; round < rounds; round++ )); do
    for name in "${contestants[@]}"; do
        place=$name$round
        settings "$place"
        measure push "$name" whole "$place" "$work/before"
        measure push "$name" fix "$place" "$work/store"
        cp -a "$work/before" "$work/near"
        measure pull "$name" back "$place" "$work/near"
        [ "$(find "$work/near/releases" -type f | wc -l)" = $((releases + 1)) ] || { echo "bench: $name did not bring the release" >&2; exit 1; }
        rm -rf "$work/near"
    done
done
bytes() { find "$1" -type f -printf '%s\n' | awk '{ sum += $1 } END { printf "%.1f MB, %d files", sum / 1e6, NR }'; }
echo
echo "Machine: $(nproc) CPUs ($(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -n 1)), Linux $(uname -r), everything in /dev/shm, load $(cut -d' ' -f1 /proc/loadavg)"
echo "Store: $releases releases, $(bytes "$work/before"); with the hot fix $(bytes "$work/store")"
printf '\n| ms | push of %s releases | push of a hot fix | pull of a hot fix |\n|---|--:|--:|--:|\n' "$releases"
for name in "${contestants[@]}"; do
    printf '| %s | %s | %s | %s |\n' "$(case $name in ssh) echo 'relstore, ssh' ;; bucket) echo 'relstore, Garage' ;; rsync) echo 'rsync -a, ssh' ;; *) echo 'rclone copy, Garage' ;; esac)" \
        "$(median "$name" whole)" "$(median "$name" fix)" "$(median "$name" back)"
done
