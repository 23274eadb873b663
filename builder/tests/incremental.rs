//! An incremental build gives the release of a clean one: the real Composer, npm, Vite and Tailwind
//! on a real application, over edits of the kind people make.
//!
//! Needs what the example applications need (`scripts/setup.sh test`).
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use relstore_builder::{
    BuildError, BuildRequest, Built, How, Preset, SandboxMode, SourceSpec, StorePlace, Wanted,
};

use common::Project;

/// An application in a folder, with builds of it.
struct Application {
    project: Project,
    tree: PathBuf,
}

impl Application {
    fn slim() -> Self {
        let project = Project::in_memory();
        let tree = project.root.path().join("slim");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/app.sh");
        let made = Command::new("bash")
            .arg(script)
            .args(["--app", "slim"])
            .arg(&tree)
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
        let slim = Self { project, tree };
        // Classes that no file name tells.
        let (autoload, classes) = ("\"autoload\": {", "\n        \"classmap\": [\"legacy\"],");
        slim.edit("composer.json", autoload, &format!("{autoload}{classes}"));
        slim.write("legacy/one.php", "<?php\nclass Twice {}\n");
        slim
    }

    fn request(&self) -> BuildRequest {
        let mut request = self.project.request(SourceSpec::WorkTree);
        request.project = self.tree.clone();
        request.sandbox = SandboxMode::Auto;
        request
            .layout
            .shared_files
            .push(common::path("database/database.sqlite"));
        request.exclude = vec!["packages".to_owned(), "phpunit.xml".to_owned()];
        request.wanted = Wanted {
            presets: vec![Preset::Composer, Preset::Vite],
            env: [("VITE_APP_NAME".to_owned(), "Slim".to_owned())].into(),
            ..Wanted::default()
        };
        request
    }

    async fn build(&self, store: &StorePlace) -> Result<Built, BuildError> {
        self.project.build(self.request(), store).await
    }

    /// Builds into a store that knows nothing, and throws it away.
    async fn clean(&self) -> Result<Built, BuildError> {
        let folder = tempfile::tempdir_in(self.project.root.path()).unwrap();
        self.build(&StorePlace::new(folder.path().join("store")))
            .await
    }

    fn write(&self, path: &str, text: &str) {
        let file = self.tree.join(path);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, text).unwrap();
    }

    fn edit(&self, path: &str, from: &str, to: &str) {
        let text = std::fs::read_to_string(self.tree.join(path)).unwrap();
        assert!(text.contains(from), "{path} has no {from}");
        self.write(path, &text.replacen(from, to, 1));
    }
}

/// The steps that ran.
fn ran(built: &Built) -> Vec<&str> {
    let ran = built.steps.iter().filter(|step| step.how == How::Ran);
    let mut names: Vec<&str> = ran.map(|step| step.name.as_str()).collect();
    names.sort_unstable();
    names
}

/// What people do to an application.
#[derive(Debug, Clone)]
enum Edit {
    /// A class of this number; writing it twice changes nothing.
    NewClass(u8),
    /// It goes, if it is there.
    DeletedClass(u8),
    /// The body of a class changes, its name does not.
    ChangedClass(u8),
    /// A class a second time; a build fails until it is removed.
    SameClassTwice,
    /// A page with a class name that no style had before.
    NewView(u8),
    /// A script.
    ChangedScript(u8),
    /// Another set of packages is locked.
    ChangedLock,
}

impl Edit {
    fn any() -> impl Strategy<Value = Self> {
        use proptest::prelude::*;
        prop_oneof![
            (0u8..3).prop_map(Self::NewClass),
            (0u8..3).prop_map(Self::DeletedClass),
            (0u8..3).prop_map(Self::ChangedClass),
            Just(Self::SameClassTwice),
            (0u8..9).prop_map(Self::NewView),
            (0u8..9).prop_map(Self::ChangedScript),
            Just(Self::ChangedLock),
        ]
    }

    fn apply(&self, application: &Application) {
        let class = |number: &u8| format!("app/Models/Thing{number}.php");
        let code = |number: &u8, body: &str| {
            format!("<?php\n\nnamespace App\\Models;\n\nclass Thing{number}\n{{\n{body}}}\n")
        };
        match self {
            Self::NewClass(number) => application.write(&class(number), &code(number, "")),
            Self::DeletedClass(number) => {
                let _ = std::fs::remove_file(application.tree.join(class(number)));
            }
            Self::ChangedClass(number) => {
                let body = "    public int $size = 1;\n";
                application.write(&class(number), &code(number, body));
            }
            Self::SameClassTwice => {
                application.write("legacy/two.php", "<?php\nclass Twice { /* again */ }\n");
            }
            Self::NewView(number) => application.write(
                &format!("resources/views/page{number}.blade.php"),
                &format!(
                    "<p class=\"mt-[{number}7px] text-red-{}00\">x</p>\n",
                    number % 8 + 1
                ),
            ),
            Self::ChangedScript(number) => application.write(
                "resources/js/app.js",
                &format!("document.title = `${{import.meta.env.VITE_APP_NAME}} {number}`;\n"),
            ),
            Self::ChangedLock => application.lock_without_a_package(),
        }
    }
}

impl Application {
    /// Takes a package out of composer.json and its lock, or back in.
    fn lock_without_a_package(&self) {
        let text = std::fs::read_to_string(self.tree.join("composer.json")).unwrap();
        let mut json: serde_json::Value = serde_json::from_str(&text).unwrap();
        let packages = json["require"].as_object_mut().unwrap();
        if packages.remove("brick/math").is_none() {
            packages.insert("brick/math".to_owned(), "*".into());
        }
        self.write("composer.json", &format!("{json:#}\n"));
        let updated = Command::new("composer")
            .args([
                "update",
                "--lock",
                "--no-interaction",
                "--quiet",
                "--no-scripts",
                "--no-install",
            ])
            .current_dir(&self.tree)
            .env_clear()
            .env("PATH", common::search_path())
            .env("HOME", self.project.root.path())
            .env("COMPOSER_ALLOW_SUPERUSER", "1")
            .env("COMPOSER_DISABLE_NETWORK", "1")
            .env("COMPOSER_ROOT_VERSION", "1.0.0")
            .output()
            .unwrap();
        assert!(updated.status.success(), "{updated:?}");
    }
}

#[tokio::test]
async fn each_edit_runs_what_depends_on_it_and_nothing_else() {
    let slim = Application::slim();
    let store = slim.project.store();
    let first = slim.build(&store).await.unwrap();
    assert_eq!(ran(&first), ["autoload", "composer", "npm", "vite"]);
    let again = slim.build(&store).await.unwrap();
    assert!(ran(&again).is_empty());
    assert_eq!(again.release, first.release);

    Edit::NewClass(1).apply(&slim);
    assert_eq!(
        ran(&slim.build(&store).await.unwrap()),
        ["autoload", "vite"]
    );
    Edit::ChangedScript(1).apply(&slim);
    assert_eq!(ran(&slim.build(&store).await.unwrap()), ["vite"]);
    Edit::NewView(3).apply(&slim);
    let styled = slim.build(&store).await.unwrap();
    assert_eq!(ran(&styled), ["vite"]);
    Edit::ChangedLock.apply(&slim);
    let locked = slim.build(&store).await.unwrap();
    assert_eq!(ran(&locked), ["autoload", "composer", "vite"]);
    assert_eq!(slim.clean().await.unwrap().release, locked.release);

    Edit::SameClassTwice.apply(&slim);
    for error in [
        slim.build(&store).await.unwrap_err(),
        slim.clean().await.unwrap_err(),
    ] {
        assert!(matches!(&error, BuildError::StepRefused { .. }), "{error}");
        assert!(
            error.details().concat().contains("Twice"),
            "{:?}",
            error.details()
        );
    }
}

#[tokio::test]
async fn any_sequence_of_edits_gives_the_release_of_a_clean_build() {
    let slim = Application::slim();
    let store = slim.project.store();
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    for _ in 0..6 {
        let edit = Edit::any().new_tree(&mut runner).unwrap().current();
        edit.apply(&slim);
        match (slim.build(&store).await, slim.clean().await) {
            (Ok(built), Ok(clean)) => assert_eq!(built.release, clean.release, "{edit:?}"),
            (Err(one), Err(other)) => {
                assert_eq!(one.details(), other.details(), "{edit:?}");
                std::fs::remove_file(slim.tree.join("legacy/two.php")).unwrap();
            }
            (built, clean) => panic!("{edit:?}: {built:?}, but clean {clean:?}"),
        }
    }
}

#[tokio::test]
async fn apcu_prefix_follows_the_classes() {
    let slim = Application::slim();
    slim.edit(
        "composer.json",
        "\"config\": {",
        "\"config\": {\n        \"apcu-autoloader\": true,",
    );
    let store = slim.project.store();
    let prefix = async || {
        let built = slim.build(&store).await.unwrap();
        let store = store.make().await.unwrap();
        let manifest = store.manifest(&built.release).await.unwrap();
        let path = common::path("vendor/composer/autoload_real.php");
        let (blob, _) = manifest.get(&path).unwrap().kind.content().unwrap();
        let text = String::from_utf8(store.read_blob(&blob).await.unwrap().to_vec()).unwrap();
        let (_, rest) = text.split_once("setApcuPrefix('").unwrap();
        rest.split_once('\'').unwrap().0.to_owned()
    };
    let one = prefix().await;
    assert_eq!(one.len(), 32);
    assert_eq!(one, prefix().await);
    Edit::NewClass(1).apply(&slim);
    assert_ne!(one, prefix().await);
}
