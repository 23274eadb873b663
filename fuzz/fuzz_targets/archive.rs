//! Any bytes are an archive or refused: no name twice, none outside, nothing below a link. When the
//! first byte is even, checksums are put right, or the fuzzer would never get past them.
#![no_main]
use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use relstore_store::archive::{Body, Reader, Source};
use relstore_store::name::EntryPath;

const ROOM: u64 = 1 << 26;

/// The same with the checksum of each header that can be found.
fn with_checksums(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.resize(bytes.len().next_multiple_of(512) + 1024, 0);
    let (mut at, end) = (0, bytes.len() - 1024);
    while at < end {
        let mut header = tar::Header::new_old();
        header.as_mut_bytes().copy_from_slice(&bytes[at..at + 512]);
        header.set_cksum();
        bytes[at..at + 512].copy_from_slice(header.as_bytes());
        let size = header.entry_size().unwrap_or(0).min(ROOM) as usize;
        at += 512 + size.next_multiple_of(512);
    }
    bytes
}

fuzz_target!(|data: &[u8]| {
    let Some((&tag, rest)) = data.split_first() else { return };
    let bytes = if tag % 2 == 0 { with_checksums(rest.to_vec()) } else { rest.to_vec() };
    let Ok(source) = Source::new(bytes.as_slice(), ROOM) else { return };
    let mut reader = Reader::new(source);
    let mut seen: BTreeMap<EntryPath, bool> = BTreeMap::new();
    let mut buffer = vec![0; 4096];
    while let Ok(Some(member)) = reader.next_member() {
        let is_folder = member.body == Body::Folder;
        for (path, is_folder) in &seen {
            assert!(*is_folder || !member.path.is_below(path));
            assert!(is_folder == &true || member.path != *path);
        }
        if let Body::HardLink { to } = &member.body {
            assert_eq!(seen.get(to), Some(&false));
        }
        assert!(seen.insert(member.path, is_folder).is_none());
        while matches!(reader.content(&mut buffer), Ok(1..)) {}
    }
});
