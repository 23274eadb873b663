//! From facts to a plan. Pure.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::{Duration, Instant, SystemTime};

use super::inventory::{Bundle, Inventory};
use super::{AFTERLIFE, Dead, Plan, Repack, Retention};
use crate::backend::Object;
use crate::generation::Named;
use crate::id::{BlobId, DerivationKey, RecordId, ReleaseId};
use crate::index;
use crate::shape::{Shape, Signed};

/// A bundle is put together anew when less than half of its bytes are live.
const LIVE_SHARE: u64 = 2;
/// A bundle of fewer bytes is very small.
const SMALL: u64 = 1 << 20;
/// So many very small bundles are put together.
const SMALL_COUNT: usize = 32;
/// Raw bytes that one new bundle may get.
const REPACK_BYTES: u64 = 1 << 30;

/// What is to become of an object that exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Stays,
    /// Nothing keeps it, or another generation serves as well.
    Goes,
}

/// Decides.
pub(super) fn decide(inventory: &Inventory, retention: &Retention, made: Instant) -> Plan {
    let grace = retention.grace;
    let old = |time: SystemTime, age: Duration| {
        inventory.now.duration_since(time).unwrap_or_default() >= age
    };
    let (fates, repack) = fates(inventory, retention);
    let mut plan = Plan {
        kept: inventory.live.iter().copied().collect(),
        expired: expired(inventory),
        bury: Vec::new(),
        delete: Vec::new(),
        spare: Vec::new(),
        forget: Vec::new(),
        repack,
        superseded: Vec::new(),
        grace,
        made,
    };
    let mut there: HashSet<&str> = HashSet::new();
    for object in &inventory.objects {
        there.insert(&object.name);
        let dead = || Dead {
            name: object.name.clone(),
            size: object.size,
        };
        let goes = fates.get(object.name.as_str()) == Some(&Fate::Goes);
        match inventory.tombstones.since(&object.name) {
            None if goes && old(object.modified, grace) => plan.bury.push(dead()),
            Some(since) if goes && old(since, grace) => plan.delete.push(dead()),
            Some(_) if !goes => plan.spare.push(object.name.clone()),
            _ => {}
        }
        // Left by a collector that was ended.
        if object.name.starts_with("probes/") && old(object.modified, grace) {
            plan.forget.push(object.name.clone());
        }
    }
    for (name, since) in inventory.tombstones.iter() {
        if !there.contains(name) && old(since, grace * (AFTERLIFE + 1)) {
            plan.forget.push(crate::tombstone::name(name));
        }
    }
    let deleted: HashSet<&str> = plan.delete.iter().map(|dead| dead.name.as_str()).collect();
    for bundle in &inventory.bundles {
        if deleted.contains(bundle.name.as_str()) {
            let blobs = bundle.blobs.iter().map(|(blob, _)| *blob);
            plan.superseded
                .extend(blobs.filter(|blob| inventory.blobs.contains(blob)));
        }
    }
    plan.superseded.sort_unstable();
    plan.superseded.dedup();
    // Nobody finds a release of which a part is missing: its marker goes first.
    plan.delete
        .sort_by_key(|dead| (order(&dead.name), dead.name.clone()));
    plan
}

/// The place of an object among those that are deleted.
fn order(name: &str) -> u8 {
    match name.split('/').next() {
        Some("releases") => 0,
        Some("refs") => 1,
        Some("records" | "derivations") => 2,
        Some("manifests") => 3,
        // The table last: a bundle without one would be given it again.
        Some("bundles") => 4,
        _ => 5,
    }
}

/// Releases that are complete and not kept.
fn expired(inventory: &Inventory) -> Vec<ReleaseId> {
    let markers = inventory
        .objects
        .iter()
        .filter_map(|object| match Shape::of(&object.name) {
            Shape::Marker(release) => Some(release),
            _ => None,
        });
    let complete: BTreeSet<ReleaseId> = markers.collect();
    complete.difference(&inventory.live).copied().collect()
}

/// The fate of every object that may go at all, and what is to be put together anew.
fn fates<'a>(
    inventory: &'a Inventory,
    retention: &Retention,
) -> (HashMap<&'a str, Fate>, Vec<Repack>) {
    let mut fates = HashMap::new();
    // Generations of one thing, by what they say.
    let mut things: BTreeMap<Named, Vec<&Object>> = BTreeMap::new();
    for object in &inventory.objects {
        if let Some(thing) = Shape::named(&object.name) {
            things.entry(thing).or_default().push(object);
        }
    }
    let kept_since = inventory
        .now
        .checked_sub(retention.keep_derivations)
        .unwrap_or(SystemTime::UNIX_EPOCH);
    let young = |object: &&Object| object.modified >= kept_since;
    let derivations: HashSet<_> = inventory
        .objects
        .iter()
        .filter(young)
        .filter_map(|object| match Shape::of(&object.name) {
            Shape::Derivation(key, record) => Some((key, record)),
            _ => None,
        })
        .collect();
    for objects in things.values() {
        // Generations say the same.
        let shape = objects.first().map(|object| Shape::of(&object.name));
        let needed = shape.is_some_and(|shape| needed(inventory, shape, &derivations));
        // Of a thing that is needed the generations without a tombstone stay, or all, when each has
        // one. Of markers, which come again each time a release is stored, the newest.
        let sound = |object: &Object| !inventory.tombstones.has(&object.name);
        let newest = objects
            .iter()
            .filter(|object| sound(object))
            .max_by_key(|object| (object.modified, &object.name));
        let is_marker = matches!(shape, Some(Shape::Marker(_)));
        for object in objects {
            let stays = newest.is_none_or(|newest| match is_marker {
                true => newest.name == object.name,
                false => sound(object),
            });
            let fate = match needed && stays {
                true => Fate::Stays,
                false => Fate::Goes,
            };
            fates.insert(object.name.as_str(), fate);
        }
    }
    let repack = bundles(inventory, retention, &mut fates);
    (fates, repack)
}

/// Whether something keeps what is of this shape.
fn needed(
    inventory: &Inventory,
    shape: Shape<'_>,
    derivations: &HashSet<(DerivationKey, RecordId)>,
) -> bool {
    match shape {
        Shape::Manifest(id) => inventory.live.contains(&id) || inventory.trees.contains(&id),
        Shape::Marker(release) | Shape::Record(release, _) | Shape::Commit(_, release) => {
            inventory.live.contains(&release)
        }
        Shape::Derivation(key, record) => derivations.contains(&(key, record)),
        // A signature stays with its record.
        Shape::Signature { of, record, .. } => match of {
            Signed::Record(release) => inventory.live.contains(&release),
            Signed::Derivation(key) => derivations.contains(&(key, record)),
        },
        _ => true,
    }
}

/// Decides about bundles and their tables. Of several copies of a live blob that of the newest
/// bundle counts, so that what was put together anew takes the place of what it was made of.
fn bundles<'a>(
    inventory: &'a Inventory,
    retention: &Retention,
    fates: &mut HashMap<&'a str, Fate>,
) -> Vec<Repack> {
    let (going, staying): (Vec<&Bundle>, Vec<&Bundle>) = inventory
        .bundles
        .iter()
        .partition(|bundle| inventory.tombstones.has(&bundle.name));
    let mut newest = staying;
    newest.sort_by(|a, b| (b.modified, &b.name).cmp(&(a.modified, &a.name)));
    let mut claimed: HashSet<BlobId> = HashSet::new();
    let mut used: Vec<(&Bundle, Vec<BlobId>, u64)> = Vec::new();
    for bundle in newest {
        let mut blobs = Vec::new();
        let mut bytes = 0;
        for (blob, length) in &bundle.blobs {
            if inventory.blobs.contains(blob) && claimed.insert(*blob) {
                blobs.push(*blob);
                bytes += length;
            }
        }
        let fate = if blobs.is_empty() {
            Fate::Goes
        } else {
            Fate::Stays
        };
        fates.insert(&bundle.name, fate);
        if fate == Fate::Stays {
            used.push((bundle, blobs, bytes));
        }
    }
    for bundle in going {
        let alone =
            |(blob, _): &(BlobId, u64)| inventory.blobs.contains(blob) && !claimed.contains(blob);
        let needed = bundle.blobs.iter().any(alone);
        fates.insert(&bundle.name, if needed { Fate::Stays } else { Fate::Goes });
    }
    // A table goes with its bundle. That of a bundle which is not there is nobody's; one of a
    // bundle that cannot be read is left alone with it.
    let present: HashSet<&str> = inventory
        .objects
        .iter()
        .filter_map(|object| match Shape::of(&object.name) {
            Shape::Bundle(stem) => Some(stem),
            _ => None,
        })
        .collect();
    for object in &inventory.objects {
        if let Shape::Index(stem) = Shape::of(&object.name) {
            let fate = match fates.get(index::bundle_name(stem).as_str()) {
                Some(fate) => *fate,
                None if present.contains(stem) => Fate::Stays,
                None => Fate::Goes,
            };
            fates.insert(&object.name, fate);
        }
    }
    match retention.repack {
        true => repack(inventory, retention, used),
        false => Vec::new(),
    }
}

/// Which bundles are put together anew: those that are mostly garbage, and very small ones when
/// there are many.
fn repack(
    inventory: &Inventory,
    retention: &Retention,
    used: Vec<(&Bundle, Vec<BlobId>, u64)>,
) -> Vec<Repack> {
    let old = |bundle: &Bundle| {
        let age = inventory.now.duration_since(bundle.modified);
        age.unwrap_or_default() >= retention.grace
    };
    let small = |bundle: &Bundle| bundle.size < SMALL && old(bundle);
    let many = used.iter().filter(|(bundle, ..)| small(bundle)).count() >= SMALL_COUNT;
    let mut repacks = Vec::new();
    let mut open = Repack::default();
    let mut open_bytes = 0;
    for (bundle, blobs, live) in used.into_iter().rev() {
        let total: u64 = bundle.blobs.iter().map(|(_, length)| length).sum();
        let garbage = old(bundle) && live < total / LIVE_SHARE;
        let merged = many && small(bundle);
        if !(garbage || merged) {
            continue;
        }
        open.bundles.push(Dead {
            name: bundle.name.clone(),
            size: bundle.size,
        });
        open.blobs.extend(blobs);
        open_bytes += live;
        if open_bytes >= REPACK_BYTES {
            repacks.push(std::mem::take(&mut open));
            open_bytes = 0;
        }
    }
    if !open.bundles.is_empty() {
        repacks.push(open);
    }
    repacks
}
