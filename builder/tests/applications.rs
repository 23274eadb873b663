//! The example applications: their development trees, judged by their own checks.
//!
//! Needs PHP with its extensions, Composer, Debian's PHP libraries, Node and npm, MariaDB, phpdbg
//! (`scripts/setup.sh test`).
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use relstore_builder::check::{Check, CheckOutcome, CheckResult, CheckRunner, Group, plan};
use relstore_builder::secret::Secrets;
use relstore_builder::service::Service;

/// An application with all its packages, in a temporary folder.
struct Application {
    root: tempfile::TempDir,
    tree: PathBuf,
}

impl Application {
    /// Makes the repository of an application; `folder` is where it is in there.
    fn new(name: &str, folder: &str) -> Self {
        let root = tempfile::tempdir().unwrap();
        let repository = root.path().join("app");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/app.sh");
        let mut make = Command::new("bash");
        make.arg(script).args(["--app", name]).arg(&repository);
        succeed(&mut make);
        let tree = repository.join(folder);
        let application = Self { root, tree };
        application.run("composer", &["install", "--no-interaction", "--quiet"]);
        application
    }

    /// Builds scripts and styles.
    fn with_assets(self) -> Self {
        let npm = [
            "ci",
            "--ignore-scripts",
            "--no-audit",
            "--no-fund",
            "--prefer-offline",
        ];
        let mut install = Command::new("npm");
        succeed(install.args(npm).current_dir(&self.tree));
        self.run("node", &["node_modules/vite/bin/vite.js", "build"]);
        self
    }

    fn command(&self, program: &str, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        command
            .args(args)
            .current_dir(&self.tree)
            .env_clear()
            .env("PATH", common::search_path())
            .env("HOME", self.root.path())
            .env("COMPOSER_ALLOW_SUPERUSER", "1")
            .env("COMPOSER_DISABLE_NETWORK", "1")
            .env("COMPOSER_MIRROR_PATH_REPOS", "1");
        command
    }

    fn run(&self, program: &str, args: &[&str]) -> String {
        succeed(&mut self.command(program, args))
    }

    async fn check(&self, checks: Vec<Check>) -> Vec<CheckResult> {
        let services = self.root.path().join("services");
        let _ = std::fs::remove_dir_all(&services);
        std::fs::create_dir(&services).unwrap();
        CheckRunner {
            tree: &self.tree,
            services: &services,
            search_path: &common::search_path(),
            env: &BTreeMap::from([(OsString::from("HOME"), self.root.path().into())]),
            secrets: &Secrets::default(),
            sandbox: None,
            events: &|_| {},
        }
        .run(&plan(checks, Some(Group::Slow)))
        .await
    }
}

fn succeed(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{command:?}: {stdout}{stderr}");
    stdout
}

fn check(name: &str, group: Group, command: &str) -> Check {
    Check {
        name: name.to_owned(),
        command: command.split(' ').map(str::to_owned).collect(),
        group,
        services: Vec::new(),
        junit: None,
        coverage: None,
        env: BTreeMap::new(),
        network: false,
        required: true,
        time_limit: Duration::from_secs(200),
    }
}

/// `[checks]` of the application, with the program that measures coverage.
fn checks_of_notes() -> Vec<Check> {
    let phpunit =
        "phpdbg -qrr vendor/bin/phpunit --log-junit junit.xml --coverage-clover clover.xml";
    vec![
        check("style", Group::Fast, "vendor/bin/phpcs"),
        Check {
            services: vec![Service::MariaDb],
            junit: Some("junit.xml".to_owned()),
            coverage: Some("clover.xml".to_owned()),
            ..check("tests", Group::Slow, phpunit)
        },
    ]
}

#[tokio::test]
async fn notes_passes_its_own_suite_on_mariadb_and_a_mistake_is_found() {
    let notes = Application::new("notes", "").with_assets();
    let results = notes.check(checks_of_notes()).await;
    assert!(
        results
            .iter()
            .all(|result| result.outcome == CheckOutcome::Passed),
        "{results:#?}"
    );
    let tests = &results[1];
    let sums = tests.junit.unwrap();
    assert_eq!(
        (sums.tests, sums.failures, sums.errors),
        (8, 0, 0),
        "{tests:#?}"
    );
    assert!(tests.coverage_percent.unwrap() > 80.0, "{tests:#?}");

    // A column that no longer holds what is stored in it: only a real database notices.
    let migration = "database/migrations/2024_01_01_000000_create_notes_table.php";
    let file = notes.tree.join(migration);
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("'body', 200", "'body', 5")).unwrap();
    let results = notes.check(checks_of_notes()).await;
    assert_eq!(results[0].outcome, CheckOutcome::Passed);
    let tests = &results[1];
    assert_eq!(
        (&tests.outcome, tests.exit_code),
        (&CheckOutcome::Failed, Some(2)),
        "{tests:#?}"
    );
    let sums = tests.junit.unwrap();
    assert!(
        sums.tests == 8 && sums.failures + sums.errors > 0,
        "{tests:#?}"
    );
    assert!(
        tests
            .last_output
            .join("\n")
            .contains("Data too long for column")
    );

    std::fs::write(notes.tree.join("app/Bad.php"), "<?php\nclass bad{ }\n").unwrap();
    let results = notes.check(checks_of_notes()).await;
    assert_eq!(results[0].exit_code, Some(2));
    assert!(matches!(results[1].outcome, CheckOutcome::Skipped { .. }));
}

/// PHP's own web server, on a free port.
struct Server {
    child: Child,
    port: u16,
}

impl Server {
    fn start(application: &Application) -> Self {
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let address = format!("127.0.0.1:{port}");
        let mut command =
            application.command("php", &["-S", &address, "-t", "public", "public/index.php"]);
        let child = command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let server = Self { child, port };
        for _ in 0..500 {
            if TcpStream::connect(&address).is_ok() {
                return server;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("no answer on {address}");
    }

    fn get(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn slim_boots_serves_and_passes_its_own_suite() {
    let slim = Application::new("slim", "").with_assets();
    assert!(!slim.tree.join("app/Http/Kernel.php").exists());
    // Nothing here needs the database, which is not there yet.
    assert!(
        slim.run("php", &["artisan", "--version"])
            .contains("Laravel Framework 8.")
    );
    assert!(
        slim.run("php", &["artisan", "route:list", "--json"])
            .contains("\"uri\":\"up\"")
    );

    std::fs::copy(slim.tree.join(".env.example"), slim.tree.join(".env")).unwrap();
    std::fs::write(slim.tree.join("database/database.sqlite"), "").unwrap();
    slim.run("php", &["artisan", "key:generate"]);
    slim.run("php", &["artisan", "migrate", "--force"]);
    for cache in ["config:cache", "route:cache", "view:cache", "event:cache"] {
        slim.run("php", &["artisan", cache]);
    }
    let server = Server::start(&slim);
    let up = server.get("/up");
    assert!(
        up.starts_with("HTTP/1.0 200") && up.contains("X-Release: app"),
        "{up}"
    );
    let home = server.get("/");
    assert!(
        home.contains("Your visits") && home.contains("/build/assets/app-"),
        "{home}"
    );
    drop(server);
    slim.run("php", &["artisan", "optimize:clear"]);

    let suite = Check {
        junit: Some("junit.xml".to_owned()),
        ..check(
            "tests",
            Group::Fast,
            "vendor/bin/phpunit --log-junit junit.xml",
        )
    };
    let results = slim.check(vec![suite]).await;
    assert_eq!(results[0].outcome, CheckOutcome::Passed, "{results:#?}");
    assert_eq!(results[0].junit.unwrap().tests, 3);
}

#[test]
fn monorepo_takes_a_package_from_beside_the_application() {
    let api = Application::new("monorepo", "apps/api");
    let package = api.tree.join("vendor/example/greeting");
    assert!(package.is_dir() && !package.is_symlink());
    assert_eq!(
        api.run("php", &["artisan", "greet", "Ann"]),
        "Good morning, Ann.\n"
    );
}
