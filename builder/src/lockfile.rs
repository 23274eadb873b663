//! Lock files: which packages an application is made of, in which version, with which digests.
//! Pure parsers, each for what its package manager writes.
//!
//! Parts that are the application's own (workspaces, linked folders) are left out: the commit says
//! what is in them. A lock file that lacks something (old versions of Composer wrote no licence)
//! gives packages without it; one that is no lock file is an error.

mod composer;
mod npm;
mod package;
mod pnpm;
mod yarn;

pub use package::{Ecosystem, Package};

/// Why a file is not read as a lock file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LockError {
    /// It is not written as its package manager writes it.
    #[error("{file} is damaged: {what}")]
    Syntax {
        /// Its name.
        file: &'static str,
        /// What was found, with the place where that is known.
        what: String,
    },
    /// An old or unknown format, in which packages are found elsewhere.
    #[error("{file} has the format {version}, which is not known here")]
    Version {
        /// Its name.
        file: &'static str,
        /// As written.
        version: String,
    },
}

impl LockError {
    /// What to do next, when there is something to do.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let command = match self {
            Self::Version {
                file: PACKAGE_LOCK, ..
            } => "npm install --package-lock-only",
            Self::Version {
                file: PNPM_LOCK, ..
            } => "pnpm install --lockfile-only",
            _ => return None,
        };
        Some(format!(
            "`{command}` with a current version writes it anew; commit it"
        ))
    }
}

const COMPOSER_LOCK: &str = "composer.lock";
const PACKAGE_LOCK: &str = "package-lock.json";
const PNPM_LOCK: &str = "pnpm-lock.yaml";
const YARN_LOCK: &str = "yarn.lock";

/// The lock files that can be read, by their names at the top of the project.
pub const NAMES: [&str; 4] = [COMPOSER_LOCK, PACKAGE_LOCK, PNPM_LOCK, YARN_LOCK];

/// Reads the lock file of this name: its packages, each once, sorted by name and version.
///
/// # Errors
/// A [`LockError`].
pub fn parse(name: &str, content: &[u8]) -> Result<Vec<Package>, LockError> {
    let packages = match name {
        COMPOSER_LOCK => composer::parse(content)?,
        PACKAGE_LOCK => npm::parse(content)?,
        PNPM_LOCK => pnpm::parse(content)?,
        YARN_LOCK => yarn::parse(content)?,
        _ => Vec::new(),
    };
    Ok(package::merged(packages))
}

fn syntax(file: &'static str) -> impl Fn(String) -> LockError {
    move |what| LockError::Syntax { file, what }
}

/// Reads YAML into a type. What is accepted is bounded by the size of the file: aliases, which
/// lock files never have, are refused.
fn yaml<T: serde::de::DeserializeOwned>(
    file: &'static str,
    content: &[u8],
) -> Result<T, LockError> {
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_aliases: 0,
            max_anchors: 0,
            max_events: content.len().saturating_add(16),
            max_nodes: content.len().saturating_add(16),
        },
        with_snippet: false,
    };
    let text = text(file, content)?;
    serde_saphyr::from_str_with_options(text, options)
        .map_err(|error| syntax(file)(error.to_string()))
}

fn text<'a>(file: &'static str, content: &'a [u8]) -> Result<&'a str, LockError> {
    std::str::from_utf8(content).map_err(|error| syntax(file)(error.to_string()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_no_lock_file_is_refused_with_its_name() {
        for name in NAMES {
            for content in [&b"[1, 2]"[..], b"{", b"\xff\xfe", b"a\n  b: [", b"null"] {
                let error = parse(name, content).unwrap_err();
                assert!(error.to_string().starts_with(name), "{name}: {error}");
            }
        }
    }

    #[test]
    fn aliases_of_yaml_cannot_multiply() {
        let bomb = "lockfileVersion: '9.0'\na: &a [x, x]\nb: &b [*a, *a]\npackages: {}\n";
        assert!(parse(PNPM_LOCK, bomb.as_bytes()).is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,300}") {
            for name in NAMES {
                let _ = parse(name, text.as_bytes());
            }
        }

        #[test]
        fn any_bytes_in_a_lock_are_read_or_refused(at in 0usize..4096, byte in any::<u8>()) {
            for (name, content) in [
                (COMPOSER_LOCK, composer::EXAMPLE),
                (PACKAGE_LOCK, npm::EXAMPLE),
                (PNPM_LOCK, pnpm::EXAMPLE),
                (YARN_LOCK, yarn::EXAMPLE),
                (YARN_LOCK, yarn::BERRY),
            ] {
                let mut bytes = content.as_bytes().to_vec();
                let at = at % bytes.len();
                bytes[at] = byte;
                let _ = parse(name, &bytes);
                let _ = parse(name, &bytes[..at]);
            }
        }
    }
}
