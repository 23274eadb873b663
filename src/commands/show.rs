//! `relstore show`: one release.

use std::fmt::Write as _;

use relstore_store::id::ReleaseId;
use relstore_store::manifest::{Kind, Manifest};
use serde_json::{Value, json};

use crate::config::Config;
use crate::context::Context;
use crate::error::Result;
use crate::exit_code::ExitCode;
use crate::git;
use crate::output::{bytes, counted, printable};
use crate::release_name::short_commit;
use crate::said::Said;
use crate::stored::{block_on, open, resolve};
use crate::time::local_minute;

/// Show one release: content, commit, gates, how it was built
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  relstore show latest
  relstore show env:prod")]
pub(crate) struct Args {
    /// The release
    pub(crate) release: String,
}

/// Runs the command.
pub(crate) fn run(context: &Context, args: &Args) -> Result<ExitCode> {
    block_on(async {
        let (config, store) = open(context).await?;
        let release = resolve(context, config.as_ref(), &store, &args.release).await?;
        let manifest = store.manifest(&release).await?;
        let records = store.records(&release).await?;
        let said = Said::of(&records);
        let ids: Vec<_> = records.iter().map(|record| record.id).collect();
        let text = text(config.as_ref(), release, &manifest, &said, ids.len());
        context.output.result(&text, || {
            let mut object = document(release, &manifest, &said);
            object["records"] = json!(ids);
            object
        })?;
        Ok(ExitCode::Ok)
    })
}

fn text(
    config: Option<&Config>,
    release: ReleaseId,
    manifest: &Manifest,
    said: &Said,
    records: usize,
) -> String {
    let mut text = format!("release   {release}\n");
    let mut line = |label: &str, value: String| {
        let _ = writeln!(text, "{label:9} {value}");
    };
    line(
        "content",
        format!(
            "{}, {}",
            counted(manifest.file_count() as u64, "file"),
            bytes(manifest.content_bytes())
        ),
    );
    for build in &said.builds {
        let mut value = build
            .finished
            .as_deref()
            .map(local_minute)
            .unwrap_or_else(|| "?".to_owned());
        match &build.commit {
            Some(commit) => {
                let _ = write!(value, "  commit {}", short_commit(commit));
                if let Some(subject) =
                    config.and_then(|config| git::subject(config.project(), commit))
                {
                    let _ = write!(value, " \"{}\"", printable(&subject));
                }
                if build.dirty {
                    value.push_str(" with changes");
                }
            }
            None if build.dirty => value.push_str("  from the work tree"),
            None => {}
        }
        line("built", value);
    }
    if !said.gates_passed.is_empty() {
        line(
            "gates",
            format!(
                "{} passed: {}",
                said.gates_passed.len(),
                said.gates_passed.join(", ")
            ),
        );
    }
    if !said.gates_off.is_empty() {
        line("off", said.gates_off.join(", "));
    }
    for (label, paths) in [
        ("shared", shared(manifest)),
        ("writable", writable(manifest)),
    ] {
        if !paths.is_empty() {
            line(label, paths.join(", "));
        }
    }
    line("records", records.to_string());
    text
}

fn shared(manifest: &Manifest) -> Vec<String> {
    paths(manifest, |kind| {
        matches!(kind, Kind::SharedFile | Kind::SharedDir)
    })
}

fn writable(manifest: &Manifest) -> Vec<String> {
    paths(manifest, |kind| matches!(kind, Kind::WritableDir))
}

fn paths(manifest: &Manifest, wanted: impl Fn(&Kind) -> bool) -> Vec<String> {
    manifest
        .entries()
        .iter()
        .filter(|entry| wanted(&entry.kind))
        .map(|entry| entry.path.to_string())
        .collect()
}

fn document(release: ReleaseId, manifest: &Manifest, said: &Said) -> Value {
    let mut object = said.to_json();
    object["release"] = json!(release);
    object["files"] = json!(manifest.file_count());
    object["bytes"] = json!(manifest.content_bytes());
    object["shared"] = json!(shared(manifest));
    object["writable"] = json!(writable(manifest));
    object
}
