//! What the records of a release say about it, gathered from all of them.
//!
//! Records are in-toto statements: SLSA provenance says from what and when it was built, a test
//! result says which gates passed. Unknown predicates and missing fields are passed over: a record
//! of a newer version must not make a release unreadable.

use relstore_store::store::Record;
use serde_json::{Value, json};

/// What is known about a release beside its content.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Said {
    /// One entry per build, oldest first.
    pub(crate) builds: Vec<BuildSaid>,
    /// Gates that passed, and those that were off, of the newest result.
    pub(crate) gates_passed: Vec<String>,
    pub(crate) gates_off: Vec<String>,
}

/// One build of the release.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct BuildSaid {
    /// RFC 3339.
    pub(crate) finished: Option<String>,
    pub(crate) commit: Option<String>,
    /// Whether the work tree was built instead of a commit.
    pub(crate) dirty: bool,
    pub(crate) builder: Option<String>,
}

impl Said {
    /// Reads the records, oldest first.
    pub(crate) fn of(records: &[Record]) -> Self {
        let mut said = Self::default();
        for record in records {
            if let Ok(statement) = serde_json::from_slice::<Value>(&record.json) {
                said.add(&statement);
            }
        }
        said
    }

    fn add(&mut self, statement: &Value) {
        let predicate = &statement["predicate"];
        match statement["predicateType"].as_str() {
            Some(kind) if kind.starts_with("https://slsa.dev/provenance/") => {
                let run = &predicate["runDetails"];
                let definition = &predicate["buildDefinition"];
                let dependencies = definition["resolvedDependencies"]
                    .as_array()
                    .cloned()
                    .unwrap_or_default();
                let commit = dependencies
                    .iter()
                    .find_map(|dependency| dependency["digest"]["gitCommit"].as_str());
                self.builds.push(BuildSaid {
                    finished: text(&run["metadata"]["finishedOn"]),
                    commit: commit.map(str::to_owned),
                    dirty: definition["externalParameters"]["source"]["dirty"]
                        .as_bool()
                        .unwrap_or(false),
                    builder: text(&run["builder"]["id"]),
                });
            }
            Some(kind) if kind.starts_with("https://in-toto.io/attestation/test-result/") => {
                self.gates_passed = texts(&predicate["passedTests"]);
                let configurations = predicate["configuration"].as_array();
                self.gates_off = configurations
                    .into_iter()
                    .flatten()
                    .flat_map(|one| texts(&one["annotations"]["off"]))
                    .collect();
            }
            _ => {}
        }
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
        let builds: Vec<Value> = self
            .builds
            .iter()
            .map(|build| {
                json!({
                    "finished": build.finished,
                    "commit": build.commit,
                    "dirty": build.dirty,
                    "builder": build.builder,
                })
            })
            .collect();
        json!({ "builds": builds, "gates": { "passed": self.gates_passed, "off": self.gates_off } })
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
}
