//! What is said about a release, in any bytes, is judged without a panic, and what nobody signed
//! never counts. The same bytes as a label of an archive are read back or refused.
#![no_main]
use std::time::SystemTime;

use libfuzzer_sys::fuzz_target;
use relstore_store::allowed_signers::AllowedSigners;
use relstore_store::archive::Label;
use relstore_store::id::RecordId;
use relstore_store::record::Record;
use relstore_store::trust::judge;

fuzz_target!(|data: &[u8]| {
    let record = Record { id: RecordId::of(data), json: data.to_vec().into() };
    let signers = AllowedSigners::default();
    let judged = judge(b"manifest", &[record], &[], &signers, SystemTime::UNIX_EPOCH);
    assert!(judged.is_err());
    if let Ok(Some(label)) = Label::parse(data) {
        assert_eq!(label.to_text().as_bytes(), data);
    }
});
