//! Garbage collection: what nothing keeps is given a tombstone, and deleted at a later run, when
//! the tombstone is older than the grace period and still nothing keeps it.
//!
//! ```text
//! list everything -> roots -> live releases, trees, blobs -> Plan -> tombstones, deletions, repacking
//!                    \______________ pure, see `decide` ______/
//! ```
//! Roots: pins, what hosts serve or served within the retention time, the newest releases, those of
//! the retention time, and what build steps made lately. No lock: whoever writes looks at the
//! tombstones (`relied`). Ages are differences between times of the store itself.

mod decide;
mod inventory;
mod roots;

use std::time::{Duration, Instant, SystemTime};

use futures::{StreamExt, TryStreamExt};

use crate::error::StoreError;
use crate::event::{Event, Listener};
use crate::id::{BlobId, ReleaseId};
use crate::index;
use crate::store::Store;
use crate::tombstone::{bury, forget};

/// How long a tombstone outlives the deletion, in grace periods: a collector or writer that stood
/// still for as long must not meet a name that is used again.
const AFTERLIFE: u32 = 10;
/// Objects handled at once.
const PARALLEL: usize = 16;
/// Reads at once of what is compared before its other copy is deleted.
const CHECKS: usize = 4;

/// What is kept, and how long things wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// The newest releases that always stay.
    pub keep_last: usize,
    /// Releases that were stored, said something about, or served within this time stay.
    pub keep_for: Duration,
    /// What build steps made within this time stays.
    pub keep_derivations: Duration,
    /// Between tombstone and deletion; also how old anything must be to get a tombstone.
    pub grace: Duration,
    /// Whether bundles that are mostly garbage or very small are put together anew.
    pub repack: bool,
}

impl Default for Retention {
    fn default() -> Self {
        const DAY: Duration = Duration::from_secs(86_400);
        Self {
            keep_last: 10,
            keep_for: 30 * DAY,
            keep_derivations: 7 * DAY,
            grace: DAY,
            repack: true,
        }
    }
}

/// An object that nothing keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dead {
    /// Object name.
    pub name: String,
    /// Length in bytes.
    pub size: u64,
}

/// Bundles whose live blobs go into a new one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Repack {
    /// Their names.
    pub bundles: Vec<Dead>,
    /// What is live in them and lies nowhere else.
    pub blobs: Vec<BlobId>,
}

/// What a collection is going to do. Nothing is done yet.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Releases that stay.
    pub kept: Vec<ReleaseId>,
    /// Releases that go, now or after the grace period.
    pub expired: Vec<ReleaseId>,
    /// Objects that get a tombstone, by name.
    pub bury: Vec<Dead>,
    /// Objects that are deleted, in the order in which they are.
    pub delete: Vec<Dead>,
    /// Objects whose tombstones are taken back: something keeps them again.
    pub spare: Vec<String>,
    /// Tombstones and probes that have done their duty.
    pub forget: Vec<String>,
    /// Bundles that are put together anew.
    pub repack: Vec<Repack>,
    /// What lies in bundles that are deleted and is kept: other bundles have it, too.
    superseded: Vec<BlobId>,
    grace: Duration,
    /// By this machine's clock.
    made: Instant,
}

/// What a collection did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Collected {
    /// Objects that got a tombstone.
    pub buried: usize,
    /// Objects that were deleted.
    pub deleted: usize,
    /// Their bytes.
    pub deleted_bytes: u64,
    /// Bytes of the bundles that were written anew.
    pub repacked_bytes: u64,
}

impl Plan {
    /// Bytes that the run frees at once.
    #[must_use]
    pub fn frees(&self) -> u64 {
        self.delete.iter().map(|dead| dead.size).sum()
    }

    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bury.is_empty()
            && self.delete.is_empty()
            && self.spare.is_empty()
            && self.forget.is_empty()
            && self.repack.is_empty()
    }
}

impl Store {
    /// Looks at everything and says what a collection would do.
    ///
    /// # Errors
    /// Those of the backend; [`StoreError::Damaged`], [`StoreError::NoRelease`] when a manifest, a ledger entry or a
    /// pin that may keep something cannot be read: guessing could delete what is needed.
    pub async fn plan_gc(&self, retention: &Retention) -> Result<Plan, StoreError> {
        let made = Instant::now();
        let inventory = self.inventory(retention).await?;
        Ok(decide::decide(&inventory, retention, made))
    }

    /// Carries a plan out: tombstones, then deletions, then repacking. It can be stopped anywhere
    /// and run again.
    ///
    /// # Errors
    /// Those of the backend; [`StoreError::PlanTooOld`] when the plan is older than half of its
    /// grace period; [`StoreError::Damaged`] when what would be left of a blob is not sound. Nothing is
    /// deleted then.
    pub async fn run_gc(&self, plan: &Plan, events: Listener<'_>) -> Result<Collected, StoreError> {
        let mut done = Collected::default();
        let backend = self.backend.as_ref();
        let all = |names: Vec<String>| futures::stream::iter(names);
        let names = plan.bury.iter().map(|dead| dead.name.clone()).collect();
        all(names)
            .map(|name| async move { bury(backend, &name).await })
            .buffer_unordered(PARALLEL)
            .try_collect::<()>()
            .await?;
        done.buried = plan.bury.len();
        self.check_superseded(plan).await?;
        for dead in &plan.delete {
            // Who stood still meanwhile does not know what was published since it looked.
            plan.check_age()?;
            backend.delete(&dead.name).await?;
            done.deleted += 1;
            done.deleted_bytes += dead.size;
            events(Event::Deleted(dead.size));
        }
        for name in &plan.spare {
            forget(backend, name).await?;
        }
        for name in &plan.forget {
            backend.delete(name).await?;
        }
        *self.index.write().await = None;
        *self.tombstones.write().await = None;
        for repack in &plan.repack {
            done.repacked_bytes += self.repack(repack, events).await?;
            done.buried += repack.bundles.len();
        }
        Ok(done)
    }

    /// Reads what stays only because another bundle has it: the copy that goes may be the only
    /// sound one.
    async fn check_superseded(&self, plan: &Plan) -> Result<(), StoreError> {
        if plan.superseded.is_empty() {
            return Ok(());
        }
        *self.tombstones.write().await = None;
        *self.index.write().await = None;
        let index = self.index().await?;
        let reads = index.plan_reads(&plan.superseded)?;
        let check = |read| {
            let index = &index;
            async move { index.check(self.backend.as_ref(), &read).await }
        };
        let checks = futures::stream::iter(reads).map(check);
        checks.buffer_unordered(CHECKS).try_collect().await
    }

    /// Writes the live blobs of some bundles into a new one, and buries the old ones.
    async fn repack(&self, repack: &Repack, events: Listener<'_>) -> Result<u64, StoreError> {
        let index = self.index().await?;
        let moved = |bytes| events(Event::Moved(bytes));
        let spool = self.backend.spool();
        let packed = self.pack(&index, &repack.blobs, &spool, &moved).await?;
        let bytes = packed.stored_bytes;
        let name = self.put_bundle(packed).await?;
        for bundle in repack.bundles.iter().filter(|bundle| bundle.name != name) {
            bury(self.backend.as_ref(), &bundle.name).await?;
            if let Some(stem) = index::bundle_stem(&bundle.name) {
                bury(self.backend.as_ref(), &index::index_name(stem)).await?;
            }
        }
        *self.tombstones.write().await = None;
        Ok(bytes)
    }

    /// The time of the store: that of an object which was just written.
    pub(crate) async fn now(&self) -> Result<SystemTime, StoreError> {
        inventory::now(self.backend.as_ref()).await
    }
}

impl Plan {
    fn check_age(&self) -> Result<(), StoreError> {
        match self.made.elapsed() > self.grace / 2 {
            true => Err(StoreError::PlanTooOld),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
