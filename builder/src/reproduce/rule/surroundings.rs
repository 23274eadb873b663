//! What steps see around them: folders, names, clock, modes, processors.

use super::super::change::Change;
use super::super::difference::DifferenceKind;
use super::super::evidence::Evidence;
use super::super::moment::{has_time, has_time_of_day};

/// More processors than any machine has.
const MOST_PROCESSORS: u32 = 4096;

pub(super) fn path(evidence: &Evidence<'_>) -> bool {
    evidence.mentions(&evidence.first.folder, &evidence.second.folder)
}

pub(super) fn home(evidence: &Evidence<'_>) -> bool {
    evidence.mentions(&evidence.first.home, &evidence.second.home)
}

pub(super) fn host_name(evidence: &Evidence<'_>) -> bool {
    let (first, second) = (&evidence.first.conditions, &evidence.second.conditions);
    evidence.mentions(&first.host_name, &second.host_name)
}

pub(super) fn time(evidence: &Evidence<'_>) -> bool {
    let (first, second) = (evidence.first.clock(), evidence.second.clock());
    evidence.any(
        |change| has_time(&change.old_around, &first),
        |change| has_time(&change.new_around, &second),
    ) || times_of_day(evidence)
}

pub(super) fn time_zone(evidence: &Evidence<'_>) -> bool {
    let (first, second) = (&evidence.first.conditions, &evidence.second.conditions);
    evidence.mentions(&first.time_zone, &second.time_zone) || times_of_day(evidence)
}

fn times_of_day(evidence: &Evidence<'_>) -> bool {
    let both = |change: &Change| {
        has_time_of_day(&change.old_around) && has_time_of_day(&change.new_around)
    };
    evidence.changes.iter().any(both)
}

pub(super) fn umask(evidence: &Evidence<'_>) -> bool {
    let is_octal = |word: &str| {
        (3..=4).contains(&word.len()) && word.bytes().all(|byte| (b'0'..=b'7').contains(&byte))
    };
    evidence.difference.kind == DifferenceKind::Mode
        || evidence.changes.iter().any(|change| {
            is_octal(&change.old) && is_octal(&change.new)
                || has_permissions(&change.old_around) && has_permissions(&change.new_around)
        })
}

/// Whether a text has modes as `ls` writes them, such as `rw-r--r--`.
fn has_permissions(text: &str) -> bool {
    let fits = |window: &[u8]| {
        window
            .iter()
            .zip(b"rwxrwxrwx".iter())
            .all(|(byte, letter)| byte == letter || *byte == b'-')
            && window[0] == b'r'
    };
    text.as_bytes().windows(9).any(fits)
}

pub(super) fn user(evidence: &Evidence<'_>) -> bool {
    let (first, second) = (
        evidence.first.conditions.user,
        evidence.second.conditions.user,
    );
    evidence
        .changes
        .iter()
        .any(|change| change.old == first.to_string() && change.new == second.to_string())
}

pub(super) fn processors(evidence: &Evidence<'_>) -> bool {
    let Some(count) = evidence.second.conditions.cpus else {
        return false;
    };
    evidence.changes.iter().any(|change| {
        let old: Option<u32> = change.old.parse().ok();
        change.new == count.to_string() && old.is_some_and(|old| old <= MOST_PROCESSORS)
    })
}

pub(super) fn locale(evidence: &Evidence<'_>) -> bool {
    let (first, second) = (&evidence.first.conditions, &evidence.second.conditions);
    let separators = |text: &str| {
        text.chars()
            .all(|char| matches!(char, '.' | ',' | '\'' | ' ' | '\u{a0}' | '\u{202f}'))
    };
    evidence.mentions(&first.locale, &second.locale)
        || evidence.every(|old, new| separators(old) && separators(new))
        || evidence.every(|old, new| old.to_lowercase() == new.to_lowercase())
        // Sorted by other rules.
        || super::bytes::other_order(evidence)
}
