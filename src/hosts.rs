//! From the configuration's environments to what the deployer takes, and what the hosts say.

use std::collections::BTreeSet;

use relstore_deployer::environment::{Environment, HealthCheck, Host, Migrate};
use relstore_deployer::error::Kind;
use relstore_deployer::event::Event;
use relstore_deployer::outcome::{HostTruth, Serving};
use relstore_deployer::session::Connector;
use relstore_deployer::transport::{Caller, Endpoint, HelperBinary, SshTarget};
use relstore_deployer::{DeployError, rollback_target, status};
use relstore_store::id::ReleaseId;

use crate::cli::EnvironmentArg;
use crate::config::{self, Config, Transport};
use crate::context::Context;
use crate::error::{CommandError, Result};
use crate::exit_code::ExitCode;
use crate::progress::{Progress, Task};

/// The environment that a command is for, from its option or `RELSTORE_ENV`.
pub(crate) fn chosen<'a>(
    context: &Context,
    config: &'a Config,
    argument: &EnvironmentArg,
) -> Result<&'a config::Environment> {
    match context.environment_name(argument.env.as_deref()) {
        Some(name) => Ok(config.environment(&name)?),
        None => {
            let known = config.environment_names();
            let error = CommandError::new(
                ExitCode::Usage,
                "which environment is meant? say --env NAME",
            );
            Err(match known.as_slice() {
                [] => error.hint(format!(
                    "{} has no [env.NAME] section yet",
                    config.file.display()
                )),
                _ => error.hint(format!("the environments are: {}", known.join(", "))),
            })
        }
    }
}

/// The environment as the deployer takes it. Reads the secrets of its health checks only for
/// commands that make them.
pub(crate) fn environment(
    context: &Context,
    configured: &config::Environment,
    with_secrets: bool,
) -> Result<Environment> {
    let mut health = Vec::new();
    for check in configured.health.iter().filter(|_| with_secrets) {
        let bearer = check
            .bearer
            .as_ref()
            .map(|reference| context.secret(reference))
            .transpose()?;
        let url = configured.url.as_deref().unwrap_or_default();
        health.push(HealthCheck {
            url: format!("{url}{}", check.path),
            bearer,
        });
    }
    Ok(Environment {
        name: configured.name.clone(),
        hosts: hosts(configured),
        base: configured.base.clone(),
        url: configured.url.clone(),
        dotenv: configured.dotenv.clone(),
        web_group: Some(configured.web_group.clone()),
        php: configured.php.clone(),
        reload: configured.reload.clone(),
        migrate: match configured.migrate {
            config::Migrate::Run => Migrate::Run,
            config::Migrate::Off => Migrate::Off,
        },
        keep: configured.keep,
        health,
        health_attempts: configured.health_attempts,
        health_interval: configured.health_interval,
        command_timeout: configured.timeout,
    })
}

/// The hosts under the names people know them by: the host alone where that is unique.
fn hosts(configured: &config::Environment) -> Vec<Host> {
    if configured.transport == Transport::Local {
        return vec![Host {
            name: "local".to_owned(),
            endpoint: Endpoint::Local,
        }];
    }
    let names: BTreeSet<&str> = configured
        .hosts
        .iter()
        .map(|address| address.host.as_str())
        .collect();
    let unique = names.len() == configured.hosts.len();
    configured
        .hosts
        .iter()
        .map(|address| Host {
            name: if unique {
                address.host.clone()
            } else {
                address.to_string()
            },
            endpoint: Endpoint::Ssh(SshTarget {
                user: address.user.clone(),
                host: address.host.clone(),
                port: address.port,
                identity_file: configured.identity_file.clone(),
                known_hosts: configured.known_hosts.clone(),
            }),
        })
        .collect()
}

/// What this machine brings to a connection.
pub(crate) fn caller(context: &Context) -> Caller {
    let path = |name| context.variables.get(name).map(Into::into);
    Caller {
        user: context.user(),
        home: path("HOME"),
        agent_socket: path("SSH_AUTH_SOCK"),
        ..Caller::default()
    }
}

/// The helper that lies beside the program.
pub(crate) fn helper() -> Result<HelperBinary> {
    let program = std::env::current_exe().map_err(|error| {
        CommandError::new(ExitCode::Failure, "cannot find the folder of this program")
            .caused_by(&error)
    })?;
    HelperBinary::beside(&program)
        .map_err(|error| CommandError::of(ExitCode::NothingChanged, &error).hint(error.hint()))
}

/// How the program reaches hosts: this machine's keys, and the helper beside the program.
pub(crate) fn connector(context: &Context) -> Result<Connector> {
    let helper = helper()?;
    Ok(Connector {
        helper,
        caller: caller(context),
    })
}

/// The release that the hosts of an environment serve, or served before.
pub(crate) async fn release_of(
    context: &Context,
    config: Option<&Config>,
    name: &str,
    previous: bool,
) -> Result<ReleaseId> {
    let Some(config) = config else {
        return Err(CommandError::bad_input(format!(
            "`env:{name}` needs a {}",
            config::FILE_NAME
        )));
    };
    let environment = environment(context, config.environment(name)?, false)?;
    let connector = connector(context)?;
    let progress = Progress::new(context);
    let listener = |event| show(&progress, environment.hosts.len() > 1, event);
    if previous {
        return Ok(rollback_target(&environment, &connector, &listener).await?);
    }
    let mut served: Vec<(String, Serving)> = Vec::new();
    for asked in status(&environment, &connector, &listener).await {
        match asked.answer {
            Ok(status) => served.push((asked.host, status.serving)),
            Err(source) => {
                return Err(DeployError::Ask {
                    host: asked.host,
                    source,
                }
                .into());
            }
        }
    }
    let releases: BTreeSet<_> = served
        .iter()
        .map(|(_, serving)| serving.release())
        .collect();
    match releases.first() {
        Some(Some(release)) if releases.len() == 1 => Ok(*release),
        _ => {
            let mut error =
                CommandError::bad_input(format!("`env:{name}` does not name one release"));
            for (host, serving) in served {
                error = error.state(HostTruth { host, serving }.to_string());
            }
            Err(error)
        }
    }
}

/// Shows what a deploy tells. Hosts are named when there are several.
pub(crate) fn show(progress: &Progress, several: bool, event: Event) {
    let task = |step: String, host: Option<String>| Task::on(step, host.filter(|_| several));
    match event {
        Event::Begin {
            host,
            step,
            total_bytes,
        } => progress.begin(&task(step, host), total_bytes),
        Event::Advance {
            host,
            step,
            done_bytes,
        } => progress.advance_to(&task(step, host), done_bytes),
        Event::Output { host, step, line } => progress.printed(&task(step, Some(host)), &line),
        Event::Done {
            host,
            step,
            detail,
            took,
        } => progress.ok(&task(step, host), &detail, Some(took)),
        Event::Failed {
            host,
            step,
            detail,
            took,
        } => progress.failed(&task(step, host), &detail, Some(took)),
        // Warnings name their host in any case: they may be all that a log shows.
        Event::Warning { host, text } => progress.warning(&Task::on("warning", host), &text),
    }
}

impl From<DeployError> for CommandError {
    fn from(error: DeployError) -> Self {
        let code = match error.kind() {
            Kind::BadInput => ExitCode::BadInput,
            Kind::Busy => ExitCode::Busy,
            Kind::NothingChanged => ExitCode::NothingChanged,
            Kind::RolledBack => ExitCode::RolledBack,
            Kind::Unhealthy => ExitCode::Failure,
            Kind::Unknown => ExitCode::StateUnknown,
        };
        let mut command_error = Self::new(code, error.to_string());
        for cause in error.causes() {
            command_error = command_error.cause(cause);
        }
        for state in error.state() {
            command_error = command_error.state(state);
        }
        match error.hint() {
            Some(hint) => command_error.hint(hint),
            None => command_error,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::variables::Variables;

    fn names(hosts_list: &str) -> Vec<String> {
        let text = format!("app = \"a\"\n[env.p]\nhosts = {hosts_list}\nbase = \"/srv/a\"\n");
        let config =
            Config::parse("/p/relstore.toml".as_ref(), &text, &Variables::default()).unwrap();
        hosts(config.environment("p").unwrap())
            .into_iter()
            .map(|host| host.name)
            .collect()
    }

    #[test]
    fn hosts_have_short_names_where_these_are_unique() {
        assert_eq!(names(r#"["deploy@a:22", "b"]"#), ["a", "b"]);
        assert_eq!(
            names(r#"["deploy@a:22", "deploy@a:23"]"#),
            ["deploy@a:22", "deploy@a:23"]
        );
    }
}
