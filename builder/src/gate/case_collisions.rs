//! Names in one folder that differ only in case, or only in how their letters are composed. Pure.
//!
//! Two such names are one on the file systems of macOS and Windows. Names are compared as those do:
//! folded by Unicode's full case folding, and decomposed, for macOS takes `é` in one code point and
//! `e` with a combining accent for the same.

use std::collections::HashMap;

use icu_normalizer::DecomposingNormalizerBorrowed;
use relstore_store::name::escape;
use unicase::UniCase;

use super::answer::{Answer, Finding, counted};
use super::tree::Tree;

/// Compares all names of each folder. What lies below two folders that collide is not listed too.
pub(crate) fn ask(tree: &Tree) -> Answer {
    let mut known: HashMap<(&[u8], Vec<u8>), &[u8]> = HashMap::new();
    let mut findings = Vec::new();
    for (path, _) in &tree.paths {
        let cut = path.iter().rposition(|&byte| byte == b'/');
        let (folder, name) = match cut {
            Some(at) => (&path[..at], &path[at + 1..]),
            None => (&path[..0], path.as_slice()),
        };
        match known.entry((folder, folded(name))) {
            std::collections::hash_map::Entry::Occupied(other) => {
                let what = format!("differs only in case from `{}`", escape(other.get()));
                findings.push(Finding::at(path, what));
            }
            std::collections::hash_map::Entry::Vacant(place) => {
                place.insert(path);
            }
        }
    }
    Answer::of(findings).note(counted(tree.paths.len(), "path"))
}

/// The form in which colliding names are equal. Names that are no UTF-8 fold only their ASCII.
fn folded(name: &[u8]) -> Vec<u8> {
    match std::str::from_utf8(name) {
        Ok(text) if !text.is_ascii() => {
            let normal = DecomposingNormalizerBorrowed::new_nfd();
            let folded = UniCase::unicode(normal.normalize(text)).to_folded_case();
            normal.normalize(&folded).into_owned().into_bytes()
        }
        _ => name.to_ascii_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tree::testing::found;
    use super::*;

    #[test]
    fn names_that_differ_only_in_case_or_composition_are_named_once() {
        let paths = [
            "App/Models/a.php",
            "app/Models/a.php",
            "lang/STRASSE.php",
            "lang/straße.php",
            "lang/caf\u{e9}.php",
            "lang/cafe\u{301}.php",
            "other/\u{3a3}.php",
            "other/\u{3c2}.php",
            "other/\u{3c3}.php",
        ];
        let files = paths.map(|path| (path, ""));
        let found = found(ask, &files);
        assert_eq!(
            found[0], "`app` differs only in case from `App`",
            "{found:?}"
        );
        assert_eq!(found.len(), 5, "{found:?}");
    }

    #[test]
    fn different_names_and_different_folders_do_not_collide() {
        let paths = [
            "a/x.php",
            "b/X.php",
            "a/x.phpx",
            "i.php",
            "\u{131}.php",
            "é",
            "è",
        ];
        assert_eq!(found(ask, &paths.map(|path| (path, ""))), [""; 0]);
        assert_ne!(folded(b"\xff"), folded(b"\xfe"));
        assert_eq!(folded(b"A\xff"), folded(b"a\xff"));
    }
}
