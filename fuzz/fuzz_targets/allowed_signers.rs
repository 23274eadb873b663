//! Lists of allowed and of revoked keys, in any bytes, are read or refused; a signature over other
//! bytes counts for none of them.
#![no_main]
use std::time::SystemTime;

use libfuzzer_sys::fuzz_target;
use relstore_store::allowed_signers::AllowedSigners;
use relstore_store::revoked::RevokedKeys;
use relstore_store::signature::{Namespace, Signature};

const SIGNATURE: &[u8] = include_bytes!("../corpus-seeds/signature/record");

fuzz_target!(|data: &[u8]| {
    let signature = Signature::parse(SIGNATURE).expect("the seed is a signature");
    let Ok(Ok(allowed)) = std::str::from_utf8(data).map(AllowedSigners::parse) else {
        let _ = RevokedKeys::parse(data);
        return;
    };
    let time = SystemTime::UNIX_EPOCH;
    let verify = |allowed: &AllowedSigners| allowed.verify(Namespace::Record, b"x", &signature, time);
    assert!(verify(&allowed).is_err());
    if let Ok(revoked) = RevokedKeys::parse(data) {
        assert!(verify(&allowed.without(revoked)).is_err());
    }
});
