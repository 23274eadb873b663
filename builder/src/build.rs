//! One build from beginning to end.
//!
//! [`prepare`] ends with a complete tree that passed its gates, in a private folder; no store is
//! involved, so whatever fails there leaves every store as it was. [`Prepared::store`] imports it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use relstore_store::Store;
use relstore_store::import::Layout;

use crate::assemble;
use crate::error::{BuildError, IoContext};
use crate::event::{Event, Listener};
use crate::exclude::Excludes;
use crate::gate::{self, GateResult};
use crate::plan::{self, Facts, Plan, PlanError};
use crate::prepared::{Built, Prepared};
use crate::provenance::{Origin, sha256, timestamp};
use crate::run::StepRunner;
use crate::scratch::Scratch;
use crate::secret::SecretVariables;
use crate::source::{Export, Source, SourceSpec};
use crate::step::{Preset, Step};

/// All that a build depends on.
#[derive(Debug, Clone)]
pub struct BuildRequest {
    /// The project's folder; may lie anywhere in a git repository.
    pub project: PathBuf,
    /// Commit or work tree.
    pub source: SourceSpec,
    /// Steps; what they need comes along, the order does not matter.
    pub steps: Vec<Preset>,
    /// Variables for every step: recorded, and part of what is built.
    pub env: BTreeMap<String, String>,
    /// Patterns beside the default ones, see [`crate::exclude`].
    pub exclude: Vec<String>,
    /// Ids of gates that are not asked.
    pub gates_off: Vec<String>,
    /// What hosts lay out.
    pub layout: Layout,
    /// Folder for private folders, caches and logs, such as the program's cache folder; made when
    /// absent.
    pub scratch: PathBuf,
    /// Folders with programs, as in PATH.
    pub search_path: String,
    /// The user's home folder: git looks for `safe.directory` there. Steps never see it.
    pub home: Option<PathBuf>,
    /// Variables for steps with network access, see [`crate::secret::NETWORK_VARIABLES`].
    pub network: SecretVariables,
    /// Longest time one command of a step may take.
    pub time_limit: Duration,
    /// The time now.
    pub now: SystemTime,
}

/// How long a step took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepResult {
    /// The step.
    pub name: &'static str,
    /// Wall time.
    pub milliseconds: u64,
}

/// Builds a release and stores it.
///
/// # Errors
/// A [`BuildError`]; the store then holds at most objects that nothing refers to, and after a
/// failed gate or step none at all.
pub async fn build(
    request: BuildRequest,
    store: &Store,
    events: Listener<'_>,
) -> Result<Built, BuildError> {
    prepare(request, events).await?.store(store, events).await
}

/// Builds the tree of a release and asks the gates. When the future is dropped, running steps are
/// killed.
///
/// # Errors
/// A [`BuildError`].
pub async fn prepare(request: BuildRequest, events: Listener<'_>) -> Result<Prepared, BuildError> {
    let clock = Instant::now();
    plan::check(&request.env, &request.gates_off)?;
    let presets = plan::complete(&request.steps);
    let outputs: Vec<&str> = presets
        .iter()
        .flat_map(|preset| preset.step().outputs)
        .copied()
        .collect();
    let source_excludes = Excludes::of_source(outputs.iter().copied()).map_err(PlanError::from)?;
    let release_excludes = Excludes::of_release(&request.exclude).map_err(PlanError::from)?;
    let stamp = timestamp(request.now).replace([':', '-'], "");
    let scratch = Arc::new(Scratch::create(&request.scratch, stamp)?);
    let search_path = absolute_folders(&request.search_path);

    let build = {
        let (request, scratch) = (request.clone(), Arc::clone(&scratch));
        let (release_excludes, search_path) = (release_excludes.clone(), search_path.clone());
        blocking(move |cancelled| {
            let source = Export {
                project: &request.project,
                target: &scratch.build(),
                source_excludes: &source_excludes,
                release_excludes: &release_excludes,
                shared_dirs: &request.layout.shared_dirs,
                search_path: &search_path,
                home: request.home.as_deref(),
                cancelled,
            }
            .run(&request.source)?;
            Ok((source, facts(&scratch)?, locks(&scratch)?))
        })
    };
    let (source, facts, locks) = build.await?;
    events(Event::SourceRead {
        commit: source.commit.clone(),
        files: source.files,
        bytes: source.bytes,
        took: clock.elapsed(),
    });

    let runner = StepRunner {
        scratch: &scratch,
        search_path: &search_path,
        epoch: source.epoch,
        network: &request.network,
        time_limit: request.time_limit,
        events,
    };
    let steps = match plan::plan(&request.steps, &request.env, &facts) {
        Ok(plan) => runner.run(&plan).await.map(|done| (plan, done)),
        Err(error) => Err(error.into()),
    };
    let (plan, ran) = match steps {
        Ok(done) => done,
        Err(error) => return Err(with_gates(error, &scratch, &request.gates_off, &presets).await),
    };

    let begun = Instant::now();
    let packages = presets.contains(&Preset::Composer);
    let assembled = {
        let (scratch, layout) = (Arc::clone(&scratch), request.layout.clone());
        blocking(move |_| {
            let (build, tree) = (scratch.build(), scratch.tree());
            assemble::assemble(&build, &tree, &release_excludes, &layout, packages)
        })
        .await?
    };
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
    let origin = origin(
        &request,
        source,
        plan,
        locks,
        ran.tools,
        results,
        clock.elapsed(),
    );
    Ok(Prepared {
        scratch,
        layout: request.layout,
        origin,
        steps: ran.steps,
    })
}

fn origin(
    request: &BuildRequest,
    source: Source,
    plan: Plan,
    locks: BTreeMap<&'static str, String>,
    tools: BTreeMap<&'static str, String>,
    gates: Vec<GateResult>,
    took: Duration,
) -> Origin {
    Origin {
        source,
        revision: match &request.source {
            SourceSpec::Commit(revision) => Some(revision.clone()),
            SourceSpec::WorkTree => None,
        },
        steps: plan.stages.into_iter().flatten().collect::<Vec<Step>>(),
        env: request.env.clone(),
        exclude: request.exclude.clone(),
        layout: request.layout.clone(),
        locks,
        tools,
        gates,
        started: request.now,
        finished: request.now + took,
    }
}

/// The error of a step, or, when the source lacks what every release must have, that: it is the
/// likelier cause, and the step's error tells only its consequence.
async fn with_gates(
    error: BuildError,
    scratch: &Arc<Scratch>,
    off: &[String],
    presets: &BTreeSet<Preset>,
) -> BuildError {
    // Others are about this machine, not about the application.
    if !matches!(error, BuildError::Plan(_) | BuildError::Step { .. }) {
        return error;
    }
    let made_by_steps = |id: &str| {
        let gate = gate::nine().into_iter().find(|gate| gate.id == id);
        let path = gate
            .map(|gate| gate.requirement.path.to_string())
            .unwrap_or_default();
        let mut outputs = presets.iter().flat_map(|preset| preset.step().outputs);
        outputs.any(|output| path.starts_with(&format!("{output}/")))
    };
    let Ok(mut results) = ask_gates(scratch, scratch.build(), off).await else {
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

fn facts(scratch: &Scratch) -> Result<Facts, BuildError> {
    let build = scratch.build();
    let mut facts = Facts::default();
    for entry in std::fs::read_dir(&build).at("read", &build)? {
        let name = entry.at("read", &build)?.file_name();
        facts.names.extend(name.into_string().ok());
    }
    let composer = build.join("composer.json");
    if facts.names.contains("composer.json") {
        facts.composer_json = Some(std::fs::read(&composer).at("read", &composer)?);
    }
    Ok(facts)
}

/// SHA-256 of the lock files, before a step could change them.
fn locks(scratch: &Scratch) -> Result<BTreeMap<&'static str, String>, BuildError> {
    let mut locks = BTreeMap::new();
    for name in ["composer.lock", "package-lock.json"] {
        let path = scratch.build().join(name);
        match std::fs::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            read => {
                locks.insert(name, sha256(&read.at("read", &path)?));
            }
        }
    }
    Ok(locks)
}
