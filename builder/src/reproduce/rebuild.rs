//! Builds again and compares with the first tree. Trees are read where a thread may block.

use std::sync::Arc;
use std::time::Instant;

use relstore_store::manifest::Manifest;

use super::cause::Cause;
use super::difference::{Difference, differences, manifest};
use super::finding::{self, Examined};
use super::tree::BuiltTree;
use super::{Event, Listener};
use crate::conditions::{Condition, Conditions};
use crate::error::BuildError;

/// The first tree and the means to build it again.
pub(super) struct Rebuilder<'a, B> {
    first: Arc<BuiltTree>,
    manifest: Arc<Manifest>,
    build: B,
    events: Listener<'a>,
}

/// Another tree and what differs.
pub(super) struct Rebuilt {
    pub(super) tree: Arc<BuiltTree>,
    pub(super) differences: Vec<Difference>,
}

impl<'a, B: AsyncFn(&Conditions) -> Result<BuiltTree, BuildError>> Rebuilder<'a, B> {
    /// Hashes the first tree.
    pub(super) async fn new(
        first: BuiltTree,
        build: B,
        events: Listener<'a>,
    ) -> Result<Self, BuildError> {
        let first = Arc::new(first);
        let tree = Arc::clone(&first);
        let manifest = blocking(move || manifest(&tree.tree)).await?;
        Ok(Self {
            first,
            manifest: Arc::new(manifest),
            build,
            events,
        })
    }

    /// Number of entries of the first tree.
    pub(super) fn entries(&self) -> u64 {
        self.manifest.entries().len() as u64
    }

    /// Builds under other conditions; `varied` tells which ones that are.
    pub(super) async fn rebuild(
        &self,
        varied: &[Condition],
        conditions: &Conditions,
    ) -> Result<Rebuilt, BuildError> {
        let begun = Instant::now();
        let varied = varied.to_vec();
        (self.events)(Event::Rebuilding {
            varied: varied.clone(),
        });
        let built = (self.build)(conditions)
            .await
            .map_err(|error| match error {
                BuildError::Interrupted => error,
                error => BuildError::Rebuild {
                    varied: described(&varied, conditions),
                    source: Box::new(error),
                },
            })?;
        let tree = Arc::new(built);
        let (second, first) = (Arc::clone(&tree), Arc::clone(&self.manifest));
        let differences =
            blocking(move || Ok(differences(&first, &manifest(&second.tree)?))).await?;
        (self.events)(Event::Compared {
            varied,
            differences: differences.len() as u64,
            took: begun.elapsed(),
        });
        Ok(Rebuilt { tree, differences })
    }

    /// Looks at the first differences.
    pub(super) async fn examine(&self, rebuilt: Rebuilt) -> Result<Vec<Examined>, BuildError> {
        let first = Arc::clone(&self.first);
        blocking(move || finding::examine(&first, &rebuilt.tree, rebuilt.differences)).await
    }

    /// Names the cause of a difference that shows when only `condition` is varied, or nothing.
    pub(super) async fn prove(
        &self,
        second: &Arc<BuiltTree>,
        difference: &Difference,
        condition: Option<Condition>,
    ) -> Result<Cause, BuildError> {
        let (first, second) = (Arc::clone(&self.first), Arc::clone(second));
        let difference = difference.clone();
        blocking(move || finding::prove(&first, &second, &difference, condition)).await
    }
}

/// `umask 077, locale tr_TR.UTF-8`.
fn described(varied: &[Condition], conditions: &Conditions) -> String {
    let values = conditions.values();
    let parts = varied
        .iter()
        .filter_map(|condition| Some(format!("{} {}", condition.name(), values.get(condition)?)));
    let parts: Vec<String> = parts.collect();
    match parts.is_empty() {
        true => "nothing varied".to_owned(),
        false => parts.join(", "),
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, BuildError> + Send + 'static,
) -> Result<T, BuildError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| BuildError::Interrupted)?
}
