//! A real nginx over the folder of a store, ended when dropped.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub(super) const TOKEN: &str = "tok-6f3c";

pub(super) struct Nginx {
    child: Child,
    folder: tempfile::TempDir,
    pub(super) port: u16,
    pub(super) tls_port: u16,
}

impl Nginx {
    /// Serves a folder below `/open/`, below `/token/` to whoever has [`TOKEN`], below `/whole/`
    /// without ranges; by TLS, with a certificate of its own, below `/open/`.
    pub(super) fn serve(store: &Path) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let made = Command::new("openssl")
            .args("req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2".split(' '))
            .args("-subj /CN=localhost -addext subjectAltName=IP:127.0.0.1".split(' '))
            .args("-addext basicConstraints=critical,CA:FALSE".split(' '))
            .args("-keyout key.pem -out cert.pem".split(' '))
            .current_dir(folder.path())
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
        let free = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let (plain, tls) = (free(), free());
        let (port, tls_port) = (
            plain.local_addr().unwrap().port(),
            tls.local_addr().unwrap().port(),
        );
        let config = include_str!("nginx.conf")
            .replace("@folder@", folder.path().to_str().unwrap())
            .replace("@store@", store.to_str().unwrap())
            .replace("@token@", TOKEN)
            .replace("@port@", &port.to_string())
            .replace("@tls_port@", &tls_port.to_string());
        std::fs::write(folder.path().join("nginx.conf"), config).unwrap();
        drop((plain, tls));
        let path = std::env::var("PATH").unwrap_or_default();
        let child = Command::new("nginx")
            .env("PATH", format!("{path}:/usr/sbin:/sbin"))
            .arg("-p")
            .arg(folder.path())
            .args(["-c", "nginx.conf", "-e", "error.log"])
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let nginx = Self {
            child,
            folder,
            port,
            tls_port,
        };
        let started = Instant::now();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, tls_port)).is_err() {
            assert!(
                started.elapsed() < Duration::from_secs(10),
                "{}",
                nginx.read("error.log")
            );
            std::thread::sleep(Duration::from_millis(10));
        }
        nginx
    }

    pub(super) fn url(&self, below: &str) -> String {
        format!("http://127.0.0.1:{}/{below}/", self.port)
    }

    /// The line of its log that begins so; it is written after the answer.
    pub(super) async fn logged(&self, begin: &str) -> String {
        for _ in 0..500 {
            let log = self.read("access.log");
            if let Some(line) = log.lines().find(|line| line.starts_with(begin)) {
                return line.to_owned();
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("no {begin:?} in {}", self.read("access.log"));
    }

    /// A file that it wrote, or its certificate.
    pub(super) fn file(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    pub(super) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.file(name)).unwrap_or_default()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
