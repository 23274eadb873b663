//! Bytes that are not what they should be, on the way and on the disk.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use relstore_deployer::protocol::{
    self, Materialised, Message, Need, Reason, Received, Transferred,
};
use relstore_store::id::BlobId;

use super::client::{Helper, Site, materialise};
use super::tree::{Tree, compress, frames};

/// Writes in place, into every release that has the file.
fn overwrite(path: &Path, content: &[u8]) {
    fs::set_permissions(path, Permissions::from_mode(0o644)).unwrap();
    fs::write(path, content).unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o444)).unwrap();
}

fn needed(reply: Message) -> Vec<BlobId> {
    match reply {
        Message::Need(Need { blobs }) => blobs,
        other => panic!("{other:?}"),
    }
}

fn received(helper: &mut Helper) {
    let reply = helper.must(Transferred {});
    assert!(
        matches!(reply, Message::Received(Received { .. })),
        "{reply:?}"
    );
}

#[test]
fn a_damaged_blob_is_asked_for_and_replaced() {
    let tree = Tree::site("one");
    let site = Site::new();
    let mut helper = site.start();
    helper.locked(tree.id());
    helper.must(tree.manifest_message(None));
    helper.stream(tree.pack(&tree.blobs()));
    received(&mut helper);
    overwrite(&site.blob(&tree, "index.php"), b"bad");
    let missing = site.blob(&tree, "views/page.php");
    fs::remove_file(missing).unwrap();

    let mut asked = Vec::new();
    let made = loop {
        match helper.must(materialise(tree.id())) {
            Message::Need(need) => {
                helper.stream(tree.pack(&need.blobs));
                asked.extend(need.blobs);
                received(&mut helper);
            }
            made => break made,
        }
    };
    assert!(matches!(
        made,
        Message::Materialised(Materialised { reused: false, .. })
    ));
    asked.sort();
    let mut expected = vec![tree.blob("index.php"), tree.blob("views/page.php")];
    expected.sort();
    assert_eq!(asked, expected);
    assert_eq!(helper.verify(Some(tree.id())).drift, []);
    helper.finish();
}

#[test]
fn a_release_that_is_not_served_is_made_anew_when_it_was_changed() {
    let site = Site::new();
    let (one, two) = (Tree::site("one"), Tree::site("two"));
    site.deploy(&one);
    site.deploy(&two);
    fs::write(site.release(one.id()).join("shell.php"), "<?php").unwrap();
    let mut helper = site.start();
    helper.locked(one.id());
    let made = helper.must(materialise(one.id()));
    assert!(
        matches!(
            made,
            Message::Materialised(Materialised { reused: false, .. })
        ),
        "{made:?}"
    );
    assert!(!site.release(one.id()).join("shell.php").exists());
    assert_eq!(helper.verify(Some(one.id())).drift, []);
    helper.finish();
}

#[test]
fn the_active_release_is_left_as_it_is_when_it_was_changed() {
    let site = Site::new();
    let tree = Tree::site("one");
    site.deploy(&tree);
    let changed = site.release(tree.id()).join("hotfix.php");
    fs::write(&changed, "<?php").unwrap();
    let mut helper = site.start();
    helper.locked(tree.id());
    let refused = helper.refused(materialise(tree.id()));
    assert_eq!(refused.reason, Reason::Corrupt);
    assert!(
        refused.causes.concat().contains("hotfix.php"),
        "{refused:?}"
    );
    assert!(refused.hint.contains("verify"), "{refused:?}");
    assert!(changed.exists());
    helper.finish();
}

#[test]
fn a_pack_that_is_not_what_it_says_only_leaves_its_blobs_missing() {
    let tree = Tree::site("one");
    let blob = tree.blob("index.php");
    let stranger = BlobId::of(b"stranger");
    let good = compress(b"one", b"");
    let packs = [
        ("no zstd", frames(vec![(blob, 3)], None, b"nonsense")),
        (
            "other bytes",
            frames(vec![(blob, 3)], None, &compress(b"two", b"")),
        ),
        (
            "too short",
            frames(vec![(blob, 3)], None, &compress(b"on", b"")),
        ),
        (
            "cut",
            frames(vec![(blob, 3)], None, &good[..good.len() - 2]),
        ),
        (
            "another length",
            frames(vec![(blob, 4)], None, &compress(b"one!", b"")),
        ),
        (
            "an absent reference",
            frames(vec![(blob, 3)], Some(stranger), &good),
        ),
        (
            "a blob nobody wants",
            frames(vec![(stranger, 8)], None, &compress(b"stranger", b"")),
        ),
        ("no part at all", frames(vec![(blob, 3)], None, b"")),
        (
            "a bomb",
            frames(vec![(blob, 3)], None, &compress(&vec![0; 64 << 20], b"")),
        ),
    ];
    for (what, pack) in packs {
        let site = Site::new();
        let mut helper = site.start();
        helper.locked(tree.id());
        helper.must(tree.manifest_message(None));
        helper.stream(pack);
        assert!(
            needed(helper.must(Transferred {})).contains(&blob),
            "{what}"
        );
        let hex = stranger.to_string();
        assert!(
            !site
                .private("blobs")
                .join(&hex[..2])
                .join(&hex[2..])
                .exists(),
            "{what}"
        );
        helper.stream(tree.pack(&tree.blobs()));
        received(&mut helper);
        helper.must(materialise(tree.id()));
        helper.finish();
    }
}

#[test]
fn a_manifest_that_is_not_what_it_says_is_refused() {
    let tree = Tree::site("one");
    let other = Tree::site("two");
    let Message::Manifest(good) = tree.manifest_message(None) else {
        panic!("no manifest");
    };
    let wrong = [
        protocol::Manifest {
            release: other.id(),
            ..good.clone()
        },
        protocol::Manifest {
            length: good.length - 1,
            ..good.clone()
        },
        protocol::Manifest {
            length: good.length + 1,
            ..good.clone()
        },
        protocol::Manifest {
            length: u64::MAX,
            ..good.clone()
        },
        protocol::Manifest {
            base: Some(other.id()),
            ..good.clone()
        },
        protocol::Manifest {
            frame: Vec::new(),
            ..good.clone()
        },
        protocol::Manifest {
            frame: good.frame[..good.frame.len() / 2].to_vec(),
            ..good
        },
    ];
    let site = Site::new();
    let mut helper = site.start();
    helper.locked(tree.id());
    for manifest in wrong {
        assert_eq!(helper.refused(manifest).reason, Reason::Corrupt);
    }
    helper.bring(&tree);
    helper.finish();
}
