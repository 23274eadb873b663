#![allow(clippy::unwrap_used)]

use super::*;
use crate::error::Kind;
use crate::testing::world::World;

#[tokio::test]
async fn status_tells_of_every_host_even_when_one_is_down() {
    let world = World::with_old(2).await;
    world.hosts.base("web1").down = true;
    let asked = status(&world.environment, &world.hosts, &|_| ()).await;
    assert_eq!(
        asked[0].answer.as_ref().unwrap_err().to_string(),
        "web1 cannot be reached on port 22"
    );
    let status = asked[1].answer.as_ref().unwrap();
    assert_eq!(status.serving, Serving::Release(world.old));
}

#[tokio::test]
async fn history_is_what_the_ledgers_hold() {
    let world = World::with_old(2).await;
    let asked = history(&world.environment, 0, &world.hosts, &|_| ()).await;
    for asked in asked {
        assert_eq!(asked.answer.unwrap(), ["live"], "{}", asked.host);
    }
}

#[tokio::test]
async fn hosts_have_to_agree_on_what_a_rollback_returns_to() {
    let world = World::with_old(2).await;
    let target = || rollback_target(&world.environment, &world.hosts, &|_| ());
    let error = target().await.unwrap_err();
    assert!(matches!(error, DeployError::NoPrevious { .. }), "{error:?}");

    world.deploy(world.new).await.unwrap();
    assert_eq!(target().await.unwrap(), world.old);

    world.hosts.base("web2").previous = None;
    let error = target().await.unwrap_err();
    assert_eq!(error.kind(), Kind::BadInput);
    assert_eq!(
        error.state(),
        [
            format!("web1 served {} before", world.old.short()),
            "web2 served nothing before".into()
        ]
    );
    world.hosts.base("web1").down = true;
    let error = target().await.unwrap_err();
    assert_eq!(error.to_string(), "web1 cannot be asked");
    assert_eq!(error.causes()[0], "web1 cannot be reached on port 22");
}

#[tokio::test]
async fn preview_counts_the_bytes_that_the_deploy_then_sends_and_changes_nothing() {
    let world = World::with_old(1).await;
    let deployment = world.deployment(world.new);
    let preview = preview(&deployment, &world.hosts, &|_| ()).await.unwrap();
    let host = &preview.hosts[0];
    assert_eq!(host.changes.as_ref().unwrap().changed, 1);
    assert_eq!(host.send_blobs, 1);
    assert!(!preview.plan.is_active_everywhere());
    assert_eq!(world.hosts.base("web1").calls, 0);

    let outcome = world.deploy(world.new).await.unwrap();
    let others = outcome.hosts[0].sent_bytes - host.send_bytes;
    // The other requests are small and always the same.
    assert!((300..1000).contains(&others), "{others} bytes");

    let deployment = world.deployment(world.old);
    let again = super::preview(&deployment, &world.hosts, &|_| ())
        .await
        .unwrap();
    assert_eq!(
        (again.hosts[0].send_bytes, again.hosts[0].send_blobs),
        (0, 0)
    );
}
