//! The configuration of a project, `relstore.toml`: what the file says ([`raw`]), what it means
//! ([`resolve`]), and every mistake with its place ([`problem`]). Reading the file itself is the
//! context's part.

mod check;
mod environment;
mod gates;
pub(crate) mod problem;
pub(crate) mod raw;
mod reader;
pub(crate) mod remote;
pub(crate) mod resolve;
mod resolver;
mod step;
#[cfg(test)]
mod tests;
pub(crate) mod value;
pub(crate) mod variables;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use relstore_builder::check::Check;
use relstore_builder::gate::Settings;
use relstore_builder::{Preset, SandboxMode, StepSettings};
use relstore_store::import::Layout;

use problem::{Problem, nearest};
use remote::StoreSettings;
use value::HostAddress;
use variables::Variables;

/// The name of the file that the program looks for.
pub(crate) const FILE_NAME: &str = "relstore.toml";

/// Why a configuration cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ConfigError {
    /// The file has mistakes: all of them.
    #[error("{} has {} problem{}", file.display(), problems.len(), if problems.len() == 1 { "" } else { "s" })]
    Problems {
        file: PathBuf,
        problems: Vec<Problem>,
    },
    /// The environment is not in the file.
    #[error("{} has no environment `{name}`", file.display())]
    NoEnvironment {
        file: PathBuf,
        name: String,
        known: Vec<String>,
        nearest: Option<String>,
    },
    /// The environment is right as written, but this machine lacks what it refers to.
    #[error("environment `{name}` of {} cannot be used here", file.display())]
    Unusable {
        file: PathBuf,
        name: String,
        problems: Vec<Problem>,
    },
}

/// A project's configuration with every default filled in.
#[derive(Debug)]
pub(crate) struct Config {
    /// The file it came from; its folder is the project.
    pub(crate) file: PathBuf,
    /// The name of the application.
    pub(crate) app: String,
    pub(crate) build: Build,
    /// `[gates]`.
    pub(crate) gates: Settings,
    /// `[checks]`, in the order of the file.
    pub(crate) checks: Vec<Check>,
    /// `[shared]` and `[writable]`.
    pub(crate) layout: Layout,
    pub(crate) store: StoreSettings,
    pub(crate) signing: Signing,
    environments: BTreeMap<String, Result<Environment, Vec<Problem>>>,
}

/// `[build]`: what makes the release.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Build {
    /// The application's folder from the project's; empty when they are the same.
    pub(crate) root: String,
    pub(crate) steps: Vec<Preset>,
    pub(crate) settings: BTreeMap<String, StepSettings>,
    pub(crate) env: BTreeMap<String, String>,
    /// What steps with network access may use: names of variables, `auth.json`, `.npmrc`,
    /// `ssh-agent`.
    pub(crate) auth: Vec<String>,
    pub(crate) sandbox: SandboxMode,
    /// File with the allowed signers whose derivations are used.
    pub(crate) trusted_builders: Option<PathBuf>,
    pub(crate) exclude: Vec<String>,
}

/// `[signing]`: who signs what is said about a release, and whose word counts.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Signing {
    /// A private key, or a `.pub` file whose private key an agent has.
    pub(crate) key: Option<PathBuf>,
    pub(crate) allowed_signers: Option<PathBuf>,
    /// Public keys whose signatures count no more, here and for `build.trusted_builders`.
    pub(crate) revoked: Option<PathBuf>,
}

/// `[env.NAME]`: where and how a release is deployed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Environment {
    pub(crate) name: String,
    pub(crate) transport: Transport,
    /// Empty exactly for [`Transport::Local`].
    pub(crate) hosts: Vec<HostAddress>,
    pub(crate) base: String,
    pub(crate) url: Option<String>,
    pub(crate) dotenv: String,
    pub(crate) web_group: String,
    pub(crate) php: String,
    /// Commands, each as program and arguments.
    pub(crate) reload: Vec<Vec<String>>,
    pub(crate) migrate: Migrate,
    pub(crate) keep: u32,
    /// Longest time one command may take on a host.
    pub(crate) timeout: Duration,
    pub(crate) identity_file: Option<PathBuf>,
    pub(crate) known_hosts: Option<PathBuf>,
    pub(crate) health: Vec<Health>,
    pub(crate) health_attempts: u32,
    pub(crate) health_interval: Duration,
}

/// How hosts are reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    Ssh,
    Local,
}

/// Whether a deploy runs the pending migrations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Migrate {
    Run,
    Off,
}

/// A request that must be answered with 200 after the switch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Health {
    pub(crate) path: String,
    pub(crate) bearer: Option<SecretRef>,
}

/// Where a secret is read from when it is needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SecretRef {
    Variable(String),
    File(PathBuf),
}

impl Config {
    /// Reads the text of the file at this (absolute) path.
    pub(crate) fn parse(
        file: &Path,
        text: &str,
        variables: &Variables,
    ) -> Result<Self, ConfigError> {
        let (raw, problems) = raw::RawConfig::parse(text);
        resolve::resolve(file, raw, problems, variables).map_err(|problems| ConfigError::Problems {
            file: file.to_owned(),
            problems,
        })
    }

    /// The folder of the project.
    pub(crate) fn project(&self) -> &Path {
        self.file.parent().unwrap_or(Path::new("/"))
    }

    /// The names of all environments, sorted.
    pub(crate) fn environment_names(&self) -> Vec<String> {
        self.environments.keys().cloned().collect()
    }

    /// One environment, complete.
    pub(crate) fn environment(&self, name: &str) -> Result<&Environment, ConfigError> {
        match self.environments.get(name) {
            Some(Ok(environment)) => Ok(environment),
            Some(Err(problems)) => Err(ConfigError::Unusable {
                file: self.file.clone(),
                name: name.to_owned(),
                problems: problems.clone(),
            }),
            None => Err(ConfigError::NoEnvironment {
                file: self.file.clone(),
                name: name.to_owned(),
                known: self.environment_names(),
                nearest: nearest(name, self.environments.keys().map(String::as_str))
                    .map(str::to_owned),
            }),
        }
    }
}
