//! Releases from one store to another.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use async_trait::async_trait;
use relstore_store::backend::memory::MemoryBackend;
use relstore_store::backend::{Backend, Content};
use relstore_store::id::ReleaseId;
use relstore_store::testing::release::{self, COMMIT};
use relstore_store::testing::watched::{Fate, Operation, Verb, Watch, WatchedBackend};
use relstore_store::{Store, StoreError, transfer};

/// Counts what is put, and fails when so many puts were done.
#[derive(Debug)]
struct Counted {
    asked: AtomicUsize,
    put: AtomicUsize,
    bytes: AtomicU64,
    fails_at: usize,
}

#[async_trait]
impl Watch for Counted {
    async fn fate(&self, operation: Operation<'_>) -> Fate {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let (Verb::Put, Some(content)) = (operation.verb, operation.content) else {
            return Fate::Done;
        };
        if self.put.fetch_add(1, Ordering::SeqCst) >= self.fails_at {
            return Fate::Refused(StoreError::Interrupted);
        }
        let size = match content {
            Content::Bytes(bytes) => bytes.len() as u64,
            Content::File(file) => file.as_file().metadata().unwrap().len(),
        };
        self.bytes.fetch_add(size, Ordering::SeqCst);
        Fate::Done
    }
}

fn counted(inner: &Arc<MemoryBackend>, fails_at: usize) -> Arc<WatchedBackend<Counted>> {
    let watch = Counted {
        asked: AtomicUsize::new(0),
        put: AtomicUsize::new(0),
        bytes: AtomicU64::new(0),
        fails_at,
    };
    Arc::new(WatchedBackend::new(Arc::clone(inner) as _, watch))
}

async fn empty() -> (Arc<MemoryBackend>, Store) {
    let backend = Arc::new(MemoryBackend::default());
    let store = Store::create_backend(Arc::clone(&backend) as _)
        .await
        .unwrap();
    (backend, store)
}

/// Bytes that do not compress.
fn noise(seed: u8, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new_keyed(&[seed; 32])
        .finalize_xof()
        .fill(&mut bytes);
    bytes
}

async fn import(store: &Store, root: &Path) -> ReleaseId {
    release::import(store, root).await.unwrap()
}

async fn move_all(from: &Store, to: &Store, releases: &[ReleaseId]) -> transfer::Moved {
    let plan = transfer::plan(from, to, releases).await.unwrap();
    transfer::run(from, to, &plan, &|_| ()).await.unwrap()
}

async fn whole(backend: &Arc<MemoryBackend>, release: &ReleaseId) {
    let store = Store::open_backend(Arc::clone(backend) as _).await.unwrap();
    let out = tempfile::tempdir().unwrap();
    store.checkout(release, out.path()).await.unwrap();
    assert!(store.has_release(release).await.unwrap());
    assert_eq!(store.records(release).await.unwrap().len(), 1);
    let built = store.releases_of_commit(COMMIT).await.unwrap();
    assert!(built.contains(release));
}

#[tokio::test]
async fn a_push_moves_only_what_the_other_side_lacks() {
    let folder = tempfile::tempdir().unwrap();
    let (_, here) = empty().await;
    let (there, _) = empty().await;
    for at in 0..20 {
        std::fs::write(folder.path().join(format!("{at}")), noise(at, 10_000)).unwrap();
    }
    let first = import(&here, folder.path()).await;
    let to = Store::open_backend(Arc::clone(&there) as _).await.unwrap();
    move_all(&here, &to, &[first]).await;
    whole(&there, &first).await;

    std::fs::write(folder.path().join("7"), "one line").unwrap();
    let second = import(&here, folder.path()).await;
    let wire = counted(&there, usize::MAX);
    let to = Store::open_backend(Arc::clone(&wire) as _).await.unwrap();
    let moved = move_all(&here, &to, &[second]).await;
    whole(&there, &second).await;
    assert_eq!(moved.bundles, 1);
    // Bundle, table, manifest, record, marker, commit.
    assert_eq!(wire.watch.put.load(Ordering::SeqCst), 6);
    let bytes = wire.watch.bytes.load(Ordering::SeqCst);
    assert!(bytes < 4000, "{bytes} bytes for one line");

    // Nothing is left to do but to say that it is wanted.
    let again = move_all(&here, &to, &[first, second]).await;
    assert_eq!((again.bundles, again.bundle_bytes), (0, 0));
}

#[tokio::test]
async fn each_release_of_a_push_costs_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let (_, here) = empty().await;
    let mut releases = Vec::new();
    for at in 0..24 {
        std::fs::write(folder.path().join("file"), noise(at, 1_000)).unwrap();
        releases.push(import(&here, folder.path()).await);
    }
    let mut asked = Vec::new();
    for count in [12, 24] {
        let (there, _) = empty().await;
        let wire = counted(&there, usize::MAX);
        let to = Store::open_backend(Arc::clone(&wire) as _).await.unwrap();
        move_all(&here, &to, &releases[..count]).await;
        asked.push(wire.watch.asked.load(Ordering::SeqCst));
    }
    assert!(asked[1] <= 2 * asked[0], "{asked:?} requests");
}

#[tokio::test]
async fn a_bundle_of_which_little_is_wanted_is_not_moved_whole() {
    let folder = tempfile::tempdir().unwrap();
    let (_, here) = empty().await;
    let (there, to) = empty().await;
    std::fs::write(folder.path().join("big"), noise(1, 9_000_000)).unwrap();
    std::fs::write(folder.path().join("small"), noise(2, 50_000)).unwrap();
    import(&here, folder.path()).await;
    std::fs::remove_file(folder.path().join("big")).unwrap();
    let wanted = import(&here, folder.path()).await;
    let moved = move_all(&here, &to, &[wanted]).await;
    whole(&there, &wanted).await;
    assert!(moved.bundle_bytes < 60_000, "{moved:?}");

    // A blob that runs through many frames comes along, too.
    std::fs::write(folder.path().join("big"), noise(1, 9_000_000)).unwrap();
    std::fs::remove_file(folder.path().join("small")).unwrap();
    std::fs::write(folder.path().join("more"), noise(3, 20_000_000)).unwrap();
    import(&here, folder.path()).await;
    std::fs::remove_file(folder.path().join("more")).unwrap();
    let big = import(&here, folder.path()).await;
    move_all(&here, &to, &[big]).await;
    whole(&there, &big).await;
}

#[tokio::test]
async fn a_push_cut_at_any_put_shows_nothing_and_goes_on_from_there() {
    let folder = tempfile::tempdir().unwrap();
    let (_, here) = empty().await;
    let mut releases = Vec::new();
    for at in 0..3 {
        std::fs::write(folder.path().join(format!("{at}")), noise(at, 3_000)).unwrap();
        releases.push(import(&here, folder.path()).await);
    }
    for cut in 0.. {
        let (there, _) = empty().await;
        let to = Store::open_backend(counted(&there, cut) as _)
            .await
            .unwrap();
        let plan = transfer::plan(&here, &to, &releases).await.unwrap();
        let outcome = transfer::run(&here, &to, &plan, &|_| ()).await;
        let to = Store::open_backend(Arc::clone(&there) as _).await.unwrap();
        for release in to.releases().await.unwrap() {
            let out = tempfile::tempdir().unwrap();
            to.checkout(&release, out.path()).await.unwrap();
        }
        let arrived = there.list("bundles/").await.unwrap().len();
        let again = move_all(&here, &to, &releases).await;
        assert!(again.bundles <= 3 - arrived, "{again:?} after {arrived}");
        for release in &releases {
            whole(&there, release).await;
        }
        if outcome.is_ok() {
            assert!(cut > 12);
            break;
        }
    }
}

#[tokio::test]
async fn damaged_bytes_are_not_passed_on() {
    let folder = tempfile::tempdir().unwrap();
    let (source, here) = empty().await;
    std::fs::write(folder.path().join("file"), noise(1, 3_000)).unwrap();
    let release = import(&here, folder.path()).await;
    let bundle = source.list("bundles/").await.unwrap().remove(0);
    let mut bytes = source.get(&bundle.name).await.unwrap().unwrap().to_vec();
    bytes[1000] ^= 1;
    source.damage(&bundle.name, bytes.into());
    let (there, to) = empty().await;
    let plan = transfer::plan(&here, &to, &[release]).await.unwrap();
    let error = transfer::run(&here, &to, &plan, &|_| ()).await.unwrap_err();
    assert!(
        matches!(&error, StoreError::Damaged { name, .. } if *name == bundle.name),
        "{error}"
    );
    assert!(there.list("bundles/").await.unwrap().is_empty());
    assert!(to.releases().await.unwrap().is_empty());
    let absent = ReleaseId::of(b"absent");
    let error = transfer::plan(&here, &to, &[absent]).await.unwrap_err();
    assert!(matches!(error, StoreError::NoRelease { .. }));
}
