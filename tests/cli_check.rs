//! `relstore check`, and what `[gates]` makes of a build.

use crate::common::TestEnv;

const FILES: [(&str, &str); 9] = [
    ("artisan", "#!/usr/bin/env php\n<?php\n"),
    ("composer.json", "{}"),
    ("public/index.php", "<?php\n"),
    ("public/build/manifest.json", "{}"),
    ("vendor/autoload.php", "<?php\n"),
    ("bootstrap/app.php", "<?php\n"),
    (
        "config/app.php",
        "<?php return ['key' => env('APP_KEY')];\n",
    ),
    ("routes/web.php", "<?php\n"),
    ("app/User.php", "<?php\n"),
];

/// A committed application that passes all gates, with this `[gates]` section.
fn application(gates: &str) -> TestEnv {
    let env = TestEnv::new();
    for (path, content) in FILES {
        env.write(path, content);
    }
    configure(&env, gates);
    env
}

fn configure(env: &TestEnv, gates: &str) {
    env.write(
        "relstore.toml",
        &format!("app = \"notes\"\n[build]\nsteps = []\n[gates]\n{gates}\n"),
    );
    env.commit("Settings");
}

/// A GitHub token that nobody has.
fn token() -> String {
    format!("ghp_{}", "Zq7".repeat(12))
}

#[test]
fn list_shows_every_gate_with_what_the_configuration_makes_of_it() {
    let env = application(
        "off = [\"vite-manifest\"]\nwarn = [\"php-syntax\"]\nrefuse = [\"env-outside-config\"]\n\
         [gates.command]\nstyle = \"php style.php --strict\"",
    );
    let text = env.run(["check", "--list"]).ok().stdout;
    for line in [
        "on       artisan                 migrations, caches and queue workers are run by it",
        "off      vite-manifest ",
        "warns    php-syntax ",
        "warns    destructive-migrations ",
        "on       env-outside-config ",
        "command  style                   `php style.php --strict` ends with 0",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    let gates = env.run(["check", "--list", "--json"]).ok().json()["gates"].clone();
    assert_eq!(gates.as_array().unwrap().len(), 18);
    assert_eq!(gates[9]["id"], "secrets");
    assert_eq!(
        gates[17]["command"],
        serde_json::json!(["php", "style.php", "--strict"])
    );
    env.run(["check", "--list", "latest"]).fails(2);
}

#[test]
fn secret_stops_a_build_and_is_never_shown() {
    let env = application("");
    env.write("app/Client.php", &format!("<?php\n$t = '{}';\n", token()));
    env.commit("with a token");
    for arguments in [
        &["build"][..],
        &["build", "--json"],
        &["check"],
        &["check", "--json"],
    ] {
        let ran = env.run(arguments).fails(4);
        let all = ran.all();
        assert!(
            all.contains("`app/Client.php:2` holds a GitHub token"),
            "{all}"
        );
        assert!(!all.contains("Zq7"), "{all}");
    }
    assert!(!env.store().exists());
}

#[test]
fn allowed_finding_passes_with_its_reason() {
    let env = application(
        "allow = [{ gate = \"secrets\", path = \"app/*.php\", reason = \"revoked, kept for a test\" }]",
    );
    env.write("app/Client.php", &format!("<?php\n$t = '{}';\n", token()));
    env.commit("with a token");
    let built = env.run(["build", "--json"]).ok().json();
    assert_eq!(built["gates"][9]["verdict"], "passed");
    assert_eq!(
        built["gates"][9]["allowed"],
        serde_json::json!([{
            "path": "app/*.php",
            "reason": "revoked, kept for a test",
            "findings": ["`app/Client.php:2` holds a GitHub token"],
        }])
    );
    let ran = env.run(["check", "latest"]).ok();
    assert!(
        ran.stdout
            .contains("allowed: `app/Client.php:2` holds a GitHub token; revoked, kept for a test"),
        "{}",
        ran.all()
    );
    configure(
        &env,
        "allow = [{ gate = \"secrets\", path = \"app/*.php\" }]",
    );
    let ran = env.run(["check"]).fails(3);
    assert!(
        ran.stderr.contains("gates.allow[0].reason: is missing"),
        "{}",
        ran.all()
    );
}

#[test]
fn warning_is_told_and_becomes_a_refusal_by_configuration() {
    let env = application("");
    env.write("app/Client.php", "<?php\n$u = env('URL');\n");
    env.commit("with env()");
    let ran = env.run(["build"]).ok();
    assert!(
        ran.stderr.contains(
            "warning: gate `env-outside-config`: `app/Client.php:2` calls env(); usual cause: "
        ) && ran.stderr.contains("16/17, warned: env-outside-config"),
        "{}",
        ran.stderr
    );
    configure(&env, "refuse = [\"env-outside-config\"]");
    let ran = env.run(["build"]).fails(4);
    assert!(ran.stderr.contains("1 of 17 gates failed"), "{}", ran.all());
    let ran = env.run(["check"]).fails(4);
    assert!(
        ran.stdout.contains("no  env-outside-config"),
        "{}",
        ran.all()
    );
}

#[test]
fn command_gate_decides_by_its_exit_code_and_shows_its_output() {
    let env = application("[gates.command]\nstyle = \"sh scripts/style.sh\"");
    env.write("scripts/style.sh", "grep -rn TODO app && exit 1\nexit 0\n");
    env.commit("with a style check");
    env.run(["build"]).ok();
    env.write("app/User.php", "<?php // TODO\n");
    env.commit("unfinished");
    let ran = env.run(["build"]).fails(4);
    assert!(
        ran.stderr
            .contains("gate `style`: `sh scripts/style.sh` ended with exit status: 1")
            && ran
                .stderr
                .contains("gate `style`: app/User.php:1:<?php // TODO"),
        "{}",
        ran.stderr
    );
    configure(
        &env,
        "off = [\"style\"]\n[gates.command]\nstyle = \"sh scripts/style.sh\"",
    );
    env.run(["build"]).ok();
    let shown = env.run(["show", "latest", "--json"]).ok().json();
    assert_eq!(shown["gates"]["off"], serde_json::json!(["style"]));
}

#[test]
fn command_gate_that_writes_into_the_tree_stores_nothing() {
    let env = application("[gates.command]\nfix = \"touch app/made.php\"");
    let ran = env.run(["build"]).fails(4);
    assert!(
        ran.stderr.contains("`app/made.php` was made"),
        "{}",
        ran.stderr
    );
    assert!(!env.store().exists());
}

#[test]
fn project_folder_is_seen_as_a_release_of_it_would_be() {
    let env = application("");
    env.write(".gitignore", "/storage/logs\n/secret.txt\n");
    env.commit("ignore");
    for path in [
        ".env",
        "node_modules/a/index.js",
        "storage/logs/laravel.log",
        "secret.txt",
        "tests/fixture.php",
        "bootstrap/cache/config.php",
        ".git/note",
    ] {
        env.write(path, &token());
    }
    env.run(["check"]).ok();
    env.write("storage/app/keep.txt", &token());
    let ran = env.run(["check"]).fails(4);
    assert!(
        ran.stdout.contains("`storage/app/keep.txt:1`"),
        "{}",
        ran.all()
    );
}

#[test]
fn without_php_a_check_says_that_syntax_was_not_asked() {
    let mut env = application("");
    env.set("PATH", "/nowhere");
    let ran = env.run(["check"]).ok();
    assert!(
        ran.stdout
            .contains("!   php-syntax              could not be asked: `php` is not in PATH"),
        "{}",
        ran.all()
    );
}
