//! Mends what a check found: from what the store says itself, from other copies, from intact frames.
//!
//! Never makes anything worse: good bytes are verified before they are written, and what is removed
//! goes only after all that somebody needs of it is durable elsewhere. What cannot be mended
//! stays as it is. May be stopped anywhere and run again. Nothing depends on the format being readable.

mod rescue;
mod small;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Fault, Problem, Report};
use crate::backend::Backend;
use crate::error::StoreError;
use crate::event::Listener;
use crate::id::ReleaseId;
use crate::index::bundle_name;
use crate::shape::Shape;
use crate::store::Store;
use crate::transfer;
use rescue::Rescue;

/// Where good bytes come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The name says what such an object holds.
    Name,
    /// Another generation in the same store.
    Here(String),
    /// One of the other stores, by its number, and the name there.
    Source(usize, String),
}

/// One step of a repair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Good bytes take the place of an object that is damaged or missing.
    Put {
        /// Object name.
        object: String,
        /// Where they come from.
        origin: Origin,
    },
    /// An index is made again from the table of its bundle.
    Index {
        /// Object name.
        object: String,
        /// Name of the bundle.
        bundle: String,
    },
    /// Intact blobs of damaged bundles go into a new bundle.
    Salvage {
        /// How many.
        blobs: usize,
    },
    /// Blobs come from another store, in a new bundle.
    Fetch {
        /// How many.
        blobs: usize,
        /// Number of the store.
        source: usize,
    },
    /// A damaged bundle, or the index of a lost one, goes: nothing needs it any more.
    Remove {
        /// Object name.
        object: String,
    },
    /// A release is brought from another store as a whole.
    Restore {
        /// The release.
        release: ReleaseId,
        /// Number of the store.
        source: usize,
    },
}

/// A problem that stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Left {
    /// The problem.
    pub problem: Problem,
    /// Commits that give the affected releases when they are built again.
    pub commits: Vec<String>,
}

/// What a repair is going to do. Nothing is done yet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// In the order in which they are done.
    pub actions: Vec<Action>,
    /// What cannot be mended.
    pub left: Vec<Left>,
    /// Bundles to be looked at closely.
    suspects: BTreeSet<String>,
}

/// What a repair did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Mended {
    /// Small objects that were written.
    pub objects: usize,
    /// Blobs that were stored again.
    pub blobs: usize,
    /// Damaged objects that were removed.
    pub removed: usize,
}

/// Says what can be done about the problems of a report, with the help of these other stores.
///
/// # Errors
/// Those of the backends.
pub async fn plan(
    backend: &Arc<dyn Backend>,
    report: &Report,
    sources: &[Store],
    events: Listener<'_>,
) -> Result<Plan, StoreError> {
    let mut plan = Plan {
        suspects: suspects(report),
        ..Plan::default()
    };
    if report.is_clean() && report.notes.is_empty() {
        return Ok(plan);
    }
    let rescue = Rescue::find(backend, &plan.suspects, sources, events).await?;
    let mut mended: BTreeSet<String> = BTreeSet::new();
    for problem in &report.problems {
        if let Some(action) = small::action(backend, problem, sources, &rescue).await? {
            mended.insert(problem.object.clone());
            if !plan.actions.contains(&action) {
                plan.actions.push(action);
            }
        }
    }
    plan.actions.extend(small::gaps(report, sources).await?);
    // Nothing else may be done before it is known that this program may write here.
    plan.actions.sort_by_key(|action| match action {
        Action::Put { object, .. } if object == crate::store::FORMAT => 0,
        Action::Restore { .. } => 2,
        _ => 1,
    });
    let at = plan
        .actions
        .iter()
        .position(|action| matches!(action, Action::Restore { .. }));
    let at = at.unwrap_or(plan.actions.len());
    plan.actions.splice(at..at, rescue.actions());
    for problem in &report.problems {
        let blobs = match &problem.fault {
            Fault::Lacks(blobs) => blobs.iter().all(|blob| !rescue.remaining.contains(blob)),
            _ => rescue.removes(&problem.object),
        };
        if !blobs && !mended.contains(&problem.object) {
            plan.left.push(Left {
                commits: rescue.commits_of(&problem.affects.releases),
                problem: problem.clone(),
            });
        }
    }
    Ok(plan)
}

/// Bundles that a report has doubts about.
fn suspects(report: &Report) -> BTreeSet<String> {
    let mut suspects = BTreeSet::new();
    for problem in &report.problems {
        match Shape::of(&problem.object) {
            Shape::Bundle(_) => {
                suspects.insert(problem.object.clone());
            }
            // Which of the two is wrong is told by the contents.
            Shape::Index(stem) if problem.fault == Fault::OtherTable => {
                suspects.insert(bundle_name(stem));
            }
            _ => {}
        }
    }
    suspects
}

/// Carries a plan out. A fresh check tells what it came to.
///
/// # Errors
/// Those of the backends; to be planned and run again then.
pub async fn run(
    backend: &Arc<dyn Backend>,
    plan: &Plan,
    sources: &[Store],
    events: Listener<'_>,
) -> Result<Mended, StoreError> {
    let mut mended = Mended::default();
    // A marker is published when all of its release is durable.
    let is_marker = |object: &str| matches!(Shape::of(object), Shape::Marker(_));
    for action in &plan.actions {
        let done = match action {
            Action::Put { object, origin } if !is_marker(object) => {
                small::put(backend.as_ref(), object, origin, sources).await?
            }
            Action::Index { object, bundle } => {
                small::rebuild_index(backend.as_ref(), object, bundle).await?
            }
            _ => false,
        };
        mended.objects += usize::from(done);
    }
    // Found anew: manifests that were just mended may need more.
    let rescue = Rescue::find(backend, &plan.suspects, sources, events).await?;
    rescue.run(backend, sources, &mut mended, events).await?;
    for action in &plan.actions {
        if let Action::Put { object, origin } = action
            && is_marker(object)
        {
            let done = small::put(backend.as_ref(), object, origin, sources).await?;
            mended.objects += usize::from(done);
        }
    }
    let store = Store::over(Arc::clone(backend));
    let mut releases: BTreeMap<usize, Vec<ReleaseId>> = BTreeMap::new();
    for action in &plan.actions {
        if let Action::Restore { release, source } = action {
            releases.entry(*source).or_default().push(*release);
        }
    }
    for (source, releases) in releases {
        let from = &sources[source];
        let plan = transfer::plan(from, &store, &releases).await?;
        transfer::run(from, &store, &plan, events).await?;
        mended.objects += releases.len();
    }
    Ok(mended)
}

/// What came of repairing as long as it helps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// All that was done.
    pub actions: Vec<Action>,
    /// What cannot be mended.
    pub left: Vec<Left>,
    /// Sums.
    pub mended: Mended,
    /// A fresh check after the last step.
    pub report: Report,
}

/// How often a repair is planned: a signature can be judged only when its record is there again.
const ROUNDS: usize = 4;

/// Plans and mends until a fresh check is clean or finds what it found before. `told` hears of
/// each plan before it is carried out.
///
/// # Errors
/// Those of the backends; to be begun again then.
pub async fn mend(
    backend: &Arc<dyn Backend>,
    report: Report,
    sources: &[Store],
    events: Listener<'_>,
    told: &(dyn Fn(&Plan) + Send + Sync),
) -> Result<Outcome, StoreError> {
    let mut outcome = Outcome {
        actions: Vec::new(),
        left: Vec::new(),
        mended: Mended::default(),
        report,
    };
    for _ in 0..ROUNDS {
        let plan = plan(backend, &outcome.report, sources, events).await?;
        outcome.left = plan.left.clone();
        if plan.actions.is_empty() {
            break;
        }
        told(&plan);
        let done = run(backend, &plan, sources, events).await?;
        outcome.mended.objects += done.objects;
        outcome.mended.blobs += done.blobs;
        outcome.mended.removed += done.removed;
        outcome.actions.extend(plan.actions);
        let report = super::check(backend, outcome.report.depth, events).await?;
        let same = report.problems == outcome.report.problems;
        outcome.report = report;
        if same {
            break;
        }
    }
    Ok(outcome)
}
