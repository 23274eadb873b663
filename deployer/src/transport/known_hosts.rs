//! Files of host keys: what they say about the key a host shows.
//!
//! ```text
//! [@revoked|@cert-authority] <patterns> <type> <base64> [comment]
//! patterns   name,[name]:port,*.example.com,!not.this   or   |1|<salt>|<hmac-sha1 of the name>
//! ```
//! Keys are compared as text: a key has exactly one such form, and a type unknown here can then
//! still be listed and revoked. Lines that are no entries are passed over, as OpenSSH does: they
//! can only make a host unknown. Certificate authorities are not consulted.

use std::io;
use std::path::{Path, PathBuf};

use hmac::{Hmac, KeyInit, Mac};
use russh::keys::ssh_key::known_hosts::HostPatterns;
use russh::keys::{HashAlg, PublicKey};
use sha1::Sha1;

use super::TransportError;

/// A recorded host key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownKey {
    /// `ssh-ed25519` and the like.
    pub algorithm: String,
    /// `SHA256:...`, or `unreadable`.
    pub fingerprint: String,
    /// The file that records it.
    pub file: PathBuf,
    /// The line in that file, from 1.
    pub line: usize,
}

/// The names a host is recorded under.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HostNames {
    /// The name to look up: `host`, `[host]:port` or an alias, in lower case.
    pub(super) name: String,
    /// The name without port. A key recorded so is accepted on any port, but never missed there.
    pub(super) portless: Option<String>,
}

impl HostNames {
    /// Returns the names of `host` on `port`, or of `alias` where the configuration sets one.
    pub(super) fn new(host: &str, port: u16, alias: Option<&str>) -> Self {
        let host = host.to_ascii_lowercase();
        match alias {
            Some(alias) => Self {
                name: alias.to_ascii_lowercase(),
                portless: None,
            },
            None if port == 22 => Self {
                name: host,
                portless: None,
            },
            None => Self {
                name: format!("[{host}]:{port}"),
                portless: Some(host),
            },
        }
    }
}

/// What the files say about a key.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The key is recorded for the host.
    Known,
    /// No key of this type is recorded; these of other types are.
    Unknown(Vec<KnownKey>),
    /// Other keys of this type are recorded.
    Changed(Vec<KnownKey>),
    /// The key is revoked for the host.
    Revoked(KnownKey),
}

/// The entries of all files, in order.
#[derive(Debug, Default)]
pub(super) struct KnownHosts {
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    revoked: bool,
    patterns: Patterns,
    algorithm: String,
    base64: String,
    file: PathBuf,
    line: usize,
}

#[derive(Debug)]
enum Patterns {
    List(Vec<String>),
    Hashed { salt: Vec<u8>, hash: Vec<u8> },
}

impl KnownHosts {
    /// Reads `files`; those that do not exist say nothing.
    pub(super) fn read(files: &[PathBuf]) -> Result<Self, TransportError> {
        let mut all = Self::default();
        for path in files {
            match std::fs::read(path) {
                Ok(bytes) => all.add(&String::from_utf8_lossy(&bytes), path),
                Err(error) if absent(&error) => {}
                Err(source) => {
                    let path = path.clone();
                    return Err(TransportError::KnownHostsUnreadable { path, source });
                }
            }
        }
        Ok(all)
    }

    /// Appends the entries of `text`, the content of `file`.
    fn add(&mut self, text: &str, file: &Path) {
        let lines = text.lines().enumerate();
        self.entries.extend(lines.filter_map(|(index, line)| {
            let mut fields = line.split_ascii_whitespace().peekable();
            let revoked = match *fields.peek()? {
                "@revoked" => {
                    fields.next();
                    true
                }
                first if first.starts_with(['@', '#']) => return None,
                _ => false,
            };
            Some(Entry {
                revoked,
                patterns: Patterns::parse(fields.next()?)?,
                algorithm: fields.next()?.to_owned(),
                base64: fields.next()?.to_owned(),
                file: file.to_owned(),
                line: index + 1,
            })
        }));
    }

    /// Returns what is known about `key` as the key of `names`.
    pub(super) fn check(&self, names: &HostNames, key: &PublicKey) -> Verdict {
        let Ok(shown) = key.to_openssh() else {
            return Verdict::Unknown(Vec::new());
        };
        let mut shown = shown.split_ascii_whitespace();
        let (algorithm, base64) = (shown.next().unwrap_or(""), shown.next().unwrap_or(""));
        let same = |entry: &&Entry| entry.algorithm == algorithm && entry.base64 == base64;

        let all = [Some(&names.name), names.portless.as_ref()];
        let revoked = |entry: &&Entry| {
            entry.revoked
                && all
                    .iter()
                    .flatten()
                    .any(|name| entry.patterns.matches(name))
        };
        if let Some(entry) = self.entries.iter().filter(revoked).find(same) {
            return Verdict::Revoked(entry.key());
        }
        let trusted = self.trusted(&names.name);
        if trusted.iter().any(same) {
            return Verdict::Known;
        }
        if trusted.is_empty()
            && let Some(portless) = &names.portless
            && self.trusted(portless).iter().any(same)
        {
            return Verdict::Known;
        }
        let (same_type, others): (Vec<&Entry>, Vec<&Entry>) = trusted
            .into_iter()
            .partition(|entry| entry.algorithm == algorithm);
        let keys = |entries: Vec<&Entry>| entries.into_iter().map(Entry::key).collect();
        if same_type.is_empty() {
            Verdict::Unknown(keys(others))
        } else {
            Verdict::Changed(keys(same_type))
        }
    }

    /// Returns the types of the keys recorded for `names`: the server must be asked for one of
    /// these, or it shows another key than the recorded one.
    pub(super) fn algorithms(&self, names: &HostNames) -> Vec<&str> {
        let all = [Some(&names.name), names.portless.as_ref()];
        let entries = all
            .into_iter()
            .flatten()
            .flat_map(|name| self.trusted(name));
        entries.map(|entry| entry.algorithm.as_str()).collect()
    }

    fn trusted(&self, name: &str) -> Vec<&Entry> {
        let matching = |entry: &&Entry| !entry.revoked && entry.patterns.matches(name);
        self.entries.iter().filter(matching).collect()
    }
}

impl Entry {
    fn key(&self) -> KnownKey {
        let parsed = PublicKey::from_openssh(&format!("{} {}", self.algorithm, self.base64));
        KnownKey {
            algorithm: self.algorithm.clone(),
            fingerprint: parsed.map_or_else(|_| "unreadable".into(), |key| fingerprint(&key)),
            file: self.file.clone(),
            line: self.line,
        }
    }
}

impl Patterns {
    fn parse(text: &str) -> Option<Self> {
        if !text.starts_with('|') {
            let list = text.split(',').map(str::to_ascii_lowercase);
            return Some(Self::List(list.collect()));
        }
        match text.parse::<HostPatterns>().ok()? {
            HostPatterns::HashedName { salt, hash } => Some(Self::Hashed {
                salt,
                hash: hash.to_vec(),
            }),
            HostPatterns::Patterns(_) => None,
        }
    }

    fn matches(&self, name: &str) -> bool {
        match self {
            Self::List(list) => {
                let (mut found, bytes) = (false, name.as_bytes());
                for pattern in list {
                    match pattern.strip_prefix('!') {
                        Some(negated) if glob(negated.as_bytes(), bytes) => return false,
                        Some(_) => {}
                        None => found |= glob(pattern.as_bytes(), bytes),
                    }
                }
                found
            }
            Self::Hashed { salt, hash } => Hmac::<Sha1>::new_from_slice(salt)
                .is_ok_and(|mac| mac.chain_update(name).verify_slice(hash).is_ok()),
        }
    }
}

/// Returns `SHA256:...` of a public key, as `ssh-keygen -l` prints it.
pub(super) fn fingerprint(key: &PublicKey) -> String {
    key.fingerprint(HashAlg::Sha256).to_string()
}

/// Returns whether `name` matches `pattern`, in which `*` stands for any bytes and `?` for one.
fn glob(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    // Where to go on when a later byte does not match: behind the last star, one byte further.
    let mut retry = None;
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                retry = Some((p + 1, n + 1));
                p += 1;
            }
            Some(&byte) if byte == b'?' || byte == name[n] => {
                p += 1;
                n += 1;
            }
            _ => match retry {
                Some((star, next)) => {
                    (p, n) = (star, next);
                    retry = Some((star, next + 1));
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

/// A path below a file is as absent as a missing one.
fn absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

#[cfg(test)]
#[path = "known_hosts_tests.rs"]
mod tests;
