//! Copies of hosts' ledgers: numbered lines, each of which names the hash of the one before it.
//!
//! The hash of a line is the BLAKE3 of its bytes without the line feed; the first entry names 64
//! zeros. A store has copies of what was written through it only, so a gap is no fault.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{Fault, Remark, Survey, read};
use crate::error::StoreError;
use crate::shape::Shape;

/// What the first entry names as the one before it.
const GENESIS: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// What an entry says about its place in the chain.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Link {
    n: u64,
    prev: String,
}

/// Parses a stored copy, whose name has this hash.
pub(super) fn line(bytes: &[u8], hash: &str) -> Result<Link, Fault> {
    let line = bytes.strip_suffix(b"\n").ok_or(Fault::Digest)?;
    if blake3::hash(line).to_hex().as_str() != hash {
        return Err(Fault::Digest);
    }
    serde_json::from_slice(line).map_err(|error| Fault::Content(error.to_string()))
}

/// A sound copy.
struct Copy {
    name: String,
    number: u64,
    hash: String,
    link: Link,
}

impl Survey {
    /// Compares each host's entries with one another.
    pub(super) async fn look_at_ledgers(&mut self) -> Result<(), StoreError> {
        let mut hosts: BTreeMap<String, Vec<(String, u64, String)>> = BTreeMap::new();
        for object in &self.objects {
            if let Shape::Ledger { host, number, hash } = Shape::of(&object.name) {
                let entry = (object.name.clone(), number, hash.to_owned());
                hosts.entry(host.to_owned()).or_default().push(entry);
            }
        }
        for (host, mut entries) in hosts {
            entries.sort_by_key(|(_, number, _)| *number);
            let mut before: Option<Copy> = None;
            for (name, number, hash) in entries {
                let gone = before
                    .as_ref()
                    .map_or(1, |copy| copy.number.saturating_add(1));
                if number > gone {
                    self.note(
                        &host,
                        Remark::Gap {
                            first: gone,
                            last: number - 1,
                        },
                    );
                }
                let link = match read(self.backend.as_ref(), &name).await? {
                    // One that is damaged was told already.
                    Some(Ok(bytes)) => line(&bytes, &hash).ok(),
                    _ => None,
                };
                let Some(link) = link else {
                    before = Some(Copy {
                        name,
                        number,
                        hash,
                        link: Link {
                            n: number,
                            prev: String::new(),
                        },
                    });
                    continue;
                };
                let copy = Copy {
                    name,
                    number,
                    hash,
                    link,
                };
                if let Some(fault) = fault(before.as_ref(), &copy) {
                    self.problem(&copy.name, fault);
                }
                before = Some(copy);
            }
        }
        Ok(())
    }
}

/// What is wrong with an entry after another one. Pure.
fn fault(before: Option<&Copy>, copy: &Copy) -> Option<Fault> {
    if copy.link.n != copy.number {
        return Some(Fault::Content(format!(
            "it says that it is entry {}",
            copy.link.n
        )));
    }
    let expected = match before {
        Some(before) if before.number == copy.number => return Some(Fault::Fork),
        Some(before) if before.number + 1 == copy.number => before.hash.as_str(),
        None if copy.number == 1 => GENESIS,
        // After a gap nobody knows.
        _ => return None,
    };
    (copy.link.prev != expected).then_some(Fault::Chain)
}
