//! A store and hosts in memory.

use std::path::Path;
use std::sync::Mutex;

use relstore_store::Store;
use relstore_store::id::ReleaseId;
use relstore_store::import::{Layout, ReleaseTree};
use relstore_store::name::EntryPath;
use relstore_store::structure::{Requirement, Shape};
use tempfile::TempDir;

use super::{FaultyHosts, environment};
use crate::environment::Environment;
use crate::error::DeployError;
use crate::event::Event;
use crate::execute::{Deployment, deploy};
use crate::outcome::Outcome;
use crate::plan::Action;

/// Hosts in memory, a store with two releases that differ in one word of one file.
pub(crate) struct World {
    pub(crate) environment: Environment,
    pub(crate) hosts: FaultyHosts,
    pub(crate) store: Store,
    pub(crate) old: ReleaseId,
    pub(crate) new: ReleaseId,
    pub(crate) events: Mutex<Vec<Event>>,
    pub(crate) folder: TempDir,
}

/// Puts a release into the store: a few hundred lines of each file, so that packs are real.
async fn import(store: &Store, folder: &Path, name: &str, files: &[(&str, &str)]) -> ReleaseId {
    let root = folder.join(name);
    std::fs::create_dir_all(root.join("app")).unwrap();
    for (path, content) in files {
        std::fs::write(root.join(path), content).unwrap();
    }
    let tree = ReleaseTree {
        root,
        layout: Layout::default(),
    };
    let imported = store.import(&tree, &|_| ()).await.unwrap();
    store.publish(&imported.release).await.unwrap();
    imported.release
}

/// Text that does not compress to nothing.
fn text(seed: u32, lines: u32) -> String {
    let mut state = seed;
    let line = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        format!("$value_{:08x} = compute({});\n", state, state >> 16)
    };
    (0..lines).map(line).collect()
}

impl World {
    pub(crate) async fn new(hosts: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open_or_create(&folder.path().join("store"))
            .await
            .unwrap();
        let (big, artisan) = (text(1, 3000), text(2, 50));
        let common = [
            ("artisan", artisan.as_str()),
            ("app/empty.php", ""),
            ("app/common.php", "<?php"),
        ];
        let with = |big| [&common[..], &[("app/big.php", big)]].concat();
        let old = import(&store, folder.path(), "old", &with(&big)).await;
        let changed = big.replacen("compute", "count", 1);
        let new = import(&store, folder.path(), "new", &with(&changed)).await;
        let environment = environment(hosts);
        let hosts = FaultyHosts::new(&environment);
        Self {
            environment,
            hosts,
            store,
            old,
            new,
            events: Mutex::default(),
            folder,
        }
    }

    /// A world whose hosts serve the old release.
    pub(crate) async fn with_old(hosts: usize) -> Self {
        let world = Self::new(hosts).await;
        world.deploy(world.old).await.unwrap();
        for host in &world.environment.hosts {
            let mut base = world.hosts.base(&host.name);
            (base.calls, base.ran) = (0, vec![]);
        }
        world
    }

    pub(crate) fn deployment(&self, release: ReleaseId) -> Deployment<'_> {
        Deployment {
            environment: &self.environment,
            release,
            store: &self.store,
            requirements: vec![Requirement {
                path: EntryPath::new("artisan").unwrap(),
                shape: Shape::File,
            }],
            actor: "anna@laptop".into(),
            action: Action::Deploy,
            commit: None,
            started_ms: 1,
        }
    }

    pub(crate) async fn deploy(&self, release: ReleaseId) -> Result<Outcome, DeployError> {
        let deployment = self.deployment(release);
        let outcome = deploy(&deployment, &self.hosts, &|event| {
            self.events.lock().unwrap().push(event);
        })
        .await;
        self.hosts.settled().await;
        outcome
    }

    pub(crate) fn ledger(&self, host: &str) -> Vec<String> {
        self.hosts.base(host).ledger.clone()
    }

    pub(crate) fn ran(&self, host: &str) -> Vec<String> {
        self.hosts.base(host).ran.clone()
    }
}
