//! What a step made, in this build or in an earlier one.

use std::path::{Path, PathBuf};

use relstore_store::Store;
use relstore_store::id::{RecordId, ReleaseId};
use relstore_store::manifest::Manifest;
use tokio::sync::OnceCell;

use crate::error::{BuildError, IoContext};
use crate::lay_out::Layer;
use crate::step::Step;

/// How its outputs came to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum How {
    /// It ran in this build.
    Ran,
    /// A derivation says what it makes.
    Cached {
        /// The derivation's record.
        record: RecordId,
        /// Who signed it, where that was asked for.
        signer: Option<String>,
    },
}

/// A step's outputs.
#[derive(Debug)]
pub(crate) struct Made {
    pub(crate) step: String,
    /// What they are, paths from the application's folder.
    pub(crate) tree: ReleaseId,
    pub(crate) manifest: Manifest,
    pub(crate) how: How,
    /// Where they shall lie.
    place: PathBuf,
    ready: OnceCell<()>,
}

impl Made {
    /// Outputs that lie at their place already.
    pub(crate) fn ran(step: &str, manifest: Manifest, place: PathBuf) -> Self {
        Self {
            step: step.to_owned(),
            tree: manifest.id(),
            manifest,
            how: How::Ran,
            place,
            ready: OnceCell::new_with(Some(())),
        }
    }

    /// Outputs that a store holds.
    pub(crate) fn cached(step: &str, manifest: Manifest, place: PathBuf, how: How) -> Self {
        Self {
            step: step.to_owned(),
            tree: manifest.id(),
            manifest,
            how,
            place,
            ready: OnceCell::new(),
        }
    }

    /// The folder with the outputs. Those of a store are fetched when somebody wants them: what a
    /// build does not need, such as packages for steps that do not run, is left there.
    pub(crate) async fn folder(&self, store: Option<&Store>) -> Result<&Path, BuildError> {
        self.ready
            .get_or_try_init(async || {
                let store = store.ok_or(BuildError::Interrupted)?;
                std::fs::create_dir_all(&self.place).at("create", &self.place)?;
                store.checkout(&self.tree, &self.place).await?;
                Ok::<(), BuildError>(())
            })
            .await?;
        Ok(&self.place)
    }

    /// What the step made, for who lays it out.
    pub(crate) async fn layer(
        &self,
        step: &Step,
        store: Option<&Store>,
    ) -> Result<Layer, BuildError> {
        Ok(Layer {
            tree: self.folder(store).await?.to_owned(),
            paths: step
                .outputs
                .iter()
                .map(|output| output.path.clone())
                .collect(),
        })
    }
}
