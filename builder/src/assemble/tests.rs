//! Trees with everything in them that a project can have.
#![allow(clippy::unwrap_used)]
use super::*;
use std::os::unix::fs::symlink;

struct Folders {
    root: tempfile::TempDir,
}

impl Folders {
    fn new(files: &[(&str, u32)]) -> Self {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("tree")).unwrap();
        std::fs::create_dir(root.path().join("build")).unwrap();
        for (name, mode) in files {
            let file = root.path().join("build").join(name);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(&file, name).unwrap();
            std::fs::set_permissions(&file, PermissionsExt::from_mode(*mode)).unwrap();
        }
        Self { root }
    }

    fn build(&self, name: &str) -> std::path::PathBuf {
        self.root.path().join("build").join(name)
    }

    fn tree(&self, name: &str) -> std::path::PathBuf {
        self.root.path().join("tree").join(name)
    }

    fn run(&self, exclude: &[&str], packages: bool) -> Result<Assembled, BuildError> {
        let exclude: Vec<String> = exclude.iter().map(|&text| text.to_owned()).collect();
        assemble(
            &self.build(""),
            &self.tree(""),
            &Excludes::of_release(&exclude).unwrap(),
            &layout(),
            packages,
        )
    }

    fn mode(&self, name: &str) -> u32 {
        std::fs::metadata(self.tree(name))
            .unwrap()
            .permissions()
            .mode()
            & 0o7777
    }
}

fn layout() -> Layout {
    let paths = |texts: &[&str]| {
        texts
            .iter()
            .map(|&text| EntryPath::new(text).unwrap())
            .collect::<Vec<_>>()
    };
    Layout {
        shared_files: paths(&[".env", "database/database.sqlite"]),
        shared_dirs: paths(&["storage"]),
        writable_dirs: paths(&["bootstrap/cache"]),
    }
}

fn refused(result: Result<Assembled, BuildError>) -> Vec<String> {
    match result.unwrap_err() {
        BuildError::Refused { refusals } => {
            refusals.into_iter().map(|refusal| refusal.path).collect()
        }
        error => panic!("{error}"),
    }
}

#[test]
fn modes_are_one_of_two_and_excluded_files_stay_behind() {
    let folders = Folders::new(&[
        ("artisan", 0o4700),
        ("app/a.php", 0o600),
        ("tests/a.php", 0o644),
        ("docs/only/a.md", 0o644),
        ("bootstrap/app.php", 0o664),
        ("bootstrap/cache/packages.php", 0o755),
        ("storage/logs/.gitignore", 0o644),
        ("public/index.php", 0o644),
    ]);
    std::fs::create_dir_all(folders.build("resources/none")).unwrap();
    let assembled = folders.run(&["docs/only/*"], true).unwrap();
    assert_eq!(assembled.files, 5);
    assert_eq!(folders.mode("artisan"), 0o755);
    assert_eq!(folders.mode("app/a.php"), 0o644);
    assert!(folders.tree("bootstrap/cache").is_dir());
    assert!(!folders.tree("bootstrap/cache/packages.php").exists());
    assert!(
        folders.tree("resources/none").is_dir(),
        "it was empty before"
    );
    assert!(!folders.tree("docs").exists() && !folders.tree("tests").exists());
    assert_eq!(
        std::fs::read_link(folders.tree("public/storage")).unwrap(),
        Path::new("../storage/app/public")
    );
}

#[test]
fn only_declared_binaries_of_packages_are_executable() {
    let installed =
        r#"{"packages":[{"install-path":"../acme/tool","bin":["bin/tool","../../../x"]}]}"#;
    let files = [
        ("vendor/bin/tool", 0o644),
        ("vendor/acme/tool/bin/tool", 0o644),
        ("vendor/acme/tool/src/a.php", 0o755),
    ];
    let folders = Folders::new(&files);
    std::fs::create_dir_all(folders.build("vendor/composer")).unwrap();
    std::fs::write(folders.build("vendor/composer/installed.json"), installed).unwrap();
    folders.run(&[], true).unwrap();
    assert_eq!(
        files.map(|(name, _)| folders.mode(name)),
        [0o755, 0o755, 0o644]
    );

    let folders = Folders::new(&files);
    folders.run(&[], false).unwrap();
    assert_eq!(
        files.map(|(name, _)| folders.mode(name)),
        [0o644, 0o644, 0o755]
    );
}

#[test]
fn everything_that_no_release_may_have_is_named_at_once() {
    let folders = Folders::new(&[
        (".env", 0o644),
        ("vendor/a/b/.env", 0o644),
        ("database/database.sqlite", 0o644),
        ("app/a.php", 0o644),
    ]);
    for (link, target) in [
        ("app/absolute", "/etc/passwd"),
        ("app/out", "../../x"),
        ("app/back", "../app/../app"),
        ("app/fine", "./a.php"),
    ] {
        symlink(target, folders.build(link)).unwrap();
    }
    let _socket = std::os::unix::net::UnixListener::bind(folders.build("app/socket")).unwrap();
    let refused = refused(folders.run(&[], true));
    assert_eq!(
        refused,
        [
            "app/absolute",
            "app/back",
            "app/out",
            "app/socket",
            "database/database.sqlite",
            "vendor/a/b/.env"
        ]
    );
}

#[test]
fn own_patterns_leave_out_what_would_be_refused() {
    let folders = Folders::new(&[("database/database.sqlite", 0o644), ("artisan", 0o755)]);
    symlink("/etc", folders.build("etc")).unwrap();
    let kept = folders.run(&["etc", "database/*.sqlite"], true).unwrap();
    assert_eq!(kept.files, 1);
}

#[test]
fn links_are_written_in_one_way() {
    for (target, plain) in [
        ("./a", "a"),
        ("a//b/", "a/b"),
        ("../a/./b", "../a/b"),
        ("/a/", "/a/"),
    ] {
        assert_eq!(plain_target(target.as_bytes()), plain.as_bytes());
    }
    let folders = Folders::new(&[("public/index.php", 0o644), ("public/a", 0o644)]);
    symlink(
        "/home/me/app/storage/app/public",
        folders.build("public/storage"),
    )
    .unwrap();
    symlink("./a", folders.build("public/b")).unwrap();
    folders.run(&[], true).unwrap();
    let read = |name| std::fs::read_link(folders.tree(name)).unwrap();
    assert_eq!(read("public/storage"), Path::new("../storage/app/public"));
    assert_eq!(read("public/b"), Path::new("a"));
}
