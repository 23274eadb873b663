#![allow(clippy::unwrap_used)]

use std::collections::HashMap;
use std::time::Duration;

use relstore_store::id::BlobId;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::environment::HealthCheck;
use crate::outcome::Serving;
use crate::secret::Secret;
use crate::testing::world::World;
use crate::testing::{Fault, FaultyHosts};

fn failed(error: DeployError) -> Failed {
    match error {
        DeployError::Failed(failed) => *failed,
        other => panic!("{other:?}"),
    }
}

/// A web server before the hosts: healthy unless a host serves `bad`.
async fn health(world: &mut World, bad: Option<ReleaseId>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/up", listener.local_addr().unwrap());
    world.environment.health = vec![HealthCheck {
        url,
        bearer: Some(Secret::new("sentinel-7f3a")),
    }];
    let hosts = world.hosts.clone();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 4096]).await.unwrap();
            let serving = hosts.serving();
            let status = if bad.is_some() && serving.contains(&bad) {
                500
            } else {
                200
            };
            let release = serving[0]
                .map(|release| format!("x-release: {release}\r\n"))
                .unwrap_or_default();
            let answer = format!(
                "HTTP/1.1 {status} X\r\n{release}content-length: 13\r\nconnection: close\r\n\r\nsentinel-7f3a"
            );
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
}

#[tokio::test]
async fn first_deploy_goes_live_and_migrates_once() {
    let mut world = World::new(2).await;
    health(&mut world, None).await;
    let outcome = world.deploy(world.new).await.unwrap();
    assert_eq!(outcome.ending, Ending::Live);
    assert_eq!(outcome.health.unwrap().confirmed, 1);
    assert_eq!(world.hosts.serving(), [Some(world.new); 2]);
    let warm = format!("warm {}", world.new.short());
    let php = "php artisan --version --no-interaction";
    let migrate = "php artisan migrate --force --no-interaction";
    assert_eq!(world.ran("web1"), [php, &warm, migrate, "reload-fpm"]);
    assert_eq!(world.ran("web2"), [php, &warm, "reload-fpm"]);
    for host in ["web1", "web2"] {
        assert_eq!(world.ledger(host), ["live"]);
        assert!(world.hosts.base(host).pending.is_none());
    }
    let copies = world
        .folder
        .path()
        .join("store/environments/prod/ledger/web1");
    assert_eq!(std::fs::read_dir(copies).unwrap().count(), 1);
}

#[tokio::test]
async fn one_changed_line_costs_a_fraction_and_arrives_intact() {
    let world = World::with_old(1).await;
    let outcome = world.deploy(world.new).await.unwrap();
    let sent = outcome.hosts[0].sent_bytes;
    assert!(sent < 2_000, "{sent} bytes");
    assert_eq!(outcome.hosts[0].before, Some(world.old));
    let manifest = world.store.manifest(&world.new).await.unwrap();
    let base = world.hosts.base("web1");
    for (blob, size) in manifest.blobs() {
        assert_eq!(base.blobs[&blob].len() as u64, size);
    }
}

#[tokio::test]
async fn same_release_again_does_nothing_until_env_changes() {
    let world = World::with_old(2).await;
    let outcome = world.deploy(world.old).await.unwrap();
    assert_eq!(outcome.ending, Ending::Unchanged);
    assert!(outcome.hosts.iter().all(|host| !host.switched));
    assert_eq!(world.ledger("web2"), ["live", "unchanged"]);
    assert!(!world.ran("web1").contains(&"reload-fpm".to_owned()));

    world.hosts.base("web2").dotenv += 1;
    let outcome = world.deploy(world.old).await.unwrap();
    assert_eq!(outcome.ending, Ending::Refreshed);
    assert!(world.ran("web2").contains(&"reload-fpm".to_owned()));
    assert!(!world.ran("web1").contains(&"reload-fpm".to_owned()));
    assert_eq!(world.ledger("web2"), ["live", "unchanged", "live"]);
    assert_eq!(world.ledger("web1"), ["live", "unchanged", "unchanged"]);
}

#[tokio::test]
async fn unhealthy_release_is_taken_back_and_the_old_one_checked() {
    let mut world = World::with_old(2).await;
    let bad = Some(world.new);
    health(&mut world, bad).await;
    let error = world.deploy(world.new).await.unwrap_err();
    assert_eq!(error.kind(), Kind::RolledBack);
    assert_eq!(world.hosts.serving(), [Some(world.old); 2]);
    let old = world.old.short();
    assert_eq!(
        error.state(),
        [
            format!("web1 serves {old}"),
            format!("web2 serves {old}"),
            "migrations of this release were run on web1 and are not taken back".into(),
            "the health of what it went back to was checked: 1/1 x 200".into(),
        ]
    );
    assert_eq!(world.ledger("web2"), ["live", "rolled-back"]);
    let ran = world.ran("web2");
    assert_eq!(
        ran[ran.len() - 3..],
        ["reload-fpm", &format!("warm {old}"), "reload-fpm"]
    );
    let told = format!(
        "{:?} {error:?} {error} {:?}",
        world.events.lock().unwrap(),
        error.causes()
    );
    assert!(
        told.contains("(secret)") && !told.contains("sentinel"),
        "{told}"
    );
}

#[tokio::test]
async fn unhealthy_first_release_stays_and_is_reported() {
    let mut world = World::new(1).await;
    let bad = Some(world.new);
    health(&mut world, bad).await;
    let error = world.deploy(world.new).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unhealthy);
    assert_eq!(world.hosts.serving(), [Some(world.new)]);
    assert_eq!(world.ledger("web1"), ["unhealthy"]);
    assert!(world.hosts.base("web1").pending.is_none());
}

#[tokio::test]
async fn no_host_switches_when_one_is_not_ready() {
    let world = World::with_old(2).await;
    world
        .hosts
        .base("web2")
        .failing
        .push("artisan --version".into());
    let error = world.deploy(world.new).await.unwrap_err();
    assert_eq!(error.kind(), Kind::NothingChanged);
    assert_eq!(world.hosts.serving(), [Some(world.old); 2]);
    assert!(!world.ran("web1").iter().any(|ran| ran.contains("migrate")));
    assert_eq!(
        error.causes(),
        ["`artisan` on web2: `php artisan --version --no-interaction` ended with status 1"]
    );
    assert_eq!(world.ledger("web1"), ["live", "failed"]);
}

#[tokio::test]
async fn failing_reload_takes_every_host_back() {
    let world = World::with_old(2).await;
    world.hosts.base("web1").failing.push("reload-fpm".into());
    let error = world.deploy(world.new).await.unwrap_err();
    // The reload fails for the old release as well, which is told and does not hide the state.
    assert_eq!(error.kind(), Kind::RolledBack);
    assert_eq!(failed(error).failures.len(), 2);
    assert_eq!(world.hosts.serving(), [Some(world.old); 2]);
}

#[tokio::test]
async fn blob_damaged_on_the_way_is_sent_again_once() {
    let world = World::new(1).await;
    let manifest = world.store.manifest(&world.new).await.unwrap();
    let blob: BlobId = manifest.blobs().into_keys().next().unwrap();
    world.hosts.base("web1").damaged = HashMap::from([(blob, 1)]);
    world.deploy(world.new).await.unwrap();
    assert!(world.hosts.base("web1").blobs.contains_key(&blob));

    let world = World::new(1).await;
    world.hosts.base("web1").damaged = HashMap::from([(blob, 2)]);
    let error = world.deploy(world.new).await.unwrap_err();
    assert_eq!(error.kind(), Kind::NothingChanged);
    assert!(
        error.causes()[0].contains("do not arrive intact"),
        "{:?}",
        error.causes()
    );
    assert_eq!(error.state(), ["web1 serves nothing yet"]);
}

#[tokio::test]
async fn refusal_within_a_transfer_ends_the_conversation() {
    let world = World::with_old(1).await;
    world.hosts.base("web1").refused.push("PackEnd");
    world.events.lock().unwrap().clear();
    let error = world.deploy(world.new).await.unwrap_err();
    assert_eq!(error.causes(), ["`transfer` on web1: it failed on demand"]);
    assert_eq!(error.hint().unwrap(), "try again");
    // Asking on would take the answer to one request for that of another.
    let warnings = world.events.lock().unwrap().clone();
    let warnings: Vec<_> = warnings
        .iter()
        .filter(|event| matches!(event, Event::Warning { .. }))
        .collect();
    assert!(warnings.is_empty(), "{warnings:?}");
}

#[tokio::test(start_paused = true)]
async fn host_that_refuses_to_go_back_is_left_to_its_helper_and_looked_at_again() {
    let world = World::with_old(2).await;
    world.hosts.base("web1").failing.push("reload-fpm".into());
    world.hosts.base("web2").refused.push("GoBack");
    let error = failed(world.deploy(world.new).await.unwrap_err());
    assert_eq!(error.kind, Kind::RolledBack);
    for (truth, serving) in error.state.iter().zip(world.hosts.serving()) {
        assert_eq!(truth.serving.release(), serving);
    }
}

#[tokio::test]
async fn second_deploy_is_told_who_is_busy() {
    let world = World::with_old(2).await;
    world.hosts.base("web1").locked_by = Some(999);
    let run = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        world.hosts.base("web1").locked_by = None;
    };
    let (error, ()) = tokio::join!(world.deploy(world.new), run);
    let error = error.unwrap_err();
    assert_eq!(error.kind(), Kind::Busy);
    // The second host was not even locked: two deploys meet at the first one.
    assert_eq!(world.ledger("web2"), ["live"]);
}

#[tokio::test(start_paused = true)]
async fn host_lost_for_good_after_the_switch_is_unknown_and_the_other_goes_back() {
    let world = World::with_old(2).await;
    let calls = {
        let counting = World::with_old(2).await;
        counting.deploy(counting.new).await.unwrap();
        counting.hosts.base("web2").calls
    };
    // Backwards from the end: Unlock, Prune, Record, Confirm, reload.
    world.hosts.base("web2").fault = Some((calls - 4, Fault::Down));
    let error = failed(world.deploy(world.new).await.unwrap_err());
    assert_eq!(error.kind, Kind::Unknown);
    assert_eq!(error.state[0].serving, Serving::Release(world.old));
    assert!(
        matches!(error.state[1].serving, Serving::Unknown(_)),
        "{:?}",
        error.state
    );
    assert_eq!(world.hosts.serving(), [Some(world.old); 2]);
}

/// Fails call 1, 2, 3 ... on each of two hosts, in each way: what the error says of each host is
/// what the host serves, nothing is left unsettled or locked, and the next deploy succeeds.
#[tokio::test(start_paused = true)]
async fn whatever_call_fails_the_error_tells_the_truth_and_the_next_deploy_succeeds() {
    let mut kinds = HashMap::new();
    for host in ["web1", "web2"] {
        for fault in [Fault::Refused, Fault::CutBefore, Fault::CutAfter] {
            for call in 1.. {
                let world = World::with_old(2).await;
                world.hosts.base(host).fault = Some((call, fault));
                let result = world.deploy(world.new).await;
                if world.hosts.base(host).calls < call {
                    assert!(call > 10, "the deploy made {call} calls");
                    break;
                }
                let serving = world.hosts.serving();
                let what = format!("{host}, call {call}, {fault:?}: {result:?}");
                match result {
                    Ok(_) => assert_eq!(serving, [Some(world.new); 2], "{what}"),
                    Err(error) => {
                        let failed = failed(error);
                        *kinds.entry(format!("{:?}", failed.kind)).or_insert(0) += 1;
                        let told: Vec<_> = failed
                            .state
                            .iter()
                            .map(|truth| truth.serving.release())
                            .collect();
                        assert_eq!(told, serving, "{what}");
                        match failed.kind {
                            Kind::NothingChanged | Kind::RolledBack => {
                                assert_eq!(serving, [Some(world.old); 2], "{what}");
                            }
                            // The confirmation of one host was refused after the other's.
                            kind => panic!("{kind:?}: {what}"),
                        }
                    }
                }
                for host in ["web1", "web2"] {
                    let base = world.hosts.base(host);
                    assert!(base.pending.is_none() && base.locked_by.is_none(), "{what}");
                }
                world.hosts.base(host).fault = None;
                let again = world.deploy(world.new).await;
                assert!(again.is_ok(), "{what}, then {again:?}");
                assert_eq!(world.hosts.serving(), [Some(world.new); 2]);
            }
        }
    }
    assert!(
        kinds["NothingChanged"] > 20 && kinds["RolledBack"] > 5,
        "{kinds:?}"
    );
}

#[tokio::test]
async fn dropped_deploy_leaves_the_old_release() {
    for polls in 0..60 {
        let world = World::with_old(1).await;
        {
            let mut deploy = std::pin::pin!(world.deploy(world.new));
            for _ in 0..polls {
                tokio::select! {
                    biased;
                    _ = &mut deploy => break,
                    () = tokio::task::yield_now() => {}
                }
            }
        }
        world.hosts.settled().await;
        let confirmed = world.ledger("web1").len() > 1;
        let base = world.hosts.base("web1");
        assert!(base.pending.is_none());
        if !confirmed && base.current != Some(world.old) {
            // Only a confirmation makes it stay.
            assert_eq!(base.current, Some(world.new), "after {polls} polls");
        }
    }
}

#[tokio::test]
async fn release_the_store_does_not_have_is_bad_input_but_can_be_returned_to() {
    let world = World::with_old(1).await;
    let unknown = ReleaseId::of(b"unknown");
    let error = world.deploy(unknown).await.unwrap_err();
    assert_eq!(error.kind(), Kind::BadInput);
    assert!(error.causes()[0].contains("is not in the store"));

    world.hosts.base("web1").complete.insert(unknown);
    let deployment = Deployment {
        environment: &world.environment,
        release: unknown,
        store: &world.store,
        requirements: vec![],
        actor: "anna@laptop".into(),
        action: Action::Rollback,
        commit: None,
        started_ms: 1,
    };
    deploy(&deployment, &world.hosts, &|_| ()).await.unwrap();
    assert_eq!(world.hosts.serving(), [Some(unknown)]);
}

#[test]
fn the_future_of_a_deploy_may_move_between_threads() {
    fn is_send(_: &impl Send) {}
    let check = |deployment: &Deployment<'_>, hosts: &FaultyHosts| {
        is_send(&deploy(deployment, hosts, &|_| ()));
        is_send(&crate::inspect::preview(deployment, hosts, &|_| ()));
    };
    let _ = check;
}
