//! One package of an application, whoever locked it.

use std::collections::BTreeMap;

use data_encoding::{BASE64, HEXLOWER};
use serde::Serialize;

/// Where packages come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ecosystem {
    /// PHP packages.
    Composer,
    /// JavaScript packages, whichever program installs them.
    Npm,
}

impl Ecosystem {
    /// The type of a package URL.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Composer => "composer",
            Self::Npm => "npm",
        }
    }
}

/// A package in one version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Package {
    /// Where it comes from.
    pub ecosystem: Ecosystem,
    /// With its vendor or scope: `laravel/framework`, `@babel/core`.
    pub name: String,
    /// As locked.
    pub version: String,
    /// The package URL, such as `pkg:composer/laravel/framework@v11.0.0`.
    pub purl: String,
    /// Lower-case hex by the name of an in-toto DigestSet: `sha1` and `sha512` of the archive,
    /// `gitCommit` of the source; `yarnChecksum` is of the archive that Yarn makes itself.
    pub digests: BTreeMap<String, String>,
    /// As the package says them: mostly SPDX ids, of which any one may be chosen.
    pub licences: Vec<String>,
    /// Whether the lock says that only development needs it. pnpm 9 and Yarn do not say it.
    pub dev: bool,
    /// Whether it is left out where it does not fit the platform.
    pub optional: bool,
    /// Where it is downloaded, without user, password and query, which may be secrets.
    pub url: Option<String>,
}

impl Package {
    /// A package of which no more is known.
    #[must_use]
    pub fn new(ecosystem: Ecosystem, name: &str, version: &str) -> Self {
        Self {
            ecosystem,
            name: name.to_owned(),
            version: version.to_owned(),
            purl: purl(ecosystem, name, version),
            digests: BTreeMap::new(),
            licences: Vec::new(),
            dev: false,
            optional: false,
            url: None,
        }
    }

    pub(crate) fn add_digest(&mut self, algorithm: &str, hex: String) {
        self.digests.insert(algorithm.to_owned(), hex);
    }

    /// Adds what npm calls `integrity`: `sha512-<base64>`, several separated by blanks. What is
    /// written otherwise says nothing.
    pub(super) fn add_integrity(&mut self, integrity: &str) {
        for part in integrity.split_ascii_whitespace() {
            let Some((algorithm, rest)) = part.split_once('-') else {
                continue;
            };
            let encoded = rest.split('?').next().unwrap_or(rest);
            let length = match algorithm {
                "sha1" => 20,
                "sha256" => 32,
                "sha384" => 48,
                "sha512" => 64,
                _ => continue,
            };
            if let Ok(digest) = BASE64.decode(encoded.as_bytes())
                && digest.len() == length
            {
                self.add_digest(algorithm, HEXLOWER.encode(&digest));
            }
        }
    }

    /// Adds where it is downloaded; of a git repository the commit after `#` too.
    pub(super) fn add_url(&mut self, url: &str) {
        let (place, fragment) = url.split_once('#').unwrap_or((url, ""));
        if is_commit(fragment) {
            self.add_digest("gitCommit", fragment.to_owned());
        }
        self.url = public_url(place);
    }
}

/// The same package at several places of a tree is one; it is for development only when all are.
pub(super) fn merged(packages: Vec<Package>) -> Vec<Package> {
    let mut by_purl: BTreeMap<(String, String), Package> = BTreeMap::new();
    for package in packages {
        let key = (package.name.clone(), package.version.clone());
        match by_purl.entry(key) {
            std::collections::btree_map::Entry::Vacant(entry) => {
                entry.insert(package);
            }
            std::collections::btree_map::Entry::Occupied(mut entry) => {
                let known = entry.get_mut();
                known.dev &= package.dev;
                known.optional &= package.optional;
                known.digests.extend(package.digests);
                known.url = known.url.take().or(package.url);
            }
        }
    }
    by_purl.into_values().collect()
}

/// Whether this is the full name of a git commit.
pub(super) fn is_commit(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && is_hex(text)
}

pub(super) fn is_hex(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'))
}

/// The package URL (github.com/package-url): names of Composer are lower case, everything but
/// unreserved characters is escaped.
fn purl(ecosystem: Ecosystem, name: &str, version: &str) -> String {
    let name = match ecosystem {
        Ecosystem::Composer => name.to_lowercase(),
        Ecosystem::Npm => name.to_owned(),
    };
    let segments: Vec<String> = name.split('/').map(escaped).collect();
    let mut purl = format!("pkg:{}/{}", ecosystem.name(), segments.join("/"));
    if !version.is_empty() {
        purl.push('@');
        purl.push_str(&escaped(version));
    }
    purl
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b':') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// The address that may be published: only of the network, without user, password, query and
/// fragment. Paths of a machine say nothing elsewhere.
pub(super) fn public_url(url: &str) -> Option<String> {
    const SCHEMES: [&str; 7] = [
        "https",
        "http",
        "git+https",
        "git+http",
        "git+ssh",
        "ssh",
        "git",
    ];
    let (scheme, rest) = url.split_once("://")?;
    if !SCHEMES.contains(&scheme) {
        return None;
    }
    let rest = rest.split(['?', '#']).next().unwrap_or(rest);
    // The last `@`, wherever it is: a password may have a `/` or an `@` in it. A path with an `@`
    // (scoped packages) is kept when nothing before it can be a password.
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (authority, path) = match authority.rsplit_once('@') {
        Some((_, host)) => (host, path),
        None if authority.contains(':') && !is_port(authority) => return None,
        None => (authority, path),
    };
    let plain = |c: char| c.is_ascii_graphic();
    let url = format!("{scheme}://{authority}/{path}");
    (!authority.is_empty() && url.chars().all(plain)).then_some(url)
}

/// Whether what follows the last colon is a port, and so what is before it a host.
fn is_port(authority: &str) -> bool {
    let (host, port) = authority.rsplit_once(':').unwrap_or((authority, ""));
    let bare = !host.contains(':') || (host.starts_with('[') && host.ends_with(']'));
    bare && !port.is_empty() && port.bytes().all(|c| c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn package_urls_are_written_as_specified() {
        for (ecosystem, name, version, url) in [
            (
                Ecosystem::Composer,
                "Laravel/Framework",
                "v8.0",
                "pkg:composer/laravel/framework@v8.0",
            ),
            (
                Ecosystem::Composer,
                "a/b",
                "dev-x/y",
                "pkg:composer/a/b@dev-x%2Fy",
            ),
            (Ecosystem::Npm, "vite", "7.0.0", "pkg:npm/vite@7.0.0"),
            (
                Ecosystem::Npm,
                "@babel/core",
                "1.0.0+b ü",
                "pkg:npm/%40babel/core@1.0.0%2Bb%20%C3%BC",
            ),
            (Ecosystem::Npm, "x", "", "pkg:npm/x"),
        ] {
            assert_eq!(purl(ecosystem, name, version), url);
        }
    }

    #[test]
    fn integrity_becomes_hex_and_other_texts_nothing() {
        let mut package = Package::new(Ecosystem::Npm, "x", "1");
        package.add_integrity("sha1-2jmj7l5rSw0yVb/vlWAYkK/YBwk= sha512-AAAA md5-x - sha256-%%%%");
        let sha1 = "da39a3ee5e6b4b0d3255bfef95601890afd80709".to_owned();
        assert_eq!(package.digests, BTreeMap::from([("sha1".to_owned(), sha1)]));
    }

    #[test]
    fn addresses_lose_all_that_could_be_secret() {
        for (url, public) in [
            (
                "https://me:s3ntinel@r.example/a.tgz?token=s3ntinel",
                Some("https://r.example/a.tgz"),
            ),
            (
                "https://s3n@tinel:x@r.example:8080/@a/b.tgz",
                Some("https://r.example:8080/@a/b.tgz"),
            ),
            (
                "git+ssh://git@r.example/a/b.git",
                Some("git+ssh://r.example/a/b.git"),
            ),
            (
                "https://r.example/@babel/core.tgz#x",
                Some("https://r.example/@babel/core.tgz"),
            ),
            ("http://[::1]:80/x", Some("http://[::1]:80/x")),
            ("https://me:s3nt/inel@r.example/x", None),
            ("file:///home/ann/x.tgz", None),
            ("packages/x.zip", None),
            ("git@r.example:a/b", None),
            ("https:///x", None),
        ] {
            assert_eq!(public_url(url).as_deref(), public, "{url}");
        }
    }

    proptest! {
        #[test]
        fn no_password_survives(user in "[a-z]{0,4}", word in "s3ntinel[/@:?#a-z]{0,6}", path in "[a-z/@]{0,9}") {
            for url in [
                format!("https://{user}:{word}@r.example/{path}"),
                format!("https://r.example/x?{user}={word}"),
            ] {
                let public = public_url(&url).unwrap_or_default();
                prop_assert!(!public.contains("s3ntinel"), "{}", public);
            }
        }
    }
}
