//! Which releases something keeps.

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use serde::Deserialize;

use super::Retention;
use crate::backend::{Backend, Object};
use crate::error::StoreError;
use crate::id::ReleaseId;
use crate::refs;
use crate::shape::{Shape, Signed};

/// What the copy of a ledger's line says about releases; all else is the deployer's business.
#[derive(Deserialize)]
struct Entry {
    release: ReleaseId,
    previous: Option<ReleaseId>,
}

/// The releases that hosts serve, or served since then. The last entry of a host names what it
/// serves, as what was brought or as what was there before.
pub(super) async fn served(
    backend: &dyn Backend,
    objects: &[Object],
    since: SystemTime,
) -> Result<BTreeSet<ReleaseId>, StoreError> {
    let entries = objects.iter().filter(|object| {
        object.name.starts_with("environments/") && object.name.contains("/ledger/")
    });
    // Names of one host sort by number.
    let mut hosts: BTreeMap<&str, Vec<&Object>> = BTreeMap::new();
    for object in entries {
        let host = object.name.rsplit_once('/').map_or("", |(host, _)| host);
        hosts.entry(host).or_default().push(object);
    }
    let mut served = BTreeSet::new();
    for entries in hosts.into_values() {
        let last = entries.len() - 1;
        for (at, object) in entries.into_iter().enumerate() {
            if at < last && object.modified < since {
                continue;
            }
            let Some(line) = backend.get(&object.name).await? else {
                continue;
            };
            let entry: Entry =
                serde_json::from_slice(&line).map_err(|error| StoreError::Damaged {
                    name: object.name.clone(),
                    what: error.to_string(),
                })?;
            served.insert(entry.release);
            served.extend(entry.previous);
        }
    }
    Ok(served)
}

/// The releases of the store that stay. Pure.
pub(super) fn live(
    objects: &[Object],
    served: &BTreeSet<ReleaseId>,
    retention: &Retention,
    now: SystemTime,
) -> Result<BTreeSet<ReleaseId>, StoreError> {
    let mut pinned = BTreeSet::new();
    let mut heard: BTreeMap<ReleaseId, SystemTime> = BTreeMap::new();
    let mut complete = BTreeSet::new();
    for object in objects {
        let release = match Shape::of(&object.name) {
            Shape::Marker(release) => {
                complete.insert(release);
                release
            }
            Shape::Record(release, _)
            | Shape::Signature {
                of: Signed::Record(release),
                ..
            } => release,
            Shape::Pin(release) => {
                pinned.insert(release);
                continue;
            }
            Shape::Malformed if object.name.starts_with(refs::PINS) => {
                return Err(StoreError::Damaged {
                    name: object.name.clone(),
                    what: "it is the name of no pin".into(),
                });
            }
            _ => continue,
        };
        let time = heard.entry(release).or_insert(object.modified);
        *time = object.modified.max(*time);
    }
    let mut newest: Vec<(SystemTime, ReleaseId)> = heard
        .into_iter()
        .filter(|(release, _)| complete.contains(release))
        .map(|(release, time)| (time, release))
        .collect();
    newest.sort_unstable_by(|a, b| b.cmp(a));
    let since = now
        .checked_sub(retention.keep_for)
        .unwrap_or(SystemTime::UNIX_EPOCH);
    let recent = newest
        .iter()
        .enumerate()
        .filter(|(at, (time, _))| *at < retention.keep_last || *time >= since);
    let mut live: BTreeSet<ReleaseId> = recent.map(|(_, (_, release))| *release).collect();
    live.extend(
        pinned
            .union(served)
            .filter(|release| complete.contains(release)),
    );
    Ok(live)
}
