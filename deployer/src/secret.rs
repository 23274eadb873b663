//! A value that is never shown.

use std::fmt;

/// A token or password. It has no `Display`, and `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes a value that from here on is only handed to whoever asks by [`Secret::reveal`].
    #[must_use]
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The value itself, for the one place that sends it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Returns `text` with every occurrence of the value replaced, for text that came from
    /// outside and may repeat what it was sent.
    pub(crate) fn redact(&self, text: &str) -> String {
        if self.0.is_empty() {
            text.to_owned()
        } else {
            text.replace(&self.0, "(secret)")
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(...)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_nothing_and_redaction_finds_every_copy() {
        let secret = Secret::new("tok-123");
        assert!(!format!("{secret:?}").contains("tok"));
        assert_eq!(
            secret.redact("a tok-123 b tok-123"),
            "a (secret) b (secret)"
        );
        assert_eq!(Secret::new("").redact("abc"), "abc");
    }
}
