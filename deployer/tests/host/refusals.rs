//! Bases and requests that are refused, each with a reason and nothing changed.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use relstore_deployer::protocol::{
    Confirm, Message, PROTOCOL, Prune, Reason, Status, Transferred, Unlock, Verify,
};
use relstore_store::id::ReleaseId;

use super::client::{HELPER, Helper, Site, lock, materialise, record, run, switch};
use super::tree::Tree;

#[test]
fn the_loser_of_two_deploys_learns_who_holds_the_lock() {
    let site = Site::new();
    let tree = Tree::site("one");
    let mut winner = site.start();
    winner.locked(tree.id());
    let mut loser = site.start();
    assert_eq!(loser.hello().state.holder.as_ref().unwrap().actor, "ann@ci");
    let refused = loser.refused(lock(tree.id()));
    assert_eq!(refused.reason, Reason::Busy);
    let told = refused.causes.concat();
    assert!(
        told.contains("ann@ci") && told.contains("deploy") && told.contains(&tree.id().short()),
        "{told}"
    );
    assert!(!refused.hint.is_empty());
    winner.must(Unlock {});
    // On the same connection: being refused ends nothing.
    loser.must(lock(tree.id()));
    loser.finish();
    winner.finish();
}

#[test]
fn a_current_that_relstore_did_not_make_is_left_alone() {
    let makers: [fn(&Path); 3] = [
        |current| fs::create_dir(current).unwrap(),
        |current| symlink("/srv/other", current).unwrap(),
        |current| fs::write(current, "a file").unwrap(),
    ];
    for make in makers {
        let site = Site::new();
        let current = site.base.join("current");
        make(&current);
        let before = fs::symlink_metadata(&current).unwrap().file_type();
        let mut helper = site.start();
        let refused = helper.refused(lock(ReleaseId::of(b"r")));
        assert_eq!(refused.reason, Reason::Base);
        assert!(
            refused.message.contains("current") && !refused.hint.is_empty(),
            "{refused:?}"
        );
        helper.finish();
        assert_eq!(fs::symlink_metadata(&current).unwrap().file_type(), before);
    }
}

#[test]
fn a_base_that_is_no_folder_is_refused() {
    let site = Site::new();
    fs::remove_dir_all(&site.base).unwrap();
    fs::write(&site.base, "a file").unwrap();
    let mut command = Command::new(HELPER);
    command.args(["serve", "--base"]).arg(&site.base);
    let mut helper = Helper::start(command);
    let refused = match helper.hello.clone() {
        Message::Refused(refused) => refused,
        _ => helper.refused(lock(ReleaseId::of(b"r"))),
    };
    assert!(
        matches!(refused.reason, Reason::Base | Reason::Io),
        "{refused:?}"
    );
    helper.finish();
    assert_eq!(fs::read_to_string(&site.base).unwrap(), "a file");
}

#[test]
fn a_missing_dotenv_is_named_before_anything_is_switched() {
    let site = Site::new();
    let (one, two) = (Tree::site("one"), Tree::site("two"));
    site.deploy(&one);
    fs::remove_file(site.base.join("shared/.env")).unwrap();
    let mut helper = site.start();
    helper.locked(two.id());
    helper.must(two.manifest_message(None));
    helper.stream(two.pack(&two.blobs()));
    helper.must(Transferred {});
    let refused = helper.refused(materialise(two.id()));
    assert_eq!(refused.reason, Reason::Base);
    assert!(refused.message.contains("shared/.env"), "{refused:?}");
    helper.finish();
    assert_eq!(site.served(), "one");
}

#[test]
fn current_that_somebody_else_moved_stays_where_it_is() {
    let site = Site::new();
    let (one, two, three) = (Tree::site("one"), Tree::site("two"), Tree::site("three"));
    site.deploy(&one);
    site.deploy(&two);
    let mut helper = site.start();
    helper.locked(three.id());
    helper.bring(&three);
    let current = site.base.join("current");
    fs::remove_file(&current).unwrap();
    symlink(Path::new("releases").join(one.id().to_string()), &current).unwrap();
    assert_eq!(
        helper.refused(switch(Some(two.id()), three.id())).reason,
        Reason::Moved
    );
    assert_eq!(
        helper.refused(switch(None, three.id())).reason,
        Reason::Moved
    );
    assert_eq!(site.served(), "one");
    assert!(!site.private("pending").exists());
    helper.finish();
}

#[test]
fn nothing_but_a_whole_release_is_activated_or_run_in() {
    let site = Site::new();
    let (one, two) = (Tree::site("one"), Tree::site("two"));
    site.deploy(&one);
    let mut helper = site.start();
    helper.locked(two.id());
    assert_eq!(
        helper.refused(switch(Some(one.id()), two.id())).reason,
        Reason::Protocol
    );
    assert_eq!(
        helper.refused(run(two.id(), "true")).reason,
        Reason::Protocol
    );
    // A folder that looks like one but was never verified is not one.
    fs::create_dir(site.release(two.id())).unwrap();
    assert_eq!(
        helper.refused(switch(Some(one.id()), two.id())).reason,
        Reason::Protocol
    );
    helper.bring(&two);
    assert_eq!(helper.verify(Some(two.id())).drift, []);
    helper.finish();
    assert_eq!(site.served(), "one");
}

#[test]
fn what_changes_something_needs_the_lock_and_what_asks_does_not() {
    let site = Site::new();
    let tree = Tree::site("one");
    site.deploy(&tree);
    let mut helper = site.start();
    assert_eq!(helper.hello().protocol, PROTOCOL);
    let id = tree.id();
    let changing: [Message; 9] = [
        tree.manifest_message(None),
        Transferred {}.into(),
        materialise(id).into(),
        run(id, "true").into(),
        switch(Some(id), id).into(),
        Confirm {}.into(),
        Prune { keep: 1 }.into(),
        record("live").into(),
        Unlock {}.into(),
    ];
    for request in changing {
        let name = request.name();
        assert_eq!(helper.refused(request).reason, Reason::Protocol, "{name}");
    }
    helper.must(Status {});
    helper.must(Verify { release: None });
    helper.finish();
    assert_eq!(site.outcomes(), ["intent", "live"]);
}

#[test]
fn nonsense_ends_the_conversation_and_nothing_else() {
    let site = Site::new();
    site.deploy(&Tree::site("one"));
    for bytes in [
        vec![0; 4],
        vec![255; 64],
        vec![3, 0, 0, 0, 255, 255, 0],
        vec![2, 0, 0, 0, 100, 0],
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
    ] {
        let mut helper = site.start();
        helper.send_raw(&bytes);
        helper.finish();
    }
    site.assert_sound();
}

#[test]
fn transactions_cannot_name_other_folders() {
    let site = Site::new();
    let mut helper = site.start();
    for name in ["", "../../x", "a/b", ".", "a\0b"] {
        let mut request = lock(ReleaseId::of(b"r"));
        request.transaction = name.into();
        assert_eq!(helper.refused(request).reason, Reason::Protocol, "{name:?}");
    }
    helper.finish();
}

/// A helper on a base that is a small file system of its own, seen by the helper only.
pub(crate) fn on_small_disk(site: &Site) -> Helper {
    let mut command = Command::new("unshare");
    let script = "mount -t tmpfs -o size=1m,mode=755 none \"$1\" && \
                  mkdir \"$1/shared\" && echo x > \"$1/shared/.env\" && exec \"$0\" serve --base \"$1\"";
    command.args([
        "--user",
        "--map-root-user",
        "--mount",
        "sh",
        "-c",
        script,
        HELPER,
    ]);
    command.arg(&site.base);
    Helper::start(command)
}

#[test]
fn a_release_that_cannot_fit_is_refused_before_its_first_byte() {
    let site = Site::new();
    let mut helper = on_small_disk(&site);
    let mut tree = Tree::site("one");
    tree.file("big", &vec![7; 3 << 20]);
    helper.locked(tree.id());
    let refused = helper.refused(tree.manifest_message(None));
    assert_eq!(refused.reason, Reason::DiskFull);
    assert!(
        refused.causes.concat().contains("bytes") && !refused.hint.is_empty(),
        "{refused:?}"
    );
    // What fits can still be brought.
    helper.bring(&Tree::site("two"));
    helper.finish();
}
