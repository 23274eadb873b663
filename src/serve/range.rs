//! The header `Range` (RFC 9110, 14.2): one range of bytes, or the whole.

use std::ops::Range;

/// What a request wants of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wanted {
    /// All of it: nothing else was asked for, or in a way that may be ignored (several ranges,
    /// another unit, nonsense).
    All,
    /// These bytes, at least one.
    Part(Range<u64>),
    /// Bytes that it does not have.
    Outside,
}

/// What the header means for an object of `size` bytes.
pub(super) fn wanted(header: Option<&str>, size: u64) -> Wanted {
    let Some((first, last)) = header.and_then(ends) else {
        return Wanted::All;
    };
    let range = match (first, last) {
        (Some(first), Some(last)) if first > last => return Wanted::All,
        (Some(first), Some(last)) => first..last.saturating_add(1).min(size),
        (Some(first), None) => first..size,
        (None, Some(length)) => size.saturating_sub(length)..size,
        (None, None) => return Wanted::All,
    };
    if range.is_empty() {
        Wanted::Outside
    } else {
        Wanted::Part(range)
    }
}

/// The two numbers of `bytes=<first>-<last>`, each of which may be missing.
fn ends(header: &str) -> Option<(Option<u64>, Option<u64>)> {
    let (first, last) = header.strip_prefix("bytes=")?.split_once('-')?;
    let number = |text: &str| match text {
        "" => Some(None),
        digits if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            // More digits than a number has are more bytes than an object has.
            Some(Some(digits.parse().unwrap_or(u64::MAX)))
        }
        _ => None,
    };
    Some((number(first)?, number(last)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_range_is_cut_to_the_object() {
        let part = |header, range| assert_eq!(wanted(Some(header), 10), Wanted::Part(range));
        part("bytes=0-0", 0..1);
        part("bytes=2-5", 2..6);
        part("bytes=2-", 2..10);
        part("bytes=2-99", 2..10);
        part("bytes=-3", 7..10);
        part("bytes=-99", 0..10);
        part("bytes=9-99999999999999999999999", 9..10);
    }

    #[test]
    fn what_is_not_there_is_outside_and_nonsense_is_ignored() {
        for header in [
            "bytes=10-",
            "bytes=10-20",
            "bytes=-0",
            "bytes=99999999999999999999-",
        ] {
            assert_eq!(wanted(Some(header), 10), Wanted::Outside, "{header}");
        }
        assert_eq!(wanted(Some("bytes=0-"), 0), Wanted::Outside);
        for header in [
            "bytes=5-2",
            "bytes=-",
            "bytes=1-2,4-5",
            "bytes=a-b",
            "lines=1-2",
            "bytes 1-2",
            "bytes=+1-2",
            "",
        ] {
            assert_eq!(wanted(Some(header), 10), Wanted::All, "{header}");
        }
        assert_eq!(wanted(None, 10), Wanted::All);
    }
}
