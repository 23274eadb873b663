//! Checks with real commands, and a real MariaDB.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use relstore_builder::check::{
    Check, CheckEvent, CheckOutcome, CheckPlan, CheckResult, CheckRunner, Group, JunitSummary,
    Sandbox, plan,
};
use relstore_builder::secret::Secrets;
use relstore_builder::service::Service;
use relstore_builder::{BuildError, Event};

/// A tree to check.
struct Tree {
    root: tempfile::TempDir,
    events: Mutex<Vec<Event>>,
}

impl Tree {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("tree")).unwrap();
        Self {
            root,
            events: Mutex::default(),
        }
    }

    fn tree(&self) -> PathBuf {
        self.root.path().join("tree")
    }

    async fn run(&self, plan: &CheckPlan) -> Vec<CheckResult> {
        self.run_in(plan, &self.services(), None).await
    }

    fn services(&self) -> PathBuf {
        self.root.path().join("services")
    }

    async fn run_in(
        &self,
        plan: &CheckPlan,
        services: &Path,
        sandbox: Option<Sandbox<'_>>,
    ) -> Vec<CheckResult> {
        std::fs::create_dir_all(services).unwrap();
        CheckRunner {
            tree: &self.tree(),
            services,
            search_path: &common::search_path(),
            env: &BTreeMap::from([(OsString::from("HOME"), self.root.path().into())]),
            secrets: &Secrets::new([(
                "HTTPS_PROXY".to_owned(),
                "http://ann:s3cret@proxy".to_owned(),
            )]),
            sandbox,
            events: &|event| self.events.lock().unwrap().push(event),
        }
        .run(plan)
        .await
    }

    /// What happened, in order.
    fn told(&self) -> Vec<String> {
        let events = self.events.lock().unwrap();
        let told = events.iter().map(|event| match event {
            Event::Check(CheckEvent::Started { check }) => format!("{check} begins"),
            Event::Check(CheckEvent::Output { check, line }) => format!("{check}: {line}"),
            Event::Check(CheckEvent::Finished { result, .. }) => format!("{} ends", result.name),
            other => panic!("{other:?}"),
        });
        told.collect()
    }
}

fn sh(name: &str, group: Group, script: &str) -> Check {
    Check {
        name: name.to_owned(),
        command: ["sh", "-c", script].map(str::to_owned).into(),
        group,
        services: Vec::new(),
        junit: None,
        coverage: None,
        env: BTreeMap::new(),
        network: false,
        required: true,
        time_limit: Duration::from_secs(120),
    }
}

fn all(checks: Vec<Check>) -> CheckPlan {
    plan(checks, Some(Group::Slow))
}

#[tokio::test]
async fn groups_wait_for_each_other_and_checks_of_one_do_not() {
    let tree = Tree::new();
    // Each of the two fast ones waits for the other, so they run at the same time.
    let meet = |own: &str, other: &str| {
        format!(
            "touch {own}; i=0; while [ ! -e {other} ]; do i=$((i+1)); [ $i -lt 1000 ] || exit 1; sleep 0.01; done"
        )
    };
    let plan = all(vec![
        sh("last", Group::Slow, "test -e done"),
        sh("one", Group::Fast, &meet("1", "2")),
        sh("two", Group::Fast, &meet("2", "1")),
        sh(
            "middle",
            Group::Medium,
            "test -e 1 && test -e 2 && touch done",
        ),
    ]);
    let results = tree.run(&plan).await;
    let ended: Vec<_> = results
        .iter()
        .map(|result| {
            (
                result.name.as_str(),
                result.group.as_str(),
                result.exit_code,
            )
        })
        .collect();
    assert_eq!(
        ended,
        [
            ("one", "fast", Some(0)),
            ("two", "fast", Some(0)),
            ("middle", "medium", Some(0)),
            ("last", "slow", Some(0)),
        ]
    );
    plan.accept(&results).unwrap();
    let told = tree.told();
    let at = |what: &str| told.iter().position(|line| line == what).unwrap();
    assert!(at("two ends") < at("middle begins") && at("middle ends") < at("last begins"));
}

#[tokio::test]
async fn failures_of_a_group_come_together_and_keep_later_groups_from_running() {
    let tree = Tree::new();
    let mut advisory = sh("audit", Group::Fast, "echo old; exit 9");
    advisory.required = false;
    let plan = all(vec![
        sh("lint", Group::Fast, "echo bad style >&2; exit 3"),
        sh("types", Group::Fast, "echo no type; kill -9 $$"),
        advisory,
        sh("tests", Group::Slow, "touch ran"),
    ]);
    let results = tree.run(&plan).await;
    assert!(!tree.tree().join("ran").exists());
    assert_eq!(
        results[3].outcome,
        CheckOutcome::Skipped {
            why: "a check of the group `fast` failed".to_owned()
        }
    );
    assert_eq!(results[2].exit_code, Some(9));
    assert_eq!(
        results[1].last_output,
        ["no type", "ended with signal: 9 (SIGKILL)"]
    );
    let error = plan.accept(&results).unwrap_err();
    assert_eq!(error.to_string(), "2 of 4 checks failed");
    assert_eq!(
        error.details(),
        [
            "lint: bad style",
            "check `lint` failed with exit status 3: sh -c 'echo bad style >&2; exit 3'",
            "types: no type",
            "types: ended with signal: 9 (SIGKILL)",
            "check `types` failed: sh -c 'echo no type; kill -9 $$'",
        ]
    );
}

#[tokio::test]
async fn failure_that_is_not_required_stops_nothing() {
    let tree = Tree::new();
    let mut advisory = sh("audit", Group::Fast, "exit 1");
    advisory.required = false;
    let plan = all(vec![advisory, sh("tests", Group::Slow, "true")]);
    let results = tree.run(&plan).await;
    assert_eq!(results[0].outcome, CheckOutcome::Failed);
    assert_eq!(results[1].outcome, CheckOutcome::Passed);
    plan.accept(&results).unwrap();
}

#[tokio::test]
async fn time_limit_ends_a_check_and_all_it_started() {
    let tree = Tree::new();
    let mut slow = sh(
        "slow",
        Group::Fast,
        "echo begun; sleep 300 & echo $! > pid; wait",
    );
    slow.time_limit = Duration::from_millis(400);
    let begun = Instant::now();
    let results = tree.run(&all(vec![slow])).await;
    assert!(begun.elapsed() < Duration::from_secs(30));
    assert_eq!(results[0].outcome, CheckOutcome::TimedOut);
    assert_eq!(results[0].exit_code, None);
    assert!(results[0].milliseconds >= 400);
    assert_eq!(
        results[0].last_output,
        ["begun", "stopped after its time limit of 0.4 s"]
    );
    let pid = std::fs::read_to_string(tree.tree().join("pid")).unwrap();
    assert!(ends(pid.trim()).await);
}

#[tokio::test]
async fn only_the_end_of_a_long_output_is_kept() {
    let tree = Tree::new();
    let loud = sh(
        "loud",
        Group::Fast,
        "seq 1 200000; head -c 5000000 /dev/zero | tr '\\0' x",
    );
    let results = tree.run(&all(vec![loud])).await;
    assert_eq!(results[0].outcome, CheckOutcome::Passed);
    let kept = &results[0].last_output;
    assert!(kept.iter().map(String::len).sum::<usize>() <= 32 << 10);
    assert!(kept.last().unwrap().starts_with("xxx"));
}

#[tokio::test]
async fn environment_is_what_is_declared_and_secrets_stay_unseen() {
    let tree = Tree::new();
    let mut plain = sh("plain", Group::Fast, "env | cut -d= -f1; echo $MODE");
    plain.env.insert("MODE".to_owned(), "testing".to_owned());
    plain.env.insert("HOME".to_owned(), "/nowhere".to_owned());
    let mut network = sh("network", Group::Medium, "echo $HTTPS_PROXY; pwd; umask");
    network.network = true;
    let results = tree.run(&all(vec![plain, network])).await;
    let mut names = results[0].last_output.clone();
    names.retain(|name| !matches!(name.as_str(), "PWD" | "_" | "SHLVL" | "OLDPWD"));
    names.sort();
    assert_eq!(names, ["HOME", "MODE", "PATH", "RELSTORE_CHECK", "testing"]);
    let said = &results[1].last_output;
    assert!(
        said[0].starts_with("http://") && !said[0].contains("s3cret"),
        "{said:?}"
    );
    assert_eq!(said[1], tree.tree().to_str().unwrap());
    assert_eq!(said[2], "0022");
    assert!(!format!("{:?}", tree.told()).contains("s3cret"));
}

#[tokio::test]
async fn programs_come_from_the_tree_or_the_search_path() {
    let tree = Tree::new();
    let program = tree.tree().join("vendor/bin/lint");
    std::fs::create_dir_all(program.parent().unwrap()).unwrap();
    std::fs::copy("/bin/true", program).unwrap();
    let call = |name: &str, program: &str| Check {
        command: vec![program.to_owned()],
        ..sh(name, Group::Fast, "")
    };
    let results = tree
        .run(&all(vec![
            call("there", "vendor/bin/lint"),
            call("absent", "vendor/bin/pint"),
            call("unknown", "relstore-no-such-program"),
        ]))
        .await;
    assert_eq!(results[0].outcome, CheckOutcome::Passed);
    for (result, said) in [
        (&results[1], "`vendor/bin/pint` is not in the tree"),
        (&results[2], "`relstore-no-such-program` is not installed"),
    ] {
        assert_eq!(
            (&result.outcome, result.exit_code),
            (&CheckOutcome::Failed, None)
        );
        assert!(result.last_output[0].starts_with(said), "{result:?}");
    }
}

#[tokio::test]
async fn reports_count_only_when_the_check_wrote_them() {
    let tree = Tree::new();
    let suite = "<testsuites><testcase/><testcase><failure/></testcase></testsuites>";
    std::fs::write(tree.tree().join("old.xml"), suite).unwrap();
    let with_junit = |name: &str, file: &str, script: &str| Check {
        junit: Some(file.to_owned()),
        ..sh(name, Group::Fast, script)
    };
    let mut fresh = with_junit(
        "fresh",
        "logs/junit.xml",
        &format!(
            "mkdir logs; echo '{suite}' > logs/junit.xml; echo '<coverage line-rate=\"0.5\"/>' > clover.xml; exit 1"
        ),
    );
    fresh.coverage = Some("clover.xml".to_owned());
    let mut odd = sh("odd", Group::Fast, "echo '<html/>' > odd.xml");
    odd.coverage = Some("odd.xml".to_owned());
    let mut without = sh("without", Group::Fast, "true");
    without.coverage = Some("absent.xml".to_owned());
    let results = tree
        .run(&all(vec![
            fresh,
            with_junit("stale", "old.xml", "true"),
            with_junit("broken", "new.xml", "echo '<testsuites>' > new.xml"),
            odd,
            without,
        ]))
        .await;
    let sums = JunitSummary {
        tests: 2,
        failures: 1,
        errors: 0,
        skipped: 0,
    };
    assert_eq!(results[0].junit, Some(sums));
    assert_eq!(results[0].coverage_percent, Some(50.0));
    for (result, said) in [
        (&results[1], "the JUnit file old.xml was not written"),
        (
            &results[2],
            "the JUnit file new.xml cannot be used: it ends in the middle",
        ),
    ] {
        assert_eq!(
            (&result.outcome, result.exit_code),
            (&CheckOutcome::Failed, Some(0))
        );
        assert_eq!(
            (result.junit, &result.last_output),
            (None, &vec![said.to_owned()])
        );
    }
    assert_eq!(results[3].outcome, CheckOutcome::Passed);
    assert_eq!(
        results[3].last_output,
        ["the coverage file odd.xml cannot be used: its root is not one of: coverage"]
    );
    assert_eq!(
        (results[4].coverage_percent, results[4].last_output.len()),
        (None, 0)
    );
}

/// PHP that connects as Laravel would, makes a table, and says who it is.
const CONNECT: &str = r#"php -r '
    assert(getenv("DB_CONNECTION") === "mysql" && getenv("DB_HOST") === "localhost");
    $db = new PDO("mysql:unix_socket=".getenv("DB_SOCKET").";dbname=".getenv("DB_DATABASE"), getenv("DB_USERNAME"), getenv("DB_PASSWORD"), [PDO::ATTR_ERRMODE => PDO::ERRMODE_EXCEPTION]);
    $db->exec("create table t (id int primary key)");
    $db->exec("create database ".getenv("DB_DATABASE")."test_1");
    foreach (["select @@version", "select database()", "select @@pid_file", "select @@skip_networking", "select @@character_set_server", "show databases"] as $query) {
        echo implode(" ", $db->query($query)->fetchAll(PDO::FETCH_COLUMN)), "\n";
    }
    try { $db->exec("create database other"); echo "too much\n"; } catch (PDOException $e) { echo "denied\n"; }
'"#;

fn with_database(name: &str, script: &str) -> Check {
    Check {
        services: vec![Service::MariaDb],
        ..sh(name, Group::Slow, script)
    }
}

#[tokio::test]
async fn mariadb_gives_each_check_a_database_and_ends_with_them() {
    let tree = Tree::new();
    let results = tree
        .run(&all(vec![
            with_database("unit", CONNECT),
            with_database("feature", CONNECT),
            sh(
                "lint",
                Group::Fast,
                "test -z \"$DB_SOCKET\" && ! ls ../services/mariadb",
            ),
        ]))
        .await;
    assert_eq!(results[0].outcome, CheckOutcome::Passed, "{results:#?}");
    let said = |index: usize| results[index].last_output.clone();
    assert!(said(1)[0].contains("MariaDB"), "{results:#?}");
    assert_eq!(said(1)[1], "check_1_");
    assert_eq!(said(2)[1], "check_2_");
    assert_eq!(said(1)[3..5], ["1", "utf8mb4"]);
    assert_eq!(said(1)[5], "check_1_ check_1_test_1 information_schema");
    assert_eq!(said(1)[6], "denied");
    assert_eq!(said(1)[2], said(2)[2], "one server");
    let pid = std::fs::read_to_string(&said(1)[2]).unwrap();
    assert!(
        ended(pid.trim()),
        "the server is gone before the results are there"
    );
}

#[tokio::test]
async fn mariadb_ends_when_nobody_waits_for_the_checks_any_more() {
    let tree = Tree::new();
    let plan = all(vec![with_database("tests", "touch ready; sleep 300")]);
    let running = tree.run(&plan);
    let ready = async {
        while !tree.tree().join("ready").exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! { _ = running => panic!("must not end"), () = ready => {} }
    let pid = tree.root.path().join("services/mariadb/pid");
    assert!(ends(std::fs::read_to_string(pid).unwrap().trim()).await);
}

#[tokio::test]
async fn mariadb_works_where_paths_are_too_long_for_sockets() {
    let tree = Tree::new();
    let deep = tree.root.path().join("d".repeat(100));
    let plan = all(vec![with_database(
        "tests",
        "echo $DB_SOCKET; test -S $DB_SOCKET",
    )]);
    let results = tree.run_in(&plan, &deep, None).await;
    assert_eq!(results[0].outcome, CheckOutcome::Passed, "{results:#?}");
    let socket = Path::new(&results[0].last_output[0]);
    assert!(socket.starts_with("/tmp") && !socket.parent().unwrap().exists());
}

#[tokio::test]
async fn sandboxed_check_sees_its_tree_and_the_socket_and_no_network() {
    let tree = Tree::new();
    let services = tree.services();
    let words = |check: &Check| {
        let bind = [
            tree.tree(),
            "/build".into(),
            services.clone(),
            services.clone(),
        ];
        let [tree, place, outside, inside] = bind.map(|path: PathBuf| path.into_os_string());
        let mut words: Vec<OsString> = ["bwrap", "--unshare-all", "--ro-bind", "/usr", "/usr"]
            .map(OsString::from)
            .into();
        words[0] = "/usr/bin/bwrap".into();
        for name in ["/bin", "/lib", "/lib64"] {
            words.extend(["--symlink".into(), format!("usr{name}").into(), name.into()]);
        }
        for name in ["/etc/php", "/etc/alternatives"] {
            words.extend(["--ro-bind", name, name].map(OsString::from));
        }
        words.extend(["--bind".into(), tree, place]);
        words.extend(["--bind".into(), outside, inside]);
        words.extend(["--dev", "/dev", "--proc", "/proc", "--chdir", "/build"].map(OsString::from));
        words.extend(check.network.then(|| "--share-net".into()));
        words.push("--".into());
        words
    };
    let sandbox = Sandbox {
        words: &words,
        place: Path::new("/build"),
    };
    let program = tree.tree().join("vendor/bin/where");
    std::fs::create_dir_all(program.parent().unwrap()).unwrap();
    std::fs::write(&program, "#!/bin/sh\npwd; ls; cat /proc/net/dev | wc -l\n").unwrap();
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
    let place = Check {
        command: vec!["vendor/bin/where".to_owned()],
        ..sh("where", Group::Fast, "")
    };
    let plan = all(vec![place, with_database("tests", CONNECT)]);
    let results = tree.run_in(&plan, &services, Some(sandbox)).await;
    assert_eq!(
        results[0].last_output,
        ["/build", "vendor", "3"],
        "only lo: {results:#?}"
    );
    assert_eq!(results[1].outcome, CheckOutcome::Passed, "{results:#?}");
    assert!(results[1].last_output[0].contains("MariaDB"));
}

#[tokio::test]
async fn processes_that_left_their_check_end_with_it_and_those_of_others_go_on() {
    let tree = Tree::new();
    let plan = all(vec![
        sh(
            "leaver",
            Group::Fast,
            "setsid sleep 300 & echo $!; sleep 0.2",
        ),
        sh("stayer", Group::Fast, "sleep 1"),
    ]);
    let results = tree.run(&plan).await;
    assert!(ends(&results[0].last_output[0]).await);
    assert_eq!(results[1].outcome, CheckOutcome::Passed, "{results:#?}");
}

#[tokio::test]
async fn service_that_does_not_start_fails_those_who_asked_and_says_why() {
    let tree = Tree::new();
    // The place of its folder is taken.
    let services = tree.root.path().join("services");
    std::fs::create_dir(&services).unwrap();
    std::fs::write(services.join("mariadb"), "").unwrap();
    let plan = all(vec![
        with_database("tests", "true"),
        sh("other", Group::Slow, "true"),
    ]);
    let results = tree.run(&plan).await;
    assert_eq!(results[0].outcome, CheckOutcome::Failed);
    let said = &results[0].last_output;
    assert!(said[0].starts_with("cannot create "), "{said:?}");
    assert!(said[1].starts_with("caused by: "), "{said:?}");
    assert_eq!(said[2], "the service `mariadb` is not there");
    assert_eq!(results[1].outcome, CheckOutcome::Passed);
    assert!(matches!(
        plan.accept(&results),
        Err(BuildError::Checks { .. })
    ));
}

/// Whether a process has ended; a zombie that waits for its parent has.
fn ended(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.is_empty() || stat.contains(") Z")
}

async fn ends(pid: &str) -> bool {
    for _ in 0..400 {
        if ended(pid) {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    false
}
