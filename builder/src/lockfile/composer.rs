//! `composer.lock`.

use serde::Deserialize;

use super::package::{Ecosystem, Package, is_commit, is_hex, public_url};
use super::{COMPOSER_LOCK, LockError, syntax};

#[derive(Deserialize)]
struct Lock {
    #[serde(default)]
    packages: Vec<Locked>,
    /// `null` in locks that were written without development packages.
    #[serde(rename = "packages-dev", default)]
    packages_dev: Option<Vec<Locked>>,
}

#[derive(Deserialize)]
struct Locked {
    name: String,
    version: String,
    #[serde(default)]
    dist: Option<Place>,
    #[serde(default)]
    source: Option<Place>,
    #[serde(default)]
    license: Option<Licence>,
}

#[derive(Deserialize)]
struct Place {
    #[serde(rename = "type", default)]
    kind: Option<String>,
    #[serde(default)]
    url: Option<String>,
    #[serde(default)]
    reference: Option<String>,
    #[serde(default)]
    shasum: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Licence {
    One(String),
    Many(Vec<String>),
}

pub(super) fn parse(content: &[u8]) -> Result<Vec<Package>, LockError> {
    let lock: Lock = serde_json::from_slice(content)
        .map_err(|error| syntax(COMPOSER_LOCK)(error.to_string()))?;
    let needed = lock
        .packages
        .into_iter()
        .map(|locked| package(locked, false));
    let dev = lock.packages_dev.unwrap_or_default();
    Ok(needed
        .chain(dev.into_iter().map(|locked| package(locked, true)))
        .collect())
}

fn package(locked: Locked, dev: bool) -> Package {
    let mut package = Package::new(Ecosystem::Composer, &locked.name, &locked.version);
    package.dev = dev;
    package.licences = match locked.license {
        None => Vec::new(),
        Some(Licence::One(licence)) => vec![licence],
        Some(Licence::Many(licences)) => licences,
    };
    let shasum = locked.dist.as_ref().and_then(|dist| dist.shasum.clone());
    if let Some(sha1) = shasum.filter(|sha1| sha1.len() == 40 && is_hex(sha1)) {
        package.add_digest("sha1", sha1);
    }
    // The reference of an archive may be anything: of `artifact` and `path` repositories it looks
    // like a commit and is none.
    let git = locked
        .source
        .filter(|place| place.kind.as_deref() == Some("git"));
    let commit = git.as_ref().and_then(|source| source.reference.clone());
    if let Some(commit) = commit.filter(|commit| is_commit(commit)) {
        package.add_digest("gitCommit", commit);
    }
    let url = |place: Option<Place>| place.and_then(|place| public_url(&place.url?));
    package.url = url(locked.dist).or_else(|| url(git));
    package
}

#[cfg(test)]
pub(super) const EXAMPLE: &str = r#"{
    "content-hash": "x",
    "packages": [
        {
            "name": "laravel/framework",
            "version": "v11.1.0",
            "source": {"type": "git", "url": "https://git.example/laravel/framework.git", "reference": "0123456789abcdef0123456789abcdef01234567"},
            "dist": {"type": "zip", "url": "https://user:s3ntinel@zip.example/x.zip", "reference": "0123456789abcdef0123456789abcdef01234567", "shasum": ""},
            "type": "library",
            "license": ["MIT"]
        },
        {
            "name": "acme/local",
            "version": "dev-main",
            "dist": {"type": "path", "url": "../local", "reference": "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}
        }
    ],
    "packages-dev": [
        {
            "name": "mockery/mockery",
            "version": "1.5.1",
            "dist": {"type": "zip", "url": "packages/mockery.zip", "reference": "da39a3ee5e6b4b0d3255bfef95601890afd80709", "shasum": "da39a3ee5e6b4b0d3255bfef95601890afd80709"},
            "license": "BSD-3-Clause"
        }
    ],
    "minimum-stability": "stable"
}"#;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn packages_have_what_identifies_them() {
        let packages = parse(EXAMPLE.as_bytes()).unwrap();
        let [framework, local, mockery] = &packages[..] else {
            panic!("three packages")
        };
        assert_eq!(framework.purl, "pkg:composer/laravel/framework@v11.1.0");
        assert_eq!(framework.digests["gitCommit"].len(), 40);
        assert_eq!(framework.digests.len(), 1);
        assert_eq!(framework.url.as_deref(), Some("https://zip.example/x.zip"));
        assert_eq!(framework.licences, ["MIT"]);
        assert!(local.digests.is_empty() && local.licences.is_empty() && !local.dev);
        assert!(mockery.dev);
        assert_eq!(
            mockery.digests["sha1"],
            "da39a3ee5e6b4b0d3255bfef95601890afd80709"
        );
        assert_eq!((mockery.digests.len(), &mockery.url), (1, &None));
        assert_eq!(mockery.licences, ["BSD-3-Clause"]);
    }

    #[test]
    fn mistake_is_named_with_its_place() {
        let error = parse(b"{\"packages\": [\n{\"name\": 1}]}").unwrap_err();
        assert!(error.to_string().contains("at line 2"), "{error}");
        assert_eq!(parse(b"{\"packages-dev\": null}").unwrap(), []);
    }
}
