#![allow(clippy::unwrap_used)]

use relstore_store::name::EntryPath;
use relstore_store::structure::Shape;

use super::*;
use crate::testing::{environment, state};

fn release(name: &str) -> ReleaseId {
    ReleaseId::of(name.as_bytes())
}

fn laravel() -> Vec<Requirement> {
    ["artisan", "vendor/autoload.php"]
        .map(|path| Requirement {
            path: EntryPath::new(path).unwrap(),
            shape: Shape::File,
        })
        .to_vec()
}

fn lines(plan: &Plan) -> Vec<String> {
    let mut lines = Vec::new();
    for host in &plan.hosts {
        let phases = [
            ("prepare", &host.prepare),
            ("migrate", &host.migrate),
            ("activate", &host.activate),
            ("finish", &host.finish),
        ];
        for (phase, steps) in phases {
            let names: Vec<_> = steps.iter().map(Step::name).collect();
            if !names.is_empty() {
                lines.push(format!("{} {phase}: {}", host.host, names.join(", ")));
            }
        }
    }
    lines
}

#[test]
fn first_deploy_does_everything_and_migrates_on_the_first_host_alone() {
    let environment = environment(2);
    let states = [state(None, &[]), state(None, &[])];
    let plan = plan(
        &environment,
        release("new"),
        Action::Deploy,
        &laravel(),
        &states,
    )
    .unwrap();
    assert_eq!(
        lines(&plan),
        [
            "web1 prepare: transfer, materialise, gates, autoload, artisan, caches",
            "web1 migrate: migrate",
            "web1 activate: switch, reload",
            "web1 finish: confirm, ledger, clean up",
            "web2 prepare: transfer, materialise, gates, autoload, artisan, caches",
            "web2 activate: switch, reload",
            "web2 finish: confirm, ledger, clean up",
        ]
    );
    assert!(!plan.is_active_everywhere());
    let Step::Switch {
        from,
        confirm_within,
    } = &plan.hosts[0].activate[0]
    else {
        panic!("the first step of the activation is the switch");
    };
    assert_eq!(*from, None);
    let reload_and_health = environment.command_timeout
        + health::time_limit(environment.health_attempts, environment.health_interval);
    assert!(*confirm_within > reload_and_health, "{confirm_within:?}");
}

#[test]
fn complete_release_is_not_sent_again_and_a_rollback_runs_no_migrations() {
    let environment = environment(1);
    let states = [state(
        Some(release("new")),
        &[release("new"), release("old")],
    )];
    let plan = plan(
        &environment,
        release("old"),
        Action::Rollback,
        &laravel(),
        &states,
    )
    .unwrap();
    assert_eq!(
        lines(&plan),
        [
            "web1 prepare: materialise, gates, autoload, artisan, caches",
            "web1 activate: switch, reload",
            "web1 finish: confirm, ledger, clean up",
        ]
    );
}

#[test]
fn active_release_is_verified_and_only_its_caches_are_looked_at() {
    let environment = environment(2);
    let new = release("new");
    let active = state(Some(new), &[new]);
    let plan_both = plan(
        &environment,
        new,
        Action::Deploy,
        &laravel(),
        &[active.clone(), active.clone()],
    )
    .unwrap();
    assert!(plan_both.is_active_everywhere());
    assert_eq!(
        lines(&plan_both)[..3],
        [
            "web1 prepare: materialise",
            "web1 activate: caches, reload",
            "web1 finish: ledger"
        ]
    );
    // One host of two has to switch: the database belongs to both.
    let states = [active, state(Some(release("old")), &[release("old")])];
    let plan_one = plan(&environment, new, Action::Deploy, &laravel(), &states).unwrap();
    assert!(lines(&plan_one).contains(&"web1 migrate: migrate".to_owned()));
    assert!(!plan_one.is_active_everywhere());
}

#[test]
fn what_a_release_does_not_promise_is_not_run() {
    let mut environment = environment(1);
    environment.reload.clear();
    environment.migrate = Migrate::Off;
    let plan = plan(
        &environment,
        release("new"),
        Action::Deploy,
        &[],
        &[state(None, &[])],
    )
    .unwrap();
    assert_eq!(
        lines(&plan),
        [
            "web1 prepare: transfer, materialise, caches",
            "web1 activate: switch",
            "web1 finish: confirm, ledger, clean up",
        ]
    );
}

#[test]
fn foreign_current_is_refused_with_the_host() {
    let mut foreign = state(None, &[]);
    foreign.current = Current::Foreign("a folder".into());
    let (host, error) = plan(
        &environment(2),
        release("new"),
        Action::Deploy,
        &[],
        &[state(None, &[]), foreign],
    )
    .unwrap_err();
    assert_eq!(host, "web2");
    assert_eq!(
        error.to_string(),
        "`current` on the host is a folder, which relstore did not make"
    );
}
