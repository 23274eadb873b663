//! Runs the checks of a build in a tree of their own: the source with its tests, what the steps
//! made, and Composer's packages with those for development.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::check::{Check, CheckResult, CheckRunner, Sandbox};
use crate::error::{BuildError, IoContext};
use crate::lay_out::Files;
use crate::preset;
use crate::sandbox::View;
use crate::scratch::StepFolders;
use crate::secret::is_credentials;
use crate::source_tree::SourceEntry;
use crate::stage::{Done, Stage};
use crate::step::below;

/// The step whose packages take the place of the release's own.
const DEVELOPMENT: &str = "composer-dev";

impl Stage<'_> {
    /// Runs all checks that were asked for.
    ///
    /// # Errors
    /// [`BuildError::Checks`] when a required one failed.
    pub(crate) async fn judge(&self, done: &Done) -> Result<Vec<CheckResult>, BuildError> {
        let plan = &self.request.checks;
        if plan.is_empty() {
            return Ok(plan.left_out());
        }
        self.lay_out_checked(done).await?;
        let top = self.scratch.checked();
        let tree = top.join(&self.request.root);
        // Short, for the sockets in it, and outside of what a sandbox replaces.
        let services = tempfile::Builder::new().prefix("relstore-").tempdir();
        let services = services.at("create a folder in", &std::env::temp_dir())?;
        let step = preset::blank("checks");
        let (conditions, secrets) = (&self.request.conditions, &self.request.secrets);
        let folders = self.scratch.step(&step, conditions, secrets)?;
        let place = inside(&self.request.root);
        let words = |check: &Check| self.words(done, check, &folders, services.path());
        let env = environment(&folders, done.bwrap.is_some());
        let runner = CheckRunner {
            tree: &tree,
            services: services.path(),
            search_path: self.search_path,
            env: &env,
            secrets,
            sandbox: done.bwrap.as_ref().map(|_| Sandbox {
                words: &words,
                place: &place,
            }),
            events: self.events,
        };
        let results = runner.run(plan).await;
        plan.accept(&results)?;
        Ok(results)
    }

    async fn lay_out_checked(&self, done: &Done) -> Result<(), BuildError> {
        let development = done.plan.step(DEVELOPMENT).is_some();
        let replaced = |name: &str| development && matches!(name, "composer" | "autoload");
        let steps = done.plan.steps.iter().filter(|step| !replaced(&step.name));
        let shown = |entry: &SourceEntry, root: &[u8]| {
            !is_credentials(below(&entry.path, root).unwrap_or(&entry.path))
        };
        let target = self.scratch.checked();
        std::fs::create_dir(&target).at("create", &target)?;
        self.lay_out(done, steps, shown, Files::Copied, target)
            .await
    }

    /// The words that put a check into a sandbox.
    fn words(
        &self,
        done: &Done,
        check: &Check,
        folders: &StepFolders,
        services: &Path,
    ) -> Vec<OsString> {
        let Some(bwrap) = &done.bwrap else {
            return Vec::new();
        };
        let top = self.scratch.checked();
        let folder = inside(&self.request.root);
        let view = View {
            build: &top,
            place: PLACE,
            home: &folders.home,
            home_place: "/home",
            composer_home: &folders.composer_home,
            network: check.network,
            cache: check.network.then(|| self.scratch.cache()),
            shared: &[services],
            accounts: self.scratch.accounts(),
            tools: &done.tool_files,
            agent: self.request.secrets.agent().filter(|_| check.network),
            known_hosts: self.scratch.known_hosts().filter(|_| check.network),
            folder: &folder.display().to_string(),
            conditions: &self.request.conditions,
        };
        [bwrap.into()].into_iter().chain(view.arguments()).collect()
    }
}

/// Where the tree is in a sandbox.
const PLACE: &str = "/build";

fn inside(root: &str) -> PathBuf {
    match root {
        "" => PathBuf::from(PLACE),
        root => Path::new(PLACE).join(root),
    }
}

/// The variables of every check. Fewer than steps get: what PHPUnit sets as a default would give
/// way to what is there already.
fn environment(folders: &StepFolders, sandboxed: bool) -> BTreeMap<OsString, OsString> {
    let mut env = BTreeMap::new();
    let mut set = |name: &str, value: &str| {
        env.insert(OsString::from(name), OsString::from(value));
    };
    let text = |path: &Path| path.display().to_string();
    for (name, value) in preset::dummy_environment() {
        if matches!(name.as_str(), "APP_KEY") {
            set(&name, &value);
        }
    }
    set("APP_ENV", "testing");
    set("CI", "true");
    set("LANG", "C.UTF-8");
    set("LC_ALL", "C.UTF-8");
    set("TZ", "UTC");
    set("COMPOSER_ALLOW_SUPERUSER", "1");
    set("COMPOSER_ROOT_VERSION", "1.0.0");
    if sandboxed {
        set("HOME", "/home");
        set("TMPDIR", "/tmp");
        set("COMPOSER_HOME", crate::sandbox::COMPOSER_HOME);
        set(
            "COMPOSER_CACHE_DIR",
            &format!("{}/composer", crate::sandbox::CACHE),
        );
    } else {
        set("HOME", &text(&folders.home));
        set("TMPDIR", &text(&folders.temp));
        set("COMPOSER_HOME", &text(&folders.composer_home));
    }
    env
}
