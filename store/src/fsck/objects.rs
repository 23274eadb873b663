//! Every object that is small enough to be read as a whole: is it what its name says?

use std::collections::BTreeSet;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use serde::Deserialize;

use super::ledger;
use super::{Fault, PARALLEL, Remark, Survey, read};
use crate::backend::Backend;
use crate::blocking::blocking;
use crate::error::StoreError;
use crate::generation::Named;
use crate::id::{RecordId, ReleaseId};
use crate::manifest::Manifest;
use crate::record::parse_signature;
use crate::release::{MARKER, decode};
use crate::shape::{Shape, Signed};
use crate::signature::Namespace;
use crate::store::read_format;
use crate::tombstone;

/// What the JSON of a derivation says of interest here.
#[derive(Deserialize)]
struct Made {
    tree: ReleaseId,
}

/// What objects of this shape hold, whatever else their names say.
pub(super) fn constant(shape: Shape<'_>) -> Option<Bytes> {
    match shape {
        Shape::Marker(_) => Some(Bytes::from_static(MARKER)),
        Shape::Tombstone => Some(Bytes::from_static(tombstone::CONTENT)),
        Shape::Commit(..) | Shape::Pin(_) | Shape::Probe => Some(Bytes::new()),
        _ => None,
    }
}

/// What is wrong with the bytes of an object. Of bundles and indexes nothing is said here.
pub(super) async fn judge(
    backend: &dyn Backend,
    name: &str,
    bytes: &Bytes,
) -> Result<Option<Fault>, StoreError> {
    let digest = |ok: bool| (!ok).then_some(Fault::Digest);
    let shape = Shape::of(name);
    Ok(match shape {
        Shape::Format => match read_format(bytes, &backend.place()) {
            Err(StoreError::Damaged { what, .. }) => Some(Fault::Content(what)),
            read => read.map(|()| None)?,
        },
        Shape::Manifest(release) => manifest(bytes.clone(), release).await?.err(),
        Shape::Record(_, id) | Shape::Derivation(_, id) | Shape::Package(id) => {
            digest(RecordId::of(bytes) == id)
        }
        Shape::Signature { of, record, key } => {
            signature(backend, name, bytes, &of.record(record), of, key).await?
        }
        Shape::Ledger { hash, .. } => ledger::line(bytes, hash).err(),
        shape => match constant(shape) {
            Some(right) if right != *bytes => {
                Some(Fault::Content("it does not hold what its name says".into()))
            }
            _ => None,
        },
    })
}

/// Decodes a stored manifest, off the async workers.
pub(super) async fn manifest(
    stored: Bytes,
    release: ReleaseId,
) -> Result<Result<Manifest, Fault>, StoreError> {
    let work = move || {
        let text = decode(&stored, &release).map_err(Fault::Unreadable)?;
        Manifest::parse(&text).map_err(|error| Fault::Content(error.to_string()))
    };
    blocking(work).await
}

/// A signature is by the key of its name and, when its record is there, over that record.
async fn signature(
    backend: &dyn Backend,
    name: &str,
    text: &[u8],
    record: &Named,
    of: Signed,
    key: &str,
) -> Result<Option<Fault>, StoreError> {
    let signature = match parse_signature(name.to_owned(), text, key) {
        Err(StoreError::Damaged { what, .. }) => return Ok(Some(Fault::Content(what))),
        parsed => parsed?,
    };
    let namespace = match of {
        Signed::Record(_) => Namespace::Record,
        Signed::Derivation(_) => Namespace::Derivation,
    };
    for object in backend.list(record.folder()).await? {
        if !record.is(&object.name) {
            continue;
        }
        if let Some(Ok(json)) = read(backend, &object.name).await?
            && judge_record(&object.name, &json)
        {
            let wrong = Fault::Content("it is no signature over its record".into());
            return Ok((!signature.matches(namespace, &json)).then_some(wrong));
        }
    }
    Ok(None)
}

fn judge_record(name: &str, json: &[u8]) -> bool {
    match Shape::of(name) {
        Shape::Record(_, id) | Shape::Derivation(_, id) => RecordId::of(json) == id,
        _ => false,
    }
}

impl Survey {
    /// Judges all of them but manifests, and remembers what leads where.
    pub(super) async fn look_at_objects(&mut self) -> Result<(), StoreError> {
        if !self
            .objects
            .iter()
            .any(|object| Shape::of(&object.name) == Shape::Format)
        {
            self.problem("format.json", Fault::Missing);
        }
        let names: Vec<String> = self
            .objects
            .iter()
            .map(|object| object.name.clone())
            .collect();
        let backend = std::sync::Arc::clone(&self.backend);
        let one = |name: String| {
            let backend = std::sync::Arc::clone(&backend);
            async move {
                let read_here = match Shape::of(&name) {
                    Shape::Bundle(_) | Shape::Index(_) | Shape::Manifest(_) => return Ok(None),
                    Shape::Foreign | Shape::Malformed => None,
                    _ => read(backend.as_ref(), &name).await?,
                };
                let fault = match &read_here {
                    Some(Ok(bytes)) => judge(backend.as_ref(), &name, bytes).await?,
                    Some(Err(fault)) => Some(fault.clone()),
                    None => None,
                };
                let bytes = read_here.and_then(Result::ok);
                Ok::<_, StoreError>(Some((name, bytes, fault)))
            }
        };
        let mut judged = futures::stream::iter(names).map(one).buffered(PARALLEL);
        while let Some(one) = judged.try_next().await? {
            if let Some((name, bytes, fault)) = one {
                self.take(&name, bytes, fault);
            }
        }
        drop(judged);
        self.look_at_names();
        Ok(())
    }

    fn take(&mut self, name: &str, bytes: Option<Bytes>, fault: Option<Fault>) {
        let shape = Shape::of(name);
        let sound = fault.is_none();
        if let Some(fault) = fault {
            self.problem(name, fault);
        }
        match shape {
            Shape::Foreign => self.note(name, Remark::Foreign),
            Shape::Malformed => self.problem(name, Fault::Name),
            Shape::Listing => {
                let decodes = bytes.is_some_and(|bytes| {
                    zstd::stream::copy_decode(&*bytes, std::io::sink()).is_ok()
                });
                if !decodes {
                    self.note(name, Remark::Listing);
                }
            }
            // A damaged one says all the same that the release is complete.
            Shape::Marker(release) => {
                self.complete.insert(release);
            }
            Shape::Derivation(key, _) if sound && !self.tombstones.has(name) => {
                let made = bytes.and_then(|json| serde_json::from_slice::<Made>(&json).ok());
                if let Some(made) = made {
                    self.trees.entry(made.tree).or_default().push(key);
                }
            }
            _ => {}
        }
    }

    /// What names say about other names.
    fn look_at_names(&mut self) {
        let records: BTreeSet<String> = self
            .shaped(|shape| {
                matches!(shape, Shape::Record(..) | Shape::Derivation(..)).then_some(())
            })
            .into_iter()
            .filter_map(|(name, ())| Some(Shape::named(&name)?.to_string()))
            .collect();
        let signatures = self.shaped(|shape| match shape {
            Shape::Signature { of, record, .. } => Some(of.record(record).to_string()),
            _ => None,
        });
        let mut missing = BTreeSet::new();
        for (name, record) in signatures {
            // Going, like its record before it.
            if !records.contains(&record) && !self.tombstones.has(&name) {
                missing.insert(record);
            }
        }
        for record in missing {
            self.problem(&record, Fault::Missing);
        }
        let mut unreferenced = BTreeSet::new();
        for (name, release) in self.shaped(|shape| match shape {
            Shape::Record(release, _) => Some(release),
            _ => None,
        }) {
            if !self.complete.contains(&release) && !self.tombstones.has(&name) {
                unreferenced.insert(format!("records/{release}"));
            }
        }
        for folder in unreferenced {
            self.note(&folder, Remark::Unreferenced);
        }
        self.look_at_commits();
    }

    fn look_at_commits(&mut self) {
        let mut commits: std::collections::BTreeMap<String, BTreeSet<ReleaseId>> =
            Default::default();
        let objects = std::mem::take(&mut self.objects);
        for object in &objects {
            let Shape::Commit(commit, release) = Shape::of(&object.name) else {
                continue;
            };
            commits
                .entry(commit.to_owned())
                .or_default()
                .insert(release);
            if !self.complete.contains(&release) && !self.tombstones.has(&object.name) {
                self.problem(&object.name, Fault::LeadsNowhere);
            }
        }
        self.objects = objects;
        for (commit, releases) in commits {
            if releases.len() > 1 {
                self.note(
                    &format!("refs/commits/{commit}"),
                    Remark::SeveralReleases(releases.len()),
                );
            }
        }
    }
}
