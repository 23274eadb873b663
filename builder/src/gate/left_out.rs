//! What lies in a project's folder and would be in no release of it: the excluded, what hosts fill,
//! what git ignores. A release's own tree has nothing of that.

use std::collections::BTreeSet;
use std::path::Path;

use relstore_store::import::Layout;

use crate::exclude::Excludes;
use crate::git::Git;

/// Paths that gates pass over. The default passes over nothing but repositories.
#[derive(Debug, Clone, Default)]
pub struct LeftOut {
    excludes: Option<Excludes>,
    /// Whole folders and files, raw bytes.
    paths: BTreeSet<Vec<u8>>,
    /// Folders of which only the `.gitignore` files are the application's.
    shared: Vec<Vec<u8>>,
}

impl LeftOut {
    /// What a project's folder holds beside a release: `excludes`, what `layout` says is filled on
    /// hosts, and what git ignores, except `made`, the outputs of the steps. Where git does not answer, nothing
    /// says which files below shared folders are the application's and which are uploads and logs:
    /// these are passed over then.
    #[must_use]
    pub fn of_project(
        root: &Path,
        excludes: Excludes,
        layout: &Layout,
        made: &[String],
        search_path: &str,
        home: Option<&Path>,
    ) -> Self {
        let writable = layout.writable_dirs.iter();
        let mut paths: BTreeSet<Vec<u8>> = writable
            .chain(&layout.shared_files)
            .map(|path| path.as_bytes().to_vec())
            .collect();
        let mut shared = Vec::new();
        match ignored(root, search_path, home) {
            Some(ignored) => paths.extend(ignored.into_iter().filter(|path| !is_made(path, made))),
            None => {
                let dirs = layout.shared_dirs.iter();
                shared.extend(dirs.map(|path| path.as_bytes().to_vec()));
            }
        }
        Self {
            excludes: Some(excludes),
            paths,
            shared,
        }
    }

    /// Whether this very path is passed over with all below it; for walks from the top.
    pub(crate) fn takes(&self, path: &[u8]) -> bool {
        let name = path.rsplit(|&byte| byte == b'/').next();
        let excluded = |excludes: &Excludes| excludes.matches(path);
        let runtime = |folder: &Vec<u8>| {
            path.strip_prefix(folder.as_slice())
                .is_some_and(|rest| rest.first() == Some(&b'/'))
        };
        name == Some(b".git")
            || self.paths.contains(path)
            || self.excludes.as_ref().is_some_and(excluded)
            || self.shared.iter().any(runtime)
    }
}

/// What git ignores there; `None` when it does not answer.
fn ignored(root: &Path, search_path: &str, home: Option<&Path>) -> Option<Vec<Vec<u8>>> {
    let git = Git::find(root, search_path, home).ok()?;
    let args = [
        "ls-files",
        "-z",
        "--others",
        "--ignored",
        "--exclude-standard",
        "--directory",
    ];
    let list = git.output("list the ignored files", &args).ok()?;
    let paths = list
        .split(|&byte| byte == 0)
        .map(|path| path.strip_suffix(b"/").unwrap_or(path))
        .filter(|path| !path.is_empty());
    Some(paths.map(<[u8]>::to_vec).collect())
}

/// Whether a step makes it, or something in it: git may call a whole folder ignored.
fn is_made(path: &[u8], made: &[String]) -> bool {
    let inside = |outer: &[u8], inner: &[u8]| {
        let rest = inner.strip_prefix(outer);
        rest.is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
    };
    made.iter()
        .map(String::as_bytes)
        .any(|output| inside(output, path) || inside(path, output))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::tree::{Tree, testing::folder};
    use super::*;
    use relstore_store::name::EntryPath;

    const PATH: &str = "/usr/local/bin:/usr/bin:/bin";

    fn tree(root: &Path) -> Tree {
        let path = |text: &str| EntryPath::new(text).unwrap();
        let layout = Layout {
            shared_files: vec![path(".env")],
            shared_dirs: vec![path("storage")],
            writable_dirs: vec![path("bootstrap/cache")],
        };
        let excludes = Excludes::of_release(&["docs".to_owned()]).unwrap();
        let left_out =
            LeftOut::of_project(root, excludes, &layout, &["vendor".to_owned()], PATH, None);
        Tree::read(root, &left_out)
    }

    fn kept(root: &Path) -> Vec<String> {
        let tree = tree(root);
        let own = tree.own.iter().map(|file| &file.path);
        own.map(|path| String::from_utf8(path.clone()).unwrap())
            .collect()
    }

    const FILES: [(&str, &str); 10] = [
        (".env", "x"),
        (".gitignore", "*.log\n/vendor\n/public/build\n"),
        ("app/a.php", "x"),
        ("app/debug.log", "x"),
        ("bootstrap/cache/config.php", "x"),
        ("docs/a.md", "x"),
        ("node_modules/a.js", "x"),
        ("storage/app/seed.json", "x"),
        ("storage/logs/laravel.log", "x"),
        ("vendor/autoload.php", "x"),
    ];

    #[test]
    fn ignored_excluded_and_runtime_files_are_passed_over() {
        let root = folder(&FILES);
        let git = Git::find(root.path(), PATH, None).unwrap();
        git.output("init", &["init", "-q"]).unwrap();
        assert_eq!(
            kept(root.path()),
            [".gitignore", "app/a.php", "storage/app/seed.json"]
        );
        let has_packages = tree(root.path()).has_file(b"vendor/autoload.php");
        assert!(has_packages, "ignored, but a step makes it");
    }

    #[test]
    fn without_git_shared_folders_are_passed_over() {
        let root = folder(&FILES);
        assert_eq!(
            kept(root.path()),
            [".gitignore", "app/a.php", "app/debug.log"]
        );
    }
}
