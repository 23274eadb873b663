//! Why a deploy, or a question to the hosts, failed, and what each host serves now.

use relstore_store::StoreError;
use relstore_store::id::ReleaseId;

use crate::failure::{Failure, StepError};
use crate::outcome::HostTruth;

/// What a failure means for the environment; decides the program's exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// What was asked for makes no sense.
    BadInput,
    /// Another deploy holds the lock; nothing was changed.
    Busy,
    /// It failed before any host switched: every host serves what it served.
    NothingChanged,
    /// It failed after a switch, and every host is back on what it served.
    RolledBack,
    /// The release is active and not healthy, and there was nothing to go back to.
    Unhealthy,
    /// The hosts serve different things, or what one of them serves is not known.
    Unknown,
}

/// A deploy that failed after it reached hosts.
#[derive(Debug)]
pub struct Failed {
    /// What it means.
    pub kind: Kind,
    /// The environment.
    pub environment: String,
    /// The release that should have gone live.
    pub release: ReleaseId,
    /// Every failed step, the first one first; never empty.
    pub failures: Vec<Failure>,
    /// What each host serves now.
    pub state: Vec<HostTruth>,
    /// What else is true now: migrations that ran, the health of the old release.
    pub remarks: Vec<String>,
}

impl Failed {
    fn headline(&self) -> String {
        let (release, environment) = (self.release.short(), &self.environment);
        match self.kind {
            Kind::RolledBack => {
                format!(
                    "release {release} failed on {environment} after its activation and was taken back"
                )
            }
            Kind::Unhealthy => {
                format!("release {release} is active on {environment} and not healthy")
            }
            Kind::Unknown => {
                format!(
                    "release {release} was not activated on all of {environment}, and not taken back everywhere"
                )
            }
            _ => format!("release {release} was not activated on {environment}"),
        }
    }
}

/// Why a deploy, or a question to the hosts, failed.
#[derive(Debug, thiserror::Error)]
pub enum DeployError {
    /// An environment without hosts.
    #[error("environment {environment} has no hosts")]
    NoHosts {
        /// Its name.
        environment: String,
    },
    /// The store does not have the release, or has it damaged.
    #[error("release {} cannot be deployed", release.short())]
    Release {
        /// The release.
        release: ReleaseId,
        /// Why.
        source: StoreError,
    },
    /// Nothing was active before on any host.
    #[error("no host of {environment} has a previous release to return to")]
    NoPrevious {
        /// The environment.
        environment: String,
    },
    /// The hosts name different previous releases; choosing one would surprise the other hosts.
    #[error("the hosts of {environment} served different releases before")]
    Disagree {
        /// The environment.
        environment: String,
        /// Each host and what it served before, in words.
        previous: Vec<String>,
    },
    /// A question to a host failed.
    #[error("{host} cannot be asked")]
    Ask {
        /// The host.
        host: String,
        /// Why.
        source: StepError,
    },
    /// A deploy that reached hosts and failed.
    #[error("{}", .0.headline())]
    Failed(Box<Failed>),
}

impl DeployError {
    /// What the failure means for the environment.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Failed(failed) => failed.kind,
            Self::Ask { source, .. } if source.is_busy() => Kind::Busy,
            Self::Ask { .. } => Kind::NothingChanged,
            _ => Kind::BadInput,
        }
    }

    /// Every cause, one line each; complete, so that `source` need not be walked as well.
    #[must_use]
    pub fn causes(&self) -> Vec<String> {
        match self {
            Self::Failed(failed) => failed.failures.iter().flat_map(Failure::lines).collect(),
            Self::Release { source, .. } => chain(source),
            Self::Ask { source, .. } => {
                let mut lines = vec![source.to_string()];
                lines.extend(source.causes());
                lines
            }
            _ => Vec::new(),
        }
    }

    /// What is true now, one line per host and remark.
    #[must_use]
    pub fn state(&self) -> Vec<String> {
        match self {
            Self::Failed(failed) => {
                let hosts = failed.state.iter().map(ToString::to_string);
                hosts.chain(failed.remarks.iter().cloned()).collect()
            }
            Self::Disagree { previous, .. } => previous.clone(),
            _ => Vec::new(),
        }
    }

    /// What to do next.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoHosts { .. } => Some("name at least one host in the configuration".into()),
            Self::Release { source, .. } => source.hint(),
            Self::NoPrevious { environment } => Some(format!(
                "`relstore history --env {environment}` shows what was deployed; name a release with `--to`"
            )),
            Self::Disagree { .. } => Some("name the release with `--to`".into()),
            Self::Ask { source, .. } => source.hint(),
            Self::Failed(failed) if failed.kind == Kind::Unknown => Some(format!(
                "`relstore status --env {0}` shows what the hosts serve; `relstore deploy <release> --env {0}` brings them together",
                failed.environment
            )),
            Self::Failed(failed) => failed
                .failures
                .first()
                .and_then(|failure| failure.error.hint()),
        }
    }
}

fn chain(error: &dyn std::error::Error) -> Vec<String> {
    let mut lines = vec![error.to_string()];
    let mut source = error.source();
    while let Some(cause) = source {
        lines.push(cause.to_string());
        source = cause.source();
    }
    lines
}
