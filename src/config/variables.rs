//! `${NAME}` in configuration values. Pure: the variables are passed in.

use std::collections::BTreeMap;

/// The environment variables of the process, read once by the context.
#[derive(Clone, Default)]
pub(crate) struct Variables(BTreeMap<String, String>);

impl Variables {
    /// The value of a variable; an empty one counts as not set, as it does for most programs.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0
            .get(name)
            .map(String::as_str)
            .filter(|value| !value.is_empty())
    }
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for Variables {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        Self(
            pairs
                .into_iter()
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
        )
    }
}

/// Why a value cannot be expanded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ExpandError {
    /// The variable is not set (or empty).
    Undefined(String),
    /// `${` without a variable name and a closing brace.
    Malformed,
}

/// Replaces each `${NAME}` by the variable's value; `$${` stands for `${`, any other `$` for itself.
/// What a variable brings in is not expanded again.
pub(crate) fn expand(text: &str, variables: &Variables) -> Result<String, ExpandError> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        if let Some(after) = rest.strip_prefix("$${") {
            out.push_str("${");
            rest = after;
        } else if let Some(after) = rest.strip_prefix("${") {
            let end = after.find('}').ok_or(ExpandError::Malformed)?;
            let name = &after[..end];
            if !is_name(name) {
                return Err(ExpandError::Malformed);
            }
            let value = variables
                .get(name)
                .ok_or_else(|| ExpandError::Undefined(name.to_owned()))?;
            out.push_str(value);
            rest = &after[end + 1..];
        } else {
            out.push('$');
            rest = &rest[1..];
        }
    }
    out.push_str(rest);
    Ok(out)
}

/// Whether a text can be the name of an environment variable.
pub(crate) fn is_name(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes
        .next()
        .is_some_and(|c| c.is_ascii_alphabetic() || c == b'_')
        && bytes.all(|c| c.is_ascii_alphanumeric() || c == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_braced_names_are_replaced_and_only_once() {
        let variables = Variables::from_iter([("A", "1"), ("B_2", "${A}"), ("EMPTY", "")]);
        let expand = |text| expand(text, &variables);
        for (text, expected) in [
            ("plain", "plain"),
            ("${A}${A}-x", "11-x"),
            ("${B_2}", "${A}"),
            ("$A $ $$ $1", "$A $ $$ $1"),
            ("$${A} ä ${A}", "${A} ä 1"),
        ] {
            assert_eq!(expand(text).as_deref(), Ok(expected), "{text}");
        }
        for text in ["${}", "${A", "${A B}", "${1}", "${ä}"] {
            assert_eq!(expand(text), Err(ExpandError::Malformed), "{text}");
        }
        assert_eq!(
            expand("${NO}"),
            Err(ExpandError::Undefined("NO".to_owned()))
        );
        assert_eq!(
            expand("${EMPTY}"),
            Err(ExpandError::Undefined("EMPTY".to_owned()))
        );
    }
}
