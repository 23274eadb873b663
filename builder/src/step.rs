//! Steps: which commands make what a release has beside its source, with the settings that make
//! their output the same everywhere. Pure; [`crate::plan`] orders them.
//!
//! Why each setting of `composer` is there:
//! - `autoloader-suffix` (in COMPOSER_HOME's config.json, written by the private folder): Composer
//!   names a class of vendor/autoload.php after a random number otherwise.
//! - COMPOSER_ROOT_VERSION: installed.php would name the branch and commit of any repository
//!   around the private folder.
//! - An empty `vendor` (see [`Step::outputs`]): the suffix of an old vendor/autoload.php is kept.
//! - `--no-scripts`: Laravel's own script writes bootstrap/cache/{packages,services}.php, which
//!   hosts make anew; other scripts boot the application without its `.env`. What a script
//!   publishes into public/ has to be committed. Plugins do run where composer.json allows them:
//!   they decide what is installed, and where.
//! - COMPOSER_MIRROR_PATH_REPOS: packages of `path` repositories are copied; a link would point to
//!   a folder that may be excluded.
//!
//! And of `mix`:
//! - webpack by node: Mix's own program starts it through a shell and a search path that only npm
//!   sets up. NODE_OPTIONS, which that program sets for old versions of webpack on Node 17 and 18,
//!   can be declared for the build.
//! - npm_config_offline: Mix installs a loader that it misses on its own, in whatever version is
//!   the newest. That fails instead, and the alarm is for packages that npm still has in its cache.
//! - DISABLE_NOTIFICATIONS: it would open a window on the desktop.
//! - Only the manifest is an output: Mix writes where webpack.mix.js says, mostly into `public/js`
//!   and `public/css`, beside files that were written by hand. It overwrites copies in the source.

use std::collections::BTreeMap;
use std::str::FromStr;

use crate::plan::PlanError;

/// Steps by name, as a configuration lists them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Preset {
    /// PHP packages and the optimised autoloader, into `vendor`.
    Composer,
    /// JavaScript packages for other steps, into `node_modules`, which is not released.
    Npm,
    /// Scripts and styles, into `public/build`; brings `npm` along.
    Vite,
    /// Scripts and styles of Laravel Mix 6, below `public`; brings `npm` along.
    Mix,
}

impl Preset {
    /// All presets in the order in which they run.
    pub const ALL: [Self; 4] = [Self::Composer, Self::Npm, Self::Vite, Self::Mix];

    /// The name in a configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Composer => "composer",
            Self::Npm => "npm",
            Self::Vite => "vite",
            Self::Mix => "mix",
        }
    }

    /// The presets whose output this one needs.
    #[must_use]
    pub const fn needs(self) -> &'static [Self] {
        match self {
            Self::Composer | Self::Npm => &[],
            Self::Vite | Self::Mix => &[Self::Npm],
        }
    }

    /// How many other presets have to be done first: equal ones run at the same time. Vite
    /// and Mix are after Composer because their plugins may call artisan and read `vendor`.
    #[must_use]
    pub(crate) const fn stage(self) -> usize {
        match self {
            Self::Composer | Self::Npm => 0,
            Self::Vite | Self::Mix => 1,
        }
    }

    /// The step.
    #[must_use]
    pub fn step(self) -> Step {
        match self {
            Self::Composer => composer(),
            Self::Npm => npm(),
            Self::Vite => vite(),
            Self::Mix => mix(),
        }
    }
}

impl FromStr for Preset {
    type Err = PlanError;
    fn from_str(text: &str) -> Result<Self, PlanError> {
        let found = Self::ALL.into_iter().find(|preset| preset.name() == text);
        found.ok_or_else(|| PlanError::UnknownStep {
            name: text.to_owned(),
        })
    }
}

/// One program with its arguments; nothing in it depends on a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandLine {
    /// Name, looked for in the search path.
    pub program: &'static str,
    /// Arguments.
    pub args: &'static [&'static str],
}

impl CommandLine {
    /// As people would type it (no argument of a preset needs quotes).
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = self.program.to_owned();
        for arg in self.args {
            text.push(' ');
            text.push_str(arg);
        }
        text
    }
}

/// Text in a command's output that makes its result unusable although it ended with success.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alarm {
    /// What a line contains.
    pub needle: &'static str,
    /// What that means.
    pub reason: &'static str,
    /// What to do about it.
    pub hint: &'static str,
}

/// A part of a build: commands, what they read and make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Its name.
    pub name: &'static str,
    /// Run one after another in the private copy of the source.
    pub commands: Vec<CommandLine>,
    /// Programs whose version says what the output depends on: name and the arguments that ask.
    pub tools: Vec<CommandLine>,
    /// Files of the source without which it cannot run.
    pub files: &'static [&'static str],
    /// npm packages without which it cannot run; there after the steps before it.
    pub packages: &'static [&'static str],
    /// Paths it makes; copies of them in the source are not used.
    pub outputs: &'static [&'static str],
    /// Its environment, beside what every step has.
    pub env: BTreeMap<String, String>,
    /// Whether it may use the network.
    pub network: bool,
    /// What its output must not say.
    pub alarms: &'static [Alarm],
}

fn variables(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    let owned = |&(name, value): &(&str, &str)| (name.to_owned(), value.to_owned());
    pairs.iter().map(owned).collect()
}

const PHP: CommandLine = CommandLine {
    program: "php",
    args: &["-r", "echo PHP_VERSION;"],
};
const NODE: CommandLine = CommandLine {
    program: "node",
    args: &["--version"],
};

fn composer() -> Step {
    Step {
        name: "composer",
        commands: vec![
            // `install` only warns about an old lock file, and installs what nobody asked for.
            CommandLine {
                program: "composer",
                args: &[
                    "validate",
                    "--no-check-all",
                    "--no-check-publish",
                    "--no-interaction",
                    "--no-ansi",
                ],
            },
            CommandLine {
                program: "composer",
                args: &[
                    "install",
                    "--no-dev",
                    "--no-scripts",
                    "--optimize-autoloader",
                    "--prefer-dist",
                    "--no-interaction",
                    "--no-ansi",
                    "--no-progress",
                ],
            },
        ],
        tools: vec![
            PHP,
            CommandLine {
                program: "composer",
                args: &["--version", "--no-ansi"],
            },
        ],
        files: &["composer.json", "composer.lock"],
        packages: &[],
        outputs: &["vendor"],
        env: variables(&[
            ("COMPOSER_ALLOW_SUPERUSER", "1"),
            ("COMPOSER_FUND", "0"),
            ("COMPOSER_MIRROR_PATH_REPOS", "1"),
            ("COMPOSER_NO_AUDIT", "1"),
            ("COMPOSER_NO_INTERACTION", "1"),
            ("COMPOSER_ROOT_VERSION", "1.0.0"),
        ]),
        network: true,
        alarms: &[
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
        ],
    }
}

fn npm() -> Step {
    Step {
        name: "npm",
        commands: vec![CommandLine {
            program: "npm",
            // Build tools are development packages, whatever NODE_ENV says.
            args: &[
                "ci",
                "--include=dev",
                "--ignore-scripts",
                "--no-audit",
                "--no-fund",
                "--no-update-notifier",
            ],
        }],
        tools: vec![
            NODE,
            CommandLine {
                program: "npm",
                args: &["--version"],
            },
        ],
        files: &["package.json", "package-lock.json"],
        packages: &[],
        outputs: &["node_modules"],
        env: BTreeMap::new(),
        network: true,
        alarms: &[],
    }
}

fn vite() -> Step {
    Step {
        name: "vite",
        commands: vec![CommandLine {
            // By node, not npx: npx looks for packages elsewhere when they are not installed.
            program: "node",
            args: &["node_modules/vite/bin/vite.js", "build"],
        }],
        tools: vec![NODE],
        files: &["package.json"],
        packages: &["vite"],
        outputs: &["public/build"],
        env: variables(&[("NODE_ENV", "production")]),
        network: false,
        alarms: &[],
    }
}

fn mix() -> Step {
    Step {
        name: "mix",
        commands: vec![CommandLine {
            program: "node",
            args: &[
                "node_modules/webpack/bin/webpack.js",
                "--config=node_modules/laravel-mix/setup/webpack.config.js",
            ],
        }],
        tools: vec![NODE],
        files: &["package.json"],
        packages: &["laravel-mix"],
        outputs: &["public/mix-manifest.json"],
        env: variables(&[
            ("DISABLE_NOTIFICATIONS", "1"),
            ("NODE_ENV", "production"),
            ("npm_config_offline", "true"),
        ]),
        network: false,
        alarms: &[Alarm {
            needle: "Additional dependencies must be installed",
            reason: "Laravel Mix installed packages that package-lock.json does not name",
            hint: "run Mix once on your machine, and commit package.json and package-lock.json",
        }],
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_parse_back_and_others_are_refused() {
        for preset in Preset::ALL {
            assert_eq!(preset.name().parse::<Preset>().unwrap(), preset);
            assert_eq!(preset.step().name, preset.name());
        }
        assert!("webpack".parse::<Preset>().is_err());
    }

    #[test]
    fn needed_presets_come_in_an_earlier_stage() {
        for preset in Preset::ALL {
            for needed in preset.needs() {
                assert!(needed.stage() < preset.stage());
            }
        }
    }
}
