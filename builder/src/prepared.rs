//! A finished tree goes into a store: blobs and manifest, then what is said about the release,
//! then the release is published, then the commit refers to it.

use std::path::PathBuf;
use std::sync::Arc;

use relstore_store::Store;
use relstore_store::id::{RecordId, ReleaseId};
use relstore_store::import::{Layout, ReleaseTree};
use relstore_store::signature::Signer;

use crate::error::BuildError;
use crate::event::{Event, Listener};
use crate::gate::GateResult;
use crate::provenance::Origin;
use crate::run::StepResult;
use crate::scratch::Scratch;
use crate::signed::Signed;

/// What was built and stored.
#[derive(Debug, Clone)]
pub struct Built {
    /// The release.
    pub release: ReleaseId,
    /// Full commit; of a work tree the one it is based on, if any.
    pub commit: Option<String>,
    /// Whether it was built from a work tree.
    pub dirty: bool,
    /// Number of files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Blobs the store did not have.
    pub new_blobs: u64,
    /// Their raw bytes.
    pub new_bytes: u64,
    /// Bytes the store grew by for them.
    pub stored_bytes: u64,
    /// One verdict per gate.
    pub gates: Vec<GateResult>,
    /// What ran.
    pub steps: Vec<StepResult>,
    /// Whether the store had the release before.
    pub reused: bool,
    /// The records that were added.
    pub records: Vec<RecordId>,
    /// Other releases that were built from the same commit: made with other settings or tools, or
    /// the build is not reproducible.
    pub others: Vec<ReleaseId>,
}

/// A complete tree that passed its gates. Its folder goes when this is dropped.
#[derive(Debug)]
pub struct Prepared {
    pub(crate) scratch: Arc<Scratch>,
    pub(crate) layout: Layout,
    pub(crate) origin: Origin,
    pub(crate) steps: Vec<StepResult>,
    pub(crate) surroundings: Surroundings,
    pub(crate) signer: Option<Arc<dyn Signer>>,
}

/// What steps saw around them, to find it again in what they made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Surroundings {
    /// Whether they ran in a sandbox.
    pub sandboxed: bool,
    /// The folder of the application; without a sandbox one above those of the steps.
    pub folder: String,
    /// HOME, likewise.
    pub home: String,
}

impl Prepared {
    /// What the steps saw around them.
    #[must_use]
    pub const fn surroundings(&self) -> &Surroundings {
        &self.surroundings
    }

    /// The tree; nobody may write to it.
    #[must_use]
    pub fn tree(&self) -> PathBuf {
        self.scratch.tree()
    }

    /// The full commit that was built, or the one that a work tree is based on, if any.
    #[must_use]
    pub fn commit(&self) -> Option<&str> {
        self.origin.source.commit.as_deref()
    }

    /// The verdicts of the gates.
    #[must_use]
    pub fn gates(&self) -> &[GateResult] {
        &self.origin.gates
    }

    /// Imports the tree, adds the records, publishes the release.
    ///
    /// # Errors
    /// [`BuildError::Store`], [`BuildError::Sign`].
    pub async fn store(self, store: &Store, events: Listener<'_>) -> Result<Built, BuildError> {
        let tree = ReleaseTree {
            root: self.scratch.tree(),
            layout: self.layout.clone(),
        };
        let imported = store
            .import(&tree, &|event| events(Event::Import(event)))
            .await?;
        let release = imported.release;
        let text = imported.manifest.to_text();
        let reused = store.has_release(&release).await?;
        let records = self.origin.records(&release, &text);
        let records = Signed::all(self.signer.as_ref(), records).await?;
        let records = records.put(store, &release).await?;
        store.publish(&release).await?;
        let source = &self.origin.source;
        let mut others = Vec::new();
        // What a dirty tree gives says nothing about its commit.
        if let Some(commit) = source.commit.as_ref().filter(|_| !source.dirty) {
            store.add_commit(commit, &release).await?;
            others = store.releases_of_commit(commit).await?;
            others.retain(|other| *other != release);
        }
        Ok(Built {
            release,
            commit: source.commit.clone(),
            dirty: source.dirty,
            files: imported.manifest.file_count() as u64,
            bytes: imported.manifest.content_bytes(),
            new_blobs: imported.new_blobs,
            new_bytes: imported.new_bytes,
            stored_bytes: imported.stored_bytes,
            gates: self.origin.gates.clone(),
            steps: self.steps,
            reused,
            records,
            others,
        })
    }
}
