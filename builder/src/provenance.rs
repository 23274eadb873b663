//! What is said about a release when it is built: JSON documents. Pure.
//!
//! - SLSA provenance v1: from which source and packages, by which steps, with which tools.
//! - test results, see [`results`]: which gates it passed, and which were off; the checks.
//! - what the application says about itself, see [`crate::facts`].
//! - the bill of materials, see [`crate::sbom`].
//!
//! All but the last are in-toto statements (v1) with the manifest as subject: named by the release
//! id, its SHA-256 beside it, since DigestSet knows no BLAKE3. No secret is among the inputs: the
//! variables of `[build.env]` are part of what is built and public; what steps get beside them is
//! not recorded.

pub mod results;
pub mod step;

use std::collections::BTreeMap;
use std::time::SystemTime;

use relstore_store::id::ReleaseId;
use relstore_store::import::Layout;
use relstore_store::name::EntryPath;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::check::CheckResult;
use crate::facts::AppFacts;
use crate::gate::GateResult;
use crate::lockfile::{Ecosystem, Package};
use crate::sbom::{self, sbom};
use crate::source::Source;

pub use step::{StepOutcome, StepRecord};

const STATEMENT: &str = "https://in-toto.io/Statement/v1";
pub(crate) const PROVENANCE: &str = "https://slsa.dev/provenance/v1";
const BUILD_TYPE: &str = "urn:relstore:laravel-build:1";
pub(crate) const BUILDER: &str = "urn:relstore:builder";

/// What made a release: the value from which all its records are written.
#[derive(Debug, Clone)]
pub struct Origin {
    /// Name of the application.
    pub application: String,
    /// The source.
    pub source: Source,
    /// What the user asked for: a revision, or `None` for the work tree.
    pub revision: Option<String>,
    /// The steps, in order.
    pub steps: Vec<StepRecord>,
    /// Declared variables.
    pub env: BTreeMap<String, String>,
    /// Patterns beside the default ones.
    pub exclude: Vec<String>,
    /// What hosts lay out.
    pub layout: Layout,
    /// SHA-256 in hex of each lock file, by name.
    pub locks: BTreeMap<&'static str, String>,
    /// What the lock files name.
    pub packages: Vec<Package>,
    /// BLAKE3 in hex of the tree that each Composer package was installed as, by name.
    pub package_trees: BTreeMap<String, String>,
    /// Verdicts on the tree.
    pub gates: Vec<GateResult>,
    /// Results of the checks that were run.
    pub checks: Vec<CheckResult>,
    /// What the application says about itself, when it was asked.
    pub facts: Option<AppFacts>,
    /// When the build began.
    pub started: SystemTime,
    /// When the tree was complete.
    pub finished: SystemTime,
}

impl Origin {
    /// All records of the release with this manifest, each one JSON document with a line end. The
    /// provenance is the last one.
    #[must_use]
    pub fn records(&self, release: &ReleaseId, manifest: &[u8]) -> Vec<Vec<u8>> {
        let mut records = vec![results::gate_record(&self.gates, release, manifest)];
        if !self.checks.is_empty() {
            records.push(results::check_record(&self.checks, release, manifest));
        }
        if let Some(facts) = &self.facts {
            records.push(facts.record(release, manifest));
        }
        let subject = sbom::Subject {
            application: &self.application,
            release,
            manifest,
            commit: self.source.commit.as_deref(),
            epoch: self.source.epoch,
            trees: &self.package_trees,
        };
        records.push(sbom(&subject, &self.packages));
        records.push(self.provenance(release, manifest));
        records
    }

    /// The provenance record of the release with this manifest.
    #[must_use]
    pub fn provenance(&self, release: &ReleaseId, manifest: &[u8]) -> Vec<u8> {
        let predicate = json!({
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": self.external_parameters(),
                "internalParameters": {
                    "steps": self.steps,
                    "tools": self.tools(),
                    "sourceDateEpoch": self.source.epoch,
                },
                "resolvedDependencies": self.dependencies(),
            },
            "runDetails": {
                "builder": {
                    "id": BUILDER,
                    "version": { "relstore": env!("CARGO_PKG_VERSION") },
                },
                "metadata": {
                    "startedOn": timestamp(self.started),
                    "finishedOn": timestamp(self.finished),
                },
            },
        });
        statement(release, manifest, PROVENANCE, &predicate)
    }

    fn external_parameters(&self) -> Value {
        let source = &self.source;
        json!({
            "source": {
                "revision": self.revision,
                "commit": source.commit,
                "dirty": source.dirty,
                "folder": source.prefix,
            },
            "steps": self.steps.iter().map(|step| &step.name).collect::<Vec<_>>(),
            "env": self.env,
            "exclude": self.exclude,
            "gatesOff": results::gates_off(&self.gates),
            "shared": paths(&[&self.layout.shared_dirs, &self.layout.shared_files]),
            "writable": paths(&[&self.layout.writable_dirs]),
        })
    }

    fn tools(&self) -> BTreeMap<&String, &String> {
        self.steps.iter().flat_map(|step| &step.tools).collect()
    }

    /// The source, the lock files, outputs of earlier builds, and the packages.
    fn dependencies(&self) -> Vec<Value> {
        let commit = self.source.commit.iter();
        let source =
            commit.map(|commit| json!({ "name": "source", "digest": { "gitCommit": commit } }));
        let locks = self
            .locks
            .iter()
            .map(|(name, sha256)| json!({ "name": name, "digest": { "sha256": sha256 } }));
        let cached = self.steps.iter().filter_map(|step| match &step.outcome {
            StepOutcome::Ran => None,
            StepOutcome::Cached { derivation, signer } => Some(json!({
                "name": format!("derivation of {}", step.name),
                "digest": { "blake3": derivation },
                "annotations": { "signer": signer },
            })),
        });
        let packages = self.packages.iter().map(|package| self.package(package));
        source.chain(locks).chain(cached).chain(packages).collect()
    }

    fn package(&self, package: &Package) -> Value {
        let mut descriptor = json!({ "name": package.name, "uri": package.purl });
        if !package.digests.is_empty() {
            descriptor["digest"] = json!(package.digests);
        }
        if let Some(url) = &package.url {
            descriptor["downloadLocation"] = json!(url);
        }
        let mut annotations = serde_json::Map::new();
        if package.dev {
            annotations.insert("dev".to_owned(), json!(true));
        }
        if let Some(tree) = self.package_trees.get(&package.name)
            && package.ecosystem == Ecosystem::Composer
        {
            annotations.insert("treeBlake3".to_owned(), json!(tree));
        }
        if !annotations.is_empty() {
            descriptor["annotations"] = Value::Object(annotations);
        }
        descriptor
    }
}

pub(crate) fn paths(lists: &[&Vec<EntryPath>]) -> Vec<String> {
    let all = lists.iter().flat_map(|list| list.iter());
    all.map(ToString::to_string).collect()
}

/// An in-toto statement about a release, with a line end.
pub(crate) fn statement(
    release: &ReleaseId,
    manifest: &[u8],
    kind: &str,
    predicate: &Value,
) -> Vec<u8> {
    let statement = json!({
        "_type": STATEMENT,
        "subject": [{
            "name": release.to_string(),
            "digest": { "sha256": sha256(manifest) },
            "annotations": { "blake3": release.to_string() },
        }],
        "predicateType": kind,
        "predicate": predicate,
    });
    let mut text = statement.to_string().into_bytes();
    text.push(b'\n');
    text
}

/// SHA-256 in lower-case hex.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(64);
    for byte in Sha256::digest(bytes) {
        write!(text, "{byte:02x}").expect("a String takes every text");
    }
    text
}

/// RFC 3339 in UTC with whole seconds. A time outside the calendar's range is its beginning.
pub(crate) fn timestamp(time: SystemTime) -> String {
    let time = jiff::Timestamp::try_from(time).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::gate::Verdict;
    use std::time::Duration;

    fn gate(id: &str, verdict: Verdict) -> GateResult {
        GateResult {
            id: id.to_owned(),
            verdict,
            evidence: Vec::new(),
            cause: None,
            allowed: Vec::new(),
            milliseconds: 1,
        }
    }

    fn origin() -> Origin {
        let started = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let step = StepRecord {
            name: "composer".to_owned(),
            key: "aa".repeat(32),
            outcome: StepOutcome::Ran,
            commands: vec!["composer install".to_owned()],
            env: BTreeMap::new(),
            network: true,
            sandboxed: true,
            tools: BTreeMap::from([("php".to_owned(), "8.2.1".to_owned())]),
            milliseconds: 5,
        };
        let mut package = Package::new(Ecosystem::Composer, "laravel/framework", "v11.0.0");
        package.add_digest("sha1", "00".repeat(20));
        Origin {
            application: "shop".to_owned(),
            source: Source {
                commit: Some("c0ffee".repeat(7)[..40].to_owned()),
                dirty: false,
                epoch: 7,
                prefix: "backend".to_owned(),
                files: 1,
                bytes: 1,
            },
            revision: Some("main".to_owned()),
            steps: vec![step],
            env: BTreeMap::from([("VITE_A".to_owned(), "b".to_owned())]),
            exclude: vec!["docs".to_owned()],
            layout: Layout::default(),
            locks: BTreeMap::from([("composer.lock", sha256(b"{}"))]),
            packages: vec![package],
            package_trees: BTreeMap::from([("laravel/framework".to_owned(), "ab".repeat(32))]),
            gates: vec![
                gate("artisan", Verdict::Passed),
                gate("vite-manifest", Verdict::Off),
            ],
            checks: Vec::new(),
            facts: None,
            started,
            finished: started + Duration::from_secs(3),
        }
    }

    fn provenance(origin: &Origin) -> Value {
        let manifest = b"relstore-manifest 1\n";
        let release = ReleaseId::of(manifest);
        let text = origin.provenance(&release, manifest);
        assert_eq!(
            text,
            origin.provenance(&release, manifest),
            "same words for the same build"
        );
        let json: Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(json["subject"][0]["name"], release.to_string());
        assert_eq!(json["subject"][0]["digest"]["sha256"], sha256(manifest));
        json["predicate"].clone()
    }

    #[test]
    fn provenance_names_source_steps_and_subject() {
        let predicate = provenance(&origin());
        let external = &predicate["buildDefinition"]["externalParameters"];
        assert_eq!(external["source"]["folder"], "backend");
        assert_eq!(external["gatesOff"], json!(["vite-manifest"]));
        assert_eq!(external["env"], json!({ "VITE_A": "b" }));
        let internal = &predicate["buildDefinition"]["internalParameters"];
        assert_eq!(internal["tools"], json!({ "php": "8.2.1" }));
        assert_eq!(internal["steps"][0]["outcome"], "ran");
        let metadata = &predicate["runDetails"]["metadata"];
        assert_eq!(metadata["startedOn"], "2023-11-14T22:13:20Z");
        assert_eq!(metadata["finishedOn"], "2023-11-14T22:13:23Z");
    }

    #[test]
    fn dependencies_are_source_locks_derivations_and_packages() {
        let mut origin = origin();
        origin.steps[0].outcome = StepOutcome::Cached {
            derivation: "cd".repeat(32),
            signer: Some("SHA256:x".to_owned()),
        };
        let predicate = provenance(&origin);
        let dependencies = predicate["buildDefinition"]["resolvedDependencies"].as_array();
        let [source, lock, derivation, package] = &dependencies.unwrap()[..] else {
            panic!("four dependencies")
        };
        assert_eq!(source["digest"]["gitCommit"].as_str().unwrap().len(), 40);
        assert_eq!(lock["name"], "composer.lock");
        assert_eq!(derivation["digest"]["blake3"], "cd".repeat(32));
        assert_eq!(derivation["annotations"]["signer"], "SHA256:x");
        assert_eq!(package["uri"], "pkg:composer/laravel/framework@v11.0.0");
        assert_eq!(package["digest"]["sha1"], "00".repeat(20));
        assert_eq!(package["annotations"]["treeBlake3"], "ab".repeat(32));
    }

    #[test]
    fn records_of_one_build_are_all_about_the_release() {
        let manifest = b"relstore-manifest 1\n";
        let release = ReleaseId::of(manifest).to_string();
        let records = origin().records(&ReleaseId::of(manifest), manifest);
        assert_eq!(records.len(), 3);
        for record in &records {
            let text = std::str::from_utf8(record).unwrap();
            assert!(text.contains(&release) && text.ends_with("}\n"));
        }
    }

    #[test]
    fn sha256_is_the_published_one() {
        assert_eq!(
            sha256(b"abc"),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }
}
