//! A gate's verdict with its evidence. Pure.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::answer::{Answer, Finding};
use super::{Allow, Gate, State};

/// How many findings are written out; a record must not grow with a project's past.
const EVIDENCE: usize = 25;

/// What a gate said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It holds.
    Passed,
    /// It does not hold, or could not be asked, and that does not stop a build.
    Warned,
    /// It does not hold.
    Failed,
    /// It is switched off.
    Off,
}

/// What the project allows by one entry of its configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allowed {
    /// The pattern of paths.
    pub path: String,
    /// Why that is right, in the words of the configuration.
    pub reason: String,
    /// What was found there, at most 25 and a count of the rest.
    pub findings: Vec<String>,
}

/// A gate's verdict on one tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GateResult {
    /// The gate.
    pub id: String,
    /// What it said.
    pub verdict: Verdict,
    /// What exactly is wrong and where, one sentence each, at most 25 and a count of the rest; of
    /// a gate that passed, what it looked at; of a command gate also the end of its output.
    pub evidence: Vec<String>,
    /// What usually leads there; `None` when nothing is wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// What it found and the project allows, by the entries that allow it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed: Vec<Allowed>,
    /// How long it took, without reading the tree, which all gates share.
    pub milliseconds: u64,
}

impl GateResult {
    pub(crate) fn new(gate: &Gate, answer: Answer, took: Duration, allow: &[Allow]) -> Self {
        let mut result = Self {
            id: gate.id.clone(),
            verdict: Verdict::Off,
            evidence: Vec::new(),
            cause: None,
            allowed: Vec::new(),
            milliseconds: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        };
        if gate.state == State::Off {
            return result;
        }
        let mut wrong = answer.findings;
        for entry in allow {
            let (allowed, rest) = wrong
                .into_iter()
                .partition::<Vec<_>, _>(|finding| entry.covers(&gate.id, finding));
            if !allowed.is_empty() {
                result.allowed.push(Allowed {
                    path: entry.path.clone(),
                    reason: entry.reason.clone(),
                    findings: bounded(&allowed),
                });
            }
            wrong = rest;
        }
        result.verdict = match (wrong.is_empty(), gate.state) {
            (true, _) if answer.skipped.is_none() => Verdict::Passed,
            (false, State::On) => Verdict::Failed,
            _ => Verdict::Warned,
        };
        if wrong.is_empty() {
            result.evidence = answer.notes;
        } else {
            result.evidence = bounded(&wrong);
            result.cause = Some(gate.cause.clone()).filter(|cause| !cause.is_empty());
        }
        let skipped = answer
            .skipped
            .map(|why| format!("could not be asked: {why}"));
        result.evidence.extend(skipped);
        result
    }

    /// Whether the gate was asked and refused.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.verdict == Verdict::Failed
    }

    /// What is wrong and why, one sentence a line, for a gate that refused or warned; else empty.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        if !matches!(self.verdict, Verdict::Failed | Verdict::Warned) {
            return Vec::new();
        }
        let mut lines: Vec<String> = self
            .evidence
            .iter()
            .map(|what| format!("gate `{}`: {what}", self.id))
            .collect();
        if let (Some(last), Some(cause)) = (lines.last_mut(), &self.cause) {
            last.push_str(&format!("; usual cause: {cause}"));
        }
        lines
    }
}

fn bounded(findings: &[Finding]) -> Vec<String> {
    let mut lines: Vec<String> = findings.iter().take(EVIDENCE).map(Finding::text).collect();
    if findings.len() > EVIDENCE {
        lines.push(format!("and {} more", findings.len() - EVIDENCE));
    }
    lines
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn gate(state: State) -> Gate {
        let mut gate = super::super::nine().remove(0);
        gate.state = state;
        gate
    }

    fn result(state: State, answer: Answer, allow: &[Allow]) -> GateResult {
        GateResult::new(&gate(state), answer, Duration::from_millis(3), allow)
    }

    #[test]
    fn verdict_follows_from_findings_and_state() {
        let wrong = || Answer::of(vec![Finding::at(b"a\n", "is wrong")]);
        for (state, answer, verdict) in [
            (State::On, wrong(), Verdict::Failed),
            (State::Warns, wrong(), Verdict::Warned),
            (State::Off, wrong(), Verdict::Off),
            (State::On, Answer::default(), Verdict::Passed),
            (State::On, Answer::skipped("no php"), Verdict::Warned),
        ] {
            assert_eq!(result(state, answer, &[]).verdict, verdict);
        }
        let lines = result(State::On, wrong(), &[]).lines();
        assert!(
            lines[0].starts_with("gate `artisan`: `a\\x0a` is wrong; usual cause: "),
            "{lines:?}"
        );
    }

    #[test]
    fn allowed_findings_are_kept_with_their_reason_and_do_not_count() {
        let answer = || {
            Answer::of(vec![
                Finding::on_line(b"a/x.php", 3, "is wrong"),
                Finding::at(b"b.php", "is wrong"),
            ])
        };
        let allow = |path| Allow::new("artisan", path, "a fixture").unwrap();
        let one = result(State::On, answer(), &[allow("a")]);
        assert_eq!(one.verdict, Verdict::Failed);
        assert_eq!(one.evidence, ["`b.php` is wrong"]);
        let both = result(State::On, answer(), &[allow("a"), allow("*.php")]);
        assert_eq!(both.verdict, Verdict::Passed);
        let expected = Allowed {
            path: "a".to_owned(),
            reason: "a fixture".to_owned(),
            findings: vec!["`a/x.php:3` is wrong".to_owned()],
        };
        assert_eq!((both.allowed.len(), &both.allowed[0]), (2, &expected));
    }

    #[test]
    fn evidence_is_bounded_and_counts_the_rest() {
        let finding = Finding::general("x");
        let many = result(State::On, Answer::of(vec![finding; 1000]), &[]);
        assert_eq!(many.evidence.len(), EVIDENCE + 1);
        assert_eq!(many.evidence[EVIDENCE], "and 975 more");
    }

    #[test]
    fn result_reads_well_as_json_and_back() {
        let off = result(State::Off, Answer::default(), &[]);
        let text = serde_json::to_string(&off).unwrap();
        assert_eq!(
            text,
            r#"{"id":"artisan","verdict":"off","evidence":[],"milliseconds":3}"#
        );
        assert_eq!(serde_json::from_str::<GateResult>(&text).unwrap(), off);
    }
}
