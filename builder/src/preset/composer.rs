//! Composer in two steps: `composer` installs the packages of the lock, `autoload` makes the
//! optimised autoloader and runs the scripts. So a changed class does not install anything, and
//! the class map never misses one.
//!
//! Why each setting is there:
//! - `autoloader-suffix` (in COMPOSER_HOME's config.json, written by the private folder): Composer
//!   names a class of vendor/autoload.php after a random number otherwise.
//! - COMPOSER_ROOT_VERSION: installed.php would name the branch and commit of any repository
//!   around the private folder.
//! - An empty `vendor` to begin with: the suffix of an old vendor/autoload.php is kept.
//! - COMPOSER_MIRROR_PATH_REPOS: packages of `path` repositories are copied; a link would point to
//!   a folder that is no part of the release.
//! - `apcu-autoloader` gets a prefix made of the inputs' hash: Composer's own is random, and a fixed
//!   one would find classes of the release before in the cache that PHP processes share.
//! - The scripts get an environment in which the application boots without its `.env`
//!   (`dummy_environment` beside this); package discovery fails otherwise.

use serde_json::Value;

use super::{LARAVEL_WRITES, blank, changed, command, dummy_environment, fresh, variables};
use crate::plan::{Facts, PlanError};
use crate::step::{Alarm, CommandLine, INPUTS_PLACEHOLDER, Inputs, Step, Tool};

const ALARMS: [Alarm; 2] = [
    Alarm {
        needle: "Ambiguous class resolution",
        reason: "a class is defined in two files, which one is loaded would depend on the file system",
        hint: "remove one of the two, or name its folder in composer.json under autoload.exclude-from-classmap",
    },
    Alarm {
        needle: "lock file is not up to date",
        reason: "composer.lock is older than composer.json",
        hint: "`composer update --lock`, and commit composer.lock",
    },
];

/// What no PHP code is loaded from: a change there makes no other autoloader.
const NOT_PHP: [&str; 21] = [
    "**/*.css",
    "**/*.md",
    "**/*.scss",
    ".npmrc",
    "package-lock.json",
    "package.json",
    "pnpm-lock.yaml",
    "pnpm-workspace.yaml",
    "postcss.config.*",
    "public",
    "resources/css",
    "resources/images",
    "resources/js",
    "resources/sass",
    "resources/ts",
    "resources/views",
    "tailwind.config.*",
    "tests",
    "tsconfig.json",
    "vite.config.*",
    "yarn.lock",
];

/// The step that installs packages; `dev` for a tree in which checks run.
pub(crate) fn install(facts: &Facts, dev: bool) -> Result<Step, PlanError> {
    let json = parse(facts)?;
    let mut line = "composer install --no-autoloader --no-scripts --prefer-dist --no-interaction --no-ansi --no-progress".to_owned();
    if !dev {
        line.push_str(" --no-dev");
    }
    Ok(Step {
        commands: vec![
            // `install` only warns about an old lock file, and installs what nobody asked for.
            command(
                "composer validate --no-check-all --no-check-publish --no-interaction --no-ansi",
            ),
            command(&line),
        ],
        tools: [Tool::Php, Tool::Composer].into(),
        // Two at a time fall over each other making folders of the cache.
        after: dev.then(|| "composer".to_owned()).into_iter().collect(),
        inputs: install_inputs(&json, facts),
        files: vec!["composer.json", "composer.lock"],
        outputs: vec![fresh("vendor")],
        env: settings(),
        network: true,
        alarms: &ALARMS,
        released: !dev,
        ..blank(if dev { "composer-dev" } else { "composer" })
    })
}

/// The step that makes the autoloader.
pub(crate) fn autoload(facts: &Facts, dev: bool) -> Result<Step, PlanError> {
    let json = parse(facts)?;
    let mut line = "composer dump-autoload --optimize --no-interaction --no-ansi".to_owned();
    let mut scripts = "composer run-script --no-interaction --no-ansi".to_owned();
    if !dev {
        line.push_str(" --no-dev");
        scripts.push_str(" --no-dev");
    }
    let mut dump = command(&line);
    if json["config"]["apcu-autoloader"] == Value::Bool(true) {
        dump.args
            .push(format!("--apcu-prefix={INPUTS_PLACEHOLDER}"));
    }
    let mut commands = vec![dump];
    if json["scripts"].get("post-install-cmd").is_some() {
        let mut line: CommandLine = command(&scripts);
        line.args.push("post-install-cmd".to_owned());
        commands.push(line);
    }
    let mut env = dummy_environment();
    env.extend(settings());
    let (name, needed) = match dev {
        true => ("autoload-dev", "composer-dev"),
        false => ("autoload", "composer"),
    };
    let without = NOT_PHP.iter().filter(|&&path| !(dev && path == "tests"));
    let mut inputs = Inputs::without(without.copied());
    // Mirrored already, but composer.json still names them.
    inputs.outside = install_inputs(&json, facts).outside;
    Ok(Step {
        commands,
        tools: [Tool::Php, Tool::Composer].into(),
        needs: vec![needed.to_owned()],
        inputs,
        files: vec!["composer.json", "composer.lock"],
        outputs: vec![
            changed("vendor/autoload.php", false),
            changed("vendor/composer", false),
            changed("bootstrap/cache", true),
        ],
        scratch: LARAVEL_WRITES.map(str::to_owned).to_vec(),
        env,
        alarms: &ALARMS,
        released: !dev,
        ..blank(name)
    })
}

fn settings() -> std::collections::BTreeMap<String, String> {
    variables(&[
        ("COMPOSER_ALLOW_SUPERUSER", "1"),
        ("COMPOSER_FUND", "0"),
        ("COMPOSER_MIRROR_PATH_REPOS", "1"),
        ("COMPOSER_NO_AUDIT", "1"),
        ("COMPOSER_NO_INTERACTION", "1"),
        ("COMPOSER_ROOT_VERSION", "1.0.0"),
    ])
}

fn parse(facts: &Facts) -> Result<Value, PlanError> {
    let text = facts.composer_json.as_deref().unwrap_or(b"{}");
    serde_json::from_slice(text).map_err(|error| PlanError::ComposerJson {
        why: error.to_string(),
    })
}

/// composer.json, the lock, and the local files that they refer to: packages of `path` and
/// `artifact` repositories, patches.
fn install_inputs(json: &Value, facts: &Facts) -> Inputs {
    let mut inputs = Inputs::only(["composer.json", "composer.lock"]);
    let mut local: Vec<String> = Vec::new();
    let repositories = match &json["repositories"] {
        Value::Array(list) => list.iter().collect(),
        Value::Object(map) => map.values().collect(),
        _ => Vec::new(),
    };
    for repository in repositories {
        if let (Some("path" | "artifact"), Some(url)) =
            (repository["type"].as_str(), repository["url"].as_str())
        {
            local.push(url.to_owned());
        }
    }
    // Those of cweagans/composer-patches, which is what people patch packages with.
    strings(&json["extra"]["patches"], &mut local);
    strings(&json["extra"]["patches-file"], &mut local);
    local.push("patches".to_owned());
    local.push("patches.json".to_owned());
    for path in local {
        match located(&path, &facts.root) {
            Some(Place::Inside(path)) => inputs.only.get_or_insert_default().push(path),
            Some(Place::Outside(path)) => inputs.outside.push(path),
            None => {}
        }
    }
    inputs
}

/// All strings of a value; of an object the values, not the names.
fn strings(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::String(text) => found.push(text.clone()),
        Value::Array(list) => list.iter().for_each(|value| strings(value, found)),
        Value::Object(map) => map.values().for_each(|value| strings(value, found)),
        _ => {}
    }
}

enum Place {
    /// From the application's folder.
    Inside(String),
    /// From the top of the source.
    Outside(String),
}

/// Where in the source a relative path of composer.json lies. `None` for addresses, absolute paths
/// and what leaves the source. A pattern ends before its first name with a wildcard that patterns
/// of relstore do not have.
fn located(path: &str, root: &str) -> Option<Place> {
    if path.starts_with(['/', '~', '$']) || path.contains("://") {
        return None;
    }
    let mut names: Vec<&str> = root.split('/').filter(|name| !name.is_empty()).collect();
    let depth = names.len();
    for name in path.split('/') {
        match name {
            "" | "." => {}
            ".." => {
                names.pop()?;
            }
            name if name.contains("**") || name.contains(['{', '[', '?']) => break,
            name => names.push(name),
        }
    }
    let inside = names.len() >= depth
        && names[..depth]
            .iter()
            .copied()
            .eq(root.split('/').filter(|name| !name.is_empty()));
    let chosen = if inside { &names[depth..] } else { &names[..] };
    // The whole of the application or of the source: no pattern says that.
    if chosen.iter().all(|name| *name == "*") {
        return None;
    }
    let text = chosen.join("/");
    Some(if inside {
        Place::Inside(text)
    } else {
        Place::Outside(text)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn facts(json: &str, root: &str) -> Facts {
        Facts {
            composer_json: Some(json.as_bytes().to_vec()),
            root: root.to_owned(),
            ..Facts::default()
        }
    }

    #[test]
    fn local_repositories_and_patches_are_inputs() {
        let json = r#"{"repositories":[{"type":"path","url":"../../packages/*"},{"type":"path","url":"./modules/*/"},
            {"type":"artifact","url":"zips"},{"type":"vcs","url":"https://x.example/y"},{"packagist.org":false}],
            "extra":{"patches":{"a/b":{"fix":"fixes/a.patch","far":"https://x.example/p"}}}}"#;
        let step = install(&facts(json, "apps/api"), false).unwrap();
        let only = step.inputs.only.unwrap();
        for path in [
            "composer.json",
            "modules/*",
            "zips",
            "fixes/a.patch",
            "patches",
        ] {
            assert!(only.iter().any(|known| known == path), "{path}: {only:?}");
        }
        assert_eq!(step.inputs.outside, ["packages/*"]);
        assert!(only.iter().all(|path| !path.contains("x.example")));
    }

    #[test]
    fn paths_that_leave_the_source_or_name_all_of_it_are_no_inputs() {
        for url in ["../../../x", "/abs", "~/x", "../..", "*", "./"] {
            let json = format!(r#"{{"repositories":{{"a":{{"type":"path","url":"{url}"}}}}}}"#);
            let step = install(&facts(&json, "apps/api"), false).unwrap();
            assert!(step.inputs.outside.is_empty(), "{url}");
            assert_eq!(step.inputs.only.unwrap().len(), 4, "{url}");
        }
    }

    #[test]
    fn apcu_prefix_is_the_hash_of_what_the_autoloader_is_made_from() {
        let plain = autoload(&facts("{}", ""), false).unwrap();
        let apcu = autoload(&facts(r#"{"config":{"apcu-autoloader":true}}"#, ""), false).unwrap();
        let prefix = "--apcu-prefix={inputs}";
        assert!(!plain.commands[0].args.iter().any(|arg| arg == prefix));
        assert!(apcu.commands[0].args.iter().any(|arg| arg == prefix));
    }

    #[test]
    fn scripts_after_an_install_run_when_there_are_some() {
        let none = autoload(&facts("{}", ""), false).unwrap();
        let some = r#"{"scripts":{"post-install-cmd":["@php artisan x"]}}"#;
        let some = autoload(&facts(some, ""), false).unwrap();
        assert_eq!((none.commands.len(), some.commands.len()), (1, 2));
    }

    #[test]
    fn a_broken_composer_json_is_told() {
        assert!(matches!(
            install(&facts("{", ""), false),
            Err(PlanError::ComposerJson { .. })
        ));
    }
}
