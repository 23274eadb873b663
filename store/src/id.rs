//! The identities of the store: one type each, so that none is taken for another.
//!
//! A [`BlobId`] is the plain BLAKE3-256 of a file's raw bytes (`b3sum file` prints it), a
//! [`ReleaseId`] that of a manifest's canonical text, a [`RecordId`] that of a record's exact
//! bytes. None of them has a prefix or a key: a look-up always names the kind it wants, so two
//! kinds can never be confused. Ids print as 64 lower-case hex digits and parse back.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Why a text is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not 64 lower-case hex digits")]
pub struct ParseIdError {
    /// What was given.
    pub text: String,
}

/// Decodes exactly 64 lower-case hex digits; upper case is refused so that an id has one spelling.
fn decode_hex(text: &str) -> Option<[u8; 32]> {
    let digits = text.as_bytes();
    if digits.len() != 64 {
        return None;
    }
    let nibble = |c: u8| match c {
        b'0'..=b'9' => Some(c - b'0'),
        b'a'..=b'f' => Some(c - b'a' + 10),
        _ => None,
    };
    let mut out = [0; 32];
    for (byte, pair) in out.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
    }
    Some(out)
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 32]);

        impl $name {
            /// The id of these bytes: their BLAKE3-256.
            #[must_use]
            pub fn of(bytes: &[u8]) -> Self {
                Self(*blake3::hash(bytes).as_bytes())
            }

            /// Takes 32 bytes that already are a digest.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }

            /// The 32 bytes of the digest.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }

            /// The first 12 hex digits, for tables that people read.
            #[must_use]
            pub fn short(&self) -> String {
                let mut text = self.to_string();
                text.truncate(12);
                text
            }
        }

        impl From<blake3::Hash> for $name {
            fn from(hash: blake3::Hash) -> Self {
                Self(*hash.as_bytes())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&blake3::Hash::from(self.0).to_hex())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;
            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                decode_hex(text).map(Self).ok_or_else(|| ParseIdError { text: text.to_owned() })
            }
        }

        /// Hex text where people read (JSON), 32 raw bytes where they do not (bincode).
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                if serializer.is_human_readable() {
                    serializer.collect_str(self)
                } else {
                    self.0.serialize(serializer)
                }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                if deserializer.is_human_readable() {
                    let text = String::deserialize(deserializer)?;
                    text.parse().map_err(serde::de::Error::custom)
                } else {
                    <[u8; 32]>::deserialize(deserializer).map(Self)
                }
            }
        }
    };
}

id! {
    /// Digest of one file's raw bytes.
    BlobId
}
impl BlobId {
    /// The id of all that a reader gives, read in pieces.
    ///
    /// # Errors
    /// Those of the reader.
    pub fn of_reader(reader: impl std::io::Read) -> std::io::Result<Self> {
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(reader)?;
        Ok(hasher.finalize().into())
    }
}
id! {
    /// Digest of a manifest's canonical text: the name of a release.
    ReleaseId
}
id! {
    /// Digest of a record's exact bytes.
    RecordId
}
id! {
    /// Digest of all that the output of a build step depends on.
    DerivationKey
}
id! {
    /// Digest of a bundle's bytes as stored.
    BundleHash
}

/// The first digits of an id, as people type them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdPrefix(String);

impl IdPrefix {
    /// Fewest digits a prefix may have: fewer would be ambiguous sooner or later.
    pub const MIN: usize = 8;

    /// Returns the prefix, or `None` when the text is not 8 to 64 lower-case hex digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let hex = text.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'));
        (hex && (Self::MIN..=64).contains(&text.len())).then(|| Self(text.to_owned()))
    }

    /// Whether this release's id begins so.
    #[must_use]
    pub fn matches(&self, id: &ReleaseId) -> bool {
        id.to_string().starts_with(&self.0)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn id_is_plain_blake3_and_parses_back() {
        let id = BlobId::of(b"");
        // The published BLAKE3 test vector for the empty input.
        assert_eq!(
            id.to_string(),
            "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
        );
        assert_eq!(id.to_string().parse::<BlobId>().unwrap(), id);
        assert_eq!(id.short(), "af1349b9f5f9");
    }

    #[test]
    fn only_one_spelling_is_an_id() {
        let text = BlobId::of(b"x").to_string();
        for wrong in [
            text.to_uppercase(),
            text[1..].to_owned(),
            format!("{text}0"),
            format!(" {}", &text[1..]),
            String::new(),
        ] {
            assert!(wrong.parse::<BlobId>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn serde_is_hex_for_people() {
        let id = ReleaseId::of(b"abc");
        let json = serde_json::to_string(&id).unwrap();
        assert_eq!(json, format!("\"{id}\""));
        assert_eq!(serde_json::from_str::<ReleaseId>(&json).unwrap(), id);
    }

    #[test]
    fn prefix_needs_eight_lower_case_digits() {
        let id = ReleaseId::of(b"abc");
        assert!(IdPrefix::parse(&id.to_string()[..8]).unwrap().matches(&id));
        assert!(IdPrefix::parse(&id.to_string()[..7]).is_none());
        assert!(IdPrefix::parse("ABCDEF01").is_none());
        assert!(!IdPrefix::parse("00000000").unwrap().matches(&id));
    }
}
