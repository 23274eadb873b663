//! The backend for buckets against a real Garage: `scripts/setup.sh test` installs it.
#![allow(clippy::unwrap_used)]

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use relstore_store::backend::s3::{S3Backend, S3Settings};
use relstore_store::backend::{Backend, Content, contract};
use relstore_store::import::{Layout, ReleaseTree};
use relstore_store::testing::garage::{self, Garage};
use relstore_store::{Store, StoreError};

/// The bucket of a node, below a prefix, spooling into `folder`.
fn open(garage: &Garage, node: usize, prefix: &str, folder: &Path) -> S3Backend {
    bucket(&garage.endpoint(node), garage::BUCKET, prefix, folder)
}

fn bucket(endpoint: &str, bucket: &str, prefix: &str, folder: &Path) -> S3Backend {
    opened(endpoint, bucket, prefix, folder, &Garage::variable).unwrap()
}

fn opened(
    endpoint: &str,
    bucket: &str,
    prefix: &str,
    folder: &Path,
    variables: &(dyn Fn(&str) -> Option<String> + Sync),
) -> Result<S3Backend, StoreError> {
    let settings = S3Settings {
        bucket: bucket.into(),
        prefix: prefix.into(),
        endpoint: Some(endpoint.into()),
        region: None,
        path_style: true,
        variables,
    };
    S3Backend::open(&settings, folder.to_owned())
}

/// Bytes that do not repeat within a part.
fn noise(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().finalize_xof().fill(&mut bytes);
    bytes
}

fn spooled(folder: &Path, bytes: &[u8]) -> Content {
    let mut file = tempfile::NamedTempFile::new_in(folder).unwrap();
    file.write_all(bytes).unwrap();
    Content::File(file)
}

fn told(error: &StoreError) -> String {
    let cause = std::error::Error::source(error).map(ToString::to_string);
    let hint = error.hint().unwrap_or_default();
    format!("{error}\n{}\n{hint}", cause.unwrap_or_default())
}

#[tokio::test]
async fn bucket_passes_the_contract_with_and_without_a_prefix() {
    let garage = Garage::start(1);
    let spool = tempfile::tempdir().unwrap();
    contract::passes(&open(&garage, 0, "apps/notes/", spool.path())).await;
    let other = open(&garage, 0, "apps/notes-2/", spool.path());
    assert!(other.list("").await.unwrap().is_empty());
    other
        .put("a", Content::Bytes("in the other".into()))
        .await
        .unwrap();
    let whole = open(&garage, 0, "", spool.path());
    let names = whole.list("apps/notes-2/").await.unwrap();
    assert_eq!(names[0].name, "apps/notes-2/a");
    for object in whole.list("").await.unwrap() {
        whole.delete(&object.name).await.unwrap();
    }
    contract::passes(&whole).await;
}

#[tokio::test]
async fn list_goes_on_behind_the_first_thousand() {
    let garage = Garage::start(1);
    let spool = tempfile::tempdir().unwrap();
    let backend = open(&garage, 0, "many/", spool.path());
    let names: Vec<String> = (0..1_100).map(|number| format!("a/{number:04}")).collect();
    futures::stream::iter(&names)
        .map(|name| backend.put(name, Content::Bytes(Bytes::new())))
        .buffer_unordered(32)
        .try_collect::<Vec<()>>()
        .await
        .unwrap();
    let listed = backend.list("a/").await.unwrap();
    let listed: Vec<&str> = listed.iter().map(|object| object.name.as_str()).collect();
    assert_eq!(listed, names);
}

#[tokio::test]
async fn large_file_goes_in_parts_and_comes_back_byte_for_byte() {
    let garage = Garage::start(1);
    let spool = tempfile::tempdir().unwrap();
    let backend = open(&garage, 0, "", spool.path());
    let bytes = noise((26 << 20) + 3);
    backend
        .put("big", spooled(spool.path(), &bytes))
        .await
        .unwrap();
    assert!(backend.get("big").await.unwrap().unwrap() == bytes);
    let over_a_part = backend.get_range("big", (8 << 20) - 5, 10).await.unwrap();
    assert_eq!(over_a_part.unwrap(), bytes[(8 << 20) - 5..][..10]);
    // The same bytes again, from memory, are there already; one other bit is not.
    backend
        .put("big", Content::Bytes(bytes.clone().into()))
        .await
        .unwrap();
    let mut other = bytes.clone();
    other[20 << 20] ^= 1;
    let refused = backend.put("big", spooled(spool.path(), &other)).await;
    assert!(
        matches!(refused, Err(StoreError::Conflict { .. })),
        "{refused:?}"
    );
    // Without a digest beside it, what is there is read.
    backend
        .put_advisory("plain", bytes.clone().into())
        .await
        .unwrap();
    backend
        .put("plain", Content::Bytes(bytes.into()))
        .await
        .unwrap();
    let refused = backend.put("plain", Content::Bytes(other.into())).await;
    assert!(
        matches!(refused, Err(StoreError::Conflict { .. })),
        "{refused:?}"
    );
    assert_eq!(std::fs::read_dir(spool.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn failures_say_what_to_do_and_no_key() {
    let mut garage = Garage::start(1);
    let spool = tempfile::tempdir().unwrap();
    let endpoint = garage.endpoint(0);
    let wrong = |id: &'static str, secret: &'static str, region: &'static str| {
        let variables = move |name: &str| match name {
            "AWS_ACCESS_KEY_ID" => Some(id.to_owned()),
            "AWS_SECRET_ACCESS_KEY" => Some(secret.to_owned()),
            _ => Some(region.to_owned()),
        };
        opened(&endpoint, garage::BUCKET, "", spool.path(), &variables).unwrap()
    };
    let unknown = "GK000000000000000000000000";
    for (backend, hint) in [
        (
            wrong(unknown, garage::SECRET, "garage"),
            "the key is unknown",
        ),
        (
            wrong(garage::KEY_ID, unknown, "garage"),
            "the key is unknown",
        ),
        (wrong(garage::KEY_ID, garage::SECRET, "mars"), "region"),
        (
            bucket(&endpoint, "absent", "", spool.path()),
            "make the bucket",
        ),
    ] {
        let failures = [
            backend.get("format.json").await.err().unwrap(),
            backend.list("").await.unwrap_err(),
            backend.delete("x").await.unwrap_err(),
            backend
                .put("x", Content::Bytes("x".into()))
                .await
                .unwrap_err(),
        ];
        for failure in failures {
            let told = told(&failure);
            assert!(told.contains("at s3://") && told.contains(hint), "{told}");
            for key in [unknown, garage::KEY_ID, garage::SECRET] {
                assert!(
                    !format!("{told}{failure:?}{backend:?}").contains(key),
                    "{told}"
                );
            }
        }
    }
    let none = opened(&endpoint, garage::BUCKET, "", spool.path(), &|_| None);
    let none = told(&none.unwrap_err());
    assert!(
        none.contains("no credentials") && none.contains("AWS_PROFILE"),
        "{none}"
    );
    let backend = open(&garage, 0, "", spool.path());
    garage.end_node(0);
    let down = told(&backend.get("format.json").await.unwrap_err());
    assert!(
        down.contains("refused") && down.contains("endpoint"),
        "{down}"
    );
}

#[tokio::test]
async fn what_was_reported_stored_outlives_a_node() {
    let mut garage = Garage::start(3);
    let folder = tempfile::tempdir().unwrap();
    let (tree, spool) = (folder.path().join("tree"), folder.path().join("spool"));
    std::fs::create_dir(&tree).unwrap();
    for number in 0..40 {
        std::fs::write(tree.join(format!("{number}.php")), noise(9_000 + number)).unwrap();
    }
    let backend: Arc<dyn Backend> = Arc::new(open(&garage, 0, "store/", &spool));
    let writer = Arc::clone(&backend);
    // Puts go on while the third node ends.
    let puts = tokio::spawn(async move {
        let mut stored = Vec::new();
        for number in 0..150 {
            let name = format!("extra/{number:03}");
            let content = Content::Bytes(name.clone().into());
            if writer.put(&name, content).await.is_ok() {
                stored.push(name);
            }
        }
        stored
    });
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    garage.end_node(2);
    let store = Store::create_backend(backend).await.unwrap();
    let tree = ReleaseTree {
        root: tree,
        layout: Layout::default(),
    };
    let release = store.import(&tree, &|_| ()).await.unwrap().release;
    store.publish(&release).await.unwrap();
    let stored = puts.await.unwrap();
    assert!(
        stored.len() > 100,
        "two of three nodes can store: {}",
        stored.len()
    );
    for (node, ended) in [(1, None), (2, Some(0))] {
        if let Some(ended) = ended {
            garage.restart_node(node);
            garage.end_node(ended);
        }
        let backend: Arc<dyn Backend> = Arc::new(open(&garage, node, "store/", &spool));
        let listed = backend.list("extra/").await.unwrap();
        assert_eq!(listed.len(), stored.len(), "node {node}");
        for name in &stored {
            assert_eq!(backend.get(name).await.unwrap().unwrap(), *name.as_bytes());
        }
        let store = Store::open_backend(backend).await.unwrap();
        assert_eq!(store.releases().await.unwrap(), [release]);
        let out = tempfile::tempdir().unwrap();
        store.checkout(&release, out.path()).await.unwrap();
        for entry in std::fs::read_dir(&tree.root).unwrap() {
            let path = entry.unwrap().path();
            let copy = out.path().join(path.file_name().unwrap());
            assert!(std::fs::read(path).unwrap() == std::fs::read(copy).unwrap());
        }
    }
}
