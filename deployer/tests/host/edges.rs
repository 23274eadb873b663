//! Facts at the edges: times that run out, disks that fill up, links and locks of others.

use std::fs;
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use relstore_deployer::protocol::{self, Confirm, Message, Reason, Status, Transferred, Unlock};

use super::client::{Site, lock, materialise, run, switch};
use super::tree::Tree;

#[test]
fn a_blob_of_another_length_is_replaced() {
    let (site, tree) = (Site::new(), Tree::site("one"));
    let mut helper = site.start();
    helper.locked(tree.id());
    helper.must(tree.manifest_message(None));
    helper.stream(tree.pack(&tree.blobs()));
    helper.must(Transferred {});
    let p = site.blob(&tree, "index.php");
    fs::remove_file(&p).unwrap();
    fs::write(&p, "").unwrap();
    let need = helper.must(materialise(tree.id()));
    assert!(matches!(need, Message::Need(_)));
    helper.stream(tree.pack(&[tree.blob("index.php")]));
    let r = helper.must(Transferred {});
    assert!(matches!(r, Message::Received(_)), "{r:?}");
    helper.finish();
}

#[test]
fn an_activation_goes_back_at_its_deadline_though_the_program_is_there() {
    let site = Site::new();
    let (one, two) = (Tree::site("one"), Tree::site("two"));
    site.deploy(&one);
    let mut helper = site.start();
    helper.locked(two.id());
    helper.bring(&two);
    let mut request = switch(Some(one.id()), two.id());
    request.confirm_within_ms = 200;
    helper.must(request);
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(site.served(), "one");
    assert_eq!(helper.refused(Confirm {}).reason, Reason::Moved);
    helper.finish();
    assert_eq!(site.outcomes().last().unwrap(), "rolled-back");
}

#[test]
fn links_in_shared_lead_no_writing_out_of_the_base() {
    let site = Site::new();
    let outside = tempfile::tempdir().unwrap();
    let mut tree = Tree::site("one");
    tree.file("artisan", b"<?php");
    fs::create_dir_all(site.base.join("shared/storage")).unwrap();
    symlink(outside.path(), site.base.join("shared/storage/framework")).unwrap();
    symlink(outside.path(), site.base.join("shared/storage/app")).unwrap();
    let mut helper = site.start();
    helper.locked(tree.id());
    helper.must(tree.manifest_message(None));
    helper.stream(tree.pack(&tree.blobs()));
    helper.must(Transferred {});
    let reply = helper.ask(materialise(tree.id()));
    let found: Vec<_> = fs::read_dir(outside.path())
        .unwrap()
        .flatten()
        .map(|e| e.file_name())
        .collect();
    assert!(
        found.is_empty(),
        "written outside: {found:?}; reply {}",
        reply.name()
    );
    helper.finish();
}

#[test]
fn a_disk_that_fills_up_within_a_pack_is_one_refusal() {
    let site = Site::new();
    let mut helper = super::refusals::on_small_disk(&site);
    let mut tree = Tree::site("one");
    let mut noise = vec![0u8; 400 << 10];
    blake3::Hasher::new().finalize_xof().fill(&mut noise);
    tree.file("big", &noise);
    helper.locked(tree.id());
    helper.must(tree.manifest_message(None));
    let inside = format!("/proc/{}/root{}/filler", helper.pid(), site.base.display());
    let _ = fs::write(&inside, vec![1; 2 << 20]);
    helper.stream(tree.pack(&tree.blobs()));
    helper.send(Transferred {});
    helper.send(Status {});
    let first = helper.reply();
    let second = helper.reply();
    assert!(
        matches!(&first, Message::Refused(r) if r.reason == Reason::DiskFull),
        "{first:?}"
    );
    assert!(
        matches!(second, Message::State(_)),
        "second reply belongs to another request: {second:?}"
    );
    let _ = fs::remove_file(&inside);
    helper.finish();
}

#[test]
fn a_service_that_a_finished_deploy_started_does_not_keep_the_lock() {
    let (site, tree) = (Site::new(), Tree::site("one"));
    site.deploy(&tree);
    let mut helper = site.start();
    helper.locked(tree.id());
    helper.ran(run(tree.id(), "sleep 4 >/dev/null 2>&1 &"));
    helper.must(Unlock {});
    helper.finish();
    let mut next = site.start();
    let r = next.ask(lock(tree.id()));
    assert!(matches!(r, Message::Locked(_)), "{r:?}");
    next.finish();
}

#[test]
fn the_active_release_follows_another_dotenv() {
    let (site, tree) = (Site::new(), Tree::site("one"));
    site.deploy(&tree);
    fs::write(site.base.join("shared/.env2"), "A=1\n").unwrap();
    let mut helper = site.start();
    helper.locked(tree.id());
    let r = helper.ask(protocol::Materialise {
        release: tree.id(),
        dotenv: "shared/.env2".into(),
    });
    assert!(matches!(r, Message::Materialised(_)), "{r:?}");
    helper.finish();
    let link = fs::read_link(site.release(tree.id()).join(".env")).unwrap();
    assert_eq!(link, std::path::Path::new("../../shared/.env2"));
    site.assert_sound();
}

#[test]
fn a_glance_at_the_state_makes_no_deploy_fail() {
    let (site, tree) = (Site::new(), Tree::site("one"));
    site.deploy(&tree);
    let stop = AtomicBool::new(false);
    let mut busy = 0;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut helper = site.start();
            while !stop.load(Ordering::Relaxed) {
                helper.must(Status {});
            }
            helper.finish();
        });
        let mut helper = site.start();
        for _ in 0..200 {
            match helper.ask(lock(tree.id())) {
                Message::Locked(_) => {
                    helper.must(Unlock {});
                }
                _ => busy += 1,
            }
        }
        stop.store(true, Ordering::Relaxed);
        helper.finish();
    });
    assert_eq!(busy, 0, "of 200");
}

#[test]
fn an_unconfirmed_activation_is_not_switched_away_from() {
    let site = Site::new();
    let (one, two, three) = (Tree::site("one"), Tree::site("two"), Tree::site("three"));
    site.deploy(&one);
    let mut helper = site.start();
    helper.locked(two.id());
    helper.bring(&two);
    helper.bring(&three);
    helper.must(switch(Some(one.id()), two.id()));
    let refused = helper.refused(switch(Some(two.id()), three.id()));
    assert_eq!(refused.reason, Reason::Protocol);
    helper.finish();
    assert_eq!(site.served(), "one", "what was last confirmed");
}
