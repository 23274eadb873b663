//! What a release is made of, as a CycloneDX bill of materials (1.6, JSON). Pure and
//! reproducible: the same release of the same commit has the same words.
//!
//! Scope says what may be in the release: `required` packages are; `optional` ones may be (a
//! bundler may have taken a JavaScript package that is for development only, and optional packages
//! depend on the platform); `excluded` ones are not (Composer's, for development).

use std::collections::BTreeMap;

use relstore_store::id::ReleaseId;
use serde_json::{Value, json};
use spdx::lexer::ParseMode;

use crate::lockfile::{Ecosystem, Package};
use crate::provenance::{sha256, timestamp};

/// What the bill says beside the packages.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// Name of the application.
    pub application: &'a str,
    /// The release.
    pub release: &'a ReleaseId,
    /// Its manifest.
    pub manifest: &'a [u8],
    /// Commit of the source, where there is one.
    pub commit: Option<&'a str>,
    /// Time of the source, in seconds since 1970: the bill is not dated by its build.
    pub epoch: u64,
    /// BLAKE3 in hex of the tree that a Composer package was installed as, by name.
    pub trees: &'a BTreeMap<String, String>,
}

/// The bill as one JSON document with a line end.
#[must_use]
pub fn sbom(subject: &Subject, packages: &[Package]) -> Vec<u8> {
    let components: Vec<Value> = packages
        .iter()
        .map(|package| component(package, subject.trees))
        .collect();
    let time = std::time::SystemTime::UNIX_EPOCH
        .checked_add(std::time::Duration::from_secs(subject.epoch))
        .unwrap_or(std::time::SystemTime::UNIX_EPOCH);
    let mut document = json!({
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "timestamp": timestamp(time),
            "lifecycles": [{ "phase": "build" }],
            "tools": { "components": [{
                "type": "application",
                "name": "relstore",
                "version": env!("CARGO_PKG_VERSION"),
            }] },
            "component": application(subject),
        },
        "components": components,
    });
    let serial = uuid(blake3::hash(document.to_string().as_bytes()).as_bytes());
    document["serialNumber"] = json!(format!("urn:uuid:{serial}"));
    let mut text = document.to_string().into_bytes();
    text.push(b'\n');
    text
}

/// Its hashes are those of the manifest, which names every file.
fn application(subject: &Subject) -> Value {
    let mut component = json!({
        "type": "application",
        "bom-ref": "application",
        "name": subject.application,
        "version": subject.release.to_string(),
        "hashes": [
            { "alg": "SHA-256", "content": sha256(subject.manifest) },
            { "alg": "BLAKE3", "content": subject.release.to_string() },
        ],
    });
    if let Some(commit) = subject.commit {
        component["pedigree"] = json!({ "commits": [{ "uid": commit }] });
    }
    component
}

fn component(package: &Package, trees: &BTreeMap<String, String>) -> Value {
    let mut component = json!({
        "type": "library",
        "bom-ref": package.purl,
        "name": package.name,
        "version": package.version,
        "scope": scope(package),
        "purl": package.purl,
    });
    if let Some((group, name)) = package.name.split_once('/') {
        component["group"] = json!(group);
        component["name"] = json!(name);
    }
    let hashes: Vec<Value> = package
        .digests
        .iter()
        .filter_map(|(algorithm, hex)| {
            Some(json!({ "alg": hash_name(algorithm)?, "content": hex }))
        })
        .collect();
    if !hashes.is_empty() {
        component["hashes"] = json!(hashes);
    }
    if !package.licences.is_empty() {
        component["licenses"] = json!(licences(&package.licences));
    }
    if let Some(url) = &package.url {
        component["externalReferences"] = json!([{ "type": "distribution", "url": url }]);
    }
    let commit = package.digests.get("gitCommit");
    let tree = trees
        .get(&package.name)
        .filter(|_| package.ecosystem == Ecosystem::Composer);
    let properties: Vec<Value> = [
        ("relstore:git-commit", commit),
        ("relstore:tree-blake3", tree),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some(json!({ "name": name, "value": value? })))
    .collect();
    if !properties.is_empty() {
        component["properties"] = json!(properties);
    }
    component
}

fn scope(package: &Package) -> &'static str {
    match (package.ecosystem, package.dev, package.optional) {
        (Ecosystem::Composer, true, _) => "excluded",
        (Ecosystem::Npm, true, _) | (_, _, true) => "optional",
        _ => "required",
    }
}

/// Digests of other kinds are not of the bytes that were downloaded.
fn hash_name(algorithm: &str) -> Option<&'static str> {
    Some(match algorithm {
        "sha1" => "SHA-1",
        "sha256" => "SHA-256",
        "sha384" => "SHA-384",
        "sha512" => "SHA-512",
        _ => return None,
    })
}

/// One SPDX id, or one expression, or the names as the package writes them. Of several any one
/// may be chosen, says Composer.
fn licences(texts: &[String]) -> Vec<Value> {
    let spdx: Option<Vec<String>> = texts.iter().map(|text| expression(text)).collect();
    match spdx.as_deref() {
        Some([one]) if is_id(one) => vec![json!({ "license": { "id": one } })],
        Some([one]) => vec![json!({ "expression": one })],
        Some(several) => vec![json!({ "expression": several.join(" OR ") })],
        None => {
            let named = |text: &String| match is_id(text) {
                true => json!({ "license": { "id": text } }),
                false => json!({ "license": { "name": text } }),
            };
            texts.iter().map(named).collect()
        }
    }
}

fn is_id(text: &str) -> bool {
    spdx::license_id(text).is_some_and(|id| id.name == text)
}

/// The text as an SPDX expression, in parentheses where it would not stand alone in another one;
/// `None` when it is none.
fn expression(text: &str) -> Option<String> {
    // Ids of old versions of the list are in most packages.
    let mode = ParseMode {
        allow_deprecated: true,
        allow_postfix_plus_on_gpl: true,
        ..ParseMode::STRICT
    };
    // Composer's documentation writes the operators small.
    let text = text.replace(" or ", " OR ").replace(" and ", " AND ");
    spdx::Expression::parse_mode(&text, mode).ok()?;
    let simple = !text.contains(' ') || (text.starts_with('(') && text.ends_with(')'));
    Some(if simple { text } else { format!("({text})") })
}

/// A UUID of version 8 (RFC 9562): its bits are a digest of what it names.
fn uuid(digest: &[u8; 32]) -> String {
    let mut hex = data_encoding::HEXLOWER.encode(&digest[..16]);
    hex.replace_range(12..13, "8");
    hex.replace_range(16..17, "8");
    let part = |from: usize, to: usize| &hex[from..to];
    [
        part(0, 8),
        part(8, 12),
        part(12, 16),
        part(16, 20),
        part(20, 32),
    ]
    .join("-")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn document(packages: &[Package]) -> Value {
        let manifest = b"relstore-manifest 1\n";
        let trees = BTreeMap::from([("a/b".to_owned(), "00".repeat(32))]);
        let subject = Subject {
            application: "shop",
            release: &ReleaseId::of(manifest),
            manifest,
            commit: Some("c0ffee"),
            epoch: 1_700_000_000,
            trees: &trees,
        };
        let text = sbom(&subject, packages);
        assert_eq!(text, sbom(&subject, packages));
        serde_json::from_slice(&text).unwrap()
    }

    #[test]
    fn bill_names_the_release_and_is_dated_by_its_source() {
        let document = document(&[]);
        let component = &document["metadata"]["component"];
        let release = ReleaseId::of(b"relstore-manifest 1\n").to_string();
        assert_eq!(component["version"], release);
        assert_eq!(component["hashes"][1]["content"], release);
        assert_eq!(document["metadata"]["timestamp"], "2023-11-14T22:13:20Z");
        let serial = document["serialNumber"].as_str().unwrap();
        assert_eq!(serial.len(), "urn:uuid:".len() + 36);
        assert_ne!(
            serial,
            super::tests::document(&[Package::new(Ecosystem::Npm, "a", "1")])["serialNumber"]
        );
    }

    #[test]
    fn component_has_scope_hashes_and_its_tree() {
        let mut composer = Package::new(Ecosystem::Composer, "a/b", "1.0");
        composer.digests.insert("gitCommit".into(), "c0ffee".into());
        composer.digests.insert("sha1".into(), "00".repeat(20));
        let mut dev = Package::new(Ecosystem::Composer, "a/dev", "1.0");
        dev.dev = true;
        let mut npm = Package::new(Ecosystem::Npm, "vite", "7.0.0");
        npm.dev = true;
        let document = document(&[composer, dev, npm]);
        let [composer, dev, npm] = &document["components"].as_array().unwrap()[..] else {
            panic!("three components")
        };
        assert_eq!(
            (&composer["group"], &composer["name"]),
            (&json!("a"), &json!("b"))
        );
        assert_eq!(composer["scope"], "required");
        assert_eq!(composer["hashes"].as_array().unwrap().len(), 1);
        assert_eq!(composer["properties"][1]["name"], "relstore:tree-blake3");
        assert_eq!(
            (&dev["scope"], &npm["scope"]),
            (&json!("excluded"), &json!("optional"))
        );
    }

    #[test]
    fn licences_are_ids_expressions_or_names() {
        for (texts, expected) in [
            (vec!["MIT"], json!([{ "license": { "id": "MIT" } }])),
            (vec!["GPL-2.0"], json!([{ "license": { "id": "GPL-2.0" } }])),
            (
                vec!["(MIT or Apache-2.0)"],
                json!([{ "expression": "(MIT OR Apache-2.0)" }]),
            ),
            (
                vec!["MIT", "GPL-3.0-only AND ISC"],
                json!([{ "expression": "MIT OR (GPL-3.0-only AND ISC)" }]),
            ),
            (
                vec!["proprietary"],
                json!([{ "license": { "name": "proprietary" } }]),
            ),
            (
                vec!["MIT", "SEE LICENSE IN x"],
                json!([{ "license": { "id": "MIT" } }, { "license": { "name": "SEE LICENSE IN x" } }]),
            ),
        ] {
            let texts: Vec<String> = texts.into_iter().map(str::to_owned).collect();
            assert_eq!(json!(licences(&texts)), expected);
        }
    }

    proptest! {
        #[test]
        fn any_licence_text_is_written(texts in prop::collection::vec("\\PC{0,20}|[MIT()ORANDWH+ ]{0,12}", 1..3)) {
            prop_assert!(!licences(&texts).is_empty());
        }
    }
}
