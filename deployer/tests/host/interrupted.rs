//! The program, or the helper itself, ends at any point: `current` is a whole release or nothing,
//! and the next deploy needs no help.

use std::fs;
use std::time::{Duration, Instant};

use relstore_deployer::protocol::{Message, Reason, Received, Transferred};
use relstore_store::id::ReleaseId;

use super::client::{Request, Site, deploy, lock, run, switch};
use super::tree::Tree;

/// Number of requests after which `current` is the new release for good.
const CONFIRMED: usize = 8;

/// Lets a deploy end after each of its requests, on an empty base and on one that serves.
fn end_after_each_request(end: impl Fn(super::client::Helper)) {
    let (old, new) = (Tree::site("old"), Tree::site("new"));
    for serves in [false, true] {
        for done in 0..=deploy(&new, None).len() {
            let site = Site::new();
            if serves {
                site.deploy(&old);
            }
            let before = site.active();
            let mut helper = site.start();
            for request in deploy(&new, before).into_iter().take(done) {
                helper.carry(request);
            }
            end(helper);
            let context = format!("serves: {serves}, after {done} requests");
            site.assert_sound();
            let first_stays = !serves && done >= CONFIRMED - 1;
            let expected = if done >= CONFIRMED || first_stays {
                Some(new.id())
            } else {
                before
            };
            assert_eq!(site.active(), expected, "{context}");
            assert!(!site.private("pending").exists(), "{context}");
            // The chain is whole, and the next deploy succeeds.
            let third = Tree::site("third");
            site.deploy(&third);
            site.assert_sound();
            site.ledger();
        }
    }
}

#[test]
fn a_killed_program_leaves_a_whole_release_wherever_it_was() {
    end_after_each_request(super::client::Helper::finish);
}

#[test]
fn a_killed_helper_leaves_a_whole_release_wherever_it_was() {
    end_after_each_request(super::client::Helper::kill);
}

#[test]
fn a_connection_cut_within_any_frame_harms_nothing() {
    let (old, new) = (Tree::site("old"), Tree::site("new"));
    let site = Site::new();
    site.deploy(&old);
    let requests = deploy(&new, Some(old.id()));
    for cut in 0..CONFIRMED {
        let mut helper = site.start();
        for request in requests[..cut].iter().cloned() {
            let request = match request {
                // Each conversation is a transaction of its own.
                Request::Ask(ask) if matches!(*ask, Message::Lock(_)) => {
                    Request::Ask(Box::new(lock(new.id()).into()))
                }
                other => other,
            };
            helper.carry(request);
        }
        let next = match &requests[cut] {
            Request::Ask(message) => Message::clone(message),
            Request::Stream(messages) => messages[1].clone(),
        };
        let frame = next.encode().unwrap();
        helper.send_raw(&frame[..frame.len() - 1]);
        helper.finish();
        assert_eq!(site.served(), "old", "within frame {cut}");
        site.assert_sound();
    }
    site.deploy(&new);
}

#[test]
fn what_arrived_before_the_cut_is_not_asked_for_again() {
    let site = Site::new();
    let tree = Tree::site("one");
    let mut helper = site.start();
    helper.locked(tree.id());
    helper.must(tree.manifest_message(None));
    helper.stream(tree.pack(&[tree.blob("index.php")]));
    helper.finish();

    let mut helper = site.start();
    helper.locked(tree.id());
    helper.must(tree.manifest_message(None));
    let Message::Need(need) = helper.must(Transferred {}) else {
        panic!("nothing is missing");
    };
    assert!(!need.blobs.contains(&tree.blob("index.php")));
    helper.stream(tree.pack(&need.blobs));
    let reply = helper.must(Transferred {});
    assert!(
        matches!(reply, Message::Received(Received { .. })),
        "{reply:?}"
    );
    helper.finish();
}

#[test]
fn an_unconfirmed_activation_is_taken_back_reloaded_and_told() {
    let site = Site::new();
    let (old, new) = (Tree::site("old"), Tree::site("new"));
    site.deploy(&old);
    for killed in [false, true] {
        let mut helper = site.start();
        helper.locked(new.id());
        helper.bring(&new);
        let mut request = switch(Some(old.id()), new.id());
        let reloaded = site.base.join(format!("reloaded-{killed}"));
        let script = format!("cat index.php > {}", reloaded.display());
        request.reload = vec![["sh", "-c", &script].map(str::to_owned).to_vec()];
        helper.must(request);
        assert_eq!(site.served(), "new");
        if killed {
            helper.kill();
            let next = site.start();
            let settled = next.hello().settled.clone().unwrap();
            assert!(settled.contains(&old.id().short()), "{settled}");
            next.finish();
        } else {
            helper.finish();
        }
        assert_eq!((site.served().as_str(), site.previous()), ("old", None));
        // It ran in the release that serves again.
        assert_eq!(fs::read_to_string(reloaded).unwrap(), "old");
        assert_eq!(site.outcomes().last().unwrap(), "rolled-back");
    }
}

#[test]
fn a_running_command_ends_with_its_program() {
    let site = Site::new();
    let tree = Tree::site("one");
    site.deploy(&tree);
    let mut helper = site.start();
    helper.locked(tree.id());
    let late = site.base.join("late");
    let script = format!("echo ready; sleep 1; touch {}", late.display());
    helper.send(run(tree.id(), &script));
    helper.wait_for("ready");
    let started = Instant::now();
    helper.finish();
    assert!(
        started.elapsed() < Duration::from_millis(900),
        "it was waited for"
    );
    std::thread::sleep(Duration::from_millis(1200));
    assert!(!late.exists());
}

/// Waits until the lock is free; returns how long that took.
fn wait_for_lock(site: &Site, release: ReleaseId) -> Duration {
    let started = Instant::now();
    loop {
        let mut helper = site.start();
        match helper.ask(lock(release)) {
            Message::Locked(_) => break started.elapsed(),
            Message::Refused(refused) => assert_eq!(refused.reason, Reason::Busy),
            other => panic!("{other:?}"),
        }
        assert!(
            started.elapsed() < Duration::from_secs(20),
            "the lock is never free"
        );
        helper.finish();
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn the_lock_is_held_until_the_last_command_of_a_killed_deploy_has_ended() {
    let site = Site::new();
    let tree = Tree::site("one");
    site.deploy(&tree);
    let mut helper = site.start();
    helper.locked(tree.id());
    // The shell is ended with the helper; what it started in the background is not.
    helper.send(run(tree.id(), "sleep 1.5 & echo ready; wait"));
    helper.wait_for("ready");
    helper.kill();

    let mut second = site.start();
    let refused = second.refused(lock(tree.id()));
    assert_eq!(refused.reason, Reason::Busy);
    assert!(refused.causes.concat().contains("ann@ci"), "{refused:?}");
    second.finish();
    assert!(wait_for_lock(&site, tree.id()) > Duration::from_millis(700));
}

#[test]
fn a_command_ends_with_a_killed_helper() {
    let site = Site::new();
    let tree = Tree::site("one");
    site.deploy(&tree);
    let mut helper = site.start();
    helper.locked(tree.id());
    helper.send(run(tree.id(), "echo ready; exec sleep 15"));
    helper.wait_for("ready");
    helper.kill();
    assert!(wait_for_lock(&site, tree.id()) < Duration::from_secs(5));
}
