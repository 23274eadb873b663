//! Verdicts of gates and results of checks, as in-toto test results (v0.1): one statement for the
//! gates, one for the checks. Whoever knows the predicate sees what passed; all that relstore knows
//! of each (evidence, times, output) is in the annotations.

use std::collections::BTreeMap;

use relstore_store::id::ReleaseId;
use serde_json::{Value, json};

use crate::check::{CheckOutcome, CheckResult};
use crate::gate::{Allowed, GateResult, Verdict};
use crate::provenance::statement;

const TEST_RESULT: &str = "https://in-toto.io/attestation/test-result/v0.1";

/// Where a name goes in a test result; what was not asked is in no list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Passed,
    Warned,
    Failed,
    NotAsked,
}

fn of_gate(verdict: &Verdict) -> Place {
    match verdict {
        Verdict::Passed => Place::Passed,
        Verdict::Warned => Place::Warned,
        Verdict::Failed => Place::Failed,
        Verdict::Off => Place::NotAsked,
    }
}

fn of_check(outcome: &CheckOutcome) -> Place {
    match outcome {
        CheckOutcome::Passed => Place::Passed,
        CheckOutcome::Failed | CheckOutcome::TimedOut => Place::Failed,
        CheckOutcome::Skipped { .. } => Place::NotAsked,
    }
}

/// The ids of the gates that were not asked.
pub(super) fn gates_off(gates: &[GateResult]) -> Vec<&str> {
    let off = gates
        .iter()
        .filter(|gate| of_gate(&gate.verdict) == Place::NotAsked);
    off.map(|gate| gate.id.as_str()).collect()
}

/// The record of the gates, one JSON document with a line end.
#[must_use]
pub fn gate_record(gates: &[GateResult], release: &ReleaseId, manifest: &[u8]) -> Vec<u8> {
    let named = gates
        .iter()
        .map(|gate| (of_gate(&gate.verdict), gate.id.as_str()));
    let allowing = gates.iter().filter(|gate| !gate.allowed.is_empty());
    let allowed: BTreeMap<&str, &Vec<Allowed>> = allowing
        .map(|gate| (gate.id.as_str(), &gate.allowed))
        .collect();
    let annotations = json!({ "off": gates_off(gates), "allowed": allowed, "gates": gates });
    let predicate = predicate("relstore-gates", &named.collect::<Vec<_>>(), &annotations);
    statement(release, manifest, TEST_RESULT, &predicate)
}

/// The record of the checks, one JSON document with a line end.
#[must_use]
pub fn check_record(checks: &[CheckResult], release: &ReleaseId, manifest: &[u8]) -> Vec<u8> {
    let named = checks
        .iter()
        .map(|check| (of_check(&check.outcome), check.name.as_str()));
    let annotations = json!({ "checks": checks });
    let predicate = predicate("relstore-checks", &named.collect::<Vec<_>>(), &annotations);
    statement(release, manifest, TEST_RESULT, &predicate)
}

fn predicate(configuration: &str, named: &[(Place, &str)], annotations: &Value) -> Value {
    let names = |place| -> Vec<&str> {
        let chosen = named.iter().filter(|(of, _)| *of == place);
        chosen.map(|(_, name)| *name).collect()
    };
    let failed = names(Place::Failed);
    json!({
        "result": if failed.is_empty() { "PASSED" } else { "FAILED" },
        // A resource has to have a digest, an address or a content.
        "configuration": [{
            "name": configuration,
            "uri": format!("urn:relstore:{configuration}"),
            "annotations": annotations,
        }],
        "passedTests": names(Place::Passed),
        "warnedTests": names(Place::Warned),
        "failedTests": failed,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn read(record: &[u8]) -> Value {
        let json: Value = serde_json::from_slice(record).unwrap();
        assert_eq!(json["predicateType"], TEST_RESULT);
        json["predicate"].clone()
    }

    #[test]
    fn gates_that_passed_warned_and_were_off_are_told_apart() {
        let gate = |(id, verdict): (&str, Verdict)| GateResult {
            id: id.to_owned(),
            verdict,
            evidence: Vec::new(),
            cause: None,
            allowed: Vec::new(),
            milliseconds: 1,
        };
        let mut gates = [
            ("artisan", Verdict::Passed),
            ("vite-manifest", Verdict::Off),
            ("assets", Verdict::Warned),
        ]
        .map(gate);
        gates[0].allowed = vec![Allowed {
            path: "a".to_owned(),
            reason: "known".to_owned(),
            findings: vec!["`a` is wrong".to_owned()],
        }];
        let predicate = read(&gate_record(&gates, &ReleaseId::of(b""), b""));
        assert_eq!(predicate["result"], "PASSED");
        assert_eq!(predicate["passedTests"], json!(["artisan"]));
        assert_eq!(predicate["warnedTests"], json!(["assets"]));
        let annotations = &predicate["configuration"][0]["annotations"];
        assert_eq!(annotations["off"], json!(["vite-manifest"]));
        assert_eq!(annotations["allowed"]["artisan"][0]["reason"], "known");
        assert_eq!(annotations["gates"][1]["verdict"], "off");
    }

    #[test]
    fn failed_check_fails_the_result_and_a_skipped_one_does_not() {
        let check = |name: &str, outcome| CheckResult {
            name: name.to_owned(),
            group: "fast".to_owned(),
            command: "x".to_owned(),
            outcome,
            exit_code: None,
            milliseconds: 1,
            last_output: vec!["no".to_owned()],
            junit: None,
            coverage_percent: Some(81.5),
        };
        let skipped = CheckOutcome::Skipped {
            why: "no database".to_owned(),
        };
        let mut checks = vec![check("lint", CheckOutcome::Passed), check("e2e", skipped)];
        let record = |checks: &[CheckResult]| read(&check_record(checks, &ReleaseId::of(b""), b""));
        assert_eq!(record(&checks)["result"], "PASSED");
        checks.push(check("tests", CheckOutcome::TimedOut));
        let predicate = record(&checks);
        assert_eq!(predicate["result"], "FAILED");
        assert_eq!(predicate["passedTests"], json!(["lint"]));
        assert_eq!(predicate["failedTests"], json!(["tests"]));
        let all = &predicate["configuration"][0]["annotations"]["checks"];
        assert_eq!(all[1]["outcome"]["skipped"]["why"], "no database");
        assert_eq!(all[2]["coverage-percent"], 81.5);
    }
}
