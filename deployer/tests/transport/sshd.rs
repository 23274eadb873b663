//! A real sshd of the current user on a loopback port, with keys and files of its own.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use relstore_deployer::transport::{Caller, Endpoint, Limits, SshTarget};
use tempfile::TempDir;

const SSHD: &str = "/usr/sbin/sshd";

/// A running server and what a client needs to reach it. Ends with the value.
pub(crate) struct Sshd {
    pub(crate) folder: TempDir,
    pub(crate) port: u16,
    process: Child,
}

impl Sshd {
    /// Starts a server whose login shell is left as it is.
    pub(crate) fn start() -> Self {
        Self::with_shell("")
    }

    /// Starts a server whose login shell runs `script` first, as it would a start file. Needs
    /// bash as the current user's shell. (The first bash below sshd would read the user's own
    /// start file instead; SHLVL says that it is not the first.)
    pub(crate) fn with_shell(script: &str) -> Self {
        assert!(
            Path::new(SSHD).exists(),
            "{SSHD} of the package openssh-server is needed"
        );
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        keygen(&folder.path().join("host_key"));
        keygen(&folder.path().join("user_key"));
        fs::copy(path("user_key.pub"), path("authorized_keys")).unwrap();
        fs::write(path("start_file"), script).unwrap();
        if current_user() == "root" {
            // sshd of root wants this folder; the service makes it when it starts.
            let _ = fs::create_dir_all("/run/sshd");
        }
        let port = free_port();
        let config = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {}\nAuthorizedKeysFile {}\n\
             PidFile none\nUsePAM no\nStrictModes no\nPasswordAuthentication no\n\
             KbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\n\
             SetEnv BASH_ENV={} SHLVL=1\n",
            path("host_key"),
            path("authorized_keys"),
            path("start_file"),
        );
        fs::write(path("sshd_config"), config).unwrap();
        let log = fs::File::create(path("sshd.log")).unwrap();
        let process = Command::new(SSHD)
            .args(["-D", "-e", "-f", &path("sshd_config")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut server = Self {
            folder,
            port,
            process,
        };
        server.await_listening();
        let name = format!("[127.0.0.1]:{port}");
        let key = fs::read_to_string(server.path("host_key.pub")).unwrap();
        fs::write(server.path("known_hosts"), format!("{name} {key}")).unwrap();
        server
    }

    fn await_listening(&mut self) {
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            let ended = self.process.try_wait().unwrap();
            let log = || fs::read_to_string(self.path("sshd.log")).unwrap_or_default();
            assert!(ended.is_none(), "sshd ended: {}", log());
            assert!(
                begun.elapsed() < Duration::from_secs(10),
                "sshd is silent: {}",
                log()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The folder that tests deploy to; not there yet.
    pub(crate) fn base(&self) -> String {
        self.path("base").display().to_string()
    }

    pub(crate) fn target(&self) -> SshTarget {
        SshTarget {
            port: Some(self.port),
            identity_file: Some(self.path("user_key")),
            known_hosts: Some(self.path("known_hosts")),
            ..SshTarget::new("127.0.0.1")
        }
    }

    pub(crate) fn endpoint(&self) -> Endpoint {
        Endpoint::Ssh(self.target())
    }

    /// Ends the processes that serve the open connections. A login as oneself has no second one
    /// for privilege separation.
    pub(crate) fn cut_connections(&self) {
        let connections = self.connections();
        assert!(!connections.is_empty(), "nobody is connected");
        for pid in connections {
            let killed = Command::new("kill").args(["-KILL", &pid]).status();
            assert!(killed.unwrap().success());
        }
    }

    /// Process ids of the open connections.
    pub(crate) fn connections(&self) -> Vec<String> {
        let pid = self.process.id();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        children
            .split_ascii_whitespace()
            .map(str::to_owned)
            .collect()
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// An ssh agent. Ends with the value.
pub(crate) struct Agent {
    folder: TempDir,
    process: Child,
}

impl Agent {
    /// Starts an agent that holds `key`.
    pub(crate) fn holding(key: &Path) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("agent");
        let process = Command::new("ssh-agent")
            .args(["-D", "-a"])
            .arg(&socket)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("ssh-agent of the package openssh-client is needed");
        let agent = Self { folder, process };
        let begun = Instant::now();
        while UnixStream::connect(&socket).is_err() {
            assert!(
                begun.elapsed() < Duration::from_secs(10),
                "ssh-agent is silent"
            );
            std::thread::sleep(Duration::from_millis(10));
        }
        let mut add = Command::new("ssh-add");
        add.arg("-q")
            .arg(key)
            .env("SSH_AUTH_SOCK", &socket)
            .stdin(Stdio::null());
        assert!(add.status().unwrap().success());
        agent
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("agent")
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Makes an Ed25519 key pair at `path`.
pub(crate) fn keygen(path: &Path) {
    let mut command = Command::new("ssh-keygen");
    command
        .args([
            "-q",
            "-t",
            "ed25519",
            "-N",
            "",
            "-C",
            "made by a test",
            "-f",
        ])
        .arg(path);
    let status = command.status();
    assert!(
        status
            .expect("ssh-keygen of the package openssh-client is needed")
            .success()
    );
}

/// The fingerprint that ssh-keygen shows for a key file.
pub(crate) fn fingerprint(path: &Path) -> String {
    let output = Command::new("ssh-keygen")
        .arg("-lf")
        .arg(path)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.split(' ').nth(1).unwrap().to_owned()
}

/// A caller with a short patience and no SSH configuration.
pub(crate) fn caller() -> Caller {
    Caller {
        user: Some(current_user()),
        ssh_config: Some("/dev/null".into()),
        limits: Limits {
            connect: Duration::from_secs(10),
            idle: Duration::from_secs(20),
            keepalive: Duration::from_secs(15),
        },
        ..Caller::default()
    }
}

/// A port of 127.0.0.1 on which nobody listens.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// Writes an executable file.
pub(crate) fn program(path: &Path, content: impl AsRef<[u8]>) {
    fs::write(path, content).unwrap();
    fs::set_permissions(path, PermissionsExt::from_mode(0o755)).unwrap();
}

fn current_user() -> String {
    let output = Command::new("id").arg("-un").output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}
