//! The manifest parser accepts exactly what the writer writes.
#![no_main]
use libfuzzer_sys::fuzz_target;
use relstore_store::manifest::Manifest;

fuzz_target!(|data: &[u8]| {
    if let Ok(manifest) = Manifest::parse(data) {
        assert_eq!(manifest.to_text(), data);
    }
});
