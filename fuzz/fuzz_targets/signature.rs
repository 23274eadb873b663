//! Signatures and lists of allowed signers of any bytes are read or refused, and nothing that was
//! not signed counts.
#![no_main]
use std::time::SystemTime;

use libfuzzer_sys::fuzz_target;
use relstore_store::allowed_signers::AllowedSigners;
use relstore_store::signature::{Namespace, Signature};

fuzz_target!(|data: &[u8]| {
    let allowed = std::str::from_utf8(data).map(AllowedSigners::parse);
    if let Ok(signature) = Signature::parse(data) {
        assert_eq!(signature.text().as_bytes(), data);
        assert!(!signature.matches(Namespace::Record, data));
        if let Ok(Ok(allowed)) = allowed {
            let time = SystemTime::UNIX_EPOCH;
            assert!(allowed.verify(Namespace::Derivation, data, &signature, time).is_err());
        }
    }
});
