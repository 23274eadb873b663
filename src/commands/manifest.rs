//! `relstore manifest`: every file of a release with its hash, in forms that other tools check.

use std::collections::HashMap;

use relstore_store::Store;
use relstore_store::id::{BlobId, ReleaseId};
use relstore_store::manifest::{Entry, Kind, Manifest};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::context::Context;
use crate::error::{CommandError, Result};
use crate::exit_code::ExitCode;
use crate::stored::{block_on, open, resolve};

/// Print the manifest of a release: every file with its hash
///
/// `text` is the manifest itself, whose b3sum is the release's hash. `sha256sum` and `b3sum` can be
/// checked on a server without relstore.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  relstore manifest latest | b3sum
  relstore manifest env:prod --format sha256sum > release.sum
  (cd /var/www/app/current && sha256sum --quiet -c) < release.sum")]
pub(crate) struct Args {
    /// The release
    pub(crate) release: String,
    /// How to print it [default: text, with --json json]
    #[arg(long, value_enum)]
    pub(crate) format: Option<Format>,
}

/// The forms of a manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// The canonical text
    Text,
    /// One JSON document
    Json,
    /// Lines for `sha256sum -c`
    Sha256sum,
    /// Lines for `b3sum -c`
    B3sum,
}

/// Runs the command.
pub(crate) fn run(context: &Context, args: &Args) -> Result<ExitCode> {
    let json = context.output.json;
    let format = args
        .format
        .unwrap_or(if json { Format::Json } else { Format::Text });
    if json && format != Format::Json {
        return Err(CommandError::new(
            ExitCode::Usage,
            "--json and this --format exclude each other",
        ));
    }
    block_on(async {
        let (config, store) = open(context).await?;
        let release = resolve(context, config.as_ref(), &store, &args.release).await?;
        match format {
            Format::Text => {
                let text = store.manifest_text(&release).await?;
                context.output.raw(&String::from_utf8_lossy(&text))?;
            }
            Format::Json => {
                let manifest = store.manifest(&release).await?;
                context.output.json(document(release, &manifest))?;
            }
            Format::Sha256sum | Format::B3sum => {
                let manifest = store.manifest(&release).await?;
                let sums = sums(&store, &manifest, format).await?;
                context.output.raw(&sums)?;
                context.output.note(&format!(
                    "note: in the release's folder this shows the files that were added:\n  {}",
                    find_line(&manifest)
                ));
            }
        }
        Ok(ExitCode::Ok)
    })
}

/// The manifest as one object.
fn document(release: ReleaseId, manifest: &Manifest) -> Value {
    let entries: Vec<Value> = manifest.entries().iter().map(entry_json).collect();
    json!({
        "release": release,
        "files": manifest.file_count(),
        "bytes": manifest.content_bytes(),
        "entries": entries,
    })
}

/// One entry: `path`, `kind` (the letter of the manifest), and `size` and `blob`, or `target`.
pub(crate) fn entry_json(entry: &Entry) -> Value {
    let mut object =
        json!({ "path": entry.path.to_string(), "kind": entry.kind.letter().to_string() });
    if let Some((blob, size)) = entry.kind.content() {
        object["size"] = json!(size);
        object["blob"] = json!(blob);
    }
    if let Kind::Link { target } = &entry.kind {
        object["target"] = json!(target.to_string());
    }
    object
}

/// Lines for `sha256sum -c` or `b3sum -c`, run in the release's folder. What a host may change (the
/// initial content of shared folders) is left out.
async fn sums(store: &Store, manifest: &Manifest, format: Format) -> Result<String> {
    let (entries, _) = manifest.split_initial();
    let files: Vec<(&Entry, BlobId)> = entries
        .iter()
        .filter_map(|entry| Some((*entry, entry.kind.content()?.0)))
        .collect();
    let mut digests: HashMap<BlobId, String> = HashMap::new();
    if format == Format::Sha256sum {
        let mut wanted: Vec<BlobId> = files.iter().map(|(_, blob)| *blob).collect();
        wanted.sort();
        wanted.dedup();
        let mut contents = store.read_blobs(&wanted).await?;
        while let Some(content) = contents.recv().await {
            let (blob, bytes) = content?;
            let digest = Sha256::digest(&bytes);
            digests.insert(
                blob,
                digest.iter().map(|byte| format!("{byte:02x}")).collect(),
            );
        }
    }
    let mut lines = String::new();
    for (entry, blob) in files {
        let digest = digests
            .get(&blob)
            .cloned()
            .unwrap_or_else(|| blob.to_string());
        lines.push_str(&sum_line(&digest, entry.path.as_bytes())?);
    }
    Ok(lines)
}

/// One line as coreutils and b3sum write it: a `\` before the digest says that the name is escaped.
pub(crate) fn sum_line(digest: &str, path: &[u8]) -> Result<String> {
    let Ok(path) = std::str::from_utf8(path) else {
        let message = format!(
            "`{}` is not UTF-8, it cannot stand in a list of sums",
            relstore_store::name::escape(path)
        );
        return Err(CommandError::bad_input(message).hint("use --format text or json"));
    };
    if path.contains(['\\', '\n', '\r']) {
        let escaped = path
            .replace('\\', "\\\\")
            .replace('\n', "\\n")
            .replace('\r', "\\r");
        return Ok(format!("\\{digest}  {escaped}\n"));
    }
    Ok(format!("{digest}  {path}\n"))
}

/// The command whose output, in the release's folder on a host, is the files that were added.
/// Writable folders are filled on the host and left out; shared ones are links there.
fn find_line(manifest: &Manifest) -> String {
    let writable = manifest
        .entries()
        .iter()
        .filter(|entry| matches!(entry.kind, Kind::WritableDir));
    let quoted = |entry: &Entry| format!("'./{}'", entry.path.to_string().replace('\'', "'\\''"));
    let prunes: String = writable
        .map(|entry| format!("-path {} -prune -o ", quoted(entry)))
        .collect();
    format!("find . {prunes}-type f -print | cut -c3- | grep -vxFf <(cut -c67- release.sum)")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_are_escaped_as_coreutils_does() {
        assert_eq!(sum_line("00", b"a b").unwrap(), "00  a b\n");
        assert_eq!(sum_line("00", b"a\\b\nc").unwrap(), "\\00  a\\\\b\\nc\n");
        assert!(sum_line("00", b"\xff").is_err());
    }
}
