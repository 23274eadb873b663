//! Commands that talk to hosts, wired to a folder of this machine (`transport = "local"`) with the
//! real host helper. What PHP and the web server do with a release is tested end to end elsewhere.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::common::{File, TestEnv};

/// Neither Composer nor artisan: hosts then run no PHP.
const FIRST: &[File<'static>] = &[
    ("public/index.php", "<?php // one\n", false),
    ("app/x.php", "<?php\n", false),
];
const SECOND: &[File<'static>] = &[
    ("public/index.php", "<?php // two\n", false),
    ("app/x.php", "<?php\n", false),
];
const OFF: &str = "[gates]\noff = [\"artisan\", \"composer-json\", \"vite-manifest\", \"autoload\", \"bootstrap\", \"config\", \"routes\"]\n";

struct Site {
    env: TestEnv,
    first: String,
    second: String,
}

impl Site {
    /// Two stored releases and an environment `here` with these further settings.
    fn new(settings: &str) -> Self {
        let helper = Path::new(env!("CARGO_BIN_EXE_relstore")).with_file_name("relstore-host");
        assert!(
            helper.is_file(),
            "{} is missing: cargo build -p relstore-deployer",
            helper.display()
        );
        let env = TestEnv::new();
        let group = env.command("id").arg("-gn").output().unwrap().stdout;
        let group = String::from_utf8(group).unwrap();
        let base = env.root().join("base");
        env.write(
            "relstore.toml",
            &format!(
                "app = \"notes\"\n{OFF}[env.here]\ntransport = \"local\"\nbase = \"{}\"\nweb_group = \"{}\"\n{settings}",
                base.display(),
                group.trim()
            ),
        );
        let first = env.stored(FIRST, &"a".repeat(40)).to_string();
        let second = env.stored(SECOND, &"b".repeat(40)).to_string();
        Self { env, first, second }
    }

    /// As [`Site::new`], and the host has its `.env`.
    fn ready(settings: &str) -> Self {
        let site = Self::new(settings);
        fs::create_dir_all(site.base().join("shared")).unwrap();
        fs::write(site.base().join("shared/.env"), "APP_KEY=s3ntinel\n").unwrap();
        site
    }

    fn base(&self) -> PathBuf {
        self.env.root().join("base")
    }

    /// The release that `current` points to.
    fn current(&self) -> String {
        let target = fs::read_link(self.base().join("current")).unwrap();
        target.file_name().unwrap().to_str().unwrap().to_owned()
    }

    fn json(&self, arguments: &[&str]) -> Value {
        self.env
            .run(arguments.iter().copied().chain(["--env", "here", "--json"]))
            .ok()
            .json()
    }
}

#[test]
fn release_goes_live_is_replaced_named_verified_and_rolled_back() {
    let site = Site::ready("");
    let env = &site.env;
    let deployed = site.json(&["deploy", &site.first]);
    assert_eq!(
        (&deployed["outcome"], &deployed["hosts"][0]["before"]),
        (&"live".into(), &Value::Null)
    );
    assert_eq!(site.current(), site.first);

    let ran = env
        .run(["deploy", &site.second[..12], "--env", "here"])
        .ok();
    assert!(
        ran.stdout.starts_with("live in ") && ran.stdout.contains(&site.second[..12]),
        "{}",
        ran.all()
    );
    assert!(
        ran.stdout
            .contains(&format!("(back to {})", &site.first[..12])),
        "{}",
        ran.all()
    );
    assert!(ran.stderr.contains("  ok  switch"), "{}", ran.all());

    assert_eq!(
        env.run(["show", "env:here", "--json"]).ok().json()["release"],
        site.second
    );
    assert_eq!(
        env.run(["show", "env:here@previous", "--json"]).ok().json()["release"],
        site.first
    );
    assert_eq!(
        site.json(&["status"])["environments"][0]["release"],
        site.second
    );
    assert_eq!(site.json(&["verify"])["ok"], true);

    let ran = env.run(["rollback", "--env", "here"]).ok();
    assert!(ran.stdout.contains(&site.first[..12]), "{}", ran.all());
    assert_eq!(site.current(), site.first);
    let again = env.run(["deploy", &site.first, "--env", "here"]).ok();
    assert!(again.stdout.contains("nothing to do"), "{}", again.all());

    let history = site.json(&["history"]);
    let outcomes: Vec<_> = history["hosts"][0]["entries"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|entry| entry["outcome"] != "intent")
        .map(|entry| {
            (
                entry["action"].as_str().unwrap(),
                entry["outcome"].as_str().unwrap(),
            )
        })
        .collect();
    assert!(
        outcomes.ends_with(&[
            ("deploy", "live"),
            ("rollback", "live"),
            ("deploy", "unchanged")
        ]),
        "{history}"
    );
    let text = env.run(["history", "--env", "here"]).ok().stdout;
    assert!(
        text.contains("rollback") && text.contains("tester@here"),
        "{text}"
    );
}

#[test]
fn dry_run_shows_the_plan_and_changes_nothing() {
    let site = Site::ready("");
    let before = site.env.contents(&site.base().join("shared"));
    let ran = site
        .env
        .run(["deploy", &site.first, "--env", "here", "--dry-run"])
        .ok();
    assert!(
        ran.stdout.contains("this is the first release") && ran.stdout.contains("to send"),
        "{}",
        ran.all()
    );
    assert_eq!(site.env.contents(&site.base().join("shared")), before);
    assert!(!site.base().join("current").exists() && !site.base().join("releases").exists());
    site.json(&["deploy", &site.first]);
    let preview = site.json(&["deploy", &site.second, "--dry-run"]);
    assert_eq!(preview["hosts"][0]["changes"]["changed"], 1);
    assert!(
        preview["hosts"][0]["send_bytes"].as_u64().unwrap() < 2000,
        "{preview}"
    );
    assert_eq!(site.current(), site.first);
}

#[test]
fn host_without_its_dotenv_is_told_where_to_put_it() {
    let site = Site::new("");
    let ran = site
        .env
        .run(["deploy", &site.first, "--env", "here"])
        .fails(5);
    assert!(
        ran.stderr.contains("shared/.env") && ran.stderr.contains("hint: "),
        "{}",
        ran.all()
    );
    assert!(!site.base().join("current").exists());
}

#[test]
fn drift_has_its_own_code_and_names_each_file() {
    let site = Site::ready("");
    site.json(&["deploy", &site.first]);
    let release = site.base().join("current");
    fs::remove_file(release.join("app/x.php")).unwrap();
    fs::write(release.join("app/evil.php"), "<?php").unwrap();
    let ran = site.env.run(["verify", "--env", "here"]).fails(8);
    assert!(
        ran.stdout.contains("missing") && ran.stdout.contains("app/x.php"),
        "{}",
        ran.all()
    );
    assert!(
        ran.stdout.contains("additional") && ran.stdout.contains("app/evil.php"),
        "{}",
        ran.all()
    );
    let document = site
        .env
        .run(["verify", "--env", "here", "--json"])
        .fails(8)
        .json();
    assert_eq!(document["hosts"][0]["drift"].as_array().unwrap().len(), 2);
}

#[test]
fn unhealthy_release_is_taken_back_and_an_unhealthy_first_one_stays_reported() {
    // A port that nobody listens on: it was ours a moment ago.
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let settings = format!(
        "url = \"http://127.0.0.1:{port}\"\nhealth = [{{ path = \"/up\" }}]\nhealth_attempts = 2\nhealth_interval = \"10ms\"\n"
    );
    let site = Site::ready(&settings);
    let ran = site
        .env
        .run(["deploy", &site.first, "--env", "here"])
        .fails(1);
    assert!(
        ran.stderr.contains("active on here and not healthy"),
        "{}",
        ran.all()
    );
    assert_eq!(site.current(), site.first);
    let ran = site
        .env
        .run(["deploy", &site.second, "--env", "here"])
        .fails(6);
    assert!(
        ran.stderr
            .contains(&format!("GET http://127.0.0.1:{port}/up got no answer")),
        "{}",
        ran.all()
    );
    assert!(
        ran.stderr
            .contains(&format!("local serves {}", &site.first[..12])),
        "{}",
        ran.all()
    );
    assert_eq!(site.current(), site.first);
    let error = site
        .env
        .run(["deploy", &site.second, "--env", "here", "--json"])
        .json();
    assert!(
        error["error"]["state"]
            .as_array()
            .unwrap()
            .iter()
            .any(|line| line.as_str().unwrap().contains("local serves"))
    );
}

#[test]
fn current_that_relstore_did_not_make_is_never_touched() {
    let site = Site::ready("");
    fs::create_dir(site.base().join("current")).unwrap();
    fs::write(site.base().join("current/index.php"), "precious").unwrap();
    site.env
        .run(["deploy", &site.first, "--env", "here"])
        .fails(5);
    assert_eq!(
        fs::read_to_string(site.base().join("current/index.php")).unwrap(),
        "precious"
    );
    let ran = site.env.run(["show", "env:here"]).fails(3);
    assert!(
        ran.stderr.contains("does not name one release"),
        "{}",
        ran.all()
    );
}

#[test]
fn secret_that_is_not_there_is_asked_for_by_name_before_anything_happens() {
    let mut site = Site::ready(
        "url = \"http://127.0.0.1:1\"\nhealth = [{ path = \"/up\", bearer = { env = \"TOKEN\" } }]\nhealth_attempts = 1\n",
    );
    let ran = site
        .env
        .run(["deploy", &site.first, "--env", "here"])
        .fails(3);
    assert!(ran.stderr.contains("TOKEN is not set"), "{}", ran.all());
    assert!(!site.base().join("releases").exists());
    site.env.run(["status", "--env", "here"]).ok();
    site.env.set("TOKEN", "s3ntinel-token");
    let ran = site
        .env
        .run(["deploy", &site.first, "--env", "here", "--verbose"])
        .fails(1);
    assert!(!ran.all().contains("s3ntinel"), "{}", ran.all());
}

#[test]
fn rollback_works_from_a_machine_whose_store_is_empty() {
    let site = Site::ready("");
    site.json(&["deploy", &site.first]);
    site.json(&["deploy", &site.second]);
    let elsewhere = site.env.root().join("other store");
    site.env
        .run([
            "rollback",
            "--env",
            "here",
            "--store",
            elsewhere.to_str().unwrap(),
        ])
        .ok();
    assert_eq!(site.current(), site.first);
    site.env
        .run([
            "rollback",
            "--env",
            "here",
            "--to",
            &site.second,
            "--store",
            elsewhere.to_str().unwrap(),
        ])
        .ok();
    assert_eq!(site.current(), site.second);
}

#[test]
fn ledger_names_the_user_of_the_process_when_no_variable_does() {
    let mut site = Site::ready("");
    site.env.set("USER", "");
    site.json(&["deploy", &site.first]);
    let id = site.env.command("id").arg("-un").output().unwrap().stdout;
    let name = String::from_utf8(id).unwrap();
    let history = site.json(&["history"]);
    assert_eq!(
        history["hosts"][0]["entries"][0]["actor"],
        format!("{}@here", name.trim())
    );
}

#[test]
fn output_of_a_command_that_failed_is_told_once_and_on_lines_of_its_own() {
    let mut site = Site::ready("reload = [\"reload-it\"]\n");
    site.env
        .program("reload-it", "echo; echo the reason; echo the rest; exit 3");
    let ran = site.env.run(["deploy", &site.first, "--env", "here"]);
    assert_ne!(ran.code, 0);
    assert!(
        ran.stderr.contains("the reason\n    the rest"),
        "{}",
        ran.all()
    );
    assert!(!ran.all().contains("\\n"), "{}", ran.all());
    assert_eq!(ran.stderr.matches("the reason").count(), 1, "{}", ran.all());
    let history = site.env.run(["history", "--env", "here"]).ok().stdout;
    assert_eq!(history.lines().count(), 2, "{history}");
    assert!(!history.contains("the reason"), "{history}");
}

#[test]
fn history_of_a_host_that_cannot_be_asked_says_what_to_do() {
    let site = Site::new("");
    fs::write(site.base(), "a file").unwrap();
    let ran = site.env.run(["history", "--env", "here"]).fails(7);
    assert!(
        !ran.stdout.contains("WHEN") && ran.stdout.contains("hint: "),
        "{}",
        ran.all()
    );
}

#[test]
fn status_of_all_says_how_to_ask_one_when_another_cannot_be_used_here() {
    let site = Site::new("[env.there]\nhosts = [\"${NOWHERE}\"]\nbase = \"/srv/x\"\n");
    let ran = site.env.run(["status"]).fails(3);
    assert!(
        ran.stderr.contains("NOWHERE is not set") && ran.stderr.contains("status --env NAME"),
        "{}",
        ran.all()
    );
    site.env.run(["status", "--env", "here"]).ok();
}
