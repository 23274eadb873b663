//! The files of the source with their digests, to choose from for each step.

use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use relstore_store::id::BlobId;
use walkdir::{DirEntry, WalkDir};

use crate::error::{BuildError, IoContext};
use crate::plan::PlanError;
use crate::secret;
use crate::step::{Step, below};

/// What lies at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Content {
    File { blob: BlobId, executable: bool },
    Link(Vec<u8>),
    EmptyDir,
}

/// A file, link or empty folder of the source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SourceEntry {
    /// From the top of the source.
    pub(crate) path: Vec<u8>,
    pub(crate) content: Content,
    /// Of a file that may hold a secret: a digest of what is left without it, since no key may be
    /// made of a secret.
    pub(crate) cleaned: Option<String>,
}

/// The exported source.
#[derive(Debug)]
pub(crate) struct SourceTree {
    /// Where it lies.
    pub(crate) folder: PathBuf,
    /// The application's folder from the top; empty when they are the same.
    pub(crate) root: String,
    /// By path.
    pub(crate) entries: Vec<SourceEntry>,
}

impl SourceTree {
    /// Hashes all files of a folder.
    pub(crate) fn read(folder: &Path, root: &str) -> Result<Self, BuildError> {
        let mut found = Vec::new();
        for entry in WalkDir::new(folder).min_depth(1).sort_by_file_name() {
            found.push(entry.at("read", folder)?);
        }
        let entries: Vec<Option<SourceEntry>> = found
            .par_iter()
            .map(|entry| read(folder, entry))
            .collect::<Result<_, _>>()?;
        let mut entries: Vec<SourceEntry> = entries.into_iter().flatten().collect();
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(Self {
            folder: folder.to_owned(),
            root: root.to_owned(),
            entries,
        })
    }

    /// What a step sees, in the order of paths. Files with credentials are for steps that use the
    /// network.
    pub(crate) fn select(&self, step: &Step) -> Result<Vec<&SourceEntry>, BuildError> {
        let matcher = step.inputs.matcher().map_err(PlanError::from)?;
        let root = self.root.as_bytes();
        let wanted = |entry: &&SourceEntry| {
            let inner = below(&entry.path, root).unwrap_or(&entry.path);
            (step.network || !secret::is_credentials(inner)) && matcher.takes(&entry.path, root)
        };
        Ok(self.entries.iter().filter(wanted).collect())
    }

    /// The application's folder.
    pub(crate) fn application(&self) -> PathBuf {
        self.folder.join(&self.root)
    }
}

fn read(folder: &Path, entry: &DirEntry) -> Result<Option<SourceEntry>, BuildError> {
    let place = entry.path();
    let relative = place.strip_prefix(folder).unwrap_or(place);
    let path = relative.as_os_str().as_bytes().to_vec();
    let kind = entry.file_type();
    let content = if kind.is_symlink() {
        let target = std::fs::read_link(place).at("read link", place)?;
        Content::Link(target.as_os_str().as_bytes().to_vec())
    } else if kind.is_dir() {
        let mut names = std::fs::read_dir(place).at("read", place)?;
        if names.next().is_some() {
            return Ok(None);
        }
        Content::EmptyDir
    } else {
        let file = File::open(place).at("read", place)?;
        let meta = file.metadata().at("look at", place)?;
        Content::File {
            executable: meta.permissions().mode() & 0o100 != 0,
            blob: BlobId::of_reader(file).at("read", place)?,
        }
    };
    let cleaned = match content {
        Content::File { .. } if secret::is_credentials(&path) => {
            let bytes = std::fs::read(place).at("read", place)?;
            Some(secret::cleaned_digest(&path, &bytes))
        }
        _ => None,
    };
    Ok(Some(SourceEntry {
        path,
        content,
        cleaned,
    }))
}
