//! `relstore check`: the gates alone.

use std::path::{Path, PathBuf};

use relstore_builder::gate::{GateResult, Verdict, nine, run as run_gates};
use relstore_store::id::ReleaseId;
use serde_json::json;

use crate::config::Config;
use crate::context::Context;
use crate::error::{CommandError, Result};
use crate::exit_code::ExitCode;
use crate::output::{printable, table};
use crate::stored::{block_on, open, resolve};

/// Run the gates alone, on a folder or on a stored release
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  relstore check                     the project's folder
  relstore check /tmp/unpacked       another folder
  relstore check latest              a release in the store")]
pub(crate) struct Args {
    /// A folder, or the name of a release when no folder is called so
    #[arg(value_name = "PATH|RELEASE", default_value = ".")]
    pub(crate) what: String,
}

/// Runs the command.
pub(crate) fn run(context: &Context, args: &Args) -> Result<ExitCode> {
    let config = context.optional_config()?;
    let off = config
        .as_ref()
        .map_or(&[][..], |config| config.gates_off.as_slice());
    let folder: PathBuf = context.folder.join(&args.what).components().collect();
    let (results, release, what) = if folder.is_dir() {
        (
            run_gates(&folder, &nine(), off),
            None,
            folder.display().to_string(),
        )
    } else if looks_like_a_path(&args.what) {
        return Err(CommandError::bad_input(format!(
            "{} is no folder",
            folder.display()
        )));
    } else {
        let (results, release) = on_release(context, &args.what, off)?;
        (
            results,
            Some(release),
            format!("release {}", release.short()),
        )
    };
    let failed = results.iter().filter(|result| result.has_failed()).count();
    context.output.result(&text(&results), || {
        json!({ "release": release, "folder": release.is_none().then_some(&what), "ok": failed == 0, "gates": results })
    })?;
    if failed == 0 {
        return Ok(ExitCode::Ok);
    }
    // The answer is complete; this line is for whoever reads the log.
    context.output.always(&format!(
        "error: {failed} of {} gates failed on {}",
        results.len(),
        printable(&what)
    ));
    Ok(ExitCode::GateFailed)
}

fn looks_like_a_path(text: &str) -> bool {
    [".", "/", "~"].iter().any(|begin| text.starts_with(begin))
}

/// Lays the release out in a temporary folder and asks the gates there.
fn on_release(
    context: &Context,
    name: &str,
    off: &[String],
) -> Result<(Vec<GateResult>, ReleaseId)> {
    block_on(async {
        let (config, store): (Option<Config>, _) = open(context).await?;
        let release = resolve(context, config.as_ref(), &store, name).await?;
        let folder = temporary(context)?;
        store.checkout(&release, folder.path()).await?;
        Ok((run_gates(folder.path(), &nine(), off), release))
    })
}

/// A private folder that vanishes with the command.
fn temporary(context: &Context) -> Result<tempfile::TempDir> {
    let parent = context
        .variables
        .get("TMPDIR")
        .map_or_else(|| PathBuf::from("/tmp"), PathBuf::from);
    tempfile::Builder::new()
        .prefix("relstore-check-")
        .tempdir_in(&parent)
        .map_err(|error| {
            CommandError::new(
                ExitCode::Failure,
                format!("cannot make a folder in {}", Path::display(&parent)),
            )
            .caused_by(&error)
        })
}

fn text(results: &[GateResult]) -> String {
    let rows: Vec<Vec<String>> = results
        .iter()
        .map(|result| {
            let (mark, said) = match &result.verdict {
                Verdict::Passed => ("ok", String::new()),
                Verdict::Off => ("--", "off".to_owned()),
                Verdict::Failed { what, cause } => ("no", format!("{what}; usual cause: {cause}")),
            };
            vec![mark.to_owned(), result.id.to_owned(), said]
        })
        .collect();
    table(&rows)
}
