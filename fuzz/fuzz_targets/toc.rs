//! The table of contents accepts exactly what it writes. The digest is put right first, or the
//! fuzzer would never get past it.
#![no_main]
use libfuzzer_sys::fuzz_target;
use relstore_store::bundle::toc::Toc;
use relstore_store::id::BlobId;

fuzz_target!(|data: &[u8]| {
    let mut bytes = b"relstore-toc 1\n".to_vec();
    bytes.extend_from_slice(data);
    let digest = BlobId::of(&bytes);
    bytes.extend_from_slice(digest.as_bytes());
    if let Ok(toc) = Toc::parse(&bytes) {
        assert_eq!(toc.to_bytes(), bytes);
        for slot in toc.slots() {
            assert!(toc.frames_of(slot).end <= toc.frames().len());
        }
    }
});
