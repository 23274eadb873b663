//! Which releases something keeps.

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use serde::Deserialize;

use super::Retention;
use crate::backend::{Backend, Object};
use crate::error::StoreError;
use crate::generation::split;
use crate::id::ReleaseId;
use crate::refs;

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
        let (folder, rest) = object.name.split_once('/').unwrap_or_default();
        let release = match folder {
            "releases" => split(rest).0.parse::<ReleaseId>().ok(),
            "records" => rest.split('/').next().and_then(|id| id.parse().ok()),
            "pins" => {
                let pin = refs::pin(&object.name).ok_or_else(|| StoreError::Damaged {
                    name: object.name.clone(),
                    what: "it is the name of no pin".into(),
                })?;
                pinned.insert(pin.0);
                None
            }
            _ => None,
        };
        let Some(release) = release else {
            continue;
        };
        if folder == "releases" {
            complete.insert(release);
        }
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
