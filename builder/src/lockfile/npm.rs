//! `package-lock.json`: version 1 (npm 6), 2 and 3.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::package::{Ecosystem, Package};
use super::{LockError, PACKAGE_LOCK, syntax};

#[derive(Deserialize)]
struct Lock {
    #[serde(rename = "lockfileVersion")]
    version: Option<u64>,
    #[serde(default)]
    packages: BTreeMap<String, Locked>,
    /// Version 1; version 2 has both.
    #[serde(default)]
    dependencies: BTreeMap<String, Locked>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Locked {
    /// Only where it differs from the path: an alias.
    name: Option<String>,
    version: Option<String>,
    resolved: Option<Value>,
    integrity: Option<String>,
    license: Option<Value>,
    #[serde(default)]
    link: bool,
    #[serde(default)]
    dev: bool,
    #[serde(default)]
    optional: bool,
    /// For development and for something optional, but each alone would do.
    #[serde(default)]
    dev_optional: bool,
    /// Version 1: what lies in this package's own node_modules.
    #[serde(default)]
    dependencies: BTreeMap<String, Value>,
}

const MODULES: &str = "node_modules/";

pub(super) fn parse(content: &[u8]) -> Result<Vec<Package>, LockError> {
    let damaged = syntax(PACKAGE_LOCK);
    let lock: Lock = serde_json::from_slice(content).map_err(|error| damaged(error.to_string()))?;
    match lock.version {
        Some(1) => {
            let mut packages = Vec::new();
            nested(lock.dependencies, &mut packages).map_err(|error| damaged(error.to_string()))?;
            return Ok(packages);
        }
        Some(2 | 3) => {}
        Some(other) => {
            return Err(LockError::Version {
                file: PACKAGE_LOCK,
                version: other.to_string(),
            });
        }
        None if lock.packages.is_empty() && lock.dependencies.is_empty() => {}
        None => return Err(damaged("`lockfileVersion` is missing".to_owned())),
    }
    let packages = lock.packages.into_iter();
    Ok(packages
        .filter_map(|(path, locked)| package(&path, locked))
        .collect())
}

/// Version 1: a tree of names. A version with a `:` is an address: of a folder, which is a part of
/// the application, or of a repository or archive.
fn nested(
    dependencies: BTreeMap<String, Locked>,
    packages: &mut Vec<Package>,
) -> Result<(), serde_json::Error> {
    for (name, mut locked) in dependencies {
        let below = std::mem::take(&mut locked.dependencies);
        if locked
            .version
            .as_ref()
            .is_some_and(|version| version.contains(':'))
        {
            locked.resolved = locked.version.clone().map(Value::String);
        }
        let file = |version: &String| version.starts_with("file:");
        if !locked.version.as_ref().is_some_and(file) {
            packages.extend(package(&format!("{MODULES}{name}"), locked));
        }
        let below = below.into_iter().map(|(name, value)| {
            let locked = serde_json::from_value(value)?;
            Ok((name, locked))
        });
        nested(below.collect::<Result<_, serde_json::Error>>()?, packages)?;
    }
    Ok(())
}

/// What lies outside node_modules, or is a link to there, is a part of the application.
fn package(path: &str, locked: Locked) -> Option<Package> {
    let (_, in_modules) = path.rsplit_once(MODULES)?;
    let version = locked.version.filter(|_| !locked.link)?;
    let name = locked.name.as_deref().unwrap_or(in_modules);
    let mut package = Package::new(Ecosystem::Npm, name, &version);
    if let Some(integrity) = &locked.integrity {
        package.add_integrity(integrity);
    }
    // `true` for what is bundled inside another package.
    if let Some(Value::String(url)) = &locked.resolved {
        package.add_url(url);
    }
    if let Some(Value::String(licence)) = locked.license {
        package.licences = vec![licence];
    }
    package.dev = locked.dev || locked.dev_optional;
    package.optional = locked.optional || locked.dev_optional;
    Some(package)
}

#[cfg(test)]
pub(super) const EXAMPLE: &str = r#"{
  "name": "app",
  "lockfileVersion": 3,
  "requires": true,
  "packages": {
    "": {"name": "app", "devDependencies": {"vite": "^7"}},
    "node_modules/@acme/ui": {"resolved": "packages/ui", "link": true},
    "node_modules/a": {
      "version": "1.0.0",
      "resolved": "https://me:s3ntinel@r.example/a.tgz",
      "integrity": "sha512-z4PhNX7vuL3xVChQ1m2AB9Yg5AULVxXcg/SpIdNs6c5H0NE8XYXysP+DGNKHfuwvY7kxvUdBeoGlODJ6+SfaPg==",
      "license": "MIT"
    },
    "node_modules/b/node_modules/a": {"version": "1.0.0", "dev": true, "integrity": "sha1-2jmj7l5rSw0yVb/vlWAYkK/YBwk="},
    "node_modules/@rollup/linux": {"version": "4.0.0", "dev": true, "optional": true},
    "node_modules/alias": {"name": "real", "version": "2.0.0", "resolved": "git+ssh://git@r.example/real.git#0123456789abcdef0123456789abcdef01234567", "inBundle": true},
    "packages/ui": {"version": "0.0.0"}
  }
}"#;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn packages_have_names_of_their_paths_and_digests_in_hex() {
        let packages = super::super::parse(PACKAGE_LOCK, EXAMPLE.as_bytes()).unwrap();
        let names: Vec<&str> = packages
            .iter()
            .map(|package| package.name.as_str())
            .collect();
        assert_eq!(names, ["@rollup/linux", "a", "real"]);
        let [rollup, a, real] = &packages[..] else {
            panic!("three packages")
        };
        assert_eq!(rollup.purl, "pkg:npm/%40rollup/linux@4.0.0");
        assert!(rollup.dev && rollup.optional);
        assert!(!a.dev, "one of its two places is not for development");
        assert_eq!(&a.digests["sha512"][..8], "cf83e135");
        assert_eq!(&a.digests["sha1"][..8], "da39a3ee");
        assert_eq!(a.url.as_deref(), Some("https://r.example/a.tgz"));
        assert_eq!(a.licences, ["MIT"]);
        assert_eq!(real.digests["gitCommit"].len(), 40);
        assert_eq!(real.url.as_deref(), Some("git+ssh://r.example/real.git"));
    }

    #[test]
    fn packages_of_version_1_are_read() {
        let text = r#"{"lockfileVersion": 1, "dependencies": {
            "@a/b": {"version": "1.0.0", "dev": true, "integrity": "sha1-2jmj7l5rSw0yVb/vlWAYkK/YBwk=",
                     "dependencies": {"c": {"version": "2.0.0"}}},
            "own": {"version": "file:packages/own"},
            "repo": {"version": "git+https://r.example/x.git#0123456789abcdef0123456789abcdef01234567"}
        }}"#;
        let packages = parse(text.as_bytes()).unwrap();
        let names: Vec<&str> = packages
            .iter()
            .map(|package| package.name.as_str())
            .collect();
        assert_eq!(names, ["@a/b", "c", "repo"]);
        assert!(packages[0].dev && packages[0].digests.contains_key("sha1"));
        assert!(packages[2].digests.contains_key("gitCommit"));
    }

    #[test]
    fn unknown_format_is_refused_with_a_hint() {
        let error = parse(b"{\"lockfileVersion\": 4}").unwrap_err();
        assert_eq!(
            error.to_string(),
            "package-lock.json has the format 4, which is not known here"
        );
        assert!(error.hint().unwrap().contains("npm install"));
        assert!(parse(b"{\"packages\": {\"node_modules/x\": {}}}").is_err());
    }
}
