//! Variables that scripts have baked in: Vite and Mix put the value into what browsers get, so one
//! that is not declared would come from nowhere, or from a machine.

use std::collections::BTreeMap;
use std::path::Path;

use crate::error::{BuildError, IoContext};
use crate::exclude::shown;
use crate::source_tree::{Content, SourceTree};
use crate::step::{Step, below};

/// A place where a variable is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VariableUse {
    /// The variable.
    pub name: String,
    /// File from the application's folder, escaped.
    pub path: String,
    /// Line, from 1.
    pub line: usize,
}

/// Endings of files that Vite and Mix compile.
const ENDINGS: [&str; 12] = [
    ".astro", ".cjs", ".css", ".html", ".js", ".jsx", ".mjs", ".mts", ".svelte", ".ts", ".tsx",
    ".vue",
];
/// What stands before a name: `import.meta.env.VITE_A`, `process.env.MIX_A`, `env.VITE_A` of a
/// configuration, `%VITE_A%` of HTML.
const MARKS: [&str; 2] = ["env.", "%"];

/// Fails when scripts of the application use variables of a prefix that a step does not have.
pub(crate) fn check(source: &SourceTree, step: &Step) -> Result<(), BuildError> {
    let prefix = match step.name.as_str() {
        "vite" => "VITE_",
        "mix" => "MIX_",
        _ => return Ok(()),
    };
    let mut uses: BTreeMap<String, VariableUse> = BTreeMap::new();
    for entry in source.select(step)? {
        let Some(inner) = below(&entry.path, source.root.as_bytes()) else {
            continue;
        };
        let path = String::from_utf8_lossy(inner);
        let compiled = ENDINGS.iter().any(|ending| path.ends_with(ending));
        let own = path.starts_with("resources/") || !path.contains('/');
        if !matches!(entry.content, Content::File { .. }) || !compiled || !own {
            continue;
        }
        let place = source.application().join(Path::new(path.as_ref()));
        let text = std::fs::read(&place).at("read", &place)?;
        for (name, line) in names(&String::from_utf8_lossy(&text), prefix) {
            if !step.env.contains_key(&name) {
                let path = shown(inner);
                uses.entry(name.clone())
                    .or_insert(VariableUse { name, path, line });
            }
        }
    }
    if uses.is_empty() {
        return Ok(());
    }
    Err(BuildError::Undeclared {
        uses: uses.into_values().collect(),
    })
}

/// Names with a prefix behind one of the marks, and their lines. Comments count: a name there that
/// nobody needs is quickly removed, one that is missed is not noticed.
fn names(text: &str, prefix: &str) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        for (at, _) in line.match_indices(prefix) {
            if !MARKS.iter().any(|mark| line[..at].ends_with(mark)) {
                continue;
            }
            let rest = &line[at..];
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            let name = &rest[..end.unwrap_or(rest.len())];
            if name.len() > prefix.len() {
                found.push((name.to_owned(), number + 1));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_behind_their_marks_alone() {
        let text = "const VITE_OTHER = 1\nlet a = import.meta.env.VITE_APP_NAME || 'x', b = process.env.VITE_B2;\n<title>%VITE_TITLE%</title> env.VITE_\n";
        let found = names(text, "VITE_");
        let found: Vec<_> = found
            .iter()
            .map(|(name, line)| (name.as_str(), *line))
            .collect();
        assert_eq!(
            found,
            [("VITE_APP_NAME", 2), ("VITE_B2", 2), ("VITE_TITLE", 3)]
        );
        assert!(names(text, "MIX_").is_empty());
    }
}
