//! Trees of every shape: what comes out goes in again with the same id, in whatever order the
//! file system lists it.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use relstore_store::Store;
use relstore_store::archive::{Format, unpack};
use relstore_store::id::ReleaseId;
use relstore_store::import::{Layout, ReleaseTree, manifest_of};
use relstore_store::stop::Stop;

/// What lies at a path.
#[derive(Debug, Clone)]
enum Node {
    File(Vec<u8>, bool),
    Link(OsString),
    Empty,
}

type Tree = BTreeMap<PathBuf, Node>;

/// Names of all kinds that Linux allows.
fn name() -> impl Strategy<Value = OsString> {
    let byte = prop_oneof![1u8..=46, 48u8..=255];
    prop_oneof![
        4 => "[a-c]{1,2}(\\.php)?".prop_map(OsString::from),
        1 => "[a-z]{1,3} [\u{e4}\u{4e2d}\u{1f980}]{1,3}".prop_map(OsString::from),
        1 => proptest::collection::vec(byte, 1..12).prop_map(OsString::from_vec),
        1 => Just(OsString::from("n".repeat(255))),
        1 => Just(OsString::from("line\nend\ttab\\x0a")),
    ]
    .prop_filter("a name of its own", |name| name != "." && name != "..")
}

fn node() -> impl Strategy<Value = Node> {
    let small = proptest::collection::vec(any::<u8>(), 0..40);
    let content = prop_oneof![
        6 => small,
        1 => (1usize..700_000, any::<u8>()).prop_map(|(size, byte)| vec![byte; size]),
        1 => (1_000_000usize..2_500_000).prop_map(noise),
    ];
    prop_oneof![
        6 => (content, any::<bool>()).prop_map(|(bytes, executable)| Node::File(bytes, executable)),
        1 => name().prop_map(Node::Link),
        1 => Just(Node::Empty),
    ]
}

/// Bytes that do not compress.
fn noise(size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    blake3::Hasher::new_derive_key("test")
        .finalize_xof()
        .fill(&mut bytes);
    bytes
}

/// Trees in which nothing lies below a file or link, and links lead to no link.
fn tree() -> impl Strategy<Value = Tree> {
    let path = proptest::collection::vec(name(), 1..5);
    proptest::collection::vec((path, node()), 0..24).prop_map(|entries| {
        let mut tree = Tree::new();
        let mut folders = BTreeSet::new();
        for (names, node) in entries {
            let path: PathBuf = names.iter().collect();
            let above = || {
                path.ancestors()
                    .skip(1)
                    .filter(|a| !a.as_os_str().is_empty())
            };
            let free = !tree.contains_key(&path) && !folders.contains(&path);
            let clear = above().all(|folder| !tree.contains_key(folder));
            let leads = matches!(&node, Node::Link(target) if path.ends_with(target));
            if free && clear && !leads && path.as_os_str().len() <= 1024 {
                folders.extend(above().map(Path::to_owned));
                tree.insert(path, node);
            }
        }
        let links: Vec<PathBuf> = tree
            .iter()
            .filter(|(path, node)| {
                matches!(node, Node::Link(target) if matches!(
                    tree.get(&path.with_file_name(target)), Some(Node::Link(_))))
            })
            .map(|(path, _)| path.clone())
            .collect();
        tree.retain(|path, _| !links.contains(path));
        tree
    })
}

/// Makes the tree; `order` says in which order its entries are created.
fn make(tree: &Tree, root: &Path, order: impl Fn(usize) -> u64) {
    let mut entries: Vec<_> = tree.iter().enumerate().collect();
    entries.sort_by_key(|(at, _)| order(*at));
    for (_, (path, node)) in entries {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        match node {
            Node::File(bytes, executable) => {
                std::fs::write(&path, bytes).unwrap();
                let mode = if *executable { 0o751 } else { 0o640 };
                std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
            }
            Node::Link(target) => symlink(target, &path).unwrap(),
            Node::Empty => std::fs::create_dir(&path).unwrap(),
        }
    }
}

fn release_tree(root: &Path) -> ReleaseTree {
    ReleaseTree {
        root: root.to_owned(),
        layout: Layout::default(),
    }
}

/// On tmpfs, which lists what was made last first: another order of creation is another order of
/// listing.
fn place() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() {
        tempfile::tempdir_in(memory).unwrap()
    } else {
        tempfile::tempdir().unwrap()
    }
}

/// Imports the tree, lays the release out, imports that; the same by way of an archive.
async fn there_and_back(tree: &Tree, seed: u64) -> [ReleaseId; 4] {
    let folder = place();
    let at = |name: &str| folder.path().join(name);
    for name in ["one", "two", "out", "unpacked"] {
        std::fs::create_dir(at(name)).unwrap();
    }
    make(tree, &at("one"), |at| at as u64);
    make(tree, &at("two"), |at| {
        (at as u64 + 1).wrapping_mul(seed | 1).rotate_left(17)
    });
    let store = Store::open_or_create(&at("store")).await.unwrap();
    let first = store
        .import(&release_tree(&at("one")), &|_| {})
        .await
        .unwrap();
    let second = manifest_of(&release_tree(&at("two")), &|_| {}).unwrap();
    store.publish(&first.release).await.unwrap();
    // Opened anew: nothing is known but what is on disk.
    let store = Store::open(&at("store")).await.unwrap();
    store.checkout(&first.release, &at("out")).await.unwrap();
    let third = store
        .import(&release_tree(&at("out")), &|_| {})
        .await
        .unwrap();
    assert_eq!(third.new_blobs, 0);
    let archive = std::fs::File::create(at("archive")).unwrap();
    let exported = store.export(&first.release, Format::TarGz, folder.path(), archive);
    exported.await.unwrap();
    let archive = std::fs::File::open(at("archive")).unwrap();
    let unpacked = unpack(archive, &at("unpacked"), &Stop::default()).unwrap();
    let fourth = manifest_of(&release_tree(&unpacked.root), &|_| {}).unwrap();
    [first.release, second.id(), third.release, fourth.id()]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn any_tree_comes_back_with_the_same_id_whatever_the_order_of_its_entries(tree in tree(), seed: u64) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let [first, second, third, fourth] = runtime.block_on(there_and_back(&tree, seed));
        prop_assert_eq!(first, second);
        prop_assert_eq!(first, third);
        prop_assert_eq!(first, fourth);
    }
}

#[tokio::test]
async fn the_deepest_path_comes_back_and_a_deeper_one_is_refused() {
    let deepest = vec!["d"; 512].join("/");
    assert_eq!(deepest.len(), 1023);
    let mut tree = Tree::new();
    tree.insert(PathBuf::from(&deepest), Node::File(b"deep".to_vec(), false));
    let ids = there_and_back(&tree, 7).await;
    assert_eq!(ids, [ids[0]; 4]);

    let folder = place();
    let one_more = Path::new(&deepest).with_file_name("dd").join("f");
    std::fs::create_dir_all(folder.path().join(&one_more)).unwrap();
    let error = manifest_of(&release_tree(folder.path()), &|_| {}).unwrap_err();
    let told = std::error::Error::source(&error).unwrap();
    let cause = std::error::Error::source(told).unwrap().to_string();
    assert!(cause.contains("too long"), "{cause}");
}

#[tokio::test]
async fn listing_order_on_memory_follows_creation() {
    // Else the property above proves less than it says.
    let folder = place();
    let listed = |names: &[&str]| -> Vec<Vec<u8>> {
        let root = folder.path().join(names.concat());
        std::fs::create_dir(&root).unwrap();
        for name in names {
            std::fs::write(root.join(name), "").unwrap();
        }
        let entries = std::fs::read_dir(&root).unwrap();
        entries
            .map(|entry| entry.unwrap().file_name().as_bytes().to_vec())
            .collect()
    };
    if folder.path().starts_with("/dev/shm") {
        assert_ne!(listed(&["a", "b", "c"]), listed(&["c", "b", "a"]));
    }
}
