//! Logging in with a key: from the agent or from a file.
//!
//! Order, as OpenSSH has it: agent keys that belong to the identity files, the agent's other keys
//! unless `IdentitiesOnly` is set, then the files themselves. Servers close the connection after
//! a few failures, so no key is offered twice. Each key that was considered ends in the error
//! with its origin, its fingerprint and what became of it.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use russh::client::{AuthResult, Handle};
use russh::keys::agent::AgentIdentity;
use russh::keys::agent::client::AgentClient;
use russh::keys::{Algorithm, Certificate, HashAlg, PrivateKey, PrivateKeyWithHashAlg, PublicKey};
use tokio::net::UnixStream;

use super::known_hosts::fingerprint;
use super::ssh::HostKeyCheck;
use super::ssh_config::Settings;
use super::{KeyAttempt, TransportError};

type Agent = AgentClient<UnixStream>;

/// Largest key file that is read, in bytes.
const MAX_KEY_FILE: u64 = 64 << 10;

/// An identity file and what it holds.
struct Identity {
    path: PathBuf,
    /// The public half, also of a key that is encrypted.
    public: Option<PublicKey>,
    /// The key, or why it cannot be used from the file.
    key: Result<PrivateKey, String>,
}

/// A key of the agent.
struct AgentKey {
    public: PublicKey,
    certificate: Option<Certificate>,
    comment: String,
}

/// Logs in. `limit` is the time for each answer of the server or the agent.
pub(super) async fn log_in(
    handle: &mut Handle<HostKeyCheck>,
    settings: &Settings,
    limit: Duration,
) -> Result<(), TransportError> {
    let mut login = Login {
        user: &settings.user,
        limit,
        notes: Vec::new(),
        offered: false,
    };
    let mut identities = read_identities(settings).await;
    if let Some(socket) = &settings.agent {
        let asked = tokio::time::timeout(limit, ask_agent(socket, handle)).await;
        match asked.unwrap_or_else(|_| Err("the agent does not answer".into())) {
            Ok((mut agent, mut keys)) => {
                let of_files = |key: &AgentKey| {
                    let same = |known: &PublicKey| known.key_data() == key.public.key_data();
                    identities
                        .iter()
                        .any(|file| file.public.as_ref().is_some_and(same))
                };
                keys.retain(|key| !settings.identities_only || of_files(key));
                keys.sort_by_key(|key| !of_files(key));
                for key in keys {
                    identities.retain(|file| {
                        let public = file.public.as_ref().map(PublicKey::key_data);
                        public != Some(key.public.key_data())
                    });
                    if login.with_agent(handle, &mut agent, key).await? {
                        return Ok(());
                    }
                    if handle.is_closed() {
                        return Err(login.refused(settings));
                    }
                }
            }
            Err(reason) => login.note(format!("agent {}", socket.display()), None, &reason),
        }
    }
    for file in identities {
        if login.with_file(handle, file).await? {
            return Ok(());
        }
        if handle.is_closed() {
            break;
        }
    }
    Err(login.refused(settings))
}

/// The course of one login.
struct Login<'a> {
    user: &'a str,
    limit: Duration,
    notes: Vec<KeyAttempt>,
    offered: bool,
}

impl Login<'_> {
    fn note(&mut self, origin: String, key: Option<&PublicKey>, outcome: &str) {
        self.notes.push(KeyAttempt {
            origin,
            fingerprint: key.map(fingerprint),
            outcome: outcome.to_owned(),
        });
    }

    /// Offers a key of the agent; returns whether the server took it.
    async fn with_agent(
        &mut self,
        handle: &mut Handle<HostKeyCheck>,
        agent: &mut Agent,
        key: AgentKey,
    ) -> Result<bool, TransportError> {
        self.offered = true;
        let user = self.user.to_owned();
        let rsa = key.public.algorithm().is_rsa();
        // SHA-1 signatures of RSA keys are refused everywhere by now.
        let hash = rsa.then_some(HashAlg::Sha512);
        let (origin, public) = (format!("agent: {}", key.comment), key.public.clone());
        let attempt = async {
            match key.certificate {
                Some(certificate) => {
                    handle
                        .authenticate_certificate_with(user, certificate, hash, agent)
                        .await
                }
                None => {
                    handle
                        .authenticate_publickey_with(user, key.public, hash, agent)
                        .await
                }
            }
        };
        let result = tokio::time::timeout(self.limit, attempt).await;
        let result = result.map(|answer| answer.map_err(|error| error.to_string()));
        Ok(self.judge(origin, &public, result))
    }

    /// Offers the key of a file; returns whether the server took it.
    async fn with_file(
        &mut self,
        handle: &mut Handle<HostKeyCheck>,
        file: Identity,
    ) -> Result<bool, TransportError> {
        let origin = file.path.display().to_string();
        let key = match file.key {
            Ok(key) => key,
            Err(reason) => {
                self.note(origin, file.public.as_ref(), &reason);
                return Ok(false);
            }
        };
        self.offered = true;
        let public = key.public_key().clone();
        let key = PrivateKeyWithHashAlg::new(Arc::new(key), None);
        let attempt = handle.authenticate_publickey(self.user, key);
        let result = tokio::time::timeout(self.limit, attempt).await;
        let result = result.map(|answer| answer.map_err(|error| error.to_string()));
        Ok(self.judge(origin, &public, result))
    }

    fn judge(
        &mut self,
        origin: String,
        key: &PublicKey,
        result: Result<Result<AuthResult, String>, tokio::time::error::Elapsed>,
    ) -> bool {
        let outcome = match result {
            Ok(Ok(AuthResult::Success)) => return true,
            Ok(Ok(AuthResult::Failure {
                partial_success: true,
                ..
            })) => "accepted, but the server wants a second kind of login".to_owned(),
            Ok(Ok(AuthResult::Failure { .. })) => "refused".to_owned(),
            Ok(Err(reason)) => reason,
            Err(_) => "no answer".to_owned(),
        };
        self.note(origin, Some(key), &outcome);
        false
    }

    fn refused(self, settings: &Settings) -> TransportError {
        let (host, user) = (settings.label.clone(), settings.user.clone());
        if self.offered {
            let tried = self.notes;
            TransportError::AuthRefused { host, user, tried }
        } else {
            let skipped = self.notes;
            TransportError::NoUsableKey {
                host,
                user,
                skipped,
            }
        }
    }
}

/// Connects to the agent and returns it with its keys.
async fn ask_agent(
    socket: &Path,
    handle: &Handle<HostKeyCheck>,
) -> Result<(Agent, Vec<AgentKey>), String> {
    let agent = Agent::connect_uds(socket).await;
    let mut agent = agent.map_err(|error| format!("cannot be reached: {error}"))?;
    if let Some(binding) = handle.agent_session_binding() {
        // Keys limited to certain hosts are shown only to a bound session; an agent that does not
        // know the request has no such keys.
        let _ = agent.bind_session(binding, false).await;
    }
    let keys = agent
        .request_identities()
        .await
        .map_err(|error| error.to_string())?;
    let keys = keys.into_iter().map(|identity| match identity {
        AgentIdentity::PublicKey { key, comment } => AgentKey {
            public: key,
            certificate: None,
            comment,
        },
        AgentIdentity::Certificate {
            certificate,
            comment,
        } => AgentKey {
            public: PublicKey::new(certificate.public_key().clone(), ""),
            certificate: Some(certificate),
            comment,
        },
    });
    Ok((agent, keys.collect()))
}

/// Reads the identity files on a blocking thread; default files that do not exist are left out.
async fn read_identities(settings: &Settings) -> Vec<Identity> {
    let paths = settings.identities.clone();
    let keep_absent = settings.configured_identities;
    let read = tokio::task::spawn_blocking(move || {
        let present = |path: &PathBuf| keep_absent || path.exists();
        paths
            .into_iter()
            .filter(present)
            .map(read_identity)
            .collect()
    });
    // The task is never aborted and reading does not panic.
    read.await.unwrap_or_default()
}

fn read_identity(path: PathBuf) -> Identity {
    let public_file = path.with_added_extension("pub");
    let mut public = russh::keys::load_public_key(public_file).ok();
    let key = read_key(&path, &mut public);
    Identity { path, public, key }
}

/// Returns the private key in `path`; sets `public` to its public half, which an encrypted file
/// shows too.
fn read_key(path: &Path, public: &mut Option<PublicKey>) -> Result<PrivateKey, String> {
    let metadata = std::fs::metadata(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => "does not exist".to_owned(),
        _ => error.to_string(),
    })?;
    if !metadata.is_file() || metadata.len() > MAX_KEY_FILE {
        return Err("is not a key file".into());
    }
    if metadata.uid() == rustix::process::getuid().as_raw() && metadata.mode() & 0o077 != 0 {
        return Err("others can read it; `chmod 600` it, or make a new key".into());
    }
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    let encrypted = "is encrypted; load it into the agent with `ssh-add`";
    if let Ok(key) = PrivateKey::from_openssh(&text) {
        *public = Some(key.public_key().clone());
        if key.is_encrypted() {
            return Err(encrypted.into());
        }
        return supported(key);
    }
    match russh::keys::decode_secret_key(&text, None) {
        Ok(key) => {
            *public = Some(key.public_key().clone());
            supported(key)
        }
        // Both PEM forms say so in their header.
        Err(_) if text.contains("ENCRYPTED") => Err(encrypted.into()),
        Err(_) if text.contains("BEGIN RSA PRIVATE KEY") => Err(RSA.into()),
        // The cause is not shown: it may quote the file.
        Err(_) => Err("holds no private key in a known format".into()),
    }
}

const RSA: &str = "is an RSA key; load it into the agent with `ssh-add`, or make an Ed25519 key";

fn supported(key: PrivateKey) -> Result<PrivateKey, String> {
    match key.algorithm() {
        Algorithm::Ed25519 | Algorithm::Ecdsa { .. } => Ok(key),
        Algorithm::Rsa { .. } => Err(RSA.into()),
        other => Err(format!(
            "is of type {other}; load it into the agent with `ssh-add`"
        )),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::process::Command;

    fn made(folder: &Path, args: &[&str]) -> PathBuf {
        let path = folder.join("key");
        let mut command = Command::new("ssh-keygen");
        command
            .args(["-q", "-C", "me@here", "-f"])
            .arg(&path)
            .args(args);
        let status = command.status();
        let status = status.expect("ssh-keygen of the package openssh-client is needed");
        assert!(status.success());
        path
    }

    #[test]
    fn plain_keys_are_read_and_others_say_what_to_do() {
        for (args, expected) in [
            (&["-t", "ed25519", "-N", ""][..], None),
            (&["-t", "ecdsa", "-N", ""], None),
            (&["-t", "ecdsa", "-b", "384", "-N", "", "-m", "PKCS8"], None),
            (&["-t", "ed25519", "-N", "secret"], Some("ssh-add")),
            (
                &["-t", "ecdsa", "-N", "secret", "-m", "PKCS8"],
                Some("ssh-add"),
            ),
            (&["-t", "rsa", "-b", "2048", "-N", ""], Some("RSA key")),
            (
                &["-t", "rsa", "-b", "2048", "-N", "", "-m", "PEM"],
                Some("RSA key"),
            ),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let identity = read_identity(made(folder.path(), args));
            assert!(identity.public.is_some(), "{args:?}");
            match (identity.key, expected) {
                (Ok(_), None) => {}
                (Err(reason), Some(word)) => assert!(reason.contains(word), "{args:?}: {reason}"),
                (other, _) => panic!("{args:?}: {:?}", other.map(|_| ())),
            }
        }
    }

    #[test]
    fn files_that_others_read_or_that_hold_no_key_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let reason = |path: &Path| read_key(path, &mut None).map(|_| ()).unwrap_err();
        let path = made(folder.path(), &["-t", "ed25519", "-N", ""]);
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).unwrap();
        assert!(reason(&path).contains("chmod 600"));
        assert_eq!(reason(&folder.path().join("none")), "does not exist");
        assert_eq!(reason(folder.path()), "is not a key file");
        let other = folder.path().join("other");
        std::fs::write(&other, "APP_KEY=sentinel\n").unwrap();
        std::fs::set_permissions(&other, PermissionsExt::from_mode(0o600)).unwrap();
        assert!(!reason(&other).contains("sentinel"));
    }
}
