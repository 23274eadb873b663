//! The verbs with which values are taken out of the raw file: expand, check, note what is wrong.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::problem::{Place, Placed, Problem};
use super::variables::{ExpandError, Variables, expand, is_name};

/// Takes values out of the raw file, one by one.
pub(super) struct Resolver<'a> {
    pub(super) variables: &'a Variables,
    pub(super) folder: &'a Path,
    pub(super) problems: Vec<Problem>,
    /// Problems that count only when the environment is used.
    pub(super) undefined: Vec<Problem>,
}

impl Resolver<'_> {
    pub(super) fn problem(&mut self, place: Option<Place>, key: &str, message: impl Into<String>) {
        self.problems.push(Problem::new(place, key, message));
    }

    /// The value with its variables replaced.
    pub(super) fn text(
        &mut self,
        key: &str,
        raw: Option<&Placed<String>>,
    ) -> Option<Placed<String>> {
        let raw = raw?;
        match expand(&raw.value, self.variables) {
            Ok(value) => Some(Placed {
                value,
                place: raw.place,
            }),
            Err(ExpandError::Undefined(name)) => {
                let message = format!("the environment variable {name} is not set");
                self.undefined
                    .push(Problem::new(Some(raw.place), key, message));
                None
            }
            Err(ExpandError::Malformed) => {
                self.problem(Some(raw.place), key, "`${` must be followed by a variable name and `}` (write `$${` for a plain `${`)");
                None
            }
        }
    }

    /// The value when it passes the check. The message quotes what the file says, never what a
    /// variable brought in: that may be a secret.
    pub(super) fn checked<T>(
        &mut self,
        key: &str,
        raw: Option<&Placed<String>>,
        check: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        let text = self.text(key, raw)?;
        match check(&text.value) {
            Ok(value) => Some(value),
            Err(message) => {
                let written = raw.map(|raw| raw.value.as_str()).unwrap_or_default();
                self.problem(Some(text.place), key, format!("{written:?} {message}"));
                None
            }
        }
    }

    pub(super) fn list<T>(
        &mut self,
        key: &str,
        raw: Option<&Placed<Vec<Placed<String>>>>,
        check: impl Fn(&str) -> Result<T, String>,
    ) -> Option<Vec<T>> {
        let values = &raw?.value;
        let checked = values.iter().enumerate().filter_map(|(index, value)| {
            self.checked(&format!("{key}[{index}]"), Some(value), &check)
        });
        Some(checked.collect())
    }

    pub(super) fn number(&mut self, key: &str, raw: Option<&Placed<i64>>, default: u32) -> u32 {
        let Some(raw) = raw else { return default };
        match u32::try_from(raw.value) {
            Ok(number @ 1..=1000) => number,
            _ => {
                self.problem(Some(raw.place), key, "must be a number from 1 to 1000");
                default
            }
        }
    }

    pub(super) fn environment_variables(
        &mut self,
        key: &str,
        raw: &BTreeMap<String, Placed<String>>,
    ) -> BTreeMap<String, String> {
        let mut variables = BTreeMap::new();
        for (name, value) in raw {
            let key = format!("{key}.{name}");
            if !is_name(name) {
                self.problem(
                    Some(value.place),
                    &key,
                    "is no name of an environment variable",
                );
            }
            if let Some(text) = self.text(&key, Some(value)) {
                variables.insert(name.clone(), text.value);
            }
        }
        variables
    }

    /// A path of this machine: `~/` is the home folder, anything else relative to the file.
    pub(super) fn path(&self, text: &str) -> PathBuf {
        match (text.strip_prefix("~/"), self.variables.get("HOME")) {
            (Some(rest), Some(home)) => Path::new(home).join(rest),
            // Without parts that say nothing, so that one place has one name.
            _ => self.folder.join(text).components().collect(),
        }
    }
}
