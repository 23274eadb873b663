//! Objects that are read as a whole: where good bytes of one are to be had, and how they get there.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;

use super::rescue::Rescue;
use super::{Action, Origin};
use crate::backend::{Backend, Content};
use crate::bundle::reader::read_toc;
use crate::error::StoreError;
use crate::fsck::objects::{constant, judge};
use crate::fsck::{Fault, Problem, Remark, Report, read};
use crate::generation::Named;
use crate::index::bundle_name;
use crate::release::marker_name;
use crate::shape::Shape;
use crate::store::{FORMAT, Store, format_json};
use crate::tombstone::Tombstones;

/// What to do about a problem that does not concern contents of bundles.
pub(super) async fn action(
    backend: &Arc<dyn Backend>,
    problem: &Problem,
    sources: &[Store],
    rescue: &Rescue,
) -> Result<Option<Action>, StoreError> {
    let object = problem.object.clone();
    let put = |object: String, origin| Some(Action::Put { object, origin });
    Ok(match (Shape::of(&object), &problem.fault) {
        (Shape::Bundle(_) | Shape::Malformed | Shape::Foreign | Shape::Listing, _)
        | (_, Fault::Lacks(_) | Fault::Chain | Fault::Fork | Fault::Name) => None,
        (Shape::Index(_), Fault::NoBundle) => None,
        (Shape::Index(stem), _) => {
            let bundle = bundle_name(stem);
            // The table of a bundle that goes is not worth it.
            let sound = rescue.has_table(&bundle) && !rescue.is_bad(&bundle);
            sound.then_some(Action::Index { object, bundle })
        }
        (Shape::Commit(_, release), Fault::LeadsNowhere) => {
            let marker = marker_name(&release).generation(0);
            if rescue.is_whole(&release) {
                return Ok(put(marker, Origin::Name));
            }
            for (source, store) in sources.iter().enumerate() {
                if store.has_release(&release).await? {
                    return Ok(Some(Action::Restore { release, source }));
                }
            }
            None
        }
        (shape, _) if shape == Shape::Format || constant(shape).is_some() => {
            put(object, Origin::Name)
        }
        _ => {
            let origin = find(backend, &object, sources).await?;
            origin.and_then(|origin| put(object, origin))
        }
    })
}

/// Entries of ledgers that other stores have and this one lacks.
pub(super) async fn gaps(report: &Report, sources: &[Store]) -> Result<Vec<Action>, StoreError> {
    let mut actions = Vec::new();
    let mut seen = BTreeSet::new();
    for note in &report.notes {
        let Remark::Gap { first, last } = note.remark else {
            continue;
        };
        for (number, source) in sources.iter().enumerate() {
            for object in source.backend.list(&format!("{}/", note.object)).await? {
                let Shape::Ledger { number: entry, .. } = Shape::of(&object.name) else {
                    continue;
                };
                let inside = (first..=last).contains(&entry) && !seen.contains(&object.name);
                if inside && good(source.backend.as_ref(), &object.name).await?.is_some() {
                    seen.insert(object.name.clone());
                    let origin = Origin::Source(number, object.name.clone());
                    actions.push(Action::Put {
                        object: object.name,
                        origin,
                    });
                }
            }
        }
    }
    Ok(actions)
}

/// Who has good bytes of an object.
async fn find(
    backend: &Arc<dyn Backend>,
    object: &str,
    sources: &[Store],
) -> Result<Option<Origin>, StoreError> {
    let here = candidates(backend.as_ref(), object).await?;
    if let Some(name) = here.into_iter().next() {
        return Ok(Some(Origin::Here(name)));
    }
    for (number, source) in sources.iter().enumerate() {
        let there = candidates(source.backend.as_ref(), object).await?;
        if let Some(name) = there.into_iter().next() {
            return Ok(Some(Origin::Source(number, name)));
        }
    }
    Ok(None)
}

/// Names of sound objects that say the same as this one.
async fn candidates(backend: &dyn Backend, object: &str) -> Result<Vec<String>, StoreError> {
    let names = match Shape::named(object) {
        Some(named) => {
            let listed = backend.list(named.folder()).await?;
            let names = listed.into_iter().map(|object| object.name);
            names.filter(|name| named.is(name)).collect()
        }
        None => vec![object.to_owned()],
    };
    let mut sound = Vec::new();
    for name in names {
        if good(backend, &name).await?.is_some() {
            sound.push(name);
        }
    }
    Ok(sound)
}

/// The bytes of an object, when they are what its name says.
async fn good(backend: &dyn Backend, name: &str) -> Result<Option<Bytes>, StoreError> {
    let Some(Ok(bytes)) = read(backend, name).await? else {
        return Ok(None);
    };
    let fault = judge(backend, name, &bytes).await?;
    Ok(fault.is_none().then_some(bytes))
}

/// Puts good bytes in the place of an object; `false` when they are not to be had any more.
///
/// What lies there is replaced in one step, as advisory objects are: a deletion before it could be
/// all that a crash leaves, and of a record that is gone nothing tells. Readers see the damaged bytes or the
/// good ones.
pub(super) async fn put(
    backend: &dyn Backend,
    object: &str,
    origin: &Origin,
    sources: &[Store],
) -> Result<bool, StoreError> {
    let bytes = match origin {
        Origin::Name if object == FORMAT => Some(format_json()),
        Origin::Name => constant(Shape::of(object)),
        Origin::Here(name) => good(backend, name).await?,
        Origin::Source(number, name) => good(sources[*number].backend.as_ref(), name).await?,
    };
    let Some(bytes) = bytes else {
        return Ok(false);
    };
    if backend.get_range(object, 0, 1).await?.is_none() {
        let tombstones = Tombstones::load(backend).await?;
        let free = |named: Named| named.first(|name| tombstones.has(name));
        let name = Shape::named(object).map_or_else(|| object.to_owned(), free);
        backend.put(&name, Content::Bytes(bytes)).await?;
        return Ok(true);
    }
    replace(backend, object, bytes).await
}

/// Makes an index again; `false` when its bundle has no table any more.
pub(super) async fn rebuild_index(
    backend: &dyn Backend,
    object: &str,
    bundle: &str,
) -> Result<bool, StoreError> {
    let listed = backend.list("bundles/").await?;
    let Some(found) = listed.iter().find(|object| object.name == bundle) else {
        return Ok(false);
    };
    match read_toc(backend, bundle, found.size).await {
        Ok(toc) => replace(backend, object, toc.to_bytes().into()).await,
        Err(StoreError::Damaged { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

async fn replace(backend: &dyn Backend, object: &str, bytes: Bytes) -> Result<bool, StoreError> {
    backend.put_advisory(object, bytes.clone()).await?;
    match backend.get(object).await? {
        Some(present) if present == bytes => Ok(true),
        _ => Err(StoreError::Damaged {
            name: object.to_owned(),
            what: "it was written again and reads otherwise".into(),
        }),
    }
}
