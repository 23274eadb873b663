//! An environment: named hosts with their settings. Plain values; who reads them from a file and
//! checks them is the program.

use std::time::Duration;

use crate::secret::Secret;
use crate::transport::Endpoint;

/// One machine of an environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// The name people know it by; unique within the environment.
    pub name: String,
    /// How it is reached.
    pub endpoint: Endpoint,
}

/// Whether a deploy runs database migrations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Migrate {
    /// `artisan migrate --force` on the first host, before any host switches.
    Run,
    /// Nobody touches the database.
    Off,
}

/// A request that has to be answered with 200 after the switch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthCheck {
    /// The full URL.
    pub url: String,
    /// Token for the `Authorization: Bearer` header.
    pub bearer: Option<Secret>,
}

/// Where and how a release is deployed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Environment {
    /// `staging`, `prod`, ...
    pub name: String,
    /// At least one; migrations run on the first.
    pub hosts: Vec<Host>,
    /// The folder on every host, absolute.
    pub base: String,
    /// Where people see the application.
    pub url: Option<String>,
    /// Where `.env` is, relative to the base or absolute.
    pub dotenv: String,
    /// Group of the web server.
    pub web_group: Option<String>,
    /// The PHP program of the hosts.
    pub php: String,
    /// Commands, run one after the other in the release's folder, that make the web server serve
    /// `current` anew.
    pub reload: Vec<Vec<String>>,
    /// Whether migrations run.
    pub migrate: Migrate,
    /// Releases to keep beside the active and the previous one.
    pub keep: u32,
    /// All of these have to be answered with 200 in one and the same attempt.
    pub health: Vec<HealthCheck>,
    /// Attempts before the new release counts as unhealthy; at least one is made.
    pub health_attempts: u32,
    /// Pause between two attempts.
    pub health_interval: Duration,
    /// Time limit of one command on a host.
    pub command_timeout: Duration,
}
