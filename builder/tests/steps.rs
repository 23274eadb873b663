//! Steps, with programs made for the purpose; the real ones are run by the tests of the program.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use common::{COMPLETE, Project, names};
use relstore_builder::plan::PlanError;
use relstore_builder::secret::Secrets;
use relstore_builder::{BuildError, Event, Preset, SourceSpec, StepSettings};

/// Programs that do what the real ones do, as far as the release is concerned.
const COMPOSER: &str = r#"
case "$1" in
  --version) echo "Composer version 9.9";;
  validate) grep -q old composer.json && { echo "lock file is old"; exit 2; }; exit 0;;
  install) mkdir -p vendor/composer && echo '{"packages":[]}' > vendor/composer/installed.json
    echo "Installing";;
  dump-autoload) echo "suffix: $(cat "$COMPOSER_HOME/config.json")" > vendor/autoload.php
    env | sort > "$TMPDIR/../../../../env-composer";;
esac"#;
const NPM: &str = r#"[ "$1" = ci ] && mkdir -p node_modules/vite/bin && echo x > node_modules/x; echo 11; env | sort > "$TMPDIR/../../../../env-npm""#;
const NODE: &str = r#"[ "$1" = --version ] && { echo v99; exit; }
mkdir -p public/build; echo "{\"app\":\"$VITE_NAME\"}" > public/build/manifest.json
ls > "$TMPDIR/../../../../files-vite"; env | sort > "$TMPDIR/../../../../env-vite"; umask"#;
const PHP: &str = "echo 8.9.1";

fn with_steps(project: &Project) -> relstore_builder::BuildRequest {
    let bin = project.programs(&[
        ("composer", COMPOSER),
        ("npm", NPM),
        ("node", NODE),
        ("php", PHP),
    ]);
    let mut request = project.request(SourceSpec::WorkTree);
    request.search_path = format!("{bin}:{}", common::search_path());
    request.wanted.presets = vec![Preset::Vite, Preset::Composer];
    request.wanted.env = BTreeMap::from([("VITE_NAME".to_owned(), "Shop".to_owned())]);
    request
}

fn npm_project() -> Project {
    let project = Project::new(&COMPLETE);
    for name in ["package.json", "package-lock.json"] {
        project.write(name, "{}");
    }
    project
}

#[tokio::test]
async fn steps_make_what_the_source_must_not_bring() {
    let project = npm_project();
    project.write("vendor/stale.php", "");
    project.write("public/build/assets/stale.js", "");
    let request = with_steps(&project);
    let prepared = project.prepare(request).await.unwrap();
    let names = names(&prepared.tree());
    assert!(
        !names
            .iter()
            .any(|name| name.contains("stale") || name.contains("node_modules"))
    );
    let read = |name| std::fs::read_to_string(prepared.tree().join(name)).unwrap();
    assert!(read("vendor/autoload.php").contains(r#""autoloader-suffix":"relstore""#));
    assert_eq!(read("public/build/manifest.json"), "{\"app\":\"Shop\"}\n");

    let mut done: Vec<&str> = Vec::new();
    let mut output: Vec<String> = Vec::new();
    let events = project.events.lock().unwrap();
    for event in events.iter() {
        match event {
            Event::StepFinished { step, .. } => done.push(step),
            Event::StepOutput { step, line } => output.push(format!("{step}: {line}")),
            _ => {}
        }
    }
    assert_eq!(done.len(), 4);
    assert_eq!(done[3], "vite", "{done:?}");
    assert!(output.contains(&"vite: 0022".to_owned()), "{output:?}");
    assert!(output.contains(&"composer: Installing".to_owned()));
    let logs = common::names(&project.scratch().join("logs"));
    assert_eq!(logs.len(), 4);
    assert!(logs[1].starts_with("20231114T221320Z-composer"), "{logs:?}");
}

/// What `webpack` of Mix does: writes the manifest, and files beside those of the source.
const MIX: &str = r#"[ "$1" = --version ] && { echo v99; exit; }
echo "$*"; env | sort > "$TMPDIR/../../../../env-mix"; cat public/mix-manifest.json
mkdir -p public/js; echo new > public/js/app.js; echo "{\"n\":\"$NODE_ENV\"}" > public/mix-manifest.json"#;
const NPM_MIX: &str = r#"[ "$1" = ci ] && mkdir -p node_modules/laravel-mix; echo 11"#;

fn with_mix(project: &Project, npm: &str, node: &str) -> relstore_builder::BuildRequest {
    let mut request = with_steps(project);
    project.programs(&[("npm", npm), ("node", node)]);
    request.wanted.presets = vec![Preset::Mix];
    request
}

#[tokio::test]
async fn mix_writes_over_the_source_and_keeps_what_lies_beside() {
    let project = npm_project();
    project.write("public/mix-manifest.json", "stale");
    project.write("public/js/app.js", "stale");
    project.write("public/js/by-hand.js", "mine");
    let request = with_mix(&project, NPM_MIX, MIX);
    let prepared = project.prepare(request).await.unwrap();
    let read = |name| std::fs::read_to_string(prepared.tree().join(name)).unwrap();
    assert_eq!(read("public/mix-manifest.json"), "{\"n\":\"production\"}\n");
    assert_eq!(read("public/js/app.js"), "new\n");
    assert_eq!(read("public/js/by-hand.js"), "mine");
    let said = project.events.lock().unwrap();
    let said: Vec<&str> = said
        .iter()
        .filter_map(|event| match event {
            Event::StepOutput { step, line } if step == "mix" => Some(line.as_str()),
            _ => None,
        })
        .collect();
    assert!(said[0].contains("laravel-mix/setup/webpack.config.js"));
    assert!(!said.contains(&"stale"), "{said:?}");
    let env = std::fs::read_to_string(project.scratch().join("builds/env-mix")).unwrap();
    assert!(env.contains("npm_config_offline=true\n"), "{env}");
}

#[tokio::test]
async fn mix_that_is_not_installed_is_named() {
    let project = npm_project();
    let request = with_mix(&project, "echo 11", MIX);
    let error = project.prepare(request).await.unwrap_err();
    assert!(
        matches!(
            &error,
            BuildError::Plan(PlanError::NeedsPackage {
                package: "laravel-mix",
                ..
            })
        ),
        "{error}"
    );
    assert!(error.hint().unwrap().contains("laravel-mix"));
}

#[tokio::test]
async fn packages_that_mix_installs_on_its_own_are_refused() {
    let project = npm_project();
    let node = format!("{MIX}\necho ' Additional dependencies must be installed. This'");
    let request = with_mix(&project, NPM_MIX, &node);
    let error = project.prepare(request).await.unwrap_err();
    assert!(
        matches!(&error, BuildError::StepRefused { step, .. } if step == "mix"),
        "{error}"
    );
}

#[tokio::test]
async fn steps_see_nothing_but_what_is_declared() {
    let project = npm_project();
    project.write(".env", "SECRET=1");
    let mut request = with_steps(&project);
    request.secrets = Secrets::new([("HTTPS_PROXY".to_owned(), "http://u:s3ntinel@p".to_owned())]);
    project.prepare(request).await.unwrap();
    let seen = |step: &str| {
        let file = project.scratch().join("builds").join(format!("env-{step}"));
        let text = std::fs::read_to_string(file).unwrap();
        let pairs = text.lines().filter_map(|line| line.split_once('='));
        pairs
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .filter(|(name, _)| !matches!(name.as_str(), "PWD" | "OLDPWD" | "_" | "SHLVL"))
            .collect::<BTreeMap<_, _>>()
    };
    let vite = seen("vite");
    let names: Vec<&str> = vite.keys().map(String::as_str).collect();
    // The application boots for plugins that call artisan, and reaches nothing.
    assert_eq!(vite["DB_DATABASE"], ":memory:");
    let dummies = [
        "APP_",
        "BROADCAST_",
        "CACHE_",
        "DB_",
        "LOG_",
        "MAIL_",
        "QUEUE_",
        "SESSION_",
    ];
    let other = |name: &&&str| !dummies.iter().any(|dummy| name.starts_with(dummy));
    let names: Vec<&str> = names.iter().filter(other).copied().collect();
    assert_eq!(
        names,
        [
            "COMPOSER_DISABLE_NETWORK",
            "COMPOSER_HOME",
            "GIT_CEILING_DIRECTORIES",
            "HOME",
            "LANG",
            "LC_ALL",
            "NODE_ENV",
            "PATH",
            "SOURCE_DATE_EPOCH",
            "TMPDIR",
            "TZ",
            "VITE_NAME"
        ]
    );
    assert_eq!(vite["NODE_ENV"], "production");
    assert_eq!(vite["SOURCE_DATE_EPOCH"], "315532800");
    let composer = seen("composer");
    assert_eq!(composer["COMPOSER_ROOT_VERSION"], "1.0.0");
    assert!(
        !composer.contains_key("HTTPS_PROXY"),
        "the autoloader needs no network"
    );
    assert!(!composer.contains_key("NODE_ENV"));
    assert!(seen("npm").contains_key("HTTPS_PROXY"));
    let files = std::fs::read_to_string(project.scratch().join("builds/files-vite")).unwrap();
    assert!(files.contains("artisan") && !files.contains(".env"));
}

#[tokio::test]
async fn a_failed_step_shows_its_last_lines_and_keeps_all_of_them() {
    let project = npm_project();
    let mut request = with_steps(&project);
    project.programs(&[(
        "composer",
        "i=0; while [ $i -lt 300 ]; do i=$((i+1)); echo line $i; done; exit 7",
    )]);
    request.wanted.presets = vec![Preset::Composer];
    let error = project.prepare(request).await.unwrap_err();
    let BuildError::Step {
        step,
        status,
        output,
        log,
        ..
    } = &error
    else {
        panic!("{error}")
    };
    assert_eq!(
        (step.as_str(), status.as_str()),
        ("composer", "exit status: 7")
    );
    assert_eq!((output.len(), output[199].as_str()), (200, "line 300"));
    assert!(std::fs::read_to_string(log).unwrap().contains("line 1\n"));
    assert_eq!(
        std::fs::read_dir(project.scratch().join("builds"))
            .unwrap()
            .count(),
        0
    );
}

#[tokio::test]
async fn output_that_makes_a_result_unusable_is_a_failure() {
    for (said, named) in [
        (
            r#"Warning: Ambiguous class resolution, "App\\Dup" was found in both "$PWD/app/A.php" and "$PWD/app/B.php", the first will be used."#,
            "App\\Dup",
        ),
        (
            "Warning: The lock file is not up to date with the latest changes",
            "lock file",
        ),
    ] {
        let project = npm_project();
        let mut request = with_steps(&project);
        let quoted = said.replace('"', "\\\"").replace("`", "");
        project.programs(&[(
            "composer",
            &format!("{COMPOSER}\n[ \"$1\" = install ] && echo \"{quoted}\" >&2; exit 0"),
        )]);
        request.wanted.presets = vec![Preset::Composer];
        let error = project.prepare(request).await.unwrap_err();
        assert!(
            matches!(error, BuildError::StepRefused { .. }),
            "{error}: {:?}",
            error.details()
        );
        let details = error.details().concat();
        assert!(details.contains(named), "{details}");
        assert!(!details.contains("builds"), "{details}");
    }
}

#[tokio::test]
async fn an_old_lock_file_fails_before_anything_is_installed() {
    let project = npm_project();
    project.write("composer.json", "{\"old\":true}");
    let mut request = with_steps(&project);
    request.wanted.presets = vec![Preset::Composer];
    let error = project.prepare(request).await.unwrap_err();
    assert!(matches!(&error, BuildError::Step { command, .. } if command.contains("validate")));
    assert!(
        error.hint().unwrap().contains("composer update"),
        "{:?}",
        error.hint()
    );
}

#[tokio::test]
async fn what_the_application_lacks_is_named_when_a_step_trips_over_it() {
    let project = npm_project();
    for name in ["composer.json", "artisan"] {
        std::fs::remove_file(project.at(name)).unwrap();
    }
    let error = project.prepare(with_steps(&project)).await.unwrap_err();
    let details = error.details();
    assert!(matches!(
        error,
        BuildError::Gates {
            source: Some(_),
            ..
        }
    ));
    assert_eq!(details.len(), 2, "{details:?}");
    assert!(details[0].contains("`artisan`") && details[1].contains("`composer-json`"));
}

#[tokio::test]
async fn a_missing_program_is_named_before_anything_runs() {
    let project = npm_project();
    let mut request = with_steps(&project);
    let bin = project.root.path().join("bin");
    std::fs::remove_file(bin.join("npm")).unwrap();
    request.search_path = bin.display().to_string();
    let error = project.prepare(request).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "`npm` is not installed, step `npm` needs it"
    );
    assert!(error.hint().is_some());
    assert!(
        project
            .events
            .lock()
            .unwrap()
            .iter()
            .all(|event| !matches!(event, Event::StepStarted { .. }))
    );
}

#[tokio::test]
async fn a_failure_ends_the_steps_beside_it_and_a_limit_ends_slow_ones() {
    let project = npm_project();
    let request = with_steps(&project);
    project.programs(&[
        ("composer", "[ \"$1\" = install ] && exit 1; exit 0"),
        ("npm", "[ \"$1\" = ci ] && sleep 300; exit 0"),
    ]);
    let started = Instant::now();
    let error = project.prepare(request).await.unwrap_err();
    assert!(
        matches!(&error, BuildError::Step { step, .. } if step == "composer"),
        "{error}"
    );

    let mut request = with_steps(&project);
    project.programs(&[("npm", "[ \"$1\" = ci ] && sleep 300; exit 0")]);
    request.wanted.settings = BTreeMap::from([(
        "npm".to_owned(),
        StepSettings {
            time_limit: Some(Duration::from_millis(500)),
            ..StepSettings::default()
        },
    )]);
    let error = project.prepare(request).await.unwrap_err();
    assert!(
        matches!(&error, BuildError::StepTime { step, .. } if step == "npm"),
        "{error}"
    );
    assert!(started.elapsed() < Duration::from_secs(60));
}

#[tokio::test]
async fn a_build_that_is_given_up_leaves_no_process_and_no_folder() {
    let project = npm_project();
    let mut request = with_steps(&project);
    project.programs(&[(
        "composer",
        "[ \"$1\" = install ] && { echo $$ > ../../../../../t; mv ../../../../../t ../../../../../pid; sleep 300; }; exit 0",
    )]);
    request.wanted.presets = vec![Preset::Composer];
    let pid = project.root.path().join("scratch/pid");
    let begun = async {
        while !pid.exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        _ = project.prepare(request) => panic!("must not end"),
        () = begun => {}
    }
    assert_eq!(
        std::fs::read_dir(project.scratch().join("builds"))
            .unwrap()
            .count(),
        0
    );
    let process = format!(
        "/proc/{}/stat",
        std::fs::read_to_string(pid).unwrap().trim()
    );
    for _ in 0..200 {
        let stat = std::fs::read_to_string(&process).unwrap_or_default();
        if stat.is_empty() || stat.contains(") Z") {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("{process} is still there");
}
