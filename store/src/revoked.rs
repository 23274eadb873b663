//! Keys whose signatures count no more, at no time: a list of public keys, one a line, as
//! `ssh-keygen -Y verify -r` takes it. Pure. A key that was lost or stolen stands here;
//! `valid-before` in [`crate::allowed_signers`] is for keys that end as planned.

use std::collections::BTreeSet;

use ssh_key::PublicKey;

use crate::signature::Fingerprint;

/// How a binary revocation list begins (PROTOCOL.krl).
const KRL: &[u8] = b"SSHKRL\n\0";

/// The content of a list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RevokedKeys(BTreeSet<Fingerprint>);

/// Why a file is no such list. It is never read in part: what is not understood may be the key that
/// was stolen.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RevokedKeysError {
    /// A binary list.
    #[error("it is a binary revocation list (KRL); only a list of public keys is known here")]
    Krl,
    /// A line that is no key.
    #[error("line {line} of the revoked keys is no public key")]
    Line {
        /// Counted from 1.
        line: usize,
    },
}

impl RevokedKeys {
    /// Reads the content of a file: public keys as `.pub` files have them, blank lines, lines that
    /// begin with `#`.
    ///
    /// # Errors
    /// [`RevokedKeysError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, RevokedKeysError> {
        if bytes.starts_with(KRL) {
            return Err(RevokedKeysError::Krl);
        }
        let mut keys = BTreeSet::new();
        for (index, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
            let line = line.trim_ascii();
            if line.is_empty() || line.starts_with(b"#") {
                continue;
            }
            let key = std::str::from_utf8(line).ok();
            let key = key.and_then(|line| PublicKey::from_openssh(line).ok());
            let key = key.ok_or(RevokedKeysError::Line { line: index + 1 })?;
            keys.insert(Fingerprint::of(&key));
        }
        Ok(Self(keys))
    }

    /// Whether this key was revoked.
    #[must_use]
    pub fn contains(&self, key: &Fingerprint) -> bool {
        self.0.contains(key)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    const KEY: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti";

    #[test]
    fn list_has_keys_and_what_is_not_understood_is_an_error() {
        let key = PublicKey::from_openssh(KEY).unwrap();
        let list = format!("# stolen\n\n  {KEY} old laptop\r\n");
        let revoked = RevokedKeys::parse(list.as_bytes()).unwrap();
        assert!(revoked.contains(&Fingerprint::of(&key)));
        assert_eq!(RevokedKeys::parse(b"").unwrap(), RevokedKeys::default());
        let krl = RevokedKeys::parse(b"SSHKRL\n\0\0\0\0\x01");
        assert_eq!(krl, Err(RevokedKeysError::Krl));
        for wrong in ["SHA256:abc", "ssh-ed25519 AAAA", "x"] {
            let refused = RevokedKeys::parse(format!("{KEY}\n{wrong}\n").as_bytes());
            assert_eq!(refused, Err(RevokedKeysError::Line { line: 2 }), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let _ = RevokedKeys::parse(&bytes);
        }
    }
}
