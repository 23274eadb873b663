#![allow(clippy::unwrap_used)]
use super::*;

fn hex(message: impl Into<Message>) -> String {
    let frame = message.into().encode().unwrap();
    assert_eq!(
        Message::decode(&frame[4..]).unwrap().encode().unwrap(),
        frame
    );
    frame.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// `u64` length and bytes of a string, in hex.
fn text(text: &str) -> String {
    let bytes: String = text.bytes().map(|byte| format!("{byte:02x}")).collect();
    format!("{:02x}00000000000000{bytes}", text.len())
}

#[test]
fn golden_frames_of_requests_to_a_store() {
    let get = StoreGet {
        name: "a/b".into(),
        offset: 1,
        length: u64::MAX,
    };
    assert_eq!(
        hex(get),
        format!(
            "1d000000dc00{}0100000000000000ffffffffffffffff",
            text("a/b")
        )
    );
    let put = StorePut {
        name: "a/b".into(),
        advisory: true,
    };
    assert_eq!(hex(put), format!("0e000000dd00{}01", text("a/b")));
    let bytes = vec![1, 2, 3];
    assert_eq!(
        hex(StorePart { bytes }),
        "0d000000de000300000000000000010203"
    );
    assert_eq!(
        hex(StorePutEnd { length: 3 }),
        "0a000000df000300000000000000"
    );
    let prefix = "a/".into();
    assert_eq!(
        hex(StoreList { prefix }),
        format!("0c000000e000{}", text("a/"))
    );
    let name = "a/b".into();
    assert_eq!(
        hex(StoreDelete { name }),
        format!("0d000000e100{}", text("a/b"))
    );
    let folder = "a".into();
    assert_eq!(
        hex(StoreSettle { folder }),
        format!("0b000000e200{}", text("a"))
    );
}

#[test]
fn golden_frames_of_replies_of_a_store() {
    let hello = StoreHello {
        protocol: 1,
        version: "0.1.0".into(),
        root: "/srv".into(),
        read_only: false,
        free_bytes: 2,
        free_inodes: u64::MAX,
    };
    assert_eq!(
        hex(hello),
        format!(
            "30000000c80001000000{}{}000200000000000000ffffffffffffffff",
            text("0.1.0"),
            text("/srv")
        )
    );
    for (fault, number) in [
        (StoreFault::Conflict, 0),
        (StoreFault::Damaged, 1),
        (StoreFault::NoSpace, 2),
        (StoreFault::Permission, 3),
        (StoreFault::ReadOnly, 4),
        (StoreFault::Io, 5),
        (StoreFault::Protocol, 6),
    ] {
        let message = "no".into();
        assert_eq!(
            hex(StoreRefused { fault, message }),
            format!("10000000c900{number:02x}000000{}", text("no"))
        );
    }
    assert_eq!(
        hex(StoreFound { length: 3 }),
        "0a000000ca000300000000000000"
    );
    let bytes = vec![1, 2, 3];
    assert_eq!(
        hex(StoreBytes { bytes }),
        "0d000000cb000300000000000000010203"
    );
    assert_eq!(hex(StoreAbsent {}), "02000000cc00");
    let objects = vec![StoreObject {
        name: "a/b".into(),
        size: 5,
        modified_ns: 7,
    }];
    assert_eq!(
        hex(StoreObjects { objects }),
        format!(
            "25000000cd000100000000000000{}05000000000000000700000000000000",
            text("a/b")
        )
    );
    assert_eq!(hex(StoreDone {}), "02000000ce00");
}

#[test]
fn a_helper_of_a_store_takes_no_longer_frame_than_a_part_needs() {
    let part = |length| {
        let bytes = vec![0; length];
        Message::from(StorePart { bytes }).encode().unwrap()
    };
    let taken = |frame: Vec<u8>| read_up_to(&mut frame.as_slice(), MAX_STORE_BODY);
    assert!(taken(part(MAX_PART)).is_ok());
    assert!(matches!(
        taken(part(2 * MAX_PART)),
        Err(ProtocolError::TooLong { .. })
    ));
}

#[test]
fn the_documentation_names_each_message_with_its_number() {
    let documented: Vec<_> = include_str!("../../docs/ssh-store.md")
        .lines()
        .filter_map(|line| line.strip_prefix("| 2")?.split_once("` |"))
        .map(|(cells, _)| format!("2{cells}`"))
        .collect();
    macro_rules! named {
        ($($name:ident)*) => {
            vec![$(format!("{} | `{}`", $name::NUMBER, stringify!($name))),*]
        };
    }
    let known = named!(
        StoreHello StoreRefused StoreFound StoreBytes StoreAbsent StoreObjects StoreDone
        StoreGet StorePut StorePart StorePutEnd StoreList StoreDelete StoreSettle
    );
    assert_eq!(documented, known);
}
