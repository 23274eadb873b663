//! A prepared release is built again by the builder itself: the same source and steps, no step taken
//! from a store, other conditions.

use std::time::{Duration, Instant};

use super::{BuiltTree, Circumstances, Listener, Machine, Verdict, check};
use crate::build::{BuildRequest, prepare};
use crate::check::CheckPlan;
use crate::conditions::Conditions;
use crate::error::BuildError;
use crate::event;
use crate::made::How;
use crate::prepared::Prepared;
use crate::source::SourceSpec;

/// What comes out of a store was made at most so long ago, as far as times in files go.
const KEPT: Duration = Duration::from_secs(365 * 86_400);

/// Builds again, up to `times` times or until it differs, what was prepared for this request.
/// `builds` hears what the builds tell, `events` what the check does.
///
/// # Errors
/// As [`check`].
pub async fn check_prepared(
    prepared: &Prepared,
    request: &BuildRequest,
    times: usize,
    builds: event::Listener<'_>,
    events: Listener<'_>,
) -> Result<Verdict, BuildError> {
    let clock = Instant::now();
    // A branch may have moved on meanwhile.
    let source = match (&request.source, prepared.commit()) {
        (SourceSpec::Commit(_), Some(commit)) => SourceSpec::Commit(commit.to_owned()),
        (source, _) => source.clone(),
    };
    let build = async |conditions: &Conditions| -> Result<BuiltTree, BuildError> {
        let request = BuildRequest {
            source: source.clone(),
            // They judged the first tree; no release depends on them.
            checks: CheckPlan::default(),
            conditions: conditions.clone(),
            now: prepared.origin.finished + clock.elapsed(),
            ..request.clone()
        };
        let prepared = prepare(request.clone(), None, builds).await?;
        let circumstances = circumstances(&prepared, &request);
        Ok(BuiltTree::new(prepared.tree(), circumstances, prepared))
    };
    let first = BuiltTree::new(prepared.tree(), circumstances(prepared, request), ());
    check(first, times, build, events).await
}

fn circumstances(prepared: &Prepared, request: &BuildRequest) -> Circumstances {
    let seen = prepared.surroundings();
    let cached = prepared.steps.iter().any(|step| step.how != How::Ran);
    Circumstances {
        conditions: request.conditions.clone(),
        unvaried: Machine::look(&request.search_path, seen.sandboxed).unvaried(),
        folder: seen.folder.clone(),
        home: seen.home.clone(),
        env: request.wanted.env.clone(),
        started: match cached {
            true => prepared.origin.started - KEPT,
            false => prepared.origin.started,
        },
        finished: prepared.origin.finished,
    }
}
