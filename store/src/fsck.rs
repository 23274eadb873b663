//! Is a store what it should be? And what to do when it is not.
//!
//! ```text
//! list -> tables -> small objects -> manifests -> frames -> what is affected -> Report
//!         `tables`  `objects`       `manifests`  `frames`  `affected`
//! Report -> Plan -> run                                         `repair`
//! ```
//! Works over any backend. Objects are read one after the other, a few ahead; in memory are the list
//! of objects and the tables, as for reading, never contents of bundles as a whole.
//!
//! A check writes nothing. What it finds is a [`Problem`] when something is wrong, and a [`Note`] when
//! somebody should know: files that are not ours, what nothing refers to, two releases of one commit.

mod affected;
mod frames;
mod ledger;
mod manifests;
mod objects;
pub mod repair;
mod report;
mod tables;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::backend::{Backend, Object};
use crate::error::StoreError;
use crate::event::{Event, Listener};
use crate::id::{DerivationKey, ReleaseId};
use crate::shape::Shape;
use crate::tombstone::Tombstones;
use frames::Sampled;
pub use report::{Affected, Depth, Fault, Note, Problem, Remark, Report};
use tables::Tables;

/// Objects that are read at once.
const PARALLEL: usize = 16;

/// All that is known of a store while it is checked.
#[derive(Debug)]
struct Survey {
    backend: Arc<dyn Backend>,
    /// Every object, by name.
    objects: Vec<Object>,
    tombstones: Tombstones,
    tables: Tables,
    /// Releases with a marker.
    complete: BTreeSet<ReleaseId>,
    /// Trees of step outputs, and whose they are.
    trees: BTreeMap<ReleaseId, Vec<DerivationKey>>,
    /// Manifests of which at least one generation is sound.
    manifests: BTreeSet<ReleaseId>,
    problems: Vec<Problem>,
    notes: Vec<Note>,
}

/// Checks the store on a backend, which may be so damaged that it cannot be opened.
///
/// # Errors
/// [`StoreError::NoStore`] when nothing there looks like one; [`StoreError::Format`] when it is of a
/// newer version; those of the backend that do not concern one object alone.
pub async fn check(
    backend: &Arc<dyn Backend>,
    depth: Depth,
    events: Listener<'_>,
) -> Result<Report, StoreError> {
    let mut survey = Survey::begin(backend).await?;
    survey.look_at_objects().await?;
    survey.look_at_manifests().await?;
    survey.look_at_ledgers().await?;
    let mut report = Report {
        depth,
        problems: Vec::new(),
        notes: Vec::new(),
        objects: survey.objects.len(),
        releases: survey.complete.len(),
        bundles: survey.tables.packs.len(),
        checked_bytes: 0,
    };
    if let Some(sampled) = Sampled::of(depth) {
        events(Event::ToCheck(survey.bundle_bytes(&sampled)));
        report.checked_bytes = survey.look_at_frames(&sampled, events).await?;
    }
    survey.find_affected().await?;
    report.problems = survey.problems;
    report.problems.sort_by(|a, b| a.object.cmp(&b.object));
    report.notes = survey.notes;
    Ok(report)
}

impl Survey {
    /// Lists everything and reads the tables.
    async fn begin(backend: &Arc<dyn Backend>) -> Result<Self, StoreError> {
        let tombstones = Tombstones::load(backend.as_ref()).await?;
        let objects = backend.list("").await?;
        if !objects
            .iter()
            .any(|object| Shape::of(&object.name).is_of_a_store())
        {
            return Err(StoreError::NoStore {
                place: backend.place(),
            });
        }
        let mut survey = Self {
            backend: Arc::clone(backend),
            tables: Tables::default(),
            complete: BTreeSet::new(),
            trees: BTreeMap::new(),
            manifests: BTreeSet::new(),
            problems: Vec::new(),
            notes: Vec::new(),
            objects,
            tombstones,
        };
        for object in backend.left_over().await? {
            survey.note(&object.name, Remark::Unfinished);
        }
        let tables = Tables::load(backend.as_ref(), &survey.objects, &survey.tombstones).await?;
        for (object, fault) in tables.faults() {
            survey.problem(&object, fault);
        }
        survey.tables = tables;
        Ok(survey)
    }

    fn problem(&mut self, object: &str, fault: Fault) {
        self.problems.push(Problem {
            object: object.to_owned(),
            fault,
            affects: Affected::default(),
        });
    }

    fn note(&mut self, object: &str, remark: Remark) {
        self.notes.push(Note {
            object: object.to_owned(),
            remark,
        });
    }

    /// Names of objects of one kind, with what the names say.
    fn shaped<T>(&self, pick: impl Fn(Shape<'_>) -> Option<T>) -> Vec<(String, T)> {
        let objects = self.objects.iter();
        objects
            .filter_map(|object| Some((object.name.clone(), pick(Shape::of(&object.name))?)))
            .collect()
    }
}

/// The bytes of an object; a disk that cannot read it is a fault of this object alone.
async fn read(
    backend: &dyn Backend,
    name: &str,
) -> Result<Option<Result<bytes::Bytes, Fault>>, StoreError> {
    match backend.get(name).await {
        Err(error @ StoreError::Io { .. }) => {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            let what = format!("it cannot be read: {}", cause.unwrap_or_default());
            Ok(Some(Err(Fault::Unreadable(what))))
        }
        read => Ok(read?.map(Ok)),
    }
}
