//! Runs the commands of one step in its own folder: environment, sandbox, time limit, transcript.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::conditions::Conditions;
use crate::error::BuildError;
use crate::event::Listener;
use crate::plan::Plan;
use crate::prepared::Surroundings;
use crate::process::{self, Ended, Invocation};
use crate::reproduce::fake_clock;
use crate::sandbox::{self, View};
use crate::scratch::{Scratch, StepFolders};
use crate::secret::Secrets;
use crate::step::{CommandLine, Step, Tool};
use crate::tool::Identity;
use crate::transcript::Transcript;

/// What all steps of a build have in common.
#[derive(Clone, Copy)]
pub(crate) struct Workshop<'a> {
    pub(crate) scratch: &'a Scratch,
    pub(crate) search_path: &'a str,
    pub(crate) home: Option<&'a Path>,
    pub(crate) secrets: &'a Secrets,
    pub(crate) conditions: &'a Conditions,
    /// The program that makes sandboxes, where they work and are wanted.
    pub(crate) bwrap: Option<&'a Path>,
    /// Files that tools read beside their own, see [`crate::tool`].
    pub(crate) tool_files: &'a [PathBuf],
    /// The application's folder from the top of the source.
    pub(crate) root: &'a str,
    pub(crate) events: Listener<'a>,
}

/// One step about to run.
pub(crate) struct Job<'a> {
    pub(crate) step: &'a Step,
    pub(crate) commands: &'a [CommandLine],
    pub(crate) folders: &'a StepFolders,
    pub(crate) epoch: u64,
}

impl Workshop<'_> {
    /// Whether a step runs in a sandbox.
    pub(crate) fn sandboxes(&self, step: &Step) -> bool {
        self.bwrap.is_some() && step.sandbox
    }

    /// The program of a command: from the search path, or a file of the application.
    pub(crate) fn program(&self, step: &Step, name: &str) -> Result<PathBuf, BuildError> {
        if name.contains('/') {
            return Ok(PathBuf::from(name));
        }
        process::find(self.search_path, name).ok_or_else(|| BuildError::NoProgram {
            program: name.to_owned(),
            user: format!("step `{}`", step.name),
        })
    }

    /// What sandboxes have to show of the tools: folders and files outside of the system's.
    pub(crate) fn tool_files(
        &self,
        plan: &Plan,
        identities: &BTreeMap<Tool, Identity>,
    ) -> Result<Vec<PathBuf>, BuildError> {
        let mut files: BTreeSet<PathBuf> = BTreeSet::new();
        for step in &plan.steps {
            let tools = step.tools.iter().map(|tool| tool.program());
            let commands = step.commands.iter().map(|line| line.program.as_str());
            for name in tools.chain(commands) {
                let program = self.program(step, name)?;
                files.extend(sandbox::tool_folders(&program, self.home));
            }
        }
        for known in identities.values() {
            files.extend(known.files.iter().cloned());
        }
        let needed = |path: &PathBuf| path.is_absolute() && !sandbox::is_shown(path);
        Ok(files.into_iter().filter(needed).collect())
    }

    /// What steps see around them.
    pub(crate) fn surroundings(&self) -> Surroundings {
        let sandboxed = self.bwrap.is_some();
        let (place, home) = (&self.conditions.place, &self.conditions.home);
        let above = match sandboxed {
            true => String::new(),
            false => self.scratch.private().display().to_string(),
        };
        Surroundings {
            sandboxed,
            folder: match sandboxed {
                true => format!("/{place}"),
                false => above.clone(),
            },
            home: format!("{above}/{home}"),
        }
    }

    /// Runs all commands of a step.
    pub(crate) async fn run(&self, job: &Job<'_>) -> Result<(), BuildError> {
        let step = job.step;
        let places = Places::of(self, job);
        let shown = format!("{}/", places.application);
        let log = self.scratch.log(&step.name)?;
        let transcript = Transcript::new(step, self.secrets, self.events, shown, log);
        for line in job.commands {
            transcript.note(&format!("$ {}", line.text()));
            let ended = self.command(job, &places, line, &transcript).await?;
            match ended {
                Ended::Status(status) if status.success() => {}
                Ended::Status(status) => {
                    return Err(BuildError::Step {
                        step: step.name.clone(),
                        command: line.text(),
                        status: status.to_string(),
                        output: transcript.output(),
                        log: transcript.log,
                    });
                }
                Ended::TimedOut => {
                    return Err(BuildError::StepTime {
                        step: step.name.clone(),
                        command: line.text(),
                        limit: step.time_limit,
                        output: transcript.output(),
                        log: transcript.log,
                    });
                }
            }
            transcript.check_alarms()?;
        }
        Ok(())
    }

    async fn command(
        &self,
        job: &Job<'_>,
        places: &Places,
        line: &CommandLine,
        transcript: &Transcript<'_>,
    ) -> Result<Ended, BuildError> {
        let step = job.step;
        let program = self.program(step, &line.program)?;
        let application = job.folders.build.join(self.root);
        let mut words: Vec<OsString> = Vec::new();
        if let (Some(count), Some(taskset)) = (
            self.conditions.cpus,
            process::find(self.search_path, "taskset"),
        ) {
            words.extend([
                taskset.into(),
                "-c".into(),
                format!("0-{}", count.max(1) - 1).into(),
            ]);
        }
        let bwrap = self.bwrap.filter(|_| step.sandbox);
        if let Some(bwrap) = bwrap {
            words.push(bwrap.into());
            words.extend(self.view(job, places).arguments());
        }
        words.push(program.into());
        words.extend(line.args.iter().map(OsString::from));
        let first = PathBuf::from(words.remove(0));
        let invocation = Invocation {
            args: words,
            limit: step.time_limit,
            umask: self.conditions.umask,
            // Without a sandbox processes that left the group are found by this.
            marker: bwrap.is_none().then(|| {
                let mut marker = OsString::from("TMPDIR=");
                marker.push(&places.temp);
                marker
            }),
            ..Invocation::new(&first, &application, self.environment(job, places))
        };
        process::run(invocation, &|text| transcript.line(text)).await
    }

    fn view<'v>(&'v self, job: &'v Job<'_>, places: &'v Places) -> View<'v> {
        let network = job.step.network;
        View {
            build: &job.folders.build,
            place: &places.build,
            home: &job.folders.home,
            home_place: &places.home,
            composer_home: &job.folders.composer_home,
            network,
            cache: network.then(|| self.scratch.cache()),
            shared: &[],
            accounts: self.scratch.accounts(),
            tools: self.tool_files,
            agent: self.secrets.agent().filter(|_| network),
            known_hosts: self.scratch.known_hosts().filter(|_| network),
            folder: &places.application,
            conditions: self.conditions,
        }
    }

    /// The whole environment of a step: what it declares, then what is the same for all; places
    /// differ from build to build without a sandbox, no output may depend on them.
    fn environment(&self, job: &Job<'_>, places: &Places) -> Vec<(OsString, OsString)> {
        let (step, conditions) = (job.step, self.conditions);
        let mut env: BTreeMap<OsString, OsString> = BTreeMap::new();
        if step.network {
            let secrets = self.secrets.variables();
            env.extend(secrets.map(|(name, value)| (name.into(), value.into())));
            for (name, tool) in [
                ("COMPOSER_CACHE_DIR", "composer"),
                ("npm_config_cache", "npm"),
                ("npm_config_store_dir", "pnpm"),
                ("YARN_CACHE_FOLDER", "yarn"),
                ("YARN_GLOBAL_FOLDER", "yarn"),
            ] {
                env.insert(name.into(), format!("{}/{tool}", places.cache).into());
            }
            if self.secrets.agent().is_some() {
                env.insert("SSH_AUTH_SOCK".into(), places.agent.clone());
            }
        } else {
            // Fails at once instead of waiting for a name server that cannot be reached.
            env.insert("COMPOSER_DISABLE_NETWORK".into(), "1".into());
        }
        env.extend(
            step.env
                .iter()
                .map(|(name, value)| (name.into(), value.into())),
        );
        for (name, value) in [
            ("PATH", OsString::from(self.search_path)),
            ("HOME", places.home.as_str().into()),
            ("TMPDIR", places.temp.clone()),
            ("TZ", conditions.time_zone.as_str().into()),
            ("LANG", conditions.locale.as_str().into()),
            ("LC_ALL", conditions.locale.as_str().into()),
            ("SOURCE_DATE_EPOCH", job.epoch.to_string().into()),
            ("COMPOSER_HOME", places.composer_home.as_str().into()),
            // A repository around the private folder is none of the application's business.
            ("GIT_CEILING_DIRECTORIES", places.above.as_str().into()),
        ] {
            env.insert(name.into(), value);
        }
        if conditions.clock_offset != 0
            && !step.network
            && let Some(library) = fake_clock()
        {
            env.insert("LD_PRELOAD".into(), library.into());
            env.insert(
                "FAKETIME".into(),
                format!("{:+}", conditions.clock_offset).into(),
            );
            // It would leave a file in /dev/shm for each process that is killed.
            env.insert("FAKETIME_DISABLE_SHM".into(), "1".into());
            env.insert("FAKETIME_DONT_FAKE_MONOTONIC".into(), "1".into());
        }
        env.into_iter().collect()
    }
}

/// Where a step finds things, as it sees them.
struct Places {
    build: String,
    application: String,
    home: String,
    composer_home: String,
    cache: String,
    temp: OsString,
    agent: OsString,
    above: String,
}

impl Places {
    fn of(workshop: &Workshop<'_>, job: &Job<'_>) -> Self {
        let folders = job.folders;
        let text = |path: &Path| path.display().to_string();
        let inner = |build: &str| match workshop.root {
            "" => build.to_owned(),
            root => format!("{build}/{root}"),
        };
        if workshop.sandboxes(job.step) {
            let build = format!("/{}", workshop.conditions.place);
            return Self {
                application: inner(&build),
                build,
                home: format!("/{}", workshop.conditions.home),
                composer_home: sandbox::COMPOSER_HOME.to_owned(),
                cache: sandbox::CACHE.to_owned(),
                temp: "/tmp".into(),
                agent: sandbox::AGENT.into(),
                above: "/".to_owned(),
            };
        }
        let build = text(&folders.build);
        Self {
            application: inner(&build),
            build,
            home: text(&folders.home),
            composer_home: text(&folders.composer_home),
            cache: text(workshop.scratch.cache()),
            temp: folders.temp.clone().into(),
            agent: workshop.secrets.agent().unwrap_or(Path::new("")).into(),
            above: text(&folders.top),
        }
    }
}
