//! What steps made is looked up before they run, and only then.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;
use std::time::Duration;

use common::{Project, path};
use relstore_builder::secret::Secrets;
use relstore_builder::step::CommandLine;
use relstore_builder::{
    BuildError, BuildRequest, Built, Event, How, SandboxMode, SourceSpec, StepSettings, StorePlace,
    Wanted,
};

/// A step that counts its runs beside the build and makes `public/made` of `app`.
fn own(project: &Project, script: &str) -> StepSettings {
    let count = project.root.path().join("runs").display().to_string();
    let script = format!("echo run >> '{count}'; mkdir -p public/made; {script}");
    StepSettings {
        run: vec![CommandLine::new(["sh", "-c", &script])],
        inputs: Some(vec!["app".to_owned()]),
        outputs: vec![path("public/made")],
        ..StepSettings::default()
    }
}

fn with_step(project: &Project, settings: StepSettings) -> BuildRequest {
    let mut request = project.request(SourceSpec::WorkTree);
    request.wanted = Wanted {
        settings: BTreeMap::from([("made".to_owned(), settings)]),
        ..Wanted::default()
    };
    request
}

fn runs(project: &Project) -> usize {
    let text = std::fs::read_to_string(project.root.path().join("runs")).unwrap_or_default();
    text.lines().count()
}

fn is_cached(built: &Built) -> bool {
    matches!(built.steps[0].how, How::Cached { .. })
}

const LIST: &str = "cat $(find app -type f | sort) > public/made/list";

async fn derivations(store: &StorePlace) -> usize {
    let folder = std::path::PathBuf::from(store.make().await.unwrap().place()).join("derivations");
    walkdir::WalkDir::new(folder)
        .into_iter()
        .filter(|entry| {
            entry
                .as_ref()
                .is_ok_and(|entry| entry.file_type().is_file())
        })
        .count()
}

#[tokio::test]
async fn a_step_runs_again_exactly_when_something_it_depends_on_changed() {
    let project = Project::committed();
    let store = project.store();
    let settings = own(&project, LIST);
    let first = project
        .build(with_step(&project, settings.clone()), &store)
        .await
        .unwrap();
    assert!(!is_cached(&first) && !first.steps[0].seen_before);

    // Another time, a file that it does not see.
    project.write("config/other.php", "<?php\n");
    let mut request = with_step(&project, settings.clone());
    request.now += Duration::from_secs(86_400);
    let second = project.build(request, &store).await.unwrap();
    assert!(is_cached(&second) && second.steps[0].reasons.is_empty());
    assert_ne!(second.release, first.release);
    assert_eq!(runs(&project), 1);

    project.write("app/New.php", "<?php\n");
    let third = project
        .build(with_step(&project, settings.clone()), &store)
        .await
        .unwrap();
    assert_eq!(third.steps[0].reasons, ["`app/New.php` is new"]);
    assert_eq!(runs(&project), 2);

    // Back to what was: known, although it is not what was last.
    std::fs::remove_file(project.at("app/New.php")).unwrap();
    let fourth = project
        .build(with_step(&project, settings.clone()), &store)
        .await
        .unwrap();
    assert!(is_cached(&fourth));
    assert_eq!(fourth.steps[0].reasons, ["`app/New.php` is gone"]);
    assert_eq!(fourth.release, second.release);

    let mut other = settings;
    other.env.insert("COLOUR".to_owned(), "red".to_owned());
    let fifth = project
        .build(with_step(&project, other), &store)
        .await
        .unwrap();
    assert_eq!(fifth.steps[0].reasons, ["the variable COLOUR is new"]);
    assert_eq!(runs(&project), 3);
}

#[tokio::test]
async fn an_incremental_build_is_a_clean_build() {
    let project = Project::committed();
    let store = project.store();
    let settings = own(&project, LIST);
    for (file, text) in [
        ("app/A.php", "1"),
        ("app/B.php", "2"),
        ("app/A.php", "3"),
        ("config/c.php", "4"),
        ("app/B.php", "2"),
    ] {
        project.write(file, text);
        let built = project
            .build(with_step(&project, settings.clone()), &store)
            .await
            .unwrap();
        let empty = StorePlace::new(
            project
                .root
                .path()
                .join(format!("clean-{text}-{file}").replace('/', "-")),
        );
        let clean = project
            .build(with_step(&project, settings.clone()), &empty)
            .await
            .unwrap();
        assert!(!is_cached(&clean));
        assert_eq!(built.release, clean.release, "{file}");
    }
}

#[tokio::test]
async fn a_failed_step_is_not_kept_and_what_went_before_it_is() {
    let project = Project::committed();
    let store = project.store();
    let mut request = with_step(&project, own(&project, LIST));
    let later = StepSettings {
        run: vec![CommandLine::new(["sh", "-c", "exit 3"])],
        needs: vec!["made".to_owned()],
        outputs: vec![path("public/later")],
        ..StepSettings::default()
    };
    request.wanted.settings.insert("later".to_owned(), later);
    for _ in 0..2 {
        let error = project.build(request.clone(), &store).await.unwrap_err();
        assert!(
            matches!(&error, BuildError::Step { step, .. } if step == "later"),
            "{error}"
        );
    }
    assert_eq!(runs(&project), 1, "the first step is known the second time");
    assert_eq!(derivations(&store).await, 1);
    assert!(
        store
            .make()
            .await
            .unwrap()
            .releases()
            .await
            .unwrap()
            .is_empty()
    );
}

#[tokio::test]
async fn two_builds_of_one_key_at_once_run_it_once() {
    let project = Project::committed();
    let store = project.store();
    let settings = own(&project, &format!("sleep 1; {LIST}"));
    let (one, two, three) = tokio::join!(
        project.build(with_step(&project, settings.clone()), &store),
        project.build(with_step(&project, settings.clone()), &store),
        project.build(with_step(&project, settings.clone()), &store),
    );
    let releases = [one, two, three].map(|built| built.unwrap().release);
    assert!(releases[0] == releases[1] && releases[1] == releases[2]);
    assert_eq!(runs(&project), 1);
    let events = project.events.lock().unwrap();
    let waited = events
        .iter()
        .filter(|event| matches!(event, Event::StepWaiting { .. }));
    assert_eq!(waited.count(), 2);
}

#[tokio::test]
async fn writing_elsewhere_and_not_making_outputs_are_errors_that_keep_nothing() {
    for (script, said) in [
        ("echo x > app/Generated.php", "wrote `app/Generated.php`"),
        (
            "echo longer > app/Models/User.php",
            "changed `app/Models/User.php`",
        ),
        ("rm app/Models/User.php", "removed `app/Models/User.php`"),
    ] {
        let project = Project::committed();
        let store = project.store();
        let settings = own(&project, &format!("{LIST}; {script}"));
        let error = project
            .build(with_step(&project, settings), &store)
            .await
            .unwrap_err();
        assert!(
            matches!(error, BuildError::WroteElsewhere { .. }),
            "{error}"
        );
        assert_eq!(error.details(), [said]);
        assert!(error.hint().unwrap().contains("[build.step.made] outputs"));
        assert!(!project.root.path().join("store").exists());
        assert_eq!(common::names(&project.scratch().join("builds")).len(), 0);
        let source = std::fs::read_to_string(project.at("app/Models/User.php")).unwrap();
        assert_eq!(source, "<?php\n");
    }
    for (script, said) in [("rmdir public/made", "was not made"), (":", "is empty")] {
        let project = Project::committed();
        let error = project
            .build(with_step(&project, own(&project, script)), &project.store())
            .await
            .unwrap_err();
        assert!(
            matches!(&error, BuildError::NoOutput { what, .. } if *what == said),
            "{error}"
        );
    }
}

#[tokio::test]
async fn outputs_that_no_release_can_hold_are_named() {
    for script in [
        "mkfifo public/made/pipe",
        "ln -s /etc/passwd public/made/link",
    ] {
        let project = Project::committed();
        let error = project
            .build(with_step(&project, own(&project, script)), &project.store())
            .await
            .unwrap_err();
        let BuildError::Output { step, source } = &error else {
            panic!("{error}")
        };
        assert_eq!(step, "made");
        let text = format!("{source}: {:?}", std::error::Error::source(source));
        assert!(text.contains("public/made"), "{text}");
    }
}

#[tokio::test]
async fn a_derivation_whose_tree_is_gone_is_made_again() {
    let project = Project::committed();
    let store = project.store();
    let settings = own(&project, LIST);
    let first = project
        .build(with_step(&project, settings.clone()), &store)
        .await
        .unwrap();
    let manifests = project.root.path().join("store/manifests");
    for entry in std::fs::read_dir(&manifests).unwrap() {
        let entry = entry.unwrap();
        if entry.file_name().to_str() != Some(&first.release.to_string()) {
            std::fs::remove_file(entry.path()).unwrap();
        }
    }
    let again = project
        .build(with_step(&project, settings), &store)
        .await
        .unwrap();
    assert!(!is_cached(&again));
    assert_eq!(again.release, first.release);
}

#[tokio::test]
async fn old_derivations_are_forgotten_and_recent_ones_stay() {
    let project = Project::committed();
    let store = project.store();
    project
        .build(with_step(&project, own(&project, LIST)), &store)
        .await
        .unwrap();
    let store = store.make().await.unwrap();
    assert_eq!(
        store
            .forget_derivations(Duration::from_secs(60))
            .await
            .unwrap(),
        0
    );
    project
        .build(
            with_step(&project, own(&project, "echo 2 > public/made/x")),
            &project.store(),
        )
        .await
        .unwrap();
    assert_eq!(store.forget_derivations(Duration::ZERO).await.unwrap(), 1);
}

#[tokio::test]
async fn a_derivation_in_use_is_written_again_when_it_is_old() {
    let project = Project::committed();
    let store = project.store();
    let mut request = with_step(&project, own(&project, LIST));
    request.now = std::time::SystemTime::now();
    for (hours, known) in [(0, 1), (1, 1), (7, 2)] {
        let mut later = request.clone();
        later.now += Duration::from_secs(hours * 3600);
        let built = project.build(later, &store).await.unwrap();
        assert_eq!(is_cached(&built), hours > 0);
        assert_eq!(derivations(&store).await, known, "{hours}");
    }
    assert_eq!(runs(&project), 1);
}

#[tokio::test]
async fn sandbox_changes_no_release() {
    let project = Project::committed();
    let settings = own(&project, LIST);
    // The count lies outside of what a sandbox shows.
    let script = format!("mkdir -p public/made; {LIST}");
    let settings = StepSettings {
        run: vec![CommandLine::new(["sh", "-c", &script])],
        ..settings
    };
    let mut releases = Vec::new();
    for mode in [SandboxMode::Off, SandboxMode::Required] {
        let mut request = with_step(&project, settings.clone());
        request.sandbox = mode;
        let built = project.build(request, &project.store()).await.unwrap();
        assert!(!is_cached(&built), "whether it was used is part of the key");
        assert_eq!(built.steps[0].sandboxed, mode == SandboxMode::Required);
        releases.push(built.release);
    }
    assert_eq!(releases[0], releases[1]);
}

#[tokio::test]
async fn a_sandboxed_step_sees_what_it_declares_and_nothing_of_the_machine() {
    let project = Project::committed();
    project.write("auth.json", "{\"secret\":\"s3ntinel\"}");
    let outside = project.root.path().join("outside");
    std::fs::write(&outside, "x").unwrap();
    let script = format!(
        "mkdir -p public/made; {{ pwd; id -u; hostname; ls -A \"$HOME\" | wc -l; ls -A /tmp | wc -l; ls; \
         test -e '{}' && echo VISIBLE; true; }} > public/made/seen",
        outside.display()
    );
    let settings = StepSettings {
        run: vec![CommandLine::new(["sh", "-c", &script])],
        inputs: Some(vec!["app".to_owned()]),
        outputs: vec![path("public/made")],
        ..StepSettings::default()
    };
    let mut request = with_step(&project, settings);
    request.sandbox = SandboxMode::Required;
    let prepared = project.prepare(request).await.unwrap();
    let seen = std::fs::read_to_string(prepared.tree().join("public/made/seen")).unwrap();
    let lines: Vec<&str> = seen.lines().collect();
    assert_eq!(
        &lines[..7],
        ["/build", "1000", "relstore", "0", "0", "app", "public"],
        "{seen}"
    );
    assert!(
        !seen.contains("VISIBLE") && !seen.contains("auth.json"),
        "{seen}"
    );
}

#[tokio::test]
async fn no_sandbox_is_an_error_where_one_is_required_and_told_where_it_is_wanted() {
    let project = Project::committed();
    let bin = project.programs(&[(
        "bwrap",
        "echo 'bwrap: setting up uid map: Permission denied' >&2; exit 1",
    )]);
    let mut request = with_step(&project, own(&project, LIST));
    request.search_path = format!("{bin}:{}", common::search_path());
    request.sandbox = SandboxMode::Required;
    let error = project.prepare(request.clone()).await.unwrap_err();
    assert!(error.to_string().contains("Permission denied"), "{error}");
    assert!(error.hint().is_some());
    assert_eq!(runs(&project), 0);
    request.sandbox = SandboxMode::Auto;
    project.prepare(request).await.unwrap();
    let events = project.events.lock().unwrap();
    let told = events
        .iter()
        .any(|event| matches!(event, Event::NoSandbox { .. }));
    assert!(told && runs(&project) == 1);
}

#[tokio::test]
async fn the_network_is_for_steps_that_declare_it() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let script = format!(
        "mkdir -p public/made; (echo > /dev/tcp/127.0.0.1/{port}) 2>/dev/null && echo reached > public/made/x || echo not > public/made/x"
    );
    for (network, said) in [(true, "reached\n"), (false, "not\n")] {
        let project = Project::committed();
        let settings = StepSettings {
            run: vec![CommandLine::new(["bash", "-c", &script])],
            outputs: vec![path("public/made")],
            network: Some(network),
            ..StepSettings::default()
        };
        let mut request = with_step(&project, settings);
        request.sandbox = SandboxMode::Required;
        let prepared = project.prepare(request).await.unwrap();
        let seen = std::fs::read_to_string(prepared.tree().join("public/made/x")).unwrap();
        assert_eq!(seen, said);
    }
}

/// Whether some process has this among its arguments.
fn runs_with(argument: &str) -> bool {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    entries
        .filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok())
        .any(|line| {
            line.split(|&byte| byte == 0)
                .any(|word| word == argument.as_bytes())
        })
}

#[tokio::test]
async fn nothing_of_a_step_survives_its_end_its_limit_or_a_build_given_up() {
    for (number, mode) in [SandboxMode::Off, SandboxMode::Required]
        .into_iter()
        .enumerate()
    {
        let sleep = |case: usize| format!("30{number}{case}.{}", std::process::id());
        let step = |case: usize, then: &str| {
            let time = sleep(case);
            let script = format!(
                "mkdir -p public/made; echo > public/made/x; setsid sh -c 'sleep {time}' & sleep 0.3; {then}"
            );
            StepSettings {
                run: vec![CommandLine::new(["sh", "-c", &script])],
                outputs: vec![path("public/made")],
                time_limit: Some(Duration::from_secs(1)),
                ..StepSettings::default()
            }
        };
        let project = Project::committed();
        let request = |settings| {
            let mut request = with_step(&project, settings);
            request.sandbox = mode;
            request
        };
        project.prepare(request(step(1, "true"))).await.unwrap();
        let error = project
            .prepare(request(step(2, "sleep 60")))
            .await
            .unwrap_err();
        assert!(matches!(error, BuildError::StepTime { .. }), "{error}");
        let begun = async {
            while !runs_with(&sleep(3)) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::select! {
            _ = project.prepare(request(step(3, "sleep 60"))) => panic!("must not end"),
            () = begun => {}
        }
        for case in 1..=3 {
            let mut left = 200;
            while runs_with(&sleep(case)) {
                left -= 1;
                assert!(left > 0, "{mode:?} {case}: it still runs");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        assert_eq!(common::names(&project.scratch().join("builds")).len(), 0);
    }
}

#[tokio::test]
async fn credentials_reach_network_steps_and_nothing_else() {
    let project = Project::committed();
    project.write(".npmrc", "//registry.example/:_authToken=s3ntinel-npmrc\n");
    project.commit();
    let seen = project.root.path().join("seen");
    let script = |name: &str| {
        format!(
            "mkdir -p public/made-{name}; echo 1 > public/made-{name}/x; {{ env; cat .npmrc \"$HOME/.npmrc\" \"$COMPOSER_HOME/auth.json\"; }} > '{}-{name}' 2>/dev/null; \
             cat '{}-{name}'; true",
            seen.display(),
            seen.display()
        )
    };
    let step = |name: &str, network| StepSettings {
        run: vec![CommandLine::new(["sh", "-c", &script(name)])],
        outputs: vec![path(&format!("public/made-{name}"))],
        network: Some(network),
        ..StepSettings::default()
    };
    let request = |suffix: &str| {
        let mut request = project.head();
        request.wanted.settings = BTreeMap::from([
            ("net".to_owned(), step("net", true)),
            ("plain".to_owned(), step("plain", false)),
        ]);
        let auth = format!(
            "{{\"http-basic\":{{\"h\":{{\"username\":\"user\",\"password\":\"s3ntinel-json{suffix}\"}}}}}}"
        );
        request.secrets =
            Secrets::new([("HTTPS_PROXY".into(), "http://u:s3ntinel-proxy@p".into())])
                .with_variable("COMPOSER_AUTH".into(), format!("s3ntinel-variable{suffix}"))
                .with_file("auth.json".into(), auth.into_bytes())
                .with_file(
                    ".npmrc".into(),
                    format!("_auth = s3ntinel-home{suffix}\n").into_bytes(),
                );
        request
    };
    let store = project.store();
    project.build(request("-1"), &store).await.unwrap();
    let text = |name: &str| std::fs::read_to_string(format!("{}-{name}", seen.display())).unwrap();
    for secret in ["npmrc", "json-1", "proxy", "variable-1", "home-1"] {
        assert!(
            text("net").contains(&format!("s3ntinel-{secret}")),
            "{secret}"
        );
    }
    assert!(!text("plain").contains("s3ntinel"), "{}", text("plain"));

    // Other secrets, same release: no key is made of them.
    let again = project.build(request("-2"), &store).await.unwrap();
    assert!(
        again
            .steps
            .iter()
            .all(|step| matches!(step.how, How::Cached { .. }))
    );

    let events = format!("{:?}", project.events.lock().unwrap());
    assert!(events.contains("***") && !events.contains("s3ntinel"));
    for folder in [project.scratch(), project.root.path().join("store")] {
        for name in common::names(&folder) {
            let bytes = std::fs::read(folder.join(&name)).unwrap();
            let plain = zstd_free(&bytes);
            let found = plain.windows(8).any(|part| part == b"s3ntinel");
            assert!(!found, "{name}");
        }
    }
}

/// What compressed files hold, as far as `zstd` can tell.
fn zstd_free(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut child = std::process::Command::new("zstd")
        .args(["-dcq"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = bytes.to_vec();
    let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().unwrap().stdout;
    writer.join().unwrap();
    [bytes, &output].concat()
}
