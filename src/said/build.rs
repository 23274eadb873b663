//! One build of a release, as its provenance tells it.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{text, texts};

/// One build of the release.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct BuildSaid {
    /// RFC 3339.
    pub(crate) finished: Option<String>,
    pub(crate) commit: Option<String>,
    /// Whether the work tree was built instead of a commit.
    pub(crate) dirty: bool,
    pub(crate) builder: Option<String>,
    pub(crate) steps: Vec<StepSaid>,
    /// Version of each tool.
    pub(crate) tools: BTreeMap<String, String>,
    /// Patterns that were left out beside the default ones.
    pub(crate) exclude: Vec<String>,
}

/// One step of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct StepSaid {
    pub(crate) name: String,
    /// Whether its output came from an earlier build.
    pub(crate) cached: bool,
    /// Who signed that output.
    pub(crate) signer: Option<String>,
    pub(crate) milliseconds: Option<u64>,
}

impl BuildSaid {
    /// Reads an SLSA provenance predicate.
    pub(super) fn of(predicate: &Value) -> Self {
        let run = &predicate["runDetails"];
        let definition = &predicate["buildDefinition"];
        let internal = &definition["internalParameters"];
        // Packages have addresses, and some of them commits too.
        let source = array(&definition["resolvedDependencies"])
            .filter(|dependency| dependency["uri"].is_null())
            .find_map(|dependency| text(&dependency["digest"]["gitCommit"]));
        let external = &definition["externalParameters"];
        let tools = internal["tools"].as_object().into_iter().flatten();
        Self {
            finished: text(&run["metadata"]["finishedOn"]),
            commit: source,
            dirty: external["source"]["dirty"].as_bool().unwrap_or(false),
            builder: text(&run["builder"]["id"]),
            steps: array(&internal["steps"]).filter_map(StepSaid::of).collect(),
            tools: tools
                .filter_map(|(name, version)| Some((name.clone(), text(version)?)))
                .collect(),
            exclude: texts(&external["exclude"]),
        }
    }

    /// For `--json`.
    pub(super) fn to_json(&self) -> Value {
        let steps: Vec<Value> = self.steps.iter().map(StepSaid::to_json).collect();
        json!({
            "finished": self.finished,
            "commit": self.commit,
            "dirty": self.dirty,
            "builder": self.builder,
            "steps": steps,
            "tools": self.tools,
            "exclude": self.exclude,
        })
    }
}

impl StepSaid {
    fn of(step: &Value) -> Option<Self> {
        let cached = &step["outcome"]["cached"];
        Some(Self {
            name: text(&step["name"])?,
            cached: !cached.is_null(),
            signer: text(&cached["signer"]),
            milliseconds: step["milliseconds"].as_u64(),
        })
    }

    fn to_json(&self) -> Value {
        json!({
            "name": self.name,
            "cached": self.cached,
            "signer": self.signer,
            "milliseconds": self.milliseconds,
        })
    }
}

fn array(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}
