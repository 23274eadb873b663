//! What an object is, by its name. Pure.

use crate::generation::{Named, split, unsegment};
use crate::id::{DerivationKey, RecordId, ReleaseId};
use crate::{index, refs, tombstone};

/// What a name says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape<'a> {
    Format,
    Listing,
    /// `<hash>-<generation>`.
    Bundle(&'a str),
    /// As of its bundle.
    Index(&'a str),
    Manifest(ReleaseId),
    Marker(ReleaseId),
    Record(ReleaseId, RecordId),
    Derivation(DerivationKey, RecordId),
    Package(RecordId),
    Signature {
        of: Signed,
        record: RecordId,
        /// Fingerprint of the key, hex.
        key: &'a str,
    },
    Commit(&'a str, ReleaseId),
    Pin(ReleaseId),
    Tombstone,
    Probe,
    Ledger {
        /// Folder of the host, without the `/` at its end.
        host: &'a str,
        number: u64,
        hash: &'a str,
    },
    /// In a folder of ours, where each name means something.
    Malformed,
    Foreign,
}

/// What a signature is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signed {
    Record(ReleaseId),
    Derivation(DerivationKey),
}

impl Signed {
    /// The record that is signed.
    pub(crate) fn record(self, record: RecordId) -> Named {
        match self {
            Self::Record(release) => Named::new(format!("records/{release}/{record}"), ".json"),
            Self::Derivation(key) => Named::new(format!("derivations/{key}/{record}"), ".json"),
        }
    }
}

impl<'a> Shape<'a> {
    /// What this name says.
    pub(crate) fn of(name: &'a str) -> Self {
        Self::parse(name).unwrap_or(Self::Foreign)
    }

    /// Whether only a store has such an object.
    pub(crate) fn is_of_a_store(self) -> bool {
        !matches!(self, Self::Foreign | Self::Malformed | Self::Listing)
    }

    fn parse(name: &'a str) -> Option<Self> {
        match name {
            "format.json" => return Some(Self::Format),
            "listing.zst" => return Some(Self::Listing),
            _ => {}
        }
        let (folder, rest) = name.split_once('/')?;
        match folder {
            "bundles" => index::bundle_stem(name).map(Self::Bundle),
            "index" => index::index_stem(name).map(Self::Index),
            "manifests" => Some(Self::Manifest(split(rest).0.parse().ok()?)),
            "releases" => Some(Self::Marker(split(rest).0.parse().ok()?)),
            "records" => {
                let (release, file) = rest.split_once('/')?;
                let release = release.parse().ok()?;
                Self::said(file, Signed::Record(release))
            }
            "derivations" => {
                let (key, file) = rest.split_once('/')?;
                let key = key.parse().ok()?;
                Self::said(file, Signed::Derivation(key))
            }
            "packages" => {
                let (_, file) = rest.split_once('/')?;
                let record = file.strip_suffix(".json")?;
                Some(Self::Package(record.parse().ok()?))
            }
            "refs" => {
                let (_, release) = refs::commit(name)?;
                let commit = rest.strip_prefix("commits/")?.split('/').next()?;
                Some(Self::Commit(commit, release))
            }
            "pins" => Some(refs::pin(name).map_or(Self::Malformed, |pin| Self::Pin(pin.0))),
            "probes" => Some(match rest.parse::<RecordId>() {
                Ok(_) => Self::Probe,
                Err(_) => Self::Malformed,
            }),
            "environments" => Some(Self::ledger(name).unwrap_or(Self::Malformed)),
            _ if name.starts_with(tombstone::FOLDER) => Some(match unsegment(rest) {
                Some(_) => Self::Tombstone,
                None => Self::Malformed,
            }),
            _ => None,
        }
    }

    /// A record or a signature over one.
    fn said(file: &'a str, of: Signed) -> Option<Self> {
        if let Some(stem) = file.strip_suffix(".json") {
            let record = split(stem).0.parse().ok()?;
            return Some(match of {
                Signed::Record(release) => Self::Record(release, record),
                Signed::Derivation(key) => Self::Derivation(key, record),
            });
        }
        let (record, key) = split(file.strip_suffix(".sig")?).0.split_once('.')?;
        let record = record.parse().ok()?;
        Some(Self::Signature { of, record, key })
    }

    fn ledger(name: &'a str) -> Option<Self> {
        let (host, file) = name.rsplit_once('/')?;
        let parts: Vec<&str> = host.split('/').collect();
        let ["environments", _, "ledger", _] = parts.as_slice() else {
            return None;
        };
        let (number, hash) = file.strip_suffix(".json")?.split_once('-')?;
        let canonical = number.len() >= 8 && number.bytes().all(|digit| digit.is_ascii_digit());
        let number = number.parse().ok().filter(|_| canonical)?;
        Some(Self::Ledger { host, number, hash })
    }

    /// The name without its generation; `None` for objects that have none.
    pub(crate) fn named(name: &'a str) -> Option<Named> {
        let ending = match Self::of(name) {
            Self::Manifest(_) | Self::Marker(_) | Self::Commit(..) => "",
            Self::Record(..) | Self::Derivation(..) => ".json",
            Self::Signature { .. } => ".sig",
            _ => return None,
        };
        let stem = split(name.strip_suffix(ending)?).0;
        Some(Named::new(stem.to_owned(), ending))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_of_the_format_has_a_shape() {
        let id = "a".repeat(64);
        for name in [
            "format.json".to_owned(),
            "listing.zst".to_owned(),
            format!("bundles/{id}-0.tar.zst"),
            format!("index/{id}-12"),
            format!("manifests/{id}"),
            format!("manifests/{id}-1"),
            format!("releases/{id}-2"),
            format!("records/{id}/{id}.json"),
            format!("records/{id}/{id}.{id}-3.sig"),
            format!("derivations/{id}/{id}-1.json"),
            format!("derivations/{id}/{id}.{id}.sig"),
            format!("packages/composer/{id}.json"),
            format!("refs/commits/{}/{id}", "5".repeat(40)),
            format!("pins/{id}/live%20now"),
            format!("probes/{id}"),
            format!("tombstones/manifests%2f{id}"),
            format!("environments/prod/ledger/web1/00000001-{id}.json"),
        ] {
            let shape = Shape::of(&name);
            assert!(
                !matches!(shape, Shape::Foreign | Shape::Malformed),
                "{name}: {shape:?}"
            );
        }
        for name in [
            "pins/x/y",
            "tombstones/%zz",
            "probes/me",
            "environments/prod/x",
        ] {
            assert_eq!(Shape::of(name), Shape::Malformed, "{name}");
        }
        for name in ["thesis.doc", "manifests/x", "bundles/x.tar.zst", "refs/x"] {
            assert_eq!(Shape::of(name), Shape::Foreign, "{name}");
        }
    }
}
