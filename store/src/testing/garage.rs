//! A real S3 server for tests: Garage, one node or several, on loopback and in a temporary folder.
//!
//! Ends with the test, also when it fails.
#![allow(clippy::unwrap_used, reason = "support of tests")]

use std::fs::{self, File};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// The bucket that every cluster has.
pub const BUCKET: &str = "releases";
/// The region that it answers for.
pub const REGION: &str = "garage";
/// Id of the key that may read and write the bucket.
pub const KEY_ID: &str = "GKabababababababababababab";
/// Its secret: of a server that lives as long as a test.
pub const SECRET: &str = "cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd";

const START: Duration = Duration::from_secs(20);

/// A running cluster whose every node holds every object.
#[derive(Debug)]
pub struct Garage {
    folder: tempfile::TempDir,
    nodes: Vec<Node>,
}

#[derive(Debug)]
struct Node {
    config: PathBuf,
    log: PathBuf,
    port: u16,
    process: Option<Child>,
}

impl Garage {
    /// Starts so many nodes, with a bucket and a key.
    ///
    /// # Panics
    /// When Garage is not installed or does not start.
    #[must_use]
    pub fn start(nodes: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ports = free_ports(nodes * 2);
        let mut garage = Self {
            nodes: Vec::new(),
            folder,
        };
        for (number, ports) in ports.chunks(2).enumerate() {
            let node = garage.node(number, nodes, ports[0], ports[1]);
            garage.nodes.push(node);
            garage.start_node(number);
        }
        garage.join();
        garage
    }

    fn node(&self, number: usize, nodes: usize, rpc: u16, port: u16) -> Node {
        let folder = self.folder.path().join(format!("node{number}"));
        fs::create_dir(&folder).unwrap();
        let config = format!(
            "metadata_dir = \"{folder}/meta\"\ndata_dir = \"{folder}/data\"\ndb_engine = \"sqlite\"\n\
             metadata_fsync = true\ndata_fsync = true\nreplication_factor = {nodes}\n\
             rpc_bind_addr = \"127.0.0.1:{rpc}\"\nrpc_public_addr = \"127.0.0.1:{rpc}\"\n\
             rpc_secret = \"{secret}\"\n\
             [s3_api]\ns3_region = \"{REGION}\"\napi_bind_addr = \"127.0.0.1:{port}\"\nroot_domain = \".localhost\"\n",
            folder = folder.display(),
            secret = "ef".repeat(32),
        );
        let file = folder.join("garage.toml");
        fs::write(&file, config).unwrap();
        Node {
            config: file,
            log: folder.join("log"),
            port,
            process: None,
        }
    }

    /// Gives every node its role, and makes key and bucket.
    fn join(&self) {
        let ids: Vec<String> = (0..self.nodes.len())
            .map(|number| self.ask(number, &["node", "id", "-q"]).trim().to_owned())
            .collect();
        for id in &ids[1..] {
            self.ask(0, &["node", "connect", id]);
        }
        for (number, id) in ids.iter().enumerate() {
            let id = id.split('@').next().unwrap();
            let zone = format!("zone{number}");
            self.ask(0, &["layout", "assign", id, "-z", &zone, "-c", "1G"]);
        }
        self.ask(0, &["layout", "apply", "--version", "1"]);
        self.ask(
            0,
            &["key", "import", "--yes", "-n", "tests", KEY_ID, SECRET],
        );
        self.ask(0, &["bucket", "create", BUCKET]);
        self.ask(
            0,
            &[
                "bucket", "allow", BUCKET, "--read", "--write", "--key", "tests",
            ],
        );
    }

    /// Runs a command of Garage until it succeeds: a node that starts answers late.
    fn ask(&self, number: usize, arguments: &[&str]) -> String {
        let node = &self.nodes[number];
        let begun = Instant::now();
        loop {
            // A node that is no node would keep it waiting for ever.
            let asked: Output = Command::new("timeout")
                .arg("10")
                .arg(garage())
                .arg("-c")
                .arg(&node.config)
                .args(arguments)
                .stdin(Stdio::null())
                .output()
                .unwrap();
            if asked.status.success() {
                return String::from_utf8(asked.stdout).unwrap();
            }
            assert!(
                begun.elapsed() < START,
                "garage {arguments:?}: {}\n{}",
                String::from_utf8_lossy(&asked.stderr),
                node.said()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn start_node(&mut self, number: usize) {
        let node = &mut self.nodes[number];
        let log = File::options()
            .create(true)
            .append(true)
            .open(&node.log)
            .unwrap();
        let mut process = Command::new(garage())
            .arg("-c")
            .arg(&node.config)
            .arg("server")
            .env("RUST_LOG", "garage=warn")
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("garage: {error}; run scripts/setup.sh test"));
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", node.port)).is_err() {
            let ended = process.try_wait().unwrap();
            assert!(
                ended.is_none() && begun.elapsed() < START,
                "garage does not start: {}",
                node.said()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        node.process = Some(process);
    }

    /// Starts a node that was ended, and waits until it knows the others again.
    ///
    /// # Panics
    /// When it does not start.
    pub fn restart_node(&mut self, number: usize) {
        self.start_node(number);
        for (other, node) in self.nodes.iter().enumerate() {
            if other != number && node.process.is_some() {
                let id = self.ask(other, &["node", "id", "-q"]);
                self.ask(number, &["node", "connect", id.trim()]);
            }
        }
    }

    /// Ends a node at once, as a crash would.
    pub fn end_node(&mut self, number: usize) {
        self.nodes[number].end();
    }

    /// The URL of a node.
    #[must_use]
    pub fn endpoint(&self, number: usize) -> String {
        format!("http://127.0.0.1:{}", self.nodes[number].port)
    }

    /// The environment variable of this name, for who may read and write the bucket.
    #[must_use]
    pub fn variable(name: &str) -> Option<String> {
        match name {
            "AWS_ACCESS_KEY_ID" => Some(KEY_ID.to_owned()),
            "AWS_SECRET_ACCESS_KEY" => Some(SECRET.to_owned()),
            "AWS_REGION" => Some(REGION.to_owned()),
            _ => None,
        }
    }
}

impl Node {
    fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn end(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.end();
    }
}

/// The program: from PATH, else where cargo installs.
fn garage() -> PathBuf {
    let installed = std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo")))
        .map(|cargo| cargo.join("bin/garage"))
        .filter(|program| program.exists());
    installed.unwrap_or_else(|| "garage".into())
}

/// Ports that nobody listens on, all different.
fn free_ports(count: usize) -> Vec<u16> {
    let bound: Vec<TcpListener> = (0..count)
        .map(|_| TcpListener::bind("127.0.0.1:0").unwrap())
        .collect();
    let ports = bound.iter().map(|bound| bound.local_addr().unwrap().port());
    ports.collect()
}
