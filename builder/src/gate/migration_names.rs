//! Names of migrations: Laravel keeps the ones that ran by file name without folder, sorts by it,
//! and finds a named class in it. Pure.

use std::collections::HashMap;

use relstore_store::name::escape;

use super::answer::{Answer, Finding, counted};
use super::migrations::{classes, migrations, name};
use super::php::tokens;
use super::tree::Tree;

/// Digits of the parts in front of a name: year, month, day, time. The last part may be longer.
const PREFIX: [usize; 4] = [4, 2, 2, 6];

/// Compares names and classes of all migrations.
pub(crate) fn ask(tree: &Tree) -> Answer {
    let mut names: HashMap<&[u8], &[u8]> = HashMap::new();
    let mut known: HashMap<Vec<u8>, &[u8]> = HashMap::new();
    let mut findings = Vec::new();
    let mut count = 0;
    for file in migrations(tree) {
        count += 1;
        let name = name(file);
        if !has_prefix(name) {
            let what = "does not begin with a time like `2026_01_31_120000_`";
            findings.push(Finding::at(&file.path, what));
        }
        if let Some(other) = names.insert(name, &file.path) {
            let what = format!(
                "has the name of `{}`, so only one of them ever runs",
                escape(other)
            );
            findings.push(Finding::at(&file.path, what));
        }
        for class in classes(&tokens(&file.bytes)) {
            if let Some(other) = known.insert(class.text.to_ascii_lowercase(), &file.path) {
                let class_name = escape(class.text);
                let what = format!("declares `{class_name}`, as `{}` does", escape(other));
                findings.push(Finding::on_line(&file.path, class.line, what));
            }
        }
    }
    Answer::of(findings).note(counted(count, "migration"))
}

fn has_prefix(name: &[u8]) -> bool {
    let mut parts = name.split(|&byte| byte == b'_');
    let digits = |part: &[u8]| part.iter().all(u8::is_ascii_digit);
    let fits = PREFIX.iter().enumerate().all(|(index, &length)| {
        let part = parts.next().unwrap_or_default();
        let long_enough = match index {
            3 => !part.is_empty(),
            _ => part.len() == length,
        };
        long_enough && digits(part)
    });
    fits && parts.next().is_some_and(|rest| rest != b".php")
}

#[cfg(test)]
mod tests {
    use super::super::tree::testing::found;
    use super::*;

    const ANONYMOUS: &str = "<?php return new class extends Migration {};";

    #[test]
    fn names_as_artisan_makes_them_pass() {
        let files = [
            (
                "database/migrations/0001_01_01_000000_create_users_table.php",
                ANONYMOUS,
            ),
            (
                "database/migrations/2024_01_31_120000_create_a.php",
                "<?php class CreateA extends Migration {}",
            ),
            (
                "database/migrations/tenant/2024_01_31_120000_create_b.php",
                "<?php class CreateB extends Migration {}",
            ),
            ("database/migrations/Helper.php", "<?php class CreateA {}"),
            ("database/seeders/x_y.php", "<?php class CreateA {}"),
        ];
        assert_eq!(found(ask, &files), [""; 0]);
    }

    #[test]
    fn wrong_prefixes_and_everything_twice_are_named() {
        let files = [
            (
                "database/migrations/2024_01_31_120000_a.php",
                "<?php class A {}",
            ),
            (
                "database/migrations/2024_01_31_120001_b.php",
                "<?php\nclass a {}",
            ),
            ("database/migrations/2024_1_31_120000_c.php", ANONYMOUS),
            ("database/migrations/create_d.php", ANONYMOUS),
            ("database/migrations/z/2024_01_31_120000_a.php", ANONYMOUS),
        ];
        let folder = "database/migrations";
        assert_eq!(
            found(ask, &files),
            [
                format!(
                    "`{folder}/2024_01_31_120001_b.php:2` declares `a`, as `{folder}/2024_01_31_120000_a.php` does"
                ),
                format!(
                    "`{folder}/2024_1_31_120000_c.php` does not begin with a time like `2026_01_31_120000_`"
                ),
                format!(
                    "`{folder}/create_d.php` does not begin with a time like `2026_01_31_120000_`"
                ),
                format!(
                    "`{folder}/z/2024_01_31_120000_a.php` has the name of `{folder}/2024_01_31_120000_a.php`, so only one of them ever runs"
                ),
            ]
        );
    }
}
