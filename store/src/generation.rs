//! Names of objects that may be deleted, and their generations. Pure.
//!
//! What an object says is its name: a manifest's is the release's id. Deleting such a name while
//! somebody writes it again would lose what was written, and no store of objects can compare and
//! delete. So a name that has a tombstone is not used again: the object is written under the next
//! generation, `-<n>` behind what the name says, and whoever reads takes any generation.

use std::fmt;

/// What an object is called, without its generation.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Named {
    /// Folder and what the object says.
    pub(crate) stem: String,
    /// Empty or `.json`, `.sig`.
    pub(crate) ending: &'static str,
}

impl Named {
    /// `<stem>[-<n>]<ending>`.
    pub(crate) fn new(stem: String, ending: &'static str) -> Self {
        Self { stem, ending }
    }

    /// The name in a generation; the first one is not written.
    pub(crate) fn generation(&self, n: u32) -> String {
        match n {
            0 => format!("{}{}", self.stem, self.ending),
            n => format!("{}-{n}{}", self.stem, self.ending),
        }
    }

    /// The folder, with the `/` it ends in.
    pub(crate) fn folder(&self) -> &str {
        let end = self.stem.rfind('/').map_or(0, |at| at + 1);
        &self.stem[..end]
    }

    /// The first generation that is not refused.
    pub(crate) fn first(&self, refused: impl Fn(&str) -> bool) -> String {
        (0..=u32::MAX)
            .map(|n| self.generation(n))
            .find(|name| !refused(name))
            .unwrap_or_else(|| self.generation(0))
    }

    /// Whether `name` is this object in any generation.
    pub(crate) fn is(&self, name: &str) -> bool {
        let stem = name.strip_suffix(self.ending);
        stem.is_some_and(|stem| split(stem).0 == self.stem)
    }
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.stem, self.ending)
    }
}

/// What a name says and its generation. A number is written in one way only; anything else
/// belongs to what the name says.
pub(crate) fn split(stem: &str) -> (&str, u32) {
    let plain = (stem, 0);
    let Some((front, digits)) = stem.rsplit_once('-') else {
        return plain;
    };
    let canonical = !digits.starts_with('0') && digits.bytes().all(|digit| digit.is_ascii_digit());
    match digits.parse() {
        Ok(n) if canonical && !front.is_empty() => (front, n),
        _ => plain,
    }
}

/// Any text as one name: letters, digits, `-`, `_`, `.` (not first) as they are, others `%hh`.
pub(crate) fn segment(text: &str) -> String {
    let mut out = String::new();
    for (at, byte) in text.bytes().enumerate() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_') || (byte == b'.' && at > 0) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02x}"));
        }
    }
    out
}

/// The text that [`segment`] made this name of.
pub(crate) fn unsegment(name: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        if *first == b'%' {
            let digits = std::str::from_utf8(after.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &after[2..];
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    let text = String::from_utf8(bytes).ok()?;
    (segment(&text) == name).then_some(text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn generations_stand_behind_what_the_name_says() {
        let manifest = Named::new("manifests/ab".into(), "");
        assert_eq!(manifest.generation(0), "manifests/ab");
        assert_eq!(manifest.generation(2), "manifests/ab-2");
        assert_eq!(manifest.folder(), "manifests/");
        let record = Named::new("records/r/ab".into(), ".json");
        assert_eq!(record.generation(1), "records/r/ab-1.json");
        for n in [0, 1, 10] {
            assert!(record.is(&record.generation(n)));
        }
        for other in [
            "records/r/ab-01.json",
            "records/r/ab-.json",
            "records/r/ab",
            "records/r/abc.json",
        ] {
            assert!(!record.is(other), "{other}");
        }
    }

    #[test]
    fn the_first_name_without_a_tombstone_is_taken() {
        let marker = Named::new("releases/ab".into(), "");
        assert_eq!(marker.first(|_| false), "releases/ab");
        assert_eq!(marker.first(|name| !name.ends_with("-2")), "releases/ab-2");
    }

    #[test]
    fn any_host_name_is_one_segment() {
        assert_eq!(segment("app1.example.com"), "app1.example.com");
        assert_eq!(segment("../x"), "%2e.%2fx");
        assert_eq!(segment("[::1]:22"), "%5b%3a%3a1%5d%3a22");
        for wrong in ["a%", "a%2", "a%zz", "a/b", "%2F", "%61"] {
            assert_eq!(unsegment(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn a_segment_says_what_it_was_made_of(text in ".*") {
            prop_assert_eq!(unsegment(&segment(&text)), Some(text));
        }

        #[test]
        fn a_generation_is_found_again(stem in "[a-f0-9]{1,8}", n in 0u32..) {
            let name = Named::new(stem.clone(), "").generation(n);
            prop_assert_eq!(split(&name), (stem.as_str(), n));
        }
    }
}
