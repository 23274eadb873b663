//! The key of `[signing]`: a private key read from its file, or one that ssh-agent has, asked by
//! ssh-keygen (docs/decisions/0015-ssh-signatures.md).

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use async_trait::async_trait;
use relstore_store::Store;
use relstore_store::allowed_signers::AllowedSigners;
use relstore_store::id::ReleaseId;
use relstore_store::revoked::RevokedKeys;
use relstore_store::signature::{
    Fingerprint, KeySigner, Namespace, SignError, Signature, Signer, checked, fingerprint_of,
};
use relstore_store::trust::{TrustError, check_release};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::config::Config;
use crate::config::remote::Remote;
use crate::context::Context;
use crate::error::{CommandError, Result};

/// Who signs, when the configuration names a key. Asks nothing of the key yet.
pub(crate) fn signer(context: &Context, config: &Config) -> Result<Option<Arc<dyn Signer>>> {
    let Some(path) = &config.signing.key else {
        return Ok(None);
    };
    let text = read(path, "the signing key")?;
    let refused = |error: SignError| {
        let message = format!("cannot sign with {}", path.display());
        let command_error = CommandError::bad_input(message).caused_by(&error);
        match error.hint() {
            Some(hint) => command_error.hint(hint),
            None => command_error,
        }
    };
    if path.extension().is_none_or(|extension| extension != "pub") {
        let signer = KeySigner::parse(&text).map_err(refused)?;
        return Ok(Some(Arc::new(signer)));
    }
    if context.variables.get("SSH_AUTH_SOCK").is_none() {
        let message = format!("no agent can sign with {}", path.display());
        return Err(CommandError::bad_input(message)
            .cause("SSH_AUTH_SOCK is not set")
            .hint("`eval $(ssh-agent)`, then `ssh-add`; or name the private key"));
    }
    Ok(Some(Arc::new(AgentSigner {
        public_key: path.clone(),
        fingerprint: fingerprint_of(&text).map_err(refused)?,
    })))
}

/// Whose signatures count; nobody's when the configuration does not say.
pub(crate) fn allowed_signers(config: Option<&Config>) -> Result<AllowedSigners> {
    match config.and_then(|config| Some((config, config.signing.allowed_signers.as_ref()?))) {
        Some((config, path)) => allowed(config, path, "the allowed signers"),
        None => Ok(AllowedSigners::default()),
    }
}

/// Whose derivations are used; `None` when the configuration does not say.
pub(crate) fn trusted_builders(config: &Config) -> Result<Option<AllowedSigners>> {
    let path = config.build.trusted_builders.as_ref();
    path.map(|path| allowed(config, path, "the trusted builders"))
        .transpose()
}

fn allowed(config: &Config, path: &Path, what: &str) -> Result<AllowedSigners> {
    let parsed = AllowedSigners::parse(&read(path, what)?);
    let allowed = parsed.map_err(|error| mistake(path, &error))?;
    let Some(path) = &config.signing.revoked else {
        return Ok(allowed);
    };
    let bytes =
        std::fs::read(path).map_err(|error| unreadable(path, "the revoked keys", &error))?;
    let revoked = RevokedKeys::parse(&bytes).map_err(|error| mistake(path, &error))?;
    Ok(allowed.without(revoked))
}

fn mistake(path: &Path, error: &dyn std::error::Error) -> CommandError {
    CommandError::bad_input(format!("{} has a mistake", path.display())).caused_by(error)
}

fn unreadable(path: &Path, what: &str, error: &std::io::Error) -> CommandError {
    CommandError::bad_input(format!("cannot read {what} {}", path.display())).caused_by(error)
}

fn read(path: &Path, what: &str) -> Result<String> {
    std::fs::read_to_string(path).map_err(|error| unreadable(path, what, &error))
}

/// Refuses a release of a store from which only signed ones are taken.
pub(crate) async fn require(
    context: &Context,
    config: Option<&Config>,
    remote: &Remote,
    store: &Store,
    release: &ReleaseId,
) -> Result<()> {
    if !remote.require_signatures {
        return Ok(());
    }
    let signers = allowed_signers(config)?;
    let judged = check_release(store, release, &signers, context.now()).await;
    let error = match judged {
        Ok(_) => return Ok(()),
        Err(TrustError::Store(error)) => return Err(error.into()),
        Err(error) => error,
    };
    let message = format!("{} is not taken from {}", release.short(), remote.name);
    let refused = CommandError::bad_input(message).caused_by(&error);
    Err(match error.hint() {
        Some(hint) => refused.hint(hint),
        None => refused,
    })
}

/// A key of which only the agent has the private half.
#[derive(Debug)]
struct AgentSigner {
    public_key: PathBuf,
    fingerprint: Fingerprint,
}

#[async_trait]
impl Signer for AgentSigner {
    fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    async fn sign(
        &self,
        namespace: Namespace,
        bytes: &[u8],
    ) -> std::result::Result<Signature, SignError> {
        let refused = |said: String| SignError::Refused {
            fingerprint: self.fingerprint,
            said,
        };
        let (success, stdout, stderr) = self
            .ssh_keygen(namespace, bytes)
            .await
            .map_err(|error| refused(format!("ssh-keygen cannot be run: {error}")))?;
        if !success {
            let said = stderr.lines().map(str::trim).collect::<Vec<_>>().join(", ");
            return Err(refused(said));
        }
        checked(&stdout, self.fingerprint, namespace, bytes)
    }
}

impl AgentSigner {
    /// Whether it ended with success, and what it wrote. It reads the content from stdin.
    async fn ssh_keygen(
        &self,
        namespace: Namespace,
        bytes: &[u8],
    ) -> std::io::Result<(bool, String, String)> {
        let mut child = Command::new("ssh-keygen")
            .args(["-Y", "sign", "-q", "-U", "-n", namespace.as_str(), "-f"])
            .arg(&self.public_key)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let stdin = child.stdin.take();
        let written = async {
            if let Some(mut stdin) = stdin {
                // One that does not read has failed already, and says why.
                let _ = stdin.write_all(bytes).await;
            }
        };
        let (output, ()) = tokio::join!(child.wait_with_output(), written);
        let output = output?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok((
            output.status.success(),
            text(&output.stdout),
            text(&output.stderr),
        ))
    }
}
