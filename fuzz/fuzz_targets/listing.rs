//! A listing accepts exactly what it writes. Input is tried as text and as the compressed object.
#![no_main]
use libfuzzer_sys::fuzz_target;
use relstore_store::listing::Listing;

fuzz_target!(|data: &[u8]| {
    if let Ok(listing) = Listing::parse(data) {
        assert_eq!(listing.to_text().as_bytes(), data);
    }
    if let Ok(listing) = Listing::decode(data) {
        let again = listing.encode().expect("what was decoded is small enough");
        assert_eq!(Listing::decode(&again), Ok(listing));
    }
});
