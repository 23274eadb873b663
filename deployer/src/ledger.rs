//! The ledger: an append-only chain of JSON lines per host; who activated what, when, with which
//! outcome. Each entry has the BLAKE3 of the line before it, so a changed, missing or reordered
//! entry shows. Pure; the host appends, the program reads and keeps a copy in the store.

use relstore_store::id::ReleaseId;
use serde::{Deserialize, Serialize};

/// The hash that the first entry names as the one before it.
pub const GENESIS: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// One entry; its line is this as JSON, without line feed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Number, from 1.
    pub n: u64,
    /// BLAKE3 of the previous line without its line feed, hex; [`GENESIS`] for the first.
    pub prev: String,
    /// When, milliseconds since 1970, by the host's clock.
    pub at_ms: i64,
    /// The deploy it belongs to; one deploy has an intent and an outcome.
    pub transaction: String,
    /// `deploy` or `rollback`.
    pub action: String,
    /// `intent`, `live`, `unchanged`, `failed`, `unhealthy` or `rolled-back`.
    pub outcome: String,
    /// Who, `user@machine`.
    pub actor: String,
    /// Environment.
    pub environment: String,
    /// Host name.
    pub host: String,
    /// The release that was to go live.
    pub release: ReleaseId,
    /// What served before.
    pub previous: Option<ReleaseId>,
    /// Commit the release was built from.
    pub commit: Option<String>,
    /// One line for people.
    pub message: String,
}

impl Entry {
    /// The line, without line feed.
    #[must_use]
    pub fn line(&self) -> String {
        serde_json::to_string(self).expect("strings and numbers are JSON")
    }
}

/// The hash of a line, as the next entry names it.
#[must_use]
pub fn hash(line: &str) -> String {
    blake3::hash(line.as_bytes()).to_hex().to_string()
}

/// Why lines are not an unbroken chain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// A line that is no entry.
    #[error("line {line} of the ledger is not an entry")]
    Malformed {
        /// Line number, from 1.
        line: usize,
    },
    /// An entry whose number or predecessor does not fit.
    #[error("entry {n} of the ledger does not follow the one before it")]
    Broken {
        /// Number the entry gives itself.
        n: u64,
    },
}

/// Parses lines that begin with entry 1 and checks that they are one chain.
///
/// # Errors
/// [`ChainError`] for the first line that does not fit.
pub fn check<'a>(lines: impl IntoIterator<Item = &'a str>) -> Result<Vec<Entry>, ChainError> {
    let mut entries: Vec<Entry> = Vec::new();
    let mut previous = GENESIS.to_owned();
    for (at, line) in lines.into_iter().enumerate() {
        let entry: Entry =
            serde_json::from_str(line).map_err(|_| ChainError::Malformed { line: at + 1 })?;
        if entry.n != at as u64 + 1 || entry.prev != previous {
            return Err(ChainError::Broken { n: entry.n });
        }
        previous = hash(line);
        entries.push(entry);
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn chain(length: u64) -> Vec<String> {
        let mut prev = GENESIS.to_owned();
        (1..=length)
            .map(|n| {
                let entry = Entry {
                    n,
                    prev: prev.clone(),
                    at_ms: 1_700_000_000_000,
                    transaction: "1-aa".into(),
                    action: "deploy".into(),
                    outcome: "live".into(),
                    actor: "me@here".into(),
                    environment: "prod".into(),
                    host: "app1".into(),
                    release: ReleaseId::of(&n.to_le_bytes()),
                    previous: None,
                    commit: None,
                    message: format!("entry {n}"),
                };
                prev = hash(&entry.line());
                entry.line()
            })
            .collect()
    }

    fn verdict(lines: &[String]) -> Result<usize, ChainError> {
        check(lines.iter().map(String::as_str)).map(|entries| entries.len())
    }

    #[test]
    fn changed_missing_and_reordered_entries_show() {
        let lines = chain(4);
        assert_eq!(verdict(&lines), Ok(4));
        let mut changed = lines.clone();
        changed[1] = changed[1].replace("entry 2", "entry two");
        assert_eq!(verdict(&changed), Err(ChainError::Broken { n: 3 }));
        let mut missing = lines.clone();
        missing.remove(2);
        assert_eq!(verdict(&missing), Err(ChainError::Broken { n: 4 }));
        let mut swapped = lines.clone();
        swapped.swap(1, 2);
        assert_eq!(verdict(&swapped), Err(ChainError::Broken { n: 3 }));
        let mut torn = lines;
        torn[3].truncate(20);
        assert_eq!(verdict(&torn), Err(ChainError::Malformed { line: 4 }));
    }
}
