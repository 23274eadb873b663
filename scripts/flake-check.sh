#!/bin/bash
# Evaluates flake.nix completely, offline, against fixtures/nixpkgs-stub: every package, check and
# development shell must evaluate, and be there under the name that the README and CI use.
# Then it damages copies of flake.nix and wants each refused, so that this check cannot rot either.
# Needs nix (Debian: nix-bin); runs as any user, without a daemon; leaves nothing behind.
set -euo pipefail
repo=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT

# A store of its own: the machine's may be absent, or belong to a daemon.
export NIX_STORE_DIR=$work/store NIX_STATE_DIR=$work/state NIX_LOG_DIR=$work/log NIX_REMOTE=local
export NIX_CONF_DIR=$work/conf HOME=$work/home XDG_CACHE_HOME=$work/cache
mkdir -p "$NIX_CONF_DIR" "$HOME"
unset XDG_CONFIG_HOME NIX_CONFIG NIX_PATH

# Not the work tree itself: it would be copied to the store with everything in target/.
place() { mkdir -p "$1"; cp "$repo/flake.nix" "$repo/Cargo.toml" "$repo/Cargo.lock" "$1/"; }

# All of one kind, by system and name; forces every derivation.
each='builtins.mapAttrs (_: builtins.mapAttrs (_: it:
  { inherit (it) name drvPath; } // (if it ? packages then { packages = map (p: p.name) it.packages; } else { })))'
evaluate() {
    local kind
    for kind in packages checks devShells; do
        nix --extra-experimental-features 'nix-command flakes' --option build-users-group '' \
            eval --offline --no-write-lock-file --json \
            --override-input nixpkgs "path:$repo/fixtures/nixpkgs-stub" "path:$1#$kind" --apply "$each" || return
        echo
    done
}

place "$work/good"
evaluate "$work/good" > "$work/found.json" 2> "$work/errors" || { cat "$work/errors" >&2; exit 1; }

version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' "$repo/Cargo.toml")
# A name per line, as `packages.<system>.<name> <derivation>`.
expected() {
    local system
    for system in x86_64-linux aarch64-linux; do
        cat <<E
packages $system default relstore-$version
packages $system relstore relstore-$version
packages $system relstore-host static-relstore-host-$version
checks $system package relstore-$version
checks $system fmt relstore-fmt-$version
checks $system clippy relstore-clippy-$version
checks $system deny relstore-deny-$version
checks $system doc relstore-doc-$version
checks $system test relstore-test-$version
devShells $system default nix-shell php composer nodejs bubblewrap
E
    done
}
found() {
    node -e '
        const kinds = ["packages", "checks", "devShells"];
        const wanted = ["php", "composer", "nodejs", "bubblewrap"];
        require("fs").readFileSync(process.argv[1], "utf8").trim().split("\n").forEach((line, i) => {
            for (const [system, entries] of Object.entries(JSON.parse(line)))
                for (const [name, it] of Object.entries(entries))
                    console.log([kinds[i], system, name, it.name, ...wanted.filter(p => it.packages?.includes(p))].join(" "));
        });
    ' "$work/found.json"
}
diff -u --label expected <(expected | LC_ALL=C sort) --label flake.nix <(found | LC_ALL=C sort) >&2 ||
    { echo "flake-check: flake.nix does not offer what is expected" >&2; exit 1; }

# Each of these must be noticed: damage, as an expression for sed.
damaged=0
refuses() {
    damaged=$((damaged + 1))
    place "$work/bad$damaged"
    sed -i "$1" "$work/bad$damaged/flake.nix"
    ! cmp -s "$repo/flake.nix" "$work/bad$damaged/flake.nix" ||
        { echo "flake-check: '$1' changes nothing in flake.nix; correct scripts/flake-check.sh" >&2; exit 1; }
    if evaluate "$work/bad$damaged" > /dev/null 2>&1; then
        echo "flake-check: flake.nix with '$1' evaluates, but must not" >&2; exit 1
    fi
}
refuses 's/pkgs\.bubblewrap/pkgs.bubblewarp/'                    # a package that does not exist
refuses 's/cargoBuildFlags = \[ "--bin/cargoBuildFlag = [ "--bin/' # an argument that does not exist
refuses 's/Cargo\.lock;/Cargo.lok;/'                             # a file that does not exist
refuses 's/^    in$/    on/'                                     # not Nix at all
echo "flake.nix: $(found | wc -l) outputs evaluate offline, $damaged damaged copies are refused"
