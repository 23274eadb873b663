//! A helper that serves a store, as a client sees it that keeps to nothing.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use relstore_deployer::protocol::{
    MAX_PART, Message, StoreBytes, StoreDelete, StoreFault, StoreGet, StoreHello, StoreList,
    StoreObjects, StorePart, StorePut, StorePutEnd, StoreSettle,
};

use super::client::{HELPER, Helper};

/// A folder for a store.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("store")).unwrap();
        Self { folder }
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("store")
    }

    fn start(&self, options: &[&str]) -> Helper {
        let mut command = Command::new(HELPER);
        command.args(["store", "--root"]).arg(self.root());
        command.args(options);
        Helper::start(command)
    }

    /// All that lies below the root, by path.
    fn files(&self) -> Vec<String> {
        let mut found = Vec::new();
        walk(&self.root(), &self.root(), &mut found);
        found.sort();
        found
    }
}

fn walk(root: &Path, folder: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            walk(root, &path, found);
        } else {
            let name = path.strip_prefix(root).unwrap();
            found.push(name.display().to_string());
        }
    }
}

fn get(name: &str, offset: u64, length: u64) -> StoreGet {
    StoreGet {
        name: name.into(),
        offset,
        length,
    }
}

fn begin(name: &str) -> StorePut {
    StorePut {
        name: name.into(),
        advisory: false,
    }
}

fn part(bytes: &[u8]) -> StorePart {
    let bytes = bytes.to_vec();
    StorePart { bytes }
}

fn put(helper: &mut Helper, name: &str, bytes: &[u8]) -> Message {
    helper.send(begin(name));
    for piece in bytes.chunks(MAX_PART) {
        helper.send(part(piece));
    }
    let length = bytes.len() as u64;
    helper.ask(StorePutEnd { length })
}

fn stored(helper: &mut Helper, name: &str, bytes: &[u8]) {
    let reply = put(helper, name, bytes);
    assert!(matches!(reply, Message::StoreDone(_)), "{reply:?}");
}

fn fault(reply: Message) -> StoreFault {
    match reply {
        Message::StoreRefused(refused) => refused.fault,
        other => panic!("{other:?}"),
    }
}

fn hello(helper: &Helper) -> &StoreHello {
    match &helper.hello {
        Message::StoreHello(hello) => hello,
        other => panic!("{other:?}"),
    }
}

/// Reads the parts of an object that was asked for.
fn read(helper: &mut Helper, request: StoreGet) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let length = match helper.ask(request) {
        Message::StoreFound(found) => found.length,
        Message::StoreAbsent(_) => return None,
        other => panic!("{other:?}"),
    };
    while (bytes.len() as u64) < length {
        match helper.reply() {
            Message::StoreBytes(StoreBytes { bytes: more }) => bytes.extend(more),
            other => panic!("{other:?}"),
        }
    }
    Some(bytes)
}

#[test]
fn objects_are_put_read_listed_and_deleted() {
    let place = Place::new();
    let mut helper = place.start(&[]);
    assert_eq!(hello(&helper).protocol, 1);
    assert_eq!(hello(&helper).root, place.root().display().to_string());
    assert!(!hello(&helper).read_only && hello(&helper).free_bytes > 0);

    let large: Vec<u8> = (0..3 * MAX_PART + 5).map(|n| n as u8).collect();
    stored(&mut helper, "bundles/x", &large);
    stored(&mut helper, "bundles/x", &large);
    stored(&mut helper, "a/empty", b"");
    let other = put(&mut helper, "bundles/x", b"other");
    assert_eq!(fault(other), StoreFault::Conflict);
    assert!(read(&mut helper, get("bundles/x", 0, u64::MAX)).unwrap() == large);
    assert_eq!(
        read(&mut helper, get("bundles/x", 3, 4)).unwrap(),
        large[3..7]
    );
    assert_eq!(
        read(&mut helper, get("bundles/x", u64::MAX, 4)).unwrap(),
        b""
    );
    assert_eq!(read(&mut helper, get("a/none", 0, 4)), None);

    let advisory = |helper: &mut Helper, bytes: &[u8]| {
        helper.send(StorePut {
            name: "advice".into(),
            advisory: true,
        });
        helper.send(part(bytes));
        let length = bytes.len() as u64;
        let reply = helper.ask(StorePutEnd { length });
        assert!(matches!(reply, Message::StoreDone(_)), "{reply:?}");
    };
    advisory(&mut helper, b"old");
    advisory(&mut helper, b"newer");
    assert_eq!(read(&mut helper, get("advice", 0, 9)).unwrap(), b"newer");

    let prefix = String::new();
    let Message::StoreObjects(StoreObjects { objects }) = helper.ask(StoreList { prefix }) else {
        panic!("no list");
    };
    let names: Vec<_> = objects
        .iter()
        .map(|object| (object.name.as_str(), object.size))
        .collect();
    assert_eq!(
        names,
        [
            ("a/empty", 0),
            ("advice", 5),
            ("bundles/x", large.len() as u64)
        ]
    );
    assert!(objects[0].modified_ns > 1_600_000_000_000_000_000);
    assert!(matches!(helper.reply(), Message::StoreDone(_)));

    for name in ["a/empty", "a/none"] {
        let name = name.into();
        let reply = helper.ask(StoreDelete { name });
        assert!(matches!(reply, Message::StoreDone(_)), "{reply:?}");
    }
    let folder = "bundles".into();
    let reply = helper.ask(StoreSettle { folder });
    assert!(matches!(reply, Message::StoreDone(_)), "{reply:?}");
    helper.finish();
    assert_eq!(place.files(), ["advice", "bundles/x"]);
}

#[test]
fn many_requests_sent_ahead_are_answered_in_their_order() {
    let place = Place::new();
    let mut helper = place.start(&[]);
    for n in 0..300_u32 {
        helper.send(begin(&format!("a/{n:03}")));
        helper.send(part(&n.to_le_bytes()));
        helper.send(StorePutEnd { length: 4 });
        helper.send(get(&format!("a/{n:03}"), 0, 4));
    }
    for n in 0..300_u32 {
        assert!(matches!(helper.reply(), Message::StoreDone(_)));
        assert!(matches!(helper.reply(), Message::StoreFound(_)));
        let Message::StoreBytes(StoreBytes { bytes }) = helper.reply() else {
            panic!("no bytes");
        };
        assert_eq!(bytes, n.to_le_bytes());
    }
    helper.finish();
}

#[test]
fn a_long_list_comes_in_parts() {
    let place = Place::new();
    fs::create_dir(place.root().join("a")).unwrap();
    for n in 0..2500 {
        fs::write(place.root().join(format!("a/{n:04}")), "").unwrap();
    }
    let mut helper = place.start(&["--read-only"]);
    let prefix = "a/".into();
    helper.send(StoreList { prefix });
    let mut counts = Vec::new();
    while let Message::StoreObjects(part) = helper.reply() {
        counts.push(part.objects.len());
    }
    assert_eq!(counts, [1000, 1000, 500]);
    helper.finish();
}

#[test]
fn names_that_lead_out_are_refused_and_the_conversation_goes_on() {
    let place = Place::new();
    fs::write(place.folder.path().join("secret"), "hunter2").unwrap();
    let mut helper = place.start(&[]);
    stored(&mut helper, "a/b", b"1");
    std::os::unix::fs::symlink(place.folder.path(), place.root().join("out")).unwrap();
    for name in [
        "../secret",
        "a/../../secret",
        "/etc/hostname",
        "a/./b",
        "",
        "a\0b",
        "out/secret",
        "out/new",
        ".relstore/helper/x",
        "a/.tmp-x",
    ] {
        assert_eq!(fault(helper.ask(get(name, 0, 9))), StoreFault::Damaged);
        assert_eq!(
            fault(put(&mut helper, name, b"x")),
            StoreFault::Damaged,
            "{name:?}"
        );
        let name: String = name.into();
        let gone = helper.ask(StoreDelete { name: name.clone() });
        assert_eq!(fault(gone), StoreFault::Damaged);
        if !name.is_empty() {
            let prefix = format!("{name}/");
            let reply = helper.ask(StoreList { prefix });
            assert_eq!(fault(reply), StoreFault::Damaged, "{name:?}");
        }
    }
    let long = "x".repeat(30_000);
    assert_eq!(fault(put(&mut helper, &long, b"x")), StoreFault::Io);
    assert_eq!(read(&mut helper, get("a/b", 0, 9)).unwrap(), b"1");
    helper.finish();
    let content = fs::read_to_string(place.folder.path().join("secret")).unwrap();
    assert_eq!(content, "hunter2");
    assert!(!place.folder.path().join("new").exists());
}

#[test]
fn messages_out_of_order_end_the_conversation_and_leave_nothing() {
    let place = Place::new();
    let lone: Vec<Vec<Message>> = vec![
        vec![part(b"x").into()],
        vec![StorePutEnd { length: 0 }.into()],
        vec![begin("a/b").into(), begin("a/b").into()],
        vec![begin("a/b").into(), get("a/b", 0, 1).into()],
        vec![
            begin("a/b").into(),
            part(b"x").into(),
            StorePutEnd { length: 2 }.into(),
        ],
        vec![begin("a/b").into(), part(&vec![0; MAX_PART + 1]).into()],
        vec![relstore_deployer::protocol::Status {}.into()],
    ];
    for messages in lone {
        let mut helper = place.start(&[]);
        helper.stream(messages.clone());
        assert_eq!(fault(helper.reply()), StoreFault::Protocol, "{messages:?}");
        helper.finish();
        assert!(
            place.files().is_empty(),
            "{messages:?}: {:?}",
            place.files()
        );
    }
    // Lengths that nobody sends so much for, unknown numbers, bodies that are none.
    for bytes in [
        &u32::MAX.to_le_bytes()[..],
        &(32_u32 << 20).to_le_bytes(),
        &[2, 0, 0, 0, 255, 255],
        &[3, 0, 0, 0, 220, 0, 1],
        &[0, 0, 0, 0],
    ] {
        let mut helper = place.start(&[]);
        helper.send_raw(bytes);
        assert_eq!(fault(helper.reply()), StoreFault::Protocol, "{bytes:?}");
        helper.finish();
    }
}

#[test]
fn an_object_cut_off_is_never_seen_and_its_bytes_are_removed() {
    let place = Place::new();
    let half = |helper: &mut Helper| {
        stored(helper, "a/before", b"1");
        helper.send(begin("a/b"));
        helper.send(part(&[7; MAX_PART]));
        // The answer to what was sent before shows that it is being written.
        while !place.files().iter().any(|name| name.contains("incoming")) {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    };
    let mut helper = place.start(&[]);
    half(&mut helper);
    helper.finish();
    assert_eq!(place.files(), ["a/before"]);

    let mut helper = place.start(&[]);
    half(&mut helper);
    helper.kill();
    assert_eq!(place.files().len(), 2, "a killed helper cannot clean up");
    let mut other = place.start(&[]);
    assert_eq!(place.files(), ["a/before"], "the next one does");
    half(&mut other);
    let third = place.start(&[]);
    assert_eq!(place.files().len(), 2, "one at work keeps its file");
    third.finish();
    other.send(StorePutEnd {
        length: MAX_PART as u64,
    });
    assert!(matches!(other.reply(), Message::StoreDone(_)));
    other.finish();
    assert_eq!(place.files(), ["a/b", "a/before"]);
}

#[test]
fn a_helper_that_only_reads_changes_nothing() {
    let place = Place::new();
    let mut helper = place.start(&[]);
    stored(&mut helper, "a/b", b"1");
    helper.finish();
    fs::remove_dir_all(place.root().join(".relstore")).unwrap();

    let mut helper = place.start(&["--read-only"]);
    assert!(hello(&helper).read_only);
    let reply = put(&mut helper, "a/c", b"1");
    assert_eq!(fault(reply), StoreFault::ReadOnly);
    let name = "a/b".into();
    assert_eq!(
        fault(helper.ask(StoreDelete { name })),
        StoreFault::ReadOnly
    );
    assert_eq!(read(&mut helper, get("a/b", 0, 9)).unwrap(), b"1");
    helper.finish();
    assert_eq!(place.files(), ["a/b"]);
    assert!(!place.root().join(".relstore").exists());
}

#[test]
fn memory_stays_small_whatever_the_objects_size() {
    let place = Place::new();
    let mut helper = place.start(&[]);
    let size = 96 << 20;
    stored(&mut helper, "bundles/x", &vec![7; size]);
    let length = read(&mut helper, get("bundles/x", 0, u64::MAX)).map(|bytes| bytes.len());
    assert_eq!(length, Some(size));
    let status = fs::read_to_string(format!("/proc/{}/status", helper.pid())).unwrap();
    let peak = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .and_then(|rest| rest.trim().strip_suffix(" kB"))
        .and_then(|kib| kib.parse::<u64>().ok())
        .unwrap();
    assert!(peak < 60 << 10, "{peak} KiB");
    helper.finish();
}

#[test]
fn a_root_is_absolute() {
    for arguments in [
        &["store", "--root", "store"][..],
        &["store", "--root"],
        &["store"],
        &["store", "--root", "/srv", "--allow-everything"],
    ] {
        let output = Command::new(HELPER).args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
    }
}

#[test]
fn a_full_disk_is_told_and_what_had_arrived_makes_room_again() {
    let place = Place::new();
    // A file system of its own that vanishes with the helper.
    let script = "rights=--mount; [ $(id -u) = 0 ] || rights='--mount --map-root-user'
        exec unshare $rights sh -c 'mount -t tmpfs -o size=3m none \"$1\"; exec \"$0\" store --root \"$1\"' \"$@\"";
    let mut command = Command::new("sh");
    command.args(["-c", script, "sh", HELPER]).arg(place.root());
    let mut helper = Helper::start(command);
    stored(&mut helper, "a/b", b"1");
    let reply = put(&mut helper, "bundles/x", &vec![7; 6_000_000]);
    assert_eq!(fault(reply), StoreFault::NoSpace);
    assert_eq!(read(&mut helper, get("bundles/x", 0, 9)), None);
    stored(&mut helper, "bundles/x", &vec![7; 2_000_000]);
    helper.finish();
}
