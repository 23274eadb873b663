//! `relstore verify`: are the hosts what they should be?

use relstore_deployer::inspect::Asked;
use relstore_deployer::protocol::Verified;
use serde_json::{Value, json};

use crate::cli::EnvironmentArg;
use crate::context::Context;
use crate::error::Result;
use crate::exit_code::ExitCode;
use crate::hosts;
use crate::output::{bytes, counted, printable, table};
use crate::progress::Progress;
use crate::stored::block_on;

/// Compare every file on the hosts with the release they should hold
///
/// Hashes all files of the live release and reports changed, missing and additional ones. Ends with
/// code 8 when there are any, with 7 when a host cannot be asked.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  relstore verify --env prod")]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) environment: EnvironmentArg,
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
        Ok(relstore_deployer::verify(&environment, None, &connector, &listener).await)
    })?;
    context
        .output
        .result(&text(&answers), || document(&answers))?;
    // Drift that was found says more than a host that could not be asked.
    let drifted = answers.iter().any(|asked| {
        asked
            .answer
            .as_ref()
            .is_ok_and(|verified| !verified.drift.is_empty())
    });
    let silent = answers.iter().any(|asked| asked.answer.is_err());
    Ok(match (drifted, silent) {
        (true, _) => ExitCode::Drift,
        (false, true) => ExitCode::StateUnknown,
        (false, false) => ExitCode::Ok,
    })
}

fn text(answers: &[Asked<Verified>]) -> String {
    let mut text = String::new();
    for asked in answers {
        let host = &asked.host;
        match &asked.answer {
            Ok(verified) => {
                let seen = format!(
                    "{}, {}",
                    counted(verified.files, "file"),
                    bytes(verified.bytes)
                );
                let release = verified.release.short();
                if verified.drift.is_empty() {
                    text.push_str(&format!("ok  {host}: {seen} match {release}\n"));
                    continue;
                }
                let number = verified.drift.len() as u64;
                text.push_str(&format!(
                    "no  {host}: {} from {release} ({seen} compared)\n",
                    counted(number, "difference")
                ));
                let rows: Vec<Vec<String>> = verified
                    .drift
                    .iter()
                    .map(|drift| {
                        vec![
                            format!("    {}", kind(drift)),
                            printable(&drift.path),
                            printable(&drift.detail),
                        ]
                    })
                    .collect();
                text.push_str(&table(&rows));
            }
            Err(error) => {
                text.push_str(&format!("?   {host}: {}\n", printable(&error.to_string())));
                for cause in error.causes() {
                    text.push_str(&format!("    caused by: {}\n", printable(&cause)));
                }
                if let Some(hint) = error.hint() {
                    text.push_str(&format!("    hint: {hint}\n"));
                }
            }
        }
    }
    text
}

/// The kind of a difference, as it is written in JSON.
fn kind(drift: &relstore_deployer::protocol::Drift) -> String {
    json!(drift.kind).as_str().unwrap_or_default().to_owned()
}

fn document(answers: &[Asked<Verified>]) -> Value {
    let hosts: Vec<Value> = answers
        .iter()
        .map(|asked| match &asked.answer {
            Ok(verified) => json!({
                "host": asked.host,
                "release": verified.release,
                "files": verified.files,
                "bytes": verified.bytes,
                "ok": verified.drift.is_empty(),
                "drift": verified.drift,
            }),
            Err(error) => json!({ "host": asked.host, "error": error.to_string(), "causes": error.causes(), "hint": error.hint() }),
        })
        .collect();
    let ok = answers.iter().all(|asked| {
        asked
            .answer
            .as_ref()
            .is_ok_and(|verified| verified.drift.is_empty())
    });
    json!({ "ok": ok, "hosts": hosts })
}
