//! An application in a folder of a repository, with a package beside it: the real Composer, npm and
//! Vite.
//!
//! Needs what the example applications need (`scripts/setup.sh test`).
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::path::PathBuf;

use common::{Project, path, ran};
use relstore_builder::plan::PlanError;
use relstore_builder::secret::Secrets;
use relstore_builder::{
    BuildError, BuildRequest, Built, Preset, SandboxMode, SourceSpec, StorePlace, Wanted,
};
use relstore_store::manifest::{Kind, Manifest};

const PACKAGE: &str = "packages/greeting/src/Greeting.php";

/// The example repository; the application is in `apps/api`.
struct Repository {
    project: Project,
    top: PathBuf,
    store: StorePlace,
}

impl Repository {
    fn new() -> Self {
        let project = Project::in_memory();
        let (top, store) = (project.root.path().join("repository"), project.store());
        common::example("monorepo", &top);
        Self {
            project,
            top,
            store,
        }
    }

    fn request(&self, source: SourceSpec) -> BuildRequest {
        let mut request = self.project.request(source);
        request.project = self.top.clone();
        request.root = "apps/api".to_owned();
        request.sandbox = SandboxMode::Required;
        request.secrets = Secrets::new(common::network());
        request.exclude = ["packages", "phpcs.xml", "phpunit.xml"]
            .map(str::to_owned)
            .into();
        request.wanted = Wanted {
            presets: vec![Preset::Composer, Preset::Vite],
            ..Wanted::default()
        };
        request
    }

    async fn build(&self, source: SourceSpec) -> Result<Built, BuildError> {
        self.project.build(self.request(source), &self.store).await
    }

    async fn work_tree(&self) -> Built {
        self.build(SourceSpec::WorkTree).await.unwrap()
    }

    async fn manifest(&self, built: &Built) -> Manifest {
        let store = self.store.make().await.unwrap();
        store.manifest(&built.release).await.unwrap()
    }

    fn write(&self, path: &str, text: &str) {
        let file = self.top.join(path);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, text).unwrap();
    }

    fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.top.join(path)).unwrap()
    }
}

#[tokio::test]
async fn a_package_beside_the_application_is_released_and_its_changes_are_seen() {
    let repository = Repository::new();
    let head = SourceSpec::Commit("HEAD".to_owned());
    let first = repository.build(head).await.unwrap();
    assert_eq!(ran(&first), ["autoload", "composer", "npm", "vite"]);
    let dirty = repository.work_tree().await;
    assert_eq!(dirty.release, first.release);
    assert!(ran(&dirty).is_empty());

    let manifest = repository.manifest(&first).await;
    let package = path("vendor/example/greeting/src/Greeting.php");
    let kind = &manifest.get(&package).unwrap().kind;
    assert!(matches!(kind, Kind::File { .. }), "{kind:?}");
    for entry in manifest.entries() {
        let name = entry.path.to_string();
        let outside = ["apps/", "packages/", "../"];
        assert!(!outside.iter().any(|top| name.starts_with(top)), "{name}");
    }
    let readme = manifest.get(&path("README.md")).unwrap();
    let (blob, _) = readme.kind.content().unwrap();
    let store = repository.store.make().await.unwrap();
    let text = store.read_blob(&blob).await.unwrap();
    assert_eq!(&text[..], repository.read("apps/api/README.md").as_bytes());

    repository.write("README.md", "# Others\n");
    repository.write("apps/shop/index.php", "<?php\n");
    let beside = repository.work_tree().await;
    assert!(ran(&beside).is_empty(), "{:?}", beside.steps);
    assert_eq!(beside.release, first.release);

    let text = repository.read(PACKAGE).replace("morning", "evening");
    repository.write(PACKAGE, &text);
    let changed = repository.work_tree().await;
    let names = ran(&changed);
    assert!(names.contains(&"composer") && names.contains(&"autoload"));
    assert!(!names.contains(&"npm"), "{names:?}");
    let composer = changed.steps.iter().find(|step| step.name == "composer");
    let reasons = &composer.unwrap().reasons;
    assert_eq!(*reasons, [format!("`{PACKAGE}` changed")]);
    let manifest = repository.manifest(&changed).await;
    let (blob, _) = manifest.get(&package).unwrap().kind.content().unwrap();
    assert_eq!(&store.read_blob(&blob).await.unwrap()[..], text.as_bytes());
}

#[tokio::test]
async fn errors_name_files_from_the_folder_of_the_application() {
    let repository = Repository::new();
    let script = "apps/api/resources/js/app.js";
    let text = repository.read(script);
    repository.write(script, &format!("import.meta.env.VITE_NEW;\n{text}"));
    let error = repository.build(SourceSpec::WorkTree).await.unwrap_err();
    assert_eq!(error.details(), ["VITE_NEW in resources/js/app.js:1"]);
    repository.write(script, &text);

    std::os::unix::fs::symlink("/etc/passwd", repository.top.join("apps/api/app/link")).unwrap();
    let error = repository.build(SourceSpec::WorkTree).await.unwrap_err();
    let details = error.details().concat();
    assert!(details.starts_with("`app/link`"), "{error}: {details}");
    std::fs::remove_file(repository.top.join("apps/api/app/link")).unwrap();

    let mut request = repository.request(SourceSpec::WorkTree);
    request.root = "apps/absent".to_owned();
    let error = repository.project.prepare(request).await.unwrap_err();
    let absent = PlanError::NoRoot {
        root: "apps/absent".to_owned(),
    };
    assert!(
        matches!(&error, BuildError::Plan(error) if *error == absent),
        "{error}"
    );
}
