//! `relstore history`: the ledgers of the hosts.

use relstore_deployer::inspect::Asked;
use relstore_store::id::ReleaseId;
use serde_json::{Value, json};

use crate::cli::EnvironmentArg;
use crate::context::Context;
use crate::error::Result;
use crate::exit_code::ExitCode;
use crate::hosts;
use crate::output::{printable, table};
use crate::progress::Progress;
use crate::stored::block_on;
use crate::time::local_minute_of;

/// Show who deployed what, when, and how it ended
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  relstore history --env prod
  relstore history --env prod --limit 3 --json")]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) environment: EnvironmentArg,
    /// Show at most this many entries of each host, the newest
    #[arg(long, short = 'n', value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) limit: u32,
}

/// Runs the command.
pub(crate) fn run(context: &Context, args: &Args) -> Result<ExitCode> {
    let config = context.config()?;
    let configured = hosts::chosen(context, &config, &args.environment)?;
    let environment = hosts::environment(context, configured, false)?;
    let connector = hosts::connector(context)?;
    let answers = block_on(async {
        let progress = Progress::new(context);
        let listener = |event| hosts::show(&progress, environment.hosts.len() > 1, event);
        Ok(relstore_deployer::history(&environment, args.limit, &connector, &listener).await)
    })?;
    context
        .output
        .result(&text(&answers), || document(&answers))?;
    Ok(match answers.iter().all(|asked| asked.answer.is_ok()) {
        true => ExitCode::Ok,
        false => ExitCode::StateUnknown,
    })
}

/// Entries are shown as they are, even when a field is missing: a ledger may be older or newer.
fn entry(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|_| json!({ "unreadable": line }))
}

fn text(answers: &[Asked<Vec<String>>]) -> String {
    let mut entries: Vec<(&str, Value)> = Vec::new();
    let mut errors = String::new();
    for asked in answers {
        match &asked.answer {
            Ok(lines) => {
                entries.extend(lines.iter().map(|line| (asked.host.as_str(), entry(line))));
            }
            Err(error) => errors.push_str(&format!(
                "{}: {}\n",
                asked.host,
                printable(&error.to_string())
            )),
        }
    }
    entries.sort_by_key(|(host, entry)| (entry["at_ms"].as_i64(), *host, entry["n"].as_u64()));
    if entries.is_empty() && errors.is_empty() {
        return "nothing was deployed yet\n".to_owned();
    }
    let mut rows = vec![
        [
            "WHEN", "HOST", "N", "ACTION", "OUTCOME", "RELEASE", "BY", "MESSAGE",
        ]
        .map(str::to_owned)
        .to_vec(),
    ];
    for (host, entry) in entries {
        let field = |name: &str| printable(entry[name].as_str().unwrap_or("-"));
        let release = entry["release"]
            .as_str()
            .and_then(|text| text.parse::<ReleaseId>().ok());
        rows.push(vec![
            entry["at_ms"]
                .as_i64()
                .map(local_minute_of)
                .unwrap_or_else(|| "?".to_owned()),
            host.to_owned(),
            entry["n"].to_string(),
            field("action"),
            field("outcome"),
            release
                .map(|release| release.short())
                .unwrap_or_else(|| "-".to_owned()),
            field("actor"),
            printable(entry["message"].as_str().unwrap_or_default()),
        ]);
    }
    format!("{}{errors}", table(&rows))
}

fn document(answers: &[Asked<Vec<String>>]) -> Value {
    let hosts: Vec<Value> = answers
        .iter()
        .map(|asked| match &asked.answer {
            Ok(lines) => json!({ "host": asked.host, "entries": lines.iter().map(|line| entry(line)).collect::<Vec<_>>() }),
            Err(error) => json!({ "host": asked.host, "error": error.to_string(), "causes": error.causes(), "hint": error.hint() }),
        })
        .collect();
    json!({ "hosts": hosts })
}
