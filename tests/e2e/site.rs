//! One base on the real stack with its own nginx port, and the releases all tests share.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// A variable that `make test` sets.
pub(crate) fn variable(name: &str) -> String {
    std::env::var(name)
        .unwrap_or_else(|_| panic!("{name} is not set: run the tests by `make test`"))
}

/// How long a program may take before a test gives up on it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// The application's repository with three commits, built once into a store for all tests.
pub(crate) struct Fixture {
    pub(crate) repository: PathBuf,
    pub(crate) store: PathBuf,
    /// The application as it is.
    pub(crate) first: String,
    /// One line of one template is different.
    pub(crate) second: String,
    /// `/api/health-check` answers 503.
    pub(crate) broken: String,
}

impl Fixture {
    /// Makes it, or waits for the test that is making it.
    pub(crate) fn get() -> Self {
        let root = PathBuf::from(variable("RELSTORE_STACK")).join("e2e");
        fs::create_dir_all(&root).expect("the stack's folder is writable");
        let lock = File::create(root.join("lock")).expect("the stack's folder is writable");
        lock.lock().expect("the file can be locked");
        let ids = root.join("ids");
        if !ids.exists() {
            Self::make(&root);
        }
        let text = fs::read_to_string(&ids).expect("it was just made");
        let ids: Vec<String> = text.lines().map(str::to_owned).collect();
        Self {
            repository: root.join("notes"),
            store: root.join("store"),
            first: ids[0].clone(),
            second: ids[1].clone(),
            broken: ids[2].clone(),
        }
    }

    fn make(root: &Path) {
        let repository = root.join("notes");
        let _ = fs::remove_dir_all(&repository);
        let from = variable("RELSTORE_FIXTURE_APP");
        git(root, &["clone", "--quiet", &from, "notes"]);
        let mut ids = vec![Self::build(root)];
        let home = repository.join("resources/views/home.blade.php");
        replace(
            &home,
            "<h1>{{ config('app.name') }}</h1>",
            "<h1>{{ config('app.name') }}!</h1>",
        );
        commit(&repository, "One line");
        ids.push(Self::build(root));
        let health = repository.join("app/Http/Controllers/HealthController.php");
        replace(
            &health,
            "return response()->json(['status' => 'ok', 'release'",
            "return response()->json(['status' => 'failing'], 503); return response()->json(['status' => 'ok', 'release'",
        );
        commit(&repository, "Break the health check");
        ids.push(Self::build(root));
        fs::write(root.join("ids"), ids.join("\n")).expect("the stack's folder is writable");
    }

    fn build(root: &Path) -> String {
        let ran = relstore(&root.join("notes"), &root.join("home"))
            // What the tests do to the application would not pass its own.
            .args(["build", "--no-checks", "--store"])
            .arg(root.join("store"))
            .output()
            .expect("the program runs");
        release_id(&ran)
    }
}

/// The id that `build` printed last; panics when it failed.
pub(crate) fn release_id(ran: &Output) -> String {
    assert!(ran.status.success(), "{}", told(ran));
    let stdout = String::from_utf8_lossy(&ran.stdout);
    let id = stdout.lines().last().unwrap_or_default().to_owned();
    assert!(id.len() == 64, "{}", told(ran));
    id
}

/// The program in a folder, with a cleared environment.
pub(crate) fn relstore(folder: &Path, home: &Path) -> Command {
    fs::create_dir_all(home).expect("the test's folder is writable");
    let mut command = Command::new(env!("CARGO_BIN_EXE_relstore"));
    command
        .current_dir(folder)
        .env_clear()
        .env("PATH", variable("PATH"))
        .env("HOME", home)
        .env("LC_ALL", "C.UTF-8")
        .env("HEALTH_TOKEN", TOKEN)
        // For the application's own configuration, which the builds read.
        .env("NOTES_BASE", "/nowhere")
        .env("NOTES_URL", "http://127.0.0.1:9")
        .stdin(Stdio::null());
    command
}

/// The health token in every `.env` of these tests.
pub(crate) const TOKEN: &str = "sentinel-token-4711";

pub(crate) fn git(folder: &Path, arguments: &[&str]) {
    let ran = Command::new("git")
        .current_dir(folder)
        .args(["-c", "user.name=Test", "-c", "user.email=test@example.com"])
        .args(arguments)
        .output()
        .expect("git runs");
    assert!(ran.status.success(), "git {arguments:?}: {}", told(&ran));
}

pub(crate) fn commit(repository: &Path, message: &str) {
    git(repository, &["add", "--all"]);
    git(repository, &["commit", "--quiet", "--message", message]);
}

pub(crate) fn replace(file: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(file).expect("the file is there");
    assert!(text.contains(from), "{} has no {from}", file.display());
    fs::write(file, text.replace(from, to)).expect("the file is writable");
}

/// Both streams and the code, for messages.
pub(crate) fn told(ran: &Output) -> String {
    format!(
        "{}\n--- stdout\n{}\n--- stderr\n{}",
        ran.status,
        String::from_utf8_lossy(&ran.stdout),
        String::from_utf8_lossy(&ran.stderr)
    )
}

/// A base of the deploy user behind its own nginx port, deployed to over SSH.
pub(crate) struct Site {
    pub(crate) fixture: Fixture,
    pub(crate) base: PathBuf,
    pub(crate) port: u16,
    folder: tempfile::TempDir,
}

impl Site {
    /// A fresh base with a `.env`. `port` must be the test's own.
    pub(crate) fn new(name: &str, port: u16) -> Self {
        let fixture = Fixture::get();
        let base = PathBuf::from(format!("/home/deploy/e2e/{name}"));
        let _ = fs::remove_dir_all(&base);
        stack(&["site", name, &port.to_string(), path(&base)]);
        stack(&["dotenv", path(&base), TOKEN]);
        let folder = tempfile::Builder::new()
            .prefix("relstore-e2e-")
            .tempdir()
            .expect("a temp folder can be made");
        let site = Self {
            fixture,
            base,
            port,
            folder,
        };
        site.configure(&site.settings());
        site.wait_for_nginx();
        site
    }

    /// nginx takes a new site on its own time after the signal.
    fn wait_for_nginx(&self) {
        let until = Instant::now() + PATIENCE;
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(
                Instant::now() < until,
                "nginx does not listen on {}",
                self.port
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The keys of `[env.test]`, to be changed and given to [`Site::configure`].
    pub(crate) fn settings(&self) -> BTreeMap<&'static str, String> {
        let quoted = |text: &str| format!("{text:?}");
        BTreeMap::from([
            ("transport", quoted("ssh")),
            (
                "hosts",
                format!("[\"deploy@127.0.0.1:{}\"]", variable("RELSTORE_SSH_PORT")),
            ),
            ("identity_file", quoted(&variable("RELSTORE_SSH_KEY"))),
            ("known_hosts", quoted(&variable("RELSTORE_KNOWN_HOSTS"))),
            ("base", quoted(path(&self.base))),
            ("url", format!("\"http://127.0.0.1:{}\"", self.port)),
            (
                "reload",
                "[\"sudo -n /usr/local/sbin/relstore-fpm-reload\"]".into(),
            ),
            ("migrate", quoted("run")),
            ("health_attempts", "2".into()),
            ("health_interval", quoted("200ms")),
            (
                "health",
                "[{ path = \"/healthcheck.php\" }, \
                 { path = \"/api/health-check\", bearer = { env = \"HEALTH_TOKEN\" } }, \
                 { path = \"/health\", bearer = { env = \"HEALTH_TOKEN\" } }]"
                    .into(),
            ),
        ])
    }

    pub(crate) fn configure(&self, settings: &BTreeMap<&'static str, String>) {
        let mut text = format!(
            "app = \"notes\"\n[store]\npath = {:?}\n[env.test]\n",
            path(&self.fixture.store)
        );
        for (key, value) in settings {
            text.push_str(&format!("{key} = {value}\n"));
        }
        fs::write(self.folder.path().join("relstore.toml"), text)
            .expect("the temp folder is writable");
    }

    pub(crate) fn home(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = relstore(self.folder.path(), &self.home());
        command.args(arguments);
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("the program runs")
    }

    /// Runs and expects an exit code.
    pub(crate) fn expect(&self, code: i32, arguments: &[&str]) -> Output {
        let ran = self.run(arguments);
        assert_eq!(
            ran.status.code(),
            Some(code),
            "relstore {arguments:?}: {}",
            told(&ran)
        );
        ran
    }

    pub(crate) fn deploy(&self, release: &str) -> Output {
        self.expect(0, &["deploy", release, "--env", "test"])
    }

    pub(crate) fn spawn(&self, arguments: &[&str]) -> Child {
        let mut command = self.command(arguments);
        command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the program runs")
    }

    /// The id `current` points to.
    pub(crate) fn current(&self) -> Option<String> {
        let target = fs::read_link(self.base.join("current")).ok()?;
        Some(
            target
                .strip_prefix("releases")
                .expect("a link into releases")
                .to_str()
                .expect("ASCII")
                .to_owned(),
        )
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        get(self.port, path).expect("nginx answers")
    }

    /// Lines of the ledger on the host, parsed.
    pub(crate) fn ledger(&self) -> Vec<serde_json::Value> {
        let text = fs::read_to_string(self.base.join(".relstore/ledger")).unwrap_or_default();
        text.lines()
            .map(|line| serde_json::from_str(line).expect("a line of JSON"))
            .collect()
    }

    /// Processes of host helpers of this base.
    pub(crate) fn helpers(&self) -> Vec<u32> {
        let wanted = path(&self.base);
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").expect("/proc is there").flatten() {
            let Some(pid) = entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse().ok())
            else {
                continue;
            };
            let Ok(command) = fs::read(entry.path().join("cmdline")) else {
                continue;
            };
            let words: Vec<&[u8]> = command.split(|&byte| byte == 0).collect();
            let helper = words
                .first()
                .is_some_and(|word| word.ends_with(b"relstore-host"));
            if helper && words.contains(&b"serve".as_slice()) && words.contains(&wanted.as_bytes())
            {
                found.push(pid);
            }
        }
        found
    }

    /// The invariant of every fault after a first deploy: `current` names a complete release
    /// whose every byte is right, and the site answers from it.
    pub(crate) fn is_sound(&self, context: &str) {
        let current = self.current();
        let current = current.unwrap_or_else(|| panic!("{context}: `current` is no link"));
        let complete = self.base.join(".relstore/complete").join(&current);
        assert!(complete.exists(), "{context}: {current} is not complete");
        let ran = self.run(&["verify", "--env", "test"]);
        assert_eq!(ran.status.code(), Some(0), "{context}: {}", told(&ran));
        let answer = self.get("/healthcheck.php");
        assert_eq!(
            (answer.status, answer.body.trim()),
            (200, format!("ok {current}").as_str()),
            "{context}"
        );
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        // The store's and the site's folders are the stack's; what a test killed must not linger.
        let _ = fs::remove_dir_all(&self.base);
    }
}

pub(crate) fn path(path: &Path) -> &str {
    path.to_str().expect("test paths are text")
}

/// Runs `stack.sh COMMAND DIR ...`.
pub(crate) fn stack(arguments: &[&str]) {
    let (command, rest) = arguments.split_first().expect("a command");
    let ran = Command::new(variable("RELSTORE_STACK_SH"))
        .arg(command)
        .arg(variable("RELSTORE_STACK"))
        .args(rest)
        .stdin(Stdio::null())
        .output()
        .expect("the stack's script runs");
    assert!(
        ran.status.success(),
        "stack.sh {arguments:?}: {}",
        told(&ran)
    );
}

/// An HTTP answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    /// A header's value.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

/// One GET with the health token over a connection of its own.
pub(crate) fn get(port: u16, path: &str) -> std::io::Result<Answer> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    write!(
        stream,
        "GET {path} HTTP/1.0\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
    )?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let broken = || std::io::Error::other(format!("not an HTTP answer: {text:?}"));
    let (head, body) = text.split_once("\r\n\r\n").ok_or_else(broken)?;
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|code| code.parse().ok())
        .ok_or_else(broken)?;
    Ok(Answer {
        status,
        head: head.to_owned(),
        body: body.to_owned(),
    })
}
