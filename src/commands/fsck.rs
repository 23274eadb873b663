//! `relstore fsck`: is the store what it should be, and what can be mended?

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant, UNIX_EPOCH};

use relstore_store::Store;
use relstore_store::backend::Backend;
use relstore_store::event::Event;
use relstore_store::fsck::repair::{self, Action, Left, Origin, Outcome, Plan};
use relstore_store::fsck::{self, Depth, Problem, Report};
use relstore_store::id::ReleaseId;
use serde_json::{Value, json};

use crate::context::Context;
use crate::error::Result;
use crate::exit_code::ExitCode;
use crate::output::{bytes, counted, printable, table};
use crate::progress::{Progress, Task, seconds};
use crate::release_name::short_commit;
use crate::remote;
use crate::stored::block_on;

/// Check the store, and mend what can be mended
///
/// Without an option: everything but the contents of bundles. Ends with code 13 when something is wrong
/// and stays so, with 0 when all is well or was mended. What is damaged is never read as if it
/// were not; this command says beforehand what that would be.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  relstore fsck                              structure, in a moment
  relstore fsck --full                       every byte
  relstore fsck --sample 5%                  some of them, others each time
  relstore fsck --repair --from backup       from the remote store `backup` of relstore.toml")]
pub(crate) struct Args {
    /// Read every byte of the bundles, too
    #[arg(long)]
    pub(crate) full: bool,
    /// Read about so many of a hundred frames of the bundles, chosen anew each time
    #[arg(long, value_name = "PERCENT", value_parser = percent, conflicts_with = "full")]
    pub(crate) sample: Option<u8>,
    /// Choose the frames of an earlier --sample
    #[arg(long, value_name = "NUMBER", requires = "sample")]
    pub(crate) seed: Option<u64>,
    /// Mend what can be mended; reads every byte first unless --sample is given
    #[arg(long)]
    pub(crate) repair: bool,
    /// Take what is missing from this store: name of a remote, URL or folder; may be repeated
    #[arg(long, value_name = "REMOTE", requires = "repair")]
    pub(crate) from: Vec<String>,
}

fn percent(text: &str) -> std::result::Result<u8, String> {
    match text.trim_end_matches('%').parse() {
        Ok(percent @ 1..=100) => Ok(percent),
        _ => Err("a number from 1 to 100, such as 5%".to_owned()),
    }
}

impl Args {
    fn depth(&self, context: &Context) -> Depth {
        match self.sample {
            Some(percent) => {
                // Any number will do that is another one next time; it is told.
                let now = context.now().duration_since(UNIX_EPOCH);
                let now = now.unwrap_or_default().as_millis() % 1_000_000;
                let seed = self.seed.unwrap_or(now as u64);
                Depth::Sample { percent, seed }
            }
            None if self.full || self.repair => Depth::Full,
            None => Depth::Quick,
        }
    }
}

/// A repair, and where from.
struct Repaired {
    outcome: Outcome,
    sources: Vec<String>,
}

/// Runs the command.
pub(crate) fn run(context: &Context, args: &Args) -> Result<ExitCode> {
    let config = context.optional_config()?;
    let depth = args.depth(context);
    block_on(async {
        let place = context.store_place(config.as_ref())?;
        let place = remote::at(context, config.as_ref(), place);
        // Never the copies of a cache: they say nothing about the store.
        let backend = remote::backend(context, &place).await?;
        let mut sources = Vec::new();
        for name in &args.from {
            let from = remote::chosen(context, config.as_ref(), Some(name))?;
            sources.push(remote::open(context, &from).await?);
        }
        let began = Instant::now();
        let mut report = check(context, &backend, depth).await?;
        let took = began.elapsed();
        let mut repaired = None;
        if args.repair && !(report.is_clean() && report.notes.is_empty()) {
            let done = mend(context, &backend, report, &sources).await?;
            report = done.outcome.report.clone();
            repaired = Some(done);
        }
        let text = text(&backend.place(), &report, took, repaired.as_ref(), args);
        context.output.result(&text, || {
            document(&backend.place(), &report, repaired.as_ref())
        })?;
        Ok(match report.is_clean() {
            true => ExitCode::Ok,
            false => ExitCode::Damaged,
        })
    })
}

async fn check(context: &Context, backend: &Arc<dyn Backend>, depth: Depth) -> Result<Report> {
    let progress = Progress::new(context);
    let task = Task::new("check");
    progress.begin(&task, None);
    let listener = |event: Event| match event {
        Event::ToCheck(bytes) => {
            progress.end(&task);
            progress.begin(&task, Some(bytes));
        }
        Event::Checked(bytes) => progress.advance_by(&task, bytes),
        _ => {}
    };
    let report = fsck::check(backend, depth, &listener).await?;
    progress.end(&task);
    Ok(report)
}

/// Mends, and checks again.
async fn mend(
    context: &Context,
    backend: &Arc<dyn Backend>,
    report: Report,
    sources: &[Store],
) -> Result<Repaired> {
    let progress = Progress::new(context);
    let task = Task::new("repair");
    progress.begin(&task, None);
    let places: Vec<String> = sources.iter().map(Store::place).collect();
    let told = |plan: &Plan| {
        for action in &plan.actions {
            progress.line(&format!("      {}", printable(&told(action, &places))));
        }
    };
    let began = Instant::now();
    let outcome = repair::mend(backend, report, sources, &|_| (), &told).await?;
    if !outcome.actions.is_empty() {
        let text = format!(
            "{} and {} written, {} removed",
            counted(outcome.mended.objects as u64, "object"),
            counted(outcome.mended.blobs as u64, "blob"),
            counted(outcome.mended.removed as u64, "damaged object"),
        );
        progress.ok(&task, &text, Some(began.elapsed()));
    }
    Ok(Repaired {
        outcome,
        sources: places,
    })
}

fn told(action: &Action, sources: &[String]) -> String {
    let place = |number: &usize| sources.get(*number).cloned().unwrap_or_default();
    match action {
        Action::Put { object, origin } => match origin {
            Origin::Name => format!("write {object}"),
            Origin::Here(name) => format!("write {object}, as {name}"),
            Origin::Source(number, _) => format!("write {object}, from {}", place(number)),
        },
        Action::Index { object, .. } => format!("write {object}, from its bundle"),
        Action::Salvage { blobs } => format!(
            "save {} from damaged bundles",
            counted(*blobs as u64, "blob")
        ),
        Action::Fetch { blobs, source } => format!(
            "fetch {} from {}",
            counted(*blobs as u64, "blob"),
            place(source)
        ),
        Action::Remove { object } => format!("remove {object}"),
        Action::Restore { release, source } => {
            format!("fetch release {} from {}", release.short(), place(source))
        }
    }
}

fn text(
    place: &str,
    report: &Report,
    took: Duration,
    repaired: Option<&Repaired>,
    args: &Args,
) -> String {
    let mut text = format!(
        "{place}: {}, {}, {}\n",
        counted(report.releases as u64, "release"),
        counted(report.bundles as u64, "bundle"),
        counted(report.objects as u64, "object"),
    );
    match report.depth {
        Depth::Quick => text.push_str("structure checked; `--full` reads the contents, too\n"),
        Depth::Full if repaired.is_some_and(|done| !done.outcome.actions.is_empty()) => {
            text.push_str("checked again after the repair\n");
        }
        Depth::Full => text.push_str(&format!(
            "{} checked in {}\n",
            bytes(report.checked_bytes),
            seconds(took)
        )),
        Depth::Sample { percent, seed } => text.push_str(&format!(
            "{percent}% checked, {}, with --seed {seed}\n",
            bytes(report.checked_bytes)
        )),
    }
    let notes = report.notes.iter().map(|note| {
        let object = printable(&note.object);
        vec!["  note".to_owned(), object, note.remark.to_string()]
    });
    text.push_str(&table(&notes.collect::<Vec<_>>()));
    if report.is_clean() {
        text.push_str("nothing is damaged\n");
        return text;
    }
    text.push_str(&problems(&report.problems));
    let affected = report.by_release().len();
    text.push_str(&format!(
        "{}, {} affected\n",
        counted(report.problems.len() as u64, "problem"),
        counted(affected as u64, "release")
    ));
    for hint in hints(report, repaired, args) {
        text.push_str(&format!("hint: {hint}\n"));
    }
    text
}

/// One paragraph for each object.
fn problems(problems: &[Problem]) -> String {
    let mut text = String::new();
    let mut last = "";
    for problem in problems {
        if problem.object != last {
            text.push_str(&format!("{}\n", printable(&problem.object)));
            last = &problem.object;
        }
        text.push_str(&format!("  {}\n", printable(&problem.fault.to_string())));
        let affects = &problem.affects;
        if !affects.releases.is_empty() {
            let ids = affects.releases.iter();
            let releases: Vec<String> = ids.map(ReleaseId::short).collect();
            text.push_str(&format!("  affects release {}\n", releases.join(", ")));
        }
        if !affects.outputs.is_empty() {
            let number = counted(affects.outputs.len() as u64, "build step");
            text.push_str(&format!("  affects {number}: it runs again when needed\n"));
        }
    }
    text
}

fn hints(report: &Report, repaired: Option<&Repaired>, args: &Args) -> Vec<String> {
    let mut hints = Vec::new();
    let command = "relstore fsck --repair --from REMOTE";
    match (args.repair, args.from.is_empty()) {
        (false, _) => hints.push(format!(
            "`{command}` mends it from another copy of this store"
        )),
        (true, true) => hints.push(format!(
            "`{command}`: another copy of this store may have the rest"
        )),
        (true, false) => {}
    }
    if let Some(repaired) = repaired {
        for commit in commits(&repaired.outcome.left) {
            let commit = short_commit(&commit).to_owned();
            hints.push(format!(
                "`relstore build --ref {commit}` makes what is lost again"
            ));
        }
    }
    if report.depth == Depth::Quick {
        hints.push("`relstore fsck --full` finds what is damaged inside of bundles".to_owned());
    }
    hints
}

fn commits(left: &[Left]) -> BTreeSet<String> {
    left.iter().flat_map(|left| left.commits.clone()).collect()
}

fn document(place: &str, report: &Report, repaired: Option<&Repaired>) -> Value {
    let (depth, seed, percent) = match report.depth {
        Depth::Quick => ("quick", None, None),
        Depth::Full => ("full", None, None),
        Depth::Sample { percent, seed } => ("sample", Some(seed), Some(percent)),
    };
    let problems: Vec<Value> = report.problems.iter().map(problem).collect();
    let notes = report.notes.iter();
    let notes: Vec<Value> = notes
        .map(|note| json!({ "object": note.object, "remark": note.remark.to_string() }))
        .collect();
    json!({
        "store": place,
        "ok": report.is_clean(),
        "depth": depth,
        "percent": percent,
        "seed": seed,
        "releases": report.releases,
        "bundles": report.bundles,
        "objects": report.objects,
        "checked_bytes": report.checked_bytes,
        "problems": problems,
        "notes": notes,
        "repair": repaired.map(|repaired| json!({
            "actions": repaired.outcome.actions.iter().map(|action| told(action, &repaired.sources)).collect::<Vec<_>>(),
            "objects": repaired.outcome.mended.objects,
            "blobs": repaired.outcome.mended.blobs,
            "removed": repaired.outcome.mended.removed,
            "commits_to_build": commits(&repaired.outcome.left),
        })),
    })
}

fn problem(problem: &Problem) -> Value {
    json!({
        "object": problem.object,
        "kind": problem.fault.kind(),
        "what": problem.fault.to_string(),
        "releases": problem.affects.releases,
        "outputs": problem.affects.outputs.iter().map(ToString::to_string).collect::<Vec<_>>(),
    })
}
