//! The usual steps of a Laravel build, with the settings that make their output the same
//! everywhere. Pure: values from names and a look at the source.
//!
//! ```text
//! composer -> autoload -> artisan -> vite | mix
//! npm | pnpm | yarn ------------------^
//! ```

pub(crate) mod application;
pub(crate) mod artisan;
pub mod composer;
pub(crate) mod node;

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;

use relstore_store::name::EntryPath;

use crate::plan::{Facts, PlanError};
use crate::step::{CommandLine, Inputs, Output, Step};

/// Longest time one command of a step may take when nobody says: installing packages over a slow
/// line fits.
pub const TIME_LIMIT: Duration = Duration::from_secs(3600);

/// Steps by name, as a configuration lists them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Preset {
    /// PHP packages, into `vendor`; brings `autoload` along.
    Composer,
    /// The optimised autoloader and Composer's scripts.
    Autoload,
    /// JavaScript packages for other steps, into `node_modules`, which is not released.
    Npm,
    /// The same by pnpm.
    Pnpm,
    /// The same by Yarn, 1 or newer.
    Yarn,
    /// Commands of the application itself; which ones, the configuration says.
    Artisan,
    /// Scripts and styles, into `public/build`.
    Vite,
    /// Scripts and styles of Laravel Mix 6, below `public`.
    Mix,
}

impl Preset {
    /// All presets in the order in which they run.
    pub const ALL: [Self; 8] = [
        Self::Composer,
        Self::Autoload,
        Self::Npm,
        Self::Pnpm,
        Self::Yarn,
        Self::Artisan,
        Self::Vite,
        Self::Mix,
    ];

    /// The name in a configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Composer => "composer",
            Self::Autoload => "autoload",
            Self::Npm => "npm",
            Self::Pnpm => "pnpm",
            Self::Yarn => "yarn",
            Self::Artisan => "artisan",
            Self::Vite => "vite",
            Self::Mix => "mix",
        }
    }

    /// Whether it installs JavaScript packages.
    #[must_use]
    pub const fn is_package_manager(self) -> bool {
        matches!(self, Self::Npm | Self::Pnpm | Self::Yarn)
    }

    /// The step for this source.
    ///
    /// # Errors
    /// A [`PlanError`] when it cannot run on this source.
    pub(crate) fn step(self, facts: &Facts) -> Result<Step, PlanError> {
        let step = match self {
            Self::Composer => composer::install(facts, false)?,
            Self::Autoload => composer::autoload(facts, false)?,
            Self::Npm => node::npm(facts),
            Self::Pnpm => node::pnpm(facts),
            Self::Yarn => node::yarn(facts),
            Self::Artisan => artisan::artisan(),
            Self::Vite => node::vite(),
            Self::Mix => node::mix(),
        };
        Ok(step)
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

/// A step that does nothing yet.
pub(crate) fn blank(name: &str) -> Step {
    Step {
        name: name.to_owned(),
        commands: Vec::new(),
        tools: Default::default(),
        needs: Vec::new(),
        after: Vec::new(),
        inputs: Inputs::all(),
        provided: Vec::new(),
        files: Vec::new(),
        packages: Vec::new(),
        outputs: Vec::new(),
        scratch: Vec::new(),
        env: BTreeMap::new(),
        network: false,
        sandbox: true,
        time_limit: TIME_LIMIT,
        alarms: &[],
        released: true,
    }
}

pub(crate) fn variables(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    let owned = |&(name, value): &(&str, &str)| (name.to_owned(), value.to_owned());
    pairs.iter().map(owned).collect()
}

pub(crate) fn command(line: &str) -> CommandLine {
    CommandLine::new(line.split(' '))
}

fn path(text: &str) -> EntryPath {
    EntryPath::new(text).expect("the paths of the presets are valid")
}

/// What a step makes as a whole; the source's copy is not used.
pub(crate) fn fresh(text: &str) -> Output {
    Output {
        path: path(text),
        optional: false,
        fresh: true,
    }
}

/// What a step changes or adds to.
pub(crate) fn changed(text: &str, optional: bool) -> Output {
    Output {
        path: path(text),
        optional,
        fresh: false,
    }
}

/// Where a booted Laravel application writes, whatever it is asked to do.
pub(crate) const LARAVEL_WRITES: [&str; 3] =
    ["storage/framework", "storage/logs", "bootstrap/cache"];

/// An environment in which any Laravel application boots and reaches nothing: no database, cache,
/// queue or mail server is there at build time. The key is no secret: 32 zero bytes.
#[must_use]
pub fn dummy_environment() -> BTreeMap<String, String> {
    variables(&[
        ("APP_ENV", "production"),
        ("APP_DEBUG", "false"),
        (
            "APP_KEY",
            "base64:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
        ),
        ("APP_URL", "http://localhost"),
        ("BROADCAST_CONNECTION", "log"),
        ("BROADCAST_DRIVER", "log"),
        ("CACHE_DRIVER", "array"),
        ("CACHE_STORE", "array"),
        ("DB_CONNECTION", "sqlite"),
        ("DB_DATABASE", ":memory:"),
        ("LOG_CHANNEL", "stderr"),
        ("MAIL_MAILER", "array"),
        ("QUEUE_CONNECTION", "sync"),
        ("SESSION_DRIVER", "array"),
    ])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_parse_back_and_others_are_refused() {
        let facts = Facts {
            composer_json: Some(b"{}".to_vec()),
            ..Facts::default()
        };
        for preset in Preset::ALL {
            assert_eq!(preset.name().parse::<Preset>().unwrap(), preset);
            assert_eq!(preset.step(&facts).unwrap().name, preset.name());
        }
        assert!("webpack".parse::<Preset>().is_err());
    }

    #[test]
    fn only_installing_packages_needs_the_network() {
        let facts = Facts {
            composer_json: Some(b"{}".to_vec()),
            ..Facts::default()
        };
        for preset in Preset::ALL {
            let network = preset == Preset::Composer || preset.is_package_manager();
            assert_eq!(preset.step(&facts).unwrap().network, network, "{preset:?}");
        }
    }
}
