//! One writer and one collector in every interleaving, on the real code: the writer stops before
//! each operation that can matter, the collector looks, buries, looks again and deletes at any of
//! these stops. Whatever was reported as published must be there in the end.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::{Semaphore, mpsc};

use super::tests::{collect, open, readable};
use super::*;
use crate::backend::memory::MemoryBackend;
use crate::testing::release::{COMMIT, DAY, import, strict, tree};
use crate::testing::watched::{Fate, Operation, Verb, Watch, WatchedBackend};

/// Asks before each operation that matters, and waits until it may go on.
#[derive(Debug)]
struct Stops {
    asks: mpsc::UnboundedSender<()>,
    turns: Semaphore,
}

#[async_trait]
impl Watch for Stops {
    async fn fate(&self, operation: Operation<'_>) -> Fate {
        let matters = match operation.verb {
            Verb::Put | Verb::Delete => true,
            Verb::List => matches!(operation.name, "tombstones/" | "bundles/"),
            _ => false,
        };
        if matters {
            let _ = self.asks.send(());
            self.turns.acquire().await.unwrap().forget();
        }
        Fate::Done
    }
}

/// What the collector does at the stops: its four steps, each at the stop of this number.
type Schedule = [usize; 4];

struct Collector<'a> {
    backend: &'a Arc<MemoryBackend>,
    store: Store,
    plan: Option<Plan>,
}

impl Collector<'_> {
    async fn step(&mut self, number: usize) {
        match number {
            0 | 2 => {
                if number == 2 {
                    self.backend.wait(DAY);
                }
                self.plan = Some(self.store.plan_gc(&strict()).await.unwrap());
            }
            _ => {
                let plan = self.plan.take().unwrap();
                self.store.run_gc(&plan, &|_| ()).await.unwrap();
            }
        }
    }
}

/// Runs one interleaving. Returns at how many stops the writer asked, and what it reported.
async fn run(
    old: &Path,
    new: &Path,
    schedule: Schedule,
) -> (usize, Result<ReleaseId, StoreError>, Arc<MemoryBackend>) {
    let backend = Arc::new(MemoryBackend::default());
    import(&open(&backend).await, old).await.unwrap();
    backend.wait(31 * DAY);
    let (asks, mut asked) = mpsc::unbounded_channel();
    let stops = Stops {
        asks,
        turns: Semaphore::new(0),
    };
    let stepped = Arc::new(WatchedBackend::new(Arc::clone(&backend) as _, stops));
    let store = Store::open_backend(Arc::clone(&stepped) as _)
        .await
        .unwrap();
    let root = new.to_owned();
    let mut writer = tokio::spawn(async move { import(&store, &root).await });
    let mut collector = Collector {
        store: open(&backend).await,
        backend: &backend,
        plan: None,
    };
    let mut stop = 0;
    let outcome = loop {
        tokio::select! {
            biased;
            Some(()) = asked.recv() => {}
            outcome = &mut writer => break outcome.unwrap(),
        }
        for number in (0..4).filter(|number| schedule[*number] == stop) {
            collector.step(number).await;
        }
        stepped.watch.turns.add_permits(1);
        stop += 1;
    };
    for number in (0..4).filter(|number| schedule[*number] >= stop) {
        collector.step(number).await;
    }
    (stop, outcome, backend)
}

/// Every way to place four steps in this order at these stops. A writer that is disturbed makes
/// more stops than one that is not; the last place is after its end.
fn schedules(stops: usize) -> impl Iterator<Item = Schedule> {
    let mut places: Vec<usize> = (0..=stops).collect();
    places.extend([stops + 2, stops + 4, usize::MAX]);
    let count = places.len();
    let at = (0..count).flat_map(move |a| {
        (a..count)
            .flat_map(move |b| (b..count).flat_map(move |c| (c..count).map(move |d| [a, b, c, d])))
    });
    at.map(move |schedule| schedule.map(|at| places[at]))
}

async fn is_whole(backend: &Arc<MemoryBackend>, release: &ReleaseId, schedule: Schedule) {
    let store = open(backend).await;
    let there = readable(&store, release).await;
    there.unwrap_or_else(|error| panic!("{schedule:?}: {error}"));
    assert_eq!(
        store.records(release).await.unwrap().len(),
        1,
        "{schedule:?}"
    );
    let built = store.releases_of_commit(COMMIT).await.unwrap();
    assert!(built.contains(release), "{schedule:?}");
}

async fn every_interleaving(old: &Path, new: &Path) {
    let never = [usize::MAX; 4];
    let (stops, outcome, _) = run(old, new, never).await;
    outcome.unwrap();
    assert!(
        stops >= 10,
        "{stops} stops: the writer is not looked at closely"
    );
    let (mut interleavings, mut refused) = (0, 0);
    for schedule in schedules(stops) {
        interleavings += 1;
        let (_, outcome, backend) = run(old, new, schedule).await;
        let release = match outcome {
            Ok(release) => release,
            Err(error) => {
                // It stood still over a whole collection and says so; it is begun again.
                assert!(
                    matches!(
                        error,
                        StoreError::NoBlob { .. } | StoreError::Damaged { .. }
                    ),
                    "{schedule:?}: {error}"
                );
                refused += 1;
                import(&open(&backend).await, new).await.unwrap()
            }
        };
        is_whole(&backend, &release, schedule).await;
        let store = open(&backend).await;
        collect(&store, &strict()).await;
        backend.wait(DAY);
        collect(&store, &strict()).await;
        is_whole(&backend, &release, schedule).await;
    }
    assert!(interleavings > 700, "{interleavings}");
    assert!(
        refused * 4 < interleavings,
        "{refused} of {interleavings} refused"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_release_is_stored_while_its_garbage_is_collected() {
    let old = tree(&["one", "two", "three"]);
    every_interleaving(old.path(), old.path()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_that_shares_blobs_is_stored_while_the_other_is_collected() {
    let (old, new) = (
        tree(&["one", "two", "three"]),
        tree(&["one", "two", "four"]),
    );
    every_interleaving(old.path(), new.path()).await;
}
