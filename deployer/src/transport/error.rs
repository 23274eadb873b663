//! What can be in the way of a channel, and what to do about it.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::KnownKey;

/// A private key that was considered for a login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyAttempt {
    /// The key's file, or `agent: <comment>`.
    pub origin: String,
    /// `SHA256:...` of the public half, where it is known.
    pub fingerprint: Option<String>,
    /// What came of it: "refused", or why it could not be used.
    pub outcome: String,
}

impl fmt::Display for KeyAttempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.origin)?;
        if let Some(fingerprint) = &self.fingerprint {
            write!(f, " ({fingerprint})")?;
        }
        write!(f, ": {}", self.outcome)
    }
}

/// The key a host shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShownKey {
    /// `ssh-ed25519` and the like.
    pub algorithm: String,
    /// `SHA256:...` of the key.
    pub fingerprint: String,
    /// The name the key is looked up and recorded under, as in a known_hosts file.
    pub name: String,
}

impl fmt::Display for ShownKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.algorithm, self.fingerprint)
    }
}

/// Why no channel to a host helper could be opened or kept. `host` is the host as configured.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// A host, user, port or base folder outside its alphabet; a shell or an option parser could
    /// make something else of it.
    #[error("{what} {text:?} cannot be used: {reason}")]
    InvalidTarget {
        /// Which of them.
        what: &'static str,
        /// The refused text.
        text: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The host helper beside the program cannot be read.
    #[error("host helper {} cannot be read", path.display())]
    HelperUnreadable {
        /// Where it should be.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// `ssh -G` failed: the SSH configuration has an error, or there is a configuration but no
    /// `ssh` to read it. Going on without it could reach another machine.
    #[error("SSH settings of {host} cannot be determined: {detail}")]
    Settings {
        /// The host.
        host: String,
        /// What ssh says.
        detail: String,
    },
    /// The SSH configuration demands something this transport does not do.
    #[error("the SSH configuration sets `{setting} {value}` for {host}, which is not supported")]
    UnsupportedSetting {
        /// The host.
        host: String,
        /// Name of the setting.
        setting: &'static str,
        /// Its value.
        value: String,
    },
    /// The host name has no address.
    #[error("host name {name} of {host} cannot be resolved")]
    Resolve {
        /// The host.
        host: String,
        /// The name that was looked up.
        name: String,
        /// The cause.
        source: io::Error,
    },
    /// No address of the host takes the connection.
    #[error("{host} cannot be reached on port {port}")]
    Connect {
        /// The host.
        host: String,
        /// The TCP port.
        port: u16,
        /// The cause, for the last address that was tried.
        source: io::Error,
    },
    /// The other end of the TCP connection and this one cannot agree on SSH.
    #[error("no SSH session with {host}")]
    Handshake {
        /// The host.
        host: String,
        /// The cause.
        source: Box<russh::Error>,
    },
    /// A file of host keys exists and cannot be read. It could revoke the host's key.
    #[error("host keys in {} cannot be read", path.display())]
    KnownHostsUnreadable {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// No file vouches for the host's key. Trusting it unseen would send releases and secrets to
    /// whoever answers.
    #[error(
        "the host key of {host} is not known: it shows {shown}{}",
        recorded(known)
    )]
    HostKeyUnknown {
        /// The host.
        host: String,
        /// The key shown.
        shown: Box<ShownKey>,
        /// Keys of other types that are recorded for this host.
        known: Vec<KnownKey>,
    },
    /// The host shows another key than the recorded one: a new installation, or somebody between.
    #[error(
        "the host key of {host} has changed: it shows {shown}{}",
        recorded(known)
    )]
    HostKeyChanged {
        /// The host.
        host: String,
        /// The key shown.
        shown: Box<ShownKey>,
        /// The recorded keys of that type.
        known: Vec<KnownKey>,
    },
    /// The host shows a key that is marked `@revoked`.
    #[error(
        "the host key of {host} is revoked{}",
        recorded(std::slice::from_ref(key))
    )]
    HostKeyRevoked {
        /// The host.
        host: String,
        /// The revoked key and where it says so.
        key: KnownKey,
    },
    /// There is no private key to log in with.
    #[error("there is no key to log in to {host} as {user}{}", attempts(skipped))]
    NoUsableKey {
        /// The host.
        host: String,
        /// The remote user.
        user: String,
        /// What was found, and why it cannot be used.
        skipped: Vec<KeyAttempt>,
    },
    /// The server accepts none of the keys.
    #[error("{host} refuses to log in {user}{}", attempts(tried))]
    AuthRefused {
        /// The host.
        host: String,
        /// The remote user.
        user: String,
        /// The keys it was offered, and those that could not be offered.
        tried: Vec<KeyAttempt>,
    },
    /// The base folder cannot be made or written.
    #[error("base folder {base} on {host} cannot be written: {stderr}")]
    BaseUnwritable {
        /// The host.
        host: String,
        /// The base folder.
        base: String,
        /// What the host says.
        stderr: String,
    },
    /// No room for the helper.
    #[error("no space is left below {base} on {host}: {stderr}")]
    DiskFull {
        /// The host.
        host: String,
        /// The base folder.
        base: String,
        /// What the host says.
        stderr: String,
    },
    /// The host cannot check what it received.
    #[error("{host} has no program `sha256sum`")]
    NoSha256sum {
        /// The host.
        host: String,
    },
    /// The helper arrived with other bytes than it was sent with.
    #[error("the host helper did not arrive intact on {host}")]
    UploadDamaged {
        /// The host.
        host: String,
    },
    /// The helper is made for another machine.
    #[error("the host helper is built for {helper}, {host} is {machine}")]
    WrongArchitecture {
        /// The host.
        host: String,
        /// What the host says it is: system and machine of `uname`.
        machine: String,
        /// What the helper is built for.
        helper: String,
    },
    /// The helper lies intact on the host and does not start.
    #[error("the host helper does not run on {host} ({exit}): {output}")]
    HelperDoesNotRun {
        /// The host.
        host: String,
        /// How it ended.
        exit: super::Exit,
        /// What it or the shell printed.
        output: String,
    },
    /// The login shell did not run the bootstrap script.
    #[error("the login shell of {host} runs no commands ({exit}): {output}")]
    ShellRefuses {
        /// The host.
        host: String,
        /// How it ended.
        exit: super::Exit,
        /// What it printed.
        output: String,
    },
    /// The login shell printed more than anybody skips.
    #[error("the login shell of {host} prints without end: {text}")]
    ShellNoise {
        /// The host.
        host: String,
        /// Its beginning.
        text: String,
    },
    /// Nothing happened for too long.
    #[error("{host} made no progress for {} s: {doing}{}", limit.as_secs_f32(), printed(output))]
    Stalled {
        /// The host.
        host: String,
        /// What was being done.
        doing: &'static str,
        /// The time waited.
        limit: Duration,
        /// What the host printed so far.
        output: String,
    },
    /// The connection ended in the middle.
    #[error("the connection to {host} was lost while {doing}{}", printed(detail))]
    Closed {
        /// The host.
        host: String,
        /// What was being done.
        doing: &'static str,
        /// What is known about the reason.
        detail: String,
    },
    /// A file operation on this machine failed.
    #[error("{} cannot be {doing}", path.display())]
    Io {
        /// What was attempted, as a participle.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

impl TransportError {
    /// Returns what to do next, as one or two sentences for the person at the terminal.
    pub fn hint(&self) -> String {
        match self {
            Self::InvalidTarget { what, .. } => format!("correct the {what} in the configuration"),
            Self::HelperUnreadable { .. } => {
                "install `relstore-host` in the folder of the program `relstore`".into()
            }
            Self::Settings { host, .. } => format!("run `ssh -G {host}` and correct what it reports"),
            Self::UnsupportedSetting { setting, .. } => format!(
                "remove `{setting}` for this host from the SSH configuration, or deploy from a \
                 machine that reaches the host directly"
            ),
            Self::Resolve { name, .. } => format!("check the spelling of {name} and the name server"),
            Self::Connect { source, .. } if source.kind() == io::ErrorKind::ConnectionRefused => {
                "the machine answers, but no SSH server listens there: check the port and sshd".into()
            }
            Self::Connect { .. } => {
                "check that the machine is up and that no firewall is between".into()
            }
            Self::Handshake { source, .. } => handshake_hint(source),
            Self::KnownHostsUnreadable { .. } => "make the file readable, or remove it".into(),
            Self::HostKeyUnknown { shown, .. } => format!(
                "compare the fingerprint with `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` on \
                 the host's console; if it is the same, record the key with {}",
                keyscan(&shown.name)
            ),
            Self::HostKeyChanged { shown, known, .. } => changed_hint(&shown.name, known),
            Self::HostKeyRevoked { .. } => {
                "give the host a new key, and find out why this one was revoked before that".into()
            }
            Self::NoUsableKey { .. } => {
                "name a key in the configuration (`identity_file`), or load one into the agent with \
                 `ssh-add`"
                    .into()
            }
            Self::AuthRefused { user, .. } => format!(
                "put the public half of one of these keys into ~{user}/.ssh/authorized_keys on the \
                 host, or load the right key with `ssh-add`"
            ),
            Self::BaseUnwritable { base, .. } => format!(
                "create {base} on the host and give it to the user that deploys; that user needs \
                 no other rights"
            ),
            Self::DiskFull { .. } => "free space or inodes on the host; `df -h` and `df -i` show both".into(),
            Self::NoSha256sum { .. } => "install coreutils or busybox on the host".into(),
            Self::UploadDamaged { .. } => "try again; if it persists, check the host's disk".into(),
            Self::WrongArchitecture { machine, .. } => {
                format!("install a `relstore-host` built for {machine} beside the program")
            }
            Self::HelperDoesNotRun { exit, .. } if exit.code == Some(126) => {
                "check that the file system of the base folder is not mounted `noexec` (`findmnt -T`)"
                    .into()
            }
            Self::HelperDoesNotRun { .. } => {
                "run the helper by hand on the host; it must be a static program".into()
            }
            Self::ShellRefuses { .. } => {
                "give the user a login shell that runs commands (`chsh`), and check `command=` in its \
                 authorized_keys"
                    .into()
            }
            Self::ShellNoise { .. } => {
                "make the shell's start files print only when the shell is interactive".into()
            }
            Self::Stalled { .. } => {
                "check the load of the host and whether its shell's start files wait for input".into()
            }
            Self::Closed { .. } => {
                "check the network and sshd's log on the host, then run the command again".into()
            }
            Self::Io { .. } => "check owner, mode and free space of that path".into(),
        }
    }
}

fn changed_hint(name: &str, known: &[KnownKey]) -> String {
    let files: Vec<String> = known
        .iter()
        .map(|key| format!("`ssh-keygen -R '{name}' -f {}`", key.file.display()))
        .collect();
    format!(
        "do not go on before the host's operator confirms the new fingerprint; then remove the old \
         key with {} and record the new one with {}",
        files.first().map_or("ssh-keygen -R", String::as_str),
        keyscan(name)
    )
}

/// Returns the command that prints the host keys of a known_hosts name.
fn keyscan(name: &str) -> String {
    let split = name
        .strip_prefix('[')
        .and_then(|rest| rest.rsplit_once("]:"));
    match split {
        Some((host, port)) => format!("`ssh-keyscan -p {port} {host}`"),
        None => format!("`ssh-keyscan {name}`"),
    }
}

fn handshake_hint(source: &russh::Error) -> String {
    match source {
        russh::Error::NoCommonAlgo { .. } => {
            "the server is too old or offers only RSA host keys: `ssh-keygen -A` on the host makes \
             an Ed25519 one"
        }
        russh::Error::Version => "another service answers on this port: check the port",
        _ => "see sshd's log on the host; it may limit connections (MaxStartups) or ban addresses",
    }
    .into()
}

fn recorded(known: &[KnownKey]) -> String {
    let keys: Vec<String> = known
        .iter()
        .map(|key| {
            let (file, line) = (key.file.display(), key.line);
            format!(
                "{} {} in {file} line {line}",
                key.algorithm, key.fingerprint
            )
        })
        .collect();
    if keys.is_empty() {
        String::new()
    } else {
        format!("; recorded is {}", keys.join(", "))
    }
}

fn attempts(list: &[KeyAttempt]) -> String {
    let lines: Vec<String> = list.iter().map(ToString::to_string).collect();
    if lines.is_empty() {
        String::new()
    } else {
        format!("; keys: {}", lines.join(", "))
    }
}

fn printed(text: &str) -> String {
    if text.is_empty() {
        String::new()
    } else {
        format!(": {text}")
    }
}
