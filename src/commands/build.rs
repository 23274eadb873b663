//! `relstore build`: the project becomes a release in the store.

use std::cell::Cell;
use std::path::PathBuf;
use std::time::Duration;

use relstore_builder::reproduce::Verdict as Reproduced;
use relstore_builder::secret::{NETWORK_VARIABLES, SecretVariables};
use relstore_builder::{BuildRequest, Built, Event, GateResult, SourceSpec, Verdict, prepare};
use relstore_store::Store;
use relstore_store::event::Event as StoreEvent;
use serde_json::{Value, json};

use super::reproduce;
use crate::config::Config;
use crate::context::Context;
use crate::error::{CommandError, Result};
use crate::exit_code::ExitCode;
use crate::output::{bytes, counted};
use crate::progress::{Progress, Task};
use crate::release_name::short_commit;
use crate::stored::block_on;

/// Longest time one command of a step may take: installing packages over a slow line fits.
const STEP_LIMIT: Duration = Duration::from_secs(3600);

/// Build the project into a release and store it
///
/// Builds an exact commit (default HEAD), runs the steps (Composer, and Vite or Laravel Mix) and the
/// gates, stores the release and prints its hash as the last thing on stdout. A failed gate stores
/// nothing.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  relstore build                     the commit HEAD
  relstore build --ref v1.4.0        a tag, branch or commit
  relstore build --dirty             the work tree as it is, recorded as dirty
  relstore build --check             is it the same when it is built again elsewhere, later?")]
pub(crate) struct Args {
    /// The commit, branch or tag to build
    #[arg(
        long = "ref",
        value_name = "REV",
        default_value = "HEAD",
        conflicts_with = "dirty"
    )]
    pub(crate) reference: String,
    /// Build the files of the work tree instead of a commit
    #[arg(long)]
    pub(crate) dirty: bool,
    /// Build again under other conditions (path, time, locale, ...) and compare; what differs is
    /// not stored
    #[arg(long)]
    pub(crate) check: bool,
    /// How often to build again
    #[arg(
        long,
        value_name = "N",
        requires = "check",
        default_value_t = 2,
        value_parser = clap::value_parser!(u8).range(1..=100)
    )]
    pub(crate) times: u8,
}

/// Runs the command.
pub(crate) fn run(context: &Context, args: &Args) -> Result<ExitCode> {
    let config = context.config()?;
    let folder = context.store_folder(Some(&config))?;
    let request = request(context, &config, args)?;
    let storing = Cell::new(false);
    let work = async {
        // A store that cannot be used is told before the work, one that is not there is made
        // after it: a build that fails leaves no trace.
        Store::check_place(&folder).await?;
        let progress = Progress::new(context);
        let listener = |event| show(&progress, event);
        let prepared = prepare(request.clone(), &listener).await?;
        let mut checked = None;
        if args.check {
            let times = usize::from(args.times);
            let verdict = reproduce::check(context, &request, &prepared, times, &progress).await?;
            if !verdict.is_reproducible() {
                return Ok(Outcome::Differs(verdict));
            }
            checked = Some(verdict);
        }
        storing.set(true);
        let store = Store::open_or_create(&folder).await?;
        let built = prepared.store(&store, &listener).await?;
        progress.finish();
        progress.ok(&Task::new("store"), &stored(&built), None);
        Ok(Outcome::Built(built, checked))
    };
    let outcome = block_on(work).map_err(|error| interrupted(error, storing.get()))?;
    let (built, checked) = match outcome {
        Outcome::Built(built, checked) => (built, checked),
        Outcome::Differs(verdict) => return reproduce::report(context, &verdict),
    };
    for line in checked.iter().flat_map(reproduce::not_varied) {
        context.output.warning(&line);
    }
    if !built.others.is_empty() {
        let (commit, other) = (
            built.commit.as_deref().unwrap_or_default(),
            &built.others[0],
        );
        context.output.warning(&format!(
            "commit {} was built into another release before: settings or tools differ, or the build is not \
             reproducible; `relstore diff {} {}` shows what differs",
            short_commit(commit),
            other.short(),
            built.release.short()
        ));
    }
    context.output.result(&built.release.to_string(), || {
        let mut object = document(&built);
        if let Some(verdict) = &checked {
            object["reproducible"] = json!(true);
            object["check"] = reproduce::document(verdict);
        }
        object
    })?;
    Ok(ExitCode::Ok)
}

/// How a build without an error ends.
enum Outcome {
    /// Stored, and checked when that was asked for.
    Built(Built, Option<Reproduced>),
    /// It ran again and gave something else.
    Differs(Reproduced),
}

/// What is true after a signal ended a build.
fn interrupted(error: CommandError, storing: bool) -> CommandError {
    if error.code != ExitCode::Interrupted {
        return error;
    }
    error
        .state(match storing {
            true => "the store holds whole releases only; `relstore list` shows whether this one came to be",
            false => "nothing was stored",
        })
        .hint("`relstore build` begins anew")
}

fn request(context: &Context, config: &Config, args: &Args) -> Result<BuildRequest> {
    let variables = &context.variables;
    let network = NETWORK_VARIABLES
        .iter()
        .filter_map(|name| Some(((*name).to_owned(), variables.get(name)?.to_owned())));
    Ok(BuildRequest {
        project: config.project().to_owned(),
        source: match args.dirty {
            true => SourceSpec::WorkTree,
            false => SourceSpec::Commit(args.reference.clone()),
        },
        steps: config.build.steps.clone(),
        env: config.build.env.clone(),
        exclude: config.build.exclude.clone(),
        gates_off: config.gates_off.clone(),
        layout: config.layout.clone(),
        scratch: context.cache_folder()?,
        search_path: variables.get("PATH").unwrap_or_default().to_owned(),
        home: variables.get("HOME").map(PathBuf::from),
        network: SecretVariables::new(network),
        time_limit: STEP_LIMIT,
        now: context.now(),
    })
}

/// What the store got, in one line.
fn stored(built: &Built) -> String {
    let content = format!("{}, {}", counted(built.files, "file"), bytes(built.bytes));
    match (built.reused, built.new_blobs) {
        (true, 0) => format!("{content}, all in the store already"),
        (_, blobs) => format!(
            "{content}; {} new, {} stored as {}",
            counted(blobs, "blob"),
            bytes(built.new_bytes),
            bytes(built.stored_bytes)
        ),
    }
}

fn document(built: &Built) -> Value {
    let steps: Vec<Value> = built
        .steps
        .iter()
        .map(|step| json!({ "name": step.name, "milliseconds": step.milliseconds }))
        .collect();
    json!({
        "release": built.release,
        "commit": built.commit,
        "dirty": built.dirty,
        "files": built.files,
        "bytes": built.bytes,
        "new_blobs": built.new_blobs,
        "new_bytes": built.new_bytes,
        "stored_bytes": built.stored_bytes,
        "reused": built.reused,
        "gates": built.gates,
        "steps": steps,
        "records": built.records,
        "other_releases_of_commit": built.others,
    })
}

fn show(progress: &Progress, event: Event) {
    match event {
        Event::SourceRead {
            commit,
            files,
            bytes: size,
            took,
        } => {
            let from = match &commit {
                Some(commit) => format!("commit {}", short_commit(commit)),
                None => "work tree".to_owned(),
            };
            let text = format!("{from}, {}, {}", counted(files, "file"), bytes(size));
            progress.ok(&Task::new("source"), &text, Some(took));
        }
        Event::StepStarted { step } => progress.begin(&Task::new(step), None),
        Event::StepOutput { step, line } => progress.printed(&Task::new(step), &line),
        Event::StepFinished { step, took } => progress.ok(&Task::new(step), "", Some(took)),
        Event::Assembled {
            files,
            bytes: size,
            took,
        } => {
            let text = format!("{}, {}", counted(files, "file"), bytes(size));
            progress.ok(&Task::new("assemble"), &text, Some(took));
        }
        Event::Gates { results, took } => show_gates(progress, &results, took),
        Event::Import(event) => show_import(progress, event),
    }
}

fn show_gates(progress: &Progress, results: &[GateResult], took: Duration) {
    let task = Task::new("gates");
    let passed = results
        .iter()
        .filter(|result| result.verdict == Verdict::Passed)
        .count();
    let off: Vec<&str> = results
        .iter()
        .filter(|result| result.verdict == Verdict::Off)
        .map(|result| result.id)
        .collect();
    let mut text = format!("{passed}/{}", results.len() - off.len());
    if !off.is_empty() {
        text.push_str(&format!(", off: {}", off.join(", ")));
    }
    if results.iter().any(GateResult::has_failed) {
        progress.failed(&task, &text, Some(took));
    } else {
        progress.ok(&task, &text, Some(took));
    }
}

fn show_import(progress: &Progress, event: StoreEvent) {
    let (hash, pack) = (Task::new("hash"), Task::new("pack"));
    match event {
        StoreEvent::Scanned { bytes, .. } => progress.begin(&hash, Some(bytes)),
        StoreEvent::Hashed(bytes) => progress.advance_by(&hash, bytes),
        StoreEvent::Packing { bytes, .. } => {
            progress.end(&hash);
            progress.begin(&pack, Some(bytes));
        }
        StoreEvent::Packed(bytes) => progress.advance_by(&pack, bytes),
    }
}

/// A build that failed, by who has to act: the gate, the project, or the machine.
impl From<relstore_builder::BuildError> for CommandError {
    fn from(error: relstore_builder::BuildError) -> Self {
        use relstore_builder::BuildError as E;
        let code = match &error {
            E::Gates { .. } => ExitCode::GateFailed,
            E::Plan(_)
            | E::NoRepository { .. }
            | E::Ownership { .. }
            | E::NoCommit { .. }
            | E::NoPrefix { .. }
            | E::NoObject { .. }
            | E::Refused { .. } => ExitCode::BadInput,
            _ => ExitCode::Failure,
        };
        let mut command_error = Self::of(code, &error);
        for detail in error.details() {
            command_error = command_error.detail(detail);
        }
        match error.hint() {
            Some(hint) => command_error.hint(hint),
            None => command_error,
        }
    }
}
