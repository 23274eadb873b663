//! Stores that earlier versions wrote (`fixtures/formats`) are opened, verified and laid out, and
//! what is written today says the same, byte for byte where no compressor has a say.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeMap;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use relstore_store::Store;
use relstore_store::allowed_signers::AllowedSigners;
use relstore_store::archive::{Format, Label, unpack};
use relstore_store::bundle::toc::Toc;
use relstore_store::id::{BlobId, BundleHash, DerivationKey, ReleaseId};
use relstore_store::import::{Layout, ReleaseTree};
use relstore_store::name::EntryPath;
use relstore_store::package::PackageTrees;
use relstore_store::signature::Namespace;
use relstore_store::stop::Stop;
use relstore_store::trust::check_release;

const COMMIT: &str = "5555555555555555555555555555555555555555";
const LEDGER: &str = r#"{"version":1,"number":1,"what":"deployed"}"#;

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/formats/v1")
}

fn golden() -> PathBuf {
    fixture().join("store")
}

/// The tree that the fixture's release was made of.
fn tree(root: &Path) -> ReleaseTree {
    for folder in ["public", "bin", "storage/logs", "bootstrap/cache", "empty"] {
        std::fs::create_dir_all(root.join(folder)).unwrap();
    }
    let write = |path: &str, text: &str| std::fs::write(root.join(path), text).unwrap();
    write("bin/run", "#!/bin/sh\n");
    std::fs::set_permissions(root.join("bin/run"), PermissionsExt::from_mode(0o755)).unwrap();
    write("public/index.html", "hello\n");
    write("public/t\u{fc}r \\.txt", "hello\n");
    write("storage/logs/.gitignore", "*\n");
    write("nothing", "");
    // Runs through two frames.
    write(
        "public/long.txt",
        &"a line like all others\n".repeat(100_000),
    );
    symlink("../storage/app/public", root.join("public/storage")).unwrap();
    let path = |text: &str| EntryPath::new(text).unwrap();
    ReleaseTree {
        root: root.to_owned(),
        layout: Layout {
            shared_files: vec![path(".env")],
            shared_dirs: vec![path("storage")],
            writable_dirs: vec![path("bootstrap/cache")],
        },
    }
}

/// Writes what the fixture holds, but for the signatures.
async fn write(folder: &Path) -> (Store, ReleaseId) {
    let store = Store::open_or_create(&folder.join("store")).await.unwrap();
    let imported = store
        .import(&tree(&folder.join("tree")), &|_| {})
        .await
        .unwrap();
    let release = imported.release;
    let old = Store::open(&golden()).await.unwrap();
    for record in old.records(&release).await.unwrap() {
        store.put_record(&release, &record.json).await.unwrap();
    }
    store.publish(&release).await.unwrap();
    store.add_commit(COMMIT, &release).await.unwrap();
    let key = DerivationKey::of(b"the text of a key\n");
    for derivation in old.derivations(&key).await.unwrap() {
        let json = derivation.record.json;
        store.put_derivation(&key, &json).await.unwrap();
    }
    let trees = PackageTrees::from([("acme/money 1.2.0 abcdef".to_owned(), release)]);
    store.put_package_trees("composer", &trees).await.unwrap();
    store
        .put_ledger("prod", "app1:22", 1, "0f1e2d", LEDGER)
        .await
        .unwrap();
    (store, release)
}

/// All files below a folder by their path.
fn files(root: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = walkdir::WalkDir::new(root).into_iter().map(Result::unwrap);
    let files = entries.filter(|entry| entry.file_type().is_file());
    files
        .map(|entry| {
            let name = entry.path().strip_prefix(root).unwrap().to_str().unwrap();
            (name.to_owned(), std::fs::read(entry.path()).unwrap())
        })
        .collect()
}

async fn release_of(store: &Store) -> ReleaseId {
    let releases = store.releases().await.unwrap();
    assert_eq!(releases.len(), 1);
    releases[0]
}

#[tokio::test]
async fn store_of_version_1_is_read_to_the_last_byte_and_not_touched() {
    let before = files(&golden());
    let store = Store::open(&golden()).await.unwrap();
    let release = release_of(&store).await;
    let manifest = store.manifest(&release).await.unwrap();
    assert_eq!(manifest.id(), release);
    let wanted: Vec<BlobId> = manifest.blobs().keys().copied().collect();
    let mut blobs = store.read_blobs(&wanted).await.unwrap();
    let mut count = 0;
    while let Some(blob) = blobs.recv().await {
        blob.unwrap();
        count += 1;
    }
    assert_eq!(count, wanted.len());
    for (name, bytes) in &before {
        if let Some(stem) = name.strip_prefix("bundles/") {
            assert_eq!(stem, format!("{}-0.tar.zst", BundleHash::of(bytes)));
        }
    }
    assert_eq!(store.releases_of_commit(COMMIT).await.unwrap(), [release]);
    assert_eq!(store.package_trees("composer").await.unwrap().len(), 1);

    let signers = std::fs::read_to_string(fixture().join("allowed_signers")).unwrap();
    let signers = AllowedSigners::parse(&signers).unwrap();
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    let trusted = check_release(&store, &release, &signers, now)
        .await
        .unwrap();
    assert_eq!(trusted.by[0].signer.principal, "ci@example.com");
    let key = DerivationKey::of(b"the text of a key\n");
    let derivation = &store.derivations(&key).await.unwrap()[0].record;
    let signatures = store
        .derivation_signatures(&key, &derivation.id)
        .await
        .unwrap();
    let by = signers.verify(Namespace::Derivation, &derivation.json, &signatures[0], now);
    assert_eq!(by.unwrap().principal, "ci@example.com");
    assert_eq!(files(&golden()), before);
}

#[tokio::test]
async fn release_of_version_1_is_laid_out_and_imported_as_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&golden()).await.unwrap();
    let release = release_of(&store).await;
    let (laid_out, made) = (folder.path().join("out"), folder.path().join("made"));
    std::fs::create_dir(&laid_out).unwrap();
    store.checkout(&release, &laid_out).await.unwrap();
    let tree = tree(&made);
    assert_eq!(files(&laid_out), files(&made));
    let other = Store::open_or_create(&folder.path().join("store"))
        .await
        .unwrap();
    for root in [laid_out, made] {
        let layout = tree.layout.clone();
        let again = other.import(&ReleaseTree { root, layout }, &|_| {}).await;
        assert_eq!(again.unwrap().release, release);
    }
}

#[tokio::test]
async fn what_is_written_today_says_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let (store, release) = write(folder.path()).await;
    let (golden, written) = (files(&golden()), files(&folder.path().join("store")));
    let named = |files: &BTreeMap<String, Vec<u8>>| -> Vec<String> {
        // Names of bundles depend on the compressor, signatures on the key.
        let packed = |name: &str| name.starts_with("bundles/") || name.starts_with("index/");
        let names = files
            .keys()
            .filter(|name| !packed(name) && !name.ends_with(".sig"));
        names.cloned().collect()
    };
    assert_eq!(named(&written), named(&golden));
    for name in named(&golden)
        .iter()
        .filter(|name| !name.starts_with("manifests/"))
    {
        assert!(written[name] == golden[name], "{name}");
    }
    let old = Store::open(&fixture().join("store")).await.unwrap();
    let text = |store: Store| async move { store.manifest_text(&release).await.unwrap() };
    assert_eq!(text(store).await, text(old).await);

    let toc = |files: &BTreeMap<String, Vec<u8>>| {
        let (_, bytes) = files
            .iter()
            .find(|(name, _)| name.starts_with("index/"))
            .unwrap();
        let toc = Toc::parse(bytes).unwrap();
        assert_eq!(&toc.to_bytes(), bytes);
        toc
    };
    let (golden, written) = (toc(&golden), toc(&written));
    // Where blobs lie is decided by their lengths alone.
    assert_eq!(written.slots(), golden.slots());
    let raw = |toc: &Toc| {
        toc.frames()
            .iter()
            .map(|frame| frame.raw)
            .collect::<Vec<_>>()
    };
    assert_eq!(raw(&written), raw(&golden));
    assert_eq!(raw(&golden).len(), 2);
}

#[tokio::test]
async fn archive_of_version_1_is_the_same_release_and_written_again_alike() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&golden()).await.unwrap();
    let release = release_of(&store).await;
    let packed = std::fs::read(fixture().join("release.tar.zst")).unwrap();
    let unpacked = unpack(packed.as_slice(), folder.path(), &Stop::default()).unwrap();
    let manifest = store.manifest(&release).await.unwrap();
    assert_eq!(unpacked.label, Some(Label::of(&manifest)));
    let plain = zstd::decode_all(packed.as_slice()).unwrap();
    let out = folder.path().join("written.tar");
    let file = std::fs::File::create(&out).unwrap();
    store
        .export(&release, Format::Tar, folder.path(), file)
        .await
        .unwrap();
    assert!(std::fs::read(out).unwrap() == plain);
}

#[test]
fn digests_are_recomputed_by_hand_as_the_readme_says() {
    let readme = std::fs::read_to_string(fixture().join("README.md")).unwrap();
    let blocks: Vec<&str> = readme.split("```sh\n").skip(1).collect();
    assert!(blocks.len() >= 5);
    for block in blocks {
        let (script, _) = block.split_once("```").unwrap();
        let mut shell = Command::new("bash");
        let work = tempfile::tempdir().unwrap();
        shell
            .args(["-eo", "pipefail", "-c", script])
            .current_dir(golden());
        let output = shell.env("work", work.path()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{script}\n{said}");
    }
}
