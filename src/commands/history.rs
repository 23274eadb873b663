//! `relstore history`: the ledgers of the hosts.

use relstore_deployer::failure::StepError;
use relstore_deployer::inspect::Asked;
use relstore_store::id::ReleaseId;
use serde_json::{Value, json};

use crate::cli::EnvironmentArg;
use crate::context::Context;
use crate::error::Result;
use crate::exit_code::ExitCode;
use crate::hosts;
use crate::output::{first_line, printable, table};
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
    /// Show at most this many deploys of each host, the newest
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
        // Each deploy writes two lines: the intent and the outcome.
        let lines = args.limit.saturating_mul(2);
        Ok(relstore_deployer::history(&environment, lines, &connector, &listener).await)
    })?;
    let answers: Vec<Answer> = answers
        .into_iter()
        .map(|asked| Answer::of(asked, args.limit as usize))
        .collect();
    context
        .output
        .result(&text(&answers), || document(&answers))?;
    Ok(match answers.iter().all(|answer| answer.entries.is_ok()) {
        true => ExitCode::Ok,
        false => ExitCode::StateUnknown,
    })
}

/// What one host answered.
struct Answer {
    host: String,
    entries: std::result::Result<Vec<Value>, StepError>,
}

impl Answer {
    /// The entries of the last `limit` deploys. They are shown as they are, even when a field is
    /// missing: a ledger may be older or newer than this program.
    fn of(asked: Asked<Vec<String>>, limit: usize) -> Self {
        let entries = asked.answer.map(|lines| {
            let parse = |line: &String| {
                serde_json::from_str(line).unwrap_or_else(|_| json!({ "unreadable": line }))
            };
            let entries: Vec<Value> = lines.iter().map(parse).collect();
            let mut begins = 0;
            let mut deploys = 0;
            for (index, entry) in entries.iter().enumerate().rev() {
                // Lines of one deploy follow each other: they are written under one lock.
                let later = entries.get(index + 1);
                if later.is_none_or(|later| !same_deploy(entry, later)) {
                    deploys += 1;
                }
                if deploys > limit {
                    begins = index + 1;
                    break;
                }
            }
            entries[begins..].to_vec()
        });
        Self {
            host: asked.host,
            entries,
        }
    }
}

fn same_deploy(one: &Value, other: &Value) -> bool {
    one["transaction"].is_string() && one["transaction"] == other["transaction"]
}

fn text(answers: &[Answer]) -> String {
    let mut rows: Vec<(i64, Vec<String>)> = Vec::new();
    let mut errors = String::new();
    for answer in answers {
        match &answer.entries {
            Ok(entries) => {
                for (index, entry) in entries.iter().enumerate() {
                    // An intent matters only while, or because, no outcome followed it.
                    let later = entries.get(index + 1);
                    if later.is_none_or(|later| !same_deploy(entry, later)) {
                        rows.push((
                            entry["at_ms"].as_i64().unwrap_or(0),
                            row(&answer.host, entry),
                        ));
                    }
                }
            }
            Err(error) => {
                let line = format!("{}: {}\n", answer.host, printable(&error.to_string()));
                errors.push_str(&line);
                for cause in error.causes() {
                    errors.push_str(&format!("  caused by: {}\n", printable(&cause)));
                }
                if let Some(hint) = error.hint() {
                    errors.push_str(&format!("  hint: {hint}\n"));
                }
            }
        }
    }
    if rows.is_empty() {
        return match errors.is_empty() {
            true => "nothing was deployed yet\n".to_owned(),
            false => errors,
        };
    }
    rows.sort_by_key(|(at_ms, _)| *at_ms);
    let head = [
        "WHEN", "HOST", "N", "ACTION", "OUTCOME", "RELEASE", "BY", "MESSAGE",
    ]
    .map(str::to_owned);
    let mut lines = vec![head.to_vec()];
    lines.extend(rows.into_iter().map(|(_, row)| row));
    format!("{}{errors}", table(&lines))
}

fn row(host: &str, entry: &Value) -> Vec<String> {
    let field = |name: &str| printable(entry[name].as_str().unwrap_or("-"));
    let release = entry["release"]
        .as_str()
        .and_then(|text| text.parse::<ReleaseId>().ok());
    vec![
        entry["at_ms"]
            .as_i64()
            .map(local_minute_of)
            .unwrap_or_else(|| "?".to_owned()),
        host.to_owned(),
        entry["n"].to_string(),
        field("action"),
        match entry["outcome"].as_str() {
            Some("intent") => "no outcome".to_owned(),
            _ => field("outcome"),
        },
        release
            .map(|release| release.short())
            .unwrap_or_else(|| "-".to_owned()),
        field("actor"),
        printable(first_line(entry["message"].as_str().unwrap_or_default())),
    ]
}

fn document(answers: &[Answer]) -> Value {
    let hosts: Vec<Value> = answers
        .iter()
        .map(|answer| match &answer.entries {
            Ok(entries) => json!({ "host": answer.host, "entries": entries }),
            Err(error) => json!({
                "host": answer.host,
                "error": error.to_string(),
                "causes": error.causes(),
                "hint": error.hint(),
            }),
        })
        .collect();
    json!({ "hosts": hosts })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn answer(lines: &[(&str, &str)], limit: usize) -> Answer {
        let line = |(transaction, outcome): &(&str, &str)| {
            json!({ "at_ms": 0, "n": 1, "transaction": transaction, "outcome": outcome })
                .to_string()
        };
        let asked = Asked {
            host: "h".to_owned(),
            answer: Ok(lines.iter().map(line).collect()),
        };
        Answer::of(asked, limit)
    }

    #[test]
    fn deploys_are_counted_and_not_their_lines() {
        let lines = [
            ("a", "intent"),
            ("a", "live"),
            ("b", "intent"),
            ("c", "intent"),
            ("c", "live"),
        ];
        for (limit, left) in [(1, 2), (2, 3), (3, 5), (9, 5)] {
            assert_eq!(
                answer(&lines, limit).entries.unwrap().len(),
                left,
                "{limit}"
            );
        }
    }

    #[test]
    fn message_takes_one_line_whatever_a_command_printed() {
        let entry = json!({ "message": "`migrate` ended with status 1:\n\n  In Connection.php\n" });
        let row = row("h", &entry);
        assert_eq!(row.last().unwrap(), "`migrate` ended with status 1");
    }

    #[test]
    fn intent_is_shown_only_without_an_outcome() {
        let lines = [("a", "intent"), ("a", "live"), ("b", "intent")];
        let text = text(&[answer(&lines, 9)]);
        assert_eq!(text.lines().count(), 3, "{text}");
        assert!(
            text.contains("live") && text.contains("no outcome"),
            "{text}"
        );
    }
}
