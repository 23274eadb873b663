//! `pnpm-lock.yaml`, versions 6 and 9 (pnpm 8 and later).

use std::collections::BTreeMap;

use serde::Deserialize;

use super::package::{Ecosystem, Package, is_commit};
use super::{LockError, PNPM_LOCK, yaml};

#[derive(Deserialize)]
struct Lock {
    #[serde(rename = "lockfileVersion")]
    version: String,
    /// Absent when nothing is installed.
    #[serde(default)]
    packages: Option<BTreeMap<String, Locked>>,
}

#[derive(Deserialize)]
struct Locked {
    /// Only where the key does not say it.
    name: Option<String>,
    version: Option<String>,
    #[serde(default)]
    resolution: Resolution,
    #[serde(default)]
    dev: bool,
    #[serde(default)]
    optional: bool,
}

#[derive(Deserialize, Default)]
struct Resolution {
    integrity: Option<String>,
    tarball: Option<String>,
    repo: Option<String>,
    commit: Option<String>,
    directory: Option<String>,
}

pub(super) fn parse(content: &[u8]) -> Result<Vec<Package>, LockError> {
    let lock: Lock = yaml(PNPM_LOCK, content)?;
    let major = lock.version.split('.').next().unwrap_or_default();
    if !matches!(major, "6" | "9") {
        return Err(LockError::Version {
            file: PNPM_LOCK,
            version: lock.version,
        });
    }
    let packages = lock.packages.unwrap_or_default();
    Ok(packages
        .into_iter()
        .filter_map(|(key, locked)| package(&key, locked))
        .collect())
}

/// The key is `name@version(peers)`, before version 9 with a `/` in front; the version of what is
/// not from a registry is an address.
fn package(key: &str, locked: Locked) -> Option<Package> {
    let key = key.strip_prefix('/').unwrap_or(key);
    let key = key.split('(').next().unwrap_or(key);
    let at = key.get(1..)?.find('@')? + 1;
    let (name, version) = (&key[..at], &key[at + 1..]);
    let resolution = locked.resolution;
    if resolution.directory.is_some() {
        return None;
    }
    let mut package = Package::new(
        Ecosystem::Npm,
        locked.name.as_deref().unwrap_or(name),
        locked.version.as_deref().unwrap_or(version),
    );
    if let Some(integrity) = &resolution.integrity {
        package.add_integrity(integrity);
    }
    if let Some(url) = resolution.tarball.or(resolution.repo) {
        package.add_url(&url);
    }
    if let Some(commit) = resolution.commit.filter(|commit| is_commit(commit)) {
        package.add_digest("gitCommit", commit);
    }
    package.dev = locked.dev;
    package.optional = locked.optional;
    Some(package)
}

#[cfg(test)]
pub(super) const EXAMPLE: &str = "\
lockfileVersion: '9.0'

settings:
  autoInstallPeers: true

importers:
  .:
    devDependencies:
      vite:
        specifier: ^7.0.0
        version: 7.0.0(terser@5.0.0)

packages:

  '@babel/core@7.24.0':
    resolution: {integrity: sha512-z4PhNX7vuL3xVChQ1m2AB9Yg5AULVxXcg/SpIdNs6c5H0NE8XYXysP+DGNKHfuwvY7kxvUdBeoGlODJ6+SfaPg==}
    engines: {node: '>=6.9.0'}

  own@file:packages/own:
    resolution: {directory: packages/own, type: directory}

  real@https://me:s3ntinel@r.example/real/tar.gz/0123:
    resolution: {tarball: https://me:s3ntinel@r.example/real/tar.gz/0123}
    version: 2.0.0

  vite@7.0.0:
    resolution: {integrity: sha1-2jmj7l5rSw0yVb/vlWAYkK/YBwk=}
    peerDependencies:
      terser: ^5.0.0

snapshots:

  vite@7.0.0(terser@5.0.0): {}
";

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn packages_of_version_9_are_read() {
        let packages = parse(EXAMPLE.as_bytes()).unwrap();
        let [babel, real, vite] = &packages[..] else {
            panic!("three packages: {packages:?}")
        };
        assert_eq!(babel.purl, "pkg:npm/%40babel/core@7.24.0");
        assert_eq!(&babel.digests["sha512"][..8], "cf83e135");
        assert_eq!(real.purl, "pkg:npm/real@2.0.0");
        assert_eq!(
            real.url.as_deref(),
            Some("https://r.example/real/tar.gz/0123")
        );
        assert_eq!(&vite.digests["sha1"][..8], "da39a3ee");
    }

    #[test]
    fn packages_of_version_6_are_read() {
        let text = "lockfileVersion: '6.0'\npackages:\n  /@a/b@1.0.0(c@2.0.0):\n    resolution: {integrity: sha1-2jmj7l5rSw0yVb/vlWAYkK/YBwk=}\n    dev: true\n";
        let packages = parse(text.as_bytes()).unwrap();
        assert_eq!(packages[0].purl, "pkg:npm/%40a/b@1.0.0");
        assert!(packages[0].dev);
    }

    #[test]
    fn other_versions_are_refused_and_none_is_a_mistake() {
        let error = parse(b"lockfileVersion: 5.4\n").unwrap_err();
        assert_eq!(
            error.to_string(),
            "pnpm-lock.yaml has the format 5.4, which is not known here"
        );
        assert!(parse(b"packages: {}\n").is_err());
        assert_eq!(parse(b"lockfileVersion: '9.0'\n").unwrap(), []);
    }
}
