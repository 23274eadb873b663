//! What a killed, a concurrent or a lying program left behind.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use relstore_store::backend::local::LocalBackend;
use relstore_store::backend::{Backend, Content};
use relstore_store::bundle::toc::{Frame, Slot, Toc};
use relstore_store::id::{BlobId, BundleHash};
use relstore_store::import::{Layout, ReleaseTree};
use relstore_store::{Store, StoreError};

async fn stored(at: &Path, content: &[u8]) -> BlobId {
    let root = at.parent().unwrap().join("tree");
    let _ = std::fs::remove_dir_all(&root);
    std::fs::create_dir(&root).unwrap();
    std::fs::write(root.join("file"), content).unwrap();
    let tree = ReleaseTree {
        root,
        layout: Layout::default(),
    };
    let store = Store::open_or_create(at).await.unwrap();
    let imported = store.import(&tree, &|_| {}).await.unwrap();
    store.publish(&imported.release).await.unwrap();
    BlobId::of(content)
}

fn only(folder: &Path) -> std::path::PathBuf {
    let mut entries = std::fs::read_dir(folder).unwrap();
    let path = entries.next().unwrap().unwrap().path();
    assert!(entries.next().is_none());
    path
}

#[tokio::test]
async fn a_store_whose_making_was_cut_short_is_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().join("store");
    std::fs::create_dir_all(at.join("bundles")).unwrap();
    std::fs::write(at.join("bundles/.tmp-half"), "half").unwrap();
    std::fs::write(at.join(".tmp-half"), "half").unwrap();
    stored(&at, b"content").await;

    let foreign = folder.path().join("foreign");
    std::fs::create_dir_all(foreign.join("bundles")).unwrap();
    std::fs::write(foreign.join("bundles/thesis.doc"), "").unwrap();
    for refused in [
        Store::check_place(&foreign).await,
        Store::open_or_create(&foreign).await.map(drop),
    ] {
        assert!(matches!(refused, Err(StoreError::Occupied { .. })));
    }
}

#[tokio::test]
async fn a_place_is_looked_at_without_leaving_a_trace() {
    let folder = tempfile::tempdir().unwrap();
    let new = folder.path().join("not/yet");
    Store::check_place(&new).await.unwrap();
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);

    std::fs::create_dir(folder.path().join("not")).unwrap();
    stored(&new, b"content").await;
    Store::check_place(&new).await.unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    for wrong in [
        file.as_path(),
        &file.join("below"),
        Path::new("/proc/store"),
    ] {
        assert!(matches!(
            Store::check_place(wrong).await,
            Err(StoreError::Io { .. })
        ));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_builds_may_make_the_same_store() {
    for _ in 0..40 {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().join("store");
        let both = [0, 1].map(|_| {
            let at = at.clone();
            tokio::spawn(async move { Store::open_or_create(&at).await.map(drop) })
        });
        for one in both {
            one.await.unwrap().unwrap();
        }
    }
}

#[tokio::test]
async fn a_cut_bundle_is_not_taken_for_what_its_index_says() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().join("store");
    let blob = stored(&at, b"content").await;
    let bundle = only(&at.join("bundles"));
    let bytes = std::fs::read(&bundle).unwrap();
    std::fs::remove_file(&bundle).unwrap();
    std::fs::write(&bundle, &bytes[..bytes.len() / 2]).unwrap();
    let store = Store::open(&at).await.unwrap();
    let error = store.read_blob(&blob).await.unwrap_err();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
    let name = bundle.file_name().unwrap().to_str().unwrap();
    assert!(error.to_string().contains(name), "{error}");

    // An index of another bundle is not believed either: the bundle's own table is.
    std::fs::write(&bundle, &bytes).unwrap();
    let index = only(&at.join("index"));
    std::fs::remove_file(&index).unwrap();
    let lie = Toc::new(
        vec![Frame {
            offset: 0,
            stored: 9,
            raw: 4096,
        }],
        vec![Slot {
            blob: BlobId::of(b"other"),
            frame: 0,
            offset: 512,
            length: 5,
        }],
    );
    std::fs::write(&index, lie.unwrap().to_bytes()).unwrap();
    let store = Store::open(&at).await.unwrap();
    assert!(!store.index().await.unwrap().contains(&BlobId::of(b"other")));
    assert_eq!(store.read_blob(&blob).await.unwrap(), "content");
}

#[tokio::test]
async fn a_table_that_promises_terabytes_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().join("store");
    stored(&at, b"content").await;
    let count = 1u32 << 20;
    let frames = (0..count).map(|at| Frame {
        offset: u64::from(at),
        stored: 1,
        raw: 4 << 20,
    });
    let blob = BlobId::of(b"huge");
    let slot = Slot {
        blob,
        frame: 0,
        offset: 0,
        length: u64::from(count) << 22,
    };
    let table = Toc::new(frames.collect(), vec![slot]).unwrap().to_bytes();
    let mut bytes = vec![0; count as usize];
    let length = u32::try_from(table.len()).unwrap();
    bytes.extend_from_slice(&0x184D_2A5Eu32.to_le_bytes());
    bytes.extend_from_slice(&(length + 12).to_le_bytes());
    bytes.extend_from_slice(&table);
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(b"RSBUNDL1");
    let name = format!("{}-0.tar.zst", BundleHash::of(&bytes));
    std::fs::write(at.join("bundles").join(name), &bytes).unwrap();
    let error = Store::open(&at).await.unwrap().read_blob(&blob).await;
    assert!(matches!(error, Err(StoreError::Damaged { .. })));
}

#[tokio::test]
async fn a_footer_that_announces_four_gigabytes_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().join("store");
    let blob = stored(&at, b"content").await;
    let name = format!("{}-0.tar.zst", BundleHash::of(b"sparse"));
    let file = std::fs::File::create(at.join("bundles").join(&name)).unwrap();
    let size = 5u64 << 30;
    file.set_len(size).unwrap();
    let mut footer = u32::MAX.to_le_bytes().to_vec();
    footer.extend_from_slice(b"RSBUNDL1");
    std::os::unix::fs::FileExt::write_all_at(&file, &footer, size - 12).unwrap();
    let store = Store::open(&at).await.unwrap();
    let error = store.read_blob(&BlobId::of(b"other")).await.unwrap_err();
    assert!(error.to_string().contains(&name), "{error}");
    // What lies in the other bundle is as good as ever.
    assert_eq!(store.read_blob(&blob).await.unwrap(), "content");
}

#[tokio::test]
async fn a_store_that_cannot_be_written_is_read_without_its_index() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().join("store");
    let blob = stored(&at, b"content").await;
    let index = only(&at.join("index"));
    std::fs::remove_file(&index).unwrap();
    // Stands for a read-only file system, also for root: the name cannot be written.
    std::fs::create_dir(&index).unwrap();
    let store = Store::open(&at).await.unwrap();
    assert_eq!(store.read_blob(&blob).await.unwrap(), "content");
}

#[tokio::test]
async fn no_name_leads_out_of_the_store() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().join("store");
    stored(&at, b"content").await;
    let store = Store::open(&at).await.unwrap();
    let out = "/../../../../../out";
    let told = store.put_ledger("prod", "host", 1, out, "{}").await;
    assert!(told.is_ok() && !folder.path().join("out.json").exists());
    let backend = LocalBackend::new(at.clone());
    std::fs::write(folder.path().join("secret"), "x").unwrap();
    let absolute = folder.path().join("secret").display().to_string();
    for name in [
        "../secret",
        "a/../../secret",
        &absolute,
        "a//b",
        "./format.json",
        "",
    ] {
        assert!(backend.get(name).await.is_err(), "{name}");
        assert!(backend.get_range(name, 0, 1).await.is_err(), "{name}");
        let put = Content::Bytes("y".into());
        assert!(backend.put(name, put).await.is_err(), "{name}");
        assert!(backend.delete(name).await.is_err(), "{name}");
    }
    assert_eq!(std::fs::read(folder.path().join("secret")).unwrap(), b"x");
}
