//! `relstore build`: the project becomes a release in the store.

mod checks;

use std::cell::Cell;
use std::path::PathBuf;
use std::time::Duration;

use relstore_builder::check::{self, Group};
use relstore_builder::conditions::Conditions;
use relstore_builder::reproduce::Verdict as Reproduced;
use relstore_builder::{
    BuildRequest, Built, Event, GateResult, How, SourceSpec, StepResult, StorePlace, Verdict,
    Wanted, prepare,
};
use relstore_store::event::Event as StoreEvent;
use relstore_store::{Store, StoreError};
use serde_json::{Value, json};

use super::push::push;
use super::reproduce;
use crate::config::Config;
use crate::context::Context;
use crate::credentials;
use crate::error::{CommandError, Result};
use crate::exit_code::ExitCode;
use crate::output::{bytes, counted, printable};
use crate::progress::{Progress, Task};
use crate::release_name::short_commit;
use crate::remote;
use crate::signing;
use crate::stored::{block_on, refresh_listing};

/// Lines of one gate's warning that a build shows.
const WARNINGS: usize = 5;

/// Build the project into a release and store it
///
/// Builds an exact commit (default HEAD), runs the steps (Composer, and Vite or Laravel Mix), the
/// gates and the checks, stores the release and prints its hash as the last thing on stdout. A failed
/// gate or check stores nothing.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  relstore build                     the commit HEAD
  relstore build --ref v1.4.0        a tag, branch or commit
  relstore build --dirty             the work tree as it is, recorded as dirty
  relstore build --explain           why each step ran, or that it did not have to
  relstore build --check             is it the same when it is built again elsewhere, later?
  relstore build --push              and send the release to [store] remote
  relstore build --checks fast       without the slower checks, which are recorded as skipped")]
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
    /// Say of each step whether it ran, and what changed since the last build
    #[arg(long)]
    pub(crate) explain: bool,
    /// Send the release to another store [default: `[store] remote`]
    #[arg(long, value_name = "REMOTE", num_args = 0..=1, default_missing_value = "", require_equals = true)]
    pub(crate) push: Option<String>,
    /// Take a Composer package although its files are not those that were first installed
    #[arg(long = "accept-package", value_name = "NAME")]
    pub(crate) accept_packages: Vec<String>,
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
    /// Run the checks up to this group: fast, medium or slow
    #[arg(long, value_name = "GROUP", default_value = "slow")]
    pub(crate) checks: Group,
    /// Run no checks; that they were skipped is recorded
    #[arg(long, conflicts_with = "checks")]
    pub(crate) no_checks: bool,
}

/// Runs the command.
pub(crate) fn run(context: &Context, args: &Args) -> Result<ExitCode> {
    let config = context.config()?;
    let folder = context.store_folder(Some(&config))?;
    let request = request(context, &config, args)?;
    let storing = Cell::new(false);
    let work = async {
        let remote = match &args.push {
            Some(said) => {
                let said = Some(said.as_str()).filter(|said| !said.is_empty());
                let remote = remote::chosen(context, Some(&config), said)?;
                // A store that cannot be reached is told before the work, too.
                remote::open(context, &remote).await?;
                Some(remote)
            }
            None => None,
        };
        // A store that cannot be used is told before the work, one that is not there is made
        // after it: a build that fails leaves no trace.
        Store::check_place(&folder).await?;
        let progress = Progress::new(context);
        let listener = |event| show(context, &progress, args.explain, event);
        let place = StorePlace::new(folder.clone());
        let prepared = prepare(request.clone(), Some(&place), &listener).await?;
        let mut checked = None;
        if args.check {
            let times = usize::from(args.times);
            let verdict = reproduce::check(&request, &prepared, times, &progress).await?;
            if !verdict.is_reproducible() {
                return Ok(Outcome::Differs(verdict));
            }
            checked = Some(verdict);
        }
        storing.set(true);
        let store = place.make().await?;
        let built = prepared.store(store, &listener).await?;
        store
            .forget_derivations(config.store.retention.keep_derivations)
            .await?;
        refresh_listing(context, store).await;
        progress.finish();
        progress.ok(&Task::new("store"), &stored(&built), None);
        if let Some(remote) = remote {
            push(context, store, &[built.release], &remote).await?;
        }
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
    warn(context, &built.gates);
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

/// Says what gates warn of; all of it is in the answer of `check`.
fn warn(context: &Context, gates: &[GateResult]) {
    for gate in gates.iter().filter(|gate| gate.verdict == Verdict::Warned) {
        let lines = gate.lines();
        for line in lines.iter().take(WARNINGS) {
            context.output.warning(&printable(line));
        }
        if lines.len() > WARNINGS {
            let rest = counted((lines.len() - WARNINGS) as u64, "line");
            let id = &gate.id;
            context.output.warning(&format!(
                "gate `{id}`: {rest} more, `relstore check latest` shows them"
            ));
        }
    }
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
    let build = &config.build;
    Ok(BuildRequest {
        application: config.app.clone(),
        project: config.project().to_owned(),
        root: build.root.clone(),
        source: match args.dirty {
            true => SourceSpec::WorkTree,
            false => SourceSpec::Commit(args.reference.clone()),
        },
        wanted: Wanted {
            presets: build.steps.clone(),
            settings: build.settings.clone(),
            env: build.env.clone(),
            checks: false,
            facts: true,
        },
        exclude: build.exclude.clone(),
        gates: config.gates.clone(),
        checks: check::plan(
            config.checks.clone(),
            (!args.no_checks).then_some(args.checks),
        ),
        layout: config.layout.clone(),
        sandbox: build.sandbox,
        conditions: Conditions::default(),
        accept_packages: args.accept_packages.clone(),
        scratch: context.cache_folder()?,
        search_path: variables.get("PATH").unwrap_or_default().to_owned(),
        home: variables.get("HOME").map(PathBuf::from),
        secrets: credentials::read(context, config)?,
        now: context.now(),
        signer: signing::signer(context, config)?,
        trusted_builders: signing::trusted_builders(config)?,
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
    let steps: Vec<Value> = built.steps.iter().map(step_document).collect();
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

fn step_document(step: &StepResult) -> Value {
    let (cached, record) = match &step.how {
        How::Ran => (false, None),
        How::Cached { record, .. } => (true, Some(record)),
    };
    json!({
        "name": step.name,
        "key": step.key,
        "cached": cached,
        "derivation": record,
        "sandboxed": step.sandboxed,
        "changes": step.reasons,
        "milliseconds": step.milliseconds,
    })
}

/// Most changes that are listed for one step; a first look needs no more.
const CHANGES_SHOWN: usize = 10;

/// What changed for a step, in one line.
fn changes(reasons: &[String]) -> String {
    let mut text = reasons
        .iter()
        .take(CHANGES_SHOWN)
        .map(|reason| printable(reason))
        .collect::<Vec<_>>()
        .join(", ");
    if reasons.len() > CHANGES_SHOWN {
        text.push_str(&format!(" and {} more", reasons.len() - CHANGES_SHOWN));
    }
    text
}

fn show(context: &Context, progress: &Progress, explain: bool, event: Event) {
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
        Event::StepStarted { step, reasons } => {
            let task = Task::new(&step);
            progress.begin(&task, None);
            if explain {
                let why = match reasons.is_empty() {
                    true => "runs: no result is kept for what it depends on".to_owned(),
                    false => format!("runs: {}", changes(&reasons)),
                };
                progress.printed(&task, &why);
            }
        }
        Event::StepWaiting { step } => progress.printed(
            &Task::new(&step),
            "waits for another build that makes the same",
        ),
        Event::StepOutput { step, line } => progress.printed(&Task::new(&step), &line),
        Event::StepFinished { step, took } => progress.ok(&Task::new(&step), "", Some(took)),
        Event::StepCached { step, reasons } => {
            let text = match explain && !reasons.is_empty() {
                true => format!("cached; {}: built before", changes(&reasons)),
                false => "cached".to_owned(),
            };
            progress.ok(&Task::new(&step), &text, None);
        }
        Event::NoFacts { why } => context.output.warning(&format!(
            "no routes, schedule and settings are recorded: {why}"
        )),
        Event::NoSandbox { why, remedy } => context.output.warning(&format!(
            "steps run without a sandbox: {}; {remedy}",
            printable(&why)
        )),
        Event::Assembled {
            files,
            bytes: size,
            took,
        } => {
            let text = format!("{}, {}", counted(files, "file"), bytes(size));
            progress.ok(&Task::new("assemble"), &text, Some(took));
        }
        Event::Gates { results, took } => show_gates(progress, &results, took),
        Event::Check(event) => checks::show(progress, event),
        Event::Import(event) => show_import(progress, &event),
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
        .map(|result| result.id.as_str())
        .collect();
    let warned: Vec<&str> = results
        .iter()
        .filter(|result| result.verdict == Verdict::Warned)
        .map(|result| result.id.as_str())
        .collect();
    let mut text = format!("{passed}/{}", results.len() - off.len());
    if !warned.is_empty() {
        text.push_str(&format!(", warned: {}", warned.join(", ")));
    }
    if !off.is_empty() {
        text.push_str(&format!(", off: {}", off.join(", ")));
    }
    if results.iter().any(GateResult::has_failed) {
        progress.failed(&task, &text, Some(took));
    } else {
        progress.ok(&task, &text, Some(took));
    }
}

/// One moving line for the whole import.
pub(crate) fn show_import(progress: &Progress, event: &StoreEvent) {
    let task = Task::new("store");
    match event {
        StoreEvent::Scanned { bytes, .. } => progress.begin(&task, Some(*bytes)),
        StoreEvent::Imported(bytes) => progress.advance_by(&task, *bytes),
        _ => {}
    }
}

/// A build that failed, by who has to act: the gate, the project, or the machine.
impl From<relstore_builder::BuildError> for CommandError {
    fn from(error: relstore_builder::BuildError) -> Self {
        use relstore_builder::BuildError as E;
        use relstore_store::archive::ArchiveError;
        let code = match &error {
            E::Gates { .. } => ExitCode::GateFailed,
            E::Checks { .. } => ExitCode::CheckFailed,
            E::Archive {
                source: ArchiveError::Write { .. } | ArchiveError::Interrupted,
                ..
            } => ExitCode::Failure,
            E::Plan(_)
            | E::Archive { .. }
            | E::Sum { .. }
            | E::NoSum { .. }
            | E::OtherRelease { .. }
            | E::Undeclared { .. }
            | E::WroteElsewhere { .. }
            | E::NoOutput { .. }
            | E::NoRepository { .. }
            | E::Ownership { .. }
            | E::NoCommit { .. }
            | E::NoPrefix { .. }
            | E::NoObject { .. }
            | E::NoSubmodule { .. }
            | E::Refused { .. }
            | E::Lock(_)
            | E::Empty { .. }
            | E::Store(StoreError::Tree { .. }) => ExitCode::BadInput,
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
