//! A gate that fails stores nothing, whichever of the nine it is.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::Fixture;
use super::site::{commit, git, path, relstore, told};

/// Every file of a folder with its bytes.
fn bytes_of(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("the store is there").flatten() {
            if entry.path().is_dir() {
                folders.push(entry.path());
            } else {
                found.insert(
                    entry.path(),
                    fs::read(entry.path()).expect("the file is readable"),
                );
            }
        }
    }
    found
}

#[test]
fn each_of_the_nine_gates_refuses_names_what_is_missing_and_stores_nothing() {
    let fixture = Fixture::get();
    let folder = tempfile::Builder::new()
        .prefix("relstore-gates-")
        .tempdir()
        .unwrap();
    let (home, store) = (folder.path().join("home"), folder.path().join("store"));
    // The built tree as sources without build steps, so that each of the nine can be taken away.
    let project = folder.path().join("project");
    fs::create_dir(&project).unwrap();
    let nine = [
        "artisan",
        "composer.json",
        "public/index.php",
        "public/build/manifest.json",
        "vendor/autoload.php",
        "bootstrap",
        "config",
        "routes",
        "app",
    ];
    for name in nine {
        let inside = if name.contains('.') || name == "artisan" {
            name.to_owned()
        } else {
            format!("{name}/x.php")
        };
        let file = project.join(inside);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        // An object without entries is a manifest of Vite too.
        let content = match name.ends_with(".json") {
            true => "{}\n".to_owned(),
            false => format!("{name}\n"),
        };
        fs::write(file, content).unwrap();
    }
    fs::write(
        project.join("relstore.toml"),
        "app = \"nine\"\n[build]\nsteps = []\n[shared]\npaths = []\n[writable]\npaths = []\n",
    )
    .unwrap();
    git(&project, &["init", "--quiet"]);
    commit(&project, "All nine");
    let build = || {
        relstore(&project, &home)
            .args(["build", "--store", path(&store)])
            .output()
            .unwrap()
    };
    let whole = build();
    assert!(whole.status.success(), "{}", told(&whole));
    let before = bytes_of(&store);
    for name in nine {
        git(&project, &["rm", "-r", "--quiet", name]);
        commit(&project, "One is missing");
        let ran = build();
        assert_eq!(ran.status.code(), Some(4), "{name}: {}", told(&ran));
        assert!(
            String::from_utf8_lossy(&ran.stderr).contains(&format!("`{name}` is missing")),
            "{name}: {}",
            told(&ran)
        );
        assert!(ran.stdout.is_empty(), "{name}: {}", told(&ran));
        assert_eq!(bytes_of(&store), before, "{name}");
        git(&project, &["reset", "--quiet", "--hard", "HEAD~1"]);
    }
    // Several at once are all told.
    git(
        &project,
        &["rm", "-r", "--quiet", "artisan", "config", "routes"],
    );
    commit(&project, "Three are missing");
    let ran = build();
    let stderr = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert!(
        ["artisan", "config", "routes"]
            .iter()
            .all(|name| stderr.contains(&format!("`{name}` is missing"))),
        "{stderr}"
    );
    assert!(fixture.store.exists());
}
