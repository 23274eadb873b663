//! No request fails and no answer mixes releases while releases are switched.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::Site;
use super::site::{Answer, get};

/// Names of the hashed assets of a release, from its manifest.
fn assets(site: &Site, release: &str) -> BTreeSet<String> {
    let manifest = site.expect(0, &["manifest", release]).stdout;
    String::from_utf8(manifest)
        .unwrap()
        .lines()
        .filter_map(|line| {
            Some(
                line.rsplit('\t')
                    .next()?
                    .strip_prefix("public/")?
                    .to_owned(),
            )
        })
        .filter(|path| path.starts_with("build/assets/"))
        .map(|path| format!("/{path}"))
        .collect()
}

/// What is wrong with an answer; `None` when all of it is from one known release.
fn fault(
    path: &str,
    answer: &Answer,
    known: &BTreeMap<String, BTreeSet<String>>,
) -> Option<String> {
    if answer.status != 200 {
        return Some(format!("{path}: {} {}", answer.status, answer.body));
    }
    let release = match path {
        "/healthcheck.php" => answer
            .body
            .trim()
            .strip_prefix("ok ")
            .unwrap_or_default()
            .to_owned(),
        _ => answer.header("X-Release").unwrap_or_default().to_owned(),
    };
    let Some(assets) = known.get(&release) else {
        return Some(format!("{path}: release {release:?}"));
    };
    if path == "/api/health-check" && !answer.body.contains(&release) {
        return Some(format!("{path}: header and body differ: {answer:?}"));
    }
    if path == "/" {
        // Laravel writes whole addresses: what counts is the path.
        let used: Vec<&str> = answer
            .body
            .split(['"', '\''])
            .filter_map(|word| word.find("/build/").map(|at| &word[at..]))
            .collect();
        if used.is_empty() {
            return Some(format!("{path}: the page uses no asset"));
        }
        if let Some(word) = used.iter().find(|word| !assets.contains(**word)) {
            return Some(format!("{path}: {word} is not of release {release}"));
        }
        if !answer.body.contains(&format!("content=\"{release}\"")) {
            return Some(format!("{path}: the page is not of release {release}"));
        }
    }
    None
}

#[test]
fn fifty_switches_under_requests_lose_and_mix_nothing() {
    let site = Site::new("switches", 18120);
    let releases = [site.fixture.first.clone(), site.fixture.second.clone()];
    site.deploy(&releases[0]);
    site.deploy(&releases[1]);
    let known: BTreeMap<_, _> = releases
        .iter()
        .map(|id| (id.clone(), assets(&site, id)))
        .collect();
    assert!(known.values().all(|assets| assets.len() >= 3), "{known:?}");
    let known = Arc::new(known);
    let stop = Arc::new(AtomicBool::new(false));
    let port = site.port;
    let load: Vec<_> = ["/", "/api/health-check", "/healthcheck.php"]
        .into_iter()
        .map(|path| {
            let (known, stop) = (Arc::clone(&known), Arc::clone(&stop));
            std::thread::spawn(move || {
                let (mut count, mut faults, mut served) = (0u32, Vec::new(), BTreeSet::new());
                while !stop.load(Ordering::Relaxed) {
                    count += 1;
                    match get(port, path) {
                        Ok(answer) => {
                            served
                                .insert(answer.header("X-Release").unwrap_or_default().to_owned());
                            faults.extend(fault(path, &answer, &known));
                        }
                        Err(error) => faults.push(format!("{path}: {error}")),
                    }
                }
                (path, count, faults, served)
            })
        })
        .collect();
    for turn in 0..50 {
        site.deploy(&releases[turn % 2]);
    }
    stop.store(true, Ordering::Relaxed);
    for thread in load {
        let (path, count, faults, served) = thread.join().unwrap();
        assert!(
            faults.is_empty(),
            "{} of {count} requests: {:#?}",
            faults.len(),
            &faults[..faults.len().min(5)]
        );
        assert!(count > 50, "only {count} requests to {path}");
        assert!(
            path == "/healthcheck.php" || served.len() == 2,
            "{path} was served by {served:?}"
        );
    }
}
