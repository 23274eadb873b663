//! Who said it: detached SSH signatures (PROTOCOL.sshsig) over the exact bytes of a record or a
//! derivation. Pure; `ssh-keygen -Y verify` accepts them. Whose keys count is told by
//! [`crate::allowed_signers`].
//!
//! Each purpose has its own namespace, which is signed too: a signature over one kind of statement
//! is none over another, and nobody who lets a key log in somewhere signs a release by it.

use std::fmt;
use std::fmt::Write as _;
use std::sync::Arc;

use async_trait::async_trait;
use serde::{Serialize, Serializer};
use ssh_key::{Algorithm, HashAlg, LineEnding, PrivateKey, PublicKey, SshSig};

/// Longest text that is read as a signature; the largest real one (RSA, 8192 bits) has 3 kB.
const MAX_TEXT: usize = 16 * 1024;
const ARMOUR: &str = "-----BEGIN SSH SIGNATURE-----";

/// What a signature is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Namespace {
    /// A record: what is said about a release.
    Record,
    /// A derivation: what a build step made.
    Derivation,
}

impl Namespace {
    /// The text that is signed, and that `allowed_signers` names.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Record => "relstore-record@v1",
            Self::Derivation => "relstore-derivation@v1",
        }
    }
}

/// SHA-256 of a public key: how a key is named.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// The fingerprint of this key.
    #[must_use]
    pub fn of(key: &PublicKey) -> Self {
        // The other algorithm would have to be asked for.
        Self(key.fingerprint(HashAlg::Sha256).sha256().unwrap_or([0; 32]))
    }

    /// 64 lower-case hex digits, for names of objects: some file systems fold case.
    #[must_use]
    pub fn hex(&self) -> String {
        self.0.iter().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
    }
}

impl fmt::Display for Fingerprint {
    /// As ssh-keygen prints it: `SHA256:` and base64.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&ssh_key::Fingerprint::Sha256(self.0), f)
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

impl Serialize for Fingerprint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Why a text is no signature that can be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// Not the armoured text that `ssh-keygen -Y sign` writes.
    #[error("it is no SSH signature")]
    Format(#[source] ssh_key::Error),
    /// Longer than any signature.
    #[error("it is longer than an SSH signature can be")]
    TooLong,
    /// RSA with SHA-1, which can be forged.
    #[error("it is made with RSA and SHA-1, which is not safe")]
    Sha1,
}

/// A detached signature: the armoured text, and the key that it says made it. It says nothing yet
/// about who that is, nor whether it is right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    text: String,
    sshsig: SshSig,
}

impl Signature {
    /// Reads the text that `ssh-keygen -Y sign` writes.
    ///
    /// # Errors
    /// A [`SignatureError`].
    pub fn parse(text: &[u8]) -> Result<Self, SignatureError> {
        if text.len() > MAX_TEXT {
            return Err(SignatureError::TooLong);
        }
        let no_format = SignatureError::Format(ssh_key::Error::FormatEncoding);
        // The decoder would skip any bytes before the armour; ssh-keygen does not.
        let text = std::str::from_utf8(text)
            .ok()
            .filter(|text| text.starts_with(ARMOUR))
            .ok_or(no_format)?;
        let sshsig = SshSig::from_pem(text).map_err(SignatureError::Format)?;
        // PROTOCOL.sshsig forbids it; the library would take it.
        if sshsig.algorithm() == (Algorithm::Rsa { hash: None }) {
            return Err(SignatureError::Sha1);
        }
        Ok(Self {
            text: text.to_owned(),
            sshsig,
        })
    }

    /// The armoured text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The key that it is by.
    #[must_use]
    pub fn key(&self) -> PublicKey {
        self.sshsig.public_key().clone().into()
    }

    /// How that key is named.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.key())
    }

    /// Whether its key made it over these bytes for this purpose. Whose key that is, is another
    /// question: [`AllowedSigners::verify`](crate::allowed_signers::AllowedSigners::verify).
    #[must_use]
    pub fn matches(&self, namespace: Namespace, bytes: &[u8]) -> bool {
        self.key()
            .verify(namespace.as_str(), bytes, &self.sshsig)
            .is_ok()
    }

    /// The purpose that it was made for, as written; may be any text.
    #[must_use]
    pub fn namespace(&self) -> &str {
        self.sshsig.namespace()
    }
}

/// Why something was not signed.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// The text is no key.
    #[error("it is no SSH key")]
    Key(#[source] ssh_key::Error),
    /// The key needs a passphrase.
    #[error("the key has a passphrase")]
    Encrypted,
    /// A kind of key that cannot sign from a file.
    #[error("a key file of the kind {algorithm} cannot be used")]
    Kind {
        /// As in the first field of a public key.
        algorithm: String,
    },
    /// The key refused, or its agent did.
    #[error("the key {fingerprint} did not sign: {said}")]
    Refused {
        /// The key.
        fingerprint: Fingerprint,
        /// What was said, in one line.
        said: String,
    },
    /// What came back does not verify. It would be refused wherever it is asked for.
    #[error("the signature of the key {fingerprint} is not right")]
    Wrong {
        /// The key.
        fingerprint: Fingerprint,
    },
}

impl SignError {
    /// What to do next, when there is something to do.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Key(_) => Some("`ssh-keygen -t ed25519 -f FILE -N ''` makes one".into()),
            Self::Encrypted => {
                Some("`ssh-add FILE`, and name FILE.pub: then the agent signs".into())
            }
            Self::Kind { .. } => Some(
                "load it into ssh-agent and name its .pub file, or make one of kind ed25519".into(),
            ),
            Self::Refused { .. } => Some("`ssh-add -l` lists what the agent has".into()),
            Self::Wrong { .. } => None,
        }
    }
}

/// A private key, wherever it is kept.
#[async_trait]
pub trait Signer: fmt::Debug + Send + Sync {
    /// The name of its public key.
    fn fingerprint(&self) -> Fingerprint;

    /// Signs these bytes for this purpose. What it returns has been verified.
    async fn sign(&self, namespace: Namespace, bytes: &[u8]) -> Result<Signature, SignError>;
}

/// A private key in memory: ed25519 or ECDSA. The bytes are wiped when it is dropped.
#[derive(Clone)]
pub struct KeySigner(Arc<PrivateKey>);

impl KeySigner {
    /// Reads the text of a private key file (`-----BEGIN OPENSSH PRIVATE KEY-----`).
    ///
    /// # Errors
    /// [`SignError::Key`], [`SignError::Encrypted`], [`SignError::Kind`].
    pub fn parse(text: &str) -> Result<Self, SignError> {
        let key = PrivateKey::from_openssh(text.trim_start()).map_err(SignError::Key)?;
        if key.is_encrypted() {
            return Err(SignError::Encrypted);
        }
        match key.algorithm() {
            Algorithm::Ed25519 | Algorithm::Ecdsa { .. } => Ok(Self(Arc::new(key))),
            // RSA in Rust takes a time that depends on the key (RUSTSEC-2023-0071); keys of
            // hardware do not lie in their file.
            algorithm => Err(SignError::Kind {
                algorithm: algorithm.to_string(),
            }),
        }
    }

    /// The public key, as a line of `allowed_signers` or an agent wants it.
    #[must_use]
    pub fn public_key(&self) -> &PublicKey {
        self.0.public_key()
    }
}

impl fmt::Debug for KeySigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeySigner({})", self.fingerprint())
    }
}

#[async_trait]
impl Signer for KeySigner {
    fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(self.0.public_key())
    }

    async fn sign(&self, namespace: Namespace, bytes: &[u8]) -> Result<Signature, SignError> {
        let refused = |error: ssh_key::Error| SignError::Refused {
            fingerprint: self.fingerprint(),
            said: error.to_string(),
        };
        let sshsig = self.0.sign(namespace.as_str(), HashAlg::Sha512, bytes);
        let text = sshsig.and_then(|sshsig| sshsig.to_pem(LineEnding::LF));
        checked(
            &text.map_err(refused)?,
            self.fingerprint(),
            namespace,
            bytes,
        )
    }
}

/// The fingerprint of a public key as a `.pub` file has it.
///
/// # Errors
/// [`SignError::Key`].
pub fn fingerprint_of(public_key: &str) -> Result<Fingerprint, SignError> {
    let key = PublicKey::from_openssh(public_key.trim()).map_err(SignError::Key)?;
    Ok(Fingerprint::of(&key))
}

/// Takes what a signer answered when it is a signature by this key over these bytes.
///
/// # Errors
/// [`SignError::Wrong`].
pub fn checked(
    text: &str,
    fingerprint: Fingerprint,
    namespace: Namespace,
    bytes: &[u8],
) -> Result<Signature, SignError> {
    Signature::parse(text.as_bytes())
        .ok()
        .filter(|signature| signature.fingerprint() == fingerprint)
        .filter(|signature| signature.matches(namespace, bytes))
        .ok_or(SignError::Wrong { fingerprint })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn signer() -> KeySigner {
        let seed = ssh_key::private::Ed25519Keypair::from_seed(&[7; 32]);
        KeySigner(Arc::new(PrivateKey::from(seed)))
    }

    fn signed(content: &[u8]) -> Signature {
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.build().unwrap();
        runtime
            .block_on(signer().sign(Namespace::Record, content))
            .unwrap()
    }

    #[test]
    fn private_key_is_not_in_its_debug_text() {
        let text = format!("{:?}", signer());
        assert_eq!(text, format!("KeySigner({})", signer().fingerprint()));
    }

    #[test]
    fn answer_of_a_signer_is_checked() {
        let signature = signed(b"a");
        let check = |fingerprint, namespace, bytes| {
            checked(signature.text(), fingerprint, namespace, bytes).is_ok()
        };
        let fingerprint = signer().fingerprint();
        assert!(check(fingerprint, Namespace::Record, b"a"));
        assert!(!check(fingerprint, Namespace::Record, b"b"));
        assert!(!check(fingerprint, Namespace::Derivation, b"a"));
        assert!(!check(Fingerprint([0; 32]), Namespace::Record, b"a"));
    }

    #[test]
    fn only_the_armour_is_a_signature() {
        let text = signed(b"a").text().to_owned();
        assert_eq!(Signature::parse(text.as_bytes()).unwrap().text(), text);
        for wrong in [
            format!("x\n{text}"),
            text.replace("SIGNATURE", "CERTIFICATE"),
            text[..text.len() / 2].to_owned(),
            format!("{text}{}", " ".repeat(MAX_TEXT)),
            String::new(),
        ] {
            assert!(Signature::parse(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn altered_signature_is_refused_or_says_the_same(at in 0usize..300, to in any::<u8>()) {
            let signature = signed(b"a");
            let mut bytes = signature.text().as_bytes().to_vec();
            let at = at % bytes.len();
            bytes[at] = to;
            if let Ok(altered) = Signature::parse(&bytes)
                && altered.matches(Namespace::Record, b"a")
            {
                prop_assert_eq!(altered.sshsig, signature.sshsig);
            }
        }
    }
}
