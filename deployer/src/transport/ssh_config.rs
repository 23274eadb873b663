//! Settings of a host: what the project configures, then what `ssh -G` says, then SSH's defaults.
//!
//! OpenSSH evaluates its own configuration (`Host`, `Match`, `Include`, tokens); this module reads
//! the outcome. A setting that would lead elsewhere or check more than this transport does is
//! refused rather than dropped.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::Command;

use super::known_hosts::HostNames;
use super::target::{checked_host, checked_user};
use super::{Caller, SshTarget, TransportError};

/// Settings that this transport cannot honour, with the values that switch them off.
const UNSUPPORTED: [(&str, &[&str]); 4] = [
    ("proxyjump", &["none"]),
    ("proxycommand", &["none"]),
    ("revokedhostkeys", &["none"]),
    ("knownhostscommand", &["none"]),
];

/// Key files that are tried when none is configured.
const DEFAULT_KEYS: [&str; 2] = ["~/.ssh/id_ed25519", "~/.ssh/id_ecdsa"];
const DEFAULT_KNOWN_HOSTS: [&str; 2] = ["~/.ssh/known_hosts", "~/.ssh/known_hosts2"];
const GLOBAL_KNOWN_HOSTS: [&str; 2] = ["/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2"];

/// All that decides where a connection goes, whom it trusts and what it offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Settings {
    /// The host as configured, for messages.
    pub(super) label: String,
    /// Name or address to connect to.
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) user: String,
    /// Private key files in the order to try.
    pub(super) identities: Vec<PathBuf>,
    /// Agent keys are limited to those of `identities`.
    pub(super) identities_only: bool,
    /// Key files that are configured, not defaults: their absence is worth a word.
    pub(super) configured_identities: bool,
    pub(super) agent: Option<PathBuf>,
    pub(super) known_hosts: Vec<PathBuf>,
    pub(super) names: HostNames,
}

/// What `ssh -G` printed, as far as it matters here.
#[derive(Debug, Default, PartialEq, Eq)]
struct Dump {
    hostname: Option<String>,
    port: Option<u16>,
    user: Option<String>,
    identity_files: Vec<String>,
    identities_only: bool,
    identity_agent: Option<String>,
    user_known_hosts: Option<Vec<String>>,
    global_known_hosts: Option<Vec<String>>,
    alias: Option<String>,
    unsupported: Option<(&'static str, String)>,
}

/// Determines the settings of `target`; runs `ssh -G` where ssh is installed.
pub(super) async fn resolve(
    target: &SshTarget,
    caller: &Caller,
) -> Result<Settings, TransportError> {
    target.check()?;
    let dump = match dump(target, caller).await? {
        Some(text) => parse(&text),
        None => Dump::default(),
    };
    settings(target, caller, dump)
}

/// Returns the output of `ssh -G`, or `None` when there is neither ssh nor anything it would read.
async fn dump(target: &SshTarget, caller: &Caller) -> Result<Option<String>, TransportError> {
    let failed = |detail: String| TransportError::Settings {
        host: target.to_string(),
        detail,
    };
    let mut command = Command::new(&caller.ssh_program);
    if let Some(file) = &caller.ssh_config {
        command.arg("-F").arg(file);
    }
    // User and port are passed on because `Match` blocks may depend on them.
    if let Some(user) = &target.user {
        command.args(["-l", user]);
    }
    if let Some(port) = target.port {
        command.arg("-p").arg(port.to_string());
    }
    command.args(["-T", "-G", "--", &target.host]);
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output = match tokio::time::timeout(caller.limits.connect, command.output()).await {
        Ok(Ok(output)) => output,
        Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => {
            return without_ssh(target, caller).map_err(failed);
        }
        Ok(Err(error)) => return Err(failed(error.to_string())),
        Err(_) => return Err(failed("`ssh -G` does not end".into())),
    };
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        return Err(failed(stderr.trim().to_owned()));
    }
    Ok(Some(String::from_utf8_lossy(&output.stdout).into_owned()))
}

/// Without ssh its configuration cannot be evaluated. That is fine when there is none, or when
/// the target leaves nothing open.
fn without_ssh(target: &SshTarget, caller: &Caller) -> Result<Option<String>, String> {
    let complete = target.user.is_some()
        && target.port.is_some()
        && target.identity_file.is_some()
        && target.known_hosts.is_some();
    let own = caller.home.as_ref().map(|home| home.join(".ssh/config"));
    let file = caller
        .ssh_config
        .clone()
        .or(own)
        .filter(|file| file.exists());
    match file {
        Some(file) if !complete => Err(format!(
            "{} exists, but there is no program `ssh` to evaluate it; install openssh-client, or \
             configure user, port, identity_file and known_hosts of the host",
            file.display()
        )),
        _ => Ok(None),
    }
}

fn parse(text: &str) -> Dump {
    let mut dump = Dump::default();
    let words = |value: &str| value.split_ascii_whitespace().map(str::to_owned).collect();
    for line in text.lines() {
        let Some((key, value)) = line.trim().split_once(' ') else {
            continue;
        };
        let key = key.to_ascii_lowercase();
        match key.as_str() {
            "hostname" => dump.hostname = Some(value.to_owned()),
            "port" => dump.port = value.parse().ok(),
            "user" => dump.user = Some(value.to_owned()),
            "identityfile" => dump.identity_files.push(value.to_owned()),
            "identitiesonly" => dump.identities_only = value == "yes",
            "identityagent" => dump.identity_agent = Some(value.to_owned()),
            "userknownhostsfile" => dump.user_known_hosts = Some(words(value)),
            "globalknownhostsfile" => dump.global_known_hosts = Some(words(value)),
            "hostkeyalias" => dump.alias = Some(value.to_owned()),
            _ => {
                let setting = UNSUPPORTED.iter().find(|(name, _)| *name == key);
                if let Some((name, off)) = setting
                    && !off.contains(&value)
                {
                    dump.unsupported = Some((name, value.to_owned()));
                }
            }
        }
    }
    dump
}

fn settings(target: &SshTarget, caller: &Caller, dump: Dump) -> Result<Settings, TransportError> {
    let label = target.to_string();
    if let Some((setting, value)) = dump.unsupported {
        return Err(TransportError::UnsupportedSetting {
            host: label,
            setting,
            value,
        });
    }
    let host = dump.hostname.unwrap_or_else(|| target.host.clone());
    checked_host(&host)?;
    let port = target.port.or(dump.port).unwrap_or(22);
    let user = target
        .user
        .clone()
        .or(dump.user)
        .or_else(|| caller.user.clone());
    let user = user.unwrap_or_default();
    checked_user(&user)?;

    let tokens = Tokens {
        home: caller.home.as_deref(),
        local_user: caller.user.as_deref(),
        original: &target.host,
        host: &host,
        port,
        user: &user,
    };
    let paths = |list: &[String]| -> Vec<PathBuf> {
        let known = list.iter().filter(|path| *path != "none");
        known.filter_map(|path| tokens.expand(path)).collect()
    };
    let owned = |list: &[&str]| list.iter().map(|path| (*path).to_owned()).collect();

    let known_hosts = match &target.known_hosts {
        Some(file) => vec![tokens.home_of(file)],
        None => {
            let own = dump
                .user_known_hosts
                .unwrap_or_else(|| owned(&DEFAULT_KNOWN_HOSTS));
            let global = dump
                .global_known_hosts
                .unwrap_or_else(|| owned(&GLOBAL_KNOWN_HOSTS));
            [paths(&own), paths(&global)].concat()
        }
    };
    // ssh prints its defaults as if they were configured; only a list of its own says more.
    let configured = dump
        .identity_files
        .iter()
        .any(|path| !path.starts_with("~/.ssh/id_"));
    let (identities, identities_only, configured_identities) = match &target.identity_file {
        Some(file) => (vec![tokens.home_of(file)], true, true),
        None if dump.identity_files.is_empty() => (paths(&owned(&DEFAULT_KEYS)), false, false),
        None => (
            paths(&dump.identity_files),
            dump.identities_only,
            configured,
        ),
    };
    let agent = match dump.identity_agent.as_deref() {
        Some("none") => None,
        None | Some("SSH_AUTH_SOCK") => caller.agent_socket.clone(),
        Some(path) => tokens.expand(path),
    };
    Ok(Settings {
        names: HostNames::new(&host, port, dump.alias.as_deref()),
        label,
        host,
        port,
        user,
        identities,
        identities_only,
        configured_identities,
        agent,
        known_hosts,
    })
}

/// The values behind `~` and `%x` in paths.
struct Tokens<'a> {
    home: Option<&'a Path>,
    local_user: Option<&'a str>,
    original: &'a str,
    host: &'a str,
    port: u16,
    user: &'a str,
}

impl Tokens<'_> {
    /// Returns the path with `~/` and tokens replaced; `None` when a value is missing or a token
    /// is not one of ssh_config(5) for paths.
    fn expand(&self, text: &str) -> Option<PathBuf> {
        let mut out = String::new();
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            if c != '%' {
                out.push(c);
                continue;
            }
            match chars.next()? {
                '%' => out.push('%'),
                'd' => out.push_str(self.home?.to_str()?),
                'h' => out.push_str(self.host),
                'n' => out.push_str(self.original),
                'p' => out.push_str(&self.port.to_string()),
                'r' => out.push_str(self.user),
                'u' => out.push_str(self.local_user?),
                _ => return None,
            }
        }
        match out.strip_prefix("~/") {
            Some(rest) => Some(self.home?.join(rest)),
            None => Some(PathBuf::from(out)),
        }
    }

    fn home_of(&self, path: &Path) -> PathBuf {
        match (path.strip_prefix("~"), self.home) {
            (Ok(rest), Some(home)) => home.join(rest),
            _ => path.to_owned(),
        }
    }
}

#[cfg(test)]
#[path = "ssh_config_tests.rs"]
mod tests;
