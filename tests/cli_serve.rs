//! `relstore serve`: the real program, asked by raw requests, by the backend that reads it and by a
//! load generator.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use relstore_store::backend::http::{Bearer, HttpBackend, HttpSettings, Limits, Proxies};
use relstore_store::backend::local::LocalBackend;
use relstore_store::backend::{Backend, contract};
use relstore_store::listing::Listing;
use relstore_store::{Store, StoreError, fs};

use crate::common::{File, TestEnv};

const FILES: &[File<'static>] = &[
    ("artisan", "#!/usr/bin/env php\n", true),
    ("app/Rate.php", "<?php\nreturn 19;\n", false),
];

fn env() -> TestEnv {
    let env = TestEnv::new();
    env.write("relstore.toml", "app = \"notes\"\n");
    env
}

/// The program, serving the store of a test until it is dropped.
struct Serving {
    child: Child,
    address: String,
}

impl Serving {
    fn start(env: &TestEnv, arguments: &[&str]) -> Self {
        Self::start_at(env, "127.0.0.1:0", arguments)
    }

    fn start_at(env: &TestEnv, listen: &str, arguments: &[&str]) -> Self {
        let mut child = env
            .command(env!("CARGO_BIN_EXE_relstore"))
            .args(["serve", "--listen", listen])
            .args(arguments)
            .current_dir(env.project())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let address = line
            .split_once("http://")
            .and_then(|(_, rest)| rest.split_once('/'))
            .map(|(address, _)| address.to_owned())
            .unwrap_or_else(|| panic!("{line:?}"));
        Self { child, address }
    }

    fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// Sends one request and reads the answer to its end.
    fn ask(&self, request: &str) -> Answer {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let request = request.replace('\n', "\r\n");
        write!(stream, "{request}\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        Answer::of(&all)
    }

    fn get(&self, name: &str) -> Answer {
        self.ask(&format!("GET /{name} HTTP/1.1"))
    }

    fn terminate(&self) {
        let pid = self.child.id().to_string();
        let killed = Command::new("kill").args(["-TERM", &pid]).status();
        assert!(killed.unwrap().success());
    }

    /// Waits for its end; returns the exit code and what it wrote on stderr.
    fn ended(mut self) -> (i32, String) {
        let started = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(started.elapsed() < Duration::from_secs(20), "it goes on");
            std::thread::sleep(Duration::from_millis(20));
        };
        let mut log = String::new();
        let mut stderr = self.child.stderr.take().unwrap();
        stderr.read_to_string(&mut log).unwrap();
        (status.code().unwrap_or(-1), log)
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn of(all: &[u8]) -> Self {
        let end = all.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
        let head = String::from_utf8(all[..end].to_vec()).unwrap();
        Self {
            status: head[9..12].parse().unwrap(),
            head: head.to_lowercase(),
            body: all[end + 4..].to_vec(),
        }
    }

    /// The value of a header.
    fn header(&self, name: &str) -> &str {
        let begin = format!("{name}: ");
        let line = self.head.lines().find(|line| line.starts_with(&begin));
        line.map_or("", |line| &line[begin.len()..])
    }
}

fn reader(url: String, token: Option<&str>) -> HttpBackend {
    let settings = HttpSettings {
        url,
        bearer: token.map(|token| Bearer::new(token).unwrap()),
        proxies: Proxies::default(),
        ca: None,
        limits: Limits::default(),
    };
    HttpBackend::open(settings, std::env::temp_dir()).unwrap()
}

fn wait<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Runtime::new().unwrap().block_on(work)
}

/// An object of many pieces, named as a bundle is.
fn long(env: &TestEnv, bytes: usize) -> (String, Vec<u8>) {
    let content: Vec<u8> = (0..bytes).map(|at| (at ^ (at >> 9)) as u8).collect();
    let name = format!("bundles/{}-0.tar.zst", "ab".repeat(32));
    std::fs::write(env.store().join(&name), &content).unwrap();
    (name, content)
}

#[test]
fn what_is_served_passes_the_contract_for_readers() {
    let env = env();
    let local = LocalBackend::new(env.store());
    fs::create_dirs(&local.spool()).unwrap();
    wait(contract::prepare(&local));
    let format = r#"{"version":1,"compatible":[],"read_only_compatible":[],"incompatible":[]}"#;
    std::fs::write(env.store().join("format.json"), format).unwrap();
    let serving = Serving::start(&env, &[]);
    std::fs::remove_file(env.store().join("format.json")).unwrap();
    wait(contract::reads(&reader(serving.url(), None)));
}

#[test]
fn a_release_is_checked_out_over_http_and_a_new_one_is_listed_at_once() {
    let env = env();
    let release = env.stored(FILES, &"a".repeat(40));
    let serving = Serving::start(&env, &[]);
    wait(async {
        let remote = Arc::new(reader(serving.url(), None));
        let store = Store::open_backend(remote).await.unwrap();
        assert_eq!(store.releases().await.unwrap(), [release]);
        let out = env.root().join("out");
        std::fs::create_dir(&out).unwrap();
        store.checkout(&release, &out).await.unwrap();
        let read = std::fs::read_to_string(out.join("app/Rate.php"));
        assert_eq!(read.unwrap(), FILES[1].1);
    });
    let other = env.stored(&FILES[..1], &"b".repeat(40));
    std::thread::sleep(Duration::from_millis(1100));
    wait(async {
        let remote = Arc::new(reader(serving.url(), None));
        let store = Store::open_backend(remote).await.unwrap();
        assert!(store.releases().await.unwrap().contains(&other));
    });
}

#[test]
fn a_token_is_asked_for_and_never_written_anywhere() {
    let mut env = env();
    env.stored(FILES, &"a".repeat(40));
    env.set("STORE_TOKEN", "tok-91ab");
    let serving = Serving::start(&env, &["--token-env", "STORE_TOKEN"]);
    let none = serving.get("format.json?token=tok-91ab");
    assert_eq!(none.status, 401);
    assert_eq!(none.header("www-authenticate"), "bearer realm=\"relstore\"");
    let wrong = serving.ask("GET /format.json HTTP/1.1\nAuthorization: Bearer tok-91ac");
    assert_eq!(wrong.status, 401);
    assert!(wrong.header("www-authenticate").contains("invalid_token"));
    let right = serving.ask("GET /format.json HTTP/1.1\nAuthorization: Bearer tok-91ab");
    assert_eq!(right.status, 200);
    assert_eq!(right.header("cache-control"), "private, no-cache");
    let read = |token| wait(reader(serving.url(), token).get("format.json"));
    assert!(read(Some("tok-91ab")).unwrap().is_some());
    for token in [None, Some("tok-91ac")] {
        let error = read(token).unwrap_err();
        assert!(matches!(error, StoreError::Remote { .. }), "{error:?}");
    }
    serving.terminate();
    let (code, log) = serving.ended();
    assert_eq!(code, 0, "{log}");
    assert!(log.contains("GET format.json 401"), "{log}");
    assert!(log.contains("GET format.json 200"), "{log}");
    assert!(!log.contains("tok-91"), "{log}");
}

#[test]
fn names_lead_nowhere_but_to_objects() {
    let env = env();
    env.stored(FILES, &"a".repeat(40));
    std::fs::write(env.store().join("bundles/.tmp-x"), "half").unwrap();
    std::fs::write(env.store().join("../outside"), "secret").unwrap();
    let serving = Serving::start(&env, &[]);
    for name in [
        "",
        "../outside",
        "..%2foutside",
        "%2e%2e/outside",
        "bundles/../../outside",
        "bundles/..%2f..%2foutside",
        "bundles/.tmp-x",
        "bundles",
        "bundles/",
        "/format.json",
        "%2fetc/passwd",
        "etc/passwd",
        "format.json%00",
        "%ff",
        "format.json/x",
        "none",
    ] {
        let answer = serving.get(name);
        assert_eq!(answer.status, 404, "{name:?}");
        assert_eq!(answer.header("cache-control"), "no-store");
        assert_eq!(answer.body, b"no such object\n");
    }
    assert_eq!(serving.get("format%2ejson").status, 200);
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"] {
        let answer = serving.ask(&format!("{method} /format.json HTTP/1.1"));
        assert_eq!(answer.status, 405);
        assert_eq!(answer.header("allow"), "get, head");
    }
}

#[test]
fn ranges_heads_and_etags_are_answered_as_http_has_them() {
    let env = env();
    env.stored(FILES, &"a".repeat(40));
    let (name, content) = long(&env, 3 << 20);
    let serving = Serving::start(&env, &["--quiet"]);

    let whole = serving.get(&name);
    assert_eq!((whole.status, whole.body == content), (200, true));
    assert_eq!(whole.header("content-length"), (3 << 20).to_string());
    assert_eq!(
        whole.header("cache-control"),
        "public, max-age=31536000, immutable"
    );
    let etag = whole.header("etag").to_owned();
    assert!(etag.starts_with('"') && etag.len() == 34, "{etag}");

    let asked = |lines: &str| serving.ask(&format!("GET /{name} HTTP/1.1\n{lines}"));
    let part = asked("Range: bytes=1048570-1048585");
    assert_eq!(
        (part.status, &part.body[..]),
        (206, &content[1_048_570..1_048_586])
    );
    assert_eq!(
        part.header("content-range"),
        "bytes 1048570-1048585/3145728"
    );
    assert_eq!(asked("Range: bytes=-5").body, content[(3 << 20) - 5..]);
    let outside = asked("Range: bytes=3145728-");
    assert_eq!(outside.status, 416);
    assert_eq!(outside.header("content-range"), "bytes */3145728");
    assert_eq!(asked("Range: bytes=0-1,5-6").body.len(), 3 << 20);

    let known = asked(&format!("If-None-Match: {etag}"));
    assert_eq!((known.status, known.body.len()), (304, 0));
    assert_eq!(known.header("etag"), etag);
    assert_eq!(asked("If-None-Match: \"other\"").status, 200);
    let resumed = |known: &str| asked(&format!("If-Range: {known}\nRange: bytes=5-")).status;
    assert_eq!((resumed(&etag), resumed("\"other\"")), (206, 200));

    for name in [name.as_str(), "format.json", "listing.zst"] {
        let head = serving.ask(&format!("HEAD /{name} HTTP/1.1"));
        let full = serving.get(name);
        assert_eq!((head.status, head.body.len()), (200, 0));
        assert_eq!(head.header("content-length"), full.body.len().to_string());
        assert_eq!(head.header("etag"), full.header("etag"));
    }
    assert_eq!(serving.ask("HEAD /none HTTP/1.1").status, 404);
    for name in ["format.json", "listing.zst", &mark(&env)] {
        let answer = serving.get(name);
        assert_eq!(answer.header("cache-control"), "public, no-cache", "{name}");
    }
    serving.terminate();
    assert_eq!(serving.ended(), (0, String::new()));
}

/// The name of the first release's mark.
fn mark(env: &TestEnv) -> String {
    let found = wait(LocalBackend::new(env.store()).list("releases/")).unwrap();
    found[0].name.clone()
}

#[test]
fn an_object_that_went_is_absent_and_one_that_was_cut_ends_early() {
    let env = env();
    env.stored(FILES, &"a".repeat(40));
    let (name, content) = long(&env, 3 << 20);
    let serving = Serving::start(&env, &[]);
    assert_eq!(serving.get(&name).status, 200);
    std::fs::write(env.store().join(&name), &content[..(2 << 20) + 5]).unwrap();
    let cut = serving.get(&name);
    assert_eq!((cut.status, cut.header("content-length")), (200, "3145728"));
    assert!(cut.body.len() < 3 << 20);
    // The size is looked up again.
    assert_eq!(serving.get(&name).body.len(), (2 << 20) + 5);
    std::fs::remove_file(env.store().join(&name)).unwrap();
    assert_eq!(serving.get(&name).status, 404);
    serving.terminate();
    let (_, log) = serving.ended();
    assert!(log.lines().any(|line| line.ends_with(" cut")), "{log}");
}

#[test]
fn a_signal_ends_it_after_the_answers_that_were_begun() {
    let env = env();
    env.stored(FILES, &"a".repeat(40));
    let (name, content) = long(&env, 64 << 20);
    let serving = Serving::start(&env, &[]);
    let mut idle = TcpStream::connect(&serving.address).unwrap();
    let mut stream = TcpStream::connect(&serving.address).unwrap();
    write!(stream, "GET /{name} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut all = vec![0; 1 << 20];
    stream.read_exact(&mut all).unwrap();
    serving.terminate();
    let started = Instant::now();
    while TcpStream::connect(&serving.address).is_ok() {
        assert!(started.elapsed() < Duration::from_secs(5), "it takes more");
        std::thread::sleep(Duration::from_millis(20));
    }
    stream.read_to_end(&mut all).unwrap();
    assert!(Answer::of(&all).body == content, "the answer is cut");
    assert_eq!(idle.read(&mut [0]).unwrap_or(0), 0);
    let (code, log) = serving.ended();
    assert_eq!(code, 0, "{log}");
    let line = log.lines().find(|line| line.contains(" 200 67108864 B "));
    assert!(line.is_some_and(|line| !line.ends_with("cut")), "{log}");
}

#[test]
fn others_are_let_in_only_when_that_was_said() {
    let env = env();
    env.stored(FILES, &"a".repeat(40));
    let refused = env.run(["serve", "--listen", "0.0.0.0:0"]).fails(3);
    assert_eq!(
        refused.stderr,
        "error: 0.0.0.0:0 can be reached by others, and no token guards it\n  \
         hint: say --token-file FILE or --token-env NAME, or --public to let everybody read\n"
    );
    env.write("token", "tok-1\n");
    for arguments in [&["--public"][..], &["--token-file", "token"]] {
        let serving = Serving::start_at(&env, "0.0.0.0:0", arguments);
        assert!(serving.address.starts_with("0.0.0.0:"));
    }
    env.run(["serve", "--public", "--token-env", "X"]).fails(2);
    let unset = env.run(["serve", "--token-env", "NONE"]).fails(3);
    assert!(unset.stderr.contains("NONE is not set"), "{}", unset.stderr);
    env.write("token", "\n");
    env.run(["serve", "--token-file", "token"]).fails(3);
}

#[test]
fn an_address_in_use_and_a_missing_store_are_told() {
    let env = env();
    env.run(["serve"]).fails(3);
    env.stored(FILES, &"a".repeat(40));
    let serving = Serving::start(&env, &[]);
    let used = env.run(["serve", "--listen", &serving.address]).fails(1);
    assert!(
        used.stderr.contains("cannot listen on 127.0.0.1"),
        "{}",
        used.stderr
    );
    assert!(used.stderr.contains("in use"), "{}", used.stderr);
}

#[test]
fn an_import_keeps_a_listing_up_to_date_and_makes_none() {
    let env = env();
    let listing = env.store().join("listing.zst");
    let import = |content| {
        env.write("tree/a", content);
        let ran = env.run(["import", "tree", "--layout", "plain"]).ok();
        ran.stdout.trim().to_owned()
    };
    import("1");
    assert!(!listing.exists());
    std::fs::write(&listing, "").unwrap();
    let release = import("2");
    let listed = Listing::decode(&std::fs::read(&listing).unwrap()).unwrap();
    let mark = format!("releases/{release}");
    assert!(listed.objects().iter().any(|object| object.name == mark));
    assert_eq!(listed.below("releases/").len(), 2);
}

#[test]
fn many_readers_at_once_get_no_error() {
    let env = env();
    env.stored(FILES, &"a".repeat(40));
    let (name, _) = long(&env, 2 << 20);
    let serving = Serving::start(&env, &["--quiet"]);
    for name in [name.as_str(), "format.json", "listing.zst"] {
        let url = format!("{}{name}", serving.url());
        let ran = Command::new("wrk")
            .args(["-t2", "-c100", "-d1s", "--timeout", "10s", &url])
            .output()
            .unwrap();
        let text = String::from_utf8(ran.stdout).unwrap();
        assert!(
            ran.status.success() && text.contains("Requests/sec"),
            "{text}"
        );
        assert!(
            !text.contains("Socket errors") && !text.contains("Non-2xx"),
            "{text}"
        );
    }
}
