//! Migrations that take something away from the release that still serves while they run, and from
//! the one a rollback returns to: tables and columns that are dropped, renamed or retyped. Pure.
//!
//! Only the `up` methods count. What they call elsewhere, and SQL that is put together, is not seen.

use std::sync::LazyLock;

use regex::bytes::{Regex, RegexBuilder};
use relstore_store::name::escape;

use super::answer::{Answer, Finding};
use super::migrations::{bodies, migrations, name};
use super::php::{Kind, Token, closing, tokens};
use super::tree::{OwnFile, Tree};

/// Methods of the schema builder and of its tables.
const METHODS: [(&str, &str); 21] = [
    ("drop", "drops a table"),
    ("dropAllTables", "drops all tables"),
    ("dropAllTypes", "drops all types"),
    ("dropAllViews", "drops all views"),
    ("dropDatabaseIfExists", "drops a database"),
    ("dropIfExists", "drops a table"),
    ("dropColumn", "drops a column"),
    ("dropColumns", "drops columns"),
    ("dropConstrainedForeignId", "drops a column"),
    ("dropConstrainedForeignIdFor", "drops a column"),
    ("dropDatetimes", "drops columns"),
    ("dropMorphs", "drops columns"),
    ("dropRememberToken", "drops a column"),
    ("dropSoftDeletes", "drops a column"),
    ("dropSoftDeletesDatetime", "drops a column"),
    ("dropSoftDeletesTz", "drops a column"),
    ("dropTimestamps", "drops columns"),
    ("dropTimestampsTz", "drops columns"),
    ("rename", "renames a table"),
    ("renameColumn", "renames a column"),
    ("change", "changes the type of a column"),
];

/// Statements in a text, from its beginning.
static SQL: LazyLock<Regex> = LazyLock::new(|| {
    RegexBuilder::new(
        r"^\s*(?:drop\s+(?:table|view|database|schema)\b|truncate\b|rename\s+table\b|alter\s+table\b.*?\b(drop\s+[`\x22\[]?(\w+)|rename\b|modify\b|change\b|alter\s+column\b.*?\btype\b))",
    )
    .case_insensitive(true)
    .dot_matches_new_line(true)
    .unicode(false)
    .build()
    .expect("the pattern is valid")
});
/// What `ALTER TABLE ... DROP` may be followed by without taking data away.
const KEPT: [&str; 8] = [
    "check",
    "constraint",
    "default",
    "foreign",
    "index",
    "key",
    "primary",
    "unique",
];

/// Reads all migrations; the newest is named first, for old ones have run long ago.
pub(crate) fn ask(tree: &Tree) -> Answer {
    let mut files: Vec<&OwnFile> = migrations(tree).collect();
    files.sort_by(|a, b| name(b).cmp(name(a)));
    let findings = files.into_iter().flat_map(in_file);
    Answer::of(findings.collect())
}

fn in_file(file: &OwnFile) -> Vec<Finding> {
    let words = tokens(&file.bytes);
    let mut findings = Vec::new();
    for body in bodies(&words, "up") {
        for at in 0..body.len() {
            let what = method(body, at).or_else(|| statement(&body[at]));
            let line = body[at].line;
            findings.extend(what.map(|what| Finding::on_line(&file.path, line, what)));
        }
    }
    findings
}

/// What a call at this place takes away.
fn method(body: &[Token<'_>], at: usize) -> Option<String> {
    let [.., object, access] = body.get(..at)? else {
        return None;
    };
    let (_, what) = METHODS.iter().find(|(name, _)| body[at].is_name(name))?;
    let open = body.get(at + 1).filter(|word| word.is_sign("("));
    // A static call is one of the facade; others of these names belong to files and storage.
    let schema = !access.is_sign("::") || object.text.ends_with(b"Schema");
    if open.is_none() || !access.is_access() || !schema {
        return None;
    }
    let arguments = &body[at + 2..closing(body, at + 1).max(at + 2)];
    let texts = arguments.iter().filter(|word| word.kind == Kind::Text);
    let texts: Vec<String> = texts
        .map(|word| format!("`{}`", escape(word.text)))
        .collect();
    Some(match texts.is_empty() {
        true => (*what).to_owned(),
        false => format!("{what}: {}", texts.join(", ")),
    })
}

/// What SQL in a text takes away.
fn statement(word: &Token<'_>) -> Option<String> {
    if word.kind != Kind::Text {
        return None;
    }
    let hit = SQL.captures(word.text)?;
    let dropped = hit.get(2).map(|name| name.as_bytes().to_ascii_lowercase());
    let harmless = |name: &Vec<u8>| KEPT.iter().any(|kept| kept.as_bytes() == name.as_slice());
    if dropped.as_ref().is_some_and(harmless) {
        return None;
    }
    Some("runs SQL that drops, renames or changes a table or column".to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::tree::testing::found;
    use super::*;

    fn up(code: &str) -> Vec<String> {
        let file = "database/migrations/2024_01_31_120000_x.php";
        let source = format!(
            "<?php\nreturn new class extends Migration {{\n public function up(): void {{\n{code}\n }}\n\
             public function down(): void {{ Schema::drop('d'); }}\n}};"
        );
        let found = found(ask, &[(file, &source)]);
        let rest = |line: &String| line.replace(&format!("`{file}:"), "").replacen('`', "", 1);
        found.iter().map(rest).collect()
    }

    #[test]
    fn what_up_drops_renames_or_retypes_is_named_with_its_line() {
        for (code, what) in [
            ("Schema::dropIfExists('notes');", "4 drops a table: `notes`"),
            (
                "\\Illuminate\\Support\\Facades\\Schema::drop('notes');",
                "4 drops a table: `notes`",
            ),
            (
                "Schema::connection('x')->rename('a', 'b');",
                "4 renames a table: `a`, `b`",
            ),
            (
                "Schema::table('n', function ($t) {\n $t->dropColumn(['a', 'b']); });",
                "5 drops a column: `a`, `b`",
            ),
            (
                "$t->string('a')->nullable()\n->change();",
                "5 changes the type of a column",
            ),
            (
                "$t->renameColumn('a', 'b');",
                "4 renames a column: `a`, `b`",
            ),
            ("$t?->dropSoftDeletes();", "4 drops a column"),
            (
                "DB::statement('ALTER TABLE a\n DROP COLUMN b');",
                "4 runs SQL that drops, renames or changes a table or column",
            ),
            (
                "DB::statement(\"alter table a drop `b`\");",
                "4 runs SQL that drops, renames or changes a table or column",
            ),
            (
                "DB::unprepared(<<<SQL\n DROP TABLE a;\nSQL);",
                "4 runs SQL that drops, renames or changes a table or column",
            ),
            (
                "DB::statement('alter table a modify b int');",
                "4 runs SQL that drops, renames or changes a table or column",
            ),
        ] {
            assert_eq!(up(code), [what], "{code}");
        }
    }

    #[test]
    fn down_additions_indexes_and_other_objects_take_nothing_away() {
        for code in [
            "Schema::create('a', function ($t) { $t->id(); $t->string('drop'); });",
            "$t->dropIndex('a'); $t->dropForeign(['a']); $t->dropUnique('u');",
            "File::rename('a', 'b'); Storage::drop('x');",
            "// Schema::drop('a');",
            "$this->drop; $x = 'please drop table a';",
            "DB::statement('ALTER TABLE a DROP INDEX b'); DB::statement('alter table a add b int');",
            "DB::statement('create index changes on a (b)');",
        ] {
            assert_eq!(up(code), [""; 0], "{code}");
        }
    }

    #[test]
    fn newest_migration_is_named_first() {
        let source = "<?php return new class { function up() { Schema::drop('a'); } };";
        let files = [
            ("database/migrations/2020_01_01_000000_a.php", source),
            ("database/migrations/b/2024_01_01_000000_b.php", source),
            ("database/migrations/2022_01_01_000000_c.php", source),
        ];
        let found = found(ask, &files);
        assert!(
            found[0].contains("2024") && found[2].contains("2020"),
            "{found:?}"
        );
    }
}
