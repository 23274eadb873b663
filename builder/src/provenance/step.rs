//! What is recorded of a build step.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::made::How;
use crate::run::StepResult;
use crate::step::{CommandLine, Step, Tool};

/// One step of a build, as it is recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StepRecord {
    /// Its name.
    pub name: String,
    /// The hash of all that its output depends on, in hex.
    pub key: String,
    /// Whether it ran.
    pub outcome: StepOutcome,
    /// Its command lines.
    pub commands: Vec<String>,
    /// Declared variables; no secret is among them.
    pub env: BTreeMap<String, String>,
    /// Whether it could use the network.
    pub network: bool,
    /// Whether it saw nothing but its inputs.
    pub sandboxed: bool,
    /// Version of each program that its output depends on.
    pub tools: BTreeMap<String, String>,
    /// Wall time.
    pub milliseconds: u64,
}

/// Where the output of a step came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum StepOutcome {
    /// It was made by this build.
    Ran,
    /// An earlier build made it.
    Cached {
        /// BLAKE3 of the derivation's record, which says so, in hex.
        derivation: String,
        /// Fingerprint of the key that signed it; `None` for this machine's own cache.
        signer: Option<String>,
    },
}

impl StepRecord {
    /// The record of a step with what came of it; `tools` are the versions of the build's tools.
    #[must_use]
    pub fn of(step: &Step, result: &StepResult, tools: &BTreeMap<String, String>) -> Self {
        let of_step = |tool: &Tool| {
            let (name, version) = tools.get_key_value(tool.program())?;
            Some((name.clone(), version.clone()))
        };
        Self {
            name: step.name.clone(),
            key: result.key.to_string(),
            outcome: match &result.how {
                How::Ran => StepOutcome::Ran,
                How::Cached { record, signer } => StepOutcome::Cached {
                    derivation: record.to_string(),
                    signer: signer.clone(),
                },
            },
            commands: step.commands.iter().map(CommandLine::text).collect(),
            env: step.env.clone(),
            network: step.network,
            sandboxed: result.sandboxed,
            tools: step.tools.iter().filter_map(of_step).collect(),
            milliseconds: result.milliseconds,
        }
    }
}
