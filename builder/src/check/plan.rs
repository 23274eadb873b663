//! Which checks run, in which order. Pure but for the look at the search path.

use super::result::{CheckOutcome, CheckResult};
use super::{Check, Group};
use crate::error::BuildError;
use crate::process;
use crate::service::Service;

/// The checks of a build.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckPlan {
    /// Those that run, by group and then in the order in which they were given.
    checks: Vec<Check>,
    /// Those that were not asked for, with the reason.
    left_out: Vec<(Check, String)>,
}

/// Plans checks up to a group; `None` asks for none. What is left out is recorded as skipped.
#[must_use]
pub fn plan(mut checks: Vec<Check>, up_to: Option<Group>) -> CheckPlan {
    checks.sort_by_key(|check| check.group);
    let (checks, left_out): (Vec<_>, Vec<_>) = checks
        .into_iter()
        .partition(|check| up_to.is_some_and(|last| check.group <= last));
    let why = match up_to {
        Some(last) => format!("only checks up to `{last}` were asked for"),
        None => "no checks were asked for".to_owned(),
    };
    CheckPlan {
        checks,
        left_out: left_out
            .into_iter()
            .map(|check| (check, why.clone()))
            .collect(),
    }
}

impl CheckPlan {
    /// Whether nothing will run: then nobody has to make a tree for it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.checks.is_empty()
    }

    /// The checks that run, in order.
    #[must_use]
    pub fn checks(&self) -> &[Check] {
        &self.checks
    }

    /// The checks of one group.
    pub(crate) fn group(&self, group: Group) -> impl Iterator<Item = &Check> {
        self.checks.iter().filter(move |check| check.group == group)
    }

    /// The results of checks that were not asked for.
    #[must_use]
    pub fn left_out(&self) -> Vec<CheckResult> {
        let results = self.left_out.iter();
        results
            .map(|(check, why)| skipped(check, why.clone()))
            .collect()
    }

    /// The names of the checks that use a service, in order.
    pub(crate) fn users(&self, service: Service) -> Vec<String> {
        let users = self.checks.iter();
        let users = users.filter(|check| check.services.contains(&service));
        users.map(|check| check.name.clone()).collect()
    }

    /// Looks for the programs of required checks, so that a missing one is noticed before minutes
    /// of work. Those that lie in the tree are only there later.
    ///
    /// # Errors
    /// [`BuildError::NoProgram`] for the first that is missing.
    pub fn find_programs(&self, search_path: &str) -> Result<(), BuildError> {
        for check in self.checks.iter().filter(|check| check.required) {
            let program = check.command.first().filter(|name| !name.contains('/'));
            if let Some(program) = program
                && process::find(search_path, program).is_none()
            {
                return Err(no_program(check, program));
            }
            for service in &check.services {
                if let Some(program) = service.missing_program(search_path) {
                    return Err(no_program(check, program));
                }
            }
        }
        Ok(())
    }

    /// Whether a release may be made after these results.
    ///
    /// # Errors
    /// [`BuildError::Checks`] with every required check that failed.
    pub fn accept(&self, results: &[CheckResult]) -> Result<(), BuildError> {
        let failed: Vec<CheckResult> = results
            .iter()
            .filter(|result| result.has_failed() && self.is_required(&result.name))
            .cloned()
            .collect();
        if failed.is_empty() {
            return Ok(());
        }
        Err(BuildError::Checks {
            failed,
            asked: self.checks.len(),
        })
    }

    fn is_required(&self, name: &str) -> bool {
        let found = self.checks.iter().find(|check| check.name == name);
        found.is_none_or(|check| check.required)
    }
}

fn no_program(check: &Check, program: &str) -> BuildError {
    BuildError::NoProgram {
        program: program.to_owned(),
        user: format!("check `{}`", check.name),
    }
}

/// The result of a check that did not run.
pub(crate) fn skipped(check: &Check, why: String) -> CheckResult {
    CheckResult {
        name: check.name.clone(),
        group: check.group.to_string(),
        command: check.command_line(),
        outcome: CheckOutcome::Skipped { why },
        exit_code: None,
        milliseconds: 0,
        last_output: Vec::new(),
        junit: None,
        coverage_percent: None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;
    use std::collections::BTreeMap;
    use std::time::Duration;

    fn check(name: &str, group: Group) -> Check {
        Check {
            name: name.to_owned(),
            command: vec!["sh".to_owned(), "-c".to_owned(), "true".to_owned()],
            group,
            services: Vec::new(),
            junit: None,
            coverage: None,
            env: BTreeMap::new(),
            network: false,
            required: true,
            time_limit: Duration::from_secs(1),
        }
    }

    fn names(plan: &CheckPlan) -> Vec<&str> {
        plan.checks()
            .iter()
            .map(|check| check.name.as_str())
            .collect()
    }

    fn all() -> Vec<Check> {
        vec![
            check("tests", Group::Slow),
            check("lint", Group::Fast),
            check("static", Group::Medium),
            check("audit", Group::Fast),
        ]
    }

    #[test]
    fn groups_run_in_order_and_checks_of_one_as_they_were_given() {
        let plan = plan(all(), Some(Group::Slow));
        assert_eq!(names(&plan), ["lint", "audit", "static", "tests"]);
        assert!(plan.left_out().is_empty());
    }

    #[test]
    fn what_is_left_out_is_recorded_with_the_reason() {
        let fast = plan(all(), Some(Group::Fast));
        assert_eq!(names(&fast), ["lint", "audit"]);
        let left_out: Vec<String> = fast
            .left_out()
            .into_iter()
            .map(|result| format!("{} {:?}", result.name, result.outcome))
            .collect();
        assert_eq!(
            left_out,
            [
                "static Skipped { why: \"only checks up to `fast` were asked for\" }",
                "tests Skipped { why: \"only checks up to `fast` were asked for\" }",
            ]
        );
        let none = plan(all(), None);
        assert!(none.is_empty());
        assert_eq!(none.left_out().len(), 4);
    }

    #[test]
    fn missing_programs_of_required_checks_are_found_before_the_work() {
        let mut missing = check("style", Group::Slow);
        missing.command = vec!["relstore-no-such-program".to_owned()];
        let error = plan(vec![missing.clone()], Some(Group::Slow))
            .find_programs("/usr/bin:/bin")
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "`relstore-no-such-program` is not installed, check `style` needs it"
        );
        missing.required = false;
        let mut later = check("tests", Group::Slow);
        later.command = vec!["vendor/bin/phpunit".to_owned()];
        plan(vec![missing, later], Some(Group::Slow))
            .find_programs("/usr/bin:/bin")
            .unwrap();

        let mut database = check("tests", Group::Slow);
        database.services = vec![Service::MariaDb];
        let error = plan(vec![database], Some(Group::Slow))
            .find_programs("/bin/nowhere")
            .unwrap_err();
        assert!(error.to_string().contains("`sh`"), "{error}");
    }

    #[test]
    fn only_required_checks_keep_a_release_back() {
        let mut audit = check("audit", Group::Fast);
        audit.required = false;
        let plan = plan(vec![check("lint", Group::Fast), audit], Some(Group::Slow));
        let result = |name: &str, outcome| CheckResult {
            outcome,
            ..skipped(&check(name, Group::Fast), String::new())
        };
        let advisory = result("audit", CheckOutcome::Failed);
        plan.accept(&[
            result("lint", CheckOutcome::Passed),
            advisory.clone(),
            result("static", CheckOutcome::Skipped { why: String::new() }),
        ])
        .unwrap();
        match plan.accept(&[result("lint", CheckOutcome::TimedOut), advisory]) {
            Err(BuildError::Checks { failed, asked: 2 }) => {
                assert_eq!(failed.len(), 1);
                assert_eq!(failed[0].name, "lint");
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn command_lines_can_be_pasted_into_a_shell() {
        let mut check = check("x", Group::Fast);
        check.command = ["vendor/bin/pest", "--filter=a b", "it's", "", "$HOME"]
            .map(str::to_owned)
            .into();
        let line = check.command_line();
        assert_eq!(line, r"vendor/bin/pest '--filter=a b' 'it'\''s' '' '$HOME'");
        let mut shell = std::process::Command::new("/bin/sh");
        let script = format!("printf '%s\n' {line}");
        let said = shell.args(["-c", &script]).output().unwrap().stdout;
        assert_eq!(said, (check.command.join("\n") + "\n").into_bytes());
    }

    #[test]
    fn group_names_parse_back() {
        for group in Group::ALL {
            assert_eq!(group.name().parse::<Group>().unwrap(), group);
        }
        assert!("faster".parse::<Group>().is_err());
    }
}
