//! The parts of a build between the source and the gates: export, steps, assembly.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;

use relstore_store::Store;
use relstore_store::id::BlobId;

use crate::assemble;
use crate::build::{BuildRequest, blocking};
use crate::error::{BuildError, IoContext};
use crate::event::{Event, Listener};
use crate::exclude::Excludes;
use crate::facts::{self, AppFacts};
use crate::lay_out::{Files, LayOut};
use crate::locks::{self, LockFiles, Locks};
use crate::plan::{self, Facts, Plan, PlanError};
use crate::prepared::Surroundings;
use crate::preset::application::ANSWER;
use crate::run::{self, Clock, Ran, Runner};
use crate::sandbox::{self, Probe, SandboxMode};
use crate::scratch::Scratch;
use crate::source::{Export, Source};
use crate::source_tree::{SourceEntry, SourceTree};
use crate::step::{Step, below};
use crate::store_place::StorePlace;
use crate::variable_use;
use crate::workshop::Workshop;

/// The source and what was read of it.
pub(crate) struct Exported {
    pub(crate) source: Source,
    /// Shared with threads that lay files out.
    pub(crate) tree: Arc<SourceTree>,
    facts: Facts,
    locks: LockFiles,
    /// Contents of files with credentials.
    credentials: Vec<Vec<u8>>,
}

/// Copies the source into the private folder and reads it.
pub(crate) async fn export(
    request: &Arc<BuildRequest>,
    scratch: &Arc<Scratch>,
    search_path: &str,
) -> Result<Exported, BuildError> {
    let outputs = plan::fresh_outputs(&request.wanted);
    let outputs = outputs
        .into_iter()
        .map(|output| match request.root.as_str() {
            "" => output,
            root => format!("{root}/{output}"),
        });
    let outputs: Vec<String> = outputs.collect();
    let outputs = outputs.iter().map(String::as_str);
    let source_excludes = Excludes::of_source(outputs).map_err(PlanError::from)?;
    let release_excludes = Excludes::of_release(&request.exclude).map_err(PlanError::from)?;
    let (request, scratch) = (Arc::clone(request), Arc::clone(scratch));
    let search_path = search_path.to_owned();
    blocking(move |cancelled| {
        let source = Export {
            project: &request.project,
            target: &scratch.source(),
            root: &request.root,
            source_excludes: &source_excludes,
            release_excludes: &release_excludes,
            shared_dirs: &request.layout.shared_dirs,
            search_path: &search_path,
            home: request.home.as_deref(),
            cancelled,
        }
        .run(&request.source)?;
        let tree = SourceTree::read(&scratch.source(), &request.root)?;
        if !tree.application().is_dir() {
            return Err(PlanError::NoRoot {
                root: request.root.clone(),
            }
            .into());
        }
        let credentials = tree.entries.iter().filter(|entry| entry.cleaned.is_some());
        let credentials = credentials.map(|entry| {
            let place = tree.folder.join(OsStr::from_bytes(&entry.path));
            std::fs::read(&place).at("read", &place)
        });
        let credentials = credentials.collect::<Result<_, _>>()?;
        Ok(Exported {
            source,
            facts: facts_of(&tree)?,
            locks: locks::read(&tree.application())?,
            tree: Arc::new(tree),
            credentials,
        })
    })
    .await
}

/// What the parts of a build have in common.
pub(crate) struct Stage<'a> {
    pub(crate) request: &'a Arc<BuildRequest>,
    pub(crate) scratch: &'a Arc<Scratch>,
    pub(crate) search_path: &'a str,
    pub(crate) exported: &'a Exported,
    pub(crate) store: Option<&'a StorePlace>,
    pub(crate) clock: Clock,
    pub(crate) events: Listener<'a>,
}

/// What the steps did.
pub(crate) struct Done {
    pub(crate) plan: Plan,
    pub(crate) ran: Ran,
    /// Versions by name.
    pub(crate) tools: BTreeMap<String, String>,
    pub(crate) locks: Locks,
    pub(crate) surroundings: Surroundings,
    /// The program that makes sandboxes, where steps ran in them.
    pub(crate) bwrap: Option<PathBuf>,
    /// What sandboxes have to show of the tools.
    pub(crate) tool_files: Vec<PathBuf>,
}

impl Stage<'_> {
    /// Plans and runs the steps.
    pub(crate) async fn steps(&self) -> Result<Done, BuildError> {
        let (request, scratch) = (self.request, self.scratch);
        let plan = plan::plan(&request.wanted, &self.exported.facts)?;
        let locks = Locks::of(&self.exported.locks, &plan)?;
        for step in &plan.steps {
            variable_use::check(&self.exported.tree, step)?;
        }
        scratch.write_accounts(request.conditions.user, &request.conditions.home)?;
        let secrets = request.secrets.clone().hiding(&self.exported.credentials);
        let mut workshop = Workshop {
            scratch,
            search_path: self.search_path,
            home: request.home.as_deref(),
            secrets: &secrets,
            conditions: &request.conditions,
            bwrap: None,
            tool_files: &[],
            root: &request.root,
            events: self.events,
        };
        let asked = run::identities(&plan, &workshop);
        let (bwrap, identities) = tokio::join!(self.sandbox(&plan), asked);
        let (bwrap, identities) = (bwrap?, identities?);
        workshop.bwrap = bwrap.as_deref();
        let tool_files = workshop.tool_files(&plan, &identities)?;
        workshop.tool_files = &tool_files;
        let project = std::path::absolute(&request.project).at("find", &request.project)?;
        let project = format!("{}\n{}", project.display(), request.root);
        let surroundings = workshop.surroundings();
        let runner = Runner {
            workshop,
            source: &self.exported.tree,
            epoch: self.exported.source.epoch,
            store: self.store,
            project: BlobId::of(project.as_bytes()).short(),
            identities: &identities,
            clock: self.clock,
            accept: &request.accept_packages,
            signer: request.signer.as_deref(),
            trusted: request.trusted_builders.as_ref(),
        };
        let ran = runner.run(&plan).await?;
        let tools = identities
            .iter()
            .map(|(tool, known)| (tool.program().to_owned(), known.version.clone()))
            .collect();
        Ok(Done {
            plan,
            ran,
            tools,
            locks,
            surroundings,
            bwrap: bwrap.clone(),
            tool_files,
        })
    }

    /// The program that makes sandboxes, when steps shall run in them and can.
    async fn sandbox(&self, plan: &Plan) -> Result<Option<PathBuf>, BuildError> {
        let mode = self.request.sandbox;
        if mode == SandboxMode::Off || !plan.steps.iter().any(|step| step.sandbox) {
            return Ok(None);
        }
        match sandbox::probe(self.search_path).await? {
            Probe::Works(program) => Ok(Some(program)),
            Probe::Fails { why, remedy } if mode == SandboxMode::Required => {
                Err(BuildError::NoSandbox { why, remedy })
            }
            Probe::Fails { why, remedy } => {
                (self.events)(Event::NoSandbox { why, remedy });
                Ok(None)
            }
        }
    }

    /// What the application said about itself, when it was asked and answered.
    pub(crate) async fn facts(&self, done: &Done) -> Result<Option<AppFacts>, BuildError> {
        let Some(made) = done.ran.made.get("facts") else {
            return Ok(None);
        };
        let folder = made.folder(self.existing().await?).await?;
        let place = folder.join(ANSWER);
        match facts::parse(&std::fs::read(&place).at("read", &place)?) {
            Ok(facts) => Ok(Some(facts)),
            Err(error) => {
                let why = error.to_string();
                (self.events)(Event::NoFacts { why });
                Ok(None)
            }
        }
    }

    /// The store, when there is one.
    pub(crate) async fn existing(&self) -> Result<Option<&Store>, BuildError> {
        match self.store {
            Some(store) => store.existing().await,
            None => Ok(None),
        }
    }

    /// Brings source and outputs together and takes what belongs to the release.
    pub(crate) async fn assemble(&self, done: &Done) -> Result<assemble::Assembled, BuildError> {
        // Checks get a tree of their own, later.
        let files = match self.request.checks.is_empty() {
            true => Files::Moved,
            false => Files::Linked,
        };
        let inside = |entry: &SourceEntry, root: &[u8]| below(&entry.path, root).is_some();
        let release = self.scratch.release();
        self.lay_out(done, done.plan.released(), inside, files, release)
            .await?;
        let packages = done.plan.step("composer").is_some();
        let (request, scratch) = (Arc::clone(self.request), Arc::clone(self.scratch));
        blocking(move |_| {
            let excludes = Excludes::of_release(&request.exclude).map_err(PlanError::from)?;
            let build = scratch.release().join(&request.root);
            let (tree, layout) = (scratch.tree(), &request.layout);
            assemble::assemble(&build, &tree, &excludes, layout, packages)
        })
        .await
    }

    /// Lays out, in an existing folder, the files of the source that `shows` takes (it also gets the
    /// application's folder) and over them what these steps made.
    pub(crate) async fn lay_out<'s>(
        &self,
        done: &Done,
        steps: impl Iterator<Item = &'s Step>,
        shows: fn(&SourceEntry, &[u8]) -> bool,
        files: Files,
        target: PathBuf,
    ) -> Result<(), BuildError> {
        let existing = self.existing().await?;
        let mut layers = Vec::new();
        for step in steps {
            if let Some(made) = done.ran.made.get(&step.name) {
                layers.push(made.layer(step, existing).await?);
            }
        }
        let tree = Arc::clone(&self.exported.tree);
        blocking(move |_| {
            let shown = |entry: &&SourceEntry| shows(entry, tree.root.as_bytes());
            let entries: Vec<&SourceEntry> = tree.entries.iter().filter(shown).collect();
            LayOut {
                source: &tree,
                entries: &entries,
                layers: &layers,
                writable: &Excludes::of(&[]).map_err(PlanError::from)?,
                files,
            }
            .run(&target)
        })
        .await
    }
}

fn facts_of(tree: &SourceTree) -> Result<Facts, BuildError> {
    let application = tree.application();
    let mut facts = Facts {
        root: tree.root.clone(),
        ..Facts::default()
    };
    for entry in std::fs::read_dir(&application).at("read", &application)? {
        let name = entry.at("read", &application)?.file_name();
        facts.names.extend(name.into_string().ok());
    }
    let read = |name: &str| {
        let path = application.join(name);
        let there = facts.names.contains(name);
        there
            .then(|| std::fs::read(&path).at("read", &path))
            .transpose()
    };
    (facts.composer_json, facts.package_json) = (read("composer.json")?, read("package.json")?);
    Ok(facts)
}
