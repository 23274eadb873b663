#![allow(clippy::unwrap_used)]
use super::*;
use crate::backend::Content;
use crate::backend::memory::MemoryBackend;
use proptest::prelude::*;

const GOLDEN_TEXT: &[u8] = include_bytes!("../../fixtures/formats/v1/listing.txt");
const GOLDEN: &[u8] = include_bytes!("../../fixtures/formats/v1/listing.zst");

fn object(name: &str, size: u64, milliseconds: u64) -> Object {
    Object {
        name: name.to_owned(),
        size,
        modified: time(milliseconds).unwrap(),
    }
}

fn golden() -> Listing {
    Listing::of(vec![
        object("releases/ab", 19, 1_700_000_000_123),
        object("format.json", 74, 0),
        object(
            "environments/prod/ledger/%5b%3a%3a1%5d/00000001-ab.json",
            5,
            1,
        ),
        object("refs/commits/cd/ab", 0, 1_700_000_000_124),
    ])
}

fn frame(text: &str) -> Vec<u8> {
    zstd::bulk::compress(text.as_bytes(), 1).unwrap()
}

#[test]
fn golden_bytes_are_read_and_the_text_is_written() {
    assert_eq!(golden().to_text().as_bytes(), GOLDEN_TEXT);
    assert_eq!(Listing::decode(GOLDEN).unwrap(), golden());
    assert_eq!(
        Listing::decode(&golden().encode().unwrap()).unwrap(),
        golden()
    );
}

#[test]
fn what_the_writer_would_not_write_is_refused() {
    let accepted = "relstore-listing 1\na\t1\t2\nb/c\t0\t0\n";
    Listing::decode(&frame(accepted)).unwrap();
    for text in [
        "",
        "relstore-listing 2\n",
        "relstore-listing 1",
        "relstore-listing 1\n\n",
        "relstore-listing 1\r\n",
        "relstore-listing 1\na\t1\t2",
        "relstore-listing 1\na\t1\n",
        "relstore-listing 1\na\t1\t2\t3\n",
        "relstore-listing 1\na\t01\t2\n",
        "relstore-listing 1\na\t+1\t2\n",
        "relstore-listing 1\na\t-1\t2\n",
        "relstore-listing 1\na\t\t2\n",
        "relstore-listing 1\na\t1\t99999999999999999999\n",
        "relstore-listing 1\nb\t1\t2\na\t1\t2\n",
        "relstore-listing 1\na\t1\t2\na\t1\t2\n",
        "relstore-listing 1\n../a\t1\t2\n",
        "relstore-listing 1\n/a\t1\t2\n",
        "relstore-listing 1\na//b\t1\t2\n",
        "relstore-listing 1\na/.tmp-x\t1\t2\n",
        "relstore-listing 1\na b\t1\t2\n",
        "relstore-listing 1\n\u{e4}\t1\t2\n",
        "relstore-listing 1\nlisting.zst\t1\t2\n",
        "relstore-listing 1\nprobes/a\t1\t2\n",
    ] {
        assert!(Listing::decode(&frame(text)).is_err(), "{text:?}");
    }
}

#[test]
fn anything_but_one_frame_is_refused() {
    let good = golden().encode().unwrap();
    let skippable = [&[0x5e, 0x2a, 0x4d, 0x18, 0, 0, 0, 0], good.as_slice()].concat();
    let twice = [good.as_slice(), &good].concat();
    let longer = [good.as_slice(), b"\0"].concat();
    for bytes in [&skippable, &twice, &longer, &good[..good.len() - 1], b""] {
        assert_eq!(Listing::decode(bytes), Err(ListingError::Frame));
    }
}

#[test]
fn a_small_frame_of_much_text_stops_at_the_limit() {
    let mut encoder = zstd::stream::Encoder::new(Vec::new(), 1).unwrap();
    std::io::copy(&mut std::io::repeat(b'a').take(MAX_TEXT + 2), &mut encoder).unwrap();
    let bomb = encoder.finish().unwrap();
    assert_eq!(Listing::decode(&bomb), Err(ListingError::Frame));
}

#[test]
fn below_finds_what_begins_with_the_prefix() {
    let listing = Listing::of(vec![
        object("a-b", 1, 1),
        object("a/1", 1, 1),
        object("a/2", 1, 1),
        object("a0", 1, 1),
    ]);
    assert_eq!(listing.below("a/").len(), 2);
    assert_eq!(listing.below("").len(), 4);
    assert!(listing.below("b/").is_empty());
}

#[tokio::test]
async fn listing_names_all_but_itself_probes_and_foreign_files() {
    let backend = MemoryBackend::default();
    let put = |name: &'static str| backend.put(name, Content::Bytes(Bytes::from_static(b"12")));
    for name in ["a/1", "probes/1", "a/.tmp-1", "my notes", "format.json"] {
        put(name).await.unwrap();
    }
    write_listing(&backend).await.unwrap();
    write_listing(&backend).await.unwrap();
    let bytes = backend.get(LISTING).await.unwrap().unwrap();
    let listing = Listing::decode(&bytes).unwrap();
    let names: Vec<_> = listing.objects().iter().map(|o| o.name.as_str()).collect();
    assert_eq!(names, ["a/1", "format.json"]);
}

#[tokio::test]
async fn a_listing_is_refreshed_only_where_there_is_one() {
    let backend = std::sync::Arc::new(MemoryBackend::default());
    let store = Store::create_backend(backend.clone()).await.unwrap();
    store.refresh_listing().await.unwrap();
    assert!(backend.get(LISTING).await.unwrap().is_none());
    backend.put_advisory(LISTING, Bytes::new()).await.unwrap();
    store.refresh_listing().await.unwrap();
    let bytes = backend.get(LISTING).await.unwrap().unwrap();
    assert_eq!(Listing::decode(&bytes).unwrap().objects().len(), 1);
}

proptest! {
    #[test]
    fn decoding_gives_what_was_encoded(
        entries in prop::collection::vec(("[a-z%.-]{1,4}(/[a-z0-9]{1,3}){0,2}", any::<u64>(), 0..1u64 << 60), 0..20)
    ) {
        let objects = entries.iter().map(|(name, size, at)| object(name, *size, *at)).collect();
        let listing = Listing::of(objects);
        prop_assert_eq!(Listing::decode(&listing.encode().unwrap()).unwrap(), listing.clone());
        prop_assert_eq!(Listing::parse(listing.to_text().as_bytes()).unwrap(), listing);
    }

    #[test]
    fn what_is_accepted_is_written_again(text in "(relstore-listing 1\n)?([ab/.]{1,3}\t[0-9]{1,2}\t[0-9]{1,2}\n){0,3}") {
        if let Ok(listing) = Listing::parse(text.as_bytes()) {
            prop_assert_eq!(listing.to_text(), text);
        }
    }
}
