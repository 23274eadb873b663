//! A store behind a real sshd, and through the helper on this machine.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::future::join_all;
use relstore_deployer::SshBackend;
use relstore_deployer::protocol::{
    MAGIC, MAX_PART, Message, Status, StoreAbsent, StoreBytes, StoreDone, StoreFound, StoreHello,
    StoreObject, StoreObjects,
};
use relstore_deployer::transport::{Caller, Endpoint, HelperBinary, SshTarget};
use relstore_store::backend::{Backend, Content, contract};
use relstore_store::import::{Layout, ReleaseTree};
use relstore_store::{Store, StoreError};

use crate::line::Line;
use crate::sshd::{Sshd, caller, program};

fn helper() -> HelperBinary {
    HelperBinary::load(env!("CARGO_BIN_EXE_relstore-host")).unwrap()
}

async fn open(server: &Sshd, endpoint: Endpoint) -> Result<SshBackend, StoreError> {
    let spool = server.path("spool");
    SshBackend::open(endpoint, &server.base(), helper(), caller(), spool).await
}

fn bytes(text: &'static str) -> Content {
    Content::Bytes(Bytes::from_static(text.as_bytes()))
}

/// A file to put.
fn file(server: &Sshd, length: usize) -> Content {
    use std::io::Write;
    let mut file = tempfile::NamedTempFile::new_in(server.path("spool")).unwrap();
    let bytes: Vec<u8> = (0..length as u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    file.write_all(&bytes).unwrap();
    Content::File(file)
}

/// All files below the root but the helper, by path.
fn files(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if !path.ends_with("relstore-host") {
                found.push(path.strip_prefix(root).unwrap().display().to_string());
            }
        }
    }
    found.sort();
    found
}

#[tokio::test]
async fn passes_the_contract_over_ssh_and_on_this_machine() {
    for ssh in [true, false] {
        let server = Sshd::start();
        let endpoint = if ssh {
            server.endpoint()
        } else {
            Endpoint::Local
        };
        let backend = open(&server, endpoint).await.unwrap();
        backend.settle("bundles").await.unwrap();
        contract::passes(&backend).await;
        assert_eq!(
            backend.list("").await.unwrap().len(),
            5,
            "the helper is no object"
        );
        let place = if ssh {
            format!("ssh://{}{}", server.target(), server.base())
        } else {
            server.base()
        };
        assert_eq!(backend.place(), place);
        let missing = Arc::new(backend);
        let opened = Store::open_backend(missing).await;
        assert!(matches!(opened, Err(StoreError::NoStore { place: at }) if at == place));
    }
}

#[tokio::test]
async fn many_tasks_share_one_connection() {
    let server = Sshd::start();
    let backend = Arc::new(open(&server, server.endpoint()).await.unwrap());
    let tasks = (0..200_u32).map(|n| {
        let backend = Arc::clone(&backend);
        tokio::spawn(async move {
            let name = format!("a/{:03}", n % 100);
            let content = Bytes::from(vec![(n % 100) as u8; 10_000]);
            let put = backend.put(&name, Content::Bytes(content.clone())).await;
            put.unwrap();
            assert_eq!(backend.get(&name).await.unwrap().unwrap(), content);
            let range = backend.get_range(&name, 9_990, 99).await.unwrap().unwrap();
            assert_eq!(range, content[9_990..]);
            backend.list("a/").await.unwrap();
        })
    });
    for task in join_all(tasks).await {
        task.unwrap();
    }
    assert_eq!(server.connections().len(), 1);
    assert_eq!(backend.list("a/").await.unwrap().len(), 100);
}

#[tokio::test]
async fn a_release_goes_into_a_store_over_ssh_and_comes_out_again() {
    let server = Sshd::start();
    let tree = server.path("tree");
    fs::create_dir_all(tree.join("app")).unwrap();
    for n in 0..50 {
        fs::write(tree.join(format!("app/{n}.php")), format!("<?php // {n}\n")).unwrap();
    }
    let backend = open(&server, server.endpoint()).await.unwrap();
    let store = Store::create_backend(Arc::new(backend)).await.unwrap();
    let release = ReleaseTree {
        root: tree,
        layout: Layout::default(),
    };
    let imported = store.import(&release, &|_| {}).await.unwrap();
    store.publish(&imported.release).await.unwrap();

    // Read by what lies in the folder, and over a new connection.
    let local = Store::open_or_create(Path::new(&server.base()))
        .await
        .unwrap();
    assert!(local.has_release(&imported.release).await.unwrap());
    Store::check_place(Path::new(&server.base())).await.unwrap();
    let backend = open(&server, server.endpoint()).await.unwrap();
    let store = Store::open_backend(Arc::new(backend)).await.unwrap();
    let out = server.path("out");
    fs::create_dir(&out).unwrap();
    store.checkout(&imported.release, &out).await.unwrap();
    let content = fs::read_to_string(out.join("app/49.php")).unwrap();
    assert_eq!(content, "<?php // 49\n");
}

#[tokio::test]
async fn a_long_line_costs_its_delay_once_and_not_once_per_object() {
    let server = Sshd::start();
    let line = Line::to(server.port, Duration::from_millis(50)).await;
    let name = format!("[127.0.0.1]:{}", line.port);
    let key = fs::read_to_string(server.path("host_key.pub")).unwrap();
    fs::write(server.path("known_hosts"), format!("{name} {key}")).unwrap();
    let endpoint = Endpoint::Ssh(SshTarget {
        port: Some(line.port),
        ..server.target()
    });
    let backend = open(&server, endpoint).await.unwrap();
    let names: Vec<String> = (0..200).map(|n| format!("a/{n:03}")).collect();
    fs::create_dir(Path::new(&server.base()).join("a")).unwrap();
    for name in &names {
        fs::write(Path::new(&server.base()).join(name), name).unwrap();
    }
    let before = line.turns();
    let read = join_all(names.iter().map(|name| backend.get(name))).await;
    for (name, read) in names.iter().zip(read) {
        assert_eq!(read.unwrap().unwrap(), name.as_bytes());
    }
    let turns = line.turns() - before;
    assert!(turns <= 10, "{turns} exchanges for 200 objects");

    let before = line.turns();
    for name in &names[..10] {
        backend.get(name).await.unwrap();
    }
    let turns = line.turns() - before;
    assert!(turns >= 10, "{turns} exchanges for 10 objects, one by one");
}

#[tokio::test]
async fn a_put_whose_connection_is_lost_is_made_again_on_a_new_one() {
    let server = Sshd::start();
    let backend = Arc::new(open(&server, server.endpoint()).await.unwrap());
    let put = {
        let (backend, content) = (Arc::clone(&backend), file(&server, 40_000_000));
        tokio::spawn(async move { backend.put("bundles/x", content).await })
    };
    let root = PathBuf::from(server.base());
    await_part(&root).await;
    server.cut_connections();
    put.await.unwrap().unwrap();
    let listed = backend.list("").await.unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].size, 40_000_000);
    // The helper of the lost connection ends by itself.
    let begun = Instant::now();
    while files(&root) != ["bundles/x"] {
        assert!(
            begun.elapsed() < Duration::from_secs(10),
            "{:?}",
            files(&root)
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until something of an object has arrived.
async fn await_part(root: &Path) {
    let begun = Instant::now();
    while !files(root).iter().any(|name| name.contains("incoming")) {
        assert!(begun.elapsed() < Duration::from_secs(20), "nothing arrives");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn a_put_that_is_cut_leaves_nothing_and_can_be_made_again() {
    let server = Sshd::start();
    let backend = Arc::new(open(&server, server.endpoint()).await.unwrap());
    backend.put("a/before", bytes("1")).await.unwrap();
    let put = {
        let (backend, content) = (Arc::clone(&backend), file(&server, 40_000_000));
        tokio::spawn(async move { backend.put("bundles/x", content).await })
    };
    let root = PathBuf::from(server.base());
    await_part(&root).await;
    fs::rename(server.path("authorized_keys"), server.path("locked_out")).unwrap();
    server.cut_connections();
    let error = put.await.unwrap().unwrap_err();
    let StoreError::Remote { place, .. } = &error else {
        panic!("{error:?}");
    };
    assert_eq!(**place, *backend.place());
    assert!(error.hint().is_some_and(|hint| !hint.is_empty()));
    let error = backend.get("a/before").await.unwrap_err();
    assert!(
        error.to_string().starts_with("cannot connect to"),
        "{error}"
    );
    let seen = files(&root);
    assert!(!seen.iter().any(|name| name == "bundles/x"), "{seen:?}");

    fs::rename(server.path("locked_out"), server.path("authorized_keys")).unwrap();
    let content = file(&server, 40_000_000);
    backend.put("bundles/x", content).await.unwrap();
    let names: Vec<_> = backend.list("").await.unwrap();
    assert_eq!(names.len(), 2, "{names:?}");
}

#[tokio::test]
async fn a_key_may_be_bound_to_one_store_and_to_reading_it() {
    let server = Sshd::start();
    let root = server.base();
    fs::create_dir_all(Path::new(&root).join("a")).unwrap();
    fs::write(Path::new(&root).join("a/b"), "1").unwrap();
    let key = fs::read_to_string(server.path("user_key.pub")).unwrap();
    let bind = |options: &str| {
        let program = env!("CARGO_BIN_EXE_relstore-host");
        let line = format!("restrict,command=\"{program} store --root {root}{options}\" {key}");
        fs::write(server.path("authorized_keys"), line).unwrap();
    };

    bind("");
    let backend = open(&server, server.endpoint()).await.unwrap();
    backend.put("a/c", bytes("1")).await.unwrap();
    assert!(
        !Path::new(&root).join(".relstore/helper").exists(),
        "nothing is copied"
    );
    let spool = server.path("spool");
    let other = server.path("other").display().to_string();
    let error = SshBackend::open(server.endpoint(), &other, helper(), caller(), spool).await;
    let error = error.unwrap_err();
    assert!(error.hint().unwrap().contains(&root), "{error:?}");
    assert!(!server.path("other").exists());

    bind(" --read-only");
    let backend = open(&server, server.endpoint()).await.unwrap();
    assert!(backend.hello().await.read_only);
    let error = backend.put("a/d", bytes("1")).await.unwrap_err();
    assert!(matches!(error, StoreError::ReadOnly { .. }), "{error:?}");
    assert_eq!(backend.get("a/b").await.unwrap().unwrap(), "1");
}

/// A helper that says this and then listens, whatever it hears.
fn liar(folder: &Path, first: Option<u32>, then: &[u8]) -> HelperBinary {
    let hello = StoreHello {
        protocol: first.unwrap_or(1),
        version: "0".into(),
        root: folder.join("base").display().to_string(),
        read_only: false,
        free_bytes: 0,
        free_inodes: 0,
    };
    let mut said = MAGIC.to_vec();
    said.extend(Message::from(hello).encode().unwrap());
    fs::write(folder.join("hello"), said).unwrap();
    fs::write(folder.join("then"), then).unwrap();
    let script = format!(
        "#!/bin/sh\ncat {0}/hello\nhead -c 1 >/dev/null\ncat {0}/then\ncat >/dev/null\n",
        folder.display()
    );
    program(&folder.join("liar"), script);
    HelperBinary::load(folder.join("liar")).unwrap()
}

async fn lied_to(first: Option<u32>, then: &[u8], caller: &Caller) -> StoreError {
    let folder = tempfile::tempdir().unwrap();
    let helper = liar(folder.path(), first, then);
    let root = folder.path().join("base").display().to_string();
    let spool = folder.path().join("spool");
    let opened = SshBackend::open(Endpoint::Local, &root, helper, caller.clone(), spool).await;
    let backend = match opened {
        Ok(backend) => backend,
        Err(error) => return error,
    };
    match backend.get("a/b").await {
        Err(error) => error,
        Ok(read) => panic!("{read:?}"),
    }
}

#[tokio::test]
async fn answers_that_make_no_sense_are_errors() {
    let frame = |message: Message| message.encode().unwrap();
    let part = |length| {
        let bytes = vec![0; length];
        frame(StoreBytes { bytes }.into())
    };
    let found = |length| frame(StoreFound { length }.into());
    let objects = vec![StoreObject {
        name: "a/b".into(),
        size: 1,
        modified_ns: 1,
    }];
    for then in [
        frame(StoreDone {}.into()),
        frame(StoreObjects { objects }.into()),
        frame(Status {}.into()),
        part(3),
        [found(3), part(4)].concat(),
        [found(3), part(0)].concat(),
        [found(u64::MAX), part(MAX_PART + 1)].concat(),
        [found(3), frame(StoreAbsent {}.into())].concat(),
        u32::MAX.to_le_bytes().to_vec(),
        vec![2, 0, 0, 0, 255, 255],
        b"ls: cannot access".to_vec(),
    ] {
        let error = lied_to(None, &then, &caller()).await;
        let StoreError::Remote { source, .. } = &error else {
            panic!("{error:?}");
        };
        assert!(
            source.to_string().contains("cannot be understood"),
            "{source}: {then:?}"
        );
        assert!(error.hint().unwrap().contains("same version"));
    }
    let error = lied_to(Some(7), b"", &caller()).await;
    let StoreError::Remote { source, .. } = &error else {
        panic!("{error:?}");
    };
    assert!(source.to_string().contains("version 7"), "{source}");
}

#[tokio::test]
async fn a_helper_that_falls_silent_is_given_up() {
    let mut caller = caller();
    caller.limits.idle = Duration::from_millis(200);
    let error = lied_to(None, b"", &caller).await;
    let StoreError::Remote { source, .. } = &error else {
        panic!("{error:?}");
    };
    assert!(source.to_string().starts_with("nothing moved"), "{source}");
}
