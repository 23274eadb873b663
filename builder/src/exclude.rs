//! What of the source is no part of a release. Pure.
//!
//! A pattern is a path from the project's folder; `*` stands for any part of one name; `**/` in
//! front means "at any depth of the application's own files", which are all but those below
//! `vendor/`: packages need their folders, whatever their names are. What matches is left out with
//! all below it.
//!
//! A name alone means the top folder only, other than in a .gitignore: `docs` must not take
//! `resources/views/docs` out of a release, where nobody would miss it before a visitor does.

use relstore_store::name::escape;

/// Never read by a step and never released: the repository itself, what belongs to one machine or
/// to deploys. `relstore.toml` is among them, so that a new host does not make a new release.
const PRIVATE: [&str; 4] = ["**/.git", "**/node_modules", DOTENV, "relstore.toml"];
const DOTENV: &str = "**/.env*";
/// The one `.env*` file that is part of an application: `.env` is compared with it on hosts.
const EXAMPLE: &[u8] = b".env.example";
/// May be needed by a step, never by a release. `public/hot` tells Laravel to ask Vite's
/// development server for assets; auth.json and .npmrc hold credentials for package registries.
const UNRELEASED: [&str; 11] = [
    "tests",
    "public/hot",
    "auth.json",
    ".npmrc",
    "**/.idea",
    "**/.vscode",
    "**/.DS_Store",
    "**/Thumbs.db",
    "**/*.swp",
    "**/*.swo",
    "**/*~",
];

/// Why a text is not a pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{pattern}` {reason}")]
pub struct PatternError {
    /// As given.
    pub pattern: String,
    /// The end of the sentence.
    pub reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Pattern {
    any_depth: bool,
    /// A last name that the pattern does not take.
    spared: Option<&'static [u8]>,
    names: Vec<Vec<u8>>,
}

impl Pattern {
    fn parse(text: &str) -> Result<Self, PatternError> {
        let fail = |reason| PatternError {
            pattern: text.to_owned(),
            reason,
        };
        let plain = text.strip_suffix('/').unwrap_or(text);
        let (any_depth, plain) = match plain.strip_prefix("**/") {
            Some(rest) => (true, rest),
            None => (false, plain.strip_prefix('/').unwrap_or(plain)),
        };
        let names: Vec<Vec<u8>> = plain
            .split('/')
            .map(|name| name.as_bytes().to_vec())
            .collect();
        for name in &names {
            match name.as_slice() {
                b"" => return Err(fail("has an empty name in it")),
                b"." | b".." => return Err(fail("has `.` or `..` in it")),
                name if name.windows(2).any(|pair| pair == b"**") => {
                    return Err(fail("has `**` elsewhere than in `**/` at its beginning"));
                }
                _ => {}
            }
        }
        if names.iter().all(|name| name == b"*") {
            return Err(fail("means everything"));
        }
        let spared = (text == DOTENV).then_some(EXAMPLE);
        Ok(Self {
            any_depth,
            spared,
            names,
        })
    }

    fn matches(&self, path: &[&[u8]]) -> bool {
        if self.spared.is_some() && self.spared == path.last().copied() {
            return false;
        }
        let same = |path: &[&[u8]]| {
            path.len() == self.names.len()
                && path
                    .iter()
                    .zip(&self.names)
                    .all(|(name, glob)| glob_matches(glob, name))
        };
        if !self.any_depth {
            return same(path);
        }
        let own = path.first() != Some(&b"vendor".as_slice());
        own && path.len() >= self.names.len() && same(&path[path.len() - self.names.len()..])
    }
}

/// Whether a name fits a glob in which `*` stands for any bytes. Never exponential: only the last
/// star is tried anew.
fn glob_matches(glob: &[u8], name: &[u8]) -> bool {
    let (mut g, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        if glob.get(g) == Some(&b'*') {
            star = Some((g, n));
            g += 1;
        } else if glob.get(g) == Some(&name[n]) {
            g += 1;
            n += 1;
        } else if let Some((at, taken)) = star {
            star = Some((at, taken + 1));
            g = at + 1;
            n = taken + 1;
        } else {
            return false;
        }
    }
    glob[g..].iter().all(|&byte| byte == b'*')
}

/// A set of patterns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Excludes {
    patterns: Vec<Pattern>,
}

impl Excludes {
    /// What does not even reach the steps: repository, machine, deploy; and what the steps make
    /// themselves (`outputs`, paths), so that no old copy of it survives.
    ///
    /// # Errors
    /// [`PatternError`] when an output is no pattern.
    pub fn of_source<'a>(outputs: impl IntoIterator<Item = &'a str>) -> Result<Self, PatternError> {
        Self::parse(PRIVATE.into_iter().chain(outputs))
    }

    /// What is not released: the defaults and the project's own patterns.
    ///
    /// # Errors
    /// [`PatternError`].
    pub fn of_release(own: &[String]) -> Result<Self, PatternError> {
        let own = own.iter().map(String::as_str);
        Self::parse(PRIVATE.into_iter().chain(UNRELEASED).chain(own))
    }

    /// Any patterns: paths and patterns of a step.
    ///
    /// # Errors
    /// [`PatternError`].
    pub(crate) fn of(patterns: &[String]) -> Result<Self, PatternError> {
        Self::parse(patterns.iter().map(String::as_str))
    }

    fn parse<'a>(patterns: impl Iterator<Item = &'a str>) -> Result<Self, PatternError> {
        Ok(Self {
            patterns: patterns.map(Pattern::parse).collect::<Result<_, _>>()?,
        })
    }

    /// Whether a pattern names this very path (raw bytes). For walks that go down from the top
    /// and stop at what matches.
    #[must_use]
    pub fn matches(&self, path: &[u8]) -> bool {
        let names: Vec<&[u8]> = path.split(|&byte| byte == b'/').collect();
        self.patterns.iter().any(|pattern| pattern.matches(&names))
    }

    /// Whether the path or a folder above it is left out. For lists of paths.
    #[must_use]
    pub fn covers(&self, path: &[u8]) -> bool {
        let ends = (0..path.len()).filter(|&at| path[at] == b'/');
        ends.chain([path.len()])
            .any(|end| self.matches(&path[..end]))
    }
}

/// The default patterns, for people.
#[must_use]
pub fn defaults() -> Vec<&'static str> {
    PRIVATE.into_iter().chain(UNRELEASED).collect()
}

/// Escapes raw path bytes for a message.
pub(crate) fn shown(path: &[u8]) -> String {
    escape(path)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn release(own: &[&str]) -> Excludes {
        let own: Vec<String> = own.iter().map(|&text| text.to_owned()).collect();
        Excludes::of_release(&own).unwrap()
    }

    #[test]
    fn defaults_take_what_no_release_needs_and_nothing_else() {
        let excludes = release(&[]);
        for out in [
            ".git/HEAD",
            ".env",
            ".env.production",
            "modules/a/.env",
            "node_modules/vite/bin/vite.js",
            "resources/x/node_modules/y",
            "tests/Feature/ExampleTest.php",
            ".idea/workspace.xml",
            "app/.Models.php.swp",
            "config/app.php~",
            "public/.DS_Store",
            "public/hot",
            "auth.json",
            ".npmrc",
            "relstore.toml",
        ] {
            assert!(excludes.covers(out.as_bytes()), "{out}");
        }
        for kept in [
            "artisan",
            ".env.example",
            "modules/a/.env.example",
            "vendor/a/b/tests/Helper.php",
            "vendor/a/b/.vscode/x",
            "vendor/a/node_modules/x",
            "resources/views/tests/index.blade.php",
            "app/hot",
            "modules/relstore.toml",
            "public/.htaccess",
            ".gitignore",
        ] {
            assert!(!excludes.covers(kept.as_bytes()), "{kept}");
        }
    }

    #[test]
    fn own_patterns_begin_at_the_top_unless_they_say_otherwise() {
        assert!(release(&["**/.env.example"]).covers(b"a/.env.example"));
        let excludes = release(&[
            "docs",
            "/packages/",
            "public/*.map",
            "**/*.md",
            "vendor/x/y/doc",
        ]);
        for out in [
            "docs/a",
            "packages/a.zip",
            "public/app.map",
            "app/README.md",
            "vendor/x/y/doc/z",
        ] {
            assert!(excludes.covers(out.as_bytes()), "{out}");
        }
        for kept in [
            "resources/views/docs/a",
            "docs2",
            "public/build/app.map",
            "vendor/x/README.md",
            "app/a.mdx",
        ] {
            assert!(!excludes.covers(kept.as_bytes()), "{kept}");
        }
    }

    #[test]
    fn patterns_that_mean_nothing_or_everything_are_refused() {
        for wrong in [
            "", "/", "a//b", "../a", "a/./b", "a/**/b", "**", "*", "**/*", "*/*",
        ] {
            let own = [wrong.to_owned()];
            assert!(Excludes::of_release(&own).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn outputs_of_steps_are_no_source() {
        let excludes = Excludes::of_source(["vendor", "public/build"]).unwrap();
        assert!(excludes.covers(b"vendor/autoload.php"));
        assert!(excludes.covers(b"public/build/manifest.json"));
        assert!(!excludes.covers(b"tests/a.php") && !excludes.covers(b"public/index.php"));
    }

    proptest! {
        #[test]
        fn glob_agrees_with_its_definition(glob in "[a*]{0,6}", name in "[ab]{0,8}") {
            fn slow(glob: &[u8], name: &[u8]) -> bool {
                match glob.split_first() {
                    None => name.is_empty(),
                    Some((b'*', rest)) => (0..=name.len()).any(|at| slow(rest, &name[at..])),
                    Some((byte, rest)) => name.first() == Some(byte) && slow(rest, &name[1..]),
                }
            }
            let (glob, name) = (glob.as_bytes(), name.as_bytes());
            prop_assert_eq!(glob_matches(glob, name), slow(glob, name));
        }

        #[test]
        fn any_bytes_are_judged_without_panic(path: Vec<u8>) {
            let _ = release(&["a/*b*/c", "**/x"]).covers(&path);
        }
    }
}
