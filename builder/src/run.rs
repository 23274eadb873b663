//! Carries out a plan: the steps of a stage at the same time, their output to the listener, to a
//! log and, its end, into the error.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsString;
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::future::try_join_all;

use crate::build::StepResult;
use crate::error::BuildError;
use crate::event::{Event, Listener};
use crate::plan::{Plan, PlanError};
use crate::process::{self, Ended, Invocation};
use crate::scratch::Scratch;
use crate::secret::SecretVariables;
use crate::step::{Alarm, CommandLine, Step};

/// How many lines of output an error shows.
const LINES_KEPT: usize = 200;
/// How long a program may think about its own version.
const VERSION_LIMIT: Duration = Duration::from_secs(20);

/// What all steps of a build have in common.
pub(crate) struct StepRunner<'a> {
    pub(crate) scratch: &'a Scratch,
    pub(crate) search_path: &'a str,
    pub(crate) epoch: u64,
    pub(crate) network: &'a SecretVariables,
    pub(crate) time_limit: Duration,
    pub(crate) events: Listener<'a>,
}

/// What ran.
#[derive(Debug, Default)]
pub(crate) struct Ran {
    pub(crate) steps: Vec<StepResult>,
    pub(crate) tools: BTreeMap<&'static str, String>,
}

impl StepRunner<'_> {
    /// Runs all steps. The first failure ends those that run beside it.
    pub(crate) async fn run(&self, plan: &Plan) -> Result<Ran, BuildError> {
        // All programs first: a missing one should not be noticed after minutes.
        for step in plan.steps() {
            for line in step.commands.iter().chain(&step.tools) {
                self.program(step, line)?;
            }
        }
        let mut ran = Ran::default();
        for stage in &plan.stages {
            let results = try_join_all(stage.iter().map(|step| self.step(step))).await?;
            for (result, tools) in results {
                ran.steps.push(result);
                ran.tools.extend(tools);
            }
        }
        Ok(ran)
    }

    fn program(&self, step: &Step, line: &CommandLine) -> Result<PathBuf, BuildError> {
        process::find(self.search_path, line.program).ok_or_else(|| BuildError::NoProgram {
            program: line.program.to_owned(),
            user: format!("step `{}`", step.name),
        })
    }

    fn check_packages(&self, step: &Step) -> Result<(), PlanError> {
        let modules = self.scratch.build().join("node_modules");
        let absent = |package: &&&str| !modules.join(package).is_dir();
        match step.packages.iter().find(absent) {
            Some(&package) => Err(PlanError::NeedsPackage {
                step: step.name,
                package,
            }),
            None => Ok(()),
        }
    }

    async fn step(
        &self,
        step: &Step,
    ) -> Result<(StepResult, BTreeMap<&'static str, String>), BuildError> {
        let started = Instant::now();
        self.check_packages(step)?;
        (self.events)(Event::StepStarted { step: step.name });
        let (log, file) = self.scratch.log(step.name)?;
        let transcript = Transcript {
            runner: self,
            step,
            state: Mutex::new(State {
                last: VecDeque::new(),
                alarms: Vec::new(),
                file,
            }),
        };
        let tools = self.versions(step).await?;
        for line in &step.commands {
            transcript.note(&format!("$ {}", line.text()));
            let ended = self
                .command(step, line, self.time_limit, &|text| transcript.line(text))
                .await?;
            let output = || transcript.lock().last.iter().cloned().collect();
            match ended {
                Ended::Status(status) if status.success() => {}
                Ended::Status(status) => {
                    return Err(BuildError::Step {
                        step: step.name,
                        command: line.text(),
                        status: status.to_string(),
                        output: output(),
                        log,
                    });
                }
                Ended::TimedOut => {
                    return Err(BuildError::StepTime {
                        step: step.name,
                        command: line.text(),
                        limit: self.time_limit,
                        output: output(),
                        log,
                    });
                }
            }
            transcript.check_alarms()?;
        }
        let took = started.elapsed();
        (self.events)(Event::StepFinished {
            step: step.name,
            took,
        });
        let result = StepResult {
            name: step.name,
            milliseconds: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        };
        Ok((result, tools))
    }

    /// Asks each tool for its version, at the same time. One that does not answer has none.
    async fn versions(&self, step: &Step) -> Result<BTreeMap<&'static str, String>, BuildError> {
        let ask = |line| async move {
            let said = Mutex::new(Vec::new());
            // It is recorded, and a tool may complain about a proxy instead of answering.
            let keep = |text: String| {
                said.lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(self.network.redact(text));
            };
            self.command(step, line, VERSION_LIMIT, &keep).await?;
            let said = said.into_inner().unwrap_or_else(PoisonError::into_inner);
            Ok::<_, BuildError>((line.program, said.into_iter().next().unwrap_or_default()))
        };
        Ok(try_join_all(step.tools.iter().map(ask))
            .await?
            .into_iter()
            .collect())
    }

    async fn command(
        &self,
        step: &Step,
        line: &CommandLine,
        limit: Duration,
        on_line: &(dyn Fn(String) + Sync),
    ) -> Result<Ended, BuildError> {
        let program = self.program(step, line)?;
        let (env, folder) = (self.environment(step), self.scratch.build());
        let invocation = Invocation {
            program: &program,
            args: line.args,
            env: &env,
            folder: &folder,
            limit,
        };
        process::run(invocation, on_line).await
    }

    /// The whole environment of a step: what it declares, then what is the same for all; places
    /// in the private folder differ from build to build, no output may depend on them.
    fn environment(&self, step: &Step) -> Vec<(OsString, OsString)> {
        let scratch = self.scratch;
        let mut env: BTreeMap<OsString, OsString> = BTreeMap::new();
        if step.network {
            env.extend(
                self.network
                    .iter()
                    .map(|(name, value)| (name.into(), value.into())),
            );
        }
        env.extend(
            step.env
                .iter()
                .map(|(name, value)| (name.into(), value.into())),
        );
        for (name, value) in [
            ("PATH", OsString::from(self.search_path)),
            ("HOME", scratch.home().into()),
            ("TMPDIR", scratch.temp().into()),
            ("TZ", "UTC".into()),
            ("LANG", "C.UTF-8".into()),
            ("LC_ALL", "C.UTF-8".into()),
            ("SOURCE_DATE_EPOCH", self.epoch.to_string().into()),
            ("COMPOSER_HOME", scratch.composer_home().into()),
            ("COMPOSER_CACHE_DIR", scratch.composer_cache().into()),
            ("npm_config_cache", scratch.npm_cache().into()),
            // A repository around the private folder is none of the application's business.
            ("GIT_CEILING_DIRECTORIES", scratch.private().into()),
        ] {
            env.insert(name.into(), value);
        }
        env.into_iter().collect()
    }
}

/// What a step says: passed on, written down, the end kept, alarms noticed.
struct Transcript<'a> {
    runner: &'a StepRunner<'a>,
    step: &'a Step,
    state: Mutex<State>,
}

struct State {
    last: VecDeque<String>,
    /// With the line that raised it.
    alarms: Vec<(&'static Alarm, String)>,
    file: File,
}

impl Transcript<'_> {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        // The state is whole at any moment, even when a listener panicked.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, text: &str) {
        // A log that cannot be written (full disk) is no reason to fail before the step does.
        let _ = writeln!(self.lock().file, "{text}");
    }

    fn line(&self, text: String) {
        // Asked before a short password could take a part of the needle away.
        let alarms = self.step.alarms.iter();
        let raised: Vec<&Alarm> = alarms.filter(|alarm| text.contains(alarm.needle)).collect();
        let text = self.runner.network.redact(text);
        {
            let mut state = self.lock();
            let _ = writeln!(state.file, "{text}");
            for alarm in raised {
                // Where the private folder lies says nothing to anybody.
                let folder = format!("{}/", self.runner.scratch.build().display());
                state.alarms.push((alarm, text.replace(&folder, "")));
            }
            if state.last.len() == LINES_KEPT {
                state.last.pop_front();
            }
            state.last.push_back(text.clone());
        }
        (self.runner.events)(Event::StepOutput {
            step: self.step.name,
            line: text,
        });
    }

    fn check_alarms(&self) -> Result<(), BuildError> {
        let state = self.lock();
        let Some((alarm, _)) = state.alarms.first() else {
            return Ok(());
        };
        Err(BuildError::StepRefused {
            step: self.step.name,
            reason: alarm.reason,
            hint: alarm.hint,
            said: state.alarms.iter().map(|(_, line)| line.clone()).collect(),
        })
    }
}
