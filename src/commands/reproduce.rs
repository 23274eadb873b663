//! `relstore build --check`: what the check found, for people and as JSON.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use relstore_builder::conditions::Condition;
use relstore_builder::reproduce::{Attempt, Cause, Event, Finding, Proof, Verdict, check_prepared};
use relstore_builder::{BuildRequest, Event as BuildEvent, Prepared};
use serde_json::{Value, json};

use crate::context::Context;
use crate::error::Result;
use crate::exit_code::ExitCode;
use crate::output::{count, counted, printable};
use crate::progress::{Progress, Task};

/// Most paths that are listed under one cause.
const PATHS_SHOWN: usize = 8;

/// Builds again what was prepared, `times` times or until it differs.
pub(super) async fn check(
    request: &BuildRequest,
    prepared: &Prepared,
    times: usize,
    progress: &Progress,
) -> Result<Verdict> {
    let builds = |event| again_printed(progress, event);
    let events = |event| show(progress, &event);
    Ok(check_prepared(prepared, request, times, &builds, &events).await?)
}

/// Of a build that runs again only what its steps print is shown: the rest was said the first time.
fn again_printed(progress: &Progress, event: BuildEvent) {
    if let BuildEvent::StepOutput { step, line } = event {
        progress.printed(&Task::new(&step), &line);
    }
}

/// Prints the report about a build that is not reproducible.
pub(super) fn report(context: &Context, verdict: &Verdict) -> Result<ExitCode> {
    context.output.result(
        &text(verdict),
        || json!({ "reproducible": false, "check": document(verdict) }),
    )?;
    Ok(ExitCode::NotReproducible)
}

/// Shows how a check goes on.
fn show(progress: &Progress, event: &Event) {
    match event {
        Event::Rebuilding { varied } => progress.begin(&Task::new(again(varied)), None),
        Event::Compared {
            varied,
            differences,
            took,
        } => {
            let text = match differences {
                0 => "the same tree".to_owned(),
                number => counted(*number, "difference"),
            };
            progress.ok(&Task::new(again(varied)), &text, Some(*took));
        }
    }
}

/// What a build that runs again is called.
fn again(varied: &[Condition]) -> String {
    match varied {
        [] => "again".to_owned(),
        [condition] => condition.name().to_owned(),
        _ => "all varied".to_owned(),
    }
}

/// What a check could not try, in one line each.
pub(super) fn not_varied(verdict: &Verdict) -> Vec<String> {
    let lines = verdict.unvaried.iter();
    lines
        .map(|(condition, why)| format!("{} was not varied: {why}", condition.name()))
        .collect()
}

fn text(verdict: &Verdict) -> String {
    let mut text = format!(
        "the release is not reproducible: {} in {}\n",
        counted(verdict.differences, "difference"),
        entries(verdict.entries)
    );
    for findings in by_cause(&verdict.findings) {
        group(&mut text, &findings);
    }
    let unseen = verdict.differences - verdict.findings.len() as u64;
    if unseen > 0 {
        let _ = writeln!(
            text,
            "\n{} not looked at",
            counted(unseen, "more difference")
        );
    }
    text.push('\n');
    let tried: Vec<String> = verdict.attempts.iter().map(attempt).collect();
    let _ = writeln!(text, "varied alone: {}", tried.join(", "));
    for line in not_varied(verdict) {
        let _ = writeln!(text, "{line}");
    }
    text
}

fn entries(number: u64) -> String {
    match number {
        1 => "1 entry".to_owned(),
        number => format!("{} entries", count(number)),
    }
}

/// Findings with the same cause, in the order of the first of each.
fn by_cause(findings: &[Finding]) -> Vec<Vec<&Finding>> {
    let mut groups: Vec<Vec<&Finding>> = Vec::new();
    for finding in findings {
        match groups
            .iter_mut()
            .find(|group| group[0].cause == finding.cause)
        {
            Some(group) => group.push(finding),
            None => groups.push(vec![finding]),
        }
    }
    groups
}

fn group(text: &mut String, findings: &[&Finding]) {
    let cause = findings[0].cause;
    let _ = match cause {
        Some(cause) => writeln!(
            text,
            "\n{}: {}\n  {}",
            cause.known.id,
            cause.known.sentence,
            proof(cause)
        ),
        None => writeln!(text, "\nunknown cause"),
    };
    for (index, finding) in findings.iter().enumerate().take(PATHS_SHOWN) {
        let difference = &finding.difference;
        let other = difference
            .other_path()
            .map(|path| format!(" -> {path}"))
            .unwrap_or_default();
        let _ = writeln!(
            text,
            "  {:8} {}{other}",
            difference.kind.name(),
            difference.path()
        );
        if let Some(excerpt) = finding.excerpt.as_ref().filter(|_| index == 0) {
            for line in &excerpt.lines {
                let _ = writeln!(text, "    {}", printable(line));
            }
        }
    }
    if findings.len() > PATHS_SHOWN {
        let _ = writeln!(text, "  and {} more", findings.len() - PATHS_SHOWN);
    }
    if let Some(cause) = cause {
        let _ = writeln!(text, "  hint: {}", cause.known.remedy);
    }
}

fn proof(cause: Cause) -> String {
    match cause.proof {
        Proof::Alone(condition) => format!(
            "proved: it differs when only {} is varied",
            with_article(condition)
        ),
        Proof::Unsteady => "proved: it differs although nothing is varied".to_owned(),
        Proof::Follows => "follows from the others".to_owned(),
        Proof::Looks => "not proved: it looks so".to_owned(),
    }
}

fn with_article(condition: Condition) -> String {
    match condition {
        Condition::Cpus => "the number of processors".to_owned(),
        condition => format!("the {}", condition.name()),
    }
}

fn attempt(attempt: &Attempt) -> String {
    let varied = attempt.varied.map_or("nothing", Condition::name);
    match &attempt.outcome {
        Ok(0) => format!("{varied} (the same)"),
        Ok(number) => format!("{varied} ({})", counted(*number, "difference")),
        Err(error) => format!("{varied} ({})", printable(error)),
    }
}

/// The object under `check`.
pub(super) fn document(verdict: &Verdict) -> Value {
    let unvaried: BTreeMap<&str, &String> = verdict
        .unvaried
        .iter()
        .map(|(condition, why)| (condition.name(), why))
        .collect();
    let attempts = verdict.attempts.iter().map(|attempt| {
        json!({
            "varied": attempt.varied.map(Condition::name),
            "differences": attempt.outcome.as_ref().ok(),
            "error": attempt.outcome.as_ref().err(),
        })
    });
    json!({
        "rebuilds": verdict.rebuilds,
        "not_varied": unvaried,
        "differences": verdict.differences,
        "findings": verdict.findings.iter().map(finding).collect::<Vec<_>>(),
        "attempts": attempts.collect::<Vec<_>>(),
    })
}

fn finding(finding: &Finding) -> Value {
    let difference = &finding.difference;
    let cause = finding.cause.map(|cause| {
        let (proof, condition) = match cause.proof {
            Proof::Alone(condition) => ("alone", Some(condition.name())),
            Proof::Unsteady => ("unsteady", None),
            Proof::Follows => ("follows", None),
            Proof::Looks => ("looks", None),
        };
        json!({
            "id": cause.known.id,
            "sentence": cause.known.sentence,
            "remedy": cause.known.remedy,
            "proof": proof,
            "condition": condition,
        })
    });
    json!({
        "kind": difference.kind.name(),
        "path": difference.path().to_string(),
        "other_path": difference.other_path().map(ToString::to_string),
        "cause": cause,
        "excerpt": finding.excerpt.as_ref().map(|excerpt| &excerpt.lines),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use relstore_builder::conditions::Conditions;
    use relstore_builder::reproduce::{self, BuiltTree, Circumstances};
    use std::path::Path;
    use std::time::SystemTime;

    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (name, content) in files {
            std::fs::write(root.path().join(name), content).unwrap();
        }
        root
    }

    fn built(tree: &Path, conditions: &Conditions) -> BuiltTree {
        let circumstances = Circumstances {
            conditions: conditions.clone(),
            unvaried: [(Condition::Clock, "`faketime` is not installed".to_owned())].into(),
            folder: conditions.place.clone(),
            home: conditions.home.clone(),
            env: BTreeMap::new(),
            started: SystemTime::UNIX_EPOCH,
            finished: SystemTime::UNIX_EPOCH,
        };
        BuiltTree::new(tree.to_owned(), circumstances, ())
    }

    /// A build that shows the umask always, and a random word each time.
    async fn verdict() -> Verdict {
        let one = tree(&[
            ("a.txt", "x\n\u{1b}[2Jcat\n"),
            ("m.txt", "0022\n"),
            ("n.txt", "0022\n"),
        ]);
        let two = tree(&[
            ("a.txt", "x\n\u{1b}[2Jdog\n"),
            ("m.txt", "0022\n"),
            ("n.txt", "0022\n"),
        ]);
        let masked = tree(&[
            ("a.txt", "x\n\u{1b}[2Jdog\n"),
            ("m.txt", "0077\n"),
            ("n.txt", "0077\n"),
        ]);
        let build = async |conditions: &Conditions| {
            let usual = conditions.umask == Conditions::default().umask;
            Ok(built(
                if usual { two.path() } else { masked.path() },
                conditions,
            ))
        };
        let first = built(one.path(), &Conditions::default());
        reproduce::check(first, 1, build, &|_| {}).await.unwrap()
    }

    #[test]
    fn report_names_files_causes_and_what_was_tried() {
        let verdict = crate::stored::block_on(async { Ok(verdict().await) }).unwrap();
        let expected = "\
the release is not reproducible: 3 differences in 3 entries

unsteady: it differs from build to build although nothing around it does: random numbers, memory addresses, or work done at the same time
  proved: it differs although nothing is varied
  content  a.txt
    @@ -1,2 +1,2 @@
     x
    -\\u{1b}[2Jcat
    +\\u{1b}[2Jdog
  hint: find the step that writes it (`relstore build -v`) and give it a fixed seed or one worker

umask: it depends on the umask
  proved: it differs when only the umask is varied
  content  m.txt
    @@ -1,1 +1,1 @@
    -0022
    +0077
  content  n.txt
  hint: say the mode where a file is made (`install -m 0644`, `tar --mode`)

varied alone: nothing (1 difference), umask (3 differences)
time was not varied: `faketime` is not installed
";
        assert_eq!(text(&verdict), expected);
    }

    #[test]
    fn json_holds_the_same() {
        let verdict = crate::stored::block_on(async { Ok(verdict().await) }).unwrap();
        let json = document(&verdict);
        assert_eq!(json["differences"], 3);
        assert_eq!(json["not_varied"]["time"], "`faketime` is not installed");
        let cause = &json["findings"][1]["cause"];
        assert_eq!(
            (&cause["id"], &cause["proof"], &cause["condition"]),
            (&json!("umask"), &json!("alone"), &json!("umask"))
        );
        assert_eq!(json["findings"][0]["excerpt"][1], " x");
        assert_eq!(
            json["attempts"][1],
            json!({ "varied": "umask", "differences": 3, "error": null })
        );
    }
}
