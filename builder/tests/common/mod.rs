//! Projects, requests and programs for the builder's tests.
#![allow(clippy::unwrap_used, dead_code, unreachable_pub)]

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use relstore_builder::conditions::Conditions;
use relstore_builder::secret::Secrets;
use relstore_builder::{
    BuildError, BuildRequest, Built, Event, How, Prepared, SandboxMode, SourceSpec, StorePlace,
    Wanted,
};
use relstore_store::import::Layout;
use relstore_store::name::EntryPath;

/// Files of an application that passes all gates without a step.
pub const COMPLETE: [(&str, &str); 11] = [
    ("artisan", "#!/usr/bin/env php\n"),
    ("composer.json", "{}"),
    ("composer.lock", "{}"),
    ("public/index.php", "<?php\n"),
    ("public/build/manifest.json", "{}"),
    ("vendor/autoload.php", "<?php\n"),
    ("bootstrap/app.php", "<?php\n"),
    ("bootstrap/cache/.gitignore", "*\n"),
    ("config/app.php", "<?php\n"),
    ("routes/web.php", "<?php\n"),
    ("app/Models/User.php", "<?php\n"),
];

pub fn path(text: &str) -> EntryPath {
    EntryPath::new(text).unwrap()
}

pub fn layout() -> Layout {
    Layout {
        shared_files: vec![path(".env")],
        shared_dirs: vec![path("storage")],
        writable_dirs: vec![path("bootstrap/cache")],
    }
}

/// A folder with a project and a scratch folder beside it.
pub struct Project {
    pub root: tempfile::TempDir,
    pub events: Mutex<Vec<Event>>,
}

impl Project {
    pub fn new(files: &[(&str, &str)]) -> Self {
        Self::below(&std::env::temp_dir(), files)
    }

    /// An empty project on a file system in memory: whole applications are built in it.
    pub fn in_memory() -> Self {
        Self::below(Path::new("/dev/shm"), &[])
    }

    fn below(folder: &Path, files: &[(&str, &str)]) -> Self {
        let project = Self {
            root: tempfile::tempdir_in(folder).unwrap(),
            events: Mutex::new(Vec::new()),
        };
        std::fs::create_dir(project.at("")).unwrap();
        for (name, content) in files {
            project.write(name, content);
        }
        project
    }

    /// A complete application, committed.
    pub fn committed() -> Self {
        let project = Self::new(&COMPLETE);
        project.mode("artisan", 0o755);
        project.git(&["init", "-q", "-b", "main"]);
        project.commit();
        project
    }

    pub fn at(&self, name: &str) -> PathBuf {
        self.root.path().join("project").join(name)
    }

    pub fn write(&self, name: &str, content: &str) {
        let file = self.at(name);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, content).unwrap();
    }

    pub fn mode(&self, name: &str, mode: u32) {
        std::fs::set_permissions(self.at(name), PermissionsExt::from_mode(mode)).unwrap();
    }

    pub fn git(&self, args: &[&str]) -> String {
        git(&self.at(""), args)
    }

    pub fn commit(&self) -> String {
        self.git(&["add", "-A", "-f"]);
        self.git(&["commit", "-q", "-m", "x"]);
        self.git(&["rev-parse", "HEAD"])
    }

    pub fn scratch(&self) -> PathBuf {
        self.root.path().join("scratch")
    }

    pub fn request(&self, source: SourceSpec) -> BuildRequest {
        BuildRequest {
            application: "shop".to_owned(),
            signer: None,
            trusted_builders: None,
            project: self.at(""),
            source,
            root: String::new(),
            wanted: Wanted::default(),
            exclude: vec![],
            gates: relstore_builder::gate::Settings::default(),
            checks: Default::default(),
            layout: layout(),
            // Their programs tell what they saw by writing beside the build.
            sandbox: SandboxMode::Off,
            conditions: Conditions::default(),
            accept_packages: vec![],
            scratch: self.scratch(),
            search_path: search_path(),
            home: None,
            secrets: Secrets::default(),
            now: SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000),
        }
    }

    pub fn head(&self) -> BuildRequest {
        self.request(SourceSpec::Commit("HEAD".to_owned()))
    }

    pub async fn prepare(&self, request: BuildRequest) -> Result<Prepared, BuildError> {
        let listen = |event| self.events.lock().unwrap().push(event);
        relstore_builder::prepare(request, None, &listen).await
    }

    pub async fn build(
        &self,
        request: BuildRequest,
        store: &StorePlace,
    ) -> Result<Built, BuildError> {
        let listen = |event| self.events.lock().unwrap().push(event);
        relstore_builder::build(request, store, &listen).await
    }

    pub fn store(&self) -> StorePlace {
        StorePlace::new(self.root.path().join("store"))
    }

    /// Writes shell scripts by name into a folder and returns it, for the front of a search path.
    pub fn programs(&self, scripts: &[(&str, &str)]) -> String {
        let bin = self.root.path().join("bin");
        std::fs::create_dir_all(&bin).unwrap();
        for (name, script) in scripts {
            let file = bin.join(name);
            std::fs::write(&file, format!("#!/bin/sh\n{script}\n")).unwrap();
            std::fs::set_permissions(&file, PermissionsExt::from_mode(0o755)).unwrap();
        }
        bin.to_str().unwrap().to_owned()
    }
}

/// The folders of this machine's programs.
pub fn search_path() -> String {
    "/usr/local/bin:/usr/bin:/bin".to_owned()
}

/// How the network is reached: as the tests do, with the certificates of the system, which Node does
/// not read by itself.
pub fn network() -> Vec<(String, String)> {
    let known = |name: &str| relstore_builder::secret::NETWORK_VARIABLES.contains(&name);
    let mut variables: Vec<(String, String)> =
        std::env::vars().filter(|(name, _)| known(name)).collect();
    let certificates = "/etc/ssl/certs/ca-certificates.crt";
    let named = |(name, _): &(String, String)| name == "NODE_EXTRA_CA_CERTS";
    if !variables.iter().any(named) && Path::new(certificates).exists() {
        variables.push(("NODE_EXTRA_CA_CERTS".to_owned(), certificates.to_owned()));
    }
    variables
}

/// Makes the repository of an example application in a folder that is not there yet.
pub fn example(name: &str, folder: &Path) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/app.sh");
    let mut make = Command::new("bash");
    let made = make.arg(script).args(["--app", name]).arg(folder).output();
    let made = made.unwrap();
    assert!(made.status.success(), "{made:?}");
}

/// The steps that ran, by name.
pub fn ran(built: &Built) -> Vec<&str> {
    let ran = built.steps.iter().filter(|step| step.how == How::Ran);
    let mut names: Vec<&str> = ran.map(|step| step.name.as_str()).collect();
    names.sort_unstable();
    names
}

pub fn git(folder: &Path, args: &[&str]) -> String {
    let output = Command::new("git")
        .env_clear()
        .env("PATH", search_path())
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_AUTHOR_DATE", "2024-01-02T03:04:05Z")
        .env("GIT_COMMITTER_DATE", "2024-01-02T03:04:05Z")
        .args(["-c", "user.name=t", "-c", "user.email=t@localhost"])
        .args(["-c", "protocol.file.allow=always"])
        .arg("-C")
        .arg(folder)
        .args(args)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "git {args:?}: {said}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// All entries of a tree with their modes, relative and sorted.
pub fn entries(root: &Path) -> Vec<(String, u32)> {
    walkdir::WalkDir::new(root)
        .min_depth(1)
        .sort_by_file_name()
        .into_iter()
        .map(Result::unwrap)
        .filter(|entry| !entry.file_type().is_dir())
        .map(|entry| {
            let name = entry
                .path()
                .strip_prefix(root)
                .unwrap()
                .to_string_lossy()
                .into_owned();
            let mode = entry
                .path()
                .symlink_metadata()
                .unwrap()
                .permissions()
                .mode()
                & 0o777;
            (name, mode)
        })
        .collect()
}

pub fn names(root: &Path) -> Vec<String> {
    entries(root).into_iter().map(|(name, _)| name).collect()
}

pub fn refused(result: Result<Prepared, BuildError>) -> Vec<(String, String)> {
    match result.unwrap_err() {
        BuildError::Refused { refusals } => refusals
            .into_iter()
            .map(|refusal| (refusal.path, refusal.reason))
            .collect(),
        error => panic!("{error}: {:?}", error.details()),
    }
}
