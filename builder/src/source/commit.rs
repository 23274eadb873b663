//! The tree of a commit, from git's objects: `ls-tree` for the names, one `cat-file --batch` for
//! the contents. The work tree is not looked at, and attributes (`export-ignore`, filters, line
//! ends) change nothing. Works in shallow clones, bare repositories and folders of a monorepo.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::os::unix::ffi::OsStringExt;
use std::process::{Child, ChildStdin, Stdio};

use relstore_store::name::EntryPath;

use super::submodule::Repository;
use super::{Export, LFS_MAX, LFS_POINTER, Refusals, Source, Writer, is_lfs_pointer};
use crate::error::{BuildError, IoContext};
use crate::exclude::shown;
use crate::git::Git;

/// Longest link target that is read; a release takes less.
const MAX_TARGET: u64 = 64 << 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    File,
    Executable,
    Link,
}

struct Item {
    path: EntryPath,
    mode: Mode,
    object: String,
}

/// Copies the commit's files below the project's folder.
pub(crate) fn export(export: &Export<'_>, revision: &str) -> Result<Source, BuildError> {
    let git = export.git()?;
    let prefix = git.prefix()?;
    let commit = git.commit(revision)?.ok_or_else(|| BuildError::NoCommit {
        revision: revision.to_owned(),
        folder: export.project.to_owned(),
    })?;
    let epoch = git.time_of(&commit)?;
    let mut refusals = Refusals::default();
    let mut writer = Writer::new(export.target);
    let (mut files, mut bytes) = (0, 0);
    let mut repositories = vec![Repository {
        git,
        commit: commit.clone(),
        place: Vec::new(),
        prefix: prefix.clone(),
        depth: 0,
    }];
    while let Some(repository) = repositories.pop() {
        let listed = list(export, &repository, &mut refusals)?;
        let copied = copy(
            export,
            &repository.git,
            &listed.items,
            &mut writer,
            &mut refusals,
        )?;
        files += copied.0;
        bytes += copied.1;
        for (path, commit) in listed.submodules {
            repositories.push(repository.submodule(&path, &commit)?);
        }
    }
    writer.finish(&mut refusals)?;
    refusals.finish()?;
    Ok(Source {
        commit: Some(commit),
        dirty: false,
        epoch,
        prefix: shown(prefix.strip_suffix(b"/").unwrap_or(&prefix)),
        files,
        bytes,
    })
}

/// What a repository's tree holds.
struct Listed {
    items: Vec<Item>,
    /// Path below the repository's prefix, and commit.
    submodules: Vec<(Vec<u8>, String)>,
}

fn list(
    export: &Export<'_>,
    repository: &Repository,
    refusals: &mut Refusals,
) -> Result<Listed, BuildError> {
    let Repository {
        git,
        commit,
        prefix,
        place,
        ..
    } = repository;
    let mut tree = commit.as_bytes().to_vec();
    if let Some(folder) = prefix.strip_suffix(b"/") {
        tree.push(b':');
        tree.extend_from_slice(folder);
    }
    let mut command = git.command();
    command
        .args(["ls-tree", "-r", "-z", "--full-tree"])
        .arg(OsString::from_vec(tree));
    let listed = git.ask(command)?.map_err(|said| {
        if prefix.is_empty() {
            git.failure("list the commit's files", &said)
        } else {
            BuildError::NoPrefix {
                commit: commit.to_owned(),
                prefix: shown(prefix),
            }
        }
    })?;
    let (mut items, mut submodules) = (Vec::new(), Vec::new());
    for line in listed
        .split(|&byte| byte == 0)
        .filter(|line| !line.is_empty())
    {
        let (mode, object, path) = split(line).ok_or_else(|| {
            git.failure("list the commit's files", &String::from_utf8_lossy(line))
        })?;
        let inner = path;
        let path = &[place, inner].concat()[..];
        if export.source_excludes.covers(path) {
            continue;
        }
        let mode = match mode {
            b"100644" | b"100664" => Mode::File,
            b"100755" => Mode::Executable,
            b"120000" => Mode::Link,
            // No release has it: whatever it is, it does no harm.
            b"160000" if export.leaves_out(path) => continue,
            b"160000" => {
                submodules.push((inner.to_vec(), object));
                continue;
            }
            _ => {
                refusals.add(
                    path,
                    "is of a kind that this version of relstore does not know",
                );
                continue;
            }
        };
        match EntryPath::new(path) {
            Ok(path) => items.push(Item { path, mode, object }),
            Err(error) => refusals.add(
                path,
                format!("has a name that no release may have: {error}"),
            ),
        }
    }
    Ok(Listed { items, submodules })
}

/// Splits `<mode> <type> <object>\t<path>`.
fn split(line: &[u8]) -> Option<(&[u8], String, &[u8])> {
    let tab = line.iter().position(|&byte| byte == b'\t')?;
    let mut fields = line[..tab].split(|&byte| byte == b' ');
    let (mode, _kind, object) = (fields.next()?, fields.next()?, fields.next()?);
    let object = std::str::from_utf8(object).ok()?.to_owned();
    Some((mode, object, &line[tab + 1..]))
}

/// A child that does not outlive its use.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn copy(
    export: &Export<'_>,
    git: &Git,
    items: &[Item],
    writer: &mut Writer<'_>,
    refusals: &mut Refusals,
) -> Result<(u64, u64), BuildError> {
    let mut command = git.command();
    command
        .args(["cat-file", "--batch", "--buffer"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut child = Running(command.spawn().map_err(|error| git.start_error(error))?);
    let stdin = child.0.stdin.take().expect("the command asks for a pipe");
    let stdout = child.0.stdout.take().expect("the command asks for a pipe");
    std::thread::scope(|scope| {
        // Names are sent while contents are read: one side alone would fill the other's pipe.
        scope.spawn(move || send(stdin, items));
        let mut contents = BufReader::with_capacity(256 << 10, stdout);
        let result = receive(export, git, items, &mut contents, writer, refusals);
        // Ends the sender as well, when it is not done.
        drop(child);
        result
    })
}

fn send(stdin: ChildStdin, items: &[Item]) -> std::io::Result<()> {
    let mut stdin = BufWriter::new(stdin);
    for item in items {
        writeln!(stdin, "{}", item.object)?;
    }
    stdin.flush()
}

fn receive(
    export: &Export<'_>,
    git: &Git,
    items: &[Item],
    contents: &mut impl BufRead,
    writer: &mut Writer<'_>,
    refusals: &mut Refusals,
) -> Result<(u64, u64), BuildError> {
    let broken = |said: &str| git.failure("read the commit's files", said);
    let (mut files, mut bytes) = (0, 0);
    for item in items {
        export.check_cancelled()?;
        let mut header = String::new();
        contents
            .read_line(&mut header)
            .map_err(|error| broken(&error.to_string()))?;
        let size = match header.trim_end().rsplit_once(' ') {
            Some((_, "missing")) => {
                return Err(BuildError::NoObject {
                    object: item.object.clone(),
                    path: item.path.to_string(),
                });
            }
            Some((_, size)) => size.parse::<u64>().map_err(|_| broken(&header))?,
            None => return Err(broken("git ended early")),
        };
        let mut content = contents.by_ref().take(size);
        if item.mode == Mode::Link {
            let mut target = Vec::new();
            if size > MAX_TARGET {
                refusals.add(
                    item.path.as_bytes(),
                    "is a link with a target that is too long",
                );
                std::io::copy(&mut content, &mut std::io::sink())
                    .map_err(|error| broken(&error.to_string()))?;
            } else {
                content
                    .read_to_end(&mut target)
                    .map_err(|error| broken(&error.to_string()))?;
                writer.link(item.path.clone(), target);
            }
        } else {
            let mut head = Vec::new();
            if size < LFS_MAX {
                content
                    .read_to_end(&mut head)
                    .map_err(|error| broken(&error.to_string()))?;
                if is_lfs_pointer(&head) && export.releases(item.path.as_bytes()) {
                    refusals.add(item.path.as_bytes(), LFS_POINTER);
                }
            }
            let (place, mut file) = writer.file(&item.path, item.mode == Mode::Executable)?;
            file.write_all(&head).at("write", &place)?;
            std::io::copy(&mut content, &mut file).at("write", &place)?;
            files += 1;
            bytes += size;
        }
        if content.limit() > 0 {
            return Err(broken("git ended early"));
        }
        let mut line_feed = [0];
        contents
            .read_exact(&mut line_feed)
            .map_err(|error| broken(&error.to_string()))?;
    }
    Ok((files, bytes))
}
