//! Objects in memory, for tests: the strictest backend.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;

use super::{Backend, Content, Object};
use crate::error::{IoContext, StoreError};

/// A store that ends with the test.
#[derive(Debug, Default)]
pub struct MemoryBackend {
    objects: Mutex<BTreeMap<String, (Bytes, SystemTime)>>,
    /// How much later it is here than elsewhere.
    ahead: Mutex<Duration>,
}

impl MemoryBackend {
    fn objects(&self) -> MutexGuard<'_, BTreeMap<String, (Bytes, SystemTime)>> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets time go by.
    pub fn wait(&self, time: Duration) {
        *self.ahead.lock().unwrap_or_else(PoisonError::into_inner) += time;
    }

    fn now(&self) -> SystemTime {
        SystemTime::now() + *self.ahead.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Replaces an object's bytes, as a broken disk would.
    pub fn damage(&self, name: &str, bytes: Bytes) {
        let now = self.now();
        self.objects().insert(name.to_owned(), (bytes, now));
    }
}

#[async_trait]
impl Backend for MemoryBackend {
    async fn get(&self, name: &str) -> Result<Option<Bytes>, StoreError> {
        Ok(self.objects().get(name).map(|(bytes, _)| bytes.clone()))
    }

    async fn get_range(
        &self,
        name: &str,
        offset: u64,
        length: u64,
    ) -> Result<Option<Bytes>, StoreError> {
        Ok(self.objects().get(name).map(|(bytes, _)| {
            let clamp = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(bytes.len());
            bytes.slice(clamp(offset)..clamp(offset.saturating_add(length)))
        }))
    }

    async fn put(&self, name: &str, content: Content) -> Result<(), StoreError> {
        let bytes = match content {
            Content::Bytes(bytes) => bytes,
            Content::File(temp) => {
                let mut bytes = Vec::new();
                let path = temp.path();
                temp.reopen()
                    .and_then(|mut file| file.read_to_end(&mut bytes))
                    .at("read", path)?;
                bytes.into()
            }
        };
        let now = self.now();
        let mut objects = self.objects();
        match objects.get(name) {
            Some((present, _)) if *present != bytes => Err(StoreError::Conflict {
                name: name.to_owned(),
            }),
            Some(_) => Ok(()),
            None => {
                objects.insert(name.to_owned(), (bytes, now));
                Ok(())
            }
        }
    }

    async fn put_advisory(&self, name: &str, bytes: Bytes) -> Result<(), StoreError> {
        self.damage(name, bytes);
        Ok(())
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Object>, StoreError> {
        let named = |(name, (bytes, modified)): (&String, &(Bytes, SystemTime))| Object {
            name: name.clone(),
            size: bytes.len() as u64,
            modified: *modified,
        };
        Ok(self
            .objects()
            .iter()
            .filter(|(name, _)| name.starts_with(prefix))
            .map(named)
            .collect())
    }

    async fn delete(&self, name: &str) -> Result<(), StoreError> {
        self.objects().remove(name);
        Ok(())
    }

    fn spool(&self) -> PathBuf {
        std::env::temp_dir()
    }

    fn place(&self) -> String {
        "memory".into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn passes_the_contract() {
        super::super::contract::passes(&MemoryBackend::default()).await;
    }
}
