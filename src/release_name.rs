//! The words by which people name a release. Pure; where the answers come from is the caller's part.
//!
//! A name is tried in this order, and the first that applies decides:
//!
//! 1. `latest`: the release that was stored last;
//! 2. `env:NAME`, `env:NAME@previous`: what the hosts of the environment serve, or served before;
//! 3. 64 hex digits: the release with this hash;
//! 4. 8 to 63 hex digits: the one release in the store whose hash begins so (several: refused);
//! 5. anything else, and a prefix that no release has: a commit, by git in the project (`HEAD`,
//!    branch, tag, hash) or as 40 hex digits without git, and the release that was built from it.
//!    Two releases built from one commit are refused: the build was not reproducible.

use relstore_store::id::{IdPrefix, ReleaseId};

use crate::error::CommandError;
use crate::git::NoAnswer;

/// A name as typed, sorted by its form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ReleaseName {
    Latest,
    Environment { name: String, previous: bool },
    Release(ReleaseId),
    Prefix(IdPrefix, String),
    Commit(String),
}

/// Why a name does not lead to one release.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NameError {
    #[error("`{name}` names no release")]
    Form { name: String },
    #[error("release {release} is not in the store")]
    NotStored { release: ReleaseId },
    #[error("`{prefix}` is the beginning of {} releases", candidates.len())]
    Ambiguous {
        prefix: String,
        candidates: Vec<ReleaseId>,
    },
    #[error("commit {commit} was built into {} different releases", releases.len())]
    Irreproducible {
        commit: String,
        releases: Vec<ReleaseId>,
    },
    #[error("no release was built from `{name}` (commit {})", short_commit(commit))]
    NotBuilt { name: String, commit: String },
    #[error("`{name}` is neither a release in the store nor a commit of the project")]
    Unknown { name: String },
    #[error("the store holds no release")]
    Empty,
}

/// The first 12 digits of a commit.
pub(crate) fn short_commit(commit: &str) -> &str {
    commit.get(..12).unwrap_or(commit)
}

/// Reads a name. The error is about its form alone.
pub(crate) fn parse(text: &str) -> Result<ReleaseName, NameError> {
    let malformed = || NameError::Form {
        name: text.to_owned(),
    };
    if text == "latest" {
        return Ok(ReleaseName::Latest);
    }
    if let Some(environment) = text.strip_prefix("env:") {
        let (name, previous) = match environment.split_once('@') {
            None => (environment, false),
            Some((name, "previous")) => (name, true),
            Some(_) => return Err(malformed()),
        };
        return match name {
            "" => Err(malformed()),
            _ => Ok(ReleaseName::Environment {
                name: name.to_owned(),
                previous,
            }),
        };
    }
    if let Ok(release) = text.parse() {
        return Ok(ReleaseName::Release(release));
    }
    if let Some(prefix) = IdPrefix::parse(text) {
        return Ok(ReleaseName::Prefix(prefix, text.to_owned()));
    }
    if text.is_empty() || text.starts_with('-') || text.chars().any(|c| c.is_control() || c == ' ')
    {
        return Err(malformed());
    }
    Ok(ReleaseName::Commit(text.to_owned()))
}

/// The one release that begins with the prefix; `None` when none does.
pub(crate) fn by_prefix(
    prefix: &IdPrefix,
    text: &str,
    stored: impl IntoIterator<Item = ReleaseId>,
) -> Result<Option<ReleaseId>, NameError> {
    let mut candidates: Vec<ReleaseId> = stored
        .into_iter()
        .filter(|release| prefix.matches(release))
        .collect();
    candidates.sort();
    candidates.dedup();
    match candidates.as_slice() {
        [] => Ok(None),
        [release] => Ok(Some(*release)),
        _ => Err(NameError::Ambiguous {
            prefix: text.to_owned(),
            candidates,
        }),
    }
}

/// The one release that was built from a commit.
pub(crate) fn of_commit(
    name: &str,
    commit: &str,
    built: Vec<ReleaseId>,
) -> Result<ReleaseId, NameError> {
    match built.as_slice() {
        [release] => Ok(*release),
        [] => Err(NameError::NotBuilt {
            name: name.to_owned(),
            commit: commit.to_owned(),
        }),
        _ => Err(NameError::Irreproducible {
            commit: commit.to_owned(),
            releases: built,
        }),
    }
}

impl NameError {
    /// Whether a build could bring what is named into the store.
    pub(crate) fn may_come(&self) -> bool {
        match self {
            // A commit that this machine has not fetched, or the beginning of a hash.
            Self::Unknown { name } => {
                name.len() >= IdPrefix::MIN && name.bytes().all(|c| c.is_ascii_hexdigit())
            }
            other => other.is_absence(),
        }
    }

    /// Whether the store has nothing of this name, rather than too much.
    pub(crate) fn is_absence(&self) -> bool {
        match self {
            Self::NotStored { .. } | Self::NotBuilt { .. } | Self::Unknown { .. } | Self::Empty => {
                true
            }
            Self::Form { .. } | Self::Ambiguous { .. } | Self::Irreproducible { .. } => false,
        }
    }

    /// A name the store does not know, which git was not able to explain.
    pub(crate) fn unanswered(name: &str, silent: NoAnswer) -> CommandError {
        let unknown = Self::Unknown {
            name: name.to_owned(),
        };
        match silent.hint {
            Some(hint) => CommandError::bad_input(unknown.to_string())
                .cause(silent.why)
                .hint(hint),
            None => CommandError::from(unknown).cause(silent.why),
        }
    }
}

impl From<NameError> for CommandError {
    fn from(error: NameError) -> Self {
        let mut command_error = Self::bad_input(error.to_string());
        match error {
            NameError::Form { .. } => command_error
                .hint("a release is a hash, a prefix of 8 digits or more, HEAD, a commit, branch or tag, `latest`, `env:NAME` or `env:NAME@previous`"),
            NameError::NotStored { .. } | NameError::Empty => {
                command_error.hint("`relstore list` shows what the store holds, `relstore build` adds to it, `relstore pull` fetches from a remote")
            }
            NameError::Ambiguous { candidates, .. } => {
                for candidate in candidates {
                    command_error = command_error.detail(candidate.to_string());
                }
                command_error.hint("type more digits")
            }
            NameError::Irreproducible { releases, .. } => {
                for release in &releases {
                    command_error = command_error.detail(release.to_string());
                }
                let diff: Vec<String> = releases.iter().take(2).map(ReleaseId::short).collect();
                command_error.hint(format!("`relstore diff {}` shows what differs; name the one you want by its hash", diff.join(" ")))
            }
            NameError::NotBuilt { name, .. } => command_error.hint(format!("run `relstore build --ref {name}`, or `relstore pull {name}` when another machine built it (`--wait 3m` waits for it)")),
            NameError::Unknown { name } => {
                let digits = name.bytes().all(|c| c.is_ascii_hexdigit());
                if digits && name.len() < IdPrefix::MIN {
                    command_error.hint(format!("the prefix of a hash needs at least {} digits", IdPrefix::MIN))
                } else {
                    command_error.hint("`relstore list` shows what the store holds")
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_are_sorted_by_their_form() {
        let release = ReleaseId::of(b"x");
        assert_eq!(parse("latest"), Ok(ReleaseName::Latest));
        assert_eq!(
            parse("env:prod"),
            Ok(ReleaseName::Environment {
                name: "prod".into(),
                previous: false
            })
        );
        assert_eq!(
            parse("env:prod@previous"),
            Ok(ReleaseName::Environment {
                name: "prod".into(),
                previous: true
            })
        );
        assert_eq!(
            parse(&release.to_string()),
            Ok(ReleaseName::Release(release))
        );
        assert!(matches!(
            parse(&release.short()),
            Ok(ReleaseName::Prefix(..))
        ));
        for commit in [
            "HEAD",
            "main",
            "v1.2",
            "feature/x",
            "HEAD~1",
            "abc1234",
            "deadbeefx",
            "DEADBEEF",
        ] {
            assert_eq!(
                parse(commit),
                Ok(ReleaseName::Commit(commit.into())),
                "{commit}"
            );
        }
        for wrong in [
            "",
            "env:",
            "env:@previous",
            "env:a@next",
            "--all",
            "a b",
            "a\nb",
        ] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn ambiguous_prefix_lists_every_candidate() {
        let mut bytes = [0xab; 32];
        let first = ReleaseId::from_bytes(bytes);
        bytes[31] = 0;
        let second = ReleaseId::from_bytes(bytes);
        let text = "abababab";
        let prefix = IdPrefix::parse(text).unwrap();
        assert_eq!(by_prefix(&prefix, text, [first]), Ok(Some(first)));
        assert_eq!(by_prefix(&prefix, text, [ReleaseId::of(b"y")]), Ok(None));
        let error = by_prefix(&prefix, text, [first, second, first]).unwrap_err();
        let text = CommandError::from(error).to_string();
        assert!(
            text.contains(&first.to_string()) && text.contains(&second.to_string()),
            "{text}"
        );
    }

    #[test]
    fn commit_with_two_releases_is_refused_and_both_are_named() {
        let (a, b) = (ReleaseId::of(b"a"), ReleaseId::of(b"b"));
        assert_eq!(of_commit("HEAD", "c0ffee", vec![a]), Ok(a));
        let text =
            CommandError::from(of_commit("HEAD", "c0ffee", vec![a, b]).unwrap_err()).to_string();
        assert!(
            text.contains(&a.to_string())
                && text.contains(&b.to_string())
                && text.contains("relstore diff"),
            "{text}"
        );
    }

    #[test]
    fn name_that_was_never_built_says_how_to_build_it() {
        let text = CommandError::from(of_commit("main", "c0ffee", vec![]).unwrap_err()).to_string();
        assert!(text.contains("relstore build --ref main"), "{text}");
    }
}
