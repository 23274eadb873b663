//! What `relstore.toml` means: variables expanded, defaults filled in, values checked. Pure.
//!
//! A variable that is not set is a problem at once in the general part of the file. In an
//! `[env.NAME]` section it becomes one only when that environment is used, so that a build
//! machine needs none of the variables of production.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use relstore_builder::Preset;
use relstore_store::import::Layout;
use relstore_store::name::EntryPath;

use super::problem::{Place, Placed, Problem, nearest};
use super::raw::{RawConfig, RawEnvironment, RawHealth, RawSecret};
use super::value::{self, HostAddress};
use super::variables::{ExpandError, Variables, expand, is_name};
use super::{Build, Config, Environment, Health, Migrate, SecretRef, Transport};

/// Turns the file's content into a configuration. `file` is its path, to which relative paths of
/// this machine refer. All problems come together, in the order of the file.
pub(crate) fn resolve(
    file: &Path,
    raw: RawConfig,
    mut problems: Vec<Problem>,
    variables: &Variables,
) -> Result<Config, Vec<Problem>> {
    let folder = file.parent().unwrap_or(Path::new("")).to_owned();
    let mut general = Resolver {
        variables,
        folder: &folder,
        problems: Vec::new(),
        undefined: Vec::new(),
    };
    let app = general.checked("app", raw.app.as_ref(), value::name);
    if raw.app.is_none()
        && !problems
            .iter()
            .any(|problem| problem.key == "app" || problem.key.is_empty())
    {
        general.problem(None, "app", "is missing, it names the application");
    }
    let build = Build {
        steps: general
            .list("build.steps", raw.steps.as_ref(), step)
            .unwrap_or_else(|| vec![Preset::Composer, Preset::Vite]),
        env: general.environment_variables("build.env", &raw.build_env),
        exclude: general
            .list("build.exclude", raw.exclude.as_ref(), value::inner_path)
            .unwrap_or_default(),
    };
    let gates_off = general
        .list("gates.off", raw.gates_off.as_ref(), gate_id)
        .unwrap_or_default();
    let shared = general
        .list("shared.paths", raw.shared.as_ref(), value::shared_path)
        .unwrap_or_else(|| vec![(fixed("storage"), true)]);
    let writable_dirs = general
        .list("writable.paths", raw.writable.as_ref(), value::entry_path)
        .unwrap_or_else(|| vec![fixed("bootstrap/cache")]);
    let layout = layout(shared, writable_dirs);
    let store = general
        .text("store.path", raw.store_path.as_ref())
        .map(|path| general.path(&path.value));
    problems.append(&mut general.problems);
    problems.append(&mut general.undefined);

    let mut environments = BTreeMap::new();
    for (name, section) in &raw.environments {
        let mut resolver = Resolver {
            variables,
            folder: &folder,
            problems: Vec::new(),
            undefined: Vec::new(),
        };
        let environment = resolver.environment(name, section, &raw.environments);
        // A mistake in an inherited value is reported once, by the environment that wrote it.
        for problem in resolver.problems {
            if !problems
                .iter()
                .any(|known| known.place == problem.place && known.message == problem.message)
            {
                problems.push(problem);
            }
        }
        environments.insert(name.clone(), environment.ok_or(resolver.undefined));
    }
    problems.sort_by_key(|problem| (problem.place.is_none(), problem.place));
    match app {
        Some(app) if problems.is_empty() => {
            let store = store.or_else(|| default_store(&app, variables));
            Ok(Config {
                file: file.to_owned(),
                build,
                gates_off,
                layout,
                store,
                environments,
            })
        }
        _ => Err(problems),
    }
}

/// Checks the name of a build step.
fn step(text: &str) -> Result<Preset, String> {
    let names = || Preset::ALL.into_iter().map(Preset::name);
    text.parse().map_err(|_| match nearest(text, names()) {
        Some(near) => format!("is no step, did you mean `{near}`?"),
        None => format!(
            "is no step, the steps are: {}",
            names().collect::<Vec<_>>().join(", ")
        ),
    })
}

/// Checks the id of a gate.
fn gate_id(text: &str) -> Result<String, String> {
    let ids = relstore_builder::gate::ids();
    if ids.contains(&text) {
        return Ok(text.to_owned());
    }
    Err(match nearest(text, ids.iter().copied()) {
        Some(near) => format!("is no gate, did you mean `{near}`?"),
        None => format!("is no gate, the gates are: {}", ids.join(", ")),
    })
}

/// What a host lays out; `.env` is shared by every application.
fn layout(shared: Vec<(EntryPath, bool)>, writable_dirs: Vec<EntryPath>) -> Layout {
    let (dirs, files): (Vec<_>, Vec<_>) = shared.into_iter().partition(|(_, folder)| *folder);
    let paths = |list: Vec<(EntryPath, bool)>| list.into_iter().map(|(path, _)| path);
    let mut shared_files: Vec<EntryPath> = paths(files).collect();
    if !shared_files.iter().any(|path| path.as_bytes() == b".env") {
        shared_files.push(fixed(".env"));
    }
    Layout {
        shared_files,
        shared_dirs: paths(dirs).collect(),
        writable_dirs,
    }
}

fn fixed(path: &str) -> EntryPath {
    EntryPath::new(path).expect("the paths in this file are valid")
}

/// Where the store of an app is when nobody says; `None` when no home folder is known either.
fn default_store(app: &str, variables: &Variables) -> Option<PathBuf> {
    let absolute = |name| {
        variables
            .get(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    let data = absolute("XDG_DATA_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local/share")))?;
    Some(data.join("relstore").join(app))
}

struct Resolver<'a> {
    variables: &'a Variables,
    folder: &'a Path,
    problems: Vec<Problem>,
    /// Problems that count only when the environment is used.
    undefined: Vec<Problem>,
}

impl Resolver<'_> {
    fn problem(&mut self, place: Option<Place>, key: &str, message: impl Into<String>) {
        self.problems.push(Problem::new(place, key, message));
    }

    /// The value with its variables replaced.
    fn text(&mut self, key: &str, raw: Option<&Placed<String>>) -> Option<Placed<String>> {
        let raw = raw?;
        match expand(&raw.value, self.variables) {
            Ok(value) => Some(Placed {
                value,
                place: raw.place,
            }),
            Err(ExpandError::Undefined(name)) => {
                let message = format!("the environment variable {name} is not set");
                self.undefined
                    .push(Problem::new(Some(raw.place), key, message));
                None
            }
            Err(ExpandError::Malformed) => {
                self.problem(Some(raw.place), key, "`${` must be followed by a variable name and `}` (write `$${` for a plain `${`)");
                None
            }
        }
    }

    /// The value when it passes the check. The message quotes what the file says, never what a
    /// variable brought in: that may be a secret.
    fn checked<T>(
        &mut self,
        key: &str,
        raw: Option<&Placed<String>>,
        check: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        let text = self.text(key, raw)?;
        match check(&text.value) {
            Ok(value) => Some(value),
            Err(message) => {
                let written = raw.map(|raw| raw.value.as_str()).unwrap_or_default();
                self.problem(Some(text.place), key, format!("{written:?} {message}"));
                None
            }
        }
    }

    fn list<T>(
        &mut self,
        key: &str,
        raw: Option<&Placed<Vec<Placed<String>>>>,
        check: impl Fn(&str) -> Result<T, String>,
    ) -> Option<Vec<T>> {
        let values = &raw?.value;
        let checked = values.iter().enumerate().filter_map(|(index, value)| {
            self.checked(&format!("{key}[{index}]"), Some(value), &check)
        });
        Some(checked.collect())
    }

    fn number(&mut self, key: &str, raw: Option<&Placed<i64>>, default: u32) -> u32 {
        let Some(raw) = raw else { return default };
        match u32::try_from(raw.value) {
            Ok(number @ 1..=1000) => number,
            _ => {
                self.problem(Some(raw.place), key, "must be a number from 1 to 1000");
                default
            }
        }
    }

    fn environment_variables(
        &mut self,
        key: &str,
        raw: &BTreeMap<String, Placed<String>>,
    ) -> BTreeMap<String, String> {
        let mut variables = BTreeMap::new();
        for (name, value) in raw {
            let key = format!("{key}.{name}");
            if !is_name(name) {
                self.problem(
                    Some(value.place),
                    &key,
                    "is no name of an environment variable",
                );
            }
            if let Some(text) = self.text(&key, Some(value)) {
                variables.insert(name.clone(), text.value);
            }
        }
        variables
    }

    /// A path of this machine: `~/` is the home folder, anything else relative to the file.
    fn path(&self, text: &str) -> PathBuf {
        match (text.strip_prefix("~/"), self.variables.get("HOME")) {
            (Some(rest), Some(home)) => Path::new(home).join(rest),
            _ => self.folder.join(text),
        }
    }

    /// The section with all that it inherits; `None` (noted) for an unknown parent or a circle.
    fn inherited(
        &mut self,
        name: &str,
        section: &RawEnvironment,
        all: &BTreeMap<String, RawEnvironment>,
    ) -> Option<RawEnvironment> {
        let mut merged = section.clone();
        let mut seen = BTreeSet::from([name.to_owned()]);
        let mut extends = section.extends.clone();
        while let Some(parent) = extends {
            let key = format!("env.{name}.extends");
            let Some(section) = all.get(&parent.value) else {
                let near = nearest(&parent.value, all.keys().map(String::as_str));
                let near = near
                    .map(|near| format!(", did you mean `{near}`?"))
                    .unwrap_or_default();
                self.problem(
                    Some(parent.place),
                    &key,
                    format!("there is no [env.{}]{near}", parent.value),
                );
                return None;
            };
            if !seen.insert(parent.value.clone()) {
                self.problem(
                    Some(parent.place),
                    &key,
                    "the environments extend each other in a circle",
                );
                return None;
            }
            merged = merged.or(section.clone());
            extends = section.extends.clone();
        }
        Some(merged)
    }

    fn environment(
        &mut self,
        name: &str,
        section: &RawEnvironment,
        all: &BTreeMap<String, RawEnvironment>,
    ) -> Option<Environment> {
        let key = |field: &str| format!("env.{name}.{field}");
        if let Err(message) = value::name(name) {
            self.problem(
                section.place,
                &format!("env.{name}"),
                format!("the name {message}"),
            );
        }
        let raw = self.inherited(name, section, all)?;
        let transport = self.checked(
            &key("transport"),
            raw.transport.as_ref(),
            |text| match text {
                "ssh" => Ok(Transport::Ssh),
                "local" => Ok(Transport::Local),
                _ => Err("must be \"ssh\" or \"local\"".to_owned()),
            },
        );
        let transport = transport.unwrap_or(Transport::Ssh);
        let hosts = self
            .list(&key("hosts"), raw.hosts.as_ref(), HostAddress::parse)
            .unwrap_or_default();
        self.check_hosts(&key("hosts"), &raw, transport, &hosts, is_parent(name, all));
        let base = self.checked(&key("base"), raw.base.as_ref(), value::base);
        if raw.base.is_none() {
            self.missing(
                &raw,
                &key("base"),
                "is missing, it is the folder on the host",
                is_parent(name, all),
            );
        }
        let url = self.checked(&key("url"), raw.url.as_ref(), value::url);
        let health: Vec<Health> = raw
            .health
            .iter()
            .flatten()
            .filter_map(|entry| self.health(entry))
            .collect();
        if !health.is_empty() && raw.url.is_none() {
            self.missing(
                &raw,
                &key("url"),
                "is missing, health requests need it",
                is_parent(name, all),
            );
        }
        let migrate = self.checked(&key("migrate"), raw.migrate.as_ref(), |text| match text {
            "run" => Ok(Migrate::Run),
            "off" => Ok(Migrate::Off),
            _ => Err("must be \"run\" or \"off\"".to_owned()),
        });
        let environment = Environment {
            name: name.to_owned(),
            transport,
            hosts,
            base: base.unwrap_or_default(),
            url,
            dotenv: self
                .checked(&key("dotenv"), raw.dotenv.as_ref(), value::inner_path)
                .unwrap_or_else(|| "shared/.env".to_owned()),
            web_group: self
                .checked(&key("web_group"), raw.web_group.as_ref(), value::name)
                .unwrap_or_else(|| "www-data".to_owned()),
            php: self
                .checked(&key("php"), raw.php.as_ref(), program)
                .unwrap_or_else(|| "php".to_owned()),
            reload: self
                .list(&key("reload"), raw.reload.as_ref(), value::command)
                .unwrap_or_default(),
            migrate: migrate.unwrap_or(Migrate::Off),
            keep: self.number(&key("keep"), raw.keep.as_ref(), 5),
            timeout: self
                .checked(&key("timeout"), raw.timeout.as_ref(), value::duration)
                .unwrap_or(std::time::Duration::from_secs(600)),
            identity_file: self
                .text(&key("identity_file"), raw.identity_file.as_ref())
                .map(|p| self.path(&p.value)),
            known_hosts: self
                .text(&key("known_hosts"), raw.known_hosts.as_ref())
                .map(|p| self.path(&p.value)),
            health,
            health_attempts: self.number(&key("health_attempts"), raw.health_attempts.as_ref(), 6),
            health_interval: self
                .checked(
                    &key("health_interval"),
                    raw.health_interval.as_ref(),
                    value::duration,
                )
                .unwrap_or(std::time::Duration::from_secs(5)),
        };
        (self.problems.is_empty() && self.undefined.is_empty()).then_some(environment)
    }

    fn check_hosts(
        &mut self,
        key: &str,
        raw: &RawEnvironment,
        transport: Transport,
        hosts: &[HostAddress],
        parent: bool,
    ) {
        let place = raw.hosts.as_ref().map(|hosts| hosts.place);
        let written = raw.hosts.as_ref().map_or(0, |hosts| hosts.value.len());
        match transport {
            Transport::Ssh if written == 0 => self.missing(
                raw,
                key,
                "is missing or empty, write hosts = [\"user@host\"]",
                parent,
            ),
            Transport::Local if written > 0 => self.problem(
                place,
                key,
                "transport \"local\" is this machine, it has no hosts",
            ),
            _ => {}
        }
        let distinct: BTreeSet<_> = hosts.iter().collect();
        if distinct.len() < hosts.len() {
            self.problem(place, key, "names a host twice");
        }
    }

    /// Notes a key that is missing; in a section that others extend only when it is used itself.
    fn missing(&mut self, raw: &RawEnvironment, key: &str, message: &str, parent: bool) {
        let problem = Problem::new(raw.place, key, message);
        if parent {
            self.undefined.push(problem);
        } else {
            self.problems.push(problem);
        }
    }

    fn health(&mut self, raw: &RawHealth) -> Option<Health> {
        let path = self.checked(
            &format!("{}.path", raw.key),
            raw.path.as_ref(),
            value::url_path,
        );
        let bearer = match &raw.bearer {
            None => None,
            Some(RawSecret::Variable(name)) => {
                let check = |text: &str| {
                    if is_name(text) {
                        Ok(text.to_owned())
                    } else {
                        Err("is no name of an environment variable".to_owned())
                    }
                };
                self.checked(&format!("{}.bearer.env", raw.key), Some(name), check)
                    .map(SecretRef::Variable)
            }
            Some(RawSecret::File(file)) => {
                let text = self.text(&format!("{}.bearer.file", raw.key), Some(file));
                text.map(|text| SecretRef::File(self.path(&text.value)))
            }
        };
        Some(Health {
            path: path?,
            bearer,
        })
    }
}

/// Whether another environment extends this one.
fn is_parent(name: &str, all: &BTreeMap<String, RawEnvironment>) -> bool {
    all.values().any(|other| {
        other
            .extends
            .as_ref()
            .is_some_and(|parent| parent.value == name)
    })
}

/// A program: a name or an absolute path of plain characters, since hosts run it.
fn program(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '/' | '-' | '+');
    if text.is_empty() || text.starts_with('-') || !text.chars().all(plain) {
        return Err("must be a program name or path of A-Z a-z 0-9 . _ - + /".to_owned());
    }
    Ok(text.to_owned())
}
