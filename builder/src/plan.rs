//! What a build will run, as a value: made from the request and a look at the source. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use relstore_store::name::EntryPath;
use serde_json::Value;

use crate::exclude::PatternError;
use crate::gate;
use crate::preset::{self, Preset, application, composer};
use crate::secret::NETWORK_VARIABLES;
use crate::step::{CommandLine, Output, Step, Tool};

/// Why a build cannot be planned.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// A step nobody knows.
    #[error("there is no step `{name}`")]
    UnknownStep {
        /// As given.
        name: String,
    },
    /// A gate nobody knows, or one that cannot be set so; guessing could turn off another one.
    #[error("the settings of gates name `{id}` where it means nothing")]
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
        step: String,
        /// The file.
        file: &'static str,
    },
    /// npm installed everything, but not what a step runs.
    #[error("step `{step}` needs the npm package `{package}`, which is not in node_modules")]
    NeedsPackage {
        /// The step.
        step: String,
        /// The package.
        package: &'static str,
    },
    /// The packages are locked by another package manager.
    #[error("step `{step}` needs `{file}`, the source has `{other}` of {manager}")]
    ForeignLock {
        /// The step.
        step: String,
        /// The lock it needs.
        file: &'static str,
        /// `Yarn`, `pnpm`, ...
        manager: &'static str,
        /// Its lock file.
        other: &'static str,
        /// The step for it, empty when there is none.
        preset: &'static str,
    },
    /// The application's folder is not in the source.
    #[error("the source has no folder `{root}`")]
    NoRoot {
        /// As configured.
        root: String,
    },
    /// A step without a command.
    #[error("step `{step}` has no command")]
    NoCommand {
        /// The step.
        step: String,
    },
    /// A step that makes nothing; a check is what only looks.
    #[error("step `{step}` has no outputs")]
    NoOutput {
        /// The step.
        step: String,
    },
    /// A step that needs one which is not part of the build.
    #[error("step `{step}` needs the step `{name}`, which this build does not have")]
    UnknownNeed {
        /// The step.
        step: String,
        /// What it needs.
        name: String,
    },
    /// Steps that wait for each other.
    #[error("steps need each other in a circle: {}", names.join(", "))]
    Circle {
        /// Those that cannot begin.
        names: Vec<String>,
    },
    /// composer.json is not JSON.
    #[error("composer.json is not valid JSON: {why}")]
    ComposerJson {
        /// Where and why.
        why: String,
    },
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
            } => Some(
                "`npm install --package-lock-only` writes it; commit it with the application"
                    .to_owned(),
            ),
            Self::ForeignLock { preset: "", .. } => Some(
                "`npm install --package-lock-only` writes package-lock.json; commit it with the application"
                    .to_owned(),
            ),
            Self::ForeignLock { step, preset, .. } => Some(format!(
                "write `{preset}` instead of `{step}` into `[build] steps`, before `vite` or `mix`"
            )),
            Self::NeedsPackage { step, package } => Some(format!(
                "`npm install --save-dev {package}`, and commit package.json and the lock; or take `{step}` out of `[build] steps`"
            )),
            Self::NeedsFile { step, .. } => Some(format!(
                "commit it, or take `{step}` out of `[build] steps`"
            )),
            Self::NoCommand { step } => Some(format!(
                "`[build.step.{step}] run = [\"php artisan ...\"]` says what it does"
            )),
            Self::NoOutput { step } => Some(format!(
                "`[build.step.{step}] outputs = [...]` says what it makes; what only looks belongs into `[checks]`"
            )),
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
pub fn check(wanted: &Wanted, gates: &gate::Settings) -> Result<(), PlanError> {
    if let Some(id) = gates.unknown() {
        return Err(PlanError::UnknownGate { id: id.to_owned() });
    }
    let own = wanted.settings.values().map(|settings| &settings.env);
    for (name, value) in own.chain([&wanted.env]).flatten() {
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

/// What the plan has to know of the source.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// The application's folder from the top of the source; empty when they are the same.
    pub root: String,
    /// Names in the application's folder.
    pub names: BTreeSet<String>,
    /// Content of composer.json.
    pub composer_json: Option<Vec<u8>>,
    /// Content of package.json.
    pub package_json: Option<Vec<u8>>,
}

impl Facts {
    /// Whether the project uses Yarn 2 or newer, whose options are others.
    #[must_use]
    pub fn is_modern_yarn(&self) -> bool {
        let json: Value = self
            .package_json
            .as_deref()
            .and_then(|text| serde_json::from_slice(text).ok())
            .unwrap_or_default();
        match json["packageManager"].as_str() {
            Some(manager) if manager.starts_with("yarn@") => !manager.starts_with("yarn@1."),
            _ => self.names.contains(".yarnrc.yml"),
        }
    }
}

/// What a configuration says about one step: a change to a preset, or a step of its own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StepSettings {
    /// The commands; of presets only `artisan` takes them.
    pub run: Vec<CommandLine>,
    /// Steps whose outputs it sees, beside those of the preset.
    pub needs: Vec<String>,
    /// What it sees of the source, instead of the preset's choice.
    pub inputs: Option<Vec<String>>,
    /// What it makes, beside what the preset makes.
    pub outputs: Vec<EntryPath>,
    /// Variables for this step alone.
    pub env: BTreeMap<String, String>,
    /// Whether it may use the network.
    pub network: Option<bool>,
    /// Whether it runs in a sandbox, where there is one.
    pub sandbox: Option<bool>,
    /// Longest time one command may take.
    pub time_limit: Option<Duration>,
}

/// What shall be built, as far as steps go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Presets; what they need comes along.
    pub presets: Vec<Preset>,
    /// Changes to presets and own steps, by name.
    pub settings: BTreeMap<String, StepSettings>,
    /// Variables of the build. `VITE_*` and `MIX_*` go to the steps that make assets and to own
    /// steps, others to all: a colour of a page installs no packages anew.
    pub env: BTreeMap<String, String>,
    /// Whether a tree with development packages is wanted, for checks.
    pub checks: bool,
    /// Whether the application is asked for its routes and settings.
    pub facts: bool,
}

/// What will be run: steps in an order in which each comes after those it needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// All of them.
    pub steps: Vec<Step>,
}

impl Plan {
    /// The step of this name.
    #[must_use]
    pub fn step(&self, name: &str) -> Option<&Step> {
        self.steps.iter().find(|step| step.name == name)
    }

    /// The names of all steps that a step sees outputs of, in the order of the plan.
    #[must_use]
    pub fn all_needs(&self, step: &Step) -> Vec<&Step> {
        let mut names: BTreeSet<&str> = BTreeSet::new();
        let mut open: Vec<&str> = step.needs.iter().map(String::as_str).collect();
        while let Some(name) = open.pop() {
            if names.insert(name)
                && let Some(needed) = self.step(name)
            {
                open.extend(needed.needs.iter().map(String::as_str));
            }
        }
        let chosen = self.steps.iter();
        chosen
            .filter(|step| names.contains(step.name.as_str()))
            .collect()
    }

    /// What the steps make that the release gets, in the order in which it is laid down.
    pub fn released(&self) -> impl Iterator<Item = &Step> {
        self.steps.iter().filter(|step| step.released)
    }
}

/// Names of outputs of which the source's copies are not used, from the application's folder.
#[must_use]
pub fn fresh_outputs(wanted: &Wanted) -> Vec<String> {
    let mut paths = Vec::new();
    for preset in complete(wanted) {
        // Their outputs depend on nothing in the source.
        let facts = Facts {
            composer_json: Some(b"{}".to_vec()),
            ..Facts::default()
        };
        if let Ok(step) = preset.step(&facts) {
            let fresh = step.outputs.iter().filter(|output| output.fresh);
            paths.extend(fresh.map(|output| output.path.to_string()));
        }
    }
    paths
}

/// The presets with all they need, each once, in order.
#[must_use]
pub fn complete(wanted: &Wanted) -> BTreeSet<Preset> {
    let mut all: BTreeSet<Preset> = wanted.presets.iter().copied().collect();
    if all.contains(&Preset::Composer) || all.contains(&Preset::Artisan) {
        all.extend([Preset::Composer, Preset::Autoload]);
    }
    let assets = all.contains(&Preset::Vite) || all.contains(&Preset::Mix);
    if assets && !all.iter().any(|preset| preset.is_package_manager()) {
        all.insert(Preset::Npm);
    }
    all
}

/// Plans the steps for this source.
///
/// # Errors
/// A [`PlanError`] when a step cannot run on this source.
pub fn plan(wanted: &Wanted, facts: &Facts) -> Result<Plan, PlanError> {
    let presets = complete(wanted);
    let mut steps = Vec::new();
    for preset in &presets {
        let mut step = preset.step(facts)?;
        check_files(&step, facts)?;
        match preset {
            Preset::Vite | Preset::Mix => {
                let before = |other: &&Preset| **other < Preset::Vite;
                let needed = presets.iter().filter(before);
                step.needs
                    .extend(needed.map(|needed| needed.name().to_owned()));
                if presets.contains(&Preset::Autoload) {
                    step.tools.insert(Tool::Php);
                }
                step.env.extend(wanted.env.clone());
            }
            Preset::Artisan => step.env.extend(wanted.env.clone()),
            _ => step.env.extend(general(&wanted.env)),
        }
        steps.push(step);
    }
    if wanted.checks && presets.contains(&Preset::Composer) {
        for mut step in [
            composer::install(facts, true)?,
            composer::autoload(facts, true)?,
        ] {
            step.env.extend(general(&wanted.env));
            steps.push(step);
        }
    }
    if wanted.facts && facts.names.contains("artisan") {
        let autoload = steps.iter().find(|step| step.name == "autoload");
        steps.extend(autoload.map(|step| application::step(&step.inputs)));
    }
    apply(wanted, &mut steps)?;
    sort(steps)
}

fn general(env: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let asset = |name: &str| name.starts_with("VITE_") || name.starts_with("MIX_");
    let chosen = env.iter().filter(|(name, _)| !asset(name));
    chosen
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

/// Changes the presets as the configuration says, and adds its own steps.
fn apply(wanted: &Wanted, steps: &mut Vec<Step>) -> Result<(), PlanError> {
    for (name, settings) in &wanted.settings {
        let index = match steps.iter().position(|step| step.name == *name) {
            Some(index) => index,
            // Settings of a preset that this build does not use change nothing.
            None if name.parse::<Preset>().is_ok() => continue,
            None => {
                let mut step = preset::blank(name);
                step.env = wanted.env.clone();
                // What its command runs is not known, so all that there may be counts.
                let autoload = steps.iter().any(|step| step.name == "autoload");
                if autoload {
                    step.tools.insert(Tool::Php);
                    step.needs.push("autoload".to_owned());
                }
                steps.push(step);
                steps.len() - 1
            }
        };
        let step = &mut steps[index];
        if !settings.run.is_empty() {
            step.commands.clone_from(&settings.run);
        }
        if step.commands.is_empty() {
            return Err(PlanError::NoCommand { step: name.clone() });
        }
        step.needs.extend(settings.needs.iter().cloned());
        if let Some(inputs) = &settings.inputs {
            step.inputs.only = Some(inputs.clone());
            // Without these the step cannot even begin.
            let files = step.files.iter().map(|&file| file.to_owned());
            step.inputs.only.get_or_insert_default().extend(files);
        }
        let outputs = settings.outputs.iter().map(|path| Output {
            path: path.clone(),
            optional: false,
            fresh: false,
        });
        step.outputs.extend(outputs);
        if step.outputs.is_empty() {
            return Err(PlanError::NoOutput { step: name.clone() });
        }
        step.env.extend(settings.env.clone());
        step.network = settings.network.unwrap_or(step.network);
        step.sandbox = settings.sandbox.unwrap_or(step.sandbox);
        step.time_limit = settings.time_limit.unwrap_or(step.time_limit);
        step.inputs.matcher()?;
    }
    match steps.iter().find(|step| step.commands.is_empty()) {
        Some(step) => Err(PlanError::NoCommand {
            step: step.name.clone(),
        }),
        None => Ok(()),
    }
}

/// Brings the steps into an order in which each comes after those it needs; otherwise as given.
fn sort(mut open: Vec<Step>) -> Result<Plan, PlanError> {
    let names: BTreeSet<String> = open.iter().map(|step| step.name.clone()).collect();
    for step in &open {
        if let Some(name) = step.needs.iter().find(|name| !names.contains(*name)) {
            return Err(PlanError::UnknownNeed {
                step: step.name.clone(),
                name: name.clone(),
            });
        }
    }
    let mut steps: Vec<Step> = Vec::new();
    while !open.is_empty() {
        let done = |name: &String| steps.iter().any(|step| step.name == *name);
        let Some(next) = open.iter().position(|step| step.needs.iter().all(done)) else {
            let names = open.iter().map(|step| step.name.clone()).collect();
            return Err(PlanError::Circle { names });
        };
        steps.push(open.remove(next));
    }
    Ok(Plan { steps })
}

const FOREIGN_LOCKS: [(&str, &str, &str); 5] = [
    ("npm", "package-lock.json", "npm"),
    ("pnpm", "pnpm-lock.yaml", "pnpm"),
    ("Yarn", "yarn.lock", "yarn"),
    ("Bun", "bun.lock", ""),
    ("Bun", "bun.lockb", ""),
];

fn check_files(step: &Step, facts: &Facts) -> Result<(), PlanError> {
    let absent = |file: &&&str| !facts.names.contains(**file);
    let Some(&file) = step.files.iter().find(absent) else {
        return Ok(());
    };
    let foreign = FOREIGN_LOCKS
        .iter()
        .find(|(_, lock, _)| facts.names.contains(*lock));
    let lock = FOREIGN_LOCKS.iter().any(|(_, lock, _)| *lock == file);
    Err(match foreign {
        Some(&(manager, other, preset)) if lock => PlanError::ForeignLock {
            step: step.name.clone(),
            file,
            manager,
            other,
            preset,
        },
        _ => PlanError::NeedsFile {
            step: step.name.clone(),
            file,
        },
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn facts(names: &[&str], composer_json: &str) -> Facts {
        Facts {
            names: names.iter().map(|&name| name.to_owned()).collect(),
            composer_json: Some(composer_json.as_bytes().to_vec()),
            ..Facts::default()
        }
    }

    fn wanted(presets: &[Preset]) -> Wanted {
        Wanted {
            presets: presets.to_vec(),
            ..Wanted::default()
        }
    }

    const ALL: [&str; 7] = [
        "artisan",
        "composer.json",
        "composer.lock",
        "package.json",
        "package-lock.json",
        "pnpm-lock.yaml",
        "yarn.lock",
    ];

    #[test]
    fn assets_bring_a_package_manager_and_come_after_the_autoloader() {
        for presets in [
            [Preset::Composer, Preset::Vite],
            [Preset::Vite, Preset::Composer],
            [Preset::Mix, Preset::Composer],
        ] {
            let last = presets.iter().max().unwrap().name();
            let plan = plan(&wanted(&presets), &facts(&ALL, "{}")).unwrap();
            let names: Vec<&str> = plan.steps.iter().map(|step| step.name.as_str()).collect();
            assert_eq!(names, ["composer", "autoload", "npm", last]);
            let seen = plan.all_needs(plan.step(last).unwrap());
            assert_eq!(seen.len(), 3);
        }
        let pnpm = plan(&wanted(&[Preset::Pnpm, Preset::Vite]), &facts(&ALL, "{}")).unwrap();
        assert!(pnpm.step("npm").is_none() && pnpm.step("pnpm").is_some());
        assert!(
            plan(&wanted(&[]), &Facts::default())
                .unwrap()
                .steps
                .is_empty()
        );
    }

    #[test]
    fn variables_of_assets_install_no_packages_anew() {
        let mut wanted = wanted(&[Preset::Composer, Preset::Vite]);
        wanted.env = BTreeMap::from([
            ("VITE_NAME".to_owned(), "x".to_owned()),
            ("NODE_ENV".to_owned(), "staging".to_owned()),
        ]);
        check(&wanted, &gate::Settings::default()).unwrap();
        let plan = plan(&wanted, &facts(&ALL, "{}")).unwrap();
        for step in &plan.steps {
            assert_eq!(step.env["NODE_ENV"], "staging");
            assert_eq!(step.env.contains_key("VITE_NAME"), step.name == "vite");
        }
    }

    #[test]
    fn fixed_settings_of_the_steps_cannot_be_set() {
        let facts = facts(&ALL, "{}");
        for preset in Preset::ALL {
            for name in preset.step(&facts).unwrap().env.keys() {
                let fixed = name.starts_with("COMPOSER_") || name == "npm_config_offline";
                let harmless = [
                    "COMPOSER_FUND",
                    "COMPOSER_NO_AUDIT",
                    "COMPOSER_NO_INTERACTION",
                ];
                let mut wanted = Wanted::default();
                wanted.env.insert(name.clone(), "x".to_owned());
                let free = !fixed || harmless.contains(&name.as_str());
                assert_eq!(
                    check(&wanted, &gate::Settings::default()).is_ok(),
                    free,
                    "{name}"
                );
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
            let mut general = Wanted::default();
            general.env.insert(name.to_owned(), String::new());
            assert!(
                check(&general, &gate::Settings::default()).is_err(),
                "{name}"
            );
            let settings = StepSettings {
                env: general.env.clone(),
                ..StepSettings::default()
            };
            let own = Wanted {
                settings: BTreeMap::from([("x".to_owned(), settings)]),
                ..Wanted::default()
            };
            assert!(check(&own, &gate::Settings::default()).is_err(), "{name}");
        }
        let off = gate::Settings {
            off: vec!["vite".to_owned()],
            ..gate::Settings::default()
        };
        assert_eq!(
            check(&Wanted::default(), &off),
            Err(PlanError::UnknownGate { id: "vite".into() })
        );
    }

    #[test]
    fn missing_and_foreign_lock_files_are_named() {
        let vite = wanted(&[Preset::Composer, Preset::Vite]);
        let npm = &ALL[..5];
        let refused = |names: &[&str], json| plan(&vite, &facts(names, json)).unwrap_err();
        let without = |name: &str| {
            let names: Vec<&str> = npm.iter().copied().filter(|other| *other != name).collect();
            names
        };
        for file in &npm[1..] {
            let error = refused(&without(file), "{}");
            assert!(error.to_string().contains(file), "{error}");
            assert!(error.hint().is_some());
        }
        let mut yarn = without("package-lock.json");
        yarn.push("yarn.lock");
        let error = refused(&yarn, "{}");
        assert!(error.hint().unwrap().contains("`yarn` instead of `npm`"));
        assert!(matches!(refused(npm, "{"), PlanError::ComposerJson { .. }));
    }

    fn own(name: &str, settings: StepSettings) -> Wanted {
        Wanted {
            presets: vec![Preset::Composer],
            settings: BTreeMap::from([(name.to_owned(), settings)]),
            ..Wanted::default()
        }
    }

    #[test]
    fn own_steps_say_what_they_run_and_make() {
        let facts = facts(&ALL, "{}");
        let whole = StepSettings {
            run: vec![CommandLine::new(["php", "artisan", "docs"])],
            outputs: vec![EntryPath::new("public/docs").unwrap()],
            inputs: Some(vec!["docs".to_owned()]),
            ..StepSettings::default()
        };
        let plan_of = |settings: StepSettings| plan(&own("docs", settings), &facts);
        let plan = plan_of(whole.clone()).unwrap();
        let step = plan.step("docs").unwrap();
        assert_eq!(step.needs, ["autoload"]);
        assert_eq!(step.inputs.only.as_deref(), Some(&["docs".to_owned()][..]));
        let change = |change: fn(&mut StepSettings)| {
            let mut settings = whole.clone();
            change(&mut settings);
            plan_of(settings).unwrap_err()
        };
        let no_command = change(|settings| settings.run.clear());
        assert!(matches!(no_command, PlanError::NoCommand { .. }));
        let no_output = change(|settings| settings.outputs.clear());
        assert!(matches!(no_output, PlanError::NoOutput { .. }));
        let unknown = change(|settings| settings.needs.push("vite".to_owned()));
        assert!(matches!(unknown, PlanError::UnknownNeed { .. }));
        let circle = change(|settings| settings.needs.push("docs".to_owned()));
        assert!(matches!(circle, PlanError::Circle { .. }));
        let pattern = change(|settings| settings.inputs = Some(vec!["../x".to_owned()]));
        assert!(matches!(pattern, PlanError::Pattern(_)));
    }

    #[test]
    fn settings_change_a_preset_and_do_not_bring_it() {
        let settings = StepSettings {
            inputs: Some(vec!["app".to_owned()]),
            outputs: vec![EntryPath::new("public/vendor").unwrap()],
            sandbox: Some(false),
            ..StepSettings::default()
        };
        let changed = plan(&own("autoload", settings.clone()), &facts(&ALL, "{}")).unwrap();
        let step = changed.step("autoload").unwrap();
        assert!(!step.sandbox && step.outputs.len() == 4);
        let only = step.inputs.only.as_deref().unwrap();
        assert_eq!(only, ["app", "composer.json", "composer.lock"]);
        let none = plan(&own("mix", settings), &facts(&ALL, "{}")).unwrap();
        assert!(none.step("mix").is_none());
    }
}
