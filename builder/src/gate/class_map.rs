//! Composer's class map, and its list of files that are always loaded: every file is there.
//!
//! Both are PHP files that return an array, `'Class' => $vendorDir . '/path'`. They are read, not
//! run: what is taken is a text, `=>`, and a sum of texts and the two folders. Entries that are put
//! together otherwise are passed over.

use rayon::prelude::*;

use super::answer::{Answer, Finding, counted};
use super::php::{Kind, Token, tokens};
use super::tree::Tree;

const LISTS: [&str; 2] = [
    "vendor/composer/autoload_classmap.php",
    "vendor/composer/autoload_files.php",
];
/// How an entry within an archive begins, and where the archive's own name ends.
const PHAR: (&[u8], &[u8]) = (b"phar://", b".phar");

/// Looks for the file of every entry.
pub(crate) fn ask(tree: &Tree) -> Answer {
    let mut findings = Vec::new();
    let mut count = 0;
    for list in LISTS {
        if !tree.has_file(list.as_bytes()) {
            continue;
        }
        match std::fs::read(tree.place(list.as_bytes())) {
            Ok(bytes) => {
                let entries = entries(&bytes);
                count += entries.len();
                let wrong = entries
                    .par_iter()
                    .filter_map(|entry| entry.wrong(tree, list));
                findings.extend(wrong.collect::<Vec<_>>());
            }
            Err(error) => {
                findings.push(Finding::at(
                    list.as_bytes(),
                    format!("cannot be read: {error}"),
                ));
            }
        }
    }
    Answer::of(findings).note(counted(count, "mapped file"))
}

/// One line of a list.
#[derive(Debug, PartialEq, Eq)]
struct Entry {
    key: Vec<u8>,
    /// Relative to the tree when it begins in one of the two folders.
    path: Vec<u8>,
    inside: bool,
    line: usize,
}

impl Entry {
    fn wrong(&self, tree: &Tree, list: &str) -> Option<Finding> {
        let key = shown(&self.key);
        if !self.inside {
            let what = format!(
                "maps `{key}` to `{}`, which is outside the release",
                shown(&self.path)
            );
            return Some(Finding::on_line(list.as_bytes(), self.line, what));
        }
        let what = format!("is missing, `{key}` is mapped to it in `{list}`");
        (!self.exists(tree)).then(|| Finding::at(&self.path, what))
    }

    fn exists(&self, tree: &Tree) -> bool {
        let place = || std::fs::metadata(tree.place(&self.path));
        tree.has_file(&self.path) || place().is_ok_and(|meta| meta.is_file())
    }
}

fn entries(source: &[u8]) -> Vec<Entry> {
    let words = tokens(source);
    let arrows = words
        .iter()
        .enumerate()
        .filter(|(_, word)| word.is_sign("=>"));
    arrows.filter_map(|(at, _)| entry(&words, at)).collect()
}

/// The entry around an arrow.
fn entry(words: &[Token<'_>], arrow: usize) -> Option<Entry> {
    let key = words[..arrow]
        .last()
        .filter(|word| word.kind == Kind::Text)?;
    let mut path = Vec::new();
    let mut inside = false;
    for word in &words[arrow + 1..] {
        match word.kind {
            Kind::Text => path.extend(unescaped(word.text)),
            Kind::Variable if word.text == b"$vendorDir" => {
                inside = true;
                path.extend(b"vendor");
            }
            // The tree itself: what follows begins with a `/`.
            Kind::Variable if word.text == b"$baseDir" => inside = true,
            Kind::Sign if word.text == b"." => {}
            Kind::Sign if matches!(word.text, b"," | b")" | b"]") => break,
            _ => return None,
        }
    }
    if let Some(rest) = path.strip_prefix(PHAR.0) {
        let end = rest.windows(PHAR.1.len()).position(|part| part == PHAR.1)?;
        path = rest[..end + PHAR.1.len()].to_vec();
    }
    if path.is_empty() {
        return None;
    }
    let (path, inside) = normal(&path, inside);
    Some(Entry {
        key: unescaped(key.text),
        path,
        inside,
        line: key.line,
    })
}

/// The path without `.`, `..` and empty names, and whether it stays inside.
fn normal(path: &[u8], inside: bool) -> (Vec<u8>, bool) {
    let mut names: Vec<&[u8]> = Vec::new();
    let mut stays = inside;
    for name in path.split(|&byte| byte == b'/') {
        match name {
            b"" | b"." => {}
            b".." => stays &= names.pop().is_some(),
            name => names.push(name),
        }
    }
    if stays {
        (names.join(&b'/'), true)
    } else {
        (path.to_vec(), false)
    }
}

/// What a text in single quotes means.
fn unescaped(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.iter().peekable();
    while let Some(&byte) = bytes.next() {
        let escaped = byte == b'\\' && matches!(bytes.peek(), Some(b'\\' | b'\''));
        out.push(if escaped {
            *bytes.next().unwrap_or(&byte)
        } else {
            byte
        });
    }
    out
}

fn shown(text: &[u8]) -> String {
    // A class name is full of `\`, which only doubles here.
    relstore_store::name::escape(text).replace("\\x5c", "\\")
}

#[cfg(test)]
mod tests {
    use super::super::tree::testing::found;
    use super::*;
    use proptest::prelude::*;

    const HEAD: &str = "<?php\n\n// autoload_classmap.php @generated by Composer\n\n$vendorDir = dirname(__DIR__);\n\
                        $baseDir = dirname($vendorDir);\n\nreturn array(\n";

    fn map(lines: &str) -> String {
        format!("{HEAD}{lines});\n")
    }

    #[test]
    fn map_whose_files_are_there_passes() {
        let classes = map(
            "    'App\\\\Models\\\\User' => $baseDir . '/app/Models/User.php',\n    'It\\'s' => $vendorDir . '/a/it\\'s.php',\n\
             'P' => 'phar://' . $vendorDir . '/a/b.phar/src/P.php',\n 'C' => $vendorDir . '/composer/../a/b.phar',\n\
             'X' => somewhere('else'),\n",
        );
        let files = map("    'abc123' => $vendorDir . '/a/functions.php',\n");
        let tree = [
            (LISTS[0], classes.as_str()),
            (LISTS[1], files.as_str()),
            ("app/Models/User.php", ""),
            ("vendor/a/it's.php", ""),
            ("vendor/a/b.phar", ""),
            ("vendor/a/functions.php", ""),
        ];
        assert_eq!(found(ask, &tree), [""; 0]);
        assert_eq!(entries(classes.as_bytes()).len(), 4);
        assert_eq!(found(ask, &[("vendor/autoload.php", "<?php\n")]), [""; 0]);
    }

    #[test]
    fn missing_and_outside_files_are_named_with_their_class() {
        let classes = map(
            "    'App\\\\Gone' => $baseDir . '/app/Gone.php',\n    'Away' => $baseDir . '/../packages/a.php',\n\
             \n    'Abs' => '/srv/build/a.php',\n",
        );
        let files = map("    'abc' => $vendorDir . '/a/gone.php',\n");
        let list = LISTS[0];
        assert_eq!(
            found(ask, &[(list, &classes), (LISTS[1], &files)]),
            [
                format!("`app/Gone.php` is missing, `App\\Gone` is mapped to it in `{list}`"),
                format!(
                    "`{list}:10` maps `Away` to `/../packages/a.php`, which is outside the release"
                ),
                format!(
                    "`{list}:12` maps `Abs` to `/srv/build/a.php`, which is outside the release"
                ),
                format!(
                    "`vendor/a/gone.php` is missing, `abc` is mapped to it in `{}`",
                    LISTS[1]
                ),
            ]
        );
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in "(=>|\\$vendorDir|\\$baseDir|phar://|[.,)'/ a\\\\]){0,40}") {
            entries(format!("<?php {text}").as_bytes());
        }
    }
}
