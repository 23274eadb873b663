//! Locks against what they lock, and variables that scripts ask for: the real Composer on a real
//! application.
//!
//! Needs what the example applications need (`scripts/setup.sh test`).
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::path::PathBuf;
use std::process::Command;

use common::{COMPLETE, Project, ran};
use relstore_builder::plan::PlanError;
use relstore_builder::{BuildError, BuildRequest, Built, Preset, SandboxMode, SourceSpec, Wanted};

const PACKAGE: &str = "brick/math";
const ARCHIVE: &str = "packages/brick-math-0.10.0.zip";

/// Adds a file to an archive, in the folder of its first one, and prints its new digest.
const REPACK: &str = r#"$zip = new ZipArchive; $zip->open($argv[1]) === true || exit(1);
$folder = strstr($zip->getNameIndex(0), '/', true);
$zip->addFromString(($folder === false || $folder === 'src' ? '' : "$folder/")."Extra$argv[2].php", "<?php // $argv[2]\n");
$zip->close(); echo sha1_file($argv[1]);"#;

/// The example application without scripts.
struct Application {
    project: Project,
    tree: PathBuf,
}

impl Application {
    fn new() -> Self {
        let project = Project::in_memory();
        let tree = project.root.path().join("slim");
        common::example("slim", &tree);
        Self { project, tree }
    }

    fn request(&self) -> BuildRequest {
        let mut request = self.project.request(SourceSpec::WorkTree);
        request.project = self.tree.clone();
        request.sandbox = SandboxMode::Required;
        let sqlite = common::path("database/database.sqlite");
        request.layout.shared_files.push(sqlite);
        request.exclude = vec!["packages".to_owned(), "phpunit.xml".to_owned()];
        request.wanted.presets = vec![Preset::Composer];
        request.gates.off = vec!["vite-manifest".to_owned(), "assets".to_owned()];
        request
    }

    async fn build(&self, accept: &[&str]) -> Result<Built, BuildError> {
        let mut request = self.request();
        request.accept_packages = accept.iter().map(|&name| name.to_owned()).collect();
        self.project.build(request, &self.project.store()).await
    }

    /// The same version with another file, as whoever moves a tag makes it.
    fn repack(&self, number: u8) {
        let archive = self.tree.join(ARCHIVE);
        let sha1 = |output: std::process::Output| {
            assert!(output.status.success(), "{output:?}");
            String::from_utf8(output.stdout).unwrap()
        };
        let php = |args: &[&str]| {
            let mut command = Command::new("php");
            command.args(["-r", args[0]]).arg(&archive).args(&args[1..]);
            sha1(command.output().unwrap())
        };
        let before = php(&["echo sha1_file($argv[1]);"]);
        let after = php(&[REPACK, &number.to_string()]);
        let lock = self.tree.join("composer.lock");
        let text = std::fs::read_to_string(&lock).unwrap();
        assert!(before != after && text.contains(&before));
        std::fs::write(lock, text.replace(&before, &after)).unwrap();
    }

    async fn releases(&self) -> usize {
        let store = self.project.store();
        let store = store.make().await.unwrap();
        store.releases().await.unwrap().len()
    }
}

#[tokio::test]
async fn a_package_with_other_files_under_the_same_version_is_refused_until_it_is_accepted() {
    let application = Application::new();
    let first = application.build(&[]).await.unwrap();
    application.repack(1);
    for accept in [&[][..], &["ramsey/uuid"]] {
        let error = application.build(accept).await.unwrap_err();
        let BuildError::PackageChanged {
            package, version, ..
        } = &error
        else {
            panic!("{error}: {:?}", error.details())
        };
        assert_eq!((package.as_str(), version.as_str()), (PACKAGE, "0.10.0"));
        let hint = error.hint().unwrap();
        assert!(hint.contains("--accept-package brick/math"), "{hint}");
        assert_eq!(application.releases().await, 1);
    }
    let accepted = application.build(&[PACKAGE]).await.unwrap();
    assert_ne!(accepted.release, first.release);
    assert!(ran(&accepted).contains(&"composer"));

    // What was accepted stays accepted when Composer runs again; more of it does not.
    let text = std::fs::read_to_string(application.tree.join("composer.lock")).unwrap();
    std::fs::write(application.tree.join("composer.lock"), format!("{text}\n")).unwrap();
    let again = application.build(&[]).await.unwrap();
    assert!(ran(&again).contains(&"composer"));
    application.repack(2);
    let error = application.build(&[]).await.unwrap_err();
    assert!(
        matches!(&error, BuildError::PackageChanged { .. }),
        "{error}"
    );
}

#[tokio::test]
async fn a_lock_that_is_older_than_composer_json_is_refused_before_anything_is_installed() {
    let application = Application::new();
    let file = application.tree.join("composer.json");
    let text = std::fs::read_to_string(&file).unwrap();
    let (wanted, more) = (
        "\"require\": {",
        "\"require\": {\n        \"ext-json\": \"*\",",
    );
    assert!(text.contains(wanted));
    std::fs::write(&file, text.replacen(wanted, more, 1)).unwrap();
    let error = application.build(&[]).await.unwrap_err();
    assert!(
        matches!(&error, BuildError::Step { command, .. } if command.contains("validate")),
        "{error}"
    );
    assert!(error.hint().unwrap().contains("composer update"));
}

#[tokio::test]
async fn a_lock_that_is_missing_is_named_and_so_is_one_of_another_manager() {
    let managers = [
        (Preset::Npm, "package-lock.json", "pnpm-lock.yaml", "pnpm"),
        (Preset::Pnpm, "pnpm-lock.yaml", "yarn.lock", "yarn"),
        (Preset::Yarn, "yarn.lock", "package-lock.json", "npm"),
        (Preset::Composer, "composer.lock", "", ""),
    ];
    for (preset, lock, foreign, other) in managers {
        let project = Project::new(&COMPLETE);
        project.write("package.json", "{}");
        if preset == Preset::Composer {
            std::fs::remove_file(project.at(lock)).unwrap();
        }
        let mut request = project.request(SourceSpec::WorkTree);
        request.wanted.presets = vec![preset];
        let error = project.prepare(request.clone()).await.unwrap_err();
        let missing = PlanError::NeedsFile {
            step: preset.name().to_owned(),
            file: lock,
        };
        assert!(
            matches!(&error, BuildError::Plan(error) if *error == missing),
            "{error:?}"
        );
        assert!(error.hint().is_some());
        if !foreign.is_empty() {
            project.write(foreign, "{}");
            let error = project.prepare(request).await.unwrap_err();
            let named = |error: &PlanError| matches!(error, PlanError::ForeignLock { other, .. } if *other == foreign);
            assert!(
                matches!(&error, BuildError::Plan(error) if named(error)),
                "{error:?}"
            );
            let hint = error.hint().unwrap();
            assert!(hint.contains(&format!("write `{other}` instead")), "{hint}");
        }
    }
}

#[tokio::test]
async fn a_variable_that_scripts_use_must_be_declared() {
    let project = Project::new(&COMPLETE);
    project.write("package.json", "{}");
    project.write("package-lock.json", "{}");
    let script = "// A page\n\nfetch(import.meta.env.VITE_API_URL);\n";
    project.write("resources/js/pages/home.ts", script);
    let mut request = project.request(SourceSpec::WorkTree);
    request.wanted = Wanted {
        presets: vec![Preset::Vite],
        ..Wanted::default()
    };
    let error = project.prepare(request.clone()).await.unwrap_err();
    assert!(matches!(&error, BuildError::Undeclared { .. }), "{error}");
    let found = "VITE_API_URL in resources/js/pages/home.ts:3";
    assert_eq!(error.details(), [found]);
    assert!(error.hint().unwrap().contains("[build.env] VITE_API_URL"));

    let value = ("VITE_API_URL".to_owned(), "https://api.example".to_owned());
    request.wanted.env = [value].into();
    let bin = project.programs(&[
        (
            "npm",
            "[ \"$1\" = ci ] && mkdir -p node_modules/vite; echo 11",
        ),
        (
            "node",
            "mkdir -p public/build; echo '{}' > public/build/manifest.json",
        ),
    ]);
    request.search_path = format!("{bin}:{}", request.search_path);
    project.prepare(request).await.unwrap();
}
