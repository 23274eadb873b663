//! Structure requirements: "this path is a file", "this path is a folder". The build's gates and
//! the checks on a host run the same code over the same values; which paths are required is the
//! caller's business.

use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::name::EntryPath;

/// What has to lie at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Shape {
    /// A regular file, after following links.
    File,
    /// A folder, after following links.
    Dir,
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::File => "file",
            Self::Dir => "folder",
        })
    }
}

/// A path and what has to be there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requirement {
    /// Relative to the release's folder.
    pub path: EntryPath,
    /// File or folder.
    pub shape: Shape,
}

impl Requirement {
    /// Looks below `root`; returns what is wrong, or `None` when the requirement holds.
    #[must_use]
    pub fn failure(&self, root: &Path) -> Option<String> {
        let (path, shape) = (&self.path, self.shape);
        match std::fs::metadata(root.join(path.as_path())) {
            Ok(found)
                if found.is_file() == (shape == Shape::File)
                    && found.is_dir() == (shape == Shape::Dir) =>
            {
                None
            }
            Ok(found) if found.is_dir() => Some(format!("`{path}` is a folder, not a {shape}")),
            Ok(found) if found.is_file() => Some(format!("`{path}` is a file, not a {shape}")),
            Ok(_) => Some(format!("`{path}` is neither a file nor a folder")),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Some(format!("{shape} `{path}` is missing"))
            }
            Err(error) => Some(format!("{shape} `{path}` cannot be looked at: {error}")),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn missing_and_mistaken_paths_are_told_apart() {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("artisan"), "").unwrap();
        std::fs::create_dir(root.path().join("app")).unwrap();
        let check = |path: &str, shape| {
            Requirement {
                path: EntryPath::new(path).unwrap(),
                shape,
            }
            .failure(root.path())
        };
        assert_eq!(check("artisan", Shape::File), None);
        assert_eq!(check("app", Shape::Dir), None);
        assert_eq!(
            check("app", Shape::File).unwrap(),
            "`app` is a folder, not a file"
        );
        assert_eq!(
            check("artisan", Shape::Dir).unwrap(),
            "`artisan` is a file, not a folder"
        );
        assert_eq!(
            check("vendor/autoload.php", Shape::File).unwrap(),
            "file `vendor/autoload.php` is missing"
        );
        assert!(
            check("artisan/x", Shape::File)
                .unwrap()
                .contains("cannot be looked at")
        );
    }
}
