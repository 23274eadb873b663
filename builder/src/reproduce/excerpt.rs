//! The place in which two files differ, short enough to read: a unified diff of texts, rows of hex
//! digits of anything else. Pure.

use similar::{DiffTag, TextDiff};

use super::change::{PATIENCE, floor};
use super::stretch::Stretch;

/// Most lines of an excerpt.
const MOST_LINES: usize = 16;
/// Longest line, in characters; of a longer one, as in minified scripts, a part is shown.
const WIDTH: usize = 120;
/// So much of it lies before the difference.
const BEFORE: usize = 40;
const CONTEXT: usize = 2;
const ROW: usize = 16;
/// Most rows of hex digits on each side.
const MOST_ROWS: usize = 4;

/// How an excerpt is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Lines begin with ` `, `-` or `+`, or are a `@@` header.
    Text,
    /// Rows of the first (`-`) and the second file (`+`): offset, bytes, characters.
    Hex,
}

/// A part of two files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Excerpt {
    /// How it is written.
    pub form: Form,
    /// Its lines, without line ends. They may hold control characters.
    pub lines: Vec<String>,
}

/// Returns the part in which both sides first differ; `None` when they do not.
pub(super) fn excerpt(stretch: &Stretch) -> Option<Excerpt> {
    if stretch.first == stretch.second {
        return None;
    }
    Some(match stretch.texts() {
        Some((old, new)) => Excerpt {
            form: Form::Text,
            lines: text(old, new, stretch.start),
        },
        None => Excerpt {
            form: Form::Hex,
            lines: hex(stretch),
        },
    })
}

fn text(old: &str, new: &str, start: u64) -> Vec<String> {
    let diff = TextDiff::configure().timeout(PATIENCE).diff_lines(old, new);
    let mut lines = Vec::new();
    for group in diff.grouped_ops(CONTEXT) {
        let (Some(first), Some(last)) = (group.first(), group.last()) else {
            continue;
        };
        let olds = first.old_range().start..last.old_range().end;
        let news = first.new_range().start..last.new_range().end;
        lines.push(match start {
            0 => format!(
                "@@ -{},{} +{},{} @@",
                olds.start + 1,
                olds.len(),
                news.start + 1,
                news.len()
            ),
            // Nobody counted the lines before the stretch.
            _ => format!("@@ from byte {start} @@"),
        });
        for op in &group {
            let side = |range: std::ops::Range<usize>, is_old: bool| {
                let line = |index| {
                    if is_old {
                        diff.old_slice(index)
                    } else {
                        diff.new_slice(index)
                    }
                };
                range
                    .filter_map(line)
                    .map(without_end)
                    .collect::<Vec<&str>>()
            };
            let (olds, news) = (side(op.old_range(), true), side(op.new_range(), false));
            if op.tag() == DiffTag::Equal {
                lines.extend(olds.iter().map(|line| format!(" {}", window(line, 0))));
                continue;
            }
            let at = |index: usize| match (olds.get(index), news.get(index)) {
                (Some(old), Some(new)) => common_prefix(old, new),
                _ => 0,
            };
            lines.extend(
                olds.iter()
                    .enumerate()
                    .map(|(index, line)| format!("-{}", window(line, at(index)))),
            );
            lines.extend(
                news.iter()
                    .enumerate()
                    .map(|(index, line)| format!("+{}", window(line, at(index)))),
            );
        }
        if lines.len() >= MOST_LINES {
            break;
        }
    }
    shortened(lines)
}

/// Cuts to the most lines; of a long run of `-` lines the `+` lines after it must not be lost.
fn shortened(lines: Vec<String>) -> Vec<String> {
    if lines.len() <= MOST_LINES {
        return lines;
    }
    let count = |sign: char| lines.iter().filter(|line| line.starts_with(sign)).count();
    let each = MOST_LINES / 2 - 2;
    let (mut olds, mut news, mut others) = (0, 0, 0);
    let mut kept: Vec<String> = lines
        .iter()
        .filter(|line| {
            let (seen, most) = match line.as_bytes().first() {
                Some(b'-') => (&mut olds, each),
                Some(b'+') => (&mut news, each),
                _ => (&mut others, 3),
            };
            *seen += 1;
            *seen <= most
        })
        .cloned()
        .collect();
    let (olds, news) = (
        count('-').saturating_sub(each),
        count('+').saturating_sub(each),
    );
    kept.push(format!(
        "@@ {olds} more lines of the first, {news} of the second @@"
    ));
    kept
}

fn without_end(line: &str) -> &str {
    line.strip_suffix('\n').unwrap_or(line)
}

/// Number of bytes at the beginning that are equal, whole characters.
fn common_prefix(old: &str, new: &str) -> usize {
    let same = old
        .bytes()
        .zip(new.bytes())
        .take_while(|(old, new)| old == new)
        .count();
    floor(old, same).min(floor(new, same))
}

/// A part of a line around the byte `at`, when it is too long to be shown whole.
fn window(line: &str, at: usize) -> String {
    if line.chars().count() <= WIDTH {
        return line.to_owned();
    }
    let skipped = line[..at].chars().count().saturating_sub(BEFORE);
    let part: String = line.chars().skip(skipped).take(WIDTH).collect();
    let dots = |cut: bool| if cut { "..." } else { "" };
    let more = line.chars().count() > skipped + WIDTH;
    format!("{}{part}{}", dots(skipped > 0), dots(more))
}

fn hex(stretch: &Stretch) -> Vec<String> {
    let first_row = stretch.index() / ROW * ROW;
    let row = |bytes: &[u8], index: usize| {
        let end = bytes.len().min(index + ROW);
        bytes.get(index..end).unwrap_or_default().to_vec()
    };
    let mut lines = Vec::new();
    for (sign, bytes, other) in [
        ('-', &stretch.first, &stretch.second),
        ('+', &stretch.second, &stretch.first),
    ] {
        let rows = (0..MOST_ROWS).map(|number| first_row + number * ROW);
        for index in rows.filter(|index| row(bytes, *index) != row(other, *index)) {
            let part = row(bytes, index);
            if !part.is_empty() {
                lines.push(format!(
                    "{sign}{}",
                    hex_row(stretch.start + index as u64, &part)
                ));
            }
        }
    }
    lines
}

/// `00000010  1f 8b 08 00 ...  |....|`
fn hex_row(offset: u64, bytes: &[u8]) -> String {
    let digits: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let visible = |byte: &u8| match byte {
        0x20..=0x7e => char::from(*byte),
        _ => '.',
    };
    let text: String = bytes.iter().map(visible).collect();
    format!("{offset:08x}  {:47}  |{text}|", digits.join(" "))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn of(first: &[u8], second: &[u8]) -> Vec<String> {
        let differs_at = first
            .iter()
            .zip(second)
            .take_while(|(one, two)| one == two)
            .count() as u64;
        let stretch = Stretch {
            start: 0,
            differs_at,
            first: first.to_vec(),
            second: second.to_vec(),
        };
        excerpt(&stretch).unwrap().lines
    }

    #[test]
    fn text_is_a_unified_diff() {
        assert_eq!(
            of(b"a\nb\nc\nd\ne\nf\n", b"a\nb\nc\nX\ne\nf\n"),
            ["@@ -2,5 +2,5 @@", " b", " c", "-d", "+X", " e", " f"]
        );
        assert_eq!(of(b"", b"x"), ["@@ -1,0 +1,1 @@", "+x"]);
    }

    #[test]
    fn of_a_long_line_the_part_that_differs_is_shown() {
        let line = |word: &str| format!("{}{word}{}", "a()".repeat(900), "b()".repeat(900));
        let lines = of(line("ONE").as_bytes(), line("TWO").as_bytes());
        assert_eq!(lines.len(), 3);
        assert!(lines[1].starts_with("-..."), "{}", lines[1]);
        assert!(lines[1].contains("a()ONEb()") && lines[2].contains("a()TWOb()"));
        assert!(lines[1].len() < WIDTH + 8);
    }

    #[test]
    fn long_excerpt_keeps_lines_of_both_sides() {
        let lines = |word: &str| {
            (0..50)
                .map(|number| format!("{word}{number}\n"))
                .collect::<String>()
        };
        let found = of(lines("a").as_bytes(), lines("b").as_bytes());
        assert!(found.len() <= MOST_LINES);
        assert!(found.contains(&"-a0".to_owned()) && found.contains(&"+b0".to_owned()));
        assert_eq!(
            found.last().unwrap(),
            "@@ 44 more lines of the first, 44 of the second @@"
        );
    }

    #[test]
    fn bytes_are_shown_as_hex() {
        let mut first = vec![0; 40];
        first[..3].copy_from_slice(b"abc");
        let mut second = first.clone();
        second[20] = 0xff;
        assert_eq!(
            of(&first, &second),
            [
                "-00000010  00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00  |................|",
                "+00000010  00 00 00 00 ff 00 00 00 00 00 00 00 00 00 00 00  |................|",
            ]
        );
        second.truncate(20);
        assert_eq!(
            of(&first, &second).len(),
            3,
            "the shorter one has one row less"
        );
    }

    proptest! {
        #[test]
        fn excerpt_of_anything_is_short(first in prop::collection::vec(any::<u8>(), 0..300), second in ".{0,300}") {
            prop_assume!(first != second.as_bytes());
            let lines = of(&first, second.as_bytes());
            prop_assert!(!lines.is_empty() && lines.len() <= MOST_LINES);
        }
    }
}
