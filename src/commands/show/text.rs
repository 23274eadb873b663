//! What `relstore show` prints for people. Everything that comes from a record is made printable:
//! whoever may add a record must not be able to draw on a terminal.

use std::fmt::Write as _;

use relstore_builder::check::{CheckOutcome, CheckResult};
use relstore_builder::facts::{AppFacts, Part};
use relstore_store::id::ReleaseId;
use relstore_store::manifest::Manifest;

use super::{Known, shared, writable};
use crate::config::Config;
use crate::git;
use crate::output::{bytes, count, counted, printable, table};
use crate::release_name::short_commit;
use crate::said::{BuildSaid, Materials, Packages, Said, StepSaid};
use crate::time::local_minute;

/// How many licences are named; the others are counted.
const LICENCES: usize = 5;

/// Lines of a label and a text.
struct Lines(String);

impl Lines {
    fn add(&mut self, label: &str, value: &str) {
        let _ = writeln!(self.0, "{label:9} {}", printable(value));
    }

    fn add_list(&mut self, label: &str, values: &[String]) {
        if !values.is_empty() {
            self.add(label, &values.join(", "));
        }
    }
}

/// One release.
pub(super) fn release(
    config: Option<&Config>,
    release: ReleaseId,
    manifest: &Manifest,
    said: &Said,
    known: &[Known],
) -> String {
    let mut lines = Lines(String::new());
    lines.add("release", &release.to_string());
    let files = counted(manifest.file_count() as u64, "file");
    lines.add(
        "content",
        &format!("{files}, {}", bytes(manifest.content_bytes())),
    );
    for build in &said.builds {
        lines.add("built", &built(config, build));
    }
    if let Some(build) = said.last_build() {
        lines.add_list("steps", &steps(build));
        let tools = build.tools.iter();
        let tools = tools.map(|(name, version)| tool(name, version));
        lines.add_list("tools", &tools.collect::<Vec<_>>());
    }
    if let Some(materials) = &said.materials {
        lines.add_list("packages", &packages(materials));
        lines.add_list("licences", &licences(materials));
    }
    if !said.gates_passed.is_empty() {
        let passed = &said.gates_passed;
        lines.add(
            "gates",
            &format!("{} passed: {}", passed.len(), passed.join(", ")),
        );
    }
    for (id, evidence) in &said.gates_warned {
        lines.add("warning", id);
        for line in evidence {
            lines.add("", line);
        }
    }
    lines.add_list("off", &said.gates_off);
    for result in &said.checks {
        lines.add("check", &check(result));
    }
    if let Some(application) = &said.application {
        lines.add("app", &versions(application));
        lines.add("", &parts(application));
    }
    lines.add_list("shared", &shared(manifest));
    lines.add_list("writable", &writable(manifest));
    for line in signers(known) {
        lines.add("signed", &line);
    }
    lines.add("records", &known.len().to_string());
    lines.0
}

/// The records alone, oldest first.
pub(super) fn records(known: &[Known]) -> String {
    let row = |one: &Known| {
        let by = one.signatures.iter().map(|signed| match &signed.by {
            Ok(principal) => format!("signed by {principal}"),
            Err(refusal) => refusal.clone(),
        });
        vec![
            one.record.id.to_string(),
            one.kind.name().to_owned(),
            bytes(one.record.json.len() as u64),
            printable(&by.collect::<Vec<_>>().join("; ")),
        ]
    };
    table(&known.iter().map(row).collect::<Vec<_>>())
}

fn built(config: Option<&Config>, build: &BuildSaid) -> String {
    let finished = build.finished.as_deref().map(local_minute);
    let mut text = finished.unwrap_or_else(|| "?".to_owned());
    match &build.commit {
        Some(commit) => {
            let _ = write!(text, "  commit {}", short_commit(commit));
            if let Some(subject) = config.and_then(|config| git::subject(config.project(), commit))
            {
                let _ = write!(text, " \"{subject}\"");
            }
            if build.dirty {
                text.push_str(" with changes");
            }
        }
        None if build.dirty => text.push_str("  from the work tree"),
        None => {}
    }
    text
}

fn steps(build: &BuildSaid) -> Vec<String> {
    let step = |step: &StepSaid| match (step.cached, &step.signer, step.milliseconds) {
        (true, Some(signer), _) => format!("{} from {signer}", step.name),
        (true, None, _) => format!("{} cached", step.name),
        (false, _, Some(milliseconds)) => format!("{} {}", step.name, seconds(milliseconds)),
        (false, _, None) => step.name.clone(),
    };
    build.steps.iter().map(step).collect()
}

/// Most tools say their own name with their version.
fn tool(name: &str, version: &str) -> String {
    match version.to_lowercase().contains(&name.to_lowercase()) {
        true => version.to_owned(),
        false => format!("{name} {version}"),
    }
}

fn packages(materials: &Materials) -> Vec<String> {
    let one = |(kind, packages): (&String, &Packages)| {
        let mut text = format!("{} {kind}", count(packages.all));
        if packages.others > 0 {
            let _ = write!(text, " ({} not required)", count(packages.others));
        }
        text
    };
    materials.packages.iter().map(one).collect()
}

fn licences(materials: &Materials) -> Vec<String> {
    let all = materials.by_count();
    let named = all.iter().take(LICENCES);
    let mut lines: Vec<String> = named
        .map(|(name, count)| format!("{count} {name}"))
        .collect();
    if all.len() > LICENCES {
        let rest: u64 = all[LICENCES..].iter().map(|(_, count)| count).sum();
        lines.push(format!("{rest} of {} others", all.len() - LICENCES));
    }
    if materials.unlicensed > 0 {
        lines.push(format!("{} without", materials.unlicensed));
    }
    lines
}

fn check(check: &CheckResult) -> String {
    let mut text = match &check.outcome {
        CheckOutcome::Passed => format!("{} passed", check.name),
        CheckOutcome::Failed => format!("{} FAILED", check.name),
        CheckOutcome::TimedOut => format!("{} FAILED: it took too long", check.name),
        CheckOutcome::Skipped { why } => return format!("{} skipped: {why}", check.name),
    };
    if let Some(junit) = &check.junit {
        let _ = write!(text, ", {}", counted(junit.tests, "test"));
        for (number, what) in [
            (junit.failures, "failed"),
            (junit.errors, "with errors"),
            (junit.skipped, "skipped"),
        ] {
            if number > 0 {
                let _ = write!(text, ", {number} {what}");
            }
        }
    }
    if let Some(percent) = check.coverage_percent {
        let _ = write!(text, ", {percent:.1} % of lines");
    }
    let _ = write!(text, ", {}", seconds(check.milliseconds));
    text
}

fn versions(application: &AppFacts) -> String {
    match &application.laravel {
        Part::Value(version) => format!("Laravel {version} on PHP {}", application.php),
        Part::Error(error) => format!("it did not boot on PHP {}: {error}", application.php),
    }
}

fn parts(application: &AppFacts) -> String {
    fn part<T>(part: &Part<Vec<T>>, noun: &str) -> String {
        match part {
            Part::Value(values) => counted(values.len() as u64, noun),
            Part::Error(_) => format!("{noun}s unknown"),
        }
    }
    [
        part(&application.routes, "route"),
        part(&application.schedule, "scheduled task"),
        part(&application.config, "configuration key"),
        part(&application.env, "environment key"),
    ]
    .join(", ")
}

/// One line per signer, and one per reason why a signature does not count.
fn signers(known: &[Known]) -> Vec<String> {
    let mut lines: Vec<(String, usize)> = Vec::new();
    for signed in known.iter().flat_map(|one| &one.signatures) {
        let line = match &signed.by {
            Ok(principal) => format!(" by {principal}, {}", signed.fingerprint),
            Err(refusal) => format!(", but {refusal}"),
        };
        match lines.iter_mut().find(|(known, _)| *known == line) {
            Some((_, number)) => *number += 1,
            None => lines.push((line, 1)),
        }
    }
    let all = known.len();
    let text = |(line, number)| format!("{number} of {}{line}", counted(all as u64, "record"));
    lines.into_iter().map(text).collect()
}

/// `1.4 s` of milliseconds.
fn seconds(milliseconds: u64) -> String {
    format!("{:.1} s", milliseconds as f64 / 1000.0)
}
