//! Whose signatures count: a file in the format of ssh-keygen's `allowed_signers`, as git uses it.
//! Pure.
//!
//! ```text
//! principals [namespaces="a,b",valid-after="T",valid-before="T"] key-type base64 [comment]
//! ```
//! What ssh-keygen accepts is accepted with the same meaning, except two things that are refused:
//! `cert-authority`, and times without a `Z`, which would mean something else on each machine. A
//! line that is not understood makes the whole file an error: it may be the one that takes a
//! right away.

use std::time::SystemTime;

use serde::Serialize;
use ssh_key::PublicKey;

use crate::revoked::RevokedKeys;
use crate::signature::{Fingerprint, Namespace, Signature};

/// The content of a file, less the keys that were revoked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AllowedSigners {
    lines: Vec<Line>,
    revoked: RevokedKeys,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Line {
    principals: String,
    /// A pattern list; absent means any purpose.
    namespaces: Option<String>,
    valid_after: Option<SystemTime>,
    valid_before: Option<SystemTime>,
    key: PublicKey,
}

/// A line that is not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of the allowed signers {what}")]
pub struct AllowedSignersError {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong with it, the end of the sentence.
    pub what: String,
}

/// Who signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SignerIdentity {
    /// The first field of the line that allows it, as `ssh-keygen -Y find-principals` prints it.
    pub principal: String,
    /// The key.
    pub fingerprint: Fingerprint,
}

/// Why a signature does not count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It was not made over these bytes for this purpose: forged, or moved from somewhere else.
    #[error("the signature by {fingerprint} is not over this content")]
    Wrong {
        /// The key it names.
        fingerprint: Fingerprint,
    },
    /// The key was revoked: whoever has it may be anybody.
    #[error("the key {fingerprint} was revoked")]
    Revoked {
        /// The key.
        fingerprint: Fingerprint,
    },
    /// No line has the key.
    #[error("the key {fingerprint} is not among the allowed signers")]
    UnknownKey {
        /// The key.
        fingerprint: Fingerprint,
    },
    /// The key is for other purposes.
    #[error("the key of {principal} is not allowed to sign for {namespace}")]
    Namespace {
        /// Whose key.
        principal: String,
        /// The purpose.
        namespace: &'static str,
    },
    /// The key is for another time.
    #[error("the key of {principal} {what}")]
    Time {
        /// Whose key.
        principal: String,
        /// `is not valid yet`, `is not valid any more`.
        what: &'static str,
    },
}

impl AllowedSigners {
    /// Reads the content of a file.
    ///
    /// # Errors
    /// [`AllowedSignersError`], with the first line that is not understood.
    pub fn parse(text: &str) -> Result<Self, AllowedSignersError> {
        let mut lines = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            lines.push(Line::parse(line).map_err(|what| AllowedSignersError {
                line: index + 1,
                what,
            })?);
        }
        Ok(Self {
            lines,
            revoked: RevokedKeys::default(),
        })
    }

    /// The same without these keys, whatever a line says of them.
    #[must_use]
    pub fn without(mut self, revoked: RevokedKeys) -> Self {
        self.revoked = revoked;
        self
    }

    /// Whether nobody is allowed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Returns who signed these bytes for this purpose, when that counts at this time.
    ///
    /// # Errors
    /// A [`Refusal`]; of several lines with the key the last one decides which.
    pub fn verify(
        &self,
        namespace: Namespace,
        bytes: &[u8],
        signature: &Signature,
        time: SystemTime,
    ) -> Result<SignerIdentity, Refusal> {
        let (key, fingerprint) = (signature.key(), signature.fingerprint());
        if !signature.matches(namespace, bytes) {
            return Err(Refusal::Wrong { fingerprint });
        }
        if self.revoked.contains(&fingerprint) {
            return Err(Refusal::Revoked { fingerprint });
        }
        let mut refusal = Refusal::UnknownKey { fingerprint };
        for line in &self.lines {
            if line.key.key_data() != key.key_data() {
                continue;
            }
            match line.refusal(namespace, time) {
                Some(found) => refusal = found,
                None => {
                    return Ok(SignerIdentity {
                        principal: line.principals.clone(),
                        fingerprint,
                    });
                }
            }
        }
        Err(refusal)
    }
}

impl Line {
    fn parse(line: &str) -> Result<Self, String> {
        let unusable = |error| format!("has no public key that can be used ({error})");
        let (principals, rest) = word(line)?;
        let (options, key) = match PublicKey::from_openssh(rest) {
            Ok(key) => ("", key),
            Err(_) => {
                let (options, rest) = word(rest)?;
                (options, PublicKey::from_openssh(rest).map_err(unusable)?)
            }
        };
        let mut parsed = Self {
            principals: principals.trim_matches('"').to_owned(),
            namespaces: None,
            valid_after: None,
            valid_before: None,
            key,
        };
        if parsed.principals.is_empty() {
            return Err("names nobody".to_owned());
        }
        for option in outside_quotes(options, ',') {
            parsed.set(option)?;
        }
        Ok(parsed)
    }

    fn set(&mut self, option: &str) -> Result<(), String> {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        let quoted = value
            .strip_prefix('"')
            .and_then(|text| text.strip_suffix('"'));
        let name = name.to_ascii_lowercase();
        let taken = match name.as_str() {
            "namespaces" => self.namespaces.is_some(),
            "valid-after" => self.valid_after.is_some(),
            "valid-before" => self.valid_before.is_some(),
            "cert-authority" => {
                return Err("names a certificate authority, only plain keys are known here".into());
            }
            _ => return Err(format!("has the option `{name}`, which is not known")),
        };
        let Some(value) = quoted.filter(|_| !taken) else {
            return Err(format!(
                "sets `{name}` twice or to something without quotes"
            ));
        };
        match name.as_str() {
            "namespaces" => self.namespaces = Some(value.to_owned()),
            "valid-after" => self.valid_after = Some(time(value)?),
            _ => self.valid_before = Some(time(value)?),
        }
        Ok(())
    }

    fn refusal(&self, namespace: Namespace, time: SystemTime) -> Option<Refusal> {
        let principal = || self.principals.clone();
        let allowed = |list: &String| matches_list(namespace.as_str(), list);
        if !self.namespaces.as_ref().is_none_or(allowed) {
            return Some(Refusal::Namespace {
                principal: principal(),
                namespace: namespace.as_str(),
            });
        }
        let what = if self.valid_after.is_some_and(|after| time < after) {
            "is not valid yet"
        } else if self.valid_before.is_some_and(|before| time > before) {
            "is not valid any more"
        } else {
            return None;
        };
        Some(Refusal::Time {
            principal: principal(),
            what,
        })
    }
}

/// The text up to the first blank outside quotes, and what follows the blanks.
fn word(text: &str) -> Result<(&str, &str), String> {
    let end = outside_quotes(text, ' ').next().map_or(0, str::len);
    let (word, rest) = text.split_at(end);
    if word.matches('"').count() % 2 == 1 {
        return Err("has a quote that is not closed".to_owned());
    }
    Ok((word, rest.trim_start()))
}

/// Splits at a character where it is not in quotes; a blank stands for any white space. An empty
/// text has no parts.
fn outside_quotes(text: &str, at: char) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    let parts = text.split(move |c: char| {
        quoted ^= c == '"';
        !quoted && (c == at || (at == ' ' && c.is_ascii_whitespace()))
    });
    parts.filter(|part| !part.is_empty())
}

/// `YYYYMMDDZ` or `YYYYMMDDHHMM[SS]Z`.
fn time(text: &str) -> Result<SystemTime, String> {
    let wrong = || format!("has the time `{text}`, which is not YYYYMMDDZ or YYYYMMDDHHMM[SS]Z");
    let digits = text.strip_suffix('Z').ok_or_else(wrong)?;
    if !digits.bytes().all(|c| c.is_ascii_digit()) || !matches!(digits.len(), 8 | 12 | 14) {
        return Err(wrong());
    }
    let full = format!("{digits:0<14}Z");
    let parsed = jiff::fmt::strtime::parse("%Y%m%d%H%M%SZ", &full);
    let civil = parsed.and_then(|time| time.to_datetime());
    let zoned = civil.and_then(|civil| civil.to_zoned(jiff::tz::TimeZone::UTC));
    Ok(SystemTime::from(zoned.map_err(|_| wrong())?.timestamp()))
}

/// ssh's pattern lists: separated by commas, `*` and `?`, and a `!` that forbids.
fn matches_list(text: &str, list: &str) -> bool {
    let mut found = false;
    for pattern in list.split(',') {
        match pattern.strip_prefix('!') {
            Some(pattern) if matches(text.as_bytes(), pattern.as_bytes()) => return false,
            Some(_) => {}
            None => found |= matches(text.as_bytes(), pattern.as_bytes()),
        }
    }
    found
}

fn matches(text: &[u8], pattern: &[u8]) -> bool {
    let (mut at, mut in_pattern) = (0, 0);
    // Where to go on when the last `*` has to take one byte more.
    let mut star: Option<(usize, usize)> = None;
    while at < text.len() {
        match pattern.get(in_pattern) {
            Some(b'*') => {
                star = Some((at, in_pattern + 1));
                in_pattern += 1;
            }
            Some(&byte) if byte == b'?' || byte == text[at] => {
                at += 1;
                in_pattern += 1;
            }
            _ => {
                let Some((begin, after)) = star else {
                    return false;
                };
                star = Some((begin + 1, after));
                (at, in_pattern) = (begin + 1, after);
            }
        }
    }
    pattern[in_pattern..].iter().all(|&byte| byte == b'*')
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::signature::{KeySigner, Signer};
    use proptest::prelude::*;
    use std::time::Duration;

    const KEY: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti";

    fn signer() -> (KeySigner, String) {
        let seed = ssh_key::private::Ed25519Keypair::from_seed(&[7; 32]);
        let key = ssh_key::PrivateKey::from(seed);
        let text = key.to_openssh(ssh_key::LineEnding::LF).unwrap();
        let public = key.public_key().to_openssh().unwrap();
        (KeySigner::parse(&text).unwrap(), public)
    }

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    async fn verify(line: &str, namespace: Namespace, seconds: u64) -> Result<String, String> {
        let (signer, public) = signer();
        let signature = signer.sign(Namespace::Record, b"content").await.unwrap();
        let file = format!("# who may build\nother@x {KEY}\n\n{line} {public}\n");
        let allowed = AllowedSigners::parse(&file).unwrap();
        let verified = allowed.verify(namespace, b"content", &signature, at(seconds));
        verified
            .map(|identity| identity.principal)
            .map_err(|refusal| refusal.to_string())
    }

    #[tokio::test]
    async fn key_counts_for_its_namespaces_in_its_time() {
        let record = Namespace::Record;
        assert_eq!(verify("ci@x", record, 1).await.unwrap(), "ci@x");
        assert_eq!(verify("\"c i,b\"", record, 1).await.unwrap(), "c i,b");
        let only = "ci@x namespaces=\"relstore-*,!relstore-derivation@*\"";
        assert_eq!(verify(only, record, 1).await.unwrap(), "ci@x");
        for other in ["git", "relstore-derivation@v1", "*,!relstore-record@v1", ""] {
            let line = format!("ci@x namespaces=\"{other}\"");
            let refused = verify(&line, record, 1).await.unwrap_err();
            assert!(
                refused.contains("not allowed to sign for relstore-record@v1"),
                "{refused}"
            );
        }
        let line = "ci@x Valid-After=\"19700102Z\",valid-before=\"197001020000Z\"";
        assert!(
            verify(line, record, 86_399)
                .await
                .unwrap_err()
                .contains("yet")
        );
        assert_eq!(verify(line, record, 86_400).await.unwrap(), "ci@x");
        assert!(
            verify(line, record, 86_401)
                .await
                .unwrap_err()
                .contains("any more")
        );
    }

    #[tokio::test]
    async fn other_content_purpose_or_key_is_refused() {
        let (signer, public) = signer();
        let signature = signer.sign(Namespace::Record, b"content").await.unwrap();
        let allowed = AllowedSigners::parse(&format!("ci@x {public}")).unwrap();
        let verify = |allowed: &AllowedSigners, namespace, bytes: &[u8]| {
            allowed
                .verify(namespace, bytes, &signature, at(1))
                .unwrap_err()
        };
        let fingerprint = signer.fingerprint();
        let wrong = Refusal::Wrong { fingerprint };
        assert_eq!(verify(&allowed, Namespace::Record, b"Content"), wrong);
        assert_eq!(verify(&allowed, Namespace::Derivation, b"content"), wrong);
        let others = AllowedSigners::parse(&format!("ci@x {KEY}")).unwrap();
        assert_eq!(
            verify(&others, Namespace::Record, b"content"),
            Refusal::UnknownKey { fingerprint }
        );
    }

    #[test]
    fn line_that_is_not_understood_is_named() {
        for (line, what) in [
            (
                format!("ci@x cert-authority {KEY}"),
                "certificate authority",
            ),
            (format!("ci@x no-touch {KEY}"), "option `no-touch`"),
            (format!("ci@x namespaces=git {KEY}"), "without quotes"),
            (
                format!("ci@x namespaces=\"a\",namespaces=\"b\" {KEY}"),
                "twice",
            ),
            (format!("ci@x valid-after=\"20260101\" {KEY}"), "YYYYMMDDZ"),
            (format!("ci@x valid-after=\"20261301Z\" {KEY}"), "YYYYMMDDZ"),
            (format!("ci@x namespaces=\"a {KEY}"), "quote"),
            (format!("\"\" {KEY}"), "names nobody"),
            ("ci@x ssh-ed25519 AAAA".to_owned(), "no public key"),
            ("ci@x".to_owned(), "no public key"),
        ] {
            let error = AllowedSigners::parse(&format!("\n{line}")).unwrap_err();
            assert_eq!(error.line, 2);
            assert!(error.to_string().contains(what), "{line}: {error}");
        }
        assert!(AllowedSigners::parse("# nobody\n").unwrap().is_empty());
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_or_refused(text in "\\PC{0,200}") {
            let _ = AllowedSigners::parse(&text);
            let _ = AllowedSigners::parse(&format!("{text} {KEY}"));
        }

        #[test]
        fn pattern_matches_what_its_stars_stand_for(a in "[ab]{0,4}", b in "[ab]{0,4}", c in "[ab]{0,4}") {
            let text = format!("{a}{b}{c}");
            let pattern = format!("{a}*{c}");
            prop_assert!(matches(text.as_bytes(), pattern.as_bytes()));
            let longer = format!("{pattern}c");
            prop_assert!(!matches(text.as_bytes(), longer.as_bytes()));
        }
    }
}
