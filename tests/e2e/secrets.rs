//! Secrets of `.env` and tokens appear nowhere: no output, ledger, journal, record, no file of the
//! store, and on the host only where they belong.

use std::fs;
use std::path::Path;

use super::Site;
use super::site::{TOKEN, replace, told};

const PASSWORD: &str = "sentinel-password-0815";

/// Files below a folder that hold a secret.
fn holders(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let kind = entry.file_type().expect("the entry is there");
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() {
                let bytes = fs::read(entry.path()).unwrap_or_default();
                let text = String::from_utf8_lossy(&bytes);
                if text.contains(TOKEN) || text.contains(PASSWORD) {
                    found.push(entry.path().display().to_string());
                }
            }
        }
    }
    found.sort();
    found
}

#[test]
fn no_secret_is_printed_logged_or_stored() {
    let site = Site::new("secrets", 18140);
    replace(
        &site.base.join("shared/.env"),
        "QUEUE_CONNECTION",
        &format!("OTHER_PASSWORD={PASSWORD}\nQUEUE_CONNECTION"),
    );
    let first = site.fixture.first.clone();
    let mut said = String::new();
    for arguments in [
        vec!["deploy", &first, "--env", "test", "--verbose"],
        vec!["deploy", &site.fixture.broken, "--env", "test", "--verbose"],
        vec!["deploy", &site.fixture.second, "--env", "test", "--json"],
        vec!["rollback", "--env", "test"],
        vec!["status", "--env", "test", "--json"],
        vec!["history", "--env", "test", "--json"],
        vec!["verify", "--env", "test", "--json"],
        vec!["show", &first, "--json"],
    ] {
        said.push_str(&told(&site.run(&arguments)));
    }
    for secret in [TOKEN, PASSWORD] {
        assert!(!said.contains(secret), "{secret} in {said}");
    }
    assert!(said.contains("503"), "the broken release did fail: {said}");
    assert_eq!(holders(&site.fixture.store), Vec::<String>::new());
    assert_eq!(holders(&site.home()), Vec::<String>::new());
    // On the host: `.env`, and the configuration caches that Laravel made of it.
    let wrong: Vec<String> = holders(&site.base)
        .into_iter()
        .filter(|file| {
            !file.ends_with("/shared/.env") && !file.ends_with("/bootstrap/cache/config.php")
        })
        .collect();
    assert_eq!(wrong, Vec::<String>::new());
    // The scan does find what is there.
    assert!(
        holders(&site.base)
            .iter()
            .any(|file| file.ends_with("/shared/.env"))
    );
}
