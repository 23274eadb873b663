//! JavaScript: the package managers, Vite and Laravel Mix.
//!
//! Why each setting of `mix` is there:
//! - webpack by node: Mix's own program starts it through a shell and a search path that only npm
//!   sets up. NODE_OPTIONS, which that program sets for old versions of webpack on Node 17 and 18,
//!   can be declared for the build.
//! - npm_config_offline: Mix installs a loader that it misses on its own, in whatever version is
//!   the newest. That fails instead, and the alarm is for packages that npm still has in its cache.
//! - DISABLE_NOTIFICATIONS: it would open a window on the desktop.
//! - All of `public` is its output: Mix writes where webpack.mix.js says, mostly into `public/js`
//!   and `public/css`, beside and over files of the source.
//!
//! Why each setting of `pnpm` is there:
//! - package-import-method: copies, not hard links into its cache; nothing outside the build may
//!   share its files.
//! - extend-node-path: its programs would hold the path of the folder in which they were installed.
//! - Its notes about the installation name its cache and the time, so they are removed.
//!
//! Of all: no install scripts, which may do anything; development packages, since build tools are
//! among them, whatever NODE_ENV says.

use super::{LARAVEL_WRITES, blank, changed, command, dummy_environment, fresh, variables};
use crate::plan::Facts;
use crate::step::{Alarm, CommandLine, Inputs, Output, Step, Tool};

/// Where Vite, webpack and their plugins keep notes, and where plugins of Laravel's starter kits
/// write code that they make anew at every build.
const NOTES: [&str; 6] = [
    "node_modules/.cache",
    "node_modules/.vite",
    "node_modules/.vite-temp",
    "resources/js/actions",
    "resources/js/routes",
    "resources/js/wayfinder",
];

/// Removes what pnpm 9 and 10 note about an installation; nothing but pnpm reads it.
const WITHOUT_NOTES: &str = "for (const name of ['.modules.yaml', '.pnpm-workspace-state.json', '.pnpm-workspace-state-v1.json']) require('fs').rmSync('node_modules/' + name, { force: true })";

fn packages(name: &str, manager: Tool, lock: &'static str, more: &[&str], line: &str) -> Step {
    let inputs = ["package.json", lock, ".npmrc"];
    Step {
        commands: vec![command(line)],
        tools: [Tool::Node, manager].into(),
        inputs: Inputs::only(inputs.into_iter().chain(more.iter().copied())),
        files: vec!["package.json", lock],
        // A project without packages has none; what a step needs of them it names itself.
        outputs: vec![Output {
            optional: true,
            ..fresh("node_modules")
        }],
        network: true,
        released: false,
        ..blank(name)
    }
}

/// Local packages and workspaces, by what package.json says; their folders are inputs.
fn local_packages(facts: &Facts) -> Vec<String> {
    let json: serde_json::Value = facts
        .package_json
        .as_deref()
        .and_then(|text| serde_json::from_slice(text).ok())
        .unwrap_or_default();
    let mut found = Vec::new();
    let workspaces = match &json["workspaces"] {
        serde_json::Value::Object(map) => map.get("packages"),
        other => Some(other),
    };
    let patterns = workspaces.and_then(serde_json::Value::as_array);
    for pattern in patterns.into_iter().flatten().filter_map(|p| p.as_str()) {
        found.push(pattern.to_owned());
    }
    for kind in ["dependencies", "devDependencies", "optionalDependencies"] {
        let dependencies = json[kind].as_object().into_iter().flatten();
        for text in dependencies.filter_map(|(_, value)| value.as_str()) {
            let local = text.strip_prefix("file:").or(text.strip_prefix("link:"));
            found.extend(local.map(str::to_owned));
        }
    }
    let plain = |path: &String| {
        let path = path
            .trim_start_matches("./")
            .trim_end_matches("/**")
            .trim_end_matches('/');
        path.to_owned()
    };
    let wrong = |path: &String| {
        path.is_empty()
            || path.starts_with(['/', '!'])
            || path.contains("..")
            || path.contains("**")
    };
    found.retain(|path| !wrong(&plain(path)));
    found.iter().map(plain).filter(|path| path != "*").collect()
}

fn with_local(mut step: Step, facts: &Facts) -> Step {
    step.inputs
        .only
        .get_or_insert_default()
        .extend(local_packages(facts));
    step
}

pub(crate) fn npm(facts: &Facts) -> Step {
    let line = "npm ci --include=dev --ignore-scripts --no-audit --no-fund --no-update-notifier";
    with_local(
        packages("npm", Tool::Npm, "package-lock.json", &[], line),
        facts,
    )
}

pub(crate) fn pnpm(facts: &Facts) -> Step {
    let line = "pnpm install --frozen-lockfile --prod=false --ignore-scripts --package-import-method=copy --config.extend-node-path=false --reporter=append-only";
    let more = ["pnpm-workspace.yaml", ".pnpmfile.cjs", "patches"];
    let mut step = packages("pnpm", Tool::Pnpm, "pnpm-lock.yaml", &more, line);
    step.commands
        .push(CommandLine::new(["node", "-e", WITHOUT_NOTES]));
    step.env = variables(&[("CI", "true"), ("COREPACK_ENABLE_DOWNLOAD_PROMPT", "0")]);
    with_local(step, facts)
}

pub(crate) fn yarn(facts: &Facts) -> Step {
    let more = [".yarnrc", ".yarnrc.yml", ".yarn"];
    let line = if facts.is_modern_yarn() {
        "yarn install --immutable --mode=skip-build"
    } else {
        "yarn install --frozen-lockfile --production=false --ignore-scripts --non-interactive --no-progress"
    };
    let mut step = packages("yarn", Tool::Yarn, "yarn.lock", &more, line);
    if facts.is_modern_yarn() {
        // Plug'n'Play would leave no node_modules, which Laravel's plugin looks into.
        step.env = variables(&[
            ("YARN_NODE_LINKER", "node-modules"),
            ("YARN_ENABLE_TELEMETRY", "0"),
            ("YARN_ENABLE_GLOBAL_CACHE", "true"),
        ]);
        step.scratch = vec![".yarn/install-state.gz".to_owned()];
    }
    with_local(step, facts)
}

fn assets(name: &str, package: &'static str, outputs: Vec<Output>) -> Step {
    let mut env = dummy_environment();
    env.insert("NODE_ENV".to_owned(), "production".to_owned());
    Step {
        // By node, not npx: npx looks for packages elsewhere when they are not installed.
        tools: [Tool::Node].into(),
        files: vec!["package.json"],
        packages: vec![package],
        outputs,
        scratch: LARAVEL_WRITES
            .iter()
            .chain(&NOTES)
            .map(|&path| path.to_owned())
            .collect(),
        env,
        ..blank(name)
    }
}

pub(crate) fn vite() -> Step {
    Step {
        commands: vec![command("node node_modules/vite/bin/vite.js build")],
        ..assets("vite", "vite", vec![fresh("public/build")])
    }
}

pub(crate) fn mix() -> Step {
    let mut manifest = changed("public/mix-manifest.json", false);
    manifest.fresh = true;
    let mut step = assets(
        "mix",
        "laravel-mix",
        vec![manifest, changed("public", false)],
    );
    step.commands = vec![command(
        "node node_modules/webpack/bin/webpack.js --config=node_modules/laravel-mix/setup/webpack.config.js",
    )];
    step.env.extend(variables(&[
        ("DISABLE_NOTIFICATIONS", "1"),
        ("npm_config_offline", "true"),
    ]));
    step.alarms = &[Alarm {
        needle: "Additional dependencies must be installed",
        reason: "Laravel Mix installed packages that package-lock.json does not name",
        hint: "run Mix once on your machine, and commit package.json and package-lock.json",
    }];
    step
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workspaces_and_local_packages_are_inputs() {
        let facts = Facts {
            package_json: Some(
                br#"{"workspaces":["packages/*","../out","./ui/**"],"dependencies":{"a":"file:./libs/a","b":"^1"}}"#
                    .to_vec(),
            ),
            ..Facts::default()
        };
        assert_eq!(local_packages(&facts), ["packages/*", "ui", "libs/a"]);
        assert!(local_packages(&Facts::default()).is_empty());
    }
}
