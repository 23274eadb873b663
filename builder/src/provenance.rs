//! What is said about a release when it is built: two in-toto statements (v1), as JSON. Pure.
//!
//! - SLSA provenance v1: from which source, by which steps, with which tools.
//! - test-result v0.1: which gates it passed, and which were off.
//!
//! The subject is the manifest: named by the release id, its SHA-256 beside it, since DigestSet
//! knows no BLAKE3. No secret is among the inputs: the variables of `[build.env]` are part of what
//! is built and public; what steps get beside them is not recorded.

use std::collections::BTreeMap;
use std::time::SystemTime;

use relstore_store::id::ReleaseId;
use relstore_store::import::Layout;
use relstore_store::name::EntryPath;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::gate::{Allowed, GateResult, Verdict};
use crate::source::Source;
use crate::step::{CommandLine, Step};

const STATEMENT: &str = "https://in-toto.io/Statement/v1";
const PROVENANCE: &str = "https://slsa.dev/provenance/v1";
const TEST_RESULT: &str = "https://in-toto.io/attestation/test-result/v0.1";
const BUILD_TYPE: &str = "urn:relstore:laravel-build:1";
const BUILDER: &str = "urn:relstore:builder";

/// What made a release.
#[derive(Debug, Clone)]
pub struct Origin {
    /// The source.
    pub source: Source,
    /// What the user asked for: a revision, or `None` for the work tree.
    pub revision: Option<String>,
    /// The steps that ran, in order.
    pub steps: Vec<Step>,
    /// Declared variables.
    pub env: BTreeMap<String, String>,
    /// Patterns beside the default ones.
    pub exclude: Vec<String>,
    /// What hosts lay out.
    pub layout: Layout,
    /// SHA-256 in hex of each lock file, by name.
    pub locks: BTreeMap<&'static str, String>,
    /// Each tool's answer to the question for its version.
    pub tools: BTreeMap<String, String>,
    /// Verdicts on the tree.
    pub gates: Vec<GateResult>,
    /// When the build began.
    pub started: SystemTime,
    /// When the tree was complete.
    pub finished: SystemTime,
}

impl Origin {
    /// The provenance record of the release with this manifest, one JSON document with a line end.
    #[must_use]
    pub fn provenance(&self, release: &ReleaseId, manifest: &[u8]) -> Vec<u8> {
        let source = &self.source;
        let steps: Vec<Value> = self.steps.iter().map(step).collect();
        let mut dependencies: Vec<Value> = self
            .locks
            .iter()
            .map(|(name, sha256)| json!({ "name": name, "digest": { "sha256": sha256 } }))
            .collect();
        if let Some(commit) = &source.commit {
            dependencies.insert(
                0,
                json!({ "name": "source", "digest": { "gitCommit": commit } }),
            );
        }
        let predicate = json!({
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {
                    "source": {
                        "revision": self.revision,
                        "commit": source.commit,
                        "dirty": source.dirty,
                        "folder": source.prefix,
                    },
                    "steps": self.steps.iter().map(|step| step.name.as_str()).collect::<Vec<_>>(),
                    "env": self.env,
                    "exclude": self.exclude,
                    "gatesOff": self.names(|verdict| *verdict == Verdict::Off),
                    "shared": paths(&[&self.layout.shared_dirs, &self.layout.shared_files]),
                    "writable": paths(&[&self.layout.writable_dirs]),
                },
                "internalParameters": {
                    "steps": steps,
                    "tools": self.tools,
                    "sourceDateEpoch": source.epoch,
                },
                "resolvedDependencies": dependencies,
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

    /// The record of the gates, one JSON document with a line end.
    #[must_use]
    pub fn gate_result(&self, release: &ReleaseId, manifest: &[u8]) -> Vec<u8> {
        let failed = self.names(|verdict| *verdict == Verdict::Failed);
        let allowing = self.gates.iter().filter(|gate| !gate.allowed.is_empty());
        let allowed: BTreeMap<&str, &Vec<Allowed>> = allowing
            .map(|gate| (gate.id.as_str(), &gate.allowed))
            .collect();
        let predicate = json!({
            "result": if failed.is_empty() { "PASSED" } else { "FAILED" },
            "configuration": [{
                "name": "relstore-gates",
                "annotations": {
                    "off": self.names(|verdict| *verdict == Verdict::Off),
                    "allowed": allowed,
                },
            }],
            "passedTests": self.names(|verdict| *verdict == Verdict::Passed),
            "warnedTests": self.names(|verdict| *verdict == Verdict::Warned),
            "failedTests": failed,
        });
        statement(release, manifest, TEST_RESULT, &predicate)
    }

    fn names(&self, which: impl Fn(&Verdict) -> bool) -> Vec<&str> {
        let chosen = self.gates.iter().filter(|result| which(&result.verdict));
        chosen.map(|result| result.id.as_str()).collect()
    }
}

fn step(step: &Step) -> Value {
    let commands: Vec<String> = step.commands.iter().map(CommandLine::text).collect();
    json!({
        "name": step.name,
        "commands": commands,
        "env": step.env,
        "network": step.network,
    })
}

fn paths(lists: &[&Vec<EntryPath>]) -> Vec<String> {
    let all = lists.iter().flat_map(|list| list.iter());
    all.map(ToString::to_string).collect()
}

fn statement(release: &ReleaseId, manifest: &[u8], kind: &str, predicate: &Value) -> Vec<u8> {
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
        Origin {
            source: Source {
                commit: Some("c0ffee".repeat(7)[..40].to_owned()),
                dirty: false,
                epoch: 7,
                prefix: "backend".to_owned(),
                files: 1,
                bytes: 1,
            },
            revision: Some("main".to_owned()),
            steps: vec![crate::preset::blank("composer")],
            env: BTreeMap::from([("VITE_A".to_owned(), "b".to_owned())]),
            exclude: vec!["docs".to_owned()],
            layout: Layout::default(),
            locks: BTreeMap::from([("composer.lock", sha256(b"{}"))]),
            tools: BTreeMap::from([("php".to_owned(), "8.2.1".to_owned())]),
            gates: vec![
                gate("artisan", Verdict::Passed),
                gate("vite-manifest", Verdict::Off),
            ],
            started,
            finished: started + Duration::from_secs(3),
        }
    }

    #[test]
    fn provenance_names_source_steps_and_subject() {
        let manifest = b"relstore-manifest 1\n";
        let release = ReleaseId::of(manifest);
        let text = origin().provenance(&release, manifest);
        assert_eq!(
            text,
            origin().provenance(&release, manifest),
            "same words for the same build"
        );
        let json: Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(json["subject"][0]["name"], release.to_string());
        assert_eq!(json["subject"][0]["digest"]["sha256"], sha256(manifest));
        let predicate = &json["predicate"];
        let external = &predicate["buildDefinition"]["externalParameters"];
        assert_eq!(external["source"]["folder"], "backend");
        assert_eq!(external["gatesOff"], json!(["vite-manifest"]));
        assert_eq!(external["env"], json!({ "VITE_A": "b" }));
        let dependencies = &predicate["buildDefinition"]["resolvedDependencies"];
        assert_eq!(
            dependencies[0]["digest"]["gitCommit"]
                .as_str()
                .unwrap()
                .len(),
            40
        );
        assert_eq!(dependencies[1]["name"], "composer.lock");
        let metadata = &predicate["runDetails"]["metadata"];
        assert_eq!(metadata["startedOn"], "2023-11-14T22:13:20Z");
        assert_eq!(metadata["finishedOn"], "2023-11-14T22:13:23Z");
    }

    #[test]
    fn gate_result_tells_which_gates_were_off_and_what_was_allowed() {
        let mut origin = origin();
        origin.gates[0].allowed = vec![Allowed {
            path: "a".to_owned(),
            reason: "known".to_owned(),
            findings: vec!["`a` is wrong".to_owned()],
        }];
        origin.gates.push(gate("assets", Verdict::Warned));
        let json: Value =
            serde_json::from_slice(&origin.gate_result(&ReleaseId::of(b""), b"")).unwrap();
        let predicate = &json["predicate"];
        assert_eq!(predicate["result"], "PASSED");
        assert_eq!(predicate["passedTests"], json!(["artisan"]));
        assert_eq!(predicate["warnedTests"], json!(["assets"]));
        let annotations = &predicate["configuration"][0]["annotations"];
        assert_eq!(annotations["allowed"]["artisan"][0]["reason"], "known");
        assert_eq!(
            predicate["configuration"][0]["annotations"]["off"],
            json!(["vite-manifest"])
        );
    }

    #[test]
    fn sha256_is_the_published_one() {
        assert_eq!(
            sha256(b"abc"),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }
}
