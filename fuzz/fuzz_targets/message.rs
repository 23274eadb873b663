//! A decoded protocol message encodes to the same bytes.
#![no_main]
use libfuzzer_sys::fuzz_target;
use relstore_deployer::protocol::Message;

fuzz_target!(|data: &[u8]| {
    if let Ok(message) = Message::decode(data) {
        let frame = message.encode().expect("what was decoded is small enough");
        assert_eq!(&frame[4..], data);
    }
});
