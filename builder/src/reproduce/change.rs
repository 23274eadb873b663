//! What changed between two texts, word by word. Pure.

use std::time::{Duration, Instant};

use similar::{Algorithm, DiffOp, DiffTag, TextDiff, capture_diff_slices_deadline};

/// After this long a comparison of two texts becomes approximate.
pub(super) const PATIENCE: Duration = Duration::from_millis(500);
/// More changes of one file say nothing new.
const MOST: usize = 100;
/// Characters of the line on each side of a change.
const AROUND: usize = 160;

/// One place in which two texts differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Change {
    /// The words that only the first text has; empty when the second has more.
    pub(super) old: String,
    /// The words that only the second text has.
    pub(super) new: String,
    /// The same with what stands around it in the line.
    pub(super) old_around: String,
    /// The same with what stands around it in the line.
    pub(super) new_around: String,
}

/// Returns the changes from `old` to `new`, in order: first by lines, then by words inside them.
pub(super) fn changes(old: &str, new: &str) -> Vec<Change> {
    let deadline = Instant::now() + PATIENCE;
    let lines = TextDiff::configure()
        .deadline(deadline)
        .diff_lines(old, new);
    let (olds, news): (Vec<&str>, Vec<&str>) = (
        lines.iter_old_slices().collect(),
        lines.iter_new_slices().collect(),
    );
    let mut changes = Vec::new();
    for op in lines.ops() {
        if op.tag() == DiffTag::Equal {
            continue;
        }
        let (old, new) = (olds[op.old_range()].concat(), news[op.new_range()].concat());
        changes.extend(in_lines(&old, &new, deadline));
        if changes.len() >= MOST {
            break;
        }
    }
    changes
}

fn in_lines(old: &str, new: &str, deadline: Instant) -> Vec<Change> {
    let (olds, news) = (words(old), words(new));
    let ops = capture_diff_slices_deadline(Algorithm::Myers, &olds, &news, Some(deadline));
    let (old_offsets, new_offsets) = (offsets(&olds), offsets(&news));
    let mut changes: Vec<Change> = Vec::new();
    for op in joined(&ops) {
        if changes.len() == MOST {
            break;
        }
        let (old_start, old_end) = (old_offsets[op.0.start], old_offsets[op.0.end]);
        let (new_start, new_end) = (new_offsets[op.1.start], new_offsets[op.1.end]);
        changes.push(Change {
            old: old[old_start..old_end].to_owned(),
            new: new[new_start..new_end].to_owned(),
            old_around: around(old, old_start, old_end).to_owned(),
            new_around: around(new, new_start, new_end).to_owned(),
        });
    }
    changes
}

type Range = std::ops::Range<usize>;

/// Ranges of words that differ. Deletion and insertion side by side are one replacement.
fn joined(ops: &[DiffOp]) -> Vec<(Range, Range)> {
    let mut ranges: Vec<(Range, Range)> = Vec::new();
    for op in ops.iter().filter(|op| op.tag() != DiffTag::Equal) {
        let (old, new) = (op.old_range(), op.new_range());
        match ranges.last_mut() {
            Some(last) if last.0.end == old.start && last.1.end == new.start => {
                last.0.end = old.end;
                last.1.end = new.end;
            }
            _ => ranges.push((old, new)),
        }
    }
    ranges
}

/// Splits a text into runs of letters, digits and `_`, and single other characters.
pub(super) fn words(text: &str) -> Vec<&str> {
    let mut words = Vec::new();
    let mut start = 0;
    let mut previous_is_word = false;
    for (index, char) in text.char_indices() {
        let is_word = char.is_alphanumeric() || char == '_';
        if index > 0 && !(is_word && previous_is_word) {
            words.push(&text[start..index]);
            start = index;
        }
        previous_is_word = is_word;
    }
    if start < text.len() {
        words.push(&text[start..]);
    }
    words
}

/// Where each word begins in the text they fill, and where the last one ends.
fn offsets(words: &[&str]) -> Vec<usize> {
    let mut offsets = vec![0];
    let mut end = 0;
    offsets.extend(words.iter().map(|word| {
        end += word.len();
        end
    }));
    offsets
}

/// What stands in the same lines, not too far away.
fn around(text: &str, start: usize, end: usize) -> &str {
    let line_start = text[..start].rfind('\n').map_or(0, |index| index + 1);
    let line_end = text[end..]
        .find('\n')
        .map_or(text.len(), |index| end + index);
    let from = floor(text, line_start.max(start.saturating_sub(AROUND)));
    let to = floor(text, line_end.min(end + AROUND));
    &text[from..to.max(end)]
}

/// The next character boundary at or before an index.
pub(super) fn floor(text: &str, mut index: usize) -> usize {
    index = index.min(text.len());
    while !text.is_char_boundary(index) {
        index -= 1;
    }
    index
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pairs(old: &str, new: &str) -> Vec<(String, String)> {
        changes(old, new)
            .into_iter()
            .map(|change| (change.old, change.new))
            .collect()
    }

    fn owned(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs
            .iter()
            .map(|(old, new)| ((*old).to_owned(), (*new).to_owned()))
            .collect()
    }

    #[test]
    fn changes_are_whole_words() {
        let old = "same\nclass ComposerAutoloaderInit0a1b {}\nsame\n";
        let new = "same\nclass ComposerAutoloaderInit2c3d {}\nsame\n";
        let expected = owned(&[("ComposerAutoloaderInit0a1b", "ComposerAutoloaderInit2c3d")]);
        assert_eq!(pairs(old, new), expected);
        assert_eq!(pairs("a\nb\n", "a\n"), owned(&[("b\n", "")]));
        assert_eq!(pairs("", "x"), owned(&[("", "x")]));
        assert_eq!(pairs("x", "x"), []);
    }

    #[test]
    fn change_in_one_long_line_is_small() {
        let line = |word: &str| format!("{}{word}{}", "f(1);".repeat(5000), "g(2);".repeat(5000));
        let found = changes(&line("[abc]"), &line("[xyz]"));
        assert_eq!(found.len(), 1);
        assert_eq!(
            (found[0].old.as_str(), found[0].new.as_str()),
            ("abc", "xyz")
        );
        assert!(found[0].old_around.len() <= 3 + 2 * AROUND);
    }

    #[test]
    fn surroundings_stay_in_the_line() {
        let found = changes("one\nat 12:00 here\n", "one\nat 13:00 here\n");
        assert_eq!(found[0].old_around, "at 12:00 here");
        assert_eq!(found[0].new_around, "at 13:00 here");
    }

    proptest! {
        #[test]
        fn any_two_texts_can_be_compared(old in "[aé\\n ]{0,30}", new in "[aé\\n ]{0,30}") {
            let found = changes(&old, &new);
            prop_assert_eq!(found.is_empty(), old == new);
        }

        #[test]
        fn words_are_all_of_the_text(text in ".{0,40}") {
            prop_assert_eq!(words(&text).concat(), text);
        }
    }
}
