//! Submodules: other repositories at a fixed commit inside this one. Their objects are wherever
//! git put them: in the repository's own folder (`modules/<name>`), or in the submodule's work
//! tree. Nothing is fetched.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use crate::error::BuildError;
use crate::exclude::shown;
use crate::git::Git;

/// Deepest nesting: two repositories that name each other as submodules have no end otherwise.
const MAX_DEPTH: usize = 16;

/// A commit of a repository, the project's own or that of a submodule.
pub(super) struct Repository {
    pub(super) git: Git,
    pub(super) commit: String,
    /// Where its tree lies in the project, with a `/` at the end; empty for the project's own.
    pub(super) place: Vec<u8>,
    /// Part of the tree that is the project, with a `/` at the end; empty for the whole.
    pub(super) prefix: Vec<u8>,
    pub(super) depth: usize,
}

impl Repository {
    /// The submodule at `path` (in the tree of this repository, below its prefix) at `commit`.
    pub(super) fn submodule(&self, path: &[u8], commit: &str) -> Result<Self, BuildError> {
        let mut place = self.place.clone();
        place.extend_from_slice(path);
        let missing = || BuildError::NoSubmodule {
            path: shown(&place),
            commit: commit.to_owned(),
        };
        if self.depth >= MAX_DEPTH {
            return Err(missing());
        }
        let mut in_repository = self.prefix.clone();
        in_repository.extend_from_slice(path);
        for git in self.places_of_objects(&in_repository)? {
            if git.commit(commit)?.as_deref() == Some(commit) {
                place.push(b'/');
                return Ok(Self {
                    git,
                    commit: commit.to_owned(),
                    place,
                    prefix: Vec::new(),
                    depth: self.depth + 1,
                });
            }
        }
        Err(missing())
    }

    /// Where the objects of the submodule at a path of the repository may be.
    fn places_of_objects(&self, path: &[u8]) -> Result<Vec<Git>, BuildError> {
        let mut places = Vec::new();
        if let Some(name) = self.names()?.get(path).filter(|name| is_plain(name)) {
            let modules = self.git.common_folder()?.join("modules");
            let folder = modules.join(OsStr::from_bytes(name));
            if folder.join("objects").is_dir() {
                places.push(self.git.at_objects(folder));
            }
        }
        if let Some(top) = self.git.top()? {
            let folder = top.join(OsStr::from_bytes(path));
            // The empty folder of a submodule that git has not brought belongs to this repository.
            if folder.is_dir() {
                let git = self.git.at(folder);
                places.extend(git.is_top()?.then_some(git));
            }
        }
        Ok(places)
    }

    /// What the commit's `.gitmodules` says: names by path.
    fn names(&self) -> Result<HashMap<Vec<u8>, Vec<u8>>, BuildError> {
        let mut command = self.git.command();
        command
            .args(["config", "--null", "--blob"])
            .arg(format!("{}:.gitmodules", self.commit))
            .args(["--get-regexp", r"^submodule\..*\.path$"]);
        // Without the file there are no names, and the work tree may still have the objects.
        let said = self.git.ask(command)?.unwrap_or_default();
        let lines = said.split(|&byte| byte == 0);
        Ok(lines.filter_map(name_and_path).collect())
    }
}

/// Reads `submodule.<name>.path\n<path>`.
fn name_and_path(line: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let end = line.iter().position(|&byte| byte == b'\n')?;
    let name = line[..end].strip_prefix(b"submodule.")?;
    let name = name.strip_suffix(b".path")?;
    Some((line[end + 1..].to_vec(), name.to_vec()))
}

/// Whether a name, which is whatever a commit says, stays in the folder it is looked up in.
fn is_plain(name: &[u8]) -> bool {
    name.split(|&byte| byte == b'/')
        .all(|part| !matches!(part, b"" | b"." | b".."))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_may_hold_dots_and_line_ends_of_paths_and_never_lead_out() {
        let line = b"submodule.lib.path.path\nlib/a b\nc";
        let (path, name) = name_and_path(line).unwrap();
        assert_eq!(
            (path.as_slice(), name.as_slice()),
            (&b"lib/a b\nc"[..], &b"lib.path"[..])
        );
        assert!(name_and_path(b"").is_none() && name_and_path(b"core.bare\ntrue").is_none());
        for (name, fine) in [
            (&b"vendor/lib"[..], true),
            (b"../../etc", false),
            (b"/etc", false),
            (b"a/./b", false),
            (b"", false),
        ] {
            assert_eq!(is_plain(name), fine);
        }
    }
}
