//! A folder that was not built here, or an unpacked archive, becomes a release: what of it is taken,
//! what is refused, and the record that says where the release comes from. No step runs, no gate is asked, nothing is
//! copied: files are read where they lie.

use std::fs::FileType;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use rayon::prelude::*;
use relstore_store::Store;
use relstore_store::id::{RecordId, ReleaseId};
use relstore_store::import::{Layout, ReleaseTree, Scan, scan};
use relstore_store::name::{EntryPath, LinkTarget, escape};
use relstore_store::scan::Found;
use relstore_store::signature::Signer;
use serde_json::{Value, json};

use crate::archive::UnpackedArchive;
use crate::assemble::{STORAGE_LINK, plain_target};
use crate::error::BuildError;
use crate::event::{Event, Listener};
use crate::exclude::{Excludes, PatternError};
use crate::provenance::{BUILDER, PROVENANCE, paths, statement, timestamp};
use crate::signed::Signed;
use crate::source::{Refusals, is_lfs_file};

const LFS_POINTER: &str =
    "is a pointer of Git LFS, not the file itself; `git lfs pull` brings the file";

/// What a folder is taken for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FolderRules {
    /// A Laravel application: what a build leaves out is left out, with these patterns beside the
    /// default ones.
    Laravel {
        /// See [`crate::exclude`].
        exclude: Vec<String>,
    },
    /// Anything: all is taken but git's folders and `.env` files.
    Plain,
    /// The content of a release, with the initial content of shared folders: all of it is taken or
    /// refused, nothing is left out.
    Release,
}

/// A folder to import.
#[derive(Debug, Clone)]
pub struct FolderRequest {
    /// The folder; nobody else may write to it meanwhile.
    pub folder: PathBuf,
    /// What is taken.
    pub rules: FolderRules,
    /// What hosts lay out.
    pub layout: Layout,
    /// The archive that the folder comes from, if it does.
    pub archive: Option<Arc<UnpackedArchive>>,
    /// Who signs the record, if anybody does.
    pub signer: Option<Arc<dyn Signer>>,
    /// The time now.
    pub now: SystemTime,
}

/// A folder that became a release.
#[derive(Debug, Clone)]
pub struct FolderImported {
    /// The release.
    pub release: ReleaseId,
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
    /// Whether the store had the release before.
    pub reused: bool,
    /// Paths that were left out, escaped and sorted; what lies below them is not named.
    pub left_out: Vec<String>,
    /// The record that was added.
    pub record: RecordId,
}

/// A folder that was looked through and can be imported.
#[derive(Debug)]
pub struct Looked {
    request: FolderRequest,
    scan: Scan,
    left_out: Vec<String>,
}

/// Looks through a folder. Nothing is read but names and what may be a pointer of Git LFS.
///
/// # Errors
/// [`BuildError::Refused`] with all paths that no release may have; [`BuildError::Store`] when the
/// folder cannot be read.
pub async fn look(request: FolderRequest) -> Result<Looked, BuildError> {
    tokio::task::spawn_blocking(move || look_through(request))
        .await
        .map_err(|_| BuildError::Interrupted)?
}

impl Looked {
    /// Imports what was found, adds the record, publishes the release.
    ///
    /// # Errors
    /// [`BuildError::Store`], [`BuildError::Sign`], [`BuildError::OtherRelease`]; nothing is
    /// published then.
    pub async fn store(
        self,
        store: &Store,
        events: Listener<'_>,
    ) -> Result<FolderImported, BuildError> {
        let tree = self.request.tree();
        let imported = store
            .import_scan(&tree, self.scan, &|event| events(Event::Import(event)))
            .await?;
        let release = imported.release;
        self.request.check(release)?;
        let reused = store.has_release(&release).await?;
        let manifest = imported.manifest.to_text();
        let predicate = predicate(&self.request, &self.left_out);
        let statement = statement(&release, &manifest, PROVENANCE, &predicate);
        let record = RecordId::of(&statement);
        let signed = Signed::all(self.request.signer.as_ref(), vec![statement]).await?;
        signed.put(store, &release).await?;
        store.publish(&release).await?;
        Ok(FolderImported {
            release,
            files: imported.manifest.file_count() as u64,
            bytes: imported.manifest.content_bytes(),
            new_blobs: imported.new_blobs,
            new_bytes: imported.new_bytes,
            stored_bytes: imported.stored_bytes,
            reused,
            left_out: self.left_out,
            record,
        })
    }
}

impl FolderRequest {
    fn tree(&self) -> ReleaseTree {
        ReleaseTree {
            root: self.folder.clone(),
            layout: self.layout.clone(),
        }
    }

    /// Refuses another release than the archive says it is.
    fn check(&self, found: ReleaseId) -> Result<(), BuildError> {
        let label = self.archive.as_ref().and_then(|archive| archive.label());
        match label.map(|label| label.release) {
            Some(announced) if announced != found => {
                Err(BuildError::OtherRelease { announced, found })
            }
            _ => Ok(()),
        }
    }
}

fn look_through(request: FolderRequest) -> Result<Looked, BuildError> {
    let look = Look {
        request: &request,
        excludes: excludes(&request.rules).map_err(crate::plan::PlanError::from)?,
        refusals: Mutex::default(),
        links: Mutex::default(),
        left_out: Mutex::default(),
    };
    let mut scan = scan(&request.tree(), &|path, kind| look.takes(path, kind))?;
    look.refuse_pointers(&scan);
    std::mem::take(&mut *lock(&look.refusals)).finish()?;
    for (path, target) in lock(&look.links).drain(..) {
        scan.add_link(path, target);
    }
    let mut left_out = std::mem::take(&mut *lock(&look.left_out));
    left_out.sort_unstable();
    if scan.files().is_empty() {
        return Err(BuildError::Empty {
            folder: request.folder,
        });
    }
    Ok(Looked {
        request,
        scan,
        left_out,
    })
}

fn excludes(rules: &FolderRules) -> Result<Option<Excludes>, PatternError> {
    match rules {
        FolderRules::Laravel { exclude } => Excludes::of_release(exclude).map(Some),
        FolderRules::Plain | FolderRules::Release => Ok(None),
    }
}

/// One look through a folder, from all cores.
struct Look<'a> {
    request: &'a FolderRequest,
    excludes: Option<Excludes>,
    refusals: Mutex<Refusals>,
    links: Mutex<Vec<(EntryPath, LinkTarget)>>,
    left_out: Mutex<Vec<String>>,
}

/// What to do with a path.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    Take,
    LeaveOut,
    Refuse(&'static str),
}

impl Look<'_> {
    fn takes(&self, path: &EntryPath, kind: FileType) -> bool {
        match self.fate(path, kind) {
            Fate::Take if kind.is_symlink() => self.link(path),
            Fate::Take => return true,
            Fate::LeaveOut => lock(&self.left_out).push(path.to_string()),
            Fate::Refuse(reason) => self.refuse(path, reason),
        }
        false
    }

    fn fate(&self, path: &EntryPath, kind: FileType) -> Fate {
        let layout = &self.request.layout;
        let name = path.file_name();
        let exact = self.request.rules == FolderRules::Release;
        let below = |folders: &[EntryPath]| folders.iter().any(|folder| path.is_below(folder));
        let (shared, writable) = (&layout.shared_dirs, &layout.writable_dirs);
        let is_env = name.starts_with(b".env") && name != b".env.example";
        let is_private = match &self.excludes {
            Some(excludes) => excludes.matches(path.as_bytes()),
            None => is_env && !kind.is_dir() && !exact,
        };
        let is_laid_out =
            layout.shared_files.contains(path) || shared.contains(path) || writable.contains(path);
        if exact && (name == b".git" || below(writable)) {
            Fate::Refuse("is in no release that relstore makes")
        } else if name == b".git" || is_private || below(writable) {
            Fate::LeaveOut
        } else if is_laid_out && kind.is_symlink() && !exact {
            // A folder that was deployed before: the link leads to what hosts share.
            Fate::LeaveOut
        } else if name == b".env" {
            Fate::Refuse(
                "holds the secrets of one environment; it lives on the hosts, in shared/.env",
            )
        } else if layout.shared_files.contains(path) {
            Fate::Refuse(
                "is shared between releases on the hosts, so this copy would never be used",
            )
        } else if is_laid_out && !kind.is_dir() {
            Fate::Refuse("is a folder on the hosts, but no folder here")
        } else if below(shared) && !kind.is_dir() && name != b".gitignore" && !exact {
            // Nothing says which of these files are the application's and which are uploads,
            // sessions and logs.
            Fate::LeaveOut
        } else if kind.is_socket() {
            Fate::Refuse("is a socket")
        } else if kind.is_fifo() {
            Fate::Refuse("is a named pipe")
        } else if kind.is_char_device() || kind.is_block_device() {
            Fate::Refuse("is a device")
        } else {
            Fate::Take
        }
    }

    /// Takes a link with its target in the one spelling that a release has.
    fn link(&self, path: &EntryPath) {
        let place = self.request.folder.join(path.as_path());
        let target = match std::fs::read_link(&place) {
            Ok(target) => target,
            Err(error) => {
                return self.refuse(path, format!("is a link that cannot be read: {error}"));
            }
        };
        let mut target = plain_target(target.as_os_str().as_bytes());
        let mut shared = self.request.layout.shared_dirs.iter();
        // What `artisan storage:link` makes names a folder of one machine.
        if path.as_bytes() == STORAGE_LINK.0.as_bytes()
            && target.starts_with(b"/")
            && shared.any(|folder| folder.as_bytes() == b"storage")
        {
            target = STORAGE_LINK.1.as_bytes().to_vec();
        }
        match LinkTarget::new(target, path) {
            Ok(target) => lock(&self.links).push((path.clone(), target)),
            Err(error) => self.refuse(path, format!("is a link that no release may have: {error}")),
        }
    }

    /// What cannot be read here is told by the import.
    fn refuse_pointers(&self, scan: &Scan) {
        let is_pointer = |found: &&Found| {
            let place = self.request.folder.join(found.path.as_path());
            is_lfs_file(&place, found.size()).unwrap_or(false)
        };
        let pointers = scan.files().par_iter().filter(is_pointer);
        pointers.for_each(|found| self.refuse(&found.path, LFS_POINTER));
    }

    fn refuse(&self, path: &EntryPath, reason: impl Into<String>) {
        lock(&self.refusals).add(path.as_bytes(), reason);
    }
}

/// A list is whole at any moment, even when a thread panicked while it held it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What SLSA's provenance (v1) says of an imported release, with a build type of its own. Nothing
/// is known of what made the folder or archive, so an archive is the only dependency.
fn predicate(request: &FolderRequest, left_out: &[String]) -> Value {
    let layout = &request.layout;
    let (rules, exclude) = match &request.rules {
        FolderRules::Laravel { exclude } => ("laravel", exclude.as_slice()),
        FolderRules::Plain => ("plain", &[][..]),
        FolderRules::Release => ("release", &[][..]),
    };
    let now = timestamp(request.now);
    let mut parameters = json!({
        "layout": rules,
        "exclude": exclude,
        "shared": paths(&[&layout.shared_dirs, &layout.shared_files]),
        "writable": paths(&[&layout.writable_dirs]),
    });
    let (kind, dependencies) = match &request.archive {
        None => {
            let folder = escape(request.folder.as_os_str().as_bytes());
            parameters["folder"] = json!(folder);
            ("urn:relstore:folder-import:1", json!([]))
        }
        Some(archive) => {
            parameters["archive"] = json!(archive.name());
            let digest = json!({ "sha256": archive.sha256() });
            let dependency = json!({ "name": archive.name(), "digest": digest });
            ("urn:relstore:archive-import:1", json!([dependency]))
        }
    };
    json!({
        "buildDefinition": {
            "buildType": kind,
            "externalParameters": parameters,
            "internalParameters": { "leftOut": left_out },
            "resolvedDependencies": dependencies,
        },
        "runDetails": {
            "builder": {
                "id": BUILDER,
                "version": { "relstore": env!("CARGO_PKG_VERSION") },
            },
            "metadata": { "startedOn": now, "finishedOn": now },
        },
    })
}
