//! A store from the outside: import, read back, damage, faults, and recovery with other tools.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use relstore_store::backend::local::LocalBackend;
use relstore_store::id::{BlobId, IdPrefix, ReleaseId};
use relstore_store::import::{Imported, Layout, ReleaseTree};
use relstore_store::manifest::Kind;
use relstore_store::name::EntryPath;
use relstore_store::testing::watched::{Fate, Operation, Verb, Watch, WatchedBackend};
use relstore_store::{Store, StoreError};

fn path(text: &str) -> EntryPath {
    EntryPath::new(text).unwrap()
}

/// A tree with every kind of entry, and a file that runs through several frames.
fn tree(root: &Path) -> ReleaseTree {
    let write = |name: &str, content: &[u8]| {
        let file = root.join(name);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, content).unwrap();
    };
    write("artisan", b"#!/usr/bin/env php\n");
    std::fs::set_permissions(root.join("artisan"), PermissionsExt::from_mode(0o755)).unwrap();
    write("app/One.php", b"<?php class One {}\n");
    write("app/Same.php", b"<?php class One {}\n");
    write("app/empty", b"");
    write("public/big.bin", &big());
    write("storage/logs/.gitignore", b"*\n");
    std::fs::create_dir_all(root.join("resources/none")).unwrap();
    std::fs::create_dir_all(root.join("bootstrap/cache")).unwrap();
    symlink("../storage/app/public", root.join("public/storage")).unwrap();
    ReleaseTree {
        root: root.to_owned(),
        layout: Layout {
            shared_files: vec![path(".env")],
            shared_dirs: vec![path("storage")],
            writable_dirs: vec![path("bootstrap/cache")],
        },
    }
}

/// 3.3 MB that do not compress.
fn big() -> Vec<u8> {
    let mut bytes = vec![0; 3_300_001];
    blake3::Hasher::new_derive_key("test")
        .finalize_xof()
        .fill(&mut bytes);
    bytes
}

async fn build(store: &Store, tree: &ReleaseTree) -> Result<Imported, StoreError> {
    let imported = store.import(tree, &|_| {}).await?;
    store.put_record(&imported.release, b"{}\n").await?;
    store.publish(&imported.release).await?;
    Ok(imported)
}

fn files(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    walkdir::WalkDir::new(root)
        .into_iter()
        .map(Result::unwrap)
        .filter(|entry| entry.file_type().is_file())
        .map(|entry| {
            (
                entry.path().strip_prefix(root).unwrap().to_owned(),
                std::fs::read(entry.path()).unwrap(),
            )
        })
        .collect()
}

struct Setup {
    _folder: tempfile::TempDir,
    tree: ReleaseTree,
    at: PathBuf,
    root: PathBuf,
}

fn setup() -> Setup {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("tree");
    std::fs::create_dir(&root).unwrap();
    Setup {
        tree: tree(&root),
        at: folder.path().join("store"),
        root,
        _folder: folder,
    }
}

#[tokio::test]
async fn what_goes_in_comes_out() {
    let s = setup();
    let store = Store::open_or_create(&s.at).await.unwrap();
    let imported = build(&store, &s.tree).await.unwrap();
    let text = store.manifest_text(&imported.release).await.unwrap();
    assert_eq!(ReleaseId::of(&text), imported.release);
    assert_eq!(imported.new_blobs, 5, "two of six files are equal");

    let out = s.at.parent().unwrap().join("out");
    std::fs::create_dir(&out).unwrap();
    store.checkout(&imported.release, &out).await.unwrap();
    assert_eq!(files(&out), files(&s.root));
    assert_eq!(
        std::fs::read_link(out.join("public/storage")).unwrap(),
        Path::new("../storage/app/public")
    );
    assert_eq!(
        std::fs::metadata(out.join("artisan"))
            .unwrap()
            .permissions()
            .mode()
            & 0o777,
        0o755
    );
    assert!(out.join("resources/none").is_dir() && out.join("bootstrap/cache").is_dir());

    // Opened anew, everything is found by its names.
    let store = Store::open(&s.at).await.unwrap();
    assert_eq!(store.releases().await.unwrap(), [imported.release]);
    assert_eq!(store.latest().await.unwrap(), Some(imported.release));
    let prefix = IdPrefix::parse(&imported.release.to_string()[..8]).unwrap();
    assert_eq!(store.find(&prefix).await.unwrap(), [imported.release]);
    assert_eq!(store.read_blob(&BlobId::of(&big())).await.unwrap(), big());
    assert_eq!(store.records(&imported.release).await.unwrap().len(), 1);
    assert!(matches!(
        store.read_blob(&BlobId::of(b"?")).await,
        Err(StoreError::NoBlob { .. })
    ));
}

#[tokio::test]
async fn a_second_import_stores_only_what_is_new() {
    let s = setup();
    let store = Store::open_or_create(&s.at).await.unwrap();
    let first = build(&store, &s.tree).await.unwrap();
    let before = files(&s.at);
    let again = build(&store, &s.tree).await.unwrap();
    assert_eq!(
        (again.release, again.new_blobs, again.stored_bytes),
        (first.release, 0, 0)
    );
    // One more marker says that the release is wanted now.
    let added: Vec<_> = files(&s.at)
        .into_iter()
        .filter(|file| !before.contains_key(&file.0))
        .collect();
    let marker = PathBuf::from(format!("releases/{}-1", first.release));
    assert_eq!(added, [(marker, b"relstore-release 1\n".to_vec())]);

    std::fs::write(
        s.root.join("app/One.php"),
        "<?php class One { public $x; }\n",
    )
    .unwrap();
    let next = build(&store, &s.tree).await.unwrap();
    assert_ne!(next.release, first.release);
    assert_eq!(next.new_blobs, 1);
    assert!(next.stored_bytes < 2000, "{}", next.stored_bytes);
    // The store that was open during the import reads the new blob too.
    let entry = next.manifest.get(&path("app/One.php")).unwrap();
    store
        .read_blob(&entry.kind.content().unwrap().0)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_manifest_that_another_zstd_compressed_is_kept() {
    let s = setup();
    let store = Store::open_or_create(&s.at).await.unwrap();
    let first = build(&store, &s.tree).await.unwrap();
    let file = s.at.join(format!("manifests/{}", first.release));
    let other = zstd::bulk::compress(&first.manifest.to_text(), 19).unwrap();
    assert_ne!(std::fs::read(&file).unwrap(), other);
    std::fs::remove_file(&file).unwrap();
    std::fs::write(&file, &other).unwrap();
    assert_eq!(build(&store, &s.tree).await.unwrap().release, first.release);
    assert_eq!(std::fs::read(&file).unwrap(), other);
    // A damaged one is not taken for it.
    std::fs::write(&file, &other[1..]).unwrap();
    assert!(matches!(
        build(&store, &s.tree).await,
        Err(StoreError::Damaged { .. })
    ));
}

#[tokio::test]
async fn zstd_tar_and_b3sum_recover_everything() {
    let s = setup();
    let store = Store::open_or_create(&s.at).await.unwrap();
    let imported = build(&store, &s.tree).await.unwrap();
    let bundle = std::fs::read_dir(s.at.join("bundles"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let out = s.at.parent().unwrap().join("by-hand");
    std::fs::create_dir(&out).unwrap();
    let script = "zstd -dc \"$1\" | tar -x -C \"$2\" && tar --zstd -tf \"$1\" > /dev/null";
    let done = Command::new("sh")
        .args(["-ec", script, "sh"])
        .arg(&bundle)
        .arg(&out)
        .output()
        .unwrap();
    assert!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
    assert!(
        done.stderr.is_empty(),
        "tar complains: {}",
        String::from_utf8_lossy(&done.stderr)
    );
    let wanted = imported.manifest.blobs();
    let found = files(&out);
    assert_eq!(found.len(), wanted.len());
    for (name, content) in found {
        assert_eq!(name.to_str().unwrap(), BlobId::of(&content).to_string());
    }
    // The bundle's name and the marker can be checked by hand as well.
    let sum = Command::new("b3sum")
        .arg("--no-names")
        .arg(&bundle)
        .output()
        .unwrap();
    let name = bundle.file_name().unwrap().to_str().unwrap().to_owned();
    assert_eq!(
        format!(
            "{}-0.tar.zst",
            String::from_utf8(sum.stdout).unwrap().trim()
        ),
        name
    );
}

#[tokio::test]
async fn a_lost_index_is_rebuilt_from_its_bundle() {
    let s = setup();
    let imported = build(&Store::open_or_create(&s.at).await.unwrap(), &s.tree)
        .await
        .unwrap();
    let before = files(&s.at);
    std::fs::remove_dir_all(s.at.join("index")).unwrap();
    let store = Store::open(&s.at).await.unwrap();
    for blob in imported.manifest.blobs().keys() {
        store.read_blob(blob).await.unwrap();
    }
    assert_eq!(files(&s.at), before);
}

#[tokio::test]
async fn damage_is_found_when_read_and_named() {
    let s = setup();
    let imported = build(&Store::open_or_create(&s.at).await.unwrap(), &s.tree)
        .await
        .unwrap();
    let original = files(&s.at);
    let out = s.at.parent().unwrap().join("out");
    for (name, bytes) in &original {
        if name.starts_with("index") || name.starts_with("releases") || name.starts_with("records")
        {
            continue; // an index is rebuilt, the others are not read here
        }
        for what in ["truncate", "flip", "append", "empty"] {
            let mut wrong = bytes.clone();
            match what {
                "truncate" => wrong.truncate(bytes.len() / 2),
                "flip" => wrong[bytes.len() / 3] ^= 4,
                "append" => wrong.extend_from_slice(b"more"),
                _ => wrong.clear(),
            }
            let file = s.at.join(name);
            std::fs::remove_file(&file).unwrap();
            std::fs::write(&file, &wrong).unwrap();
            std::fs::remove_dir_all(s.at.join("index")).unwrap();
            let _ = std::fs::remove_dir_all(&out);
            std::fs::create_dir(&out).unwrap();
            let result = match Store::open(&s.at).await {
                Ok(store) => store.checkout(&imported.release, &out).await,
                Err(error) => Err(error),
            };
            // Bytes after a manifest's frame are the one change that could pass; it must not.
            let error = result.expect_err(&format!("{what} of {} was not found", name.display()));
            let told = error.to_string();
            assert!(
                told.contains(name.to_str().unwrap()) || told.contains("format"),
                "{what} {}: {told}",
                name.display()
            );
            let _ = std::fs::remove_file(&file);
            for (name, bytes) in &original {
                std::fs::create_dir_all(s.at.join(name).parent().unwrap()).unwrap();
                if !s.at.join(name).exists() {
                    std::fs::write(s.at.join(name), bytes).unwrap();
                }
            }
        }
    }
    std::fs::remove_dir_all(&out).unwrap();
    std::fs::create_dir(&out).unwrap();
    Store::open(&s.at)
        .await
        .unwrap()
        .checkout(&imported.release, &out)
        .await
        .unwrap();
}

/// Fails the n-th put, before or after doing it, as a crash would.
#[derive(Debug)]
struct FailingPut {
    left: AtomicUsize,
    after: bool,
}

#[async_trait]
impl Watch for FailingPut {
    async fn fate(&self, operation: Operation<'_>) -> Fate {
        let puts = matches!(operation.verb, Verb::Put | Verb::PutAdvisory);
        if !puts || self.left.fetch_sub(1, Ordering::SeqCst) != 1 {
            return Fate::Done;
        }
        let error = StoreError::Io {
            what: "write",
            path: operation.name.into(),
            source: std::io::ErrorKind::StorageFull.into(),
        };
        match self.after {
            true => Fate::Lost(error),
            false => Fate::Refused(error),
        }
    }
}

#[tokio::test]
async fn an_import_stopped_at_any_write_leaves_no_release_and_runs_again() {
    let mut stops = 0;
    for after in [false, true] {
        for call in 1.. {
            let s = setup();
            let clean = Store::open_or_create(&s.at).await.unwrap();
            let watch = FailingPut {
                left: AtomicUsize::new(call),
                after,
            };
            let inner = Arc::new(LocalBackend::new(s.at.clone()));
            let faulty = Arc::new(WatchedBackend::new(inner, watch));
            let store = Store::open_backend(faulty).await.unwrap();
            match build(&store, &s.tree).await {
                Ok(_) => break, // fewer writes than `call`
                Err(error) => assert!(matches!(error, StoreError::Io { .. }), "{error}"),
            }
            stops += 1;
            // Only a publish that was done may be visible; what is visible must be whole.
            for release in clean.releases().await.unwrap() {
                let out = tempfile::tempdir().unwrap();
                clean.checkout(&release, out.path()).await.unwrap();
            }
            let again = build(&Store::open(&s.at).await.unwrap(), &s.tree)
                .await
                .unwrap();
            let out = tempfile::tempdir().unwrap();
            Store::open(&s.at)
                .await
                .unwrap()
                .checkout(&again.release, out.path())
                .await
                .unwrap();
            assert_eq!(files(out.path()), files(&s.root));
        }
    }
    assert_eq!(
        stops, 10,
        "bundle, index, manifest, record, marker; each before and after"
    );
}

#[tokio::test]
async fn trees_that_cannot_be_releases_are_refused_and_nothing_is_stored() {
    type Break = fn(&Path);
    let cases: [(&str, Break); 4] = [
        ("leaves the release", |root| {
            symlink("/etc/passwd", root.join("x")).unwrap();
        }),
        ("leaves the release", |root| {
            symlink("../../x", root.join("app/x")).unwrap();
        }),
        ("lies below the writable folder", |root| {
            std::fs::write(root.join("bootstrap/cache/x"), "").unwrap();
        }),
        ("neither a file", |root| {
            std::os::unix::net::UnixListener::bind(root.join("sock")).unwrap();
        }),
    ];
    for (reason, harm) in cases {
        let s = setup();
        harm(&s.root);
        let store = Store::open_or_create(&s.at).await.unwrap();
        let before = files(&s.at);
        let error = store.import(&s.tree, &|_| {}).await.unwrap_err();
        let mut told = error.to_string();
        let mut cause = std::error::Error::source(&error);
        while let Some(inner) = cause {
            told = format!("{told}: {inner}");
            cause = inner.source();
        }
        assert!(told.contains(reason), "{told}");
        assert_eq!(files(&s.at), before);
    }
}

#[tokio::test]
async fn foreign_folders_and_newer_formats_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    assert!(matches!(
        Store::open(folder.path()).await,
        Err(StoreError::NoStore { .. })
    ));
    std::fs::write(folder.path().join("thesis.doc"), "").unwrap();
    assert!(matches!(
        Store::open_or_create(folder.path()).await,
        Err(StoreError::Occupied { .. })
    ));
    let newer =
        r#"{"version":1,"compatible":["a"],"read_only_compatible":[],"incompatible":["chunks"]}"#;
    std::fs::write(folder.path().join("format.json"), newer).unwrap();
    let error = Store::open(folder.path()).await.unwrap_err().to_string();
    assert!(error.contains("chunks"), "{error}");
    std::fs::write(
        folder.path().join("format.json"),
        newer.replace("\"chunks\"", ""),
    )
    .unwrap();
    Store::open(folder.path()).await.unwrap();
}

#[tokio::test]
async fn the_manifest_says_what_the_tree_is() {
    let s = setup();
    let store = Store::open_or_create(&s.at).await.unwrap();
    let manifest = build(&store, &s.tree).await.unwrap().manifest;
    let letters: Vec<String> = manifest
        .entries()
        .iter()
        .map(|entry| format!("{} {}", entry.kind.letter(), entry.path))
        .collect();
    assert_eq!(
        letters,
        [
            "s .env",
            "f app/One.php",
            "f app/Same.php",
            "f app/empty",
            "x artisan",
            "w bootstrap/cache",
            "f public/big.bin",
            "l public/storage",
            "d resources/none",
            "S storage",
            "f storage/logs/.gitignore"
        ]
    );
    assert!(matches!(
        manifest.get(&path("artisan")).unwrap().kind,
        Kind::Executable { size: 19, .. }
    ));
}
