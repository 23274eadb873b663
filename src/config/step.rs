//! `[build.step.NAME]`: changes to a preset, or a step of the project's own.

use std::collections::BTreeMap;
use std::time::Duration;

use relstore_builder::step::CommandLine;
use relstore_builder::{Preset, StepSettings};
use relstore_store::name::EntryPath;

use super::problem::{Place, Placed};
use super::reader::{Reader, Section};
use super::resolver::Resolver;
use super::value;

/// The keys of a section.
pub(super) const KEYS: &[&str] = &[
    "run", "needs", "inputs", "outputs", "env", "network", "sandbox", "timeout",
];

type Texts = Option<Placed<Vec<Placed<String>>>>;

/// A section as written.
#[derive(Debug, Clone, Default)]
pub(crate) struct RawStep {
    place: Option<Place>,
    run: Texts,
    needs: Texts,
    inputs: Texts,
    outputs: Texts,
    env: BTreeMap<String, Placed<String>>,
    network: Option<Placed<bool>>,
    sandbox: Option<Placed<bool>>,
    timeout: Option<Placed<String>>,
}

impl RawStep {
    pub(super) fn read<'a>(reader: &mut Reader<'a>, section: &Section<'a>) -> Self {
        reader.reject_unknown(section, KEYS);
        Self {
            place: section.place,
            run: reader.string_or_strings(section, "run"),
            needs: reader.strings(section, "needs"),
            inputs: reader.strings(section, "inputs"),
            outputs: reader.strings(section, "outputs"),
            env: reader.string_map(section, "env").unwrap_or_default(),
            network: reader.boolean(section, "network"),
            sandbox: reader.boolean(section, "sandbox"),
            timeout: reader.string(section, "timeout"),
        }
    }
}

impl Resolver<'_> {
    /// What all sections mean.
    pub(super) fn steps(
        &mut self,
        raw: &BTreeMap<String, RawStep>,
    ) -> BTreeMap<String, StepSettings> {
        let mut steps = BTreeMap::new();
        for (name, raw) in raw {
            if let Err(message) = value::name(name) {
                let key = format!("build.step.{name}");
                self.problem(raw.place, &key, format!("the name {message}"));
            }
            steps.insert(name.clone(), self.step(name, raw));
        }
        steps
    }

    fn step(&mut self, name: &str, raw: &RawStep) -> StepSettings {
        let key = |field: &str| format!("build.step.{name}.{field}");
        let run = self
            .list(&key("run"), raw.run.as_ref(), value::command)
            .unwrap_or_default();
        let preset = name.parse::<Preset>().ok();
        let mut missing = |field: &str, message: &str| {
            self.problem(raw.place, &key(field), message);
        };
        match preset {
            Some(Preset::Artisan) | None if raw.run.is_none() => {
                missing("run", "is missing, it is what the step does");
            }
            Some(preset) if preset != Preset::Artisan && raw.run.is_some() => {
                missing(
                    "run",
                    "cannot be set, the commands of this step are fixed; give a step of your own another name",
                );
            }
            _ => {}
        }
        if preset.is_none() && raw.outputs.is_none() {
            missing("outputs", "is missing, it is what the step makes");
        }
        let lines = run.iter();
        let lines = lines.map(|words| CommandLine::new(words.iter().map(String::as_str)));
        StepSettings {
            run: lines.collect(),
            needs: self
                .list(&key("needs"), raw.needs.as_ref(), value::name)
                .unwrap_or_default(),
            inputs: self.list(&key("inputs"), raw.inputs.as_ref(), super::resolve::exclude),
            outputs: self
                .list(&key("outputs"), raw.outputs.as_ref(), output)
                .unwrap_or_default(),
            env: self.environment_variables(&key("env"), &raw.env),
            network: raw.network.as_ref().map(|network| network.value),
            sandbox: raw.sandbox.as_ref().map(|sandbox| sandbox.value),
            time_limit: self.checked(&key("timeout"), raw.timeout.as_ref(), limit),
        }
    }
}

fn output(text: &str) -> Result<EntryPath, String> {
    value::entry_path(text.trim_end_matches('/'))
}

fn limit(text: &str) -> Result<Duration, String> {
    value::duration(text)
}
