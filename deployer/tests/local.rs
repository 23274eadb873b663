//! A deploy from a store to a folder of this machine, with the real host helper behind it.
#![cfg(feature = "client")]
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "local/site.rs"]
mod site;

use std::fs;
use std::time::Duration;

use relstore_deployer::error::Kind;
use relstore_deployer::outcome::{Ending, Serving};
use relstore_deployer::plan::Action;
use relstore_deployer::{history, preview, rollback_target, status, verify};
use site::Site;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_release_goes_live_is_followed_verified_and_returned_to() {
    let site = Site::new().await;
    let (one, two) = (site.release("one").await, site.release("two").await);

    let outcome = site.deploy(one).await.unwrap();
    assert_eq!(outcome.ending, Ending::Live);
    assert_eq!(outcome.hosts[0].before, None);
    assert_eq!(site.served(), "one");

    let deployment = site.deployment(two, Action::Deploy);
    let preview = preview(&deployment, &site.connector, &|_| ())
        .await
        .unwrap();
    assert_eq!(preview.hosts[0].send_blobs, 1);
    assert_eq!(site.served(), "one");

    let outcome = site.deploy(two).await.unwrap();
    assert_eq!(outcome.hosts[0].before, Some(one));
    assert!(outcome.hosts[0].sent_bytes < 4_000, "{outcome:?}");
    assert_eq!(site.served(), "two");

    let asked = status(&site.environment, &site.connector, &|_| ()).await;
    let told = asked[0].answer.as_ref().unwrap();
    assert_eq!(told.serving, Serving::Release(two));
    assert_eq!(told.hello.state.previous, Some(one));

    let clean = verify(&site.environment, None, &site.connector, &|_| ()).await;
    let clean = clean[0].answer.as_ref().unwrap();
    assert!(clean.drift.is_empty() && clean.files > 5, "{clean:?}");
    fs::write(site.current().join("public/new.php"), "<?php evil();").unwrap();
    let drifted = verify(&site.environment, None, &site.connector, &|_| ()).await;
    assert_eq!(
        drifted[0].answer.as_ref().unwrap().drift[0].path,
        "public/new.php"
    );
    fs::remove_file(site.current().join("public/new.php")).unwrap();

    let target = rollback_target(&site.environment, &site.connector, &|_| ())
        .await
        .unwrap();
    assert_eq!(target, one);
    let outcome = site.bring(target, Action::Rollback).await.unwrap();
    assert_eq!(outcome.ending, Ending::Live);
    assert_eq!(site.served(), "one");

    let lines = history(&site.environment, 0, &site.connector, &|_| ()).await;
    let lines = lines.into_iter().next().unwrap().answer.unwrap();
    let words: Vec<String> = lines
        .iter()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .map(|entry| {
            format!(
                "{} {}",
                entry["action"].as_str().unwrap(),
                entry["outcome"].as_str().unwrap()
            )
        })
        .collect();
    assert_eq!(
        words,
        [
            "deploy intent",
            "deploy live",
            "deploy intent",
            "deploy live",
            "rollback intent",
            "rollback live"
        ]
    );
    assert_eq!(site.ledger_copies(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn same_release_again_changes_nothing_and_an_edited_env_is_applied() {
    let site = Site::new().await;
    let one = site.release("one").await;
    site.deploy(one).await.unwrap();
    assert_eq!(site.reloads(), 1);
    let before = fs::metadata(site.current().join("bootstrap/cache/config.php")).unwrap();

    let outcome = site.deploy(one).await.unwrap();
    assert_eq!(outcome.ending, Ending::Unchanged);
    assert_eq!(site.reloads(), 1);
    let after = fs::metadata(site.current().join("bootstrap/cache/config.php")).unwrap();
    assert_eq!(before.modified().unwrap(), after.modified().unwrap());

    fs::write(
        site.base().join("shared/.env"),
        "APP_KEY=sentinel-5d1e\nNEW=1\n",
    )
    .unwrap();
    let outcome = site.deploy(one).await.unwrap();
    assert_eq!(outcome.ending, Ending::Refreshed);
    assert_eq!(site.reloads(), 2);
    let config = fs::read_to_string(site.current().join("bootstrap/cache/config.php")).unwrap();
    assert!(config.contains("NEW=1"), "{config}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unhealthy_release_is_taken_back_by_itself() {
    let mut site = Site::new().await;
    let (one, bad) = (site.release("one").await, site.release("bad").await);
    site.serve_health().await;
    let outcome = site.deploy(one).await.unwrap();
    assert_eq!(outcome.health.unwrap().answers, 1);

    let error = site.deploy(bad).await.unwrap_err();
    assert_eq!(error.kind(), Kind::RolledBack);
    assert_eq!(site.served(), "one");
    assert_eq!(error.state()[0], format!("local serves {}", one.short()));
    assert!(
        error.causes()[0].contains("answered 500"),
        "{:?}",
        error.causes()
    );
    let ledger = site.base_text("ledger");
    assert!(ledger.contains("rolled-back"), "{ledger}");

    // The secrets of `.env` and of the health check are nowhere but where they belong.
    let told = format!("{:?} {error:?} {:?}", site.events(), error.causes());
    assert!(!told.contains("sentinel"), "{told}");
    for name in ["ledger", "journal", "pending"] {
        assert!(!site.base_text(name).contains("sentinel"), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_deploys_at_once_one_wins_and_the_other_names_the_holder() {
    let site = Site::new().await;
    let (one, two) = (site.release("one").await, site.release("slow").await);
    site.deploy(one).await.unwrap();
    let (first, second) = tokio::join!(site.deploy(two), site.deploy(two));
    let (won, lost) = match first {
        Ok(_) => (first, second),
        Err(_) => (second, first),
    };
    assert_eq!(won.unwrap().ending, Ending::Live);
    let error = lost.unwrap_err();
    assert_eq!(error.kind(), Kind::Busy);
    assert!(
        error.causes().join(" ").contains("anna@laptop"),
        "{:?}",
        error.causes()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cancelled_deploy_leaves_a_whole_release_and_the_next_one_succeeds() {
    let site = Site::new().await;
    let (one, slow) = (site.release("one").await, site.release("slow").await);
    site.deploy(one).await.unwrap();
    for milliseconds in [20, 80, 150, 250, 350, 500, 700, 900, 1200] {
        let limit = Duration::from_millis(milliseconds);
        let ended = tokio::time::timeout(limit, site.deploy(slow)).await;
        let served = site.served();
        assert!(
            served == "one" || ended.is_ok() || served == "slow",
            "{served}"
        );
        site.unlocked().await;
        if ended.is_err() {
            assert_eq!(site.served(), "one", "cancelled after {milliseconds} ms");
        }
        let clean = verify(&site.environment, None, &site.connector, &|_| ()).await;
        assert!(clean[0].answer.as_ref().unwrap().drift.is_empty());
        site.deploy(one).await.unwrap();
    }
    site.deploy(slow).await.unwrap();
    assert_eq!(site.served(), "slow");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_helper_is_told_with_what_is_served_and_the_next_deploy_succeeds() {
    let site = Site::new().await;
    let (one, slow) = (site.release("one").await, site.release("slow").await);
    site.deploy(one).await.unwrap();
    let mut failures = 0;
    for milliseconds in [60, 120, 200, 300, 400, 500, 600, 700] {
        let kill = async {
            tokio::time::sleep(Duration::from_millis(milliseconds)).await;
            site.kill_helper();
        };
        let (result, ()) = tokio::join!(site.deploy(slow), kill);
        let served = site.served();
        match result {
            Ok(_) => assert_eq!(served, "slow"),
            Err(error) => {
                failures += 1;
                let kind = error.kind();
                assert!(
                    matches!(kind, Kind::NothingChanged | Kind::RolledBack),
                    "{kind:?} after {milliseconds} ms: {:?}",
                    error.causes()
                );
                assert_eq!(served, "one");
                assert_eq!(error.state()[0], format!("local serves {}", one.short()));
            }
        }
        site.unlocked().await;
        site.deploy(one).await.unwrap();
        assert_eq!(site.served(), "one");
    }
    assert!(failures > 3, "{failures}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn folder_in_place_of_current_is_refused_and_stays() {
    let site = Site::new().await;
    let one = site.release("one").await;
    fs::create_dir_all(site.base().join("current/public")).unwrap();
    fs::write(site.base().join("current/public/version"), "by hand").unwrap();
    let error = site.deploy(one).await.unwrap_err();
    assert_eq!(error.kind(), Kind::NothingChanged);
    assert!(error.hint().is_some());
    assert_eq!(site.served(), "by hand");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn missing_php_is_named_and_nothing_is_changed() {
    let mut site = Site::new().await;
    let (one, two) = (site.release("one").await, site.release("two").await);
    site.deploy(one).await.unwrap();
    site.environment.php = "/nonexistent/php8.9".into();
    let error = site.deploy(two).await.unwrap_err();
    assert_eq!(error.kind(), Kind::NothingChanged);
    let told = format!("{:?} {:?}", error.causes(), error.hint());
    assert!(told.contains("/nonexistent/php8.9"), "{told}");
    assert_eq!(site.served(), "one");
}
