//! A hermetic place to run the program in: empty environment, own HOME, fixed git identity.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

/// A folder with a home, a project and a store of its own.
pub(crate) struct TestEnv {
    root: TempDir,
    variables: Vec<(String, String)>,
}

/// What a run of the program left behind; paths of the test's folder are written as `$ROOT`.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) code: i32,
}

impl Ran {
    /// The one JSON document on stdout.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }

    /// Exit code and both streams, for snapshots.
    pub(crate) fn all(&self) -> String {
        format!(
            "exit {}\n--- stdout\n{}--- stderr\n{}",
            self.code, self.stdout, self.stderr
        )
    }

    /// Panics unless the program succeeded.
    pub(crate) fn ok(self) -> Self {
        assert_eq!(self.code, 0, "{}", self.all());
        self
    }

    /// Panics unless the program ended with this exit code.
    pub(crate) fn fails(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{}", self.all());
        self
    }
}

impl TestEnv {
    /// Empty home and project folders.
    pub(crate) fn new() -> Self {
        let root = tempfile::Builder::new()
            .prefix("relstore-test-")
            .tempdir()
            .expect("a temp folder can be made");
        fs::create_dir(root.path().join("home")).expect("the temp folder is writable");
        fs::create_dir(root.path().join("project")).expect("the temp folder is writable");
        Self {
            root,
            variables: Vec::new(),
        }
    }

    /// The folder everything is in.
    pub(crate) fn root(&self) -> &Path {
        self.root.path()
    }

    /// The project's folder.
    pub(crate) fn project(&self) -> PathBuf {
        self.root.path().join("project")
    }

    /// The store's folder of the app `notes`, where the defaults put it.
    pub(crate) fn store(&self) -> PathBuf {
        self.root.path().join("home/.local/share/relstore/notes")
    }

    /// Sets an environment variable for all runs from here on.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.variables.push((name.to_owned(), value.to_owned()));
    }

    /// Writes a file of the project, with its folders.
    pub(crate) fn write(&self, path: &str, text: &str) {
        let path = self.project().join(path);
        fs::create_dir_all(path.parent().expect("a file has a folder"))
            .expect("the project is writable");
        fs::write(path, text).expect("the project is writable");
    }

    /// Removes a file or folder of the project.
    pub(crate) fn remove(&self, path: &str) {
        let path = self.project().join(path);
        let removed = if path.is_dir() {
            fs::remove_dir_all(&path)
        } else {
            fs::remove_file(&path)
        };
        removed.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }

    /// Runs the program in the project's folder.
    pub(crate) fn run<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Ran {
        self.run_in(&self.project(), arguments)
    }

    /// Runs the program in a folder.
    pub(crate) fn run_in<A: AsRef<OsStr>>(
        &self,
        folder: &Path,
        arguments: impl IntoIterator<Item = A>,
    ) -> Ran {
        let mut command = self.command(env!("CARGO_BIN_EXE_relstore"));
        command.args(arguments).current_dir(folder);
        self.finished(command)
    }

    /// Runs a shell script in the project whose arguments are the program and these.
    pub(crate) fn script(&self, script: &str, arguments: &[&str]) -> Ran {
        let mut command = self.command("sh");
        command
            .args(["-c", script, "sh", env!("CARGO_BIN_EXE_relstore")])
            .args(arguments)
            .current_dir(self.project());
        self.finished(command)
    }

    /// Runs a command to its end.
    pub(crate) fn finished(&self, mut command: Command) -> Ran {
        let output = command.output().expect("the program can be started");
        let text = |bytes: Vec<u8>| {
            let root = self.root.path().to_str().expect("the temp folder is UTF-8");
            String::from_utf8(bytes)
                .expect("the program prints UTF-8")
                .replace(root, "$ROOT")
        };
        Ran {
            stdout: text(output.stdout),
            stderr: text(output.stderr),
            code: output.status.code().unwrap_or(-1),
        }
    }

    /// A command in the test's own environment, and nothing of ours.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env(
                "PATH",
                std::env::var_os("PATH").expect("tests run with a PATH"),
            )
            .env("HOME", self.root.path().join("home"))
            .env("USER", "tester")
            .env("HOSTNAME", "here")
            .env("TZ", "UTC")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null());
        command
    }

    /// Runs git in the project with a fixed identity and date; returns what it printed.
    pub(crate) fn git(&self, arguments: &[&str]) -> String {
        let output = self
            .command("git")
            .args([
                "-c",
                "user.name=Tester",
                "-c",
                "user.email=tester@example.com",
                "-c",
                "init.defaultBranch=main",
            ])
            .args(["-c", "commit.gpgsign=false"])
            .args(arguments)
            .env("GIT_AUTHOR_DATE", "2026-01-02T03:04:05Z")
            .env("GIT_COMMITTER_DATE", "2026-01-02T03:04:05Z")
            .current_dir(self.project())
            .output()
            .expect("git is installed");
        assert!(
            output.status.success(),
            "git {arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout)
            .expect("git prints UTF-8 here")
            .trim()
            .to_owned()
    }

    /// Commits everything in the project; returns the commit.
    pub(crate) fn commit(&self, subject: &str) -> String {
        if !self.project().join(".git").exists() {
            self.git(&["init", "--quiet"]);
        }
        self.git(&["add", "--all", "--force"]);
        self.git(&["commit", "--quiet", "--allow-empty", "-m", subject]);
        self.git(&["rev-parse", "HEAD"])
    }

    /// Paths and contents of all files below a folder of the test, sorted.
    pub(crate) fn contents(&self, folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
        let mut found = Vec::new();
        let mut folders = vec![folder.to_owned()];
        while let Some(folder) = folders.pop() {
            let Ok(entries) = fs::read_dir(&folder) else {
                continue;
            };
            for entry in entries {
                let path = entry.expect("the folder can be listed").path();
                let kind = fs::symlink_metadata(&path)
                    .expect("the entry is there")
                    .file_type();
                if kind.is_dir() {
                    folders.push(path);
                } else if kind.is_file() {
                    found.push((path.clone(), fs::read(&path).expect("the file can be read")));
                } else {
                    let target = fs::read_link(&path).expect("the link can be read");
                    found.push((path, target.into_os_string().into_encoded_bytes()));
                }
            }
        }
        found.sort();
        found
    }

    /// Puts a program of ours, a shell script, before all others on the PATH.
    pub(crate) fn program(&mut self, name: &str, script: &str) {
        let folder = self.root.path().join("bin");
        fs::create_dir_all(&folder).expect("the temp folder is writable");
        let path = folder.join(name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("the temp folder is writable");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("the file is ours");
        let system = std::env::var("PATH").expect("tests run with a PATH");
        self.set("PATH", &format!("{}:{system}", folder.display()));
    }
}

/// A file of a release made by [`TestEnv::stored`]: path, content, executable.
pub(crate) type File<'a> = (&'a str, &'a str, bool);

impl TestEnv {
    /// Stores a release of these files, built from this commit, without a build.
    pub(crate) fn stored(&self, files: &[File<'_>], commit: &str) -> relstore_store::id::ReleaseId {
        use relstore_store::import::{Layout, ReleaseTree};
        use relstore_store::name::EntryPath;
        let tree = tempfile::tempdir().expect("a temp folder can be made");
        for (path, text, executable) in files {
            let path = tree.path().join(path);
            fs::create_dir_all(path.parent().expect("a file has a folder"))
                .expect("the temp folder is writable");
            fs::write(&path, text).expect("the temp folder is writable");
            let mode = if *executable { 0o755 } else { 0o644 };
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("the file is ours");
        }
        let path = |text: &str| EntryPath::new(text).expect("the path is valid");
        let layout = Layout {
            shared_files: vec![path(".env")],
            shared_dirs: vec![path("storage")],
            writable_dirs: vec![path("bootstrap/cache")],
        };
        let record = format!(
            r#"{{"predicateType":"https://slsa.dev/provenance/v1","predicate":{{"buildDefinition":{{"externalParameters":{{}},
               "resolvedDependencies":[{{"digest":{{"gitCommit":"{commit}"}}}}]}},
               "runDetails":{{"builder":{{"id":"test"}},"metadata":{{"finishedOn":"2026-01-02T03:04:05Z"}}}}}}}}"#
        );
        let runtime = tokio::runtime::Runtime::new().expect("threads can be started");
        runtime.block_on(async {
            let store = relstore_store::Store::open_or_create(&self.store())
                .await
                .expect("the store can be made");
            let tree = ReleaseTree {
                root: tree.path().to_owned(),
                layout,
            };
            let release = store
                .import(&tree, &|_| {})
                .await
                .expect("the tree is fine")
                .release;
            store
                .put_record(&release, record.as_bytes())
                .await
                .expect("the store is writable");
            store
                .publish(&release)
                .await
                .expect("the store is writable");
            store
                .add_commit(commit, &release)
                .await
                .expect("the store is writable");
            release
        })
    }
}
