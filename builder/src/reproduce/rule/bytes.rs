//! What can be seen in bytes and words alone: random ones, the same ones in another order, times
//! in the headers of archives.

use std::ops::RangeInclusive;

use super::super::change::{Change, words};
use super::super::evidence::Evidence;

/// PHP's `uniqid()`: seconds in 8 hex digits, microseconds in 5.
const UNIQID: usize = 13;
/// Shorter words are not taken for random ones.
const RANDOM: usize = 8;
const TAR_BLOCK: usize = 512;

pub(super) fn archive_time(evidence: &Evidence<'_>) -> bool {
    let (stretch, at) = (evidence.stretch, evidence.stretch.index());
    [&stretch.first, &stretch.second].into_iter().all(|bytes| {
        let gzip = stretch.start == 0 && bytes.starts_with(&[0x1f, 0x8b]) && (4..8).contains(&at);
        // The time field of a local header, or of one in the list at the end.
        let zip = header_before(bytes, at, b"PK\x03\x04")
            .is_some_and(|offset| (10..14).contains(&offset))
            || header_before(bytes, at, b"PK\x01\x02")
                .is_some_and(|offset| (12..16).contains(&offset));
        // Blocks are counted from the file's start; mtime is followed by the checksum.
        let block = at - at % TAR_BLOCK;
        let aligned = stretch.start % TAR_BLOCK as u64 == 0;
        let tar = aligned
            && bytes.get(block + 257..block + 262) == Some(b"ustar")
            && (136..156).contains(&(at % TAR_BLOCK));
        gzip || zip || tar
    })
}

/// Distance from the nearest such mark before `at`.
fn header_before(bytes: &[u8], at: usize, mark: &[u8]) -> Option<usize> {
    let before = bytes.get(at.saturating_sub(32)..at)?;
    let start = before
        .windows(mark.len())
        .rposition(|window| window == mark)?;
    Some(before.len() - start)
}

pub(super) fn uniqid(evidence: &Evidence<'_>) -> bool {
    let (first, second) = (evidence.first.clock(), evidence.second.clock());
    evidence.any(
        |change| {
            words(&change.old)
                .iter()
                .any(|word| is_uniqid(word, &first))
        },
        |change| {
            words(&change.new)
                .iter()
                .any(|word| is_uniqid(word, &second))
        },
    )
}

fn is_uniqid(word: &str, clock: &RangeInclusive<i64>) -> bool {
    let Some(start) = word.len().checked_sub(UNIQID) else {
        return false;
    };
    let seconds = word
        .get(start..start + 8)
        .and_then(|digits| i64::from_str_radix(digits, 16).ok());
    let rest = word
        .get(start + 8..)
        .is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_hexdigit()));
    rest && seconds.is_some_and(|seconds| (clock.start() - 1..=clock.end() + 1).contains(&seconds))
}

pub(super) fn other_order(evidence: &Evidence<'_>) -> bool {
    let Some((old, new)) = evidence.stretch.texts() else {
        return false;
    };
    old != new
        && (same_items(old.lines().collect(), new.lines().collect())
            || same_items(words(old), words(new)))
}

fn same_items(mut one: Vec<&str>, mut two: Vec<&str>) -> bool {
    one.sort_unstable();
    two.sort_unstable();
    one == two
}

pub(super) fn random(evidence: &Evidence<'_>) -> bool {
    let looks = |text: &str| {
        let longest = words(text)
            .into_iter()
            .max_by_key(|word| word.len())
            .unwrap_or_default();
        is_random(longest)
    };
    // Bytes around may be equal by chance, so a long enough word in one of the changes is enough.
    evidence
        .changes
        .iter()
        .any(|change: &Change| looks(&change.old) && looks(&change.new))
}

/// Hex digits, or letters of both cases and digits together.
fn is_random(word: &str) -> bool {
    let has = |class: fn(&u8) -> bool| word.bytes().any(|byte| class(&byte));
    let hex = word.bytes().all(|byte| byte.is_ascii_hexdigit());
    let mixed =
        has(u8::is_ascii_digit) && has(u8::is_ascii_lowercase) && has(u8::is_ascii_uppercase);
    word.len() >= RANDOM && (hex || mixed && word.bytes().all(|byte| byte.is_ascii_alphanumeric()))
}
