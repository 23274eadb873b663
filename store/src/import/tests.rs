#![allow(clippy::unwrap_used)]
use super::*;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};

/// Longer than what is kept in memory, and than a frame.
const LONG: usize = 3 << 20;

struct Setup {
    folder: tempfile::TempDir,
    tree: ReleaseTree,
}

impl Setup {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("tree");
        std::fs::create_dir_all(&root).unwrap();
        std::fs::create_dir(folder.path().join("spool")).unwrap();
        std::fs::write(root.join("small.php"), "<?php\n").unwrap();
        std::fs::write(root.join("long.bin"), vec![7; LONG]).unwrap();
        // Where times are coarse, a write right after this would leave no trace in them.
        let before = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1 << 30);
        for name in ["small.php", "long.bin"] {
            let file = std::fs::File::options().write(true).open(root.join(name));
            file.unwrap().set_modified(before).unwrap();
        }
        let layout = Layout::default();
        Self {
            folder,
            tree: ReleaseTree { root, layout },
        }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.tree.root.join(name)
    }

    /// Imports, with something happening at each piece of news.
    fn import(&self, at: impl Fn(&Event) -> bool) -> Result<Prepared, StoreError> {
        let scan = scan(&self.tree, &|_, _| true)?;
        let spool = self.folder.path().join("spool");
        let result = prepare(&self.tree, scan, &Index::default(), &spool, &|event| {
            at(&event)
        });
        if result.is_err() {
            assert_eq!(std::fs::read_dir(&spool).unwrap().count(), 0);
        }
        result
    }

    /// Imports while `harm` is done once, when `when` says so; the path that has changed.
    fn changed(&self, when: fn(&Event) -> bool, harm: impl Fn()) -> String {
        let done = std::cell::Cell::new(false);
        let result = self.import(|event| {
            if when(event) && !done.replace(true) {
                harm();
            }
            true
        });
        match result.err().unwrap() {
            StoreError::Tree {
                source: TreeError::Changed { path },
                ..
            } => path.to_string(),
            error => panic!("{error}"),
        }
    }
}

fn walked(event: &Event) -> bool {
    matches!(event, Event::Scanned { .. })
}

/// The first part of the long file is written; its digest was known before.
fn partly_packed(event: &Event) -> bool {
    matches!(event, Event::Imported(bytes) if *bytes > 6)
}

#[test]
fn file_that_changes_after_it_was_seen_is_an_error() {
    type Harm = fn(&Path);
    let harms: [Harm; 7] = [
        |path| std::fs::write(path, "<?php 1").unwrap(),
        |path| std::fs::write(path, "").unwrap(),
        // As long as before.
        |path| std::fs::write(path, "<?PHP\n").unwrap(),
        |path| std::fs::remove_file(path).unwrap(),
        |path| std::fs::set_permissions(path, PermissionsExt::from_mode(0o755)).unwrap(),
        |path| {
            std::fs::remove_file(path).unwrap();
            symlink("/etc/passwd", path).unwrap();
        },
        |path| {
            std::fs::remove_file(path).unwrap();
            rustix::fs::mknodat(
                rustix::fs::CWD,
                path,
                rustix::fs::FileType::Fifo,
                rustix::fs::Mode::RUSR,
                0,
            )
            .unwrap();
        },
    ];
    for (number, harm) in harms.iter().enumerate() {
        let setup = Setup::new();
        let path = setup.at("small.php");
        assert_eq!(
            setup.changed(walked, || harm(&path)),
            "small.php",
            "harm {number}"
        );
    }
}

#[test]
fn long_file_that_changes_between_its_two_readings_is_an_error() {
    let write_at = |path: &Path, offset: u64| {
        let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, b"other", offset).unwrap();
    };
    let setup = Setup::new();
    let path = setup.at("long.bin");
    // So long that its end is not read yet when its beginning is written.
    let long = 64 << 20;
    std::fs::write(&path, vec![7; long]).unwrap();
    let last = long as u64 - 5;
    assert_eq!(
        setup.changed(partly_packed, || write_at(&path, last)),
        "long.bin"
    );
    std::fs::write(&path, vec![7; long]).unwrap();
    let cut = || {
        std::fs::File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_len(5)
            .unwrap();
    };
    assert_eq!(setup.changed(partly_packed, cut), "long.bin");
}

#[test]
fn new_hard_link_to_a_file_changes_nothing() {
    let setup = Setup::new();
    let quiet = setup.import(|_| true).unwrap().manifest;
    let linked = setup.import(|event| {
        if walked(event) {
            std::fs::hard_link(setup.at("small.php"), setup.folder.path().join("link")).unwrap();
        }
        true
    });
    assert_eq!(linked.unwrap().manifest, quiet);
}

#[test]
fn import_ends_soon_when_nobody_waits_for_it() {
    let setup = Setup::new();
    for last in 1..4 {
        let left = std::cell::Cell::new(last);
        let result = setup.import(|_| {
            left.set(left.get() - 1);
            left.get() > 0
        });
        assert!(matches!(result, Err(StoreError::Interrupted)), "{last}");
    }
}

#[test]
fn bundle_does_not_depend_on_how_its_blobs_came_in() {
    // Files at both sides of every limit: what is kept in memory, a chunk, a frame, a cut.
    let setup = Setup::new();
    let mut sizes: Vec<usize> = vec![0, 1, 511, 512, 513];
    for limit in [1 << 19, 1 << 20, 3 << 19, 2 << 20] {
        sizes.extend([limit - 513, limit - 1, limit, limit + 1]);
    }
    for (number, size) in sizes.iter().enumerate() {
        let mut bytes = vec![0; *size];
        blake3::Hasher::new()
            .update(&[number as u8])
            .finalize_xof()
            .fill(&mut bytes);
        std::fs::File::create(setup.at(&format!("{number:02}.bin")))
            .unwrap()
            .write_all(&bytes)
            .unwrap();
    }
    let hash = |prepared: Prepared| prepared.bundle.unwrap().hash;
    let first = hash(setup.import(|_| true).unwrap());
    let alone = rayon::ThreadPoolBuilder::new()
        .num_threads(1)
        .build()
        .unwrap();
    let scanned = alone.install(|| scan(&setup.tree, &|_, _| true).unwrap());
    assert_eq!(scanned.files().len(), sizes.len() + 2);
    for _ in 0..3 {
        assert_eq!(hash(setup.import(|_| true).unwrap()), first);
    }
}

#[test]
fn links_that_lead_back_to_themselves_are_refused() {
    let setup = Setup::new();
    symlink("b", setup.at("a")).unwrap();
    symlink("a", setup.at("b")).unwrap();
    let told = |error: StoreError| std::error::Error::source(&error).unwrap().to_string();
    let expected = "`a` is a link that leads back to itself";
    assert_eq!(told(setup.import(|_| true).err().unwrap()), expected);
    assert_eq!(
        told(manifest_of(&setup.tree, &|_| {}).unwrap_err()),
        expected
    );
}
