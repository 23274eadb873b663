//! Work on a store that stops at its first operation, its second, and so on: nothing that was
//! reported is lost, nothing half done is seen, and the same work succeeds when it is done again.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::sync::Arc;

use relstore_store::backend::Backend;
use relstore_store::backend::local::LocalBackend;
use relstore_store::backend::memory::MemoryBackend;
use relstore_store::id::ReleaseId;
use relstore_store::testing::faulty::{Fault, FaultyBackend};
use relstore_store::testing::release::{self, DAY, is_sound, strict, tree};
use relstore_store::{Store, StoreError, transfer};

const FAULTS: [Fault; 4] = [Fault::Before, Fault::After, Fault::Full, Fault::Killed];

type Dynamic = Arc<dyn Backend>;

async fn import(backend: &Dynamic, root: &Path) -> Result<ReleaseId, StoreError> {
    let store = Store::open_backend(Arc::clone(backend)).await?;
    release::import(&store, root).await
}

async fn push(from: &Dynamic, to: &Dynamic, release: ReleaseId) -> Result<(), StoreError> {
    let from = Store::open_backend(Arc::clone(from)).await?;
    let to = Store::open_backend(Arc::clone(to)).await?;
    let plan = transfer::plan(&from, &to, &[release]).await?;
    transfer::run(&from, &to, &plan, &|_| ()).await?;
    Ok(())
}

async fn collect(backend: &Dynamic) -> Result<(), StoreError> {
    let store = Store::open_backend(Arc::clone(backend)).await?;
    let plan = store.plan_gc(&strict()).await?;
    store.run_gc(&plan, &|_| ()).await?;
    Ok(())
}

async fn pin(backend: &Dynamic, release: ReleaseId) -> Result<(), StoreError> {
    let store = Store::open_backend(Arc::clone(backend)).await?;
    store.pin(&release, "kept").await
}

async fn memory() -> (Arc<MemoryBackend>, Dynamic) {
    let memory = Arc::new(MemoryBackend::default());
    let backend: Dynamic = Arc::clone(&memory) as _;
    Store::create_backend(Arc::clone(&backend)).await.unwrap();
    (memory, backend)
}

/// When everything is old, nothing stays but what a pin keeps.
async fn nothing_is_left(memory: &MemoryBackend, backend: &Dynamic, case: &str) {
    for days in [31, 1, 1] {
        memory.wait(days * DAY);
        collect(backend).await.unwrap();
    }
    for object in backend.list("").await.unwrap() {
        let stays = ["format.json", "tombstones/", "probes/"];
        let stays = stays.iter().any(|start| object.name.starts_with(start));
        assert!(stays, "{case}: {} is left", object.name);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_stopped_at_any_operation() {
    let (old, new) = (tree(&["shared", "old"]), tree(&["shared", "new"]));
    let mut stops = 0;
    for fault in FAULTS {
        for at in 1.. {
            let case = format!("{fault:?} at {at}");
            let (memory, backend) = memory().await;
            let reported = import(&backend, old.path()).await.unwrap();
            let faulty = Arc::new(FaultyBackend::faulty(
                Arc::clone(&backend),
                fault.clone(),
                at,
            ));
            let done = import(&(Arc::clone(&faulty) as _), new.path()).await;
            if !faulty.was_met() {
                done.unwrap();
                break;
            }
            stops += 1;
            is_sound(&backend, &[reported], &case).await;
            let again = import(&backend, new.path()).await.unwrap();
            is_sound(&backend, &[reported, again], &case).await;
            nothing_is_left(&memory, &backend, &case).await;
        }
    }
    assert!(stops >= 40, "{stops}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_stopped_import_leaves_is_collected() {
    let new = tree(&["one", "two"]);
    for at in 1.. {
        let (memory, backend) = memory().await;
        let faulty = FaultyBackend::faulty(Arc::clone(&backend), Fault::Killed, at);
        if import(&(Arc::new(faulty) as _), new.path()).await.is_ok() {
            break;
        }
        nothing_is_left(&memory, &backend, &format!("killed at {at}")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_stopped_at_any_operation_of_either_side() {
    let (old, new) = (tree(&["shared", "old"]), tree(&["shared", "new"]));
    let (_, from) = memory().await;
    let first = import(&from, old.path()).await.unwrap();
    let second = import(&from, new.path()).await.unwrap();
    let mut stops = 0;
    for (fault, reader) in FAULTS
        .iter()
        .flat_map(|fault| [(fault, false), (fault, true)])
    {
        for at in 1.. {
            let case = format!("{fault:?} at {at}, reading side: {reader}");
            let (_, to) = memory().await;
            push(&from, &to, first).await.unwrap();
            let inner = Arc::clone(if reader { &from } else { &to });
            let faulty = Arc::new(FaultyBackend::faulty(inner, fault.clone(), at));
            let side: Dynamic = Arc::clone(&faulty) as _;
            let done = match reader {
                true => push(&side, &to, second).await,
                false => push(&from, &side, second).await,
            };
            if !faulty.was_met() {
                done.unwrap();
                break;
            }
            stops += 1;
            let reported = if done.is_ok() {
                vec![first, second]
            } else {
                vec![first]
            };
            is_sound(&to, &reported, &case).await;
            push(&from, &to, second).await.unwrap();
            is_sound(&to, &[first, second], &case).await;
        }
    }
    assert!(stops >= 80, "{stops}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collection_stopped_at_any_operation() {
    let (old, kept) = (tree(&["shared", "old", "older"]), tree(&["shared", "kept"]));
    let new = tree(&["shared", "kept", "new"]);
    let mut stops = 0;
    // The first gives tombstones, the later ones delete and put bundles together anew.
    for (fault, before) in FAULTS.iter().flat_map(|f| [(f, 0), (f, 1), (f, 2), (f, 3)]) {
        for at in 1.. {
            let case = format!("{fault:?} at {at} of collection {before}");
            let (memory, backend) = memory().await;
            import(&backend, old.path()).await.unwrap();
            let pinned = import(&backend, kept.path()).await.unwrap();
            pin(&backend, pinned).await.unwrap();
            memory.wait(31 * DAY);
            let young = import(&backend, new.path()).await.unwrap();
            for _ in 0..before {
                collect(&backend).await.unwrap();
                memory.wait(DAY);
            }
            let faulty = Arc::new(FaultyBackend::faulty(
                Arc::clone(&backend),
                fault.clone(),
                at,
            ));
            let done = collect(&(Arc::clone(&faulty) as _)).await;
            if !faulty.was_met() {
                done.unwrap();
                break;
            }
            stops += 1;
            is_sound(&backend, &[pinned, young], &case).await;
            // What has a tombstone may be needed again.
            let again = import(&backend, old.path()).await.unwrap();
            is_sound(&backend, &[pinned, young, again], &case).await;
            for _ in 0..3 {
                collect(&backend).await.unwrap();
                memory.wait(DAY);
            }
            is_sound(&backend, &[pinned, young, again], &case).await;
        }
    }
    assert!(stops >= 100, "{stops}");
}

#[tokio::test]
async fn a_pin_stopped_at_any_operation() {
    let old = tree(&["old"]);
    for fault in FAULTS {
        for at in 1.. {
            let case = format!("{fault:?} at {at}");
            let (memory, backend) = memory().await;
            let release = import(&backend, old.path()).await.unwrap();
            let faulty = Arc::new(FaultyBackend::faulty(
                Arc::clone(&backend),
                fault.clone(),
                at,
            ));
            let done = pin(&(Arc::clone(&faulty) as _), release).await;
            if !faulty.was_met() {
                done.unwrap();
                break;
            }
            pin(&backend, release).await.unwrap();
            for _ in 0..3 {
                memory.wait(31 * DAY);
                collect(&backend).await.unwrap();
            }
            is_sound(&backend, &[release], &case).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_torn_in_a_folder_is_never_an_object() {
    let (old, new) = (tree(&["shared", "old"]), tree(&["shared", "new"]));
    for at in 1.. {
        let case = format!("torn at {at}");
        let root = tempfile::tempdir().unwrap();
        let at_root = root.path().join("store");
        Store::open_or_create(&at_root).await.unwrap();
        let backend: Dynamic = Arc::new(LocalBackend::new(at_root.clone()));
        let reported = import(&backend, old.path()).await.unwrap();
        let fault = Fault::Torn(at_root.clone());
        let faulty = Arc::new(FaultyBackend::faulty(Arc::clone(&backend), fault, at));
        let done = import(&(Arc::clone(&faulty) as _), new.path()).await;
        if !faulty.was_met() {
            done.unwrap();
            break;
        }
        is_sound(&backend, &[reported], &case).await;
        let again = import(&backend, new.path()).await.unwrap();
        is_sound(&backend, &[reported, again], &case).await;
    }
}
