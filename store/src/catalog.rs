//! What there is to know about the releases of a store without reading anything: which there are,
//! which records are about each of them, and which was the last one. Two lists, however many they are.

use std::collections::BTreeMap;
use std::time::SystemTime;

use crate::backend::Object;
use crate::error::StoreError;
use crate::id::{RecordId, ReleaseId};
use crate::shape::{Shape, Signed};
use crate::store::Store;

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Catalog {
    /// All complete releases with the records about each, oldest first.
    pub releases: BTreeMap<ReleaseId, Vec<RecordId>>,
    /// The release something was said about last: every build adds a record, so this is the one
    /// that was built last, even when its content is older.
    pub latest: Option<ReleaseId>,
}

impl Catalog {
    /// Pure. `records` are objects below `records/`, by name.
    fn of(complete: impl IntoIterator<Item = ReleaseId>, records: &[Object]) -> Self {
        let mut times: BTreeMap<ReleaseId, BTreeMap<RecordId, SystemTime>> = BTreeMap::new();
        times.extend(
            complete
                .into_iter()
                .map(|release| (release, BTreeMap::new())),
        );
        let mut latest: Option<(SystemTime, ReleaseId)> = None;
        for object in records {
            let (release, record) = match Shape::of(&object.name) {
                Shape::Record(release, record) => (release, Some(record)),
                Shape::Signature {
                    of: Signed::Record(release),
                    ..
                } => (release, None),
                _ => continue,
            };
            let Some(records) = times.get_mut(&release) else {
                continue; // not complete, or gone
            };
            if latest.is_none_or(|(time, _)| time <= object.modified) {
                latest = Some((object.modified, release));
            }
            if let Some(record) = record {
                let time = records.entry(record).or_insert(object.modified);
                *time = object.modified.min(*time);
            }
        }
        let by_time = |records: BTreeMap<RecordId, SystemTime>| {
            let mut records: Vec<_> = records.into_iter().collect();
            records.sort_by_key(|(id, time)| (*time, *id));
            records.into_iter().map(|(id, _)| id).collect()
        };
        Self {
            releases: times
                .into_iter()
                .map(|(release, records)| (release, by_time(records)))
                .collect(),
            latest: latest.map(|(_, release)| release),
        }
    }
}

impl Store {
    /// Which releases there are.
    ///
    /// # Errors
    /// Those of the backend.
    pub async fn catalog(&self) -> Result<Catalog, StoreError> {
        let records = self.backend.list("records/").await?;
        Ok(Catalog::of(
            self.release_times().await?.into_keys(),
            &records,
        ))
    }

    /// The release something was said about last, see [`Catalog::latest`].
    ///
    /// # Errors
    /// Those of the backend.
    pub async fn latest(&self) -> Result<Option<ReleaseId>, StoreError> {
        Ok(self.catalog().await?.latest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, UNIX_EPOCH};

    fn object(name: String, seconds: u64) -> Object {
        Object {
            name,
            size: 0,
            modified: UNIX_EPOCH + Duration::from_secs(seconds),
        }
    }

    #[test]
    fn records_are_ordered_by_the_time_of_their_first_generation() {
        let (a, gone) = (ReleaseId::of(b"a"), ReleaseId::of(b"gone"));
        let (one, two) = (RecordId::of(b"1"), RecordId::of(b"2"));
        let catalog = Catalog::of(
            [a],
            &[
                object(format!("records/{a}/{one}.json"), 5),
                object(format!("records/{a}/{two}.json"), 9),
                object(format!("records/{a}/{two}-1.json"), 3),
                object(format!("records/{a}/{one}.0123.sig"), 7),
                object(format!("records/{gone}/{one}.json"), 99),
                object("records/stray".to_owned(), 99),
            ],
        );
        assert_eq!(catalog.releases, [(a, vec![two, one])].into());
        assert_eq!(catalog.latest, Some(a));
    }

    #[test]
    fn the_last_word_makes_the_latest_release() {
        let (a, b, c) = (
            ReleaseId::of(b"a"),
            ReleaseId::of(b"b"),
            ReleaseId::of(b"c"),
        );
        let record = RecordId::of(b"1");
        let mut records = [
            object(format!("records/{a}/{record}.json"), 5),
            object(format!("records/{b}/{record}.json"), 3),
        ];
        assert_eq!(Catalog::of([a, b, c], &records).latest, Some(a));
        records[1] = object(format!("records/{b}/{record}.0123.sig"), 6);
        assert_eq!(Catalog::of([a, b, c], &records).latest, Some(b));
        assert_eq!(
            Catalog::of([c], &records).latest,
            None,
            "nothing is said of it"
        );
    }
}
