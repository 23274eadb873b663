//! `relstore check`: the gates alone.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use relstore_builder::exclude::Excludes;
use relstore_builder::gate::{self, Gate, GateResult, LeftOut, Settings, State, Verdict};
use relstore_builder::{Preset, Wanted, plan};
use relstore_store::id::ReleaseId;
use serde_json::{Value, json};

use crate::config::Config;
use crate::config::resolve::default_layout;
use crate::context::Context;
use crate::error::{CommandError, Result};
use crate::exit_code::ExitCode;
use crate::output::{printable, table};
use crate::stored::{block_on, open, resolve};

/// Run the gates alone, on a folder or on a stored release
///
/// In a project's folder they see what a release of it would hold: neither `.env` nor anything else
/// that is excluded, ignored by git or filled on hosts.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  relstore check                     the project's folder
  relstore check /tmp/unpacked       another folder
  relstore check latest              a release in the store
  relstore check --list              which gates there are, and what they are for")]
pub(crate) struct Args {
    /// A folder, or the name of a release when no folder is called so
    #[arg(value_name = "PATH|RELEASE", default_value = ".")]
    pub(crate) what: String,
    /// Show all gates with their purpose and what the configuration makes of them
    #[arg(long, conflicts_with = "what")]
    pub(crate) list: bool,
}

/// Runs the command.
pub(crate) fn run(context: &Context, args: &Args) -> Result<ExitCode> {
    let config = context.optional_config()?;
    let settings = match &config {
        Some(config) => config.gates.clone(),
        None => Settings::default(),
    };
    if args.list {
        return list(context, &settings);
    }
    let mut folder: PathBuf = context.folder.join(&args.what).components().collect();
    // The project's folder stands for the application in it.
    if let Some(config) = config.as_ref().filter(|config| config.project() == folder) {
        folder.extend(Path::new(&config.build.root));
    }
    let (results, release, what) = if folder.is_dir() {
        let left_out = left_out(context, config.as_ref(), &folder)?;
        let what = folder.display().to_string();
        let results = block_on(ask(context, folder, left_out, settings))?;
        (results, None, what)
    } else if looks_like_a_path(&args.what) {
        return Err(CommandError::bad_input(format!(
            "{} is no folder",
            folder.display()
        )));
    } else {
        let (results, release) = on_release(context, &args.what, settings)?;
        let what = format!("release {}", release.short());
        (results, Some(release), what)
    };
    report(context, &results, release, &what)
}

fn report(
    context: &Context,
    results: &[GateResult],
    release: Option<ReleaseId>,
    what: &str,
) -> Result<ExitCode> {
    let failed = results.iter().filter(|result| result.has_failed()).count();
    context.output.result(&text(results), || {
        json!({ "release": release, "folder": release.is_none().then_some(what), "ok": failed == 0, "gates": results })
    })?;
    if failed == 0 {
        return Ok(ExitCode::Ok);
    }
    // The answer is complete; this line is for whoever reads the log.
    context.output.always(&format!(
        "error: {failed} of {} gates failed on {}",
        results.len(),
        printable(what)
    ));
    Ok(ExitCode::GateFailed)
}

fn looks_like_a_path(text: &str) -> bool {
    [".", "/", "~"].iter().any(|begin| text.starts_with(begin))
}

/// What lies in a folder beside what a release of it would hold.
fn left_out(context: &Context, config: Option<&Config>, folder: &Path) -> Result<LeftOut> {
    let own = config.map_or(&[][..], |config| config.build.exclude.as_slice());
    let excludes = Excludes::of_release(own).map_err(|error| {
        CommandError::bad_input("`build.exclude` cannot be used").caused_by(&error)
    })?;
    let layout = config.map_or_else(default_layout, |config| config.layout.clone());
    let (path, home) = (search_path(context), context.variables.get("HOME"));
    let home = home.map(Path::new);
    Ok(LeftOut::of_project(
        folder,
        excludes,
        &layout,
        &made(config),
        &path,
        home,
    ))
}

/// Paths of all that steps make.
fn made(config: Option<&Config>) -> Vec<String> {
    let wanted = match config {
        Some(config) => Wanted {
            presets: config.build.steps.clone(),
            settings: config.build.settings.clone(),
            ..Wanted::default()
        },
        None => Wanted {
            presets: Preset::ALL.to_vec(),
            ..Wanted::default()
        },
    };
    let own = wanted.settings.values().flat_map(|step| &step.outputs);
    let own = own.map(ToString::to_string);
    plan::fresh_outputs(&wanted)
        .into_iter()
        .chain(own)
        .collect()
}

fn search_path(context: &Context) -> String {
    context.variables.get("PATH").unwrap_or_default().to_owned()
}

/// Lays the release out in a temporary folder and asks the gates there.
fn on_release(
    context: &Context,
    name: &str,
    settings: Settings,
) -> Result<(Vec<GateResult>, ReleaseId)> {
    block_on(async {
        let (config, store): (Option<Config>, _) = open(context).await?;
        let release = resolve(context, config.as_ref(), &store, name).await?;
        let folder = temporary(context)?;
        store.checkout(&release, folder.path()).await?;
        let root = folder.path().to_owned();
        let results = ask(context, root, LeftOut::default(), settings).await?;
        Ok((results, release))
    })
}

/// Asks the gates on a thread where that may take its time. When nobody waits any more, what runs
/// for them is ended.
async fn ask(
    context: &Context,
    root: PathBuf,
    left_out: LeftOut,
    settings: Settings,
) -> Result<Vec<GateResult>> {
    struct SetOnDrop(Arc<AtomicBool>);
    impl Drop for SetOnDrop {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let flag = SetOnDrop(Arc::default());
    let cancelled = Arc::clone(&flag.0);
    let search_path = search_path(context);
    // Nothing is remembered where no folder for it is known.
    let cache = context.cache_folder().ok().map(|cache| cache.join("cache"));
    let work = move || {
        let context = gate::Context {
            root: &root,
            left_out: &left_out,
            search_path: &search_path,
            cache: cache.as_deref(),
            cancelled: &cancelled,
        };
        gate::run(&context, &settings)
    };
    tokio::task::spawn_blocking(work).await.map_err(|error| {
        CommandError::new(ExitCode::Failure, "the gates could not be asked").caused_by(&error)
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
    let mut rows = Vec::new();
    for result in results {
        let mark = match result.verdict {
            Verdict::Passed => "ok",
            Verdict::Warned => "!",
            Verdict::Failed => "no",
            Verdict::Off => "--",
        };
        let mut said: Vec<String> = match result.verdict {
            Verdict::Off => vec!["off".to_owned()],
            Verdict::Passed => vec![result.evidence.first().cloned().unwrap_or_default()],
            Verdict::Warned | Verdict::Failed => result.evidence.clone(),
        };
        if let (Some(last), Some(cause)) = (said.last_mut(), &result.cause) {
            last.push_str(&format!("; usual cause: {cause}"));
        }
        for allowed in &result.allowed {
            let findings = allowed.findings.iter();
            said.extend(findings.map(|what| format!("allowed: {what}; {}", allowed.reason)));
        }
        for (index, line) in said.iter().enumerate() {
            let (mark, id) = match index {
                0 => (mark, result.id.as_str()),
                _ => ("", ""),
            };
            rows.push(vec![mark.to_owned(), id.to_owned(), printable(line)]);
        }
    }
    table(&rows)
}

fn list(context: &Context, settings: &Settings) -> Result<ExitCode> {
    let gates = gate::all(settings);
    let rows: Vec<Vec<String>> = gates
        .iter()
        .map(|gate| {
            vec![
                state(gate).to_owned(),
                gate.id.clone(),
                printable(&gate.purpose),
            ]
        })
        .collect();
    let entry = |gate: &Gate| -> Value {
        json!({ "id": gate.id, "purpose": gate.purpose, "state": state(gate), "command": gate.command() })
    };
    context.output.result(
        &table(&rows),
        || json!({ "gates": gates.iter().map(entry).collect::<Vec<_>>() }),
    )?;
    Ok(ExitCode::Ok)
}

/// What becomes of a gate, in one word.
fn state(gate: &Gate) -> &'static str {
    match (gate.state, gate.command()) {
        (State::Off, _) => "off",
        (State::Warns, _) => "warns",
        (State::On, Some(_)) => "command",
        (State::On, None) => "on",
    }
}
