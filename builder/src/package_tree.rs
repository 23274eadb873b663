//! A lock names versions, not bytes: archives of packages are made anew at each download, and a tag
//! can be moved. So the tree of each Composer package is remembered in the store, and the same
//! version with other bytes is an error.
//!
//! Not compared: packages that write into themselves (plugins), that come from a folder of the
//! source, or that are patched.

use std::collections::BTreeMap;

use relstore_store::Store;
use relstore_store::id::ReleaseId;
use relstore_store::manifest::{Entry, Manifest};
use relstore_store::name::EntryPath;
use relstore_store::package::PackageTrees;
use serde_json::Value;

use crate::error::BuildError;
use crate::step::Step;

const ECOSYSTEM: &str = "composer";
const INSTALLED: &str = "vendor/composer/installed.json";

/// A package as Composer installed it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Package {
    name: String,
    version: String,
    /// `<name> <version> <reference>`.
    identity: String,
}

/// Compares the packages that the step `composer` installed with what they were, and remembers new
/// and accepted ones.
///
/// # Errors
/// [`BuildError::PackageChanged`] unless the package is among `accept`.
pub(crate) async fn check(
    step: &Step,
    made: &Manifest,
    store: &Store,
    accept: &[String],
) -> Result<(), BuildError> {
    if step.name != "composer" {
        return Ok(());
    }
    let path = EntryPath::new(INSTALLED).expect("the path is valid");
    let Some((blob, _)) = made.get(&path).and_then(|entry| entry.kind.content()) else {
        return Ok(());
    };
    let json = store.read_blob(&blob).await?;
    let trees = trees(made);
    let known = store.package_trees(ECOSYSTEM).await?;
    let mut seen = PackageTrees::new();
    for package in comparable(&json) {
        let Some(tree) = trees.get(&package.name) else {
            continue;
        };
        match known.get(&package.identity) {
            Some(before) if before != tree && !accept.contains(&package.name) => {
                return Err(BuildError::PackageChanged {
                    package: package.name,
                    version: package.version,
                    before: *before,
                    now: *tree,
                });
            }
            Some(before) if before == tree => {}
            _ => {
                seen.insert(package.identity, *tree);
            }
        }
    }
    if !seen.is_empty() {
        store.put_package_trees(ECOSYSTEM, &seen).await?;
    }
    Ok(())
}

/// The manifest id of each package's folder, by name, from the manifest of `vendor`.
pub(crate) fn trees(made: &Manifest) -> BTreeMap<String, ReleaseId> {
    let mut packages: BTreeMap<String, Vec<Entry>> = BTreeMap::new();
    for entry in made.entries() {
        let mut names = entry.path.as_bytes().splitn(4, |&byte| byte == b'/');
        let (Some(b"vendor"), Some(vendor), Some(name), Some(rest)) =
            (names.next(), names.next(), names.next(), names.next())
        else {
            continue;
        };
        let name = format!(
            "{}/{}",
            String::from_utf8_lossy(vendor),
            String::from_utf8_lossy(name)
        );
        if let Ok(path) = EntryPath::new(rest) {
            let kind = entry.kind.clone();
            packages.entry(name).or_default().push(Entry { path, kind });
        }
    }
    let ids = packages.into_iter().filter_map(|(name, entries)| {
        // A link out of the package has no place in a manifest of it alone.
        let manifest = Manifest::from_entries(entries).ok()?;
        Some((name, manifest.id()))
    });
    ids.collect()
}

/// The packages of an installed.json that must be the same everywhere.
fn comparable(json: &[u8]) -> Vec<Package> {
    let json: Value = serde_json::from_slice(json).unwrap_or_default();
    let mut packages = Vec::new();
    for package in json["packages"].as_array().into_iter().flatten() {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let writes = package["type"] == "composer-plugin";
        let local = package["dist"]["type"] == "path";
        let patched = package["extra"].get("patches_applied").is_some();
        let (name, version) = (text(&package["name"]), text(&package["version"]));
        if writes || local || patched || name.is_empty() {
            continue;
        }
        let reference = text(&package["dist"]["reference"]);
        packages.push(Package {
            identity: format!("{name} {version} {reference}"),
            name,
            version,
        });
    }
    packages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plugins_local_and_patched_packages_are_not_compared() {
        let json = br#"{"packages":[
            {"name":"a/b","version":"1.0","type":"library","dist":{"type":"zip","reference":"abc"}},
            {"name":"a/plugin","version":"1.0","type":"composer-plugin"},
            {"name":"a/local","version":"1.0","dist":{"type":"path"}},
            {"name":"a/patched","version":"1.0","extra":{"patches_applied":{}}}]}"#;
        let identities: Vec<String> = comparable(json)
            .into_iter()
            .map(|package| package.identity)
            .collect();
        assert_eq!(identities, ["a/b 1.0 abc"]);
        assert!(comparable(b"{").is_empty());
    }
}
