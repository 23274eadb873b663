//! The files of the project's folder as they are: what git tracks and what it does not ignore,
//! without what was deleted. A folder that is in no repository is walked.

use std::collections::{BTreeSet, HashMap};
use std::ffi::OsStr;
use std::fs::Metadata;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use relstore_store::name::EntryPath;

use super::{Export, LFS_POINTER, NO_COMMIT_EPOCH, Refusals, Source, Writer, is_lfs_file};
use crate::error::{BuildError, IoContext, Refusal};
use crate::exclude::shown;
use crate::git::Git;

const NESTED: &str = "is a git repository of its own; its files belong to another project";

/// Copies the work tree's files below the project's folder.
pub(crate) fn export(export: &Export<'_>) -> Result<Source, BuildError> {
    let mut refusals = Refusals::default();
    let mut source = Source {
        commit: None,
        dirty: true,
        epoch: NO_COMMIT_EPOCH,
        prefix: String::new(),
        files: 0,
        bytes: 0,
    };
    let paths = if in_repository(export.project)? {
        let git = export.git()?;
        let prefix = git.prefix()?;
        source.prefix = shown(prefix.strip_suffix(b"/").unwrap_or(&prefix));
        source.commit = git.commit("HEAD")?;
        if let Some(commit) = &source.commit {
            source.epoch = git.time_of(commit)?;
        }
        let mut paths = BTreeSet::new();
        list(export, &git, b"", &mut paths, &mut refusals)?;
        paths
    } else {
        walked(export)?
    };
    (source.files, source.bytes) = copy(export, paths, &mut refusals)?;
    refusals.finish()?;
    Ok(source)
}

/// Looks for `.git` itself: git's own answer would be lost where git is not installed, and all
/// ignored files would come along unnoticed.
fn in_repository(project: &Path) -> Result<bool, BuildError> {
    let project = std::fs::canonicalize(project).at("find", project)?;
    Ok(project
        .ancestors()
        .any(|folder| folder.join(".git").symlink_metadata().is_ok()))
}

/// Adds the paths of git's two lists, and those of every submodule. `place`: where the repository
/// lies in the project, with a `/` at the end.
fn list(
    export: &Export<'_>,
    git: &Git,
    place: &[u8],
    paths: &mut BTreeSet<Vec<u8>>,
    refusals: &mut Refusals,
) -> Result<(), BuildError> {
    let tracked = git.output("list the tracked files", &["ls-files", "-z", "--stage"])?;
    let others = ["ls-files", "-z", "--others", "--exclude-standard"];
    let others = git.output("list the new files", &others)?;
    let lines = |text| <[u8]>::split(text, |&byte| byte == 0).filter(|line| !line.is_empty());
    for line in lines(&tracked) {
        // `<mode> <object> <stage>\t<path>`; several stages of one path while a merge is open
        let Some(tab) = line.iter().position(|&byte| byte == b'\t') else {
            continue;
        };
        let path = [place, &line[tab + 1..]].concat();
        if export.source_excludes.covers(&path) {
            continue;
        }
        if let Some(rest) = line.strip_prefix(b"160000 ") {
            if !export.leaves_out(&path) {
                let commit = rest.split(|&byte| byte == b' ').next().unwrap_or_default();
                submodule(export, git, path, commit, paths, refusals)?;
            }
        } else {
            paths.insert(path);
        }
    }
    for inner in lines(&others) {
        let path = [place, inner].concat();
        let folder = path.strip_suffix(b"/");
        if export.source_excludes.covers(folder.unwrap_or(&path)) {
            continue;
        }
        match folder {
            Some(folder) if !export.releases(folder) => {}
            Some(folder) => refusals.add(folder, NESTED),
            None => {
                paths.insert(path);
            }
        }
    }
    Ok(())
}

/// Adds the files of a submodule's work tree, whatever commit is checked out there.
fn submodule(
    export: &Export<'_>,
    git: &Git,
    mut path: Vec<u8>,
    commit: &[u8],
    paths: &mut BTreeSet<Vec<u8>>,
    refusals: &mut Refusals,
) -> Result<(), BuildError> {
    let folder = export.project.join(OsStr::from_bytes(&path));
    let meta = match std::fs::symlink_metadata(&folder) {
        Err(error) if is_absent(&error) => None,
        meta => Some(meta.at("look at", &folder)?),
    };
    let git = git.at(folder);
    // A link there is not the submodule; without files git has not brought it yet.
    if meta.is_some_and(|meta| meta.is_dir()) && git.is_top()? {
        path.push(b'/');
        return list(export, &git, &path, paths, refusals);
    }
    Err(BuildError::NoSubmodule {
        path: shown(&path),
        commit: String::from_utf8_lossy(commit).into_owned(),
    })
}

/// All files of the folder. Nothing says which files below shared folders are the application's
/// and which are uploads, sessions and logs, so only the `.gitignore` files that hold Laravel's
/// empty folders are taken there.
fn walked(export: &Export<'_>) -> Result<BTreeSet<Vec<u8>>, BuildError> {
    let below = |path: &Path| {
        let inner = path.strip_prefix(export.project).unwrap_or(path);
        inner.as_os_str().as_bytes().to_vec()
    };
    let walk = walkdir::WalkDir::new(export.project)
        .min_depth(1)
        .into_iter()
        .filter_entry(|entry| {
            entry.depth() == 0 || !export.source_excludes.matches(&below(entry.path()))
        });
    let mut paths = BTreeSet::new();
    for entry in walk {
        let entry = entry.map_err(|error| BuildError::Io {
            what: "read",
            path: error.path().unwrap_or(export.project).to_owned(),
            source: error.into(),
        })?;
        if entry.file_type().is_dir() {
            continue;
        }
        let path = below(entry.path());
        let shared = export.shared_dirs.iter().any(|folder| {
            let inner = crate::step::below(&path, export.root.as_bytes());
            inner.is_some_and(|inner| crate::step::below(inner, folder.as_bytes()).is_some())
        });
        if !shared || entry.file_name() == ".gitignore" {
            paths.insert(path);
        }
    }
    Ok(paths)
}

enum Found {
    Gone,
    Link(Vec<u8>),
    File(Metadata),
    Refused(&'static str),
}

/// Whether a folder above the path is a link. `folders`: what is known of folders.
fn behind_link(
    export: &Export<'_>,
    path: &EntryPath,
    folders: &mut HashMap<PathBuf, bool>,
) -> Result<bool, BuildError> {
    for folder in path.as_path().ancestors().skip(1) {
        if folder.as_os_str().is_empty() {
            break;
        }
        let link = match folders.get(folder) {
            Some(link) => *link,
            None => {
                let place = export.project.join(folder);
                let link = match std::fs::symlink_metadata(&place) {
                    Err(error) if is_absent(&error) => false,
                    meta => meta.at("look at", &place)?.is_symlink(),
                };
                folders.insert(folder.to_owned(), link);
                link
            }
        };
        if link {
            return Ok(true);
        }
    }
    Ok(false)
}

fn is_absent(error: &std::io::Error) -> bool {
    matches!(
        error.kind(),
        std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory
    )
}

fn look(export: &Export<'_>, path: &EntryPath) -> Result<Found, BuildError> {
    let place = export.project.join(path.as_path());
    let meta = match std::fs::symlink_metadata(&place) {
        Err(error) if is_absent(&error) => return Ok(Found::Gone),
        meta => meta.at("look at", &place)?,
    };
    let kind = meta.file_type();
    Ok(if kind.is_symlink() {
        let target = std::fs::read_link(&place).at("read link", &place)?;
        Found::Link(target.into_os_string().into_vec())
    } else if kind.is_file() {
        Found::File(meta)
    } else if kind.is_dir() {
        // A tracked file that was replaced by a folder: its files are listed on their own.
        Found::Gone
    } else if kind.is_socket() {
        Found::Refused("is a socket")
    } else {
        Found::Refused("is neither a file, a folder nor a link")
    })
}

fn copy(
    export: &Export<'_>,
    paths: BTreeSet<Vec<u8>>,
    refusals: &mut Refusals,
) -> Result<(u64, u64), BuildError> {
    let mut writer = Writer::new(export.target);
    let mut files = Vec::new();
    let mut folders = HashMap::new();
    for path in paths {
        let released = export.releases(&path);
        let path = match EntryPath::new(path.as_slice()) {
            Ok(path) => path,
            Err(error) => {
                refusals.add(
                    &path,
                    format!("has a name that no release may have: {error}"),
                );
                continue;
            }
        };
        // What lies behind a link is not the project's; git calls it deleted.
        if behind_link(export, &path, &mut folders)? {
            continue;
        }
        match look(export, &path)? {
            Found::Gone => {}
            Found::Refused(reason) if released => refusals.add(path.as_bytes(), reason),
            Found::Refused(_) => {}
            Found::Link(target) => writer.link(path, target),
            Found::File(meta) => files.push((writer.place(&path)?, path, meta, released)),
        }
    }
    let copied: Vec<(u64, Option<Refusal>)> = files
        .par_iter()
        .map(|(place, path, meta, released)| {
            export.check_cancelled()?;
            copy_file(export, place, path, meta, *released)
        })
        .collect::<Result<_, _>>()?;
    writer.finish(refusals)?;
    let bytes = copied.iter().map(|(bytes, _)| bytes).sum();
    refusals.extend(copied.into_iter().filter_map(|(_, refusal)| refusal));
    Ok((files.len() as u64, bytes))
}

fn copy_file(
    export: &Export<'_>,
    place: &Path,
    path: &EntryPath,
    meta: &Metadata,
    released: bool,
) -> Result<(u64, Option<Refusal>), BuildError> {
    let origin = export.project.join(path.as_path());
    let bytes = std::fs::copy(&origin, place).at("copy", &origin)?;
    let after = std::fs::symlink_metadata(&origin).at("look at", &origin)?;
    if bytes != meta.len() || moment(&after) != moment(meta) {
        return Err(BuildError::Changed { path: origin });
    }
    let mode = if meta.permissions().mode() & 0o100 == 0 {
        0o644
    } else {
        0o755
    };
    std::fs::set_permissions(place, PermissionsExt::from_mode(mode))
        .at("set the mode of", place)?;
    let pointer = released && is_lfs_file(place, bytes).at("read", place)?;
    let refusal = pointer.then(|| Refusal {
        path: path.to_string(),
        reason: LFS_POINTER.to_owned(),
    });
    Ok((bytes, refusal))
}

/// What changes with every write: kind and length, and the time of the last one.
fn moment(meta: &Metadata) -> (u32, u64, i64, i64) {
    (meta.mode(), meta.len(), meta.mtime(), meta.mtime_nsec())
}
