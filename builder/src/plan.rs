//! What a build will run, as a value: made from the request and a look at the source. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::exclude::PatternError;
use crate::gate;
use crate::secret::NETWORK_VARIABLES;
use crate::step::{Preset, Step};

/// Why a build cannot be planned.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// A step nobody knows.
    #[error("there is no step `{name}`")]
    UnknownStep {
        /// As given.
        name: String,
    },
    /// A gate nobody knows; guessing could turn off another one.
    #[error("there is no gate `{id}` that could be off")]
    UnknownGate {
        /// As given.
        id: String,
    },
    /// A variable that the build sets itself, or that holds a secret and would be recorded.
    #[error("the variable `{name}` cannot be set for a build: {reason}")]
    Variable {
        /// Its name.
        name: String,
        /// Why.
        reason: &'static str,
    },
    /// An exclude that is no pattern.
    #[error("an exclude is not a pattern")]
    Pattern(#[from] PatternError),
    /// A step lacks a file.
    #[error("step `{step}` needs `{file}`, which the source does not have")]
    NeedsFile {
        /// The step.
        step: &'static str,
        /// The file.
        file: &'static str,
    },
    /// npm installed everything, but not what a step runs.
    #[error("step `{step}` needs the npm package `{package}`, which is not in node_modules")]
    NeedsPackage {
        /// The step.
        step: &'static str,
        /// The package.
        package: &'static str,
    },
    /// The packages are locked by another package manager.
    #[error("step `npm` needs `package-lock.json`, the source has `{file}` of {manager}")]
    ForeignLock {
        /// `yarn`, `pnpm`, ...
        manager: &'static str,
        /// Its lock file.
        file: &'static str,
    },
    /// composer.json is not JSON.
    #[error("composer.json is not valid JSON: {why}")]
    ComposerJson {
        /// Where and why.
        why: String,
    },
    /// composer.json asks for an autoloader with a random prefix.
    #[error("composer.json sets `apcu-autoloader`, which gives every build another result")]
    ApcuAutoloader,
}

impl PlanError {
    /// What to do next, when there is something to do.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::UnknownStep { .. } => {
                let names: Vec<_> = Preset::ALL.into_iter().map(Preset::name).collect();
                Some(format!("steps are: {}", names.join(", ")))
            }
            Self::UnknownGate { .. } => Some(format!("gates are: {}", gate::ids().join(", "))),
            Self::NeedsFile {
                file: "composer.lock",
                ..
            } => Some("`composer update` writes it; commit it with the application".to_owned()),
            Self::NeedsFile {
                file: "package-lock.json",
                ..
            }
            | Self::ForeignLock { .. } => Some(
                "`npm install --package-lock-only` writes it; commit it with the application"
                    .to_owned(),
            ),
            Self::NeedsPackage { step, package } => Some(format!(
                "`npm install --save-dev {package}`, and commit package.json and package-lock.json; or take `{step}` out of `[build] steps`"
            )),
            Self::NeedsFile { step, .. } => Some(format!(
                "commit it, or take `{step}` out of `[build] steps`"
            )),
            Self::ApcuAutoloader => Some("remove it from composer.json's `config`".to_owned()),
            _ => None,
        }
    }
}

/// Variables of the build itself. What is set for a build is recorded and public.
const RESERVED: [&str; 16] = [
    "COMPOSER_ALLOW_SUPERUSER",
    "COMPOSER_CACHE_DIR",
    "COMPOSER_HOME",
    "COMPOSER_MIRROR_PATH_REPOS",
    "COMPOSER_ROOT_VERSION",
    "COMPOSER_VENDOR_DIR",
    "GIT_CEILING_DIRECTORIES",
    "HOME",
    "LANG",
    "LC_ALL",
    "PATH",
    "SOURCE_DATE_EPOCH",
    "TMPDIR",
    "TZ",
    "npm_config_cache",
    "npm_config_offline",
];
const SECRET: [&str; 3] = ["COMPOSER_AUTH", "NODE_AUTH_TOKEN", "NPM_TOKEN"];

/// Checks what can be checked before the source is read.
///
/// # Errors
/// [`PlanError::UnknownGate`], [`PlanError::Variable`].
pub fn check(env: &BTreeMap<String, String>, gates_off: &[String]) -> Result<(), PlanError> {
    if let Some(id) = gates_off
        .iter()
        .find(|id| !gate::ids().contains(&id.as_str()))
    {
        return Err(PlanError::UnknownGate { id: id.clone() });
    }
    for (name, value) in env {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let reason = if name.is_empty() || !name.chars().all(plain) {
            "its name may hold only letters, digits and `_`"
        } else if value.contains('\0') {
            "its value has a NUL in it"
        } else if RESERVED.contains(&name.as_str()) {
            "the build sets it itself, to the same value everywhere"
        } else if SECRET.contains(&name.as_str()) {
            "it is a secret, and what is set here is recorded"
        } else if NETWORK_VARIABLES.contains(&name.as_str()) {
            "it may hold a password, and what is set here is recorded; steps get it from the environment of relstore"
        } else {
            continue;
        };
        return Err(PlanError::Variable {
            name: name.clone(),
            reason,
        });
    }
    Ok(())
}

/// The presets with all they need, each once, in order.
#[must_use]
pub fn complete(presets: &[Preset]) -> BTreeSet<Preset> {
    let mut all = BTreeSet::new();
    let mut open = presets.to_vec();
    while let Some(preset) = open.pop() {
        if all.insert(preset) {
            open.extend(preset.needs());
        }
    }
    all
}

/// What the plan has to know of the source.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// Names in the top folder.
    pub names: BTreeSet<String>,
    /// Content of composer.json.
    pub composer_json: Option<Vec<u8>>,
}

/// What will be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The steps of one stage run at the same time, each stage after the one before.
    pub stages: Vec<Vec<Step>>,
}

impl Plan {
    /// All steps, in order.
    pub fn steps(&self) -> impl Iterator<Item = &Step> {
        self.stages.iter().flatten()
    }
}

/// Plans the presets for this source. `env` goes to every step; what a step sets itself as a
/// default (`NODE_ENV`) gives way.
///
/// # Errors
/// A [`PlanError`] when a step cannot run on this source.
pub fn plan(
    presets: &[Preset],
    env: &BTreeMap<String, String>,
    facts: &Facts,
) -> Result<Plan, PlanError> {
    let mut stages: BTreeMap<usize, Vec<Step>> = BTreeMap::new();
    for preset in complete(presets) {
        let mut step = preset.step();
        if let Some(file) = step.files.iter().find(|file| !facts.names.contains(**file)) {
            return Err(missing(step.name, file, facts));
        }
        if preset == Preset::Composer {
            check_composer(facts)?;
        }
        step.env.extend(env.clone());
        stages.entry(preset.stage()).or_default().push(step);
    }
    Ok(Plan {
        stages: stages.into_values().collect(),
    })
}

const FOREIGN_LOCKS: [(&str, &str); 4] = [
    ("pnpm", "pnpm-lock.yaml"),
    ("Yarn", "yarn.lock"),
    ("Bun", "bun.lock"),
    ("Bun", "bun.lockb"),
];

fn missing(step: &'static str, file: &'static str, facts: &Facts) -> PlanError {
    let foreign = FOREIGN_LOCKS
        .iter()
        .find(|(_, lock)| facts.names.contains(*lock));
    match foreign {
        Some(&(manager, lock)) if file == "package-lock.json" => PlanError::ForeignLock {
            manager,
            file: lock,
        },
        _ => PlanError::NeedsFile { step, file },
    }
}

fn check_composer(facts: &Facts) -> Result<(), PlanError> {
    let text = facts.composer_json.as_deref().unwrap_or_default();
    let json: Value = serde_json::from_slice(text).map_err(|error| PlanError::ComposerJson {
        why: error.to_string(),
    })?;
    match &json["config"]["apcu-autoloader"] {
        Value::Bool(true) => Err(PlanError::ApcuAutoloader),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn facts(names: &[&str], composer_json: &str) -> Facts {
        Facts {
            names: names.iter().map(|&name| name.to_owned()).collect(),
            composer_json: Some(composer_json.as_bytes().to_vec()),
        }
    }

    const ALL: [&str; 4] = [
        "composer.json",
        "composer.lock",
        "package.json",
        "package-lock.json",
    ];

    #[test]
    fn vite_and_mix_bring_npm_and_run_after_composer() {
        let none = BTreeMap::new();
        for presets in [
            [Preset::Composer, Preset::Vite],
            [Preset::Vite, Preset::Composer],
            [Preset::Composer, Preset::Mix],
            [Preset::Mix, Preset::Composer],
        ] {
            let last = presets.iter().max().unwrap().name();
            let plan = plan(&presets, &none, &facts(&ALL, "{}")).unwrap();
            let names: Vec<Vec<_>> = plan
                .stages
                .iter()
                .map(|stage| stage.iter().map(|step| step.name).collect())
                .collect();
            assert_eq!(names, [vec!["composer", "npm"], vec![last]]);
        }
        assert!(
            plan(&[], &none, &Facts::default())
                .unwrap()
                .stages
                .is_empty()
        );
    }

    #[test]
    fn declared_variables_reach_every_step_but_not_its_fixed_settings() {
        let env = BTreeMap::from([
            ("VITE_NAME".to_owned(), "x".to_owned()),
            ("NODE_ENV".to_owned(), "staging".to_owned()),
        ]);
        check(&env, &[]).unwrap();
        let plan = plan(&[Preset::Composer, Preset::Vite], &env, &facts(&ALL, "{}")).unwrap();
        for step in plan.steps() {
            assert_eq!(step.env["VITE_NAME"], "x");
            assert_eq!(step.env["NODE_ENV"], "staging");
        }
        for preset in Preset::ALL {
            for name in preset.step().env.keys() {
                let fixed = BTreeMap::from([(name.clone(), "x".to_owned())]);
                let free = matches!(
                    name.as_str(),
                    "NODE_ENV"
                        | "DISABLE_NOTIFICATIONS"
                        | "COMPOSER_FUND"
                        | "COMPOSER_NO_AUDIT"
                        | "COMPOSER_NO_INTERACTION"
                );
                assert_eq!(check(&fixed, &[]).is_ok(), free, "{name}");
            }
        }
    }

    #[test]
    fn wrong_variables_and_gates_are_refused() {
        for name in [
            "PATH",
            "COMPOSER_AUTH",
            "HTTPS_PROXY",
            "http_proxy",
            "GIT_CEILING_DIRECTORIES",
            "A-B",
            "",
            "A=B",
        ] {
            let env = BTreeMap::from([(name.to_owned(), String::new())]);
            assert!(check(&env, &[]).is_err(), "{name}");
        }
        let off = ["vite".to_owned()];
        assert_eq!(
            check(&BTreeMap::new(), &off),
            Err(PlanError::UnknownGate { id: "vite".into() })
        );
    }

    #[test]
    fn missing_and_foreign_lock_files_are_named() {
        let none = BTreeMap::new();
        let refused = |names: &[&str], json| {
            plan(
                &[Preset::Composer, Preset::Vite],
                &none,
                &facts(names, json),
            )
            .unwrap_err()
        };
        let without = |name: &str| {
            let names: Vec<&str> = ALL.into_iter().filter(|other| *other != name).collect();
            names
        };
        for file in ALL {
            let error = refused(&without(file), "{}");
            assert!(error.to_string().contains(file), "{error}");
            assert!(error.hint().is_some());
        }
        let mut yarn = without("package-lock.json");
        yarn.push("yarn.lock");
        assert!(matches!(
            refused(&yarn, "{}"),
            PlanError::ForeignLock {
                manager: "Yarn",
                ..
            }
        ));
        assert_eq!(
            refused(&ALL, r#"{"config":{"apcu-autoloader":true}}"#),
            PlanError::ApcuAutoloader
        );
        assert!(matches!(refused(&ALL, "{"), PlanError::ComposerJson { .. }));
    }
}
