//! Carries out a plan: each step as soon as those it needs are done, unless its key says that what
//! it would make is known.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use futures::stream::{FuturesUnordered, StreamExt};
use relstore_store::Store;
use relstore_store::allowed_signers::AllowedSigners;
use relstore_store::id::{DerivationKey, ReleaseId};
use relstore_store::import::{Layout, ReleaseTree, manifest_of};
use relstore_store::manifest::Manifest;
use relstore_store::name::EntryPath;
use relstore_store::signature::{Namespace, Signer};

use crate::derivation::{self, Derivation};
use crate::error::{BuildError, IoContext};
use crate::event::Event;
use crate::exclude::Excludes;
use crate::key::{self, KeyFacts, KeyText};
use crate::key_lock::KeyLock;
use crate::lay_out::{self, Files, LayOut, Layer, Snapshot};
use crate::made::{How, Made};
use crate::package_tree;
use crate::plan::{Plan, PlanError};
use crate::provenance::{StepRecord, timestamp};
use crate::source_tree::{SourceEntry, SourceTree};
use crate::step::{CommandLine, INPUTS_PLACEHOLDER, Step, Tool};
use crate::store_place::StorePlace;
use crate::tool::{self, Identity, Prober};
use crate::workshop::{Job, Workshop};

/// SOURCE_DATE_EPOCH of steps that do not see the whole application: 1980-01-01, the first time
/// that zip files know. The commit's time would make every commit run them anew.
const FIXED_EPOCH: u64 = 315_532_800;

/// A derivation that is in use but this old is written again, so that it is not forgotten: stores
/// know when an object came, not when it was read.
const RENEW_AFTER: Duration = Duration::from_secs(6 * 3600);

/// What a step did, for reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepResult {
    /// The step.
    pub name: String,
    /// Hash of all that its output depends on.
    pub key: DerivationKey,
    /// Whether it ran.
    pub how: How,
    /// Whether in a sandbox; of a step that did not run, whether it would have.
    pub sandboxed: bool,
    /// What changed since the last build of this project, in words; empty when nothing did, or
    /// when this is the first one.
    pub reasons: Vec<String>,
    /// Whether this project was built here before.
    pub seen_before: bool,
    /// Wall time.
    pub milliseconds: u64,
}

/// Runs the steps of one build.
pub(crate) struct Runner<'a> {
    pub(crate) workshop: Workshop<'a>,
    pub(crate) source: &'a SourceTree,
    pub(crate) epoch: u64,
    /// Where derivations are looked up and kept; `None`: every step runs, nothing is kept.
    pub(crate) store: Option<&'a StorePlace>,
    /// Stands for the project in what is remembered of its last build.
    pub(crate) project: String,
    pub(crate) identities: &'a BTreeMap<Tool, Identity>,
    pub(crate) clock: Clock,
    /// Packages whose bytes may differ from what they were.
    pub(crate) accept: &'a [String],
    /// Who signs derivations.
    pub(crate) signer: Option<&'a dyn Signer>,
    /// Whose derivations are used.
    pub(crate) trusted: Option<&'a AllowedSigners>,
}

/// The time, from the time at which the build began: the crate reads no clock of its own.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    pub(crate) began: SystemTime,
    pub(crate) since: Instant,
}

impl Clock {
    pub(crate) fn now(&self) -> SystemTime {
        self.began + self.since.elapsed()
    }
}

/// What all steps made.
#[derive(Debug, Default)]
pub(crate) struct Ran {
    pub(crate) results: Vec<StepResult>,
    pub(crate) made: BTreeMap<String, Arc<Made>>,
}

impl Ran {
    /// What is recorded of the steps, in the order of the plan; `tools` are versions by name.
    pub(crate) fn records(&self, plan: &Plan, tools: &BTreeMap<String, String>) -> Vec<StepRecord> {
        let record = |step: &Step| {
            let result = self
                .results
                .iter()
                .find(|result| result.name == step.name)?;
            Some(StepRecord::of(step, result, tools))
        };
        plan.steps.iter().filter_map(record).collect()
    }

    /// The tree of each Composer package, by name, as the id of its manifest.
    pub(crate) fn package_trees(&self) -> BTreeMap<String, String> {
        let made = self.made.get("composer");
        let trees = made.map(|made| package_tree::trees(&made.manifest));
        let text = |(name, tree): (String, ReleaseId)| (name, tree.to_string());
        trees.into_iter().flatten().map(text).collect()
    }
}

impl Runner<'_> {
    /// Runs all steps. The first failure ends those that run beside it.
    pub(crate) async fn run(&self, plan: &Plan) -> Result<Ran, BuildError> {
        // All programs first: a missing one should not be noticed after minutes.
        for step in &plan.steps {
            for line in &step.commands {
                self.workshop.program(step, &line.program)?;
            }
        }
        let mut ran = Ran::default();
        let mut open: Vec<&Step> = plan.steps.iter().collect();
        let mut running = FuturesUnordered::new();
        loop {
            let ready = |step: &&Step| {
                let mut before = step.needs.iter().chain(&step.after);
                before.all(|name| ran.made.contains_key(name))
            };
            let (now, later) = open.into_iter().partition::<Vec<_>, _>(ready);
            open = later;
            for step in now {
                let needed = plan.all_needs(step).into_iter();
                let needed: Vec<_> = needed
                    .filter_map(|needed| Some((needed, Arc::clone(ran.made.get(&needed.name)?))))
                    .collect();
                running.push(self.step(step, needed));
            }
            let Some(done) = running.next().await else {
                return Ok(ran);
            };
            let (made, result) = done?;
            ran.made.insert(made.step.clone(), Arc::new(made));
            ran.results.push(result);
        }
    }

    /// Looks a step's key up, or runs it.
    async fn step(
        &self,
        step: &Step,
        needed: Vec<(&Step, Arc<Made>)>,
    ) -> Result<(Made, StepResult), BuildError> {
        let began = Instant::now();
        let inputs = self.source.select(step)?;
        let text = self.key_text(step, &inputs, &needed)?;
        let key = text.key();
        let (seen_before, reasons) = self.reasons(step, &text);
        let mut result = StepResult {
            name: step.name.clone(),
            key,
            how: How::Ran,
            sandboxed: self.workshop.sandboxes(step),
            reasons,
            seen_before,
            milliseconds: 0,
        };
        let made = self.make(step, &inputs, &needed, &text, &result).await?;
        self.remember(step, &text)?;
        let took = began.elapsed();
        result.how = made.how.clone();
        result.milliseconds = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        (self.workshop.events)(match &made.how {
            How::Ran => Event::StepFinished {
                step: step.name.clone(),
                took,
            },
            How::Cached { .. } => Event::StepCached {
                step: step.name.clone(),
                reasons: result.reasons.clone(),
            },
        });
        Ok((made, result))
    }

    async fn make(
        &self,
        step: &Step,
        inputs: &[&SourceEntry],
        needed: &[(&Step, Arc<Made>)],
        text: &KeyText,
        result: &StepResult,
    ) -> Result<Made, BuildError> {
        let key = text.key();
        let place = self.workshop.scratch.made(&step.name);
        if let Some(found) = self.look_up(step, &key, &place).await? {
            return Ok(found);
        }
        // Others that build the same wait here, and find what this one makes.
        let _lock = match self.store {
            Some(_) => {
                let waits = || {
                    (self.workshop.events)(Event::StepWaiting {
                        step: step.name.clone(),
                    });
                };
                let lock = self.workshop.scratch.key_lock(&key);
                Some(KeyLock::take(&lock, waits).await?)
            }
            None => None,
        };
        if let Some(found) = self.look_up(step, &key, &place).await? {
            return Ok(found);
        }
        let started = self.clock.now();
        (self.workshop.events)(Event::StepStarted {
            step: step.name.clone(),
            reasons: result.reasons.clone(),
        });
        self.run_step(step, inputs, needed, text, &place).await?;
        let manifest = self.keep(step, text, &place, started).await?;
        Ok(Made::ran(&step.name, manifest, place))
    }

    /// The store, when there is one to look into.
    async fn existing(&self) -> Result<Option<&Store>, BuildError> {
        match self.store {
            Some(store) => store.existing().await,
            None => Ok(None),
        }
    }

    async fn look_up(
        &self,
        step: &Step,
        key: &DerivationKey,
        place: &Path,
    ) -> Result<Option<Made>, BuildError> {
        let Some(store) = self.existing().await? else {
            return Ok(None);
        };
        let trust = self.trusted.map(|allowed| (allowed, self.clock.now()));
        let Some(known) = derivation::find(store, key, trust).await? else {
            return Ok(None);
        };
        let manifest = store.manifest(&known.derivation.tree).await?;
        let age = self.clock.now().duration_since(known.stored);
        if age.is_ok_and(|age| age > RENEW_AFTER) {
            let renewed = Derivation {
                renewed: Some(timestamp(self.clock.now())),
                ..known.derivation
            };
            self.publish(store, &renewed).await?;
        }
        let how = How::Cached {
            record: known.record,
            signer: known.signer,
        };
        Ok(Some(Made::cached(
            &step.name,
            manifest,
            place.to_owned(),
            how,
        )))
    }

    fn key_text(
        &self,
        step: &Step,
        inputs: &[&SourceEntry],
        needed: &[(&Step, Arc<Made>)],
    ) -> Result<KeyText, BuildError> {
        let made: Vec<_> = needed
            .iter()
            .map(|(step, made)| (step.name.clone(), made.tree))
            .collect();
        let mut tools = BTreeMap::new();
        for tool in &step.tools {
            let identity = self.identities.get(tool).map(|known| &known.identity);
            tools.insert(
                tool.program().to_owned(),
                identity.cloned().unwrap_or_default(),
            );
        }
        for line in &step.commands {
            let program = self.workshop.program(step, &line.program)?;
            let known = step.tools.iter().any(|tool| tool.program() == line.program);
            // A file of the application is an input already.
            if !known && program.is_absolute() {
                let identity = tool::of_file(&program)?.identity;
                tools.insert(line.program.clone(), identity);
            }
        }
        Ok(KeyText::of(&KeyFacts {
            step,
            epoch: self.epoch_for(step),
            sandboxed: self.workshop.sandboxes(step),
            tools: &tools,
            made: &made,
            inputs,
        }))
    }

    fn epoch_for(&self, step: &Step) -> u64 {
        if step.inputs.is_all() {
            self.epoch
        } else {
            FIXED_EPOCH
        }
    }

    /// Whether the step was built here before, and what changed since then.
    fn reasons(&self, step: &Step, text: &KeyText) -> (bool, Vec<String>) {
        let last = self.workshop.scratch.last(&self.project, &step.name);
        match std::fs::read_to_string(last) {
            Ok(last) => (true, key::reasons(&last, text.as_str())),
            Err(_) => (false, Vec::new()),
        }
    }

    fn remember(&self, step: &Step, text: &KeyText) -> Result<(), BuildError> {
        if self.store.is_none() {
            return Ok(()); // a build for comparison is not "the last one"
        }
        let last = self.workshop.scratch.last(&self.project, &step.name);
        let folder = last.parent().unwrap_or(Path::new("/"));
        std::fs::create_dir_all(folder).at("create", folder)?;
        let mut file = tempfile::NamedTempFile::new_in(folder).at("create a file in", folder)?;
        std::io::Write::write_all(&mut file, text.as_str().as_bytes()).at("write", &last)?;
        file.persist(&last)
            .map_err(|error| error.error)
            .at("write", &last)?;
        Ok(())
    }

    /// Lays out what the step sees, runs it, and takes what it made to `place`.
    async fn run_step(
        &self,
        step: &Step,
        inputs: &[&SourceEntry],
        needed: &[(&Step, Arc<Made>)],
        text: &KeyText,
        place: &Path,
    ) -> Result<(), BuildError> {
        let workshop = &self.workshop;
        let folders = workshop
            .scratch
            .step(step, workshop.conditions, workshop.secrets)?;
        let layers = self.layers(needed).await?;
        let writable = writable(step)?;
        let layout = LayOut {
            source: self.source,
            entries: inputs,
            layers: &layers,
            writable: &writable,
            files: Files::Linked,
        };
        match workshop.conditions.order {
            None => layout.run(&folders.build)?,
            Some(order) => {
                let plain = folders.top.join("plain");
                std::fs::create_dir(&plain).at("create", &plain)?;
                layout.run(&plain)?;
                lay_out::reorder(&plain, &folders.build, order)?;
            }
        }
        let application = folders.build.join(workshop.root);
        for (path, content) in &step.provided {
            let place = application.join(path);
            let folder = place.parent().unwrap_or(&application);
            std::fs::create_dir_all(folder).at("create", folder)?;
            std::fs::write(&place, content).at("write", &place)?;
        }
        check_packages(step, &application)?;
        let before = Snapshot::take(&application, &writable)?;
        let digest = text.inputs_digest();
        let filled = |line: &CommandLine| CommandLine {
            program: line.program.clone(),
            args: line
                .args
                .iter()
                .map(|arg| arg.replace(INPUTS_PLACEHOLDER, &digest))
                .collect(),
        };
        let commands: Vec<CommandLine> = step.commands.iter().map(filled).collect();
        workshop
            .run(&Job {
                step,
                commands: &commands,
                folders: &folders,
                epoch: self.epoch_for(step),
            })
            .await?;
        let trespasses = Snapshot::take(&application, &writable)?.trespasses(&before);
        if !trespasses.is_empty() {
            return Err(BuildError::WroteElsewhere {
                step: step.name.clone(),
                trespasses,
            });
        }
        collect(step, &application, place)
    }

    /// The outputs of other steps, as layers.
    pub(crate) async fn layers(
        &self,
        needed: &[(&Step, Arc<Made>)],
    ) -> Result<Vec<Layer>, BuildError> {
        let store = self.existing().await?;
        let mut layers = Vec::new();
        for (step, made) in needed {
            layers.push(made.layer(step, store).await?);
        }
        Ok(layers)
    }

    /// Makes the manifest of what a step made and, where a store is, keeps it all there.
    async fn keep(
        &self,
        step: &Step,
        text: &KeyText,
        place: &Path,
        started: SystemTime,
    ) -> Result<Manifest, BuildError> {
        let tree = ReleaseTree {
            root: place.to_owned(),
            layout: Layout::default(),
        };
        let refused = |source| BuildError::Output {
            step: step.name.clone(),
            source: Box::new(source),
        };
        let Some(store) = self.store else {
            return manifest_of(&tree, &|_| {}).map_err(refused);
        };
        let store = store.make().await?;
        let imported = store.import(&tree, &|_| {}).await.map_err(refused)?;
        package_tree::check(step, &imported.manifest, store, self.accept).await?;
        let tools = step.tools.iter().filter_map(|tool| {
            let version = self.identities.get(tool)?.version.clone();
            Some((tool.program().to_owned(), version))
        });
        let derivation = Derivation {
            version: 1,
            key: text.key(),
            step: step.name.clone(),
            tree: imported.release,
            sandboxed: self.workshop.sandboxes(step),
            tools: tools.collect(),
            started: timestamp(started),
            finished: timestamp(self.clock.now()),
            relstore: env!("CARGO_PKG_VERSION").to_owned(),
            renewed: None,
        };
        self.publish(store, &derivation).await?;
        Ok(imported.manifest)
    }

    /// Signs a derivation, where somebody signs, and keeps it.
    async fn publish(&self, store: &Store, derivation: &Derivation) -> Result<(), BuildError> {
        let json = derivation.to_json();
        // Before it is kept: a key that refuses leaves none.
        let signature = match self.signer {
            Some(signer) => Some(signer.sign(Namespace::Derivation, &json).await?),
            None => None,
        };
        let key = &derivation.key;
        let record = store.put_derivation(key, &json).await?;
        if let Some(signature) = signature {
            store
                .put_derivation_signature(key, &record, &signature)
                .await?;
        }
        Ok(())
    }
}

/// Asks every tool of a plan for its identity, at the same time.
pub(crate) async fn identities(
    plan: &Plan,
    workshop: &Workshop<'_>,
) -> Result<BTreeMap<Tool, Identity>, BuildError> {
    let mut tools: BTreeMap<Tool, PathBuf> = BTreeMap::new();
    for step in &plan.steps {
        for tool in &step.tools {
            tools.insert(*tool, workshop.program(step, tool.program())?);
        }
    }
    let home = workshop.scratch.empty();
    let prober = Prober {
        search_path: workshop.search_path,
        home: &home,
    };
    let asked = tools.into_iter().map(|(tool, program)| {
        let prober = &prober;
        async move { Ok::<_, BuildError>((tool, prober.ask(tool, &program).await?)) }
    });
    Ok(futures::future::try_join_all(asked)
        .await?
        .into_iter()
        .collect())
}

/// Where a step may write: its outputs and its notes.
fn writable(step: &Step) -> Result<Excludes, BuildError> {
    let outputs = step.outputs.iter().map(|output| output.path.to_string());
    let patterns: Vec<String> = outputs.chain(step.scratch.iter().cloned()).collect();
    Ok(Excludes::of(&patterns).map_err(PlanError::from)?)
}

fn check_packages(step: &Step, application: &Path) -> Result<(), PlanError> {
    let modules = application.join("node_modules");
    let absent = |package: &&&str| !modules.join(package).is_dir();
    match step.packages.iter().find(absent) {
        Some(&package) => Err(PlanError::NeedsPackage {
            step: step.name.clone(),
            package,
        }),
        None => Ok(()),
    }
}

/// Moves a step's outputs to a folder of their own.
fn collect(step: &Step, application: &Path, place: &Path) -> Result<(), BuildError> {
    for output in &step.outputs {
        let (from, to) = (
            application.join(output.path.as_path()),
            place.join(output.path.as_path()),
        );
        let missing = |what| BuildError::NoOutput {
            step: step.name.clone(),
            path: output.path.clone(),
            what,
        };
        let nested = |other: &EntryPath| output.path.is_below(other);
        if step.outputs.iter().any(|other| nested(&other.path)) {
            if from.symlink_metadata().is_err() && !output.optional {
                return Err(missing("was not made"));
            }
            continue; // comes with the outer one
        }
        match from.symlink_metadata() {
            Err(_) if output.optional => continue,
            Err(_) => return Err(missing("was not made")),
            Ok(meta) if meta.is_dir() && !output.optional && is_hollow(&from) => {
                return Err(missing("is empty"));
            }
            Ok(_) => {}
        }
        let parent = to.parent().unwrap_or(place);
        std::fs::create_dir_all(parent).at("create", parent)?;
        match std::fs::rename(&from, &to) {
            // Another file system: the one in memory.
            Err(error) if error.kind() == std::io::ErrorKind::CrossesDevices => {
                copy(&from, &to)?;
            }
            renamed => renamed.at("move", &from)?,
        }
    }
    std::fs::create_dir_all(place).at("create", place)?;
    lay_out::normalise(place)
}

fn copy(from: &Path, to: &Path) -> Result<(), BuildError> {
    if from.is_dir() && !from.is_symlink() {
        std::fs::create_dir_all(to).at("create", to)?;
        return crate::conditions::copy_in_order(from, to, None);
    }
    std::fs::copy(from, to).map(drop).at("write", to)
}

/// Whether a folder holds no file at any depth.
fn is_hollow(folder: &Path) -> bool {
    let entries = walkdir::WalkDir::new(folder).into_iter().flatten();
    !entries.into_iter().any(|entry| !entry.file_type().is_dir())
}
