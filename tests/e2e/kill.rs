//! SIGKILL of the program or of the host helper at every step and at many instants: `current` stays
//! on a complete, verified release, and the next deploy succeeds without help.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use super::Site;
use super::site::PATIENCE;

/// Ends processes that this test started, by pid.
fn kill(pids: &[u32]) {
    for pid in pids {
        let _ = Command::new("kill")
            .args(["-KILL", &pid.to_string()])
            .status();
    }
}

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < until, "gave up on waiting until {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// All journal lines of the base, oldest first.
fn journal(site: &Site) -> Vec<(String, String)> {
    let mut files: Vec<_> = fs::read_dir(site.base.join(".relstore/journal"))
        .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
        .unwrap_or_default();
    files.sort();
    let text: String = files
        .iter()
        .filter_map(|file| fs::read_to_string(file).ok())
        .collect();
    text.lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .map(|line| {
            let field = |name: &str| line[name].as_str().unwrap_or_default().to_owned();
            (field("step"), field("event"))
        })
        .collect()
}

enum Victim {
    Program,
    Helper,
}

/// Starts a deploy, kills one side when `now` says so, and checks. Returns whether there was
/// anything left to kill.
fn strike(
    site: &Site,
    release: &str,
    victim: &Victim,
    context: &str,
    now: impl FnOnce(&mut std::process::Child),
) -> bool {
    let mut child = site.spawn(&["deploy", release, "--env", "test"]);
    now(&mut child);
    let hit = match victim {
        Victim::Program => {
            let runs = child.try_wait().expect("it is our child").is_none();
            let _ = child.kill();
            runs
        }
        Victim::Helper => {
            let helpers = site.helpers();
            kill(&helpers);
            !helpers.is_empty()
        }
    };
    wait_until("the program ended", || {
        child.try_wait().expect("it is our child").is_some()
    });
    wait_until("the helper ended", || site.helpers().is_empty());
    site.is_sound(context);
    hit
}

#[test]
fn killed_at_every_step_leaves_a_sound_release_and_the_next_deploy_works() {
    let site = Site::new("killsteps", 18121);
    let releases = [site.fixture.first.clone(), site.fixture.second.clone()];
    site.deploy(&releases[0]);
    site.deploy(&releases[1]);
    let mut steps: Vec<String> = Vec::new();
    for (step, _) in journal(&site) {
        if !steps.contains(&step) {
            steps.push(step);
        }
    }
    assert!(steps.len() >= 7, "{steps:?}");
    let mut turn = 0;
    let mut hits = [0, 0];
    for step in &steps {
        for victim in [Victim::Program, Victim::Helper] {
            // Warm state would be reused: a changed .env makes every step do its work.
            fs::write(
                site.base.join("shared/.env"),
                fs::read_to_string(site.base.join("shared/.env")).unwrap() + "#\n",
            )
            .unwrap();
            let before = journal(&site).len();
            let release = &releases[turn % 2];
            turn += 1;
            let side = if matches!(victim, Victim::Program) {
                "program"
            } else {
                "helper"
            };
            let context = format!("{side} killed at {step}");
            let hit = strike(&site, release, &victim, &context, |child| {
                wait_until("the step began", || {
                    let lines = journal(&site);
                    let began = lines
                        .get(before.min(lines.len())..)
                        .unwrap_or_default()
                        .iter()
                        .any(|(name, _)| name == step);
                    began || child.try_wait().expect("it is our child").is_some()
                });
            });
            hits[usize::from(side == "helper")] += u32::from(hit);
            let next = site.run(&["deploy", release, "--env", "test"]);
            assert_eq!(
                next.status.code(),
                Some(0),
                "{context}: {}",
                super::site::told(&next)
            );
            assert_eq!(site.current().as_ref(), Some(release), "{context}");
        }
    }
    assert!(
        hits.iter().all(|&hits| hits > 0),
        "nothing was killed: {hits:?}"
    );
}

#[test]
fn killed_at_any_instant_leaves_a_sound_release_and_the_next_deploy_works() {
    let site = Site::new("killtimes", 18122);
    let releases = [site.fixture.first.clone(), site.fixture.second.clone()];
    site.deploy(&releases[0]);
    let began = Instant::now();
    site.deploy(&releases[1]);
    let whole = began.elapsed();
    let instants = 12;
    let mut hits = [0, 0];
    for turn in 0..instants {
        for victim in [Victim::Program, Victim::Helper] {
            let side = if matches!(victim, Victim::Program) {
                "program"
            } else {
                "helper"
            };
            let delay = whole * turn / instants;
            let context = format!("{side} killed after {delay:?}");
            let hit = strike(
                &site,
                &releases[turn as usize % 2],
                &victim,
                &context,
                |_| std::thread::sleep(delay),
            );
            hits[usize::from(side == "helper")] += u32::from(hit);
        }
    }
    assert!(
        hits.iter().all(|&hits| hits > 0),
        "nothing was killed: {hits:?}"
    );
    site.deploy(&releases[0]);
    site.deploy(&releases[1]);
}

#[test]
fn no_deploy_starts_while_a_command_of_a_killed_one_runs() {
    let site = Site::new("orphan", 18123);
    site.deploy(&site.fixture.first.clone());
    let mut settings = site.settings();
    // A command that leaves its own session and so survives the helper, like a daemon would.
    settings.insert("reload", "[\"setsid sleep 6\"]".into());
    site.configure(&settings);
    let second = site.fixture.second.clone();
    let child = site.spawn(&["deploy", &second, "--env", "test"]);
    let sleeping = || {
        let found = Command::new("pgrep")
            .args(["-u", "deploy", "-x", "sleep"])
            .output()
            .expect("pgrep runs");
        !found.stdout.is_empty()
    };
    wait_until("the reload command runs", sleeping);
    kill(&site.helpers());
    let mut child = child;
    wait_until("the program ended", || {
        child.try_wait().expect("it is our child").is_some()
    });
    settings.insert("reload", "[]".into());
    site.configure(&settings);
    if sleeping() {
        let ran = site.run(&["deploy", &second, "--env", "test"]);
        assert_eq!(ran.status.code(), Some(9), "{}", super::site::told(&ran));
    }
    wait_until("the command ended", || !sleeping());
    site.deploy(&second);
    site.is_sound("after the orphan ended");
}
