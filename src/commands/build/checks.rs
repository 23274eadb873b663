//! What checks tell, in lines.

use std::time::Duration;

use relstore_builder::check::{CheckEvent, CheckOutcome, CheckResult};

use crate::output::counted;
use crate::progress::{Progress, Task};

/// Shows one piece of news.
pub(super) fn show(progress: &Progress, event: CheckEvent) {
    match event {
        CheckEvent::Started { check } => progress.begin(&Task::new(&check), None),
        CheckEvent::Output { check, line } => progress.printed(&Task::new(&check), &line),
        CheckEvent::Finished { result, required } => {
            let task = Task::new(&result.name);
            let took = Some(Duration::from_millis(result.milliseconds));
            let text = said(&result);
            match (&result.outcome, required) {
                (CheckOutcome::Passed, _) => progress.ok(&task, &text, took),
                (CheckOutcome::Failed | CheckOutcome::TimedOut, true) => {
                    progress.failed(&task, &text, took);
                }
                _ => {
                    progress.end(&task);
                    progress.warning(&task, &text);
                }
            }
        }
    }
}

/// What a check found out, in a few words.
fn said(result: &CheckResult) -> String {
    let mut parts = Vec::new();
    match &result.outcome {
        CheckOutcome::Passed => {}
        CheckOutcome::Failed => parts.push(match result.exit_code {
            Some(code) => format!("exit status {code}"),
            None => "failed".to_owned(),
        }),
        CheckOutcome::TimedOut => parts.push("stopped after its time limit".to_owned()),
        CheckOutcome::Skipped { why } => parts.push(format!("skipped: {why}")),
    }
    if let Some(junit) = result.junit {
        parts.push(counted(junit.tests, "test"));
        for (count, what) in [
            (junit.failures, "failed"),
            (junit.errors, "with errors"),
            (junit.skipped, "skipped"),
        ] {
            if count > 0 {
                parts.push(format!("{count} {what}"));
            }
        }
    }
    parts.extend(
        result
            .coverage_percent
            .map(|percent| format!("{percent} % covered")),
    );
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use relstore_builder::check::JunitSummary;

    fn result(outcome: CheckOutcome) -> CheckResult {
        CheckResult {
            name: "tests".to_owned(),
            group: "slow".to_owned(),
            command: "vendor/bin/pest".to_owned(),
            outcome,
            exit_code: None,
            milliseconds: 0,
            last_output: Vec::new(),
            junit: None,
            coverage_percent: None,
        }
    }

    #[test]
    fn numbers_are_told_when_there_are_some() {
        let mut tests = result(CheckOutcome::Passed);
        assert_eq!(said(&tests), "");
        tests.junit = Some(JunitSummary {
            tests: 8,
            failures: 0,
            errors: 1,
            skipped: 2,
        });
        tests.coverage_percent = Some(92.42);
        assert_eq!(
            said(&tests),
            "8 tests, 1 with errors, 2 skipped, 92.42 % covered"
        );
        tests.outcome = CheckOutcome::Failed;
        tests.exit_code = Some(2);
        assert!(said(&tests).starts_with("exit status 2, 8 tests"));
        assert_eq!(
            said(&result(CheckOutcome::Skipped {
                why: "no checks were asked for".to_owned()
            })),
            "skipped: no checks were asked for"
        );
    }
}
