//! `Content-Range` (RFC 9110, 14.4): which bytes an answer has.

/// `bytes <first>-<last>/<total>`; a `*` for an unknown total is `None`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ContentRange {
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) total: Option<u64>,
}

impl ContentRange {
    /// Reads the header of an answer 206; `None` when it contradicts itself.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
        let (first, last) = range.split_once('-')?;
        let (first, last) = (first.parse().ok()?, last.parse().ok()?);
        let total = total_of(total)?;
        (first <= last && total.is_none_or(|total| last < total)).then_some(Self {
            first,
            last,
            total,
        })
    }

    pub(super) fn length(self) -> u64 {
        (self.last - self.first).saturating_add(1)
    }
}

/// The length that an answer 416 tells: `bytes */<total>`.
pub(super) fn unsatisfied(text: &str) -> Option<u64> {
    text.strip_prefix("bytes */")?.parse().ok()
}

fn total_of(text: &str) -> Option<Option<u64>> {
    match text {
        "*" => Some(None),
        digits => digits.parse().ok().map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_or_refused() {
        let range = |first, last, total| Some(ContentRange { first, last, total });
        assert_eq!(ContentRange::parse("bytes 0-0/1"), range(0, 0, Some(1)));
        assert_eq!(ContentRange::parse("bytes 3-9/*"), range(3, 9, None));
        for text in [
            "",
            "bytes 3-9",
            "bytes */9",
            "bytes 9-3/10",
            "bytes 3-9/9",
            "items 3-9/10",
            "bytes -9/10",
            "bytes 3-/10",
            "bytes 3-9/-1",
            "bytes 3-99999999999999999999/*",
        ] {
            assert_eq!(ContentRange::parse(text), None, "{text}");
        }
        assert_eq!(unsatisfied("bytes */9"), Some(9));
        assert_eq!(unsatisfied("bytes 1-2/9"), None);
    }
}
