//! PHP compiles every file of the application: `php -l`, several at a time.
//!
//! Files that passed before with the same PHP are not asked about again. They are remembered by their
//! content in `<cache>/php-syntax`, see [`Passed`].

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::Ordering;

use rayon::prelude::*;
use relstore_store::id::BlobId;

use super::Context;
use super::answer::{Answer, Finding, counted};
use super::tree::{OwnFile, Tree};
use crate::process;

/// No configuration of the machine has a say: with short tags, `<?xml` would begin PHP.
const SETTINGS: [&str; 9] = [
    "-n",
    "-d",
    "short_open_tag=0",
    "-d",
    "display_errors=1",
    "-d",
    "log_errors=0",
    "-d",
    "html_errors=0",
];
/// Files that are remembered; 65 bytes each.
const REMEMBERED: usize = 20_000;
const FILE_NAME: &str = "php-syntax";

/// Asks PHP about each file it has not passed before.
pub(crate) fn ask(context: &Context<'_>, tree: &Tree) -> Answer {
    let files: Vec<&OwnFile> = tree.own_php().collect();
    if files.is_empty() {
        return Answer::default().note("no file");
    }
    let Some(php) = process::find(context.search_path, "php") else {
        return Answer::skipped("`php` is not in PATH");
    };
    let version = match run(
        &php,
        context,
        &["-r".as_ref(), "echo PHP_VERSION;".as_ref()],
    ) {
        Ok(output) if output.status.success() => output.stdout,
        _ => return Answer::skipped(format!("{} cannot be run", php.display())),
    };
    let mut passed = Passed::read(context.cache);
    let keyed: Vec<(BlobId, &OwnFile)> = files
        .par_iter()
        .map(|file| (key(&version, &file.bytes), *file))
        .collect();
    let new: Vec<&(BlobId, &OwnFile)> = keyed.iter().filter(|(key, _)| !passed.has(key)).collect();
    let found: Vec<Option<Finding>> = new
        .par_iter()
        .map(|(_, file)| lint(&php, context, tree, file))
        .collect();
    if context.cancelled.load(Ordering::Relaxed) {
        return Answer::skipped("interrupted");
    }
    let good = keyed.iter().filter(|(key, _)| passed.has(key));
    let good = good.chain(
        new.iter()
            .zip(&found)
            .filter_map(|(one, found)| match found {
                None => Some(*one),
                Some(_) => None,
            }),
    );
    let good: Vec<BlobId> = good.map(|(key, _)| *key).collect();
    if !new.is_empty() {
        passed.remember(&good);
    }
    let note = format!(
        "{}, {} not seen before",
        counted(files.len(), "file"),
        new.len()
    );
    Answer::of(found.into_iter().flatten().collect()).note(note)
}

fn run(php: &Path, context: &Context<'_>, args: &[&std::ffi::OsStr]) -> std::io::Result<Output> {
    Command::new(php)
        .args(SETTINGS)
        .args(args)
        .env_clear()
        .env("PATH", context.search_path)
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::null())
        .output()
}

/// What is wrong with a file, if anything.
fn lint(php: &Path, context: &Context<'_>, tree: &Tree, file: &OwnFile) -> Option<Finding> {
    if context.cancelled.load(Ordering::Relaxed) {
        return Some(Finding::at(&file.path, "was not compiled"));
    }
    let place = tree.place(&file.path);
    match run(php, context, &["-l".as_ref(), place.as_os_str()]) {
        Ok(output) if output.status.success() => None,
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stdout);
            Some(finding(&file.path, &said, &place.to_string_lossy()))
        }
        Err(error) => Some(Finding::at(
            &file.path,
            format!("could not be compiled: {error}"),
        )),
    }
}

/// From `Parse error: syntax error, ... in /place/of/file.php on line 3`.
fn finding(path: &[u8], said: &str, place: &str) -> Finding {
    let error = said
        .lines()
        .find_map(|line| line.split_once(" error: ").map(|(_, what)| what.trim()));
    let Some(error) = error else {
        return Finding::at(path, "does not compile");
    };
    let (what, line) = error.rsplit_once(" on line ").unwrap_or((error, ""));
    let what = what.strip_suffix(&format!(" in {place}")).unwrap_or(what);
    let what = format!("does not compile: {}", without_texts(what));
    match line.parse() {
        Ok(line) => Finding::on_line(path, line, what),
        Err(_) => Finding::at(path, what),
    }
}

/// The message without the texts of the file that PHP quotes in it: one may be a password.
fn without_texts(what: &str) -> String {
    let quoted = ["string \"", "content \""];
    let Some(at) = quoted
        .iter()
        .find_map(|begin| Some(what.find(begin)? + begin.len()))
    else {
        return what.to_owned();
    };
    let before = what[..at].trim_end_matches([' ', '"']);
    match what[at..].rsplit_once("\", expecting ") {
        Some((_, tokens)) => format!("{before}, expecting {tokens}"),
        None => before.to_owned(),
    }
}

fn key(version: &[u8], content: &[u8]) -> BlobId {
    BlobId::of(&[version, b"\n", content].concat())
}

/// The files that passed: a text with one id a line, the BLAKE3 of PHP's version, a line end and the
/// file's content. Those of the last run come first; the oldest go. A cache: it can be removed, what
/// cannot be read in it is passed over, and when it cannot be written the next run asks again.
struct Passed {
    folder: Option<PathBuf>,
    order: Vec<BlobId>,
    known: HashSet<BlobId>,
}

impl Passed {
    fn read(folder: Option<&Path>) -> Self {
        let text = folder.and_then(|folder| std::fs::read_to_string(folder.join(FILE_NAME)).ok());
        let lines = text.iter().flat_map(|text| text.lines());
        let order: Vec<BlobId> = lines
            .filter_map(|line| line.parse().ok())
            .take(REMEMBERED)
            .collect();
        Self {
            folder: folder.map(Path::to_owned),
            known: order.iter().copied().collect(),
            order,
        }
    }

    fn has(&self, key: &BlobId) -> bool {
        self.known.contains(key)
    }

    /// Puts these first and writes the list.
    fn remember(&mut self, good: &[BlobId]) {
        let mut seen = HashSet::new();
        let all = good.iter().chain(&self.order);
        let text: String = all
            .filter(|key| seen.insert(**key))
            .take(REMEMBERED)
            .map(|key| format!("{key}\n"))
            .collect();
        if let Some(folder) = &self.folder {
            // Whoever reads at the same time finds the old list or the new one.
            let _ = std::fs::create_dir_all(folder)
                .and_then(|()| tempfile::NamedTempFile::new_in(folder))
                .and_then(|file| std::fs::write(file.path(), text).map(|()| file))
                .and_then(|file| file.persist(folder.join(FILE_NAME)).map_err(Into::into));
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::LeftOut;
    use super::super::tree::testing::folder;
    use super::*;
    use std::sync::atomic::AtomicBool;

    const PATH: &str = "/usr/local/bin:/usr/bin:/bin";

    fn asked(root: &Path, search_path: &str, cache: Option<&Path>) -> Answer {
        let context = Context {
            root,
            left_out: &LeftOut::default(),
            search_path,
            cache,
            cancelled: &AtomicBool::new(false),
        };
        ask(&context, &Tree::read(root, context.left_out))
    }

    #[test]
    fn files_that_do_not_compile_are_named_with_line_and_reason() {
        let root = folder(&[
            ("app/good.php", "<?php echo 1;\n"),
            ("app/parse.php", "<?php\n$a = \"x\"\n\"hunter2\";\n"),
            (
                "app/compile.php",
                "<?php\nclass A { function f() {} function F() {} }\n",
            ),
            ("public/feed.php", "<?xml version=\"1.0\"?><a/>"),
            ("resources/views/a.blade.php", "<?php $ $"),
            ("vendor/a/b.php", "<?php $ $"),
            ("-l.php", "<?php ) "),
        ]);
        let answer = asked(root.path(), PATH, None);
        let found: Vec<String> = answer.findings.iter().map(Finding::text).collect();
        assert_eq!(found.len(), 3, "{found:?}");
        assert_eq!(found[0], "`-l.php:1` does not compile: Unmatched ')'");
        assert!(
            found[1].starts_with("`app/compile.php:2` does not compile: Cannot redeclare A::"),
            "{found:?}"
        );
        assert_eq!(
            found[2],
            "`app/parse.php:3` does not compile: syntax error, unexpected double-quoted string"
        );
    }

    #[test]
    fn good_files_are_asked_about_once_and_bad_ones_again() {
        let cache = tempfile::tempdir().unwrap();
        let root = folder(&[("a.php", "<?php echo 1;"), ("b.php", "<?php ) ")]);
        let notes = || {
            let answer = asked(root.path(), PATH, Some(cache.path()));
            assert_eq!(answer.findings.len(), 1);
            answer.notes[0].clone()
        };
        assert_eq!(notes(), "2 files, 2 not seen before");
        assert_eq!(notes(), "2 files, 1 not seen before");
        std::fs::write(root.path().join("a.php"), "<?php echo 2;").unwrap();
        assert_eq!(notes(), "2 files, 2 not seen before");
        std::fs::write(cache.path().join(FILE_NAME), "\u{0}\nnonsense\n").unwrap();
        assert_eq!(notes(), "2 files, 2 not seen before");
        let names = std::fs::read_dir(cache.path()).unwrap().count();
        assert_eq!(names, 1, "nothing else is left there");
    }

    #[test]
    fn another_php_asks_again() {
        assert_ne!(key(b"8.2.1", b"x"), key(b"8.2.2", b"x"));
        assert_ne!(key(b"8.2.1", b"x"), key(b"8.2.1", b"y"));
    }

    #[test]
    fn memory_is_bounded_and_keeps_the_last_run() {
        let cache = tempfile::tempdir().unwrap();
        let many: Vec<BlobId> = (0..REMEMBERED as u32)
            .map(|number| BlobId::of(&number.to_le_bytes()))
            .collect();
        Passed::read(Some(cache.path())).remember(&many);
        let new = BlobId::of(b"new");
        Passed::read(Some(cache.path())).remember(&[new]);
        let passed = Passed::read(Some(cache.path()));
        assert_eq!(passed.order.len(), REMEMBERED);
        assert!(passed.has(&new) && passed.has(&many[0]) && !passed.has(&many[REMEMBERED - 1]));
    }

    #[test]
    fn without_php_it_is_said_that_nothing_was_asked() {
        let root = folder(&[("a.php", "<?php ) ")]);
        let answer = asked(root.path(), "/nowhere", None);
        assert_eq!(answer.skipped.as_deref(), Some("`php` is not in PATH"));
        let none = asked(folder(&[("a.txt", "")]).path(), "/nowhere", None);
        assert_eq!((none.skipped, none.findings.len()), (None, 0));
    }

    #[test]
    fn texts_of_the_file_are_not_repeated() {
        for (said, kept) in [
            (
                "unexpected single-quoted string \"hunter2\", expecting \",\" or \";\"",
                "unexpected single-quoted string, expecting \",\" or \";\"",
            ),
            (
                "unexpected string content \"hunter2...\"",
                "unexpected string content",
            ),
            ("unexpected token \";\"", "unexpected token \";\""),
        ] {
            assert_eq!(without_texts(said), kept);
        }
    }
}
