//! `relstore diff`: what differs between two releases.

use std::fmt::Write as _;
use std::time::Duration;

use relstore_store::Store;
use relstore_store::diff::{Change, Summary, describe, diff, summary};
use relstore_store::id::ReleaseId;
use relstore_store::manifest::Entry;
use serde_json::{Value, json};
use similar::TextDiff;

use super::manifest::entry_json;
use crate::context::Context;
use crate::error::Result;
use crate::exit_code::ExitCode;
use crate::output::{bytes, count, counted, table};
use crate::stored::{block_on, open, resolve};

/// Larger files are not compared line by line, in bytes.
const LARGEST_TEXT: u64 = 1 << 20;
/// After this long the line comparison of one file becomes approximate.
const PATIENCE: Duration = Duration::from_secs(2);

/// Compare two releases: added, removed, changed and renamed files
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  relstore diff env:prod HEAD
  relstore diff 9be07711 4f1c9a02 --patch")]
pub(crate) struct Args {
    /// The release to start from
    #[arg(value_name = "A")]
    pub(crate) from: String,
    /// The release to arrive at
    #[arg(value_name = "B")]
    pub(crate) to: String,
    /// Only count
    #[arg(long, group = "form")]
    pub(crate) stat: bool,
    /// Only the paths
    #[arg(long, group = "form")]
    pub(crate) name_only: bool,
    /// The changed lines of text files too
    #[arg(long, short = 'p', group = "form")]
    pub(crate) patch: bool,
}

/// Runs the command.
pub(crate) fn run(context: &Context, args: &Args) -> Result<ExitCode> {
    block_on(async {
        let (config, store) = open(context).await?;
        let from = resolve(context, config.as_ref(), &store, &args.from).await?;
        let to = resolve(context, config.as_ref(), &store, &args.to).await?;
        let (old, new) = (store.manifest(&from).await?, store.manifest(&to).await?);
        let changes = diff(&old, &new);
        let sum = summary(&old, &new, &changes);
        let mut patches = Vec::new();
        if args.patch {
            for change in &changes {
                patches.push(patch(&store, change).await?);
            }
        }
        let text = if args.stat {
            stat(&sum)
        } else if args.name_only {
            changes
                .iter()
                .map(|change| format!("{}\n", change.path()))
                .collect()
        } else if args.patch {
            patches.concat()
        } else {
            listing(from, to, &changes, &sum)
        };
        context
            .output
            .result(&text, || document(from, to, &changes, &sum, &patches))?;
        Ok(ExitCode::Ok)
    })
}

fn listing(from: ReleaseId, to: ReleaseId, changes: &[Change], sum: &Summary) -> String {
    if changes.is_empty() {
        return if from == to {
            format!("{} and {} are the same release\n", from.short(), to.short())
        } else {
            format!("{} and {} hold the same files\n", from.short(), to.short())
        };
    }
    let rows: Vec<Vec<String>> = changes.iter().map(row).collect();
    format!("{}{}", table(&rows), stat(sum))
}

/// Verb, path, and what happened to it.
fn row(change: &Change) -> Vec<String> {
    let what = |entry: &Entry| match entry.kind.content() {
        Some((_, size)) => bytes(size),
        None => describe(&entry.kind),
    };
    let detail = match change {
        Change::Added(entry) | Change::Removed(entry) => what(entry),
        Change::Renamed { from, .. } => format!("from {}", from.path),
        Change::Changed { from, to } => format!("{} -> {}", what(from), what(to)),
        Change::Mode { to, .. } if to.kind.is_executable() => "now executable".to_owned(),
        Change::Mode { .. } => "no longer executable".to_owned(),
    };
    vec![change.verb().to_owned(), change.path().to_string(), detail]
}

fn stat(sum: &Summary) -> String {
    let total = sum.added + sum.removed + sum.changed + sum.renamed + sum.mode;
    let kinds = [
        (sum.added, "added"),
        (sum.removed, "removed"),
        (sum.changed, "changed"),
        (sum.renamed, "renamed"),
        (sum.mode, "with another mode"),
    ];
    let parts: Vec<String> = kinds
        .iter()
        .filter(|(number, _)| *number > 0)
        .map(|(number, word)| format!("{} {word}", count(*number)))
        .collect();
    let colon = if parts.is_empty() { "" } else { ": " };
    format!(
        "{}{colon}{}; {} -> {}\n",
        counted(total, "difference"),
        parts.join(", "),
        bytes(sum.old_bytes),
        bytes(sum.new_bytes)
    )
}

fn document(
    from: ReleaseId,
    to: ReleaseId,
    changes: &[Change],
    sum: &Summary,
    patches: &[String],
) -> Value {
    let list: Vec<Value> = changes
        .iter()
        .enumerate()
        .map(|(index, change)| {
            let (before, after) = change.sides();
            let mut object = json!({
                "change": change.verb(),
                "path": change.path().to_string(),
                "from": before.map(entry_json),
                "to": after.map(entry_json),
            });
            if let Some(patch) = patches.get(index) {
                object["patch"] = json!(patch);
            }
            object
        })
        .collect();
    json!({ "from": from, "to": to, "summary": sum, "changes": list })
}

/// The change as a unified diff, in the form that `patch -p1` and `git apply` read.
async fn patch(store: &Store, change: &Change) -> Result<String> {
    let (before, after) = change.sides();
    let mut out = String::new();
    let (a, b) = (before.or(after), after.or(before));
    if let (Some(a), Some(b)) = (a, b) {
        let _ = writeln!(out, "diff --git a/{} b/{}", a.path, b.path);
    }
    match change {
        Change::Renamed { from, to } => {
            let _ = writeln!(
                out,
                "similarity index 100%\nrename from {}\nrename to {}",
                from.path, to.path
            );
            return Ok(out);
        }
        Change::Mode { from, to } => {
            let _ = writeln!(out, "old mode {}\nnew mode {}", mode(from), mode(to));
            return Ok(out);
        }
        Change::Added(entry) => {
            let _ = writeln!(out, "new file mode {}", mode(entry));
        }
        Change::Removed(entry) => {
            let _ = writeln!(out, "deleted file mode {}", mode(entry));
        }
        Change::Changed { .. } => {}
    }
    let (old, new) = (text(store, before).await?, text(store, after).await?);
    let name = |side: &str, entry: Option<&Entry>| {
        entry.map_or("/dev/null".to_owned(), |entry| {
            format!("{side}/{}", entry.path)
        })
    };
    let (old_name, new_name) = (name("a", before), name("b", after));
    match (old, new) {
        (Some(old), Some(new)) => {
            let lines = TextDiff::configure()
                .timeout(PATIENCE)
                .diff_lines(&old, &new);
            out.push_str(
                &lines
                    .unified_diff()
                    .context_radius(3)
                    .header(&old_name, &new_name)
                    .to_string(),
            );
        }
        _ => {
            let what = |entry: Option<&Entry>| {
                entry.map_or("nothing".to_owned(), |entry| describe(&entry.kind))
            };
            let _ = writeln!(
                out,
                "Binary or large: {} ({}) and {} ({}) differ",
                old_name,
                what(before),
                new_name,
                what(after)
            );
        }
    }
    Ok(out)
}

fn mode(entry: &Entry) -> &'static str {
    match (entry.kind.content(), entry.kind.is_executable()) {
        (_, true) => "100755",
        (Some(_), false) => "100644",
        (None, false) => "120000",
    }
}

/// The content of one side as text: empty when there is none, `None` when it is no (small) text.
async fn text(store: &Store, entry: Option<&Entry>) -> Result<Option<String>> {
    let Some(entry) = entry else {
        return Ok(Some(String::new()));
    };
    match entry.kind.content() {
        Some((blob, size)) if size <= LARGEST_TEXT => {
            let content = store.read_blob(&blob).await?;
            Ok(String::from_utf8(content.to_vec())
                .ok()
                .filter(|text| !text.contains('\0')))
        }
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_zero_are_left_out() {
        let sum = Summary {
            changed: 2,
            added: 1,
            old_bytes: 10,
            new_bytes: 2000,
            ..Summary::default()
        };
        assert_eq!(
            stat(&sum),
            "3 differences: 1 added, 2 changed; 10 B -> 2.0 kB\n"
        );
        assert_eq!(stat(&Summary::default()), "0 differences; 0 B -> 0 B\n");
    }
}
