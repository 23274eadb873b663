//! Results on stdout, everything else on stderr.
//!
//! A reader that closed its end of stdout (`relstore list | head`) has seen enough: that is no
//! failure. Any other error while a result is written is one. Notes on stderr never fail a command.

use std::io::{self, Write};

use serde_json::{Map, Value, json};

use crate::error::{CommandError, Result};
use crate::exit_code::ExitCode;

/// The version of every JSON answer; raised when a field changes its meaning or goes away.
pub(crate) const JSON_VERSION: u32 = 1;

/// Where a command's answer goes, and in which form.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    pub(crate) json: bool,
    pub(crate) quiet: bool,
    pub(crate) verbose: bool,
    /// Whether stderr may be coloured.
    pub(crate) color: bool,
}

impl Output {
    /// Writes the result: the text for people, or with `--json` the object with its version.
    pub(crate) fn result(&self, text: &str, object: impl FnOnce() -> Value) -> Result<()> {
        if self.json {
            self.raw(&with_version(object()))
        } else {
            self.raw(text)
        }
    }

    /// Writes a result that is JSON in any case.
    pub(crate) fn json(&self, object: Value) -> Result<()> {
        self.raw(&with_version(object))
    }

    /// Writes a result that has only one form, such as a manifest.
    pub(crate) fn raw(&self, text: &str) -> Result<()> {
        let end = if text.is_empty() || text.ends_with('\n') {
            ""
        } else {
            "\n"
        };
        self.bytes(format!("{text}{end}").as_bytes())
    }

    /// Writes a result whose every byte counts, such as a record.
    pub(crate) fn bytes(&self, bytes: &[u8]) -> Result<()> {
        let mut stdout = io::stdout().lock();
        let written = stdout.write_all(bytes).and_then(|()| stdout.flush());
        match written {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(CommandError::new(
                ExitCode::Failure,
                "cannot write the result",
            )
            .caused_by(&error)),
            _ => Ok(()),
        }
    }

    /// Stdout as a file, for a result that is too long for memory.
    pub(crate) fn stream(&self) -> Result<std::fs::File> {
        use std::os::fd::AsFd;
        let stdout = io::stdout().as_fd().try_clone_to_owned().map_err(|error| {
            CommandError::new(ExitCode::Failure, "cannot write the result").caused_by(&error)
        })?;
        Ok(stdout.into())
    }

    /// Says something beside the result.
    pub(crate) fn note(&self, text: &str) {
        if !self.quiet {
            stderr(text);
        }
    }

    /// Says what the user should know even with `-q`.
    pub(crate) fn warning(&self, text: &str) {
        stderr(&if self.color {
            format!("\u{1b}[33mwarning:\u{1b}[0m {text}")
        } else {
            format!("warning: {text}")
        });
    }

    /// Writes a line to stderr whatever the options are.
    pub(crate) fn always(&self, text: &str) {
        stderr(text);
    }

    /// Reports a failure: on stderr for people, and with `--json` as the answer on stdout too.
    pub(crate) fn error(&self, error: &CommandError) {
        if self.json {
            // Nothing is left to be told when even this cannot be written; the exit code stays.
            let _ = self.raw(&with_version(json!({ "error": error.to_json() })));
        }
        let text = error.to_string();
        match text.strip_prefix("error:") {
            Some(rest) if self.color => stderr(&format!("\u{1b}[1;31merror:\u{1b}[0m{rest}")),
            _ => stderr(&text),
        }
    }
}

fn stderr(text: &str) {
    let mut stderr = io::stderr().lock();
    // A closed stderr must not stop a deploy half way.
    let _ = stderr
        .write_all(text.as_bytes())
        .and_then(|()| stderr.write_all(b"\n"));
}

/// The object with `"version"` as its first field, as pretty JSON.
fn with_version(object: Value) -> String {
    let mut answer = Map::new();
    answer.insert("version".to_owned(), json!(JSON_VERSION));
    match object {
        Value::Object(fields) => answer.extend(fields),
        other => {
            answer.insert("result".to_owned(), other);
        }
    }
    format!("{:#}", Value::Object(answer))
}

/// A byte count for people: `812 B`, `44.1 kB`, `61.0 MB` (powers of 1000).
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["kB", "MB", "GB", "TB", "PB"];
    if count < 1000 {
        return format!("{count} B");
    }
    let mut value = count as f64 / 1000.0;
    let mut unit = 0;
    while value >= 999.95 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// A count with thousands separated by commas: `11,239`.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A count with its noun: `1 file`, `2,000 files`.
pub(crate) fn counted(number: u64, noun: &str) -> String {
    format!(
        "{} {noun}{}",
        count(number),
        if number == 1 { "" } else { "s" }
    )
}

/// Lines of a table: columns aligned, two blanks between them, nothing after the last.
pub(crate) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut out = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(cell);
            line.extend(std::iter::repeat_n(' ', width - cell.chars().count() + 2));
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

/// The first line of what a command said, for a line or a table: what follows is told elsewhere.
pub(crate) fn first_line(text: &str) -> &str {
    let line = text.trim_start().lines().next().unwrap_or_default();
    line.trim_end().trim_end_matches(':')
}

/// A text from outside (a path, a commit subject) with control characters made visible, so that
/// it cannot move the cursor or forge a line.
pub(crate) fn printable(text: &str) -> String {
    text.chars()
        .flat_map(|c| {
            if c.is_control() {
                c.escape_default().collect::<String>()
            } else {
                c.to_string()
            }
            .chars()
            .collect::<Vec<_>>()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_for_people() {
        for (number, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (44_120, "44.1 kB"),
            (999_999, "1.0 MB"),
            (61_000_000, "61.0 MB"),
        ] {
            assert_eq!(bytes(number), text);
        }
        for (number, text) in [
            (0, "0"),
            (999, "999"),
            (1000, "1,000"),
            (11_239, "11,239"),
            (1_000_000, "1,000,000"),
        ] {
            assert_eq!(count(number), text);
        }
        assert_eq!(counted(1, "file"), "1 file");
        assert_eq!(counted(4266, "file"), "4,266 files");
    }

    #[test]
    fn table_aligns_columns_and_leaves_no_blanks_at_the_end() {
        let rows = [
            vec!["a".to_owned(), "bbb".to_owned(), String::new()],
            vec!["äää".to_owned(), "b".to_owned()],
        ];
        assert_eq!(table(&rows), "a    bbb\näää  b\n");
    }

    #[test]
    fn json_begins_with_its_version() {
        let text = with_version(json!({ "release": "x" }));
        assert!(text.contains("\"version\": 1"), "{text}");
        assert!(text.contains("\"release\": \"x\""), "{text}");
    }

    #[test]
    fn output_of_a_command_is_one_line_where_one_is_wanted() {
        let text = "`php artisan migrate` ended with status 1:\n\nIn Connection.php line 712:\n";
        assert_eq!(
            first_line(text),
            "`php artisan migrate` ended with status 1"
        );
        assert_eq!(first_line(""), "");
    }

    #[test]
    fn control_characters_are_made_visible() {
        assert_eq!(printable("a\u{1b}[2Jb\nc ä"), "a\\u{1b}[2Jb\\nc ä");
    }
}
