//! What a deploy makes of a base.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use relstore_deployer::protocol::{
    Current, DriftKind, Ended, Entries, GoBack, History, Materialised, Message, Prune, Pruned,
    Received, Transferred, WentBack,
};

use super::client::{Site, is, lock, materialise, record, run, switch};
use super::tree::Tree;

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn a_first_release_goes_live_and_everything_is_as_its_manifest_says() {
    let site = Site::new();
    let tree = Tree::site("one");
    let hello = site.start();
    assert_eq!(hello.hello().state.current, Current::Absent);
    hello.finish();
    site.deploy(&tree);

    let root = site.release(tree.id());
    assert_eq!(
        fs::read_link(site.base.join("current")).unwrap(),
        Path::new("releases").join(tree.id().to_string())
    );
    assert_eq!(site.served(), "one");
    assert_eq!(site.previous(), None);
    assert_eq!(mode(&root.join("index.php")), 0o444);
    assert_eq!(mode(&root.join("bin/run")), 0o555);
    assert_eq!(mode(&root.join("bin")), 0o755);
    assert_eq!(mode(&root.join("spool")), 0o755);
    assert_eq!(mode(&root.join("bootstrap/cache")), 0o2750);
    assert_eq!(mode(&site.private("")), 0o700);
    let links = [
        ("start.php", "index.php"),
        (".env", "../../shared/.env"),
        ("storage", "../../shared/storage"),
    ];
    for (link, target) in links {
        assert_eq!(fs::read_link(root.join(link)).unwrap(), Path::new(target));
    }
    let inode = |path: &Path| fs::metadata(path).unwrap().ino();
    assert_eq!(
        inode(&root.join("index.php")),
        inode(&site.blob(&tree, "index.php"))
    );
    // One content as two modes are two inodes; empty files are shared with nobody.
    assert_ne!(
        inode(&root.join("bin/run")),
        inode(&root.join("copy-of-run"))
    );
    assert_eq!(fs::metadata(root.join("empty.lock")).unwrap().nlink(), 1);
    assert_eq!(
        fs::read_to_string(site.base.join("shared/storage/app/first.txt")).unwrap(),
        "initial"
    );
    assert!(!site.private("pending").exists());

    let ledger = site.ledger();
    assert_eq!(site.outcomes(), ["intent", "live"]);
    assert_eq!(
        (ledger[1].actor.as_str(), ledger[1].release),
        ("ann@ci", tree.id())
    );
    site.assert_sound();
}

#[test]
fn files_are_older_than_anything_that_is_compiled_from_them() {
    let site = Site::new();
    site.deploy(&Tree::site("one"));
    let compiled = site.base.join("compiled");
    fs::write(&compiled, "").unwrap();
    let seconds = |path: &Path| fs::metadata(path).unwrap().mtime();
    for name in ["index.php", "bin/run", "views/page.php", "empty.lock"] {
        assert!(
            seconds(&site.base.join("current").join(name)) < seconds(&compiled),
            "{name}"
        );
    }
}

#[test]
fn a_second_release_comes_as_a_difference_and_the_first_stays_as_previous() {
    let site = Site::new();
    let (one, two) = (Tree::site("one"), Tree::site("two"));
    site.deploy(&one);
    let mut helper = site.start();
    assert!(is(&helper.locked(two.id()).current, one.id()));
    helper.must(two.manifest_message(Some(&one)));
    helper.stream(two.patch("views/page.php", &one));
    helper.stream(two.pack(&[two.blob("index.php")]));
    let Message::Received(Received { blobs, .. }) = helper.must(Transferred {}) else {
        panic!("something is missing");
    };
    assert_eq!(blobs, 2);
    helper.must(materialise(two.id()));
    helper.must(switch(Some(one.id()), two.id()));
    assert_eq!(
        (site.served().as_str(), site.previous()),
        ("two", Some(one.id()))
    );
    helper.finish();
}

#[test]
fn initial_content_is_never_put_over_what_is_there() {
    let site = Site::new();
    site.deploy(&Tree::site("one"));
    let kept = site.base.join("shared/storage/app/first.txt");
    fs::write(&kept, "changed").unwrap();
    site.deploy(&Tree::site("two"));
    assert_eq!(fs::read_to_string(kept).unwrap(), "changed");
}

#[test]
fn a_whole_release_is_used_again_after_it_was_verified() {
    let site = Site::new();
    let tree = Tree::site("one");
    site.deploy(&tree);
    let mut helper = site.start();
    helper.locked(tree.id());
    let reply = helper.must(materialise(tree.id()));
    assert!(
        matches!(
            reply,
            Message::Materialised(Materialised {
                reused: true,
                files: 5..,
                ..
            })
        ),
        "{reply:?}"
    );
    helper.finish();
}

#[test]
fn going_back_restores_current_and_previous_and_a_first_release_stays() {
    let site = Site::new();
    let (one, two, three) = (Tree::site("one"), Tree::site("two"), Tree::site("three"));
    let mut helper = site.start();
    helper.locked(one.id());
    helper.bring(&one);
    helper.must(switch(None, one.id()));
    let Message::WentBack(WentBack { current }) = helper.must(GoBack {}) else {
        panic!("no answer");
    };
    assert!(is(&current, one.id()));
    helper.finish();

    site.deploy(&two);
    let mut helper = site.start();
    helper.locked(three.id());
    helper.bring(&three);
    helper.must(switch(Some(two.id()), three.id()));
    assert_eq!(site.previous(), Some(two.id()));
    helper.must(GoBack {});
    assert_eq!(
        (site.active(), site.previous()),
        (Some(two.id()), Some(one.id()))
    );
    assert!(!site.private("pending").exists());
    helper.finish();
}

#[test]
fn commands_run_in_the_release_with_a_fixed_environment_umask_and_time_limit() {
    let site = Site::new();
    let tree = Tree::site("one");
    site.deploy(&tree);
    let mut helper = site.start();
    helper.locked(tree.id());
    let script = "umask; pwd; echo \"$LANG ${CARGO_PKG_NAME-unset}\"; cat index.php; echo; exit 3";
    assert_eq!(helper.ran(run(tree.id(), script)), Ended::Exited(3));
    let place = site.release(tree.id()).canonicalize().unwrap();
    assert_eq!(
        helper.output,
        ["0027", place.to_str().unwrap(), "C.UTF-8 unset", "one"]
    );
    assert_eq!(
        helper.ran(run(tree.id(), "kill -9 $$")),
        Ended::Signalled(9)
    );
    let mut slow = run(tree.id(), "sleep 60 & wait");
    slow.timeout_ms = 100;
    assert_eq!(helper.ran(slow), Ended::TimedOut);
    let mut absent = run(tree.id(), "");
    absent.argv = vec!["no-such-program".into()];
    assert_eq!(helper.ran(absent), Ended::NotStarted);
    helper.finish();
}

#[test]
fn pruning_keeps_what_is_served_and_removes_what_nothing_names() {
    let site = Site::new();
    let trees: Vec<Tree> = ["one", "two", "three"].map(Tree::site).to_vec();
    for tree in &trees {
        site.deploy(tree);
    }
    let mut helper = site.start();
    helper.locked(trees[2].id());
    let Message::Pruned(pruned) = helper.must(Prune { keep: 0 }) else {
        panic!("no answer");
    };
    let Pruned {
        removed,
        blobs,
        problems,
        ..
    } = pruned;
    assert_eq!((removed, blobs, problems), (vec![trees[0].id()], 2, vec![]));
    helper.finish();
    assert!(!site.release(trees[0].id()).exists());
    assert!(!site.blob(&trees[0], "index.php").exists());
    // What the removed release shared with the others is still theirs.
    for tree in &trees[1..] {
        let mut helper = site.start();
        assert_eq!(helper.verify(Some(tree.id())).drift, []);
        helper.finish();
    }
}

#[test]
fn verify_names_every_kind_of_difference() {
    let site = Site::new();
    let mut tree = Tree::site("one");
    tree.file("a/changed", b"was")
        .file("a/moded", b"moded")
        .file("a/gone", b"gone")
        .file("a/kind", b"kind");
    site.deploy(&tree);
    let root = site.release(tree.id()).join("a");
    let replace = |name: &str, content: &str| {
        fs::remove_file(root.join(name)).unwrap();
        fs::write(root.join(name), content).unwrap();
        fs::set_permissions(root.join(name), PermissionsExt::from_mode(0o444)).unwrap();
    };
    replace("changed", "is!");
    replace("moded", "moded");
    fs::set_permissions(root.join("moded"), PermissionsExt::from_mode(0o644)).unwrap();
    fs::remove_file(root.join("gone")).unwrap();
    fs::remove_file(root.join("kind")).unwrap();
    std::os::unix::fs::symlink("/etc/hostname", root.join("kind")).unwrap();
    fs::write(root.join("new.php"), "<?php").unwrap();
    // Neither of these belongs to the release.
    fs::write(site.release(tree.id()).join("bootstrap/cache/x"), "").unwrap();
    fs::write(site.base.join("shared/storage/upload"), "").unwrap();

    let mut helper = site.start();
    let drift = helper.verify(None).drift;
    let found: Vec<(&str, DriftKind)> = drift
        .iter()
        .map(|one| (one.path.as_str(), one.kind))
        .collect();
    let expected = [
        ("a/changed", DriftKind::Changed),
        ("a/gone", DriftKind::Missing),
        ("a/kind", DriftKind::Kind),
        ("a/moded", DriftKind::Mode),
        ("a/new.php", DriftKind::Additional),
    ];
    assert_eq!(found, expected);
    helper.finish();
}

#[test]
fn the_ledger_is_one_chain_and_a_torn_line_is_cut_off() {
    let site = Site::new();
    let tree = Tree::site("one");
    site.deploy(&tree);
    let path = site.private("ledger");
    let mut torn = fs::read(&path).unwrap();
    torn.extend(b"{\"n\":3,\"prev\":\"ab");
    fs::write(&path, torn).unwrap();

    let mut helper = site.start();
    helper.must(lock(tree.id()));
    helper.must(record("unchanged"));
    let Message::Entries(Entries { lines }) = helper.must(History { last: 2 }) else {
        panic!("no answer");
    };
    assert_eq!(lines.len(), 2);
    helper.finish();
    assert_eq!(site.outcomes(), ["intent", "live", "intent", "unchanged"]);
}

#[test]
fn nothing_that_is_kept_or_printed_holds_a_secret() {
    let site = Site::new();
    let (one, two) = (Tree::site("one"), Tree::site("two"));
    site.deploy(&one);
    site.deploy(&two);
    let mut open = vec![site.base.clone()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).unwrap().flatten() {
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                open.push(entry.path());
            } else if kind.is_file() && !entry.path().ends_with("shared/.env") {
                let bytes = fs::read(entry.path()).unwrap();
                let found = bytes.windows(8).any(|window| window == b"sentinel");
                assert!(!found, "{}", entry.path().display());
            }
        }
    }
}
