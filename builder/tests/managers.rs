//! pnpm and Yarn, the real ones, on a small project with Vite.
//!
//! Needs what `scripts/setup.sh test` installs, and the npm registry.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::path::Path;
use std::process::Command;

use common::{COMPLETE, Project, ran};
use relstore_builder::derivation::Derivation;
use relstore_builder::secret::Secrets;
use relstore_builder::{
    BuildError, BuildRequest, Built, Preset, SandboxMode, SourceSpec, StorePlace, Wanted,
};
use relstore_store::id::ReleaseId;

const PACKAGES: &str = r#"{
    "name": "small",
    "private": true,
    "type": "module",
    "devDependencies": { "laravel-vite-plugin": "1.3.0", "vite": "6.4.6" }
}
"#;
const VITE: &str = "import { defineConfig } from 'vite';
import laravel from 'laravel-vite-plugin';
export default defineConfig({ plugins: [laravel({ input: ['resources/css/app.css', 'resources/js/app.js'] })] });
";

/// A package manager.
struct Manager {
    /// Its folder among those that are installed for tests; empty for the system's.
    folder: &'static str,
    preset: Preset,
    /// Makes a lock.
    lock: &'static [&'static str],
    /// Its settings.
    settings: &'static [(&'static str, &'static str)],
}

const NPM: Manager = Manager {
    folder: "",
    preset: Preset::Npm,
    lock: &["npm", "install", "--package-lock-only", "--ignore-scripts"],
    settings: &[],
};
const PNPM: Manager = Manager {
    folder: "pnpm",
    preset: Preset::Pnpm,
    lock: &["pnpm", "install", "--lockfile-only"],
    settings: &[],
};
const YARN_1: Manager = Manager {
    folder: "yarn-1",
    preset: Preset::Yarn,
    // It has no way to make a lock alone.
    lock: &["yarn", "install", "--ignore-scripts", "--non-interactive"],
    settings: &[],
};
const YARN_4: Manager = Manager {
    folder: "yarn-4",
    preset: Preset::Yarn,
    lock: &["yarn", "install", "--mode=update-lockfile"],
    settings: &[
        (".yarnrc.yml", "enableTelemetry: false\n"),
        ("yarn.lock", ""),
    ],
};

impl Manager {
    fn search_path(&self) -> String {
        if self.folder.is_empty() {
            return common::search_path();
        }
        let installed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/managers");
        let bin = installed.join(self.folder).join("bin");
        let bin = std::fs::canonicalize(bin).expect("`scripts/setup.sh test` installs it");
        format!("{}:{}", bin.display(), common::search_path())
    }

    /// The project with the lock that this manager makes.
    fn project(&self) -> Project {
        let project = Project::in_memory();
        let own = [
            ("package.json", PACKAGES),
            ("vite.config.js", VITE),
            ("resources/css/app.css", "body { color: #123 }\n"),
            ("resources/js/app.js", "document.title = 'small';\n"),
        ];
        for (name, text) in own.iter().chain(self.settings).chain(&COMPLETE) {
            project.write(name, text);
        }
        let home = project.root.path().join("home");
        std::fs::create_dir(&home).unwrap();
        let made = Command::new(self.lock[0])
            .args(&self.lock[1..])
            .current_dir(project.at(""))
            .env_clear()
            .envs(common::network())
            .env("PATH", self.search_path())
            .env("HOME", home)
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
        // What it left beside the lock is on nobody's machine but the author's.
        for name in ["node_modules", ".yarn"] {
            let _ = std::fs::remove_dir_all(project.at(name));
        }
        project
    }

    fn request(&self, project: &Project) -> BuildRequest {
        let mut request = project.request(SourceSpec::WorkTree);
        request.sandbox = SandboxMode::Required;
        request.search_path = self.search_path();
        request.secrets = Secrets::new(common::network());
        request.wanted = Wanted {
            presets: vec![self.preset, Preset::Vite],
            ..Wanted::default()
        };
        let unlike = ["package-lock.json", "pnpm-lock.yaml", "yarn.lock"];
        let unlike = unlike
            .into_iter()
            .chain([".yarn", ".yarnrc.yml", "package.json"]);
        request.exclude = unlike.map(str::to_owned).collect();
        request
    }

    async fn build(&self, project: &Project, store: &StorePlace) -> Result<Built, BuildError> {
        project.build(self.request(project), store).await
    }
}

/// What a step made.
async fn tree(store: &StorePlace, built: &Built, step: &str) -> ReleaseId {
    let step = built.steps.iter().find(|found| found.name == step).unwrap();
    let known = store.make().await.unwrap().derivations(&step.key).await;
    let json = &known.unwrap()[0].record.json;
    Derivation::parse(json, &step.key).unwrap().tree
}

/// Builds, builds again, and builds in another place without a sandbox and without anything that is
/// known.
async fn built(manager: &Manager) -> ReleaseId {
    let project = manager.project();
    let (store, name) = (project.store(), manager.preset.name());
    let mut steps = [name, "vite"];
    steps.sort_unstable();
    let first = manager.build(&project, &store).await.unwrap();
    assert_eq!(ran(&first), steps);
    assert!(first.steps.iter().all(|step| step.sandboxed));
    let again = manager.build(&project, &store).await.unwrap();
    assert!(ran(&again).is_empty(), "{:?}", again.steps);
    assert_eq!(again.release, first.release);

    let mut request = manager.request(&project);
    request.scratch = project.root.path().join("elsewhere");
    request.sandbox = SandboxMode::Off;
    let other = StorePlace::new(project.root.path().join("other"));
    let clean = project.build(request, &other).await.unwrap();
    assert_eq!(ran(&clean), steps);
    assert_eq!(clean.release, first.release);
    let trees = (
        tree(&store, &first, name).await,
        tree(&other, &clean, name).await,
    );
    assert_eq!(trees.0, trees.1, "{name} installs the same bytes");

    // package.json wants what the lock does not know.
    let wanted = "\"devDependencies\": {";
    let more = format!("{wanted} \"is-number\": \"7.0.0\",");
    project.write("package.json", &PACKAGES.replace(wanted, &more));
    let error = manager.build(&project, &store).await.unwrap_err();
    assert!(
        matches!(&error, BuildError::Step { step, .. } if step == name),
        "{error}"
    );
    first.release
}

/// The release that npm makes possible.
async fn with_npm() -> ReleaseId {
    let project = NPM.project();
    let built = NPM.build(&project, &project.store()).await;
    built.unwrap().release
}

#[tokio::test]
async fn pnpm_gives_the_release_of_npm() {
    assert_eq!(built(&PNPM).await, with_npm().await);
}

#[tokio::test]
async fn yarn_1_gives_the_release_of_npm() {
    assert_eq!(built(&YARN_1).await, with_npm().await);
}

#[tokio::test]
async fn yarn_4_gives_the_release_of_npm() {
    assert_eq!(built(&YARN_4).await, with_npm().await);
}

#[tokio::test]
async fn yarn_that_a_project_brings_along_is_the_one_that_installs() {
    let project = YARN_4.project();
    let installed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/managers/yarn-4");
    let yarn = std::fs::read_to_string(installed.join("bin/yarn")).unwrap();
    project.write(".yarn/releases/yarn.cjs", &yarn);
    let settings = "enableTelemetry: false\nyarnPath: .yarn/releases/yarn.cjs\n";
    project.write(".yarnrc.yml", settings);
    // Yarn 1 alone does not know what a lock of Yarn 4 is.
    let built = YARN_1.build(&project, &project.store()).await.unwrap();
    assert_eq!(ran(&built), ["vite", "yarn"]);
}
