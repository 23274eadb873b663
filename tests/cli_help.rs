//! Help, usage errors, configuration errors: what a person meets first.

use crate::common::TestEnv;

const COMMANDS: &[&str] = &[
    "init", "build", "import", "export", "check", "list", "show", "manifest", "diff", "push",
    "pull", "deploy", "rollback", "status", "verify", "history", "pin", "gc", "fsck", "serve",
    "store",
];

#[test]
fn every_command_has_help_with_an_example_that_names_it() {
    let env = TestEnv::new();
    let overview = env.run(["--help"]).ok().stdout;
    for command in COMMANDS {
        let help = env.run([command, "--help"]).ok().stdout;
        let (_, example) = help
            .split_once("Example:")
            .unwrap_or_else(|| panic!("{command}: {help}"));
        assert!(
            example.contains(&format!("relstore {command}")),
            "{command}: {help}"
        );
        assert!(
            overview.contains(&format!("\n  {command} ")),
            "{command}: {overview}"
        );
    }
}

#[test]
fn usage_errors_have_their_own_code_and_leave_stdout_empty() {
    let env = TestEnv::new();
    for arguments in [
        &["nonsense"][..],
        &["build", "--nonsense"],
        &["build", "--checks", "quick"],
        &["build", "--checks", "fast", "--no-checks"],
        &["show"],
        &["diff", "a"],
        &[],
    ] {
        let ran = env.run(arguments).fails(2);
        assert_eq!(ran.stdout, "", "{arguments:?}");
    }
    let error = env.run(["--json", "show"]).fails(2).json();
    assert_eq!(error["error"]["kind"], "usage");
    assert_eq!(error["version"], 1);
}

#[test]
fn usage_error_in_json_has_its_tip_as_a_hint() {
    let env = TestEnv::new();
    let error = env.run(["statsu", "--json"]).fails(2).json();
    assert_eq!(
        error["error"]["message"],
        "unrecognized subcommand 'statsu'"
    );
    assert_eq!(
        error["error"]["hints"],
        serde_json::json!([
            "a similar subcommand exists: 'status'",
            "Usage: relstore [OPTIONS] <COMMAND>"
        ])
    );
    let error = env.run(["--json"]).fails(2).json();
    let message = error["error"]["message"].as_str().unwrap();
    assert!(message.contains("requires a subcommand"), "{message}");
}

#[test]
fn all_mistakes_of_the_configuration_are_shown_at_once() {
    let env = TestEnv::new();
    env.write(
        "relstore.toml",
        "app = \"notes\"\n[build]\nstps = []\n[env.prod]\nhosts = [\"-oX\"]\n",
    );
    let ran = env.run(["list"]).fails(3);
    assert_eq!(
        ran.stderr,
        "error: $ROOT/project/relstore.toml has 3 problems\n  \
         relstore.toml:3:1: build.stps: unknown key, did you mean `steps`?\n  \
         relstore.toml:4:6: env.prod.base: is missing, it is the folder on the host\n  \
         relstore.toml:5:10: env.prod.hosts[0]: \"-oX\" has a host name that begins with `-`\n"
    );
    assert_eq!(ran.stdout, "");
    let json = env.run(["list", "--json"]).fails(3).json();
    assert_eq!(json["error"]["exit_code"], 3);
    assert_eq!(json["error"]["details"].as_array().unwrap().len(), 3);
}

#[test]
fn missing_configuration_says_how_to_get_one() {
    let env = TestEnv::new();
    let ran = env.run(["build"]).fails(3);
    assert!(
        ran.stderr.contains("no relstore.toml") && ran.stderr.contains("relstore init"),
        "{}",
        ran.stderr
    );
}

#[test]
fn configuration_is_found_in_a_folder_above_and_by_variable_and_option() {
    let mut env = TestEnv::new();
    env.write("relstore.toml", "app = 1\n");
    env.write("deep/er/x", "");
    let below = env
        .run_in(&env.project().join("deep/er"), ["list"])
        .fails(3);
    assert!(
        below.stderr.contains("app: must be a string"),
        "{}",
        below.stderr
    );
    env.write("other.toml", "apq = 1\n");
    env.set("RELSTORE_CONFIG", "other.toml");
    assert!(
        env.run(["list"])
            .fails(3)
            .stderr
            .contains("other.toml has 2 problems")
    );
    assert!(
        env.run(["list", "--config", "relstore.toml"])
            .fails(3)
            .stderr
            .contains("relstore.toml has 1 problem\n")
    );
}

#[test]
fn environment_that_is_not_there_names_the_nearest() {
    let env = TestEnv::new();
    env.write(
        "relstore.toml",
        "app = \"notes\"\n[env.prod]\nhosts = [\"h\"]\nbase = \"/srv/x\"\n",
    );
    let release = env.stored(&[("a", "1", false)], &"a".repeat(40));
    let ran = env
        .run(["deploy", &release.short(), "--env", "prdo"])
        .fails(3);
    assert!(
        ran.stderr.contains("no environment `prdo`") && ran.stderr.contains("did you mean `prod`?"),
        "{}",
        ran.stderr
    );
    let ran = env.run(["deploy", &release.short()]).fails(2);
    assert!(
        ran.stderr.contains("--env") && ran.stderr.contains("prod"),
        "{}",
        ran.stderr
    );
}

#[test]
fn overview_fits_on_a_screen() {
    let env = TestEnv::new();
    insta::assert_snapshot!(env.run(["--help"]).ok().stdout);
}
