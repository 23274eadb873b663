//! The migrations of a tree: the files that Laravel takes for migrations, and their parts. Pure.

use super::php::{Token, closing};
use super::tree::{OwnFile, Tree};

/// Folder of the migrations and of folders with more of them.
pub(crate) const FOLDER: &[u8] = b"database/migrations/";

/// Laravel looks for `*_*.php`; anything else there is no migration.
pub(crate) fn migrations(tree: &Tree) -> impl Iterator<Item = &OwnFile> {
    tree.own_php()
        .filter(|file| file.path.starts_with(FOLDER) && name(file).contains(&b'_'))
}

/// Name of the file without its folder.
pub(crate) fn name(file: &OwnFile) -> &[u8] {
    let cut = file.path.iter().rposition(|&byte| byte == b'/');
    &file.path[cut.map_or(0, |at| at + 1)..]
}

/// Each class that is declared with a name.
pub(crate) fn classes<'t, 'a>(words: &'t [Token<'a>]) -> impl Iterator<Item = Token<'a>> + 't {
    words.windows(2).enumerate().filter_map(|(at, pair)| {
        let (keyword, name) = (pair[0], pair[1]);
        let before = at.checked_sub(1).map(|before| &words[before]);
        // `X::class`, `new class extends Y`
        let other = before.is_some_and(|before| before.is_access() || before.is_name("new"));
        let declared = keyword.is_name("class")
            && name.kind == super::php::Kind::Name
            && !other
            && !name.is_name("extends")
            && !name.is_name("implements");
        declared.then_some(name)
    })
}

/// The words between the braces of each method of this name.
pub(crate) fn bodies<'t, 'a>(words: &'t [Token<'a>], method: &str) -> Vec<&'t [Token<'a>]> {
    let mut bodies = Vec::new();
    for (at, pair) in words.windows(2).enumerate() {
        if !pair[0].is_name("function") || !pair[1].is_name(method) {
            continue;
        }
        let parameters = closing(words, at + 2);
        let open = words[parameters..]
            .iter()
            .position(|word| word.is_sign("{"));
        if let Some(open) = open.map(|open| parameters + open) {
            bodies.push(&words[open..closing(words, open)]);
        }
    }
    bodies
}

#[cfg(test)]
mod tests {
    use super::super::php::tokens;
    use super::*;

    #[test]
    fn named_classes_are_told_from_others() {
        let source = b"<?php class\nC {} $a = X::class; new class extends M {}; final class A extends M {} return new readonly class extends B {};";
        let words = tokens(source);
        let names: Vec<&[u8]> = classes(&words).map(|word| word.text).collect();
        let expected: [&[u8]; 2] = [b"C", b"A"];
        assert_eq!(names, expected);
    }

    #[test]
    fn body_of_a_method_ends_with_its_brace() {
        let source = b"<?php class A { function up(array $a = ['{']): void { if (1) { b(); } } function down() { c(); } function up(";
        let words = tokens(source);
        let found = bodies(&words, "up");
        assert_eq!(found.len(), 1);
        assert!(found[0].iter().any(|word| word.is_name("b")));
        assert!(!found[0].iter().any(|word| word.is_name("c")));
    }
}
