//! What `relstore.toml` means: variables expanded, defaults filled in, values checked. Pure.
//!
//! A variable that is not set is a problem at once in the general part of the file. In an
//! `[env.NAME]` section it becomes one only when that environment is used, so that a build
//! machine needs none of the variables of production.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use relstore_builder::exclude::Excludes;
use relstore_builder::{Preset, StepSettings};
use relstore_store::import::Layout;
use relstore_store::name::EntryPath;

use super::problem::{Problem, nearest};
use super::raw::RawConfig;
use super::resolver::Resolver;
use super::value;
use super::variables::Variables;
use super::{Build, Config, Signing};

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
    let settings = general.steps(&raw.step);
    let named = |text: &str| step(text, &settings);
    let build = Build {
        root: general
            .checked("build.root", raw.root.as_ref(), value::inner_path)
            .unwrap_or_default(),
        steps: general
            .list("build.steps", raw.steps.as_ref(), named)
            .map_or_else(
                || vec![Preset::Composer, Preset::Vite],
                |steps| steps.into_iter().flatten().collect(),
            ),
        auth: general
            .list("build.auth", raw.auth.as_ref(), value::credentials)
            .unwrap_or_default(),
        sandbox: general
            .checked("build.sandbox", raw.sandbox.as_ref(), value::sandbox)
            .unwrap_or_default(),
        trusted_builders: general
            .text("build.trusted_builders", raw.trusted_builders.as_ref())
            .map(|path| general.path(&path.value)),
        env: general.environment_variables("build.env", &raw.build_env),
        exclude: general
            .list("build.exclude", raw.exclude.as_ref(), exclude)
            .unwrap_or_default(),
        settings,
    };
    let gates = general.gates(&raw.gates);
    let checks = raw
        .checks
        .iter()
        .filter_map(|check| general.check(check))
        .collect();
    let shared = general
        .list("shared.paths", raw.shared.as_ref(), value::shared_path)
        .unwrap_or_else(default_shared);
    let writable_dirs = general
        .list("writable.paths", raw.writable.as_ref(), value::entry_path)
        .unwrap_or_else(default_writable);
    let layout = layout(shared, writable_dirs);
    let mut store = general.store(&raw.store);
    let signing = Signing {
        key: general
            .text("signing.key", raw.signing_key.as_ref())
            .map(|path| general.path(&path.value)),
        allowed_signers: general
            .text("signing.allowed_signers", raw.allowed_signers.as_ref())
            .map(|path| general.path(&path.value)),
        revoked: general
            .text("signing.revoked", raw.revoked.as_ref())
            .map(|path| general.path(&path.value)),
    };
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
            store.path = store.path.or_else(|| default_store(&app, variables));
            Ok(Config {
                file: file.to_owned(),
                app,
                build,
                gates,
                checks,
                layout,
                store,
                signing,
                environments,
            })
        }
        _ => Err(problems),
    }
}

/// Checks the name of a build step: a preset, or (`None`) one that a section describes.
fn step(text: &str, settings: &BTreeMap<String, StepSettings>) -> Result<Option<Preset>, String> {
    if let Ok(preset) = text.parse() {
        return Ok(Some(preset));
    }
    if settings.contains_key(text) {
        return Ok(None);
    }
    let mut names: Vec<&str> = Preset::ALL.into_iter().map(Preset::name).collect();
    names.extend(settings.keys().map(String::as_str));
    Err(match nearest(text, names.iter().copied()) {
        Some(near) => format!("is no step, did you mean `{near}`?"),
        None => format!(
            "is no step, the steps are: {}; `[build.step.{text}]` describes one of your own",
            names.join(", ")
        ),
    })
}

/// Checks what is left out of a release.
pub(super) fn exclude(text: &str) -> Result<String, String> {
    let own = [text.to_owned()];
    match Excludes::of_release(&own) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(error.reason.to_owned()),
    }
}

fn default_shared() -> Vec<(EntryPath, bool)> {
    vec![(fixed("storage"), true)]
}

fn default_writable() -> Vec<EntryPath> {
    vec![fixed("bootstrap/cache")]
}

/// What a host lays out for an application whose configuration does not say it.
pub(crate) fn default_layout() -> Layout {
    layout(default_shared(), default_writable())
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
