//! One build from beginning to end.
//!
//! [`prepare`] ends with a complete tree that passed its gates, in a private folder. Of what fails
//! there, a store sees at most what steps made that ended well: no release, no record. [`Prepared::store`] imports it.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Instant, SystemTime};

use relstore_store::allowed_signers::AllowedSigners;
use relstore_store::import::Layout;
use relstore_store::signature::Signer;

use crate::check::CheckPlan;
use crate::conditions::Conditions;
use crate::error::BuildError;
use crate::event::{Event, Listener};
use crate::exclude::Excludes;
use crate::gate::{self, GateResult, LeftOut};
use crate::plan::{self, PlanError, Wanted};
use crate::prepared::{Built, Prepared};
use crate::provenance::{Origin, timestamp};
use crate::run::Clock;
use crate::sandbox::SandboxMode;
use crate::scratch::Scratch;
use crate::secret::Secrets;
use crate::source::SourceSpec;
use crate::stage::{Done, Stage, export};
use crate::store_place::StorePlace;

/// All that a build depends on.
#[derive(Debug, Clone)]
pub struct BuildRequest {
    /// Name of the application, for the records.
    pub application: String,
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
    /// Which gates are asked, and what follows from what they find.
    pub gates: gate::Settings,
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
    /// Who signs the records and derivations, if anybody does.
    pub signer: Option<Arc<dyn Signer>>,
    /// Whose derivations are used; `None`: those of anybody who may write into the store.
    pub trusted_builders: Option<AllowedSigners>,
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
    plan::check(&request.wanted, &request.gates)?;
    Excludes::of_release(&request.exclude).map_err(PlanError::from)?;
    request.checks.find_programs(&request.search_path)?;
    let mut request = request;
    request.wanted.checks = !request.checks.is_empty();
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
        Err(error) => return Err(with_gates(error, &scratch, &request)),
    };

    let begun = Instant::now();
    let assembled = stage.assemble(&done).await?;
    events(Event::Assembled {
        files: assembled.files,
        bytes: assembled.bytes,
        took: begun.elapsed(),
    });

    let begun = Instant::now();
    let results = ask_gates(&scratch, &request, &search_path).await?;
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
    let checks = stage.judge(&done).await?;
    let facts = stage.facts(&done).await?;
    let Done {
        plan,
        ran,
        tools,
        locks,
        surroundings,
        ..
    } = done;
    let origin = Origin {
        application: request.application.clone(),
        source: exported.source,
        revision: match &request.source {
            SourceSpec::Commit(revision) => Some(revision.clone()),
            SourceSpec::WorkTree => None,
        },
        steps: ran.records(&plan, &tools),
        env: request.wanted.env.clone(),
        exclude: request.exclude.clone(),
        layout: request.layout.clone(),
        locks: locks.digests,
        packages: locks.packages,
        package_trees: ran.package_trees(),
        gates: results,
        checks,
        facts,
        started: request.now,
        finished: clock.now(),
    };
    Ok(Prepared {
        scratch,
        layout: request.layout.clone(),
        origin,
        steps: ran.results,
        surroundings,
        signer: request.signer.clone(),
    })
}

/// The error of a step, or, when the source lacks what every release must have, that: it is the
/// likelier cause, and the step's error tells only its consequence.
fn with_gates(error: BuildError, scratch: &Scratch, request: &BuildRequest) -> BuildError {
    // Others are about this machine, not about the application.
    if !matches!(error, BuildError::Plan(_) | BuildError::Step { .. }) {
        return error;
    }
    let outputs: BTreeSet<String> = plan::fresh_outputs(&request.wanted).into_iter().collect();
    let made_by_steps = |id: &str| {
        let gate = gate::nine().into_iter().find(|gate| gate.id == id);
        let requirement = gate.as_ref().and_then(gate::Gate::requirement);
        let path = requirement.map_or_else(String::new, |what| what.path.to_string());
        outputs
            .iter()
            .any(|output| path.starts_with(&format!("{output}/")))
    };
    let application = scratch.source().join(&request.root);
    let mut results = gate::run_structure(&application, &request.gates.off);
    results.retain(|result| !made_by_steps(&result.id));
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
    request: &Arc<BuildRequest>,
    search_path: &str,
) -> Result<Vec<GateResult>, BuildError> {
    // The folder must outlive the look at it.
    let (scratch, request) = (Arc::clone(scratch), Arc::clone(request));
    let search_path = search_path.to_owned();
    blocking(move |cancelled| {
        let context = gate::Context {
            root: &scratch.tree(),
            left_out: &LeftOut::default(),
            search_path: &search_path,
            cache: Some(&request.scratch.join("cache")),
            cancelled,
        };
        Ok(gate::run(&context, &request.gates))
    })
    .await
}

/// Runs CPU and disk work on a thread where it may block. When nobody waits any more, the flag
/// that the work gets is set.
pub(crate) async fn blocking<T: Send + 'static>(
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
