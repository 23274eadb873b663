//! `relstore init`.

use crate::common::TestEnv;

const COMPOSER: &str = r#"{"name":"acme/notes","require":{"laravel/framework":"^8.83"},
    "repositories":[{"type":"artifact","url":"packages"}]}"#;

#[test]
fn vite_project_gets_a_short_commented_file() {
    let env = TestEnv::new();
    env.write("composer.json", COMPOSER);
    env.write("composer.lock", "{}");
    env.write("packages/a.zip", "");
    env.write("vite.config.js", "");
    env.write("package-lock.json", "{}");
    env.write(".env.example", "DB_CONNECTION=mysql\nVITE_APP_NAME=x\n");
    let ran = env.run(["init"]).ok();
    assert_eq!(
        ran.stdout,
        "wrote relstore.toml for `notes`\n  \
         found  Laravel ^8.83 with Composer\n  \
         found  Vite (vite.config.js)\n  \
         found  npm (package-lock.json)\n  \
         found  database mysql\n  \
         found  local Composer packages in packages: left out of releases\n\
         next   git add relstore.toml && git commit, then `relstore build`\n"
    );
    assert_eq!(ran.stderr, "");
    let text = std::fs::read_to_string(env.project().join("relstore.toml")).unwrap();
    assert!(
        text.starts_with("app = \"notes\"\n\n[build]\nsteps = [\"composer\", \"vite\"]\n"),
        "{text}"
    );
    assert!(text.contains("exclude = [\"packages\"]"), "{text}");
    assert!(text.lines().count() <= 30, "short: {text}");
}

#[test]
fn mix_project_gets_its_step_and_no_vite_gate() {
    let env = TestEnv::new();
    env.write("composer.json", COMPOSER);
    env.write("composer.lock", "{}");
    env.write("webpack.mix.js", "");
    env.write("yarn.lock", "");
    env.write(".env.example", "MIX_KEY=x\n");
    let ran = env.run(["init"]).ok();
    assert!(
        ran.stdout.contains("Laravel Mix (webpack.mix.js)"),
        "{}",
        ran.stdout
    );
    let text = std::fs::read_to_string(env.project().join("relstore.toml")).unwrap();
    for line in [
        "steps = [\"composer\", \"yarn\", \"mix\"]\n",
        "off = [\"vite-manifest\"]\n",
        "# env = { MIX_KEY = \"...\" }\n",
    ] {
        assert!(text.contains(line), "{text}");
    }
}

#[test]
fn file_that_is_there_is_never_overwritten() {
    let env = TestEnv::new();
    env.write("composer.json", COMPOSER);
    env.write("relstore.toml", "mine");
    let ran = env.run(["init"]).fails(3);
    assert!(ran.stderr.contains("not overwritten"), "{}", ran.stderr);
    assert_eq!(
        std::fs::read_to_string(env.project().join("relstore.toml")).unwrap(),
        "mine"
    );
}

#[test]
fn folder_without_laravel_is_refused_and_left_alone() {
    let env = TestEnv::new();
    let ran = env.run(["init", "--json"]).fails(3);
    assert!(
        ran.json()["error"]["message"]
            .as_str()
            .unwrap()
            .contains("no composer.json")
    );
    env.write("composer.json", r#"{"require":{"symfony/symfony":"*"}}"#);
    env.run(["init"]).fails(3);
    assert!(!env.project().join("relstore.toml").exists());
}

#[test]
fn project_with_sqlite_and_without_vite_is_told_what_the_host_and_the_build_need() {
    let env = TestEnv::new();
    env.write("composer.json", COMPOSER);
    env.write(".env.example", "DB_CONNECTION=sqlite\n");
    let ran = env.run(["init"]).ok();
    assert!(ran.stderr.contains("no composer.lock"), "{}", ran.all());
    let text = std::fs::read_to_string(env.project().join("relstore.toml")).unwrap();
    assert!(
        text.contains("off = [\"vite-manifest\"]")
            && text.contains("before the first deploy: shared/database/database.sqlite\n"),
        "{text}"
    );
    env.commit("First");
    let ran = env.run(["build"]).fails(4);
    assert!(
        ran.stderr.contains("needs `composer.lock`"),
        "{}",
        ran.all()
    );
}
