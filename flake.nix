# The program, a shell to work on it, and what CI checks:
#
#   nix build            the program with its static host helper beside it
#   nix develop          Rust, and what relstore runs: PHP, Composer, Node, bubblewrap, OpenSSH
#   nix flake check      format, clippy, dependencies, documentation, tests
#
# The end-to-end tests need root and real servers, which a Nix build has not: `make test`.
# scripts/flake-check.sh evaluates this file without network against fixtures/nixpkgs-stub, which
# knows exactly the names used here; a new name goes there too.
{
  description = "Reproducible, content-addressed releases for Laravel";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";

  outputs =
    { self, nixpkgs }:
    let
      systems = [
        "x86_64-linux"
        "aarch64-linux"
      ];
      forAll = make: nixpkgs.lib.genAttrs systems (system: make nixpkgs.legacyPackages.${system});
      version = (builtins.fromTOML (builtins.readFile ./Cargo.toml)).workspace.package.version;
      source = {
        inherit version;
        src = self;
        cargoLock.lockFile = ./Cargo.lock;
      };
      # What relstore starts when it builds and deploys.
      tools = pkgs: [
        pkgs.php
        pkgs.phpPackages.composer
        pkgs.nodejs
        pkgs.bubblewrap
        pkgs.git
        pkgs.openssh
      ];
      # One cargo command over the workspace, with the locked dependencies and no network.
      cargo =
        pkgs: name: inputs: command:
        pkgs.rustPlatform.buildRustPackage (
          source
          // {
            pname = "relstore-${name}";
            nativeBuildInputs = inputs;
            buildPhase = command;
            installPhase = "touch $out";
            doCheck = false;
          }
        );
    in
    {
      packages = forAll (pkgs: rec {
        default = relstore;

        # Copied to hosts with whatever libc they have, hence static.
        relstore-host = pkgs.pkgsStatic.rustPlatform.buildRustPackage (
          source
          // {
            pname = "relstore-host";
            buildNoDefaultFeatures = true;
            cargoBuildFlags = [
              "--package=relstore-deployer"
              "--bin=relstore-host"
            ];
            doCheck = false;
          }
        );

        relstore = pkgs.rustPlatform.buildRustPackage (
          source
          // {
            pname = "relstore";
            cargoBuildFlags = [ "--bin=relstore" ];
            # The program looks for the helper beside itself.
            postInstall = "install -m 755 ${relstore-host}/bin/relstore-host $out/bin/";
            doCheck = false;
            meta.mainProgram = "relstore";
          }
        );
      });

      devShells = forAll (pkgs: {
        default = pkgs.mkShell {
          packages = tools pkgs ++ [
            pkgs.cargo
            pkgs.rustc
            pkgs.rustfmt
            pkgs.clippy
            pkgs.rust-analyzer
            pkgs.cargo-nextest
            pkgs.cargo-deny
            pkgs.b3sum
            pkgs.zstd
            pkgs.libfaketime
          ];
        };
      });

      checks = forAll (pkgs: {
        package = self.packages.${pkgs.stdenv.hostPlatform.system}.relstore;
        fmt = cargo pkgs "fmt" [ pkgs.rustfmt ] "cargo fmt --all --check";
        clippy = cargo pkgs "clippy" [
          pkgs.clippy
        ] "cargo clippy --workspace --all-targets --features e2e --offline -- -D warnings";
        # Advisories come from the network and are left to CI.
        deny = cargo pkgs "deny" [
          pkgs.cargo-deny
        ] "cargo deny --offline --workspace check bans licenses sources";
        doc = cargo pkgs "doc" [ ] "RUSTDOCFLAGS=-Dwarnings cargo doc --workspace --no-deps --offline";
        # The example applications are cut from Debian's PHP libraries.
        test = cargo pkgs "test" (
          tools pkgs
          ++ [
            pkgs.cargo-nextest
            pkgs.b3sum
            pkgs.zstd
            pkgs.libfaketime
          ]
        ) "cargo nextest run --workspace --offline -E 'not (binary(applications) or binary(incremental) or binary(managers) or binary(monorepo) or binary(packages))'";
      });
    };
}
