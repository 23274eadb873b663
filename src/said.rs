//! What the records of a release say about it, gathered from all of them.
//!
//! Most records are in-toto statements: SLSA provenance says from what and when it was built, test
//! results say which gates and checks passed; one is the bill of materials. Unknown predicates and
//! missing fields are passed over: a record of a newer version must not make a release unreadable.

mod build;
mod materials;

use relstore_builder::check::CheckResult;
use relstore_builder::facts::{self, AppFacts};
use relstore_store::record::Record;
use serde::Deserialize;
use serde_json::{Value, json};

pub(crate) use build::{BuildSaid, StepSaid};
pub(crate) use materials::{Materials, Packages};

/// What is known about a release beside its content.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Said {
    /// One entry per build, oldest first.
    pub(crate) builds: Vec<BuildSaid>,
    /// Of the newest result: gates that passed, that warned with what they found, that were off.
    pub(crate) gates_passed: Vec<String>,
    pub(crate) gates_warned: Vec<(String, Vec<String>)>,
    pub(crate) gates_off: Vec<String>,
    /// Of the newest result.
    pub(crate) checks: Vec<CheckResult>,
    pub(crate) materials: Option<Materials>,
    /// What the application says about itself.
    pub(crate) application: Option<AppFacts>,
}

/// What a record is, by its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RecordKind {
    Provenance,
    Gates,
    Checks,
    Sbom,
    Application,
    Other,
}

/// As much of a record as says what it is.
#[derive(Deserialize)]
struct Head {
    #[serde(rename = "predicateType")]
    predicate_type: Option<String>,
    predicate: Option<Predicate>,
    #[serde(rename = "bomFormat")]
    bom_format: Option<String>,
}

#[derive(Deserialize)]
struct Predicate {
    #[serde(default)]
    configuration: Vec<Configuration>,
}

#[derive(Deserialize)]
struct Configuration {
    name: Option<String>,
}

impl RecordKind {
    /// The kind of this record. Most of a record is not looked at: bills of materials are long.
    pub(crate) fn of(record: &Record) -> Self {
        let Ok(head) = serde_json::from_slice::<Head>(&record.json) else {
            return Self::Other;
        };
        let configuration = head.predicate.map(|predicate| predicate.configuration);
        let names_checks = |one: &Configuration| one.name.as_deref() == Some("relstore-checks");
        match head.predicate_type.as_deref() {
            Some(kind) if kind.starts_with("https://slsa.dev/provenance/") => Self::Provenance,
            Some(kind) if kind.starts_with("https://in-toto.io/attestation/test-result/") => {
                match configuration.iter().flatten().any(names_checks) {
                    true => Self::Checks,
                    false => Self::Gates,
                }
            }
            Some(facts::PREDICATE) => Self::Application,
            None if head.bom_format.as_deref() == Some("CycloneDX") => Self::Sbom,
            _ => Self::Other,
        }
    }

    /// For `--json` and tables.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Provenance => "provenance",
            Self::Gates => "gates",
            Self::Checks => "checks",
            Self::Sbom => "sbom",
            Self::Application => "application",
            Self::Other => "other",
        }
    }
}

impl Said {
    /// Reads of the records, oldest first, what tables and deploys need: builds and gates.
    pub(crate) fn of(records: &[Record]) -> Self {
        Self::of_kinds(records, &[RecordKind::Provenance, RecordKind::Gates])
    }

    /// Reads all of the records, oldest first.
    pub(crate) fn all(records: &[Record]) -> Self {
        let mut said = Self::of(records);
        let rest = [
            RecordKind::Checks,
            RecordKind::Sbom,
            RecordKind::Application,
        ];
        let rest = Self::of_kinds(records, &rest);
        (said.checks, said.materials) = (rest.checks, rest.materials);
        said.application = rest.application;
        said
    }

    fn of_kinds(records: &[Record], kinds: &[RecordKind]) -> Self {
        let mut said = Self::default();
        for record in records {
            let kind = RecordKind::of(record);
            if !kinds.contains(&kind) {
                continue;
            }
            if let Ok(document) = serde_json::from_slice::<Value>(&record.json) {
                said.add(kind, &document);
            }
        }
        said
    }

    fn add(&mut self, kind: RecordKind, document: &Value) {
        let predicate = &document["predicate"];
        match kind {
            RecordKind::Provenance => self.builds.push(BuildSaid::of(predicate)),
            RecordKind::Gates => self.set_gates(predicate),
            RecordKind::Checks => {
                let checks = &predicate["configuration"][0]["annotations"]["checks"];
                let known = |check: &Value| serde_json::from_value(check.clone()).ok();
                let all = checks.as_array().into_iter().flatten();
                self.checks = all.filter_map(known).collect();
            }
            RecordKind::Sbom => self.materials = Some(Materials::of(document)),
            RecordKind::Application => {
                if let Ok(application) = serde_json::from_value(predicate.clone()) {
                    self.application = Some(application);
                }
            }
            RecordKind::Other => {}
        }
    }

    fn set_gates(&mut self, predicate: &Value) {
        let annotations = &predicate["configuration"][0]["annotations"];
        let evidence = |id: &str| {
            let gates = annotations["gates"].as_array().into_iter().flatten();
            let found = gates.clone().find(|gate| gate["id"] == id);
            found
                .map(|gate| texts(&gate["evidence"]))
                .unwrap_or_default()
        };
        self.gates_passed = texts(&predicate["passedTests"]);
        self.gates_off = texts(&annotations["off"]);
        let warned = texts(&predicate["warnedTests"]).into_iter();
        self.gates_warned = warned
            .map(|id| {
                let evidence = evidence(&id);
                (id, evidence)
            })
            .collect();
    }

    /// The newest build.
    pub(crate) fn last_build(&self) -> Option<&BuildSaid> {
        self.builds.last()
    }

    /// The build that says where the release comes from: the newest one of a commit as it is,
    /// for a work tree that gave the same content had no changes that matter; else the newest.
    pub(crate) fn origin(&self) -> Option<&BuildSaid> {
        let exact = |build: &&BuildSaid| build.commit.is_some() && !build.dirty;
        self.builds
            .iter()
            .rev()
            .find(exact)
            .or_else(|| self.last_build())
    }

    /// For `--json`.
    pub(crate) fn to_json(&self) -> Value {
        let builds: Vec<Value> = self.builds.iter().map(BuildSaid::to_json).collect();
        let warned: Vec<Value> = self
            .gates_warned
            .iter()
            .map(|(id, evidence)| json!({ "id": id, "evidence": evidence }))
            .collect();
        json!({
            "builds": builds,
            "gates": { "passed": self.gates_passed, "warned": warned, "off": self.gates_off },
            "checks": self.checks,
            "materials": self.materials.as_ref().map(Materials::to_json),
            "application": self.application,
        })
    }
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

fn texts(value: &Value) -> Vec<String> {
    value
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(text)
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn build(commit: Option<&str>, dirty: bool) -> BuildSaid {
        BuildSaid {
            commit: commit.map(str::to_owned),
            dirty,
            ..BuildSaid::default()
        }
    }

    #[test]
    fn build_of_a_commit_says_more_than_a_later_one_of_a_work_tree() {
        let said = |builds: &[BuildSaid]| Said {
            builds: builds.to_vec(),
            ..Said::default()
        };
        let (a, b, dirty) = (
            build(Some("a"), false),
            build(Some("b"), false),
            build(Some("b"), true),
        );
        let builds = said(&[a.clone(), b.clone(), dirty.clone(), build(None, true)]);
        assert_eq!(builds.origin(), Some(&b));
        assert_eq!(said(&[a.clone(), dirty.clone()]).origin(), Some(&a));
        assert_eq!(
            said(&[build(None, true), dirty.clone()]).origin(),
            Some(&dirty)
        );
        assert_eq!(said(&[]).origin(), None);
    }

    fn record(text: &str) -> Record {
        Record {
            id: relstore_store::id::RecordId::of(text.as_bytes()),
            json: text.to_owned().into(),
        }
    }

    #[test]
    fn records_are_known_by_their_content_and_others_are_passed_over() {
        let of = |text: &str| RecordKind::of(&record(text));
        let results = "\"predicateType\":\"https://in-toto.io/attestation/test-result/v0.1\"";
        for (text, kind) in [
            (
                r#"{"predicateType":"https://slsa.dev/provenance/v1"}"#.to_owned(),
                RecordKind::Provenance,
            ),
            (format!("{{{results}}}"), RecordKind::Gates),
            (
                format!(
                    r#"{{{results},"predicate":{{"configuration":[{{"name":"relstore-checks"}}]}}}}"#
                ),
                RecordKind::Checks,
            ),
            (r#"{"bomFormat":"CycloneDX"}"#.to_owned(), RecordKind::Sbom),
            (
                r#"{"predicateType":"urn:other"}"#.to_owned(),
                RecordKind::Other,
            ),
            ("[1]".to_owned(), RecordKind::Other),
            ("no JSON".to_owned(), RecordKind::Other),
        ] {
            assert_eq!(of(&text), kind, "{text}");
            let _ = Said::all(&[record(&text)]);
        }
    }

    /// JSON in which the names that are looked for lead to anything.
    fn json() -> impl Strategy<Value = Value> {
        let word = prop_oneof![
            Just("https://slsa.dev/provenance/v1".to_owned()),
            Just("https://in-toto.io/attestation/test-result/v0.1".to_owned()),
            Just("relstore-checks".to_owned()),
            Just("CycloneDX".to_owned()),
            Just(facts::PREDICATE.to_owned()),
            "\\PC{0,9}",
        ];
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            word.prop_map(Value::from),
        ];
        let key = proptest::sample::select(vec![
            "predicateType",
            "predicate",
            "configuration",
            "name",
            "annotations",
            "checks",
            "gates",
            "passedTests",
            "warnedTests",
            "bomFormat",
            "components",
            "purl",
            "scope",
            "licenses",
            "runDetails",
            "builder",
            "metadata",
            "buildDefinition",
            "resolvedDependencies",
            "digest",
            "gitCommit",
            "internalParameters",
            "steps",
            "outcome",
            "cached",
            "tools",
            "value",
        ]);
        leaf.prop_recursive(6, 64, 5, move |inner| {
            let pair = (key.clone().prop_map(str::to_owned), inner.clone());
            prop_oneof![
                proptest::collection::vec(inner, 0..4).prop_map(Value::from),
                proptest::collection::vec(pair, 0..6)
                    .prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn record_of_any_shape_never_panics(document in json(), bytes: Vec<u8>) {
            let text = document.to_string();
            let said = Said::all(&[record(&text), record(&String::from_utf8_lossy(&bytes))]);
            let _ = (said.to_json(), said.origin());
        }
    }

    #[test]
    fn record_that_is_nested_without_end_is_passed_over() {
        let text = format!("{{\"predicate\":{}", "[".repeat(100_000));
        assert_eq!(RecordKind::of(&record(&text)), RecordKind::Other);
    }

    #[test]
    fn commit_of_a_package_is_not_that_of_the_release() {
        let text = r#"{"predicateType":"https://slsa.dev/provenance/v1","predicate":{"buildDefinition":{
            "resolvedDependencies":[{"uri":"pkg:composer/a/b@1","digest":{"gitCommit":"0123"}}]}}}"#;
        assert_eq!(Said::of(&[record(text)]).builds[0].commit, None);
    }
}
