//! `relstore status`: what each host serves.

use std::collections::BTreeSet;

use relstore_deployer::inspect::{Asked, HostStatus};
use relstore_deployer::outcome::Serving;
use relstore_deployer::status;
use serde_json::{Value, json};

use crate::cli::EnvironmentArg;
use crate::config::Config;
use crate::context::Context;
use crate::error::{CommandError, Result};
use crate::exit_code::ExitCode;
use crate::hosts;
use crate::output::{bytes, printable, table};
use crate::progress::Progress;
use crate::stored::block_on;
use crate::time::local_minute_of;

/// Show what each host serves
///
/// Ends with code 7 when a host cannot be asked, or the hosts of an environment serve different
/// releases.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  relstore status                    every environment
  relstore status --env prod --json")]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) environment: EnvironmentArg,
}

/// The answers of one environment.
struct Answers {
    environment: String,
    hosts: Vec<Asked<HostStatus>>,
}

impl Answers {
    /// Whether every host was asked and all serve the same.
    fn agree(&self) -> bool {
        let serving: Vec<_> = self
            .hosts
            .iter()
            .map(|asked| asked.answer.as_ref().ok().map(|status| &status.serving))
            .collect();
        let same = serving.windows(2).all(|pair| pair[0] == pair[1]);
        same && serving.iter().all(Option::is_some)
    }
}

/// Runs the command.
pub(crate) fn run(context: &Context, args: &Args) -> Result<ExitCode> {
    let config = context.config()?;
    let names = match context.environment_name(args.environment.env.as_deref()) {
        Some(name) => vec![name],
        None => config.environment_names(),
    };
    if names.is_empty() {
        let error =
            CommandError::bad_input(format!("{} has no environments", config.file.display()));
        return Err(error.hint("add an [env.NAME] section with hosts and base"));
    }
    let several = names.len() > 1;
    let all = block_on(async {
        let mut all = Vec::new();
        for name in names {
            // One that this machine lacks the variables of need not hide the others.
            let alone = |error: CommandError| match several && error.code == ExitCode::BadInput {
                true => error.hint("`relstore status --env NAME` asks one environment alone"),
                false => error,
            };
            all.push(ask(context, &config, name).await.map_err(alone)?);
        }
        Ok(all)
    })?;
    context.output.result(&text(&all), || document(&all))?;
    Ok(match all.iter().all(Answers::agree) {
        true => ExitCode::Ok,
        false => ExitCode::StateUnknown,
    })
}

async fn ask(context: &Context, config: &Config, name: String) -> Result<Answers> {
    let environment = hosts::environment(context, config.environment(&name)?, false)?;
    let connector = hosts::connector(context)?;
    let progress = Progress::new(context);
    let listener = |event| hosts::show(&progress, environment.hosts.len() > 1, event);
    let hosts = status(&environment, &connector, &listener).await;
    Ok(Answers {
        environment: name,
        hosts,
    })
}

fn text(all: &[Answers]) -> String {
    let mut rows = vec![
        ["ENV", "HOST", "SERVES", "BEFORE", "FREE", "NOTES"]
            .map(str::to_owned)
            .to_vec(),
    ];
    let mut errors = String::new();
    for answers in all {
        for asked in &answers.hosts {
            let mut row = vec![answers.environment.clone(), asked.host.clone()];
            match &asked.answer {
                Ok(status) => row.extend([
                    serving(&status.serving),
                    status
                        .hello
                        .state
                        .previous
                        .map(|release| release.short())
                        .unwrap_or_else(|| "-".to_owned()),
                    bytes(status.hello.free_bytes),
                    notes(status).join("; "),
                ]),
                Err(error) => {
                    row.extend([
                        "unknown".to_owned(),
                        "-".to_owned(),
                        "-".to_owned(),
                        "cannot be asked".to_owned(),
                    ]);
                    errors.push_str(&format!(
                        "{}: {}\n",
                        asked.host,
                        printable(&error.to_string())
                    ));
                    for cause in error.causes() {
                        errors.push_str(&format!("  caused by: {}\n", printable(&cause)));
                    }
                    if let Some(hint) = error.hint() {
                        errors.push_str(&format!("  hint: {hint}\n"));
                    }
                }
            }
            rows.push(row);
        }
        if !answers.agree() && answers.hosts.iter().all(|asked| asked.answer.is_ok()) {
            errors.push_str(&format!(
                "the hosts of {} serve different releases\n",
                answers.environment
            ));
        }
    }
    format!("{}{errors}", table(&rows))
}

fn serving(serving: &Serving) -> String {
    match serving {
        Serving::Release(release) => release.short(),
        Serving::Nothing => "nothing yet".to_owned(),
        Serving::Foreign(what) => printable(what),
        Serving::Unknown(why) => format!("unknown: {}", printable(why)),
    }
}

/// What is going on there beside serving.
fn notes(status: &HostStatus) -> Vec<String> {
    let state = &status.hello.state;
    let mut notes = Vec::new();
    if let Some(holder) = &state.holder {
        let since = local_minute_of(holder.since_ms);
        notes.push(format!(
            "{} of {} by {} since {since}",
            printable(&holder.action),
            holder.release.short(),
            printable(&holder.actor)
        ));
    }
    if let Some(pending) = &state.pending {
        notes.push(format!(
            "{} is not confirmed yet, goes back at {}",
            pending.to.short(),
            local_minute_of(pending.deadline_ms)
        ));
    }
    notes
}

fn document(all: &[Answers]) -> Value {
    let environments: Vec<Value> = all
        .iter()
        .map(|answers| {
            let hosts: Vec<Value> = answers.hosts.iter().map(host_document).collect();
            let releases: BTreeSet<_> = answers
                .hosts
                .iter()
                .filter_map(|asked| asked.answer.as_ref().ok()?.serving.release())
                .collect();
            let release = releases.first().filter(|_| answers.agree());
            json!({ "environment": answers.environment, "agree": answers.agree(), "release": release, "hosts": hosts })
        })
        .collect();
    json!({ "environments": environments })
}

fn host_document(asked: &Asked<HostStatus>) -> Value {
    match &asked.answer {
        Ok(status) => {
            let state = &status.hello.state;
            json!({
                "host": asked.host,
                "serves": status.serving.release(),
                "foreign": match &status.serving { Serving::Foreign(what) => Some(what), _ => None },
                "previous": state.previous,
                "complete": state.complete,
                "unconfirmed": state.pending.as_ref().map(|pending| pending.to),
                "lock": state.holder.as_ref().map(|holder| json!({
                    "actor": holder.actor, "action": holder.action,
                    "release": holder.release, "since_ms": holder.since_ms,
                })),
                "free_bytes": status.hello.free_bytes,
                "free_inodes": status.hello.free_inodes,
                "user": status.hello.user,
                "helper": status.hello.version,
            })
        }
        Err(error) => {
            json!({ "host": asked.host, "error": error.to_string(), "causes": error.causes(), "hint": error.hint() })
        }
    }
}
