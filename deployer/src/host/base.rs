//! The folder of an application on a host, and what it holds.
//!
//! ```text
//! <base>/current -> releases/<id>      previous -> releases/<id>
//! <base>/releases/<id>/    shared/    backups/
//! <base>/.relstore/                    0700
//!   helper/<sha256>/relstore-host      blobs/ab/<rest>[.x]       manifests/<id>
//!   complete/<id>    warm/<id>         journal/<transaction>     ledger
//!   lock    pending                    staging/<transaction>/    trash/
//! ```

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use relstore_store::id::ReleaseId;
use relstore_store::manifest::Manifest;
use serde::{Deserialize, Serialize};

use super::disk;
use super::error::{At, HostError, Result};
use super::{lock, pending, warm};
use crate::protocol::{BaseState, Current, Reason};

/// What is noted about a release that is complete: `complete/<id>`, JSON.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Complete {
    /// When, milliseconds since 1970.
    pub(crate) at_ms: i64,
    /// Where its `.env` points, as it was given.
    pub(crate) dotenv: String,
}

/// An application's folder.
#[derive(Debug, Clone)]
pub(crate) struct Base {
    root: PathBuf,
}

impl Base {
    /// Takes an absolute path.
    pub(crate) fn new(root: PathBuf) -> Self {
        Self { root }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// A path below `.relstore`.
    pub(crate) fn private(&self, name: &str) -> PathBuf {
        self.root.join(".relstore").join(name)
    }

    pub(crate) fn current(&self) -> PathBuf {
        self.root.join("current")
    }

    pub(crate) fn previous(&self) -> PathBuf {
        self.root.join("previous")
    }

    pub(crate) fn shared(&self) -> PathBuf {
        self.root.join("shared")
    }

    pub(crate) fn release(&self, id: &ReleaseId) -> PathBuf {
        self.root.join("releases").join(id.to_string())
    }

    pub(crate) fn manifest_file(&self, id: &ReleaseId) -> PathBuf {
        self.private("manifests").join(id.to_string())
    }

    pub(crate) fn complete_file(&self, id: &ReleaseId) -> PathBuf {
        self.private("complete").join(id.to_string())
    }

    /// Makes all folders of a base that do not exist.
    pub(crate) fn make(&self) -> Result<()> {
        disk::make_dirs(&self.root, 0o755)?;
        disk::make_dir(&self.root.join("releases"), 0o755)?;
        disk::make_dir(&self.root.join("backups"), 0o700)?;
        disk::make_dir(&self.private(""), 0o700)?;
        for name in [
            "blobs",
            "manifests",
            "complete",
            "warm",
            "journal",
            "staging",
            "trash",
        ] {
            disk::make_dir(&self.private(name), 0o700)?;
        }
        disk::sync_dir(&self.root)
    }

    /// Whether the base can be used at all: nothing of a foreign kind is where ours belongs.
    pub(crate) fn check(&self) -> Result<()> {
        let foreign = |path: &Path, what: &str| {
            Err(HostError::new(
                Reason::Base,
                format!("{} {what}", path.display()),
            ))
        };
        for name in ["", "releases", "shared", ".relstore"] {
            let path = self.root.join(name);
            match fs::metadata(&path) {
                Ok(meta) if !meta.is_dir() => {
                    return foreign(&path, "is not a folder").map_err(|error: HostError| {
                        error.hint("choose another base, or move it away")
                    });
                }
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(error).at("look at", &path);
                }
                _ => {}
            }
        }
        match self.current_state()? {
            Current::Foreign(what) => Err(HostError::new(
                Reason::Base,
                format!("{} {what}", self.current().display()),
            )
            .hint("relstore only replaces links that it made; move `current` away, or choose another base")),
            _ => Ok(()),
        }
    }

    /// What a link of the base points to.
    fn link(&self, path: &Path) -> Result<Current> {
        let meta = match fs::symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Current::Absent),
            meta => meta.at("look at", path)?,
        };
        if !meta.is_symlink() {
            let what = if meta.is_dir() {
                "is a real folder, not a link"
            } else {
                "is not a link"
            };
            return Ok(Current::Foreign(what.into()));
        }
        let target = fs::read_link(path).at("read link", path)?;
        let id = target
            .strip_prefix("releases")
            .ok()
            .and_then(Path::to_str)
            .and_then(|name| name.parse().ok());
        Ok(id.map_or_else(
            || {
                Current::Foreign(format!(
                    "is a link to {}, which is no release of relstore",
                    target.display()
                ))
            },
            Current::Release,
        ))
    }

    pub(crate) fn current_state(&self) -> Result<Current> {
        self.link(&self.current())
    }

    /// The active release; `None` when there is none.
    pub(crate) fn active(&self) -> Result<Option<ReleaseId>> {
        Ok(match self.current_state()? {
            Current::Release(id) => Some(id),
            _ => None,
        })
    }

    pub(crate) fn previous_release(&self) -> Result<Option<ReleaseId>> {
        Ok(match self.link(&self.previous())? {
            Current::Release(id) => Some(id),
            _ => None,
        })
    }

    /// Releases that are whole here, by id.
    pub(crate) fn complete_releases(&self) -> Result<Vec<ReleaseId>> {
        let folder = self.private("complete");
        let entries = match fs::read_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.at("list", &folder)?,
        };
        let mut ids: Vec<ReleaseId> = entries
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .collect();
        ids.sort();
        Ok(ids)
    }

    /// The note about a complete release.
    pub(crate) fn complete(&self, id: &ReleaseId) -> Result<Option<Complete>> {
        let path = self.complete_file(id);
        let Some(bytes) = disk::read(&path)? else {
            return Ok(None);
        };
        serde_json::from_slice(&bytes).map(Some).map_err(|error| {
            HostError::new(Reason::Corrupt, format!("{} is damaged", path.display()))
                .cause(error.to_string())
        })
    }

    /// A manifest kept here, checked against its id; `None` when it is not here or damaged (it is
    /// then sent again).
    pub(crate) fn manifest(&self, id: &ReleaseId) -> Result<Option<(Manifest, Vec<u8>)>> {
        let Some(text) = disk::read(&self.manifest_file(id))? else {
            return Ok(None);
        };
        if ReleaseId::of(&text) != *id {
            return Ok(None);
        }
        Ok(Manifest::parse(&text).ok().map(|manifest| (manifest, text)))
    }

    /// All that the program is told about the base.
    pub(crate) fn state(&self) -> Result<BaseState> {
        let current = self.current_state()?;
        let warm_key = match &current {
            Current::Release(id) => warm::recorded_key(self, id)?,
            _ => None,
        };
        Ok(BaseState {
            current,
            previous: self.previous_release()?,
            complete: self.complete_releases()?,
            pending: pending::read(self)?.map(|stored| stored.pending),
            holder: lock::holder(self)?,
            warm_key,
        })
    }

    /// One line for errors: what the base serves.
    pub(crate) fn state_line(&self) -> String {
        match self.current_state() {
            Ok(Current::Absent) => "nothing is active here".into(),
            Ok(Current::Release(id)) => format!("`current` is {}", id.short()),
            Ok(Current::Foreign(what)) => format!("`current` {what}"),
            Err(error) => format!("what `current` is cannot be told: {}", error.line()),
        }
    }
}
