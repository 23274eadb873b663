#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::io::Read;

use proptest::prelude::*;
use relstore_store::import::{Layout, ReleaseTree};
use tempfile::TempDir;

use super::*;
use crate::transfer::{self, Known};

/// A store with one release per set of files.
async fn store(releases: &[&BTreeMap<String, Vec<u8>>]) -> (TempDir, Store, Vec<Known>) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open_or_create(&folder.path().join("store"))
        .await
        .unwrap();
    let mut known = Vec::new();
    for (n, files) in releases.iter().enumerate() {
        let root = folder.path().join(n.to_string());
        std::fs::create_dir(&root).unwrap();
        for (name, content) in *files {
            std::fs::write(root.join(name), content).unwrap();
        }
        let tree = ReleaseTree {
            root,
            layout: Layout::default(),
        };
        let imported = store.import(&tree, &|_| ()).await.unwrap();
        known.push(Known {
            release: imported.release,
            manifest: imported.manifest.into(),
        });
    }
    (folder, store, known)
}

fn decode(frame: &[u8], prefix: &[u8]) -> Vec<u8> {
    let mut content = Vec::new();
    let mut decoder = zstd::stream::read::Decoder::with_ref_prefix(frame, prefix).unwrap();
    decoder.window_log_max(27).unwrap();
    decoder.read_to_end(&mut content).unwrap();
    content
}

/// What a host makes of the messages; also the number of packs and their bytes.
async fn receive(
    store: &Store,
    transfer: &Transfer,
    mut has: HashMap<BlobId, Vec<u8>>,
) -> (HashMap<BlobId, Vec<u8>>, usize, usize) {
    let (mut packs_seen, mut sent_bytes) = (0, 0);
    let encoded: Vec<Encoded> = packs(store, transfer).try_collect().await.unwrap();
    let mut begun = None;
    for message in encoded.into_iter().flat_map(|encoded| encoded.messages) {
        sent_bytes += message.encode().unwrap().len();
        match message {
            Message::Pack(pack) => begun = Some((pack, Vec::new())),
            Message::PackPart(part) => {
                assert!(!part.bytes.is_empty() && part.bytes.len() <= MAX_PART);
                begun.as_mut().unwrap().1.extend(part.bytes);
            }
            Message::PackEnd(_) => {
                let (pack, frame) = begun.take().unwrap();
                let prefix = pack.prefix.map(|blob| has[&blob].clone());
                let content = decode(&frame, &prefix.unwrap_or_default());
                let mut rest = content.as_slice();
                for (blob, size) in pack.blobs {
                    let (bytes, tail) = rest.split_at(size as usize);
                    assert_eq!(BlobId::of(bytes), blob);
                    has.insert(blob, bytes.to_vec());
                    rest = tail;
                }
                assert!(rest.is_empty());
                packs_seen += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    (has, packs_seen, sent_bytes)
}

fn blobs(files: &BTreeMap<String, Vec<u8>>) -> HashMap<BlobId, Vec<u8>> {
    let blobs = files
        .values()
        .map(|content| (BlobId::of(content), content.clone()));
    blobs.collect()
}

/// Bytes that do not compress.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut output = vec![0; length];
    blake3::Hasher::new()
        .update(&seed.to_le_bytes())
        .finalize_xof()
        .fill(&mut output);
    output
}

fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap()
        .block_on(work)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn what_is_sent_arrives_whatever_the_host_has(
        old in proptest::collection::btree_map("[a-f]{1,2}\\.(php|js)", proptest::collection::vec(any::<u8>(), 0..60), 0..12),
        new in proptest::collection::btree_map("[a-f]{1,2}\\.(php|js)", proptest::collection::vec(any::<u8>(), 0..60), 1..12),
        first: bool,
    ) {
        run(async {
            let (_folder, store, known) = store(&[&old, &new]).await;
            let complete = if first { vec![] } else { vec![known[0].clone()] };
            let has = if first { HashMap::new() } else { blobs(&old) };
            let index = store.index().await.unwrap();
            let transfer = transfer::plan(&known[1], &complete, |blob| index.contains(blob));
            let (has, ..) = receive(&store, &transfer, has).await;
            for (blob, content) in blobs(&new) {
                assert_eq!(has.get(&blob), Some(&content));
            }
            let Message::Manifest(message) = manifest(&transfer).await.unwrap() else { panic!() };
            let base = if first { vec![] } else { known[0].manifest.to_text() };
            assert_eq!(message.base.is_some(), !first);
            assert_eq!(decode(&message.frame, &base), known[1].manifest.to_text());
        });
    }
}

#[test]
fn large_files_travel_in_parts_and_a_small_change_of_one_costs_little() {
    let files = |edit: bool| {
        let mut big = noise(1, 5 << 20);
        if edit {
            big.splice(1_000_000..1_000_010, *b"something else");
        }
        let mut files = BTreeMap::from([("big.bin".to_owned(), big)]);
        for n in 0..40 {
            files.insert(format!("{n:02}.php"), noise(100 + n, 60_000));
        }
        files
    };
    let (old, new) = (files(false), files(true));
    run(async {
        let (_folder, store, known) = store(&[&old, &new]).await;
        let transfer = transfer::plan(&known[0], &[], |_| true);
        let (has, packs, sent_bytes) = receive(&store, &transfer, HashMap::new()).await;
        assert_eq!(has, blobs(&old));
        // 2.4 MB of small files in packs of at most 1 MiB, and the big one alone.
        assert!((4..=6).contains(&packs), "{packs} packs");
        assert!(sent_bytes > 7 << 20);

        let transfer = transfer::plan(&known[1], &known[..1], |_| true);
        let (has, packs, sent_bytes) = receive(&store, &transfer, has).await;
        assert!(has.contains_key(&BlobId::of(&new["big.bin"])));
        assert!(packs == 1 && sent_bytes < 10_000, "{sent_bytes} bytes");
    });
}

#[test]
fn changed_files_are_read_in_batches_that_fit_into_memory() {
    let patch = |size| Patch {
        blob: BlobId::of(b""),
        size,
        old: BlobId::of(b""),
        old_size: size,
    };
    let sizes = [10 << 20, 10 << 20, 1, 40 << 20, 1];
    let patches: Vec<Patch> = sizes.map(patch).to_vec();
    let lengths: Vec<usize> = batches(&patches).iter().map(|batch| batch.len()).collect();
    assert_eq!(lengths, [1, 2, 1, 1]);
    assert!(batches(&[]).is_empty());
}

#[test]
fn manifest_of_many_files_costs_only_what_changed() {
    let lines = |edit: usize| -> Vec<u8> {
        let line = |n: usize| {
            let content = if n % 2500 == 7 { n + edit } else { n };
            let id = BlobId::of(&content.to_le_bytes());
            format!("f\t{}\t{id}\tvendor/package/src/File{n:05}.php\n", 1000 + n)
        };
        (0..12_000).map(line).collect::<String>().into_bytes()
    };
    let (old, new) = (lines(0), lines(1_000_000));
    let frame = compress(&[&new], &old, PATCH_LEVEL).unwrap();
    assert_eq!(decode(&frame, &old), new);
    assert!(
        frame.len() < 1_000,
        "{} bytes for 5 changed lines",
        frame.len()
    );
}
