//! Calls of `env()` outside folders named `config`: Laravel reads no `.env` once the configuration is
//! cached, so they give null on every host. Pure.

use rayon::prelude::*;

use super::answer::{Answer, Finding};
use super::php::{Token, code, tokens};
use super::tree::{OwnFile, Tree, line_at};

const WHAT: &str = "calls env()";
/// Where Blade echoes: its comments are no code, the other two are.
const ECHOES: [(&[u8], &[u8]); 3] = [(b"{{--", b"--}}"), (b"{{", b"}}"), (b"{!!", b"!!}")];

/// Looks through the application's PHP and Blade files.
pub(crate) fn ask(tree: &Tree) -> Answer {
    let files: Vec<&OwnFile> = tree.own_ending(".php").collect();
    let found = files.into_par_iter().filter(|file| !is_config(&file.path));
    Answer::of(found.flat_map_iter(in_file).collect())
}

/// Packages inside the application have folders of that name too, also `Config`.
fn is_config(path: &[u8]) -> bool {
    let mut names = path.split(|&byte| byte == b'/');
    names.any(|name| name.eq_ignore_ascii_case(b"config"))
}

fn in_file(file: &OwnFile) -> Vec<Finding> {
    let mut lines: Vec<usize> = calls(&tokens(&file.bytes)).collect();
    if file.path.ends_with(b".blade.php") {
        for (line, echo) in echoes(&file.bytes) {
            lines.extend(calls(&code(echo, line)));
        }
    }
    lines.sort_unstable();
    lines.dedup();
    let finding = |line| Finding::on_line(&file.path, line, WHAT);
    lines.into_iter().map(finding).collect()
}

/// The lines of the calls.
fn calls<'t>(words: &'t [Token<'_>]) -> impl Iterator<Item = usize> + 't {
    words.windows(2).enumerate().filter_map(|(at, pair)| {
        let named = pair[0].is_name("env") || pair[0].is_name("\\env");
        let before = at.checked_sub(1).map(|before| &words[before]);
        // A method, or the declaration of one.
        let other = before.is_some_and(|before| {
            before.is_access() || before.is_name("function") || before.is_name("new")
        });
        (named && pair[1].is_sign("(") && !other).then_some(pair[0].line)
    })
}

/// The code that a Blade template echoes, with the line in which each piece begins.
fn echoes(source: &[u8]) -> Vec<(usize, &[u8])> {
    let mut pieces = Vec::new();
    let mut at = 0;
    while at < source.len() {
        let rest = &source[at..];
        let Some((open, close)) = ECHOES.iter().find(|(open, _)| rest.starts_with(open)) else {
            at += 1;
            continue;
        };
        let inner = &rest[open.len()..];
        let end = inner.windows(close.len()).position(|part| part == *close);
        let inner = &inner[..end.unwrap_or(inner.len())];
        if *open != ECHOES[0].0 {
            pieces.push((line_at(source, at), inner));
        }
        at += open.len() + inner.len();
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::super::tree::testing::found;
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn calls_are_found_with_their_line() {
        let files = [
            (
                "app/a.php",
                "<?php\n$a = env('A');\n\\ENV ( 'B' ) . env('C');",
            ),
            (
                "resources/views/b.blade.php",
                "<b>\n{{ env('A')\n }} {!! x(env('B')) !!} <?= env('C') ?>",
            ),
            ("routes/web.php", "<p>env('html')</p>\n<?= env('A')"),
        ];
        assert_eq!(
            found(ask, &files),
            [
                "`app/a.php:2` calls env()",
                "`app/a.php:3` calls env()",
                "`resources/views/b.blade.php:2` calls env()",
                "`resources/views/b.blade.php:3` calls env()",
                "`routes/web.php:2` calls env()",
            ]
        );
    }

    #[test]
    fn configuration_comments_texts_and_methods_are_no_calls() {
        let files = [
            ("config/app.php", "<?php return ['a' => env('A')];"),
            (
                "Modules/Blog/Config/config.php",
                "<?php return ['a' => env('A')];",
            ),
            (
                "app/a.php",
                "<?php // env('A')\n# env('A')\n/* env('A') */ $a = \"env('A')\"; $b = 'env()';",
            ),
            (
                "app/b.php",
                "<?php $a->env('A'); A::env('A'); function env() {} Env::get('A'); getenv('A'); $env('A'); env;",
            ),
            (
                "resources/views/c.blade.php",
                "{{-- {{ env('A') }} --}} env('B') {{ $env }}",
            ),
            ("resources/js/a.js", "env('A')"),
            ("vendor/a/b.php", "<?php env('A');"),
        ];
        assert_eq!(found(ask, &files), [""; 0]);
    }

    proptest! {
        #[test]
        fn any_template_is_read_without_panic(text in "(\\{\\{|\\}\\}|--|!!|\\{!!|env\\(|<\\?=|[a'\n ]){0,30}") {
            in_file(&OwnFile { path: b"a.blade.php".to_vec(), bytes: text.into_bytes() });
        }
    }
}
