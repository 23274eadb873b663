//! One build from beginning to end.
//!
//! [`prepare`] ends with a complete tree that passed its gates, in a private folder. Of what fails
//! there, a store sees at most what steps made that ended well: no release, no record. [`Prepared::store`] imports it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Instant, SystemTime};

use relstore_store::id::BlobId;
use relstore_store::import::Layout;

use crate::assemble;
use crate::check::CheckPlan;
use crate::conditions::Conditions;
use crate::error::{BuildError, IoContext};
use crate::event::{Event, Listener};
use crate::exclude::Excludes;
use crate::gate::{self, GateResult};
use crate::lay_out::{Files, LayOut};
use crate::plan::{self, Facts, Plan, PlanError, Wanted};
use crate::prepared::{Built, Prepared, Surroundings};
use crate::provenance::{Origin, sha256, timestamp};
use crate::run::{self, Clock, Ran, Runner};
use crate::sandbox::{self, Probe, SandboxMode};
use crate::scratch::Scratch;
use crate::secret::Secrets;
use crate::source::{Export, Source, SourceSpec};
use crate::source_tree::{SourceEntry, SourceTree};
use crate::store_place::StorePlace;
use crate::variable_use;
use crate::workshop::Workshop;

/// All that a build depends on.
#[derive(Debug, Clone)]
pub struct BuildRequest {
    /// The project's folder; may lie anywhere in a git repository.
    pub project: PathBuf,
    /// The application's folder from the project's; empty when they are the same. What lies beside
    /// it is seen by Composer alone, for packages of `path` repositories.
    pub root: String,
    /// Commit or work tree.
    pub source: SourceSpec,
    /// Steps and the variables that are part of what is built.
    pub wanted: Wanted,
    /// Patterns beside the default ones, see [`crate::exclude`].
    pub exclude: Vec<String>,
    /// Ids of gates that are not asked.
    pub gates_off: Vec<String>,
    /// What judges the tree with development packages.
    pub checks: CheckPlan,
    /// What hosts lay out.
    pub layout: Layout,
    /// Whether steps run in a sandbox.
    pub sandbox: SandboxMode,
    /// Under which conditions they run; others than the default ones only to compare results.
    pub conditions: Conditions,
    /// Composer packages whose files may differ from what they were.
    pub accept_packages: Vec<String>,
    /// Folder for private folders, caches and logs, such as the program's cache folder; made when
    /// absent.
    pub scratch: PathBuf,
    /// Folders with programs, as in PATH.
    pub search_path: String,
    /// The user's home folder: git looks for `safe.directory` there. Steps never see it, but for
    /// the tools that are installed in it.
    pub home: Option<PathBuf>,
    /// What steps with network access get beside their environment.
    pub secrets: Secrets,
    /// The time now.
    pub now: SystemTime,
}

/// Builds a release and stores it.
///
/// # Errors
/// A [`BuildError`]; the store then holds at most objects that no release refers to.
pub async fn build(
    request: BuildRequest,
    store: &StorePlace,
    events: Listener<'_>,
) -> Result<Built, BuildError> {
    let prepared = prepare(request, Some(store), events).await?;
    prepared.store(store.make().await?, events).await
}

/// Builds the tree of a release and asks the gates. What steps make is looked up in the store and
/// kept there; without one every step runs. When the future is dropped, running steps are killed.
///
/// # Errors
/// A [`BuildError`].
pub async fn prepare(
    request: BuildRequest,
    store: Option<&StorePlace>,
    events: Listener<'_>,
) -> Result<Prepared, BuildError> {
    let clock = Clock {
        began: request.now,
        since: Instant::now(),
    };
    plan::check(&request.wanted, &request.gates_off)?;
    Excludes::of_release(&request.exclude).map_err(PlanError::from)?;
    let request = Arc::new(request);
    let stamp = timestamp(request.now).replace([':', '-'], "");
    let home = request.home.as_deref();
    let scratch = Arc::new(Scratch::create(&request.scratch, stamp, home)?);
    let search_path = absolute_folders(&request.search_path);
    let exported = export(&request, &scratch, &search_path).await?;
    events(Event::SourceRead {
        commit: exported.source.commit.clone(),
        files: exported.source.files,
        bytes: exported.source.bytes,
        took: clock.since.elapsed(),
    });

    let stage = Stage {
        request: &request,
        scratch: &scratch,
        search_path: &search_path,
        exported: &exported,
        store,
        clock,
        events,
    };
    let done = match stage.steps().await {
        Ok(done) => done,
        Err(error) => return Err(with_gates(error, &scratch, &request).await),
    };

    let begun = Instant::now();
    let assembled = stage.assemble(&done).await?;
    events(Event::Assembled {
        files: assembled.files,
        bytes: assembled.bytes,
        took: begun.elapsed(),
    });

    let begun = Instant::now();
    let results = ask_gates(&scratch, scratch.tree(), &request.gates_off).await?;
    events(Event::Gates {
        results: results.clone(),
        took: begun.elapsed(),
    });
    if results.iter().any(GateResult::has_failed) {
        return Err(BuildError::Gates {
            results,
            source: None,
        });
    }
    let Done {
        plan,
        ran,
        tools,
        surroundings,
    } = done;
    let origin = Origin {
        source: exported.source,
        revision: match &request.source {
            SourceSpec::Commit(revision) => Some(revision.clone()),
            SourceSpec::WorkTree => None,
        },
        steps: plan.steps,
        env: request.wanted.env.clone(),
        exclude: request.exclude.clone(),
        layout: request.layout.clone(),
        locks: exported.locks,
        tools,
        gates: results,
        started: request.now,
        finished: clock.now(),
    };
    Ok(Prepared {
        scratch,
        layout: request.layout.clone(),
        origin,
        steps: ran.results,
        surroundings,
    })
}

/// The source and what was read of it.
struct Exported {
    source: Source,
    tree: SourceTree,
    facts: Facts,
    locks: BTreeMap<&'static str, String>,
    /// Contents of files with credentials.
    credentials: Vec<Vec<u8>>,
}

async fn export(
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
            let place = tree
                .folder
                .join(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(&entry.path));
            std::fs::read(&place).at("read", &place)
        });
        let credentials = credentials.collect::<Result<_, _>>()?;
        Ok(Exported {
            source,
            facts: facts(&tree)?,
            locks: locks(&tree)?,
            tree,
            credentials,
        })
    })
    .await
}

/// What the parts of a build have in common.
struct Stage<'a> {
    request: &'a Arc<BuildRequest>,
    scratch: &'a Arc<Scratch>,
    search_path: &'a str,
    exported: &'a Exported,
    store: Option<&'a StorePlace>,
    clock: Clock,
    events: Listener<'a>,
}

/// What the steps did.
struct Done {
    plan: Plan,
    ran: Ran,
    /// Versions by name.
    tools: BTreeMap<String, String>,
    surroundings: Surroundings,
}

impl Stage<'_> {
    /// Plans and runs the steps.
    async fn steps(&self) -> Result<Done, BuildError> {
        let (request, scratch) = (self.request, self.scratch);
        let plan = plan::plan(&request.wanted, &self.exported.facts)?;
        for step in &plan.steps {
            variable_use::check(&self.exported.tree, step)?;
        }
        scratch.write_accounts(request.conditions.user, &request.conditions.home)?;
        let bwrap = self.sandbox(&plan).await?;
        let secrets = request.secrets.clone().hiding(&self.exported.credentials);
        let mut workshop = Workshop {
            scratch,
            search_path: self.search_path,
            home: request.home.as_deref(),
            secrets: &secrets,
            conditions: &request.conditions,
            bwrap: bwrap.as_deref(),
            tool_files: &[],
            root: &request.root,
            events: self.events,
        };
        let identities = run::identities(&plan, &workshop).await?;
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
            surroundings,
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

    /// Brings source and outputs together and takes what belongs to the release.
    async fn assemble(&self, done: &Done) -> Result<assemble::Assembled, BuildError> {
        let existing = match self.store {
            Some(store) => store.existing().await?,
            None => None,
        };
        let mut layers = Vec::new();
        for step in done.plan.released() {
            if let Some(made) = done.ran.made.get(&step.name) {
                layers.push(made.layer(step, existing).await?);
            }
        }
        let packages = done.plan.step("composer").is_some();
        let (request, scratch) = (Arc::clone(self.request), Arc::clone(self.scratch));
        // The tree's own copy: it is needed on another thread.
        let entries: Vec<SourceEntry> = self.exported.tree.entries.clone();
        blocking(move |_| {
            let tree = SourceTree {
                folder: scratch.source(),
                root: request.root.clone(),
                entries,
            };
            let inside = |entry: &&SourceEntry| {
                crate::step::below(&entry.path, request.root.as_bytes()).is_some()
            };
            let entries: Vec<&SourceEntry> = tree.entries.iter().filter(inside).collect();
            let nothing = Excludes::of(&[]).map_err(PlanError::from)?;
            LayOut {
                source: &tree,
                entries: &entries,
                layers: &layers,
                writable: &nothing,
                files: Files::Linked,
            }
            .run(&scratch.release())?;
            let excludes = Excludes::of_release(&request.exclude).map_err(PlanError::from)?;
            let build = scratch.release().join(&request.root);
            assemble::assemble(
                &build,
                &scratch.tree(),
                &excludes,
                &request.layout,
                packages,
            )
        })
        .await
    }
}

/// The error of a step, or, when the source lacks what every release must have, that: it is the
/// likelier cause, and the step's error tells only its consequence.
async fn with_gates(
    error: BuildError,
    scratch: &Arc<Scratch>,
    request: &BuildRequest,
) -> BuildError {
    // Others are about this machine, not about the application.
    if !matches!(error, BuildError::Plan(_) | BuildError::Step { .. }) {
        return error;
    }
    let outputs: BTreeSet<String> = plan::fresh_outputs(&request.wanted).into_iter().collect();
    let made_by_steps = |id: &str| {
        let gate = gate::nine().into_iter().find(|gate| gate.id == id);
        let path = gate
            .map(|gate| gate.requirement.path.to_string())
            .unwrap_or_default();
        outputs
            .iter()
            .any(|output| path.starts_with(&format!("{output}/")))
    };
    let application = scratch.source().join(&request.root);
    let Ok(mut results) = ask_gates(scratch, application, &request.gates_off).await else {
        return error;
    };
    results.retain(|result| !made_by_steps(result.id));
    if results.iter().any(GateResult::has_failed) {
        BuildError::Gates {
            results,
            source: Some(Box::new(error)),
        }
    } else {
        error
    }
}

async fn ask_gates(
    scratch: &Arc<Scratch>,
    root: PathBuf,
    off: &[String],
) -> Result<Vec<GateResult>, BuildError> {
    let (scratch, off) = (Arc::clone(scratch), off.to_vec());
    blocking(move |_| {
        let results = gate::run(&root, &gate::nine(), &off);
        // The folder must outlive the look at it.
        drop(scratch);
        Ok(results)
    })
    .await
}

/// Runs CPU and disk work on a thread where it may block. When nobody waits any more, the flag
/// that the work gets is set.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce(&AtomicBool) -> Result<T, BuildError> + Send + 'static,
) -> Result<T, BuildError> {
    struct SetOnDrop(Arc<AtomicBool>);
    impl Drop for SetOnDrop {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let flag = SetOnDrop(Arc::new(AtomicBool::new(false)));
    let cancelled = Arc::clone(&flag.0);
    tokio::task::spawn_blocking(move || work(&cancelled))
        .await
        .map_err(|_| BuildError::Interrupted)?
}

/// Relative folders of a search path mean another program in every working directory.
fn absolute_folders(search_path: &str) -> String {
    let absolute: Vec<&str> = search_path
        .split(':')
        .filter(|folder| folder.starts_with('/'))
        .collect();
    absolute.join(":")
}

fn facts(tree: &SourceTree) -> Result<Facts, BuildError> {
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

/// SHA-256 of the lock files.
fn locks(tree: &SourceTree) -> Result<BTreeMap<&'static str, String>, BuildError> {
    let mut locks = BTreeMap::new();
    for name in [
        "composer.lock",
        "package-lock.json",
        "pnpm-lock.yaml",
        "yarn.lock",
    ] {
        let path = tree.application().join(name);
        match std::fs::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            read => {
                locks.insert(name, sha256(&read.at("read", &path)?));
            }
        }
    }
    Ok(locks)
}
