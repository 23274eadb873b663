//! The last lines of an output, in bounded memory. Pure.

use std::collections::VecDeque;

/// How many lines are kept.
const LINES: usize = 100;
/// How many bytes of one line.
const LINE_BYTES: usize = 2 << 10;
/// How many bytes of all lines.
const BYTES: usize = 32 << 10;

/// Keeps the end of what is pushed.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    lines: VecDeque<String>,
    bytes: usize,
}

impl Tail {
    /// Adds a line; the oldest ones go when there are too many.
    pub(crate) fn push(&mut self, line: &str) {
        let mut line = printable(line);
        if line.len() > LINE_BYTES {
            let cut = (0..=LINE_BYTES).rev().find(|&at| line.is_char_boundary(at));
            line.truncate(cut.unwrap_or(0));
            line.push_str(" ...");
        }
        self.bytes += line.len();
        self.lines.push_back(line);
        while self.lines.len() > LINES || self.bytes > BYTES {
            match self.lines.pop_front() {
                Some(gone) => self.bytes -= gone.len(),
                None => break,
            }
        }
    }

    /// The lines, oldest first.
    pub(crate) fn into_lines(self) -> Vec<String> {
        self.lines.into()
    }
}

/// The line without colours and other control sequences: it is recorded, and shown on terminals.
fn printable(line: &str) -> String {
    let mut text = String::with_capacity(line.len());
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        if c == '\u{1b}' {
            if chars.next_if_eq(&'[').is_some() {
                // Parameters end with a letter.
                while chars.next().is_some_and(|c| !('@'..='~').contains(&c)) {}
            }
        } else if c == '\t' || !c.is_control() {
            text.push(c);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn last_lines_stay_and_long_ones_are_cut() {
        let mut tail = Tail::default();
        for number in 0..1000 {
            tail.push(&format!("line {number}"));
        }
        let lines = tail.into_lines();
        assert_eq!(
            (lines.len(), lines[99].as_str()),
            (LINES, "line 999"),
            "{lines:?}"
        );

        let mut tail = Tail::default();
        tail.push(&"ä".repeat(LINE_BYTES));
        let lines = tail.into_lines();
        assert!(lines[0].len() <= LINE_BYTES + 4);
        assert!(lines[0].ends_with("ä ..."));
    }

    #[test]
    fn colours_and_control_characters_are_left_out() {
        let mut tail = Tail::default();
        tail.push("\u{1b}[31;1mred\u{1b}[0m\u{7} a\tb \u{1b}");
        assert_eq!(tail.into_lines(), ["red a\tb "]);
    }

    proptest! {
        #[test]
        fn whatever_is_said_stays_bounded(lines in prop::collection::vec(".{0,40}", 0..60), repeat in 1..100_usize) {
            let mut tail = Tail::default();
            for line in &lines {
                tail.push(&line.repeat(repeat));
            }
            let kept = tail.into_lines();
            prop_assert!(kept.iter().map(String::len).sum::<usize>() <= BYTES);
            let is_plain = |line: &String| line.chars().all(|c| c == '\t' || !c.is_control());
            prop_assert!(kept.iter().all(is_plain));
        }
    }
}
