//! All gates together.
#![allow(clippy::unwrap_used)]

use super::tree::testing::folder;
use super::*;

const COMPLETE: [(&str, &str); 10] = [
    ("artisan", "#!/usr/bin/env php\n"),
    ("composer.json", "{}"),
    ("public/index.php", "<?php\n"),
    ("public/build/manifest.json", "{}"),
    ("vendor/autoload.php", "<?php\n"),
    ("bootstrap/app.php", "<?php\n"),
    (
        "config/app.php",
        "<?php return ['key' => env('APP_KEY')];\n",
    ),
    ("routes/web.php", "<?php // path\n"),
    ("app/Models/User.php", "<?php\n"),
    (
        "database/migrations/2024_01_31_120000_create_a.php",
        "<?php return new class { function up() {} };\n",
    ),
];

fn results(root: &Path, settings: &Settings) -> Vec<GateResult> {
    let context = Context {
        root,
        left_out: &LeftOut::default(),
        search_path: "/usr/local/bin:/usr/bin:/bin",
        cache: None,
        cancelled: &AtomicBool::new(false),
    };
    run(&context, settings)
}

fn verdicts(files: &[(&str, &str)], settings: &Settings) -> Vec<(String, Verdict)> {
    let root = folder(&[&COMPLETE[..], files].concat());
    let results = results(root.path(), settings);
    let not_passed = results
        .into_iter()
        .filter(|one| one.verdict != Verdict::Passed);
    not_passed.map(|one| (one.id, one.verdict)).collect()
}

/// One fault for each content gate.
const FAULTS: [(&str, &str, &str); 8] = [
    ("secrets", "app/x.php", "<?php // AKIAABCDEFGHIJKLMNOP"),
    ("case-collisions", "Artisan", ""),
    (
        "assets",
        "public/mix-manifest.json",
        "{\"/a.js\":\"/a.js\"}",
    ),
    (
        "class-map",
        "vendor/composer/autoload_classmap.php",
        "<?php return array('A' => $vendorDir . '/a.php');",
    ),
    ("php-syntax", "app/x.php", "<?php )"),
    (
        "migration-names",
        "database/migrations/create_x.php",
        "<?php\n",
    ),
    (
        "destructive-migrations",
        "database/migrations/2024_01_31_120001_x.php",
        "<?php return new class { function up() { Schema::drop('x'); } };",
    ),
    ("env-outside-config", "app/x.php", "<?php env('A');"),
];

#[test]
fn complete_application_passes_all_gates_in_their_order() {
    let root = folder(&COMPLETE);
    let results = results(root.path(), &Settings::default());
    let asked: Vec<&str> = results.iter().map(|result| result.id.as_str()).collect();
    assert_eq!(asked, ids());
    for result in &results {
        assert_eq!(result.verdict, Verdict::Passed, "{result:?}");
        assert_eq!((result.lines().len(), &result.cause), (0, &None));
    }
}

#[test]
fn each_fault_is_found_by_its_gate_and_by_no_other() {
    for (id, path, content) in FAULTS {
        let default = CONTENT.iter().find(|row| row.id == id).unwrap().state;
        let verdict = match default {
            State::Warns => Verdict::Warned,
            _ => Verdict::Failed,
        };
        let files = [(path, content)];
        assert_eq!(
            verdicts(&files, &Settings::default()),
            [(id.to_owned(), verdict)]
        );
    }
}

#[test]
fn settings_turn_warn_refuse_and_allow() {
    for (id, path, content) in FAULTS {
        let files = [(path, content)];
        let list = vec![id.to_owned()];
        let warn = Settings {
            warn: list.clone(),
            ..Settings::default()
        };
        assert_eq!(verdicts(&files, &warn), [(id.to_owned(), Verdict::Warned)]);
        let refuse = Settings {
            refuse: list.clone(),
            ..Settings::default()
        };
        assert_eq!(
            verdicts(&files, &refuse),
            [(id.to_owned(), Verdict::Failed)]
        );
        let off = Settings {
            off: list,
            ..Settings::default()
        };
        assert_eq!(verdicts(&files, &off), [(id.to_owned(), Verdict::Off)]);
        let found = match id {
            "class-map" => "vendor/a.php",
            "case-collisions" => "artisan",
            _ => path,
        };
        let allow = Settings {
            allow: vec![Allow::new(id, found, "known").unwrap()],
            ..Settings::default()
        };
        assert_eq!(verdicts(&files, &allow), [], "{id}");
    }
}

#[test]
fn commands_are_asked_after_all_others_and_only_when_on() {
    let command = |name: &str, program: &str| CommandGate {
        name: name.to_owned(),
        words: vec![program.to_owned()],
    };
    let settings = Settings {
        commands: ["good", "bad", "soft", "away"]
            .map(|name| command(name, if name == "good" { "true" } else { "false" }))
            .to_vec(),
        warn: vec!["soft".to_owned()],
        off: vec!["away".to_owned()],
        ..Settings::default()
    };
    let found = verdicts(&[], &settings);
    let expected = [
        ("bad", Verdict::Failed),
        ("soft", Verdict::Warned),
        ("away", Verdict::Off),
    ];
    assert_eq!(
        found,
        expected.map(|(id, verdict)| (id.to_owned(), verdict))
    );
}

#[test]
fn several_faults_are_reported_together() {
    let all = FAULTS.map(|(_, path, content)| (path, content));
    let settings = Settings::default();
    // Three of them are in one file, whose last version counts.
    assert_eq!(verdicts(&all, &settings).len(), 6);
    let empty = tempfile::tempdir().unwrap();
    let failed = results(empty.path(), &settings);
    assert_eq!(
        failed.iter().filter(|result| result.has_failed()).count(),
        9
    );
}

#[test]
fn tree_that_cannot_be_read_does_not_pass() {
    let results = results(Path::new("/nowhere/at/all"), &Settings::default());
    let secrets = results.iter().find(|result| result.id == "secrets");
    assert!(secrets.unwrap().has_failed());
}

#[test]
fn documentation_has_a_paragraph_for_each_gate_with_its_purpose() {
    let text = include_str!("../../../docs/gates.md");
    for gate in all(&Settings::default()) {
        let line = format!("| `{}` | {} |", gate.id, gate.purpose);
        assert!(text.contains(&line), "{line}");
    }
    for row in &CONTENT {
        assert!(text.contains(&format!("\n## `{}`\n", row.id)), "{}", row.id);
    }
}
