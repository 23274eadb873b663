//! The tables of all bundles: from the bundles themselves and from their indexes.

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt, TryStreamExt};

use super::{Fault, PARALLEL, read};
use crate::backend::{Backend, Object};
use crate::bundle::reader::read_toc;
use crate::bundle::toc::Toc;
use crate::error::StoreError;
use crate::id::BlobId;
use crate::index::{Index, bundle_name, bundle_stem, index_name, index_stem};
use crate::tombstone::Tombstones;

/// A bundle.
#[derive(Debug)]
pub(super) struct Pack {
    pub(super) name: String,
    pub(super) size: u64,
    /// Its number in [`Tables::index`], when blobs can be read from it.
    pub(super) number: Option<u32>,
    /// What it should hold, when nothing can be read from it and its index says so.
    pub(super) lost: Option<Toc>,
}

/// All tables.
#[derive(Debug, Default)]
pub(super) struct Tables {
    pub(super) packs: Vec<Pack>,
    /// Of bundles that can be read.
    pub(super) index: Index,
    /// Indexes whose bundle is missing: their names, and what it should hold when they can be read.
    pub(super) orphans: Vec<(String, Option<Toc>)>,
    faults: Vec<(String, Fault)>,
}

/// One bundle, looked at.
struct Looked {
    object: Object,
    stem: String,
    own: Result<Toc, String>,
    index: Option<Result<Toc, Fault>>,
}

impl Tables {
    /// Reads both tables of every bundle and compares them.
    pub(super) async fn load(
        backend: &dyn Backend,
        objects: &[Object],
        tombstones: &Tombstones,
    ) -> Result<Self, StoreError> {
        let indexes: BTreeMap<&str, &Object> = objects
            .iter()
            .filter_map(|object| Some((index_stem(&object.name)?, object)))
            .collect();
        let bundles: BTreeMap<&str, &Object> = objects
            .iter()
            .filter_map(|object| Some((bundle_stem(&object.name)?, object)))
            .collect();
        let one = |(stem, object): (&str, &Object)| {
            let index = indexes.get(stem).map(|index| index.name.clone());
            look(backend, stem.to_owned(), object.clone(), index)
        };
        let pairs: Vec<(&str, &Object)> = bundles.iter().map(|(s, o)| (*s, *o)).collect();
        let looked: Vec<Looked> = futures::stream::iter(pairs)
            .map(one)
            .buffered(PARALLEL)
            .try_collect()
            .await?;
        let mut tables = Self::default();
        for looked in looked {
            let going = tombstones.has(&looked.object.name);
            tables.add(looked, going);
        }
        for (stem, object) in &indexes {
            let bundle = bundle_name(stem);
            // A collection deletes the bundle first, and may have been stopped then.
            if bundles.contains_key(stem) || tombstones.has(&bundle) {
                continue;
            }
            tables.faults.push((object.name.clone(), Fault::NoBundle));
            let toc = read_index(backend, &object.name).await?;
            let toc = toc.and_then(Result::ok);
            tables.orphans.push((object.name.clone(), toc));
        }
        Ok(tables)
    }

    fn add(&mut self, looked: Looked, going: bool) {
        let Looked {
            object,
            stem,
            own,
            index,
        } = looked;
        let table = index_name(&stem);
        let mut fault = |object: &str, fault| self.faults.push((object.to_owned(), fault));
        let (toc, usable) = match (own, index) {
            (Ok(own), index) => {
                match index {
                    Some(Ok(toc)) if toc == own => {}
                    Some(Ok(_)) => fault(&table, Fault::OtherTable),
                    Some(Err(wrong)) => fault(&table, wrong),
                    None => fault(&table, Fault::NoIndex),
                }
                (Some(own), true)
            }
            (Err(what), Some(Ok(toc))) => {
                // As in reading: an index whose bundle has the right length is believed.
                let expected = toc.bundle_length().unwrap_or(u64::MAX);
                let usable = expected == object.size;
                fault(
                    &object.name,
                    match usable {
                        true => Fault::Table(what),
                        false => Fault::Length {
                            found: object.size,
                            expected,
                        },
                    },
                );
                (Some(toc), usable)
            }
            (Err(what), index) => {
                fault(&object.name, Fault::Table(what));
                fault(
                    &table,
                    match index {
                        Some(Err(wrong)) => wrong,
                        _ => Fault::NoIndex,
                    },
                );
                (None, false)
            }
        };
        let mut pack = Pack {
            name: object.name,
            size: object.size,
            number: None,
            lost: None,
        };
        match toc {
            Some(toc) if usable => {
                pack.number = Some(self.index.bundles().count() as u32);
                self.index.add(pack.name.clone(), toc, going);
            }
            toc => pack.lost = toc,
        }
        self.packs.push(pack);
    }

    /// What is wrong with bundles and indexes, by name.
    pub(super) fn faults(&self) -> Vec<(String, Fault)> {
        self.faults.clone()
    }

    /// The table that says what a bundle holds or should hold.
    pub(super) fn toc<'a>(&'a self, pack: &'a Pack) -> Option<&'a Toc> {
        match pack.number {
            Some(number) => Some(self.index.table(number).1),
            None => pack.lost.as_ref(),
        }
    }

    /// Blobs of tables of which nothing can be read, with the object that is to blame.
    pub(super) fn unreadable(&self) -> BTreeMap<&str, BTreeSet<BlobId>> {
        let packs = self
            .packs
            .iter()
            .filter_map(|pack| Some((pack.name.as_str(), pack.lost.as_ref()?)));
        let orphans = self
            .orphans
            .iter()
            .filter_map(|(name, toc)| Some((name.as_str(), toc.as_ref()?)));
        let lost = |toc: &Toc| {
            let blobs = toc.slots().iter().map(|slot| slot.blob);
            blobs.filter(|blob| self.index.copies(blob) == 0).collect()
        };
        packs
            .chain(orphans)
            .map(|(name, toc)| (name, lost(toc)))
            .collect()
    }
}

async fn look(
    backend: &dyn Backend,
    stem: String,
    object: Object,
    index: Option<String>,
) -> Result<Looked, StoreError> {
    let own = match read_toc(backend, &object.name, object.size).await {
        Err(StoreError::Damaged { what, .. }) => Err(what),
        Err(StoreError::Io { source, .. }) => Err(source.to_string()),
        read => Ok(read?),
    };
    let index = match index {
        Some(name) => read_index(backend, &name).await?,
        None => None,
    };
    Ok(Looked {
        object,
        stem,
        own,
        index,
    })
}

async fn read_index(
    backend: &dyn Backend,
    name: &str,
) -> Result<Option<Result<Toc, Fault>>, StoreError> {
    let parse = |bytes: bytes::Bytes| {
        Toc::parse(&bytes).map_err(|error| Fault::Unreadable(error.to_string()))
    };
    Ok(read(backend, name)
        .await?
        .map(|bytes| bytes.and_then(parse)))
}
