//! A crash of the machine: what was not synced is lost, or there, in any order. Every state that an
//! import may leave in a folder holds what was reported, shows nothing torn and can be worked on.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use relstore_store::Store;
use relstore_store::backend::Backend;
use relstore_store::backend::local::LocalBackend;
use relstore_store::id::ReleaseId;
use relstore_store::testing::release::{self, is_sound, tree};
use relstore_store::testing::traced::{Effect, take};

async fn import(at: &Path, root: &Path) -> ReleaseId {
    let store = Store::open_or_create(at).await.unwrap();
    release::import(&store, root).await.unwrap()
}

/// Makes in `to` one state after a crash behind these effects: `coin` says what of the rest is there.
fn crashed(from: &Path, to: &Path, effects: &[Effect], old: &BTreeSet<PathBuf>, coin: &mut u64) {
    let mut flip = || {
        *coin ^= *coin << 13;
        *coin ^= *coin >> 7;
        *coin ^= *coin << 17;
        (*coin).is_multiple_of(2)
    };
    let there = |path: &Path| to.join(path.strip_prefix(from).unwrap());
    std::fs::create_dir_all(to).unwrap();
    for path in old {
        if path.is_dir() {
            std::fs::create_dir_all(there(path)).unwrap();
        } else {
            std::fs::create_dir_all(there(path).parent().unwrap()).unwrap();
            std::fs::copy(path, there(path)).unwrap();
        }
    }
    for (at, effect) in effects.iter().enumerate() {
        let (Effect::Made(path) | Effect::Named(path)) = effect else {
            continue;
        };
        let folder = Effect::SyncedFolder(path.parent().unwrap().to_owned());
        let durable = effects.iter().skip(at).any(|later| *later == folder);
        if !path.starts_with(from) || path == from || !(durable || flip()) {
            continue;
        }
        let new = there(path);
        if !new.parent().unwrap().is_dir() {
            continue; // lost with its folder
        }
        if matches!(effect, Effect::Made(_)) {
            std::fs::create_dir_all(new).unwrap();
            continue;
        }
        let bytes = std::fs::read(path).unwrap();
        let synced = effects
            .iter()
            .take(at)
            .any(|e| *e == Effect::Synced(path.clone()));
        let kept = if synced || flip() {
            bytes.len()
        } else {
            bytes.len() / 2
        };
        std::fs::write(new, bytes.get(..kept).unwrap()).unwrap();
    }
}

async fn sound(at: &Path, reported: &[ReleaseId], case: &str) {
    let backend: Arc<dyn Backend> = Arc::new(LocalBackend::new(at.to_owned()));
    is_sound(&backend, reported, case).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_state_a_crash_may_leave_of_an_import_is_sound() {
    let (old, new) = (tree(&["shared", "old"]), tree(&["shared", "new"]));
    // In memory where that is possible: what the disk did is simulated.
    let memory = Path::new("/dev/shm");
    let place = if memory.is_dir() {
        memory.to_owned()
    } else {
        std::env::temp_dir()
    };
    let root = tempfile::tempdir_in(place).unwrap();
    let from = root.path().join("store");
    let first = import(&from, old.path()).await;
    let walk = walkdir::WalkDir::new(&from).into_iter();
    let before = walk.map(|entry| entry.unwrap().into_path()).collect();
    take();
    let second = import(&from, new.path()).await;
    let effects = take();
    assert!(effects.len() >= 15, "{effects:?}");
    let mut coin = 0x9e37_79b9_7f4a_7c15;
    let mut states = 0;
    for end in 0..=effects.len() {
        for _ in 0..12 {
            let case = format!("after {end} effects, state {states}");
            let to = root.path().join(format!("crash-{states}"));
            let behind = effects.get(..end).unwrap();
            crashed(&from, &to, behind, &before, &mut coin);
            let all = [first, second];
            let reported = if end == effects.len() {
                &all[..]
            } else {
                &all[..1]
            };
            sound(&to, reported, &case).await;
            import(&to, new.path()).await;
            sound(&to, &all, &case).await;
            std::fs::remove_dir_all(&to).unwrap();
            states += 1;
        }
    }
    assert!(states >= 200, "{states}");
}
