//! The damage matrix: every kind of damage to every kind of object, then the next operation.
//!
//! What a quick check finds: everything but damage inside of frames. What no check finds, because
//! nothing tells that it was ever there: a deleted record without signature, signature,
//! derivation, commit, tombstone or pin.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use relstore_store::backend::memory::MemoryBackend;
use relstore_store::backend::{Backend, Content};
use relstore_store::fsck::{Depth, Report, check, repair};
use relstore_store::id::{DerivationKey, ReleaseId};
use relstore_store::import::{Layout, ReleaseTree};
use relstore_store::signature::{KeySigner, Namespace, Signer};
use relstore_store::testing::faulty::{Fault, FaultyBackend};
use relstore_store::{Store, StoreError};

const BASE: &str = "environments/prod/ledger/web1";

/// A store with three releases that share nothing, and one of everything.
struct Fixture {
    objects: BTreeMap<String, Bytes>,
    /// Is damaged, the other one of its kind in a swap, and is never touched.
    releases: [ReleaseId; 3],
    trees: Vec<tempfile::TempDir>,
}

fn noise(seed: &str, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    let mut hasher = blake3::Hasher::new();
    hasher.update(seed.as_bytes());
    hasher.finalize_xof().fill(&mut bytes);
    bytes
}

fn tree(seed: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for number in 0..3 {
        let name = folder.path().join(format!("file-{number}.txt"));
        std::fs::write(name, noise(&format!("{seed} {number}"), 200_000)).unwrap();
    }
    std::fs::write(folder.path().join("long.bin"), noise(seed, 1_700_000)).unwrap();
    std::fs::write(
        folder.path().join("small.php"),
        format!("<?php // {seed}\n"),
    )
    .unwrap();
    folder
}

async fn import(store: &Store, root: &Path) -> Result<ReleaseId, StoreError> {
    let tree = ReleaseTree {
        root: root.to_owned(),
        layout: Layout::default(),
    };
    let release = store.import(&tree, &|_| ()).await?.release;
    store.publish(&release).await?;
    Ok(release)
}

fn signer() -> KeySigner {
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key");
    let made = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-f"])
        .arg(&key)
        .output()
        .unwrap();
    assert!(made.status.success());
    KeySigner::parse(&std::fs::read_to_string(key).unwrap()).unwrap()
}

async fn fixture() -> Fixture {
    let backend = Arc::new(MemoryBackend::default());
    let store = Store::create_backend(Arc::clone(&backend) as Arc<dyn Backend>)
        .await
        .unwrap();
    let signer = signer();
    let (mut releases, mut trees) = (Vec::new(), Vec::new());
    for name in ["damaged", "other", "untouched"] {
        let tree = tree(name);
        let release = import(&store, tree.path()).await.unwrap();
        let json = format!("{{\"about\":\"{name}\"}}");
        let record = store.put_record(&release, json.as_bytes()).await.unwrap();
        let signature = signer
            .sign(Namespace::Record, json.as_bytes())
            .await
            .unwrap();
        store
            .put_signature(&release, &record, &signature)
            .await
            .unwrap();
        store
            .put_record(&release, format!("{json} ").as_bytes())
            .await
            .unwrap();
        store
            .add_commit(&blake3::hash(name.as_bytes()).to_hex()[..40], &release)
            .await
            .unwrap();
        store.pin(&release, "live").await.unwrap();
        let key = DerivationKey::of(name.as_bytes());
        let made = format!("{{\"version\":1,\"tree\":\"{release}\"}}");
        store.put_derivation(&key, made.as_bytes()).await.unwrap();
        releases.push(release);
        trees.push(tree);
    }
    let mut prev = "0".repeat(64);
    for number in 1..=4 {
        let line = format!(
            "{{\"n\":{number},\"prev\":\"{prev}\",\"release\":\"{}\",\"previous\":null}}",
            releases[0]
        );
        prev = blake3::hash(line.as_bytes()).to_hex().to_string();
        store
            .put_ledger("prod", "web1", number, &prev, &line)
            .await
            .unwrap();
    }
    for name in ["manifests/x", "manifests/y"] {
        let name = format!("tombstones/{}", name.replace('/', "%2f"));
        let content = Content::Bytes(Bytes::from_static(b"relstore-tombstone 1\n"));
        backend.put(&name, content).await.unwrap();
    }
    Fixture {
        objects: objects(backend.as_ref()).await,
        releases: releases.try_into().unwrap(),
        trees,
    }
}

async fn objects(backend: &dyn Backend) -> BTreeMap<String, Bytes> {
    let mut objects = BTreeMap::new();
    for object in backend.list("").await.unwrap() {
        let bytes = backend.get(&object.name).await.unwrap().unwrap();
        objects.insert(object.name, bytes);
    }
    objects
}

fn backend_of(objects: &BTreeMap<String, Bytes>) -> Arc<MemoryBackend> {
    let backend = MemoryBackend::default();
    for (name, bytes) in objects {
        backend.damage(name, bytes.clone());
    }
    Arc::new(backend)
}

fn dynamic(backend: &Arc<MemoryBackend>) -> Arc<dyn Backend> {
    Arc::clone(backend) as Arc<dyn Backend>
}

/// Whether the release can be laid out; every byte is verified then.
async fn readable(backend: &Arc<MemoryBackend>, release: &ReleaseId) -> bool {
    let Ok(store) = Store::open_backend(dynamic(backend)).await else {
        return false;
    };
    let out = tempfile::Builder::new().tempdir_in(fast()).unwrap();
    store.has_release(release).await.unwrap() && store.checkout(release, out.path()).await.is_ok()
}

fn fast() -> PathBuf {
    let memory = PathBuf::from("/dev/shm");
    if memory.is_dir() {
        memory
    } else {
        std::env::temp_dir()
    }
}

async fn mend(
    backend: &Arc<dyn Backend>,
    depth: Depth,
    sources: &[Store],
) -> Result<Report, StoreError> {
    let report = check(backend, depth, &|_| ()).await?;
    let outcome = repair::mend(backend, report, sources, &|_| (), &|_| ()).await?;
    Ok(outcome.report)
}

/// Where in an object's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Start,
    Middle,
    End(usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Damage {
    Delete,
    Truncate,
    Flip(At),
    Swap,
    Append,
}

const DAMAGES: [Damage; 7] = [
    Damage::Delete,
    Damage::Truncate,
    Damage::Flip(At::Start),
    Damage::Flip(At::Middle),
    Damage::Flip(At::End(2)),
    Damage::Swap,
    Damage::Append,
];

/// The damaged objects, or `None` when this damage changes nothing.
fn damaged(
    objects: &BTreeMap<String, Bytes>,
    name: &str,
    other: &str,
    damage: Damage,
) -> Option<BTreeMap<String, Bytes>> {
    let mut after = objects.clone();
    let mut bytes = objects[name].to_vec();
    match damage {
        Damage::Delete => {
            after.remove(name);
            return Some(after);
        }
        Damage::Swap => {
            after.insert(name.to_owned(), objects[other].clone());
            after.insert(other.to_owned(), bytes.into());
            return (after != *objects).then_some(after);
        }
        Damage::Append => bytes.push(b'x'),
        Damage::Truncate if !bytes.is_empty() => bytes.truncate(bytes.len() / 2),
        Damage::Flip(at) if !bytes.is_empty() => {
            let at = match at {
                At::Start => 2.min(bytes.len() - 1),
                At::Middle => bytes.len() / 2,
                At::End(back) => bytes.len() - back,
            };
            bytes[at] ^= 4;
        }
        _ => return None,
    }
    after.insert(name.to_owned(), bytes.into());
    Some(after)
}

/// Kind, object of the first release, and the same of the second.
fn kinds(fixture: &Fixture) -> Vec<(&'static str, String, String)> {
    let [first, second, _] = fixture.releases;
    let commit = |name: &str| blake3::hash(name.as_bytes()).to_hex()[..40].to_owned();
    let names: Vec<&String> = fixture.objects.keys().collect();
    let one = |prefix: &str, ending: &str| {
        let found = names
            .iter()
            .find(|name| name.starts_with(prefix) && name.ends_with(ending));
        (*found.unwrap()).clone()
    };
    let two = |kind, a: String, b: String, ending| (kind, one(&a, ending), one(&b, ending));
    let ledgers: Vec<String> = names
        .iter()
        .filter(|name| name.starts_with(BASE))
        .map(|n| (*n).clone())
        .collect();
    let record = |release: ReleaseId, signed: bool| {
        let folder = format!("records/{release}/");
        let has = |name: &str| {
            names
                .iter()
                .any(|sig| sig.ends_with(".sig") && sig.starts_with(name.trim_end_matches("json")))
        };
        let mut records = names
            .iter()
            .filter(|name| name.starts_with(&folder) && name.ends_with(".json"));
        (*records.find(|name| has(name) == signed).unwrap()).clone()
    };
    // Bundles of the first and second release, by what lies in them.
    let bundle = |release: ReleaseId| bundle_of(fixture, release);
    let (a, b) = (bundle(first), bundle(second));
    let index = |bundle: &str| bundle.replace("bundles/", "index/").replace(".tar.zst", "");
    vec![
        ("format", "format.json".into(), "format.json".into()),
        ("bundle", a.clone(), b.clone()),
        ("index", index(&a), index(&b)),
        two(
            "manifest",
            format!("manifests/{first}"),
            format!("manifests/{second}"),
            "",
        ),
        two(
            "marker",
            format!("releases/{first}"),
            format!("releases/{second}"),
            "",
        ),
        ("signed record", record(first, true), record(second, true)),
        ("record", record(first, false), record(second, false)),
        two(
            "signature",
            format!("records/{first}"),
            format!("records/{second}"),
            ".sig",
        ),
        two(
            "derivation",
            format!("derivations/{}", DerivationKey::of(b"damaged")),
            format!("derivations/{}", DerivationKey::of(b"other")),
            ".json",
        ),
        two(
            "commit",
            format!("refs/commits/{}", commit("damaged")),
            format!("refs/commits/{}", commit("other")),
            "",
        ),
        ("ledger", ledgers[1].clone(), ledgers[2].clone()),
        two(
            "tombstone",
            "tombstones/manifests%2fx".into(),
            "tombstones/manifests%2fy".into(),
            "",
        ),
        two("pin", format!("pins/{first}"), format!("pins/{second}"), ""),
    ]
}

fn bundle_of(fixture: &Fixture, release: ReleaseId) -> String {
    let at = fixture
        .releases
        .iter()
        .position(|other| *other == release)
        .unwrap();
    let blob = std::fs::read(fixture.trees[at].path().join("small.php")).unwrap();
    let blob = blake3::hash(&blob);
    let holds = |bytes: &Bytes| bytes.windows(32).any(|window| window == blob.as_bytes());
    let found = fixture
        .objects
        .iter()
        .find(|(name, bytes)| name.starts_with("bundles/") && holds(bytes));
    found.unwrap().0.clone()
}

/// Nothing tells that it was there.
fn leaves_no_trace(kind: &str, damage: Damage) -> bool {
    let kinds = [
        "record",
        "signature",
        "derivation",
        "commit",
        "tombstone",
        "pin",
    ];
    damage == Damage::Delete && kinds.contains(&kind)
}

fn is_quick(kind: &str, damage: Damage) -> bool {
    kind != "bundle" || !matches!(damage, Damage::Flip(At::Start | At::Middle))
}

fn found(report: &Result<Report, StoreError>, before: &Report) -> bool {
    match report {
        Ok(report) => !report.is_clean() || report.notes.len() > before.notes.len(),
        Err(_) => false,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_damage_is_found_spreads_nowhere_and_is_mended() {
    let fixture = fixture().await;
    let [first, second, untouched] = fixture.releases;
    let clean = check(
        &dynamic(&backend_of(&fixture.objects)),
        Depth::Full,
        &|_| (),
    )
    .await
    .unwrap();
    assert!(clean.is_clean(), "{:?}", clean.problems);
    for (kind, name, other) in kinds(&fixture) {
        for damage in DAMAGES {
            let Some(broken) = damaged(&fixture.objects, &name, &other, damage) else {
                continue;
            };
            let case = format!("{damage:?} of {kind} {name}");
            let backend = backend_of(&broken);
            let over = dynamic(&backend);
            let quick = check(&over, Depth::Quick, &|_| ()).await;
            let full = check(&over, Depth::Full, &|_| ()).await;
            assert_eq!(
                objects(backend.as_ref()).await,
                broken,
                "{case}: a check wrote"
            );
            assert_ne!(
                found(&full, &clean),
                leaves_no_trace(kind, damage),
                "{case}: {full:?}"
            );
            let quickly = is_quick(kind, damage) && !leaves_no_trace(kind, damage);
            assert_eq!(found(&quick, &clean), quickly, "{case}: {quick:?}");

            // The next operation: what is whole stays whole, and says what is not.
            let before = [
                readable(&backend, &first).await,
                readable(&backend, &second).await,
            ];
            if kind != "format" {
                assert!(readable(&backend, &untouched).await, "{case}");
                let store = Store::open_backend(dynamic(&backend)).await.unwrap();
                store.releases().await.unwrap();
                match import(&store, fixture.trees[0].path()).await {
                    Ok(again) => assert_eq!(again, first),
                    Err(error) => {
                        let told = format!("{error} {}", error.hint().unwrap_or_default());
                        assert!(
                            told.contains("fsck --repair") || told.contains(&name),
                            "{case}: {told}"
                        );
                    }
                }
                assert!(
                    readable(&backend, &untouched).await,
                    "{case}: after an import"
                );
                let after = check(&over, Depth::Full, &|_| ()).await.unwrap();
                let known = |object: &str| {
                    full.as_ref()
                        .unwrap()
                        .problems
                        .iter()
                        .any(|p| p.object == object)
                };
                let spread: Vec<_> = after
                    .problems
                    .iter()
                    .filter(|p| !known(&p.object))
                    .collect();
                assert!(spread.is_empty(), "{case}: {spread:?}");
            }

            // Without another copy nothing more is lost.
            let backend = backend_of(&broken);
            let left = mend(&dynamic(&backend), Depth::Full, &[]).await.unwrap();
            assert!(
                readable(&backend, &untouched).await,
                "{case}: after a repair alone"
            );
            for (release, was) in [(first, before[0]), (second, before[1])] {
                assert!(
                    !was || readable(&backend, &release).await,
                    "{case}: lost by a repair alone"
                );
            }
            let told = full.as_ref().unwrap();
            assert!(
                left.problems.len() <= told.problems.len(),
                "{case}: {:?}",
                left.problems
            );

            // With one all is well.
            let replica = Store::open_backend(dynamic(&backend_of(&fixture.objects)))
                .await
                .unwrap();
            let backend = backend_of(&broken);
            let left = mend(&dynamic(&backend), Depth::Full, &[replica])
                .await
                .unwrap();
            assert!(left.is_clean(), "{case}: {:?}", left.problems);
            assert_eq!(left.notes, clean.notes, "{case}");
            for release in fixture.releases {
                assert!(readable(&backend, &release).await, "{case}: after a repair");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repair_stopped_at_any_write_loses_nothing_and_runs_again() {
    let fixture = fixture().await;
    let [first, second, untouched] = fixture.releases;
    // Something of everything at once.
    let mut broken = fixture.objects.clone();
    for (kind, name, other) in kinds(&fixture) {
        let (name, damage) = match kind {
            "bundle" => (name, Damage::Flip(At::Middle)),
            "index" => (other, Damage::Truncate),
            "marker" => (name, Damage::Delete),
            "manifest" => (other, Damage::Truncate),
            "format" | "commit" => continue,
            _ => (name, Damage::Append),
        };
        broken = damaged(&broken, &name, &name, damage).unwrap();
    }
    let replica = backend_of(&fixture.objects);
    let mut stops = 0;
    for fault in [Fault::Before, Fault::After] {
        for call in 1.. {
            let inner = backend_of(&broken);
            let faulty = FaultyBackend::faulty_write(dynamic(&inner), fault.clone(), call);
            let faulty: Arc<dyn Backend> = Arc::new(faulty);
            let source = Store::open_backend(dynamic(&replica)).await.unwrap();
            if mend(&faulty, Depth::Full, &[source]).await.is_ok() {
                break; // fewer writes than `call`
            }
            stops += 1;
            assert!(readable(&inner, &untouched).await, "{fault:?} {call}");
            let source = Store::open_backend(dynamic(&replica)).await.unwrap();
            let left = mend(&dynamic(&inner), Depth::Full, &[source])
                .await
                .unwrap();
            assert!(left.is_clean(), "{fault:?} {call}: {:?}", left.problems);
            for release in [first, second, untouched] {
                assert!(readable(&inner, &release).await, "{fault:?} {call}");
            }
            let records = Store::open_backend(dynamic(&inner))
                .await
                .unwrap()
                .records(&first)
                .await
                .unwrap();
            assert_eq!(records.len(), 2, "{fault:?} {call}");
        }
    }
    assert!(stops >= 20, "{stops}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_copy_is_passed_over_while_another_one_is_good() {
    let fixture = fixture().await;
    let [first, _, _] = fixture.releases;
    let bundle = bundle_of(&fixture, first);
    let index = bundle.replace("bundles/", "index/").replace(".tar.zst", "");
    let (copy, copy_index) = (
        bundle.replace("-0.tar", "-1.tar"),
        index.replace("-0", "-1"),
    );
    // Both copies are damaged, in different places; a third name has a table that cannot be read.
    let mut objects = fixture.objects.clone();
    let (mut one, mut two) = (objects[&bundle].to_vec(), objects[&bundle].to_vec());
    one[1000] ^= 1;
    let late = two.len() - 1000;
    two[late] ^= 1;
    objects.insert(copy_index, objects[&index].clone());
    objects.insert(copy, two.into());
    objects.insert(bundle.clone(), one.into());
    objects.insert(
        bundle.replace("-0.tar", "-2.tar"),
        Bytes::from_static(b"no bundle"),
    );
    let backend = backend_of(&objects);
    assert!(readable(&backend, &first).await);
    let report = check(&dynamic(&backend), Depth::Full, &|_| ())
        .await
        .unwrap();
    assert!(
        report.problems.len() >= 3 && report.by_release().is_empty(),
        "{report:?}"
    );
    // What both have is put together.
    let left = mend(&dynamic(&backend), Depth::Full, &[]).await.unwrap();
    assert!(left.is_clean(), "{:?}", left.problems);
    assert!(readable(&backend, &first).await);

    // A blob that only the unreadable bundle may have is an error that names it.
    objects.retain(|name, _| *name != index && !name.ends_with("-1.tar.zst"));
    objects.insert(bundle.clone(), Bytes::from_static(b"nothing"));
    let store = Store::open_backend(dynamic(&backend_of(&objects)))
        .await
        .unwrap();
    let out = tempfile::tempdir().unwrap();
    let error = store.checkout(&first, out.path()).await.unwrap_err();
    assert!(error.to_string().contains("bundles/"), "{error}");
    assert!(error.hint().unwrap().contains("fsck --repair"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_derivation_is_as_good_as_none() {
    let fixture = fixture().await;
    let key = DerivationKey::of(b"damaged");
    let mut objects = fixture.objects.clone();
    for (name, bytes) in &mut objects {
        if name.starts_with(&format!("derivations/{key}")) {
            *bytes = Bytes::from_static(b"{}");
        }
    }
    let store = Store::open_backend(dynamic(&backend_of(&objects)))
        .await
        .unwrap();
    assert!(store.derivations(&key).await.unwrap().is_empty());
}

#[test]
fn random_damage_is_never_made_worse_and_a_copy_mends_it() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let fixture = runtime.block_on(fixture());
    let names: Vec<String> = fixture
        .objects
        .keys()
        .filter(|name| *name != "format.json")
        .cloned()
        .collect();
    let hit = (
        0..names.len(),
        0usize..4,
        any::<prop::sample::Index>(),
        any::<prop::sample::Index>(),
    );
    let config = ProptestConfig {
        cases: 16,
        max_shrink_iters: 8,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    proptest!(config, |(hits in proptest::collection::vec(hit, 1..6))| {
        let mut broken = fixture.objects.clone();
        for (object, how, at, other) in hits {
            let name = &names[object];
            let Some(bytes) = broken.get(name).cloned() else { continue };
            let mut bytes = bytes.to_vec();
            match how {
                0 => { broken.remove(name); continue }
                1 if !bytes.is_empty() => { let at = at.index(bytes.len()); bytes[at] ^= 1 << other.index(8) }
                2 if !bytes.is_empty() => { let at = at.index(bytes.len()); bytes.truncate(at) }
                _ => bytes = broken.get(&names[other.index(names.len())]).cloned().unwrap_or_default().to_vec(),
            }
            broken.insert(name.clone(), bytes.into());
        }
        runtime.block_on(async {
            let backend = backend_of(&broken);
            let mut before = Vec::new();
            for release in fixture.releases {
                before.push(readable(&backend, &release).await);
            }
            let backend = backend_of(&broken);
            mend(&dynamic(&backend), Depth::Full, &[]).await.unwrap();
            for (release, was) in fixture.releases.iter().zip(before) {
                assert!(!was || readable(&backend, release).await);
            }
            let replica = Store::open_backend(dynamic(&backend_of(&fixture.objects))).await.unwrap();
            let left = mend(&dynamic(&backend), Depth::Full, &[replica]).await.unwrap();
            assert!(left.is_clean(), "{:?}", left.problems);
        });
    });
}
