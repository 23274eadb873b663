//! A bundle and its index of any bytes are read or refused, and every blob that comes out of them has
//! its id. Digest and footer of the table are put right first.
#![no_main]
use std::sync::Arc;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use relstore_store::Store;
use relstore_store::backend::memory::MemoryBackend;
use relstore_store::backend::{Backend, Content};
use relstore_store::bundle::toc::Toc;
use relstore_store::bundle::{FOOTER, FOOTER_MAGIC, SKIPPABLE_MAGIC};
use relstore_store::id::{BlobId, BundleHash};

/// `u16` length of the frames, the frames, the table without its magic and digest.
fn bundle(data: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let (length, rest) = data.split_first_chunk::<2>()?;
    let (frames, body) = rest.split_at_checked(u16::from_le_bytes(*length).into())?;
    let mut table = b"relstore-toc 1\n".to_vec();
    table.extend_from_slice(body);
    let digest = BlobId::of(&table);
    table.extend_from_slice(digest.as_bytes());
    let mut bundle = frames.to_vec();
    bundle.extend_from_slice(&SKIPPABLE_MAGIC.to_le_bytes());
    bundle.extend_from_slice(&((table.len() + FOOTER) as u32).to_le_bytes());
    bundle.extend_from_slice(&table);
    bundle.extend_from_slice(&(table.len() as u32).to_le_bytes());
    bundle.extend_from_slice(FOOTER_MAGIC);
    Some((bundle, table))
}

async fn read(bundle: Vec<u8>, table: Vec<u8>, with_index: bool) {
    let backend = Arc::new(MemoryBackend::default());
    let store = Store::create_backend(backend.clone()).await.expect("an empty place");
    let stem = format!("{}-0", BundleHash::of(&bundle));
    let put = |name: String, bytes: Vec<u8>| {
        let backend = backend.clone();
        async move { backend.put(&name, Content::Bytes(bytes.into())).await }
    };
    put(format!("bundles/{stem}.tar.zst"), bundle).await.expect("a new name");
    if with_index {
        put(format!("index/{stem}"), table.clone()).await.expect("a new name");
    }
    let Ok(toc) = Toc::parse(&table) else { return };
    for slot in toc.slots().iter().take(8) {
        if let Ok(bytes) = store.read_blob(&slot.blob).await {
            let bytes: Bytes = bytes;
            assert_eq!(BlobId::of(&bytes), slot.blob);
            assert_eq!(bytes.len() as u64, slot.length);
        }
    }
}

fuzz_target!(|data: &[u8]| {
    thread_local! {
        static RUNTIME: tokio::runtime::Runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .expect("a runtime");
    }
    if let Some((bundle, table)) = bundle(data) {
        let with_index = data.len() % 2 == 0;
        RUNTIME.with(|runtime| runtime.block_on(read(bundle, table, with_index)));
    }
});
