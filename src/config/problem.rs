//! What is wrong with a configuration file: one [`Problem`] per mistake, all of them together.

use std::fmt;

/// Where something stands in a file; both numbers begin at 1, columns count characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) line: usize,
    pub(crate) column: usize,
}

impl Place {
    /// The place of a byte offset in a text; an offset inside a character counts as its begin.
    pub(crate) fn of(text: &str, offset: usize) -> Self {
        let mut end = offset.min(text.len());
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let before = &text[..end];
        let line = before.matches('\n').count() + 1;
        let column = before
            .rsplit('\n')
            .next()
            .unwrap_or_default()
            .chars()
            .count()
            + 1;
        Self { line, column }
    }
}

/// A value together with the place where the file says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Placed<T> {
    pub(crate) value: T,
    pub(crate) place: Place,
}

/// One mistake in a configuration file. The message never repeats a value that may be a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    /// Where; `None` when the mistake is that something is absent from the file altogether.
    pub(crate) place: Option<Place>,
    /// Path of the key as people write it: `env.prod.health[0].bearer`; empty for syntax errors.
    pub(crate) key: String,
    pub(crate) message: String,
}

impl Problem {
    pub(crate) fn new(
        place: Option<Place>,
        key: impl Into<String>,
        message: impl Into<String>,
    ) -> Self {
        Self {
            place,
            key: key.into(),
            message: message.into(),
        }
    }
}

/// `12:3: env.prod.base: ...`, so that a file name and a colon before it make a link in terminals.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = self.place {
            write!(f, "{}:{}: ", place.line, place.column)?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.message)
    }
}

/// The known word nearest to a mistyped one, when one is near enough to be what was meant.
pub(crate) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = word.to_lowercase();
    known
        .into_iter()
        .map(|candidate| {
            (
                strsim::damerau_levenshtein(&lower, &candidate.to_lowercase()),
                candidate,
            )
        })
        .filter(|(distance, candidate)| *distance <= 1 + candidate.len().min(word.len()) / 4)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn place_counts_lines_and_characters_from_one() {
        let text = "a = 1\nä = 2\n";
        for (offset, line, column) in [
            (0, 1, 1),
            (4, 1, 5),
            (6, 2, 1),
            (7, 2, 1),
            (8, 2, 2),
            (999, 3, 1),
        ] {
            assert_eq!(
                Place::of(text, offset),
                Place { line, column },
                "offset {offset}"
            );
        }
    }

    #[test]
    fn nearest_suggests_typing_mistakes_and_nothing_else() {
        let known = ["steps", "exclude", "env", "health_interval"];
        assert_eq!(nearest("step", known), Some("steps"));
        assert_eq!(nearest("exlcude", known), Some("exclude"));
        assert_eq!(nearest("health-interval", known), Some("health_interval"));
        assert_eq!(nearest("Env", known), Some("env"));
        assert_eq!(nearest("database", known), None);
        assert_eq!(nearest("", known), None);
    }
}
