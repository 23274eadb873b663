//! Private keys and tokens in the application's own files, by the shapes their issuers document. Pure.
//!
//! What is found is never repeated: a finding names the place and the kind. A shape is listed only
//! when it is hard to meet by chance, for a false alarm stops a build.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use rayon::prelude::*;
use regex::bytes::{Regex, RegexBuilder, RegexSet, RegexSetBuilder};

use super::answer::{Answer, Finding};
use super::tree::{OwnFile, Tree, line_at};

struct Shape {
    /// The end of the sentence "PATH holds ...".
    kind: &'static str,
    pattern: &'static str,
    /// End of the names of the files in which it means a secret.
    end: &'static str,
}

const fn shape(kind: &'static str, pattern: &'static str) -> Shape {
    Shape {
        kind,
        pattern,
        end: "",
    }
}

const SHAPES: [Shape; 20] = [
    shape(
        "a private key",
        // With the key itself: code that puts one together holds the first line alone. In between
        // are line ends, also written as `\n`, the quotes of a text in code, and headers.
        r#"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY(?: BLOCK)?-----(?:[\s"'.,+]|\\[nr]|[A-Za-z-]+: [^\n]*\n){0,200}[A-Za-z0-9+/=]{32}"#,
    ),
    shape("a PuTTY private key", r"PuTTY-User-Key-File-[23]: "),
    shape("an AWS access key", r"\b(?:AKIA|ASIA)[A-Z2-7]{16}\b"),
    shape(
        "an AWS secret key",
        r#"(?i)aws_?secret(?:_?access)?(?:_?key)?["']?\s*(?:=>|=|:|,)\s*["'][a-z0-9/+]{40}["']"#,
    ),
    shape("a GitHub token", r"\bgh[oprsu]_[A-Za-z0-9]{36}"),
    shape("a GitHub token", r"\bgithub_pat_[A-Za-z0-9_]{50}"),
    shape(
        "a GitLab token",
        r"\bgl(?:agent|cbt|dt|ft|imt|oas|pat|ptt|rt|soat)-[A-Za-z0-9_-]{20}",
    ),
    shape("a Slack token", r"\bxox[abeoprs]-[A-Za-z0-9-]{20}"),
    shape("a Slack token", r"\bxapp-[0-9]-[A-Za-z0-9-]{20}"),
    shape(
        "a Slack webhook address",
        r"\bhooks\.slack\.com/services/T[A-Z0-9]{6,}/B[A-Z0-9]{6,}/[A-Za-z0-9]{20}",
    ),
    shape("a Stripe live key", r"\b[rs]k_live_[A-Za-z0-9]{16}"),
    shape("a Stripe webhook secret", r"\bwhsec_[A-Za-z0-9+/]{32}"),
    shape("a Google API key", r"\bAIza[A-Za-z0-9_-]{35}"),
    shape("a Google OAuth secret", r"\bGOCSPX-[A-Za-z0-9_-]{28}"),
    shape(
        "a SendGrid key",
        r"\bSG\.[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{43}",
    ),
    shape("a Mailgun key", r"\bkey-[0-9a-f]{32}\b"),
    shape("an npm token", r"\bnpm_[A-Za-z0-9]{36}"),
    shape(
        "a token for an npm registry",
        r#":_authToken\s*=\s*["']?[A-Za-z0-9_.=+/-]{16}"#,
    ),
    shape(
        "a Composer token or password",
        r#""(?:bearer|forgejo-token|github-oauth|gitlab-oauth|gitlab-token)"\s*:\s*\{\s*"[^"]+"\s*:\s*(?:\{[^}]*"token"\s*:\s*)?"[A-Za-z0-9_.=-]{16}|"(?:bitbucket-oauth|http-basic)"\s*:\s*\{\s*"[^"]+"\s*:\s*\{[^}]*"(?:password|consumer-secret)"\s*:\s*"[^"$%<{]{4}"#,
    ),
    Shape {
        kind: "an application key (APP_KEY)",
        pattern: r"\bbase64:[A-Za-z0-9+/]{43}=",
        end: ".php",
    },
];

/// Names that documentation uses in place of a secret.
const EXAMPLE: &[u8] = b"EXAMPLE";
/// Shows which variables there are; what it holds is for everyone.
const EXAMPLE_FILE: &[u8] = b".env.example";

struct Known {
    any: RegexSet,
    each: Vec<Regex>,
}

static KNOWN: LazyLock<Known> = LazyLock::new(|| {
    let patterns = SHAPES.iter().map(|shape| shape.pattern);
    let each = patterns.clone().map(|pattern| {
        RegexBuilder::new(pattern)
            .unicode(false)
            .build()
            .expect("the patterns of the table are valid")
    });
    Known {
        any: RegexSetBuilder::new(patterns)
            .unicode(false)
            .build()
            .expect("the patterns of the table are valid"),
        each: each.collect(),
    }
});

/// Looks through all own files.
pub(crate) fn ask(tree: &Tree) -> Answer {
    let found: Vec<Vec<Finding>> = tree.own.par_iter().map(in_file).collect();
    let mut findings: Vec<Finding> = found.into_iter().flatten().collect();
    findings.extend(tree.unread.iter().cloned());
    Answer::of(findings).note(super::answer::counted(tree.own.len(), "file"))
}

fn in_file(file: &OwnFile) -> Vec<Finding> {
    let name = file.path.rsplit(|&byte| byte == b'/').next();
    if name == Some(EXAMPLE_FILE) {
        return Vec::new();
    }
    let mut found = BTreeSet::new();
    for index in &KNOWN.any.matches(&file.bytes) {
        let shape = &SHAPES[index];
        if !file.path.ends_with(shape.end.as_bytes()) {
            continue;
        }
        for hit in KNOWN.each[index].find_iter(&file.bytes) {
            if !hit.as_bytes().ends_with(EXAMPLE) {
                found.insert((line_at(&file.bytes, hit.start()), shape.kind));
            }
        }
    }
    found
        .into_iter()
        .map(|(line, kind)| Finding::on_line(&file.path, line, format!("holds {kind}")))
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::tree::testing::found;
    use super::*;
    use proptest::prelude::*;
    use proptest::strategy::Union;

    /// Secrets as they look, put together here so that no file of ours holds one.
    fn samples() -> Vec<(&'static str, String)> {
        let long = "aB3dE6gH9jK2mN5pQ8sT1vW4yZ7bC0eF";
        let hex = "0123456789abcdef0123456789abcdef";
        vec![
            (
                "a private key",
                format!("-----BEGIN RSA {}KEY-----\n{long}{long}\n", "PRIVATE "),
            ),
            (
                "a private key",
                format!("'-----BEGIN {}KEY-----\\n' .\n  '{long}{long}'", "PRIVATE "),
            ),
            (
                "a PuTTY private key",
                format!("PuTTY-User-Key{}: ssh-rsa", "-File-2"),
            ),
            ("an AWS access key", format!("AKIA{}", "ABCDEFGHIJKLMNOP")),
            (
                "an AWS secret key",
                format!("'aws_secret' => '{long}{}'", &long[..8]),
            ),
            ("a GitHub token", format!("ghp_{long}{}", &long[..4])),
            ("a GitHub token", format!("github_pat_{long}{long}")),
            ("a GitLab token", format!("glpat-{}", &long[..20])),
            ("a Slack token", format!("xoxb-{long}")),
            (
                "a Slack webhook address",
                format!("https://hooks.slack.com/services/T0000AAAA/B0000AAAA/{long}"),
            ),
            ("a Stripe live key", format!("sk_live_{long}")),
            ("a Stripe webhook secret", format!("whsec_{long}")),
            ("a Google API key", format!("AIza{long}{}", &long[..3])),
            ("a Google OAuth secret", format!("GOCSPX-{}", &long[..28])),
            (
                "a SendGrid key",
                format!("SG.{}.{long}{}", &long[..22], &long[..11]),
            ),
            ("a Mailgun key", format!("key-{hex}")),
            ("an npm token", format!("npm_{long}{}", &long[..4])),
            (
                "a token for an npm registry",
                format!("//registry.example.com/:_authToken={long}"),
            ),
            (
                "a Composer token or password",
                format!("{{\"github-oauth\": {{\"github.com\": \"{long}\"}}}}"),
            ),
            (
                "a Composer token or password",
                format!(
                    "\"http-basic\":{{\"repo.example.com\":{{\"username\":\"u\",\"password\":\"{hex}\"}}}}"
                ),
            ),
            (
                "an application key (APP_KEY)",
                format!("'key' => 'base64:{long}{}=',", &long[..11]),
            ),
        ]
    }

    #[test]
    fn each_shape_is_found_with_its_line_and_without_itself() {
        for (kind, secret) in samples() {
            let text = format!("<?php\n\n{secret}\n");
            let found = found(ask, &[("app/x.php", &text)]);
            assert_eq!(found, [format!("`app/x.php:3` holds {kind}")], "{secret}");
        }
    }

    #[test]
    fn packages_compiled_files_and_the_example_are_not_looked_at() {
        for path in [
            "vendor/a/b/key.pem",
            "resources/node_modules/a/x.js",
            "public/build/assets/app.js",
            ".env.example",
            "modules/a/.env.example",
        ] {
            for (_, secret) in samples() {
                assert_eq!(found(ask, &[(path, &secret)]), [""; 0], "{path}");
            }
        }
    }

    #[test]
    fn what_only_resembles_a_secret_is_passed_over() {
        let long = "aB3dE6gH9jK2mN5pQ8sT1vW4yZ7bC0eF";
        for text in [
            "strpos($key, '-----BEGIN PRIVATE KEY-----') === 0",
            "$pem = \"-----BEGIN RSA PRIVATE KEY-----\\n\" . chunk_split($key)",
            "-----BEGIN PUBLIC KEY-----\naB3dE6gH9jK2mN5pQ8sT1vW4yZ7bC0eFaB3dE6gH9jK2mN5pQ8sT1vW4yZ7bC0eF",
            "AKIAIOSFODNN7EXAMPLE",
            &format!("sk_test_{long}"),
            &format!("pk_live_{long}"),
            "'aws_secret' => env('AWS_SECRET_ACCESS_KEY')",
            "//registry.example/:_authToken=${NPM_TOKEN}",
            "{\"http-basic\": {\"repo.example.com\": {\"username\": \"u\", \"password\": \"%TOKEN%\"}}}",
            "base64:short=",
        ] {
            assert_eq!(found(ask, &[("config/x.php", text)]), [""; 0], "{text}");
        }
        let key = format!(
            "<server name=\"APP_KEY\" value=\"base64:{long}{}=\"/>",
            &long[..11]
        );
        assert_eq!(
            found(ask, &[("phpunit.xml", &key)]),
            [""; 0],
            "a test's own key"
        );
    }

    fn any_secret() -> impl Strategy<Value = (String, String)> {
        let one = |begin: &'static str, rest: &'static str, end: &'static str| {
            rest.prop_map(move |rest: String| (format!("{begin}{rest}{end}"), rest))
        };
        Union::new([
            one("AKIA", "[A-Z2-7]{16}", "").boxed(),
            one("ghp_", "[A-Za-z0-9]{36,60}", "").boxed(),
            one("glpat-", "[A-Za-z0-9_-]{20,40}", "").boxed(),
            one("sk_live_", "[A-Za-z0-9]{24,99}", "").boxed(),
            one("xoxp-", "[A-Za-z0-9-]{30,60}", "").boxed(),
            one(
                "-----BEGIN EC PRIVATE KEY-----\n",
                "[A-Za-z0-9+/]{64}",
                "\n",
            )
            .boxed(),
            one("'base64:", "[A-Za-z0-9+/]{43}", "='").boxed(),
            one(
                "\"bearer\":{\"a.example\":\"",
                "[A-Za-z0-9_.-]{16,64}",
                "\"}",
            )
            .boxed(),
        ])
    }

    proptest! {
        #[test]
        fn no_secret_is_ever_in_the_evidence(
            secrets in proptest::collection::vec(any_secret(), 1..6),
            noise in "[ a-z\n'\"=>]{0,40}",
        ) {
            let text: String = secrets.iter().map(|(text, _)| format!("{noise}\n{text}\n")).collect();
            let findings = in_file(&OwnFile { path: b"app/x.php".to_vec(), bytes: text.into_bytes() });
            let lines: Vec<String> = findings.iter().map(Finding::text).collect();
            prop_assert!(lines.len() >= secrets.len(), "{lines:?}");
            for (_, secret) in &secrets {
                for part in secret.as_bytes().windows(8) {
                    let part = std::str::from_utf8(part).unwrap();
                    prop_assert!(!lines.concat().contains(part), "{lines:?}");
                }
            }
        }

        #[test]
        fn any_bytes_are_looked_through_without_panic(bytes: Vec<u8>) {
            in_file(&OwnFile { path: b"x.php".to_vec(), bytes });
        }
    }
}
