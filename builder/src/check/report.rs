//! Reads what checks wrote: only plain files of their tree, never through a link, up to a size.
//! The programs that wrote them may be anything, so nothing here follows where they point.

use std::fs::File;
use std::io::{self, BufReader, Read, Take};
use std::path::Path;

use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, CWD, Mode, OFlags};

/// Most bytes that are read of a report; one of a test suite with 100,000 tests has half of it.
const MAX_BYTES: u64 = 64 << 20;

/// The beginning of a plain file.
pub(crate) type Report = BufReader<Take<File>>;

/// Opens a report; `None` when there is no plain file.
pub(crate) fn open(tree: &Path, path: &str) -> io::Result<Option<Report>> {
    let opened = parent(tree, path).and_then(|(folder, name)| {
        // A pipe without a writer would block otherwise.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        Ok(rustix::fs::openat(&folder, name, flags, Mode::empty())?)
    });
    let file = match opened {
        Ok(file) => File::from(file),
        Err(error) if is_absent(&error) => return Ok(None),
        Err(error) => return Err(error),
    };
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Ok(None);
    }
    if meta.len() > MAX_BYTES {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("it has more than {} MiB", MAX_BYTES >> 20),
        ));
    }
    // It may still grow.
    Ok(Some(BufReader::new(file.take(MAX_BYTES))))
}

/// Removes a report that the source brought, which would be taken for the check's own.
pub(crate) fn remove(tree: &Path, path: &str) -> io::Result<()> {
    let removed = parent(tree, path)
        .and_then(|(folder, name)| Ok(rustix::fs::unlinkat(&folder, name, AtFlags::empty())?));
    match removed {
        Err(error) if !is_absent(&error) => Err(error),
        _ => Ok(()),
    }
}

/// The folder of a path below the tree, and the last name.
fn parent<'a>(tree: &Path, path: &'a str) -> io::Result<(OwnedFd, &'a str)> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut folder = rustix::fs::openat(CWD, tree, flags, Mode::empty())?;
    let (parents, name) = path.rsplit_once('/').unwrap_or(("", path));
    for part in parents.split('/').filter(|part| !part.is_empty()) {
        if part == ".." {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        folder = rustix::fs::openat(&folder, part, flags | OFlags::NOFOLLOW, Mode::empty())?;
    }
    Ok((folder, name))
}

/// Nothing is there, or something that is no file in no folder.
fn is_absent(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let absent = [Errno::NOENT, Errno::NOTDIR, Errno::ISDIR, Errno::LOOP];
    Errno::from_io_error(error).is_some_and(|errno| absent.contains(&errno))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::unix::fs::symlink;

    fn read(tree: &Path, path: &str) -> Option<String> {
        let mut text = String::new();
        open(tree, path)
            .unwrap()?
            .read_to_string(&mut text)
            .unwrap();
        Some(text)
    }

    #[test]
    fn plain_files_are_read_and_nothing_else() {
        let root = tempfile::tempdir().unwrap();
        let tree = root.path().join("tree");
        std::fs::create_dir_all(tree.join("build/logs")).unwrap();
        std::fs::write(tree.join("build/logs/junit.xml"), "<x/>").unwrap();
        std::fs::write(root.path().join("outside"), "secret").unwrap();
        symlink("../outside", tree.join("link.xml")).unwrap();
        symlink("..", tree.join("up")).unwrap();
        rustix::fs::mknodat(
            CWD,
            tree.join("pipe"),
            rustix::fs::FileType::Fifo,
            Mode::RUSR | Mode::WUSR,
            0,
        )
        .unwrap();
        assert_eq!(read(&tree, "build/logs/junit.xml").unwrap(), "<x/>");
        for path in [
            "absent",
            "absent/x",
            "link.xml",
            "up/outside",
            "pipe",
            "build",
        ] {
            assert_eq!(read(&tree, path), None, "{path}");
        }
    }

    #[test]
    fn removing_never_leaves_the_tree() {
        let root = tempfile::tempdir().unwrap();
        let tree = root.path().join("tree");
        std::fs::create_dir(&tree).unwrap();
        std::fs::write(root.path().join("outside"), "").unwrap();
        symlink("..", tree.join("up")).unwrap();
        symlink("../outside", tree.join("link.xml")).unwrap();
        for path in ["up/outside", "link.xml", "absent"] {
            remove(&tree, path).unwrap();
        }
        assert!(root.path().join("outside").exists());
        assert!(!tree.join("link.xml").is_symlink());
    }

    #[test]
    fn too_large_reports_are_refused() {
        let root = tempfile::tempdir().unwrap();
        let file = File::create(root.path().join("x")).unwrap();
        file.set_len(MAX_BYTES + 1).unwrap();
        let error = open(root.path(), "x").err().unwrap();
        assert_eq!(error.to_string(), "it has more than 64 MiB");
    }
}
