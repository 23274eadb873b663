//! What a backend does, found out by doing it: `relstore store init` asks before anything relies on
//! it, and keeps the findings as the advisory object `probe.json`.
//!
//! A store needs that an object can be read and is listed as soon as it is put, that it is gone once
//! it is deleted, that ranges are ranges, and that other bytes are refused for a name that is taken.
//! A backend without one of these is refused. The rest is recorded: it says what more holds.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures::future::join_all;
use serde::{Deserialize, Serialize};

use crate::backend::{Backend, Content, Object};
use crate::error::StoreError;

/// Name of the object with the findings.
pub const FINDINGS: &str = "probe.json";
/// Objects that are put to see what the backend says about them.
const OBJECTS: usize = 3;
/// Writers that want one name at the same time.
const WRITERS: usize = 4;
const BYTES: &[u8] = b"0123456789";

/// What was found; `version` is raised when a field changes its meaning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Findings {
    /// 1.
    pub version: u32,
    /// Whether of several writers of one name at the same time exactly one succeeded. Where not,
    /// names whose bytes depend on the writer are settled by reading them again.
    pub atomic_create: bool,
    /// Whether the server honours `If-None-Match`; absent where that has no meaning.
    pub conditional_put: Option<bool>,
    /// Whether objects that were put one after another have times in that order.
    pub ordered_times: bool,
    /// The smallest step of the times it tells: 1 or 1000 milliseconds.
    pub time_step_ms: u64,
    /// How far its clock is before (positive) or behind the one of this machine; with the time that
    /// a request takes in it.
    pub clock_skew_ms: i64,
}

/// Why a backend cannot hold a store.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// It does not do what a store relies on; releases would be lost.
    #[error("{place} cannot hold a store")]
    Unfit {
        /// Path or URL.
        place: String,
        /// What failed, one sentence each.
        failures: Vec<String>,
    },
    /// It could not be asked.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Probes a backend with objects `probes/<name>-...`, which are deleted afterwards. Nobody else may
/// use the name; `clock` tells the time of this machine.
///
/// # Errors
/// [`ProbeError`].
pub async fn probe(
    backend: &dyn Backend,
    name: &str,
    clock: &(dyn Fn() -> SystemTime + Sync),
) -> Result<Findings, ProbeError> {
    let mut probe = Probe {
        backend,
        prefix: format!("probes/{name}-"),
        failures: Vec::new(),
    };
    let found = probe.run(clock).await;
    let cleaned = probe.clean().await;
    let findings = found?;
    cleaned?;
    if probe.failures.is_empty() {
        return Ok(findings);
    }
    Err(ProbeError::Unfit {
        place: backend.place(),
        failures: probe.failures,
    })
}

struct Probe<'a> {
    backend: &'a dyn Backend,
    prefix: String,
    failures: Vec<String>,
}

impl Probe<'_> {
    async fn run(
        &mut self,
        clock: &(dyn Fn() -> SystemTime + Sync),
    ) -> Result<Findings, StoreError> {
        let begun = clock();
        let mut names = Vec::new();
        for number in 0..OBJECTS {
            let name = self.name(&number.to_string());
            self.put(&name, BYTES).await?;
            let read = self.backend.get(&name).await?;
            self.must(
                read.as_deref() == Some(BYTES),
                "an object cannot be read right after it was put",
            );
            names.push(name);
        }
        let ended = clock();
        let listed = self.listed().await?;
        self.must(
            listed.len() == OBJECTS && listed.iter().all(|object| object.size == 10),
            "an object is not listed, with its size, right after it was put",
        );
        self.ranges(&names[0]).await?;
        self.names_are_kept(&names[0]).await?;
        let (atomic_create, conditional_put) = self.race().await?;
        self.deletes(&names[1]).await?;
        Ok(Findings {
            version: 1,
            atomic_create: atomic_create && conditional_put != Some(false),
            conditional_put,
            ordered_times: listed.is_sorted_by_key(|object| object.modified),
            time_step_ms: step(&listed),
            clock_skew_ms: skew(&listed, begun, ended),
        })
    }

    fn name(&self, end: &str) -> String {
        format!("{}{end}", self.prefix)
    }

    fn must(&mut self, holds: bool, failure: &str) {
        if !holds && !self.failures.iter().any(|told| told == failure) {
            self.failures.push(failure.to_owned());
        }
    }

    async fn put(&self, name: &str, bytes: &'static [u8]) -> Result<(), StoreError> {
        let content = Content::Bytes(Bytes::from_static(bytes));
        self.backend.put(name, content).await
    }

    /// Its own objects, as the backend lists them.
    async fn listed(&self) -> Result<Vec<Object>, StoreError> {
        let mut listed = self.backend.list("probes/").await?;
        listed.retain(|object| object.name.starts_with(&self.prefix));
        Ok(listed)
    }

    async fn ranges(&mut self, name: &str) -> Result<(), StoreError> {
        for (offset, length, expected) in [(2, 3, "234"), (8, 9, "89"), (99, 1, "")] {
            let read = self.backend.get_range(name, offset, length).await?;
            self.must(
                read.as_deref() == Some(expected.as_bytes()),
                "a range of an object is not that range",
            );
        }
        Ok(())
    }

    async fn names_are_kept(&mut self, name: &str) -> Result<(), StoreError> {
        let again = self.put(name, BYTES).await.is_ok();
        self.must(again, "the same bytes cannot be put again");
        let other = self.put(name, b"9876543210").await;
        let kept = self.backend.get(name).await?.as_deref() == Some(BYTES);
        self.must(
            kept && matches!(other, Err(StoreError::Conflict { .. })),
            "a name that is taken is given other bytes",
        );
        Ok(())
    }

    /// Whether one of several writers wins, and what the place itself says to a second one.
    async fn race(&mut self) -> Result<(bool, Option<bool>), StoreError> {
        const OFFERED: [&[u8]; WRITERS] = [b"a", b"b", b"c", b"d"];
        let name = self.name("race");
        let puts = OFFERED.iter().map(|bytes| self.put(&name, bytes));
        let mut won = 0;
        for put in join_all(puts).await {
            match put {
                Ok(()) => won += 1,
                Err(StoreError::Conflict { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        self.must(won > 0, "of several writers of one name none succeeds");
        let conditional = self.name("condition");
        let refused = self.backend.refuses_to_replace(&conditional).await?;
        Ok((won == 1, refused))
    }

    async fn deletes(&mut self, name: &str) -> Result<(), StoreError> {
        self.backend.delete(name).await?;
        let read = self.backend.get(name).await?;
        let listed = self.listed().await?;
        self.must(
            read.is_none() && listed.iter().all(|object| object.name != name),
            "an object is still there right after it was deleted",
        );
        let again = self.backend.delete(name).await.is_ok();
        self.must(again, "deleting what is not there is an error");
        Ok(())
    }

    /// Removes what the probe made. By name: a list may be late, which is what was to be found out.
    async fn clean(&self) -> Result<(), StoreError> {
        let numbers = (0..OBJECTS).map(|number| number.to_string());
        for end in numbers.chain(["race".to_owned(), "condition".to_owned()]) {
            self.backend.delete(&self.name(&end)).await?;
        }
        Ok(())
    }
}

/// The step of the times: whole seconds every time are no chance.
fn step(listed: &[Object]) -> u64 {
    let whole = |object: &Object| {
        let since = object.modified.duration_since(SystemTime::UNIX_EPOCH);
        since.is_ok_and(|since| since.subsec_nanos() == 0)
    };
    if listed.iter().all(whole) { 1000 } else { 1 }
}

/// The mean time of the objects minus the middle of the time in which they were put.
fn skew(listed: &[Object], begun: SystemTime, ended: SystemTime) -> i64 {
    let middle = begun + ended.duration_since(begun).unwrap_or_default() / 2;
    let differences = listed.iter().map(|object| {
        let ms = |time: Duration| i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
        match object.modified.duration_since(middle) {
            Ok(later) => ms(later),
            Err(earlier) => -ms(earlier.duration()),
        }
    });
    let sum: i128 = differences.map(i128::from).sum();
    let count = i128::try_from(listed.len().max(1)).unwrap_or(1);
    i64::try_from(sum / count).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::path::PathBuf;
    use std::sync::Mutex;

    use crate::backend::local::LocalBackend;
    use crate::backend::memory::MemoryBackend;
    use async_trait::async_trait;

    /// What a backend may do wrong.
    #[derive(Debug, Clone, Copy, PartialEq)]
    enum Lie {
        ListsLate,
        Overwrites,
        KeepsDeleted,
        ReadsWhole,
    }

    #[derive(Debug)]
    struct Liar {
        inner: MemoryBackend,
        lie: Lie,
        listed: Mutex<Vec<Object>>,
    }

    #[async_trait]
    impl Backend for Liar {
        async fn get(&self, name: &str) -> Result<Option<Bytes>, StoreError> {
            self.inner.get(name).await
        }
        async fn get_range(
            &self,
            name: &str,
            offset: u64,
            length: u64,
        ) -> Result<Option<Bytes>, StoreError> {
            match self.lie {
                Lie::ReadsWhole => self.inner.get(name).await,
                _ => self.inner.get_range(name, offset, length).await,
            }
        }
        async fn put(&self, name: &str, content: Content) -> Result<(), StoreError> {
            match (self.lie, content) {
                (Lie::Overwrites, Content::Bytes(bytes)) => {
                    self.inner.put_advisory(name, bytes).await
                }
                (_, content) => self.inner.put(name, content).await,
            }
        }
        async fn list(&self, prefix: &str) -> Result<Vec<Object>, StoreError> {
            let now = self.inner.list(prefix).await?;
            if self.lie != Lie::ListsLate {
                return Ok(now);
            }
            Ok(std::mem::replace(&mut *self.listed.lock().unwrap(), now))
        }
        async fn delete(&self, name: &str) -> Result<(), StoreError> {
            match self.lie {
                Lie::KeepsDeleted => Ok(()),
                _ => self.inner.delete(name).await,
            }
        }
        async fn put_advisory(&self, name: &str, bytes: Bytes) -> Result<(), StoreError> {
            self.inner.put_advisory(name, bytes).await
        }
        fn spool(&self) -> PathBuf {
            self.inner.spool()
        }
        fn place(&self) -> String {
            "a liar".into()
        }
    }

    async fn honest(backend: &dyn Backend) {
        let findings = probe(backend, "test", &SystemTime::now).await.unwrap();
        assert!(findings.atomic_create && findings.ordered_times);
        assert_eq!(findings.conditional_put, None);
        assert_eq!(findings.time_step_ms, 1);
        assert!(findings.clock_skew_ms.abs() < 5_000, "{findings:?}");
        assert!(backend.list("").await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn what_a_backend_does_is_found_and_nothing_stays() {
        honest(&MemoryBackend::default()).await;
        let folder = tempfile::tempdir().unwrap();
        honest(&LocalBackend::new(folder.path().to_owned())).await;
    }

    #[tokio::test]
    async fn clock_that_is_ahead_is_told() {
        let backend = MemoryBackend::default();
        backend.wait(Duration::from_secs(90));
        let findings = probe(&backend, "test", &SystemTime::now).await.unwrap();
        assert!((89_000..95_000).contains(&findings.clock_skew_ms));
    }

    #[tokio::test]
    async fn every_lie_is_found_out() {
        for (lie, failure) in [
            (Lie::ListsLate, "not listed"),
            (Lie::Overwrites, "given other bytes"),
            (Lie::KeepsDeleted, "still there"),
            (Lie::ReadsWhole, "range"),
        ] {
            let liar = Liar {
                inner: MemoryBackend::default(),
                lie,
                listed: Mutex::default(),
            };
            let error = probe(&liar, "test", &SystemTime::now).await.unwrap_err();
            let ProbeError::Unfit { failures, .. } = error else {
                panic!("{error}")
            };
            assert!(
                failures.iter().any(|told| told.contains(failure)),
                "{failures:?}"
            );
        }
    }
}
