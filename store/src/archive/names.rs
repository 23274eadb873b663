//! Which names an archive has had so far. Pure.

use std::collections::HashMap;

use super::{ArchiveError, MAX_NAMES};
use crate::name::{EntryPath, escape};

/// What a name is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Named {
    File,
    Folder,
    /// A folder that only lies above something.
    Above,
    Link,
}

/// All names so far.
#[derive(Debug, Default)]
pub(super) struct Names {
    seen: HashMap<Vec<u8>, Named>,
    cost: u64,
}

impl Names {
    /// Takes a name that is new, below folders only.
    pub(super) fn add(&mut self, path: &EntryPath, named: Named) -> Result<(), ArchiveError> {
        let bytes = path.as_bytes();
        let slashes = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'/');
        for (at, _) in slashes {
            let outer = &bytes[..at];
            match self.seen.get(outer) {
                Some(Named::Folder | Named::Above) => {}
                Some(_) => {
                    return Err(ArchiveError::Below {
                        path: path.to_string(),
                        outer: escape(outer),
                    });
                }
                None => self.insert(outer, Named::Above)?,
            }
        }
        match (self.seen.get(bytes), named) {
            (None, _) | (Some(Named::Above), Named::Folder) => self.insert(bytes, named),
            _ => Err(ArchiveError::Duplicate {
                path: path.to_string(),
            }),
        }
    }

    /// Whether there is a file of this name.
    pub(super) fn has_file(&self, path: &EntryPath) -> bool {
        self.seen.get(path.as_bytes()) == Some(&Named::File)
    }

    fn insert(&mut self, path: &[u8], named: Named) -> Result<(), ArchiveError> {
        self.cost += path.len() as u64 + 64;
        if self.cost > MAX_NAMES {
            return Err(ArchiveError::Names);
        }
        self.seen.insert(path.to_vec(), named);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn add(names: &mut Names, path: &str, named: Named) -> Result<(), ArchiveError> {
        names.add(&EntryPath::new(path).unwrap(), named)
    }

    #[test]
    fn a_name_is_taken_once_and_below_folders_only() {
        let mut names = Names::default();
        add(&mut names, "a/b/file", Named::File).unwrap();
        add(&mut names, "a", Named::Folder).unwrap();
        add(&mut names, "a/link", Named::Link).unwrap();
        for (path, named) in [
            ("a", Named::Folder),
            ("a/b", Named::File),
            ("a/b/file", Named::File),
            ("a/link", Named::Folder),
        ] {
            let refused = add(&mut names, path, named);
            assert!(
                matches!(refused, Err(ArchiveError::Duplicate { .. })),
                "{path}"
            );
        }
        for path in ["a/link/x", "a/link/x/y", "a/b/file/x"] {
            let refused = add(&mut names, path, Named::File);
            assert!(matches!(refused, Err(ArchiveError::Below { .. })), "{path}");
        }
    }

    #[test]
    fn names_cost_memory_that_is_bounded() {
        let mut names = Names {
            cost: MAX_NAMES - 100,
            ..Names::default()
        };
        add(&mut names, "a", Named::File).unwrap();
        let refused = add(&mut names, "b", Named::File);
        assert!(matches!(refused, Err(ArchiveError::Names)));
    }
}
