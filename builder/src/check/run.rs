//! Runs a plan: the checks of a group at the same time, group after group.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::stream::{self, StreamExt};

use super::event::CheckEvent;
use super::plan::{CheckPlan, skipped};
use super::report;
use super::result::{CheckOutcome, CheckResult, JunitSummary};
use super::tail::Tail;
use super::{Check, Group, coverage, junit};
use crate::event::{Event, Listener};
use crate::process::{self, Ended, Invocation};
use crate::secret::Secrets;
use crate::service::{Service, Services};

/// The variable that tells the processes of one check.
const MARKER: &str = "RELSTORE_CHECK";

/// What all checks of a build have in common.
pub struct CheckRunner<'a> {
    /// The tree they judge, which is theirs to write into. Absolute, as is the next one.
    pub tree: &'a Path,
    /// Empty private folder for services, removed by whoever made it.
    pub services: &'a Path,
    /// Folders with programs, as in PATH.
    pub search_path: &'a str,
    /// Variables of every check: HOME, TMPDIR, caches.
    pub env: &'a BTreeMap<OsString, OsString>,
    /// What checks with network access get beside it.
    pub secrets: &'a Secrets,
    /// The words in front of a check's program that put it into a sandbox, where there is one. Inside
    /// the tree lies at `place`, and the folder for services where it is outside.
    pub sandbox: Option<Sandbox<'a>>,
    /// Who listens.
    pub events: Listener<'a>,
}

/// A sandbox for checks.
#[derive(Clone, Copy)]
pub struct Sandbox<'a> {
    /// Program and arguments for a check, with or without network.
    pub words: &'a (dyn Fn(&Check) -> Vec<OsString> + Send + Sync),
    /// Where the tree is inside.
    pub place: &'a Path,
}

impl CheckRunner<'_> {
    /// Runs the checks and returns one result for each, those that were not asked for included.
    /// When the future is dropped, running checks and services are killed.
    pub async fn run(&self, plan: &CheckPlan) -> Vec<CheckResult> {
        let services = Services::new(
            self.services.to_owned(),
            self.search_path,
            plan.users(Service::MariaDb),
        );
        // More at a time would only slow each other down, and run out of their time limits.
        let parallel = std::thread::available_parallelism()
            .map_or(1, usize::from)
            .max(2);
        let mut results = Vec::new();
        let mut failed: Option<Group> = None;
        for group in Group::ALL {
            let checks: Vec<&Check> = plan.group(group).collect();
            if let Some(failed) = failed {
                let why = format!("a check of the group `{failed}` failed");
                let none = checks.iter().map(|check| skipped(check, why.clone()));
                results.extend(none.inspect(|result| self.finished(result.clone(), true)));
                continue;
            }
            let run = checks.iter().map(|check| self.check(check, &services));
            let of_group: Vec<CheckResult> = stream::iter(run).buffered(parallel).collect().await;
            let refuses =
                |(check, result): (&&Check, &CheckResult)| check.required && result.has_failed();
            if checks.iter().zip(&of_group).any(refuses) {
                failed = Some(group);
            }
            results.extend(of_group);
        }
        services.stop().await;
        results.extend(plan.left_out());
        results
    }

    fn finished(&self, result: CheckResult, required: bool) {
        (self.events)(Event::Check(CheckEvent::Finished { result, required }));
    }

    async fn check(&self, check: &Check, services: &Services) -> CheckResult {
        (self.events)(Event::Check(CheckEvent::Started {
            check: check.name.clone(),
        }));
        let transcript = Transcript {
            runner: self,
            check,
            tail: Mutex::default(),
        };
        let begun = Instant::now();
        let mut result = skipped(check, String::new());
        let ended = self.command(check, services, &transcript).await;
        result.milliseconds = milliseconds(begun.elapsed());
        let mut tail = transcript.into_tail();
        match ended {
            Ok(Ended::Status(status)) => {
                result.exit_code = status.code();
                result.outcome = match status.success() {
                    true => CheckOutcome::Passed,
                    false => CheckOutcome::Failed,
                };
                if status.code().is_none() {
                    tail.push(&format!("ended with {status}"));
                }
            }
            Ok(Ended::TimedOut) => {
                result.outcome = CheckOutcome::TimedOut;
                let limit = check.time_limit.as_secs_f64();
                tail.push(&format!("stopped after its time limit of {limit} s"));
            }
            Err(lines) => {
                result.outcome = CheckOutcome::Failed;
                lines.iter().for_each(|line| tail.push(line));
            }
        }
        let reports = Reports::read(self.tree, check).await;
        reports.add_to(check, &mut result, &mut tail);
        result.last_output = tail.into_lines();
        self.finished(result.clone(), check.required);
        result
    }

    /// Runs the command; the error is why it could not be run, line by line.
    async fn command(
        &self,
        check: &Check,
        services: &Services,
        transcript: &Transcript<'_>,
    ) -> Result<Ended, Vec<String>> {
        let mut words = match self.sandbox {
            Some(sandbox) => (sandbox.words)(check),
            None => Vec::new(),
        };
        words.push(self.program(check)?.into());
        words.extend(check.command.iter().skip(1).map(OsString::from));
        let program = PathBuf::from(words.remove(0));
        let mut env = self.environment(check, services).await?;
        let marker = self.marker(check);
        env.insert(MARKER.into(), marker.clone());
        for path in [&check.junit, &check.coverage].into_iter().flatten() {
            let removed = report::remove(self.tree, path);
            removed.map_err(|error| vec![format!("cannot remove the old {path}: {error}")])?;
        }
        let invocation = Invocation {
            args: words,
            limit: check.time_limit,
            // Without a sandbox processes that left the group are found by this.
            marker: self.sandbox.is_none().then(|| {
                let mut variable = OsString::from(format!("{MARKER}="));
                variable.push(marker);
                variable
            }),
            ..Invocation::new(&program, self.tree, env.into_iter().collect())
        };
        let ended = process::run(invocation, &|line| transcript.line(line)).await;
        ended.map_err(|error| vec![error.to_string()])
    }

    fn program(&self, check: &Check) -> Result<PathBuf, Vec<String>> {
        let name = check.command.first().map_or("", String::as_str);
        if !name.contains('/') {
            let found = process::find(self.search_path, name);
            return found.ok_or_else(|| vec![format!("`{name}` is not installed")]);
        }
        if self.tree.join(name).is_file() {
            let place = self.sandbox.map_or(self.tree, |sandbox| sandbox.place);
            Ok(place.join(name))
        } else {
            Err(vec![format!(
                "`{name}` is not in the tree; is its package in `require-dev` or `devDependencies`?"
            )])
        }
    }

    /// The whole environment of a check. What it declares itself wins, for nothing that is built
    /// depends on it.
    async fn environment(
        &self,
        check: &Check,
        services: &Services,
    ) -> Result<BTreeMap<OsString, OsString>, Vec<String>> {
        let mut env = self.env.clone();
        env.insert("PATH".into(), self.search_path.into());
        if check.network {
            let secrets = self.secrets.variables();
            env.extend(secrets.map(|(name, value)| (name.into(), value.into())));
        }
        for service in &check.services {
            let variables = services.variables(*service, &check.name).await;
            env.extend(variables.map_err(|error| {
                let mut lines = error.lines();
                lines.push(format!("the service `{service}` is not there"));
                lines
            })?);
        }
        let own = check.env.iter();
        env.extend(own.map(|(name, value)| (name.into(), value.into())));
        Ok(env)
    }

    /// A text that no other check on this machine has in its environment.
    fn marker(&self, check: &Check) -> OsString {
        self.services.join(&check.name).into()
    }
}

/// What the files say that a check wrote.
struct Reports {
    junit: Result<Option<JunitSummary>, String>,
    coverage: Result<Option<f64>, String>,
}

impl Reports {
    /// Reads those that the check declares, on a thread where that may take its time.
    async fn read(tree: &Path, check: &Check) -> Self {
        let (tree, junit, coverage) =
            (tree.to_owned(), check.junit.clone(), check.coverage.clone());
        let read = tokio::task::spawn_blocking(move || Self {
            junit: junit.map_or(Ok(None), |path| read(&tree, &path, junit::parse)),
            coverage: coverage
                .map_or(Ok(None), |path| read(&tree, &path, coverage::parse))
                .map(Option::flatten),
        });
        read.await.unwrap_or_else(|_| Self {
            junit: Err("reading it was interrupted".to_owned()),
            coverage: Ok(None),
        })
    }

    /// A pass without the JUnit file that the check declares would prove nothing, so it is none.
    fn add_to(self, check: &Check, result: &mut CheckResult, tail: &mut Tail) {
        if let Some(path) = &check.junit {
            match self.junit {
                Ok(Some(sums)) => result.junit = Some(sums),
                missing if result.outcome == CheckOutcome::Passed => {
                    result.outcome = CheckOutcome::Failed;
                    tail.push(&match missing {
                        Err(why) => format!("the JUnit file {path} cannot be used: {why}"),
                        Ok(_) => format!("the JUnit file {path} was not written"),
                    });
                }
                _ => {}
            }
        }
        match (&check.coverage, self.coverage) {
            (Some(path), Err(why)) => {
                tail.push(&format!("the coverage file {path} cannot be used: {why}"));
            }
            (_, percent) => result.coverage_percent = percent.ok().flatten(),
        }
    }
}

/// What a report says; `None` when it is not there, the error in one line.
fn read<T>(
    tree: &Path,
    path: &str,
    parse: impl FnOnce(report::Report) -> Result<T, junit::ReportError>,
) -> Result<Option<T>, String> {
    let opened = report::open(tree, path).map_err(|error| error.to_string())?;
    let parsed = opened.map(parse).transpose();
    parsed.map_err(|error| match std::error::Error::source(&error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    })
}

fn milliseconds(took: Duration) -> u64 {
    u64::try_from(took.as_millis()).unwrap_or(u64::MAX)
}

/// What a check says: passed on, and its end kept.
struct Transcript<'a> {
    runner: &'a CheckRunner<'a>,
    check: &'a Check,
    tail: Mutex<Tail>,
}

impl Transcript<'_> {
    fn line(&self, line: String) {
        let line = self.runner.secrets.redact(line);
        self.tail
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(&line);
        (self.runner.events)(Event::Check(CheckEvent::Output {
            check: self.check.name.clone(),
            line,
        }));
    }

    fn into_tail(self) -> Tail {
        self.tail
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
