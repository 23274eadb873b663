//! What a deploy will do: a value, made from what the hosts say, without doing any of it.
//!
//! ```text
//! lock, prepare (all hosts at once), migrate (first host), activate (all hosts at once),
//! health, finish (all hosts at once), unlock
//! ```
//! A phase begins when the one before succeeded on every host. Nothing up to `migrate` changes
//! what a host serves.

use std::fmt;
use std::time::Duration;

use relstore_store::id::ReleaseId;
use relstore_store::structure::Requirement;

use crate::environment::{Environment, Migrate};
use crate::failure::StepError;
use crate::health;
use crate::protocol::{BaseState, Current};

/// File mode mask of artisan: what it writes is for the deploy user and the web server's group.
const ARTISAN_UMASK: u32 = 0o007;
/// File mode mask of reload commands.
const RELOAD_UMASK: u32 = 0o022;
/// What confirming may take beyond reload and health: the round trips, a slow host.
const CONFIRM_RESERVE: Duration = Duration::from_secs(120);

/// Whether a release is new or an earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// The release is to go live.
    Deploy,
    /// The environment returns to it. Migrations never run.
    Rollback,
}

impl Action {
    /// Returns the word for ledgers and locks.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Deploy => "deploy",
            Self::Rollback => "rollback",
        }
    }
}

/// A command to run in the release's folder on a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// The step's name.
    pub name: &'static str,
    /// Program and arguments.
    pub argv: Vec<String>,
    /// File mode mask.
    pub umask: u32,
}

/// One step on one host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Sends what the host lacks.
    Transfer,
    /// Lays the release out and verifies every byte of it.
    Materialise,
    /// Looks for required files and folders.
    Check(Vec<Requirement>),
    /// Runs a command; any end but status 0 is a failure.
    Run(Command),
    /// Makes the configuration, route, event and view caches.
    Warm,
    /// Makes `current` the release.
    Switch {
        /// What it is before.
        from: Option<ReleaseId>,
        /// How long the helper waits for the confirmation before it goes back by itself.
        confirm_within: Duration,
    },
    /// Makes the web server serve `current` anew.
    Reload(Vec<Command>),
    /// Tells the helper that the release stays.
    Confirm,
    /// Writes the outcome to the host's ledger.
    Record,
    /// Removes old releases.
    Prune {
        /// How many stay beside the active and the previous one.
        keep: u32,
    },
}

impl Step {
    /// Returns the step's name, for events, journals and people.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Transfer => "transfer",
            Self::Materialise => "materialise",
            Self::Check(_) => "gates",
            Self::Run(command) => command.name,
            Self::Warm => "caches",
            Self::Switch { .. } => "switch",
            Self::Reload(_) => "reload",
            Self::Confirm => "confirm",
            Self::Record => "ledger",
            Self::Prune { .. } => "clean up",
        }
    }
}

impl fmt::Display for Step {
    /// Writes the step as a line of a plan.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Transfer => f.write_str("send what the host lacks"),
            Self::Materialise => f.write_str("lay out the release and verify every byte"),
            Self::Check(requirements) => {
                write!(
                    f,
                    "look for {} required files and folders",
                    requirements.len()
                )
            }
            Self::Run(command) => write!(f, "run `{}`", command.argv.join(" ")),
            Self::Warm => f.write_str("make the config, route, event and view caches"),
            Self::Switch {
                from: Some(from), ..
            } => write!(f, "switch `current` from {}", from.short()),
            Self::Switch { from: None, .. } => {
                f.write_str("make `current`: this is the first release")
            }
            Self::Reload(commands) => {
                let commands: Vec<_> = commands
                    .iter()
                    .map(|command| format!("`{}`", command.argv.join(" ")))
                    .collect();
                write!(f, "run {}", commands.join(", "))
            }
            Self::Confirm => f.write_str("confirm that the release stays"),
            Self::Record => f.write_str("write the outcome to the ledger"),
            Self::Prune { keep } => write!(f, "keep the last {keep} releases, remove older ones"),
        }
    }
}

/// What happens on one host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPlan {
    /// The host.
    pub host: String,
    /// What it serves before.
    pub current: Option<ReleaseId>,
    /// Whether it has the release complete already.
    pub complete: bool,
    /// Whether `current` has to be moved. If not, [`HostPlan::activate`] only makes the caches
    /// again, and the reload follows only when they turn out to be outdated.
    pub switches: bool,
    /// Before any host switches.
    pub prepare: Vec<Step>,
    /// After every host is prepared, before any host switches.
    pub migrate: Vec<Step>,
    /// After every host is ready.
    pub activate: Vec<Step>,
    /// After the environment is healthy.
    pub finish: Vec<Step>,
}

/// What happens in an environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The release.
    pub release: ReleaseId,
    /// Deploy or rollback.
    pub action: Action,
    /// The environment's name.
    pub environment: String,
    /// All hosts, in the environment's order.
    pub hosts: Vec<HostPlan>,
    /// URLs that have to be answered with 200 after the hosts switched.
    pub health: Vec<String>,
}

impl Plan {
    /// Whether every host serves the release already.
    #[must_use]
    pub fn is_active_everywhere(&self) -> bool {
        self.hosts.iter().all(|host| !host.switches)
    }
}

/// Makes the plan. `states` are the hosts' states in the environment's order.
///
/// # Errors
/// [`StepError::Foreign`] with the host whose `current` relstore did not make.
pub fn plan(
    environment: &Environment,
    release: ReleaseId,
    action: Action,
    requirements: &[Requirement],
    states: &[BaseState],
) -> Result<Plan, (String, StepError)> {
    let mut hosts = Vec::with_capacity(states.len());
    for (host, state) in environment.hosts.iter().zip(states) {
        let current = match &state.current {
            Current::Absent => None,
            Current::Release(release) => Some(*release),
            Current::Foreign(what) => {
                return Err((host.name.clone(), StepError::Foreign { what: what.clone() }));
            }
        };
        let complete = state.complete.contains(&release);
        hosts.push(HostPlan {
            host: host.name.clone(),
            current,
            complete,
            switches: current != Some(release),
            prepare: Vec::new(),
            migrate: Vec::new(),
            activate: Vec::new(),
            finish: Vec::new(),
        });
    }
    for host in &mut hosts {
        if host.switches {
            switching(host, environment, requirements);
        } else {
            refreshing(host, environment);
        }
    }
    let switches = hosts.iter().any(|host| host.switches);
    if let (true, Action::Deploy, Migrate::Run, Some(first)) =
        (switches, action, environment.migrate, hosts.first_mut())
    {
        let argv = ["artisan", "migrate", "--force", "--no-interaction"];
        first
            .migrate
            .push(Step::Run(php(environment, "migrate", &argv)));
    }
    let health = environment
        .health
        .iter()
        .map(|check| check.url.clone())
        .collect();
    Ok(Plan {
        release,
        action,
        environment: environment.name.clone(),
        hosts,
        health,
    })
}

fn switching(host: &mut HostPlan, environment: &Environment, requirements: &[Requirement]) {
    if !host.complete {
        host.prepare.push(Step::Transfer);
    }
    host.prepare.push(Step::Materialise);
    if !requirements.is_empty() {
        host.prepare.push(Step::Check(requirements.to_vec()));
    }
    // What the release does not promise to have is not run.
    let promises = |path: &str| {
        requirements
            .iter()
            .any(|r| r.path.as_bytes() == path.as_bytes())
    };
    if promises("vendor/autoload.php") {
        let argv = ["-r", "require 'vendor/autoload.php';"];
        host.prepare
            .push(Step::Run(php(environment, "autoload", &argv)));
    }
    if promises("artisan") {
        let argv = ["artisan", "--version", "--no-interaction"];
        host.prepare
            .push(Step::Run(php(environment, "artisan", &argv)));
    }
    host.prepare.push(Step::Warm);
    host.activate.push(Step::Switch {
        from: host.current,
        confirm_within: confirm_within(environment),
    });
    if let Some(reload) = reload(environment) {
        host.activate.push(reload);
    }
    host.finish = vec![
        Step::Confirm,
        Step::Record,
        Step::Prune {
            keep: environment.keep,
        },
    ];
}

/// The release is active already: its bytes are verified again, and its caches made anew when
/// `.env` or PHP have changed.
fn refreshing(host: &mut HostPlan, environment: &Environment) {
    if !host.complete {
        host.prepare.push(Step::Transfer);
    }
    host.prepare.push(Step::Materialise);
    host.activate.push(Step::Warm);
    if let Some(reload) = reload(environment) {
        host.activate.push(reload);
    }
    host.finish = vec![Step::Record];
}

/// The reload step, when there is anything to run.
pub(crate) fn reload(environment: &Environment) -> Option<Step> {
    let command = |argv: &Vec<String>| Command {
        name: "reload",
        argv: argv.clone(),
        umask: RELOAD_UMASK,
    };
    let commands: Vec<Command> = environment.reload.iter().map(command).collect();
    (!commands.is_empty()).then_some(Step::Reload(commands))
}

fn php(environment: &Environment, name: &'static str, arguments: &[&str]) -> Command {
    let mut argv = vec![environment.php.clone()];
    argv.extend(arguments.iter().map(|&argument| argument.to_owned()));
    Command {
        name,
        argv,
        umask: ARTISAN_UMASK,
    }
}

/// How long after the switch the confirmation may come.
fn confirm_within(environment: &Environment) -> Duration {
    let reloads = u32::try_from(environment.reload.len()).unwrap_or(u32::MAX);
    health::time_limit(environment.health_attempts, environment.health_interval)
        .saturating_add(environment.command_timeout.saturating_mul(reloads))
        .saturating_add(CONFIRM_RESERVE)
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
