#![allow(clippy::unwrap_used)]
use std::collections::BTreeSet;
use std::sync::Arc;

use super::*;
use crate::backend::memory::MemoryBackend;
use crate::backend::{Backend, Content};
use crate::import::{Layout, ReleaseTree};
use crate::testing::release::{COMMIT, DAY, import, strict, tree};

const HOUR: Duration = Duration::from_secs(3600);

pub(super) async fn open(backend: &Arc<MemoryBackend>) -> Store {
    let backend: Arc<dyn Backend> = Arc::clone(backend) as _;
    match Store::open_backend(Arc::clone(&backend)).await {
        Ok(store) => store,
        Err(_) => Store::create_backend(backend).await.unwrap(),
    }
}

pub(super) async fn collect(store: &Store, retention: &Retention) -> Plan {
    let plan = store.plan_gc(retention).await.unwrap();
    store.run_gc(&plan, &|_| ()).await.unwrap();
    plan
}

pub(super) async fn readable(store: &Store, release: &ReleaseId) -> Result<(), StoreError> {
    let out = tempfile::tempdir().unwrap();
    store.checkout(release, out.path()).await
}

async fn names(backend: &MemoryBackend) -> BTreeSet<String> {
    let listed = backend.list("").await.unwrap();
    listed.into_iter().map(|object| object.name).collect()
}

#[tokio::test]
async fn what_nothing_keeps_goes_after_its_grace_period_and_leaves_nothing() {
    let backend = Arc::new(MemoryBackend::default());
    let store = open(&backend).await;
    let old = import(&store, tree(&["shared", "old"]).path())
        .await
        .unwrap();
    backend.wait(31 * DAY);
    let store = open(&backend).await;
    let new = import(&store, tree(&["shared", "new"]).path())
        .await
        .unwrap();

    let plan = collect(&store, &strict()).await;
    assert_eq!(
        (plan.kept.as_slice(), plan.expired.as_slice()),
        ([new].as_slice(), [old].as_slice())
    );
    assert!(plan.delete.is_empty(), "nothing goes at once");
    let plan = collect(&store, &strict()).await;
    assert!(plan.delete.is_empty(), "nothing goes before its time");
    readable(&store, &old).await.unwrap();

    backend.wait(DAY);
    let plan = collect(&store, &strict()).await;
    assert!(!plan.delete.is_empty());
    let store = open(&backend).await;
    assert!(matches!(
        readable(&store, &old).await,
        Err(StoreError::NoRelease { .. })
    ));
    readable(&store, &new).await.unwrap();
    assert!(store.releases_of_commit(COMMIT).await.unwrap() == [new]);
    let left = names(&backend).await;
    assert!(
        !left
            .iter()
            .any(|name| !name.starts_with("tombstones/") && name.contains(&old.to_string())),
        "{left:?}"
    );

    // The first bundle is half garbage: what is live in it moves, then it goes, too.
    backend.wait(DAY);
    collect(&store, &strict()).await;
    backend.wait(DAY);
    collect(&store, &strict()).await;
    readable(&open(&backend).await, &new).await.unwrap();

    backend.wait(12 * DAY);
    let retention = Retention {
        keep_for: 300 * DAY,
        ..strict()
    };
    collect(&store, &retention).await;
    collect(&store, &retention).await;
    let left = names(&backend).await;
    assert!(
        !left.iter().any(|name| name.starts_with("tombstones/")),
        "{left:?}"
    );
    assert!(store.plan_gc(&retention).await.unwrap().is_empty());
}

#[tokio::test]
async fn pins_ledgers_and_the_newest_keep_releases() {
    let backend = Arc::new(MemoryBackend::default());
    let store = open(&backend).await;
    let mut releases = Vec::new();
    for at in 0..5 {
        releases.push(
            import(&store, tree(&[&format!("file {at}")]).path())
                .await
                .unwrap(),
        );
        backend.wait(HOUR);
    }
    let [pinned, served, before, gone, newest] = releases.as_slice() else {
        panic!()
    };
    store.pin(pinned, "audit of 2026").await.unwrap();
    let line = format!("{{\"n\":1,\"release\":\"{served}\",\"previous\":\"{before}\"}}");
    store
        .put_ledger("prod", "web1", 1, "ab", &line)
        .await
        .unwrap();
    backend.wait(60 * DAY);
    let retention = Retention {
        keep_last: 1,
        ..strict()
    };
    let kept: BTreeSet<_> = store
        .plan_gc(&retention)
        .await
        .unwrap()
        .kept
        .into_iter()
        .collect();
    assert_eq!(kept, BTreeSet::from([*pinned, *served, *before, *newest]));
    assert_eq!(store.plan_gc(&retention).await.unwrap().expired, [*gone]);

    // Served long ago, and something else since: the time decides.
    let line = format!("{{\"n\":2,\"release\":\"{newest}\",\"previous\":\"{newest}\"}}");
    store
        .put_ledger("prod", "web1", 2, "cd", &line)
        .await
        .unwrap();
    let kept = store.plan_gc(&retention).await.unwrap().kept;
    assert!(!kept.contains(served));

    assert!(store.unpin(pinned, "audit of 2026").await.unwrap());
    assert!(!store.unpin(pinned, "audit of 2026").await.unwrap());
    assert!(
        !store
            .plan_gc(&retention)
            .await
            .unwrap()
            .kept
            .contains(pinned)
    );
}

#[tokio::test]
async fn a_root_that_cannot_be_read_stops_the_collection() {
    let backend = Arc::new(MemoryBackend::default());
    let store = open(&backend).await;
    let release = import(&store, tree(&["x"]).path()).await.unwrap();
    backend.wait(60 * DAY);
    store
        .put_ledger("prod", "web1", 1, "ab", "no JSON")
        .await
        .unwrap();
    assert!(matches!(
        store.plan_gc(&strict()).await,
        Err(StoreError::Damaged { .. })
    ));
    let name = "environments/prod/ledger/web1/00000001-ab.json";
    backend.delete(name).await.unwrap();
    backend.damage(&format!("pins/{release}"), bytes::Bytes::new());
    assert!(matches!(
        store.plan_gc(&strict()).await,
        Err(StoreError::Damaged { .. })
    ));
}

#[tokio::test]
async fn a_release_that_is_pinned_while_it_goes_is_stored_again() {
    let backend = Arc::new(MemoryBackend::default());
    let store = open(&backend).await;
    let release = import(&store, tree(&["one", "two"]).path()).await.unwrap();
    backend.wait(60 * DAY);
    collect(&store, &strict()).await;
    backend.wait(DAY);
    let late = store.plan_gc(&strict()).await.unwrap();
    assert!(!late.delete.is_empty());
    open(&backend).await.pin(&release, "stay").await.unwrap();
    // The collector had looked before the pin was there, and deletes now.
    store.run_gc(&late, &|_| ()).await.unwrap();
    let store = open(&backend).await;
    readable(&store, &release).await.unwrap();
    assert_eq!(store.records(&release).await.unwrap().len(), 1);
    assert_eq!(store.releases_of_commit(COMMIT).await.unwrap(), [release]);
    let absent = ReleaseId::of(b"absent");
    assert!(matches!(
        store.pin(&absent, "x").await,
        Err(StoreError::NoRelease { .. })
    ));
    assert_eq!(store.pins().await.unwrap(), [(release, "stay".to_owned())]);
}

#[tokio::test]
async fn a_collector_that_stood_still_deletes_nothing() {
    let backend = Arc::new(MemoryBackend::default());
    let store = open(&backend).await;
    import(&store, tree(&["x"]).path()).await.unwrap();
    backend.wait(60 * DAY);
    let retention = Retention {
        grace: Duration::from_millis(1),
        ..strict()
    };
    collect(&store, &retention).await;
    backend.wait(DAY);
    let plan = store.plan_gc(&retention).await.unwrap();
    std::thread::sleep(Duration::from_millis(2));
    let before = names(&backend).await;
    assert!(matches!(
        store.run_gc(&plan, &|_| ()).await,
        Err(StoreError::PlanTooOld)
    ));
    assert_eq!(names(&backend).await, before);
}

#[tokio::test]
async fn many_small_bundles_become_one() {
    let backend = Arc::new(MemoryBackend::default());
    let store = open(&backend).await;
    let mut releases = Vec::new();
    for at in 0..40 {
        releases.push(
            import(&store, tree(&["same", &format!("{at}")]).path())
                .await
                .unwrap(),
        );
    }
    backend.wait(2 * DAY);
    collect(&store, &strict()).await;
    backend.wait(2 * DAY);
    collect(&store, &strict()).await;
    assert_eq!(backend.list("bundles/").await.unwrap().len(), 1);
    assert_eq!(backend.list("index/").await.unwrap().len(), 1);
    let store = open(&backend).await;
    for release in &releases {
        readable(&store, release).await.unwrap();
    }
}

#[tokio::test]
async fn what_steps_made_is_kept_as_long_as_its_derivation() {
    let backend = Arc::new(MemoryBackend::default());
    let store = open(&backend).await;
    let made = tree(&["made by a step"]);
    let root = ReleaseTree {
        root: made.path().to_owned(),
        layout: Layout::default(),
    };
    let output = store.import(&root, &|_| ()).await.unwrap().release;
    let key = crate::id::DerivationKey::of(b"key");
    let json = format!("{{\"tree\":\"{output}\"}}");
    store.put_derivation(&key, json.as_bytes()).await.unwrap();
    backend.wait(6 * DAY);
    assert!(store.plan_gc(&strict()).await.unwrap().bury.is_empty());
    backend.wait(2 * DAY);
    collect(&store, &strict()).await;
    backend.wait(2 * DAY);
    collect(&store, &strict()).await;
    let left = names(&backend).await;
    assert!(
        left.iter()
            .all(|name| name == "format.json" || name.starts_with("tombstones/")),
        "{left:?}"
    );
}

#[tokio::test]
async fn what_a_writer_that_was_ended_left_goes_and_foreign_names_stay() {
    let backend = Arc::new(MemoryBackend::default());
    let store = open(&backend).await;
    let root = ReleaseTree {
        root: tree(&["never published"]).keep(),
        layout: Layout::default(),
    };
    store.import(&root, &|_| ()).await.unwrap();
    std::fs::remove_dir_all(&root.root).unwrap();
    let foreign = Content::Bytes("mine".into());
    backend.put("notes/todo.txt", foreign).await.unwrap();
    assert!(
        store.plan_gc(&strict()).await.unwrap().bury.is_empty(),
        "young: somebody may be at work"
    );
    backend.wait(2 * DAY);
    collect(&store, &strict()).await;
    backend.wait(2 * DAY);
    collect(&store, &strict()).await;
    let left = names(&backend).await;
    let left: Vec<_> = left
        .iter()
        .filter(|name| !name.starts_with("tombstones/"))
        .collect();
    assert_eq!(left, ["format.json", "notes/todo.txt"]);
}

#[tokio::test]
async fn the_only_sound_copy_is_not_deleted() {
    let backend = Arc::new(MemoryBackend::default());
    let store = open(&backend).await;
    let mut releases = Vec::new();
    for at in 0..40 {
        let files = tree(&["same", &format!("{at}")]);
        releases.push(import(&store, files.path()).await.unwrap());
    }
    let before = backend.list("bundles/").await.unwrap();
    backend.wait(2 * DAY);
    collect(&store, &strict()).await;
    let listed = backend.list("bundles/").await.unwrap();
    let new = listed
        .into_iter()
        .find(|one| before.iter().all(|old| old.name != one.name));
    let new = new.unwrap().name;
    let whole = backend.get(&new).await.unwrap().unwrap();
    let mut bytes = whole.to_vec();
    bytes[100] ^= 1;
    backend.damage(&new, bytes.into());
    backend.wait(2 * DAY);
    let plan = store.plan_gc(&strict()).await.unwrap();
    assert_eq!(plan.delete.len(), 80);
    let error = store.run_gc(&plan, &|_| ()).await.unwrap_err();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
    let store = open(&backend).await;
    for release in &releases {
        readable(&store, release).await.unwrap();
    }
    backend.damage(&new, whole);
    backend.wait(2 * DAY);
    collect(&open(&backend).await, &strict()).await;
    assert_eq!(backend.list("bundles/").await.unwrap().len(), 1);
}

#[tokio::test]
async fn of_the_markers_of_a_release_the_newest_stays() {
    let backend = Arc::new(MemoryBackend::default());
    let files = tree(&["x"]);
    for _ in 0..5 {
        import(&open(&backend).await, files.path()).await.unwrap();
    }
    assert_eq!(backend.list("releases/").await.unwrap().len(), 5);
    let store = open(&backend).await;
    for _ in 0..2 {
        backend.wait(DAY);
        collect(&store, &strict()).await;
    }
    let left = backend.list("releases/").await.unwrap();
    assert_eq!(left.len(), 1);
    assert!(left[0].name.ends_with("-4"), "{left:?}");
    let release = import(&open(&backend).await, files.path()).await.unwrap();
    readable(&open(&backend).await, &release).await.unwrap();
}

#[tokio::test]
async fn a_bundle_that_was_there_already_and_goes_is_stored_again() {
    let backend = Arc::new(MemoryBackend::default());
    let files = tree(&["one", "two"]);
    let root = ReleaseTree {
        root: files.path().to_owned(),
        layout: Layout::default(),
    };
    let late = open(&backend).await;
    late.index().await.unwrap();
    // What a writer left that was ended; `late` has not seen it, and will pack the very same bundle.
    let ended = open(&backend).await;
    ended.import(&root, &|_| ()).await.unwrap();
    backend.wait(2 * DAY);
    collect(&open(&backend).await, &strict()).await;
    backend.wait(2 * DAY);
    let collector = open(&backend).await;
    let plan = collector.plan_gc(&strict()).await.unwrap();
    assert!(
        plan.delete
            .iter()
            .any(|dead| dead.name.starts_with("bundles/"))
    );
    let release = import(&late, files.path()).await.unwrap();
    collector.run_gc(&plan, &|_| ()).await.unwrap();
    readable(&open(&backend).await, &release).await.unwrap();
}
