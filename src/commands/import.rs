//! `relstore import`: a folder or an archive that was not built here becomes a release in the store.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use relstore_builder::Event;
use relstore_builder::archive::UnpackedArchive;
use relstore_builder::imported::{FolderImported, FolderRequest, FolderRules, look};
use relstore_store::Store;
use relstore_store::import::Layout;
use relstore_store::name::EntryPath;
use serde_json::{Value, json};

use super::build::show_import;
use crate::config::Config;
use crate::config::resolve::default_layout;
use crate::config::value;
use crate::context::Context;
use crate::error::{CommandError, Result};
use crate::exit_code::ExitCode;
use crate::output::{bytes, counted};
use crate::progress::{Progress, Task};
use crate::signing;
use crate::stored::{block_on, refresh_listing};

/// How many of the paths that were left out are named to people.
const LEFT_OUT_SHOWN: usize = 5;

/// Make a release of a folder or archive as it is, without building
///
/// Reads the folder where it lies, or unpacks the archive (.tar.zst, .tar.gz, .tar) into a private
/// one, stores the release and prints its hash as the last thing on stdout. When FILE.sha256 lies
/// beside an archive, its sum must be right. No step runs and no gate is asked: `relstore check FOLDER` asks the gates, and hosts
/// ask them before a switch in any case. `.env` and `.git` are never taken; what is left out is
/// told.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  relstore import ./dist                                   a Laravel application built elsewhere
  relstore import /srv/site --layout plain --shared data   any folder; hosts share data/
  relstore import deployment-bundle-abc.tar.gz             a tarball of an existing pipeline")]
pub(crate) struct Args {
    /// The folder or archive
    #[arg(value_name = "FOLDER|FILE")]
    pub(crate) from: PathBuf,
    /// What it is taken for [default: laravel]
    ///
    /// `laravel`: leaves out what a build leaves out and takes `[shared]` and `[writable]` of
    /// relstore.toml, or their defaults. `plain`: everything, and hosts share nothing. An archive
    /// that `relstore export` wrote brings its own layout and becomes the same release again.
    #[arg(long, value_enum)]
    pub(crate) layout: Option<LayoutArg>,
    /// A path that hosts share, beside those of the layout; a folder when it has no extension or ends in `/`
    #[arg(long, value_name = "PATH", value_parser = value::shared_path)]
    pub(crate) shared: Vec<(EntryPath, bool)>,
    /// A folder that is written on hosts, beside those of the layout
    #[arg(long, value_name = "PATH", value_parser = value::entry_path)]
    pub(crate) writable: Vec<EntryPath>,
}

/// Kinds of folders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum LayoutArg {
    Laravel,
    Plain,
}

/// Runs the command.
pub(crate) fn run(context: &Context, args: &Args) -> Result<ExitCode> {
    let config = context.optional_config()?;
    let store_folder = context.store_folder(config.as_ref())?;
    let from = context.folder.join(&args.from);
    if !from.exists() {
        let message = format!("{} is neither a folder nor a file", from.display());
        return Err(CommandError::bad_input(message));
    }
    if from.is_dir() {
        refuse_store_inside(&from, &store_folder)?;
    }
    let signer = match &config {
        Some(config) => signing::signer(context, config)?,
        None => None,
    };
    let imported = block_on(async {
        // As in a build: what cannot be used is told first, and nothing is made before it is needed.
        Store::check_place(&store_folder).await?;
        let archive = match from.is_dir() {
            true => None,
            false => Some(UnpackedArchive::of(&from, &context.cache_folder()?).await?),
        };
        let archive = archive.map(Arc::new);
        let (rules, layout) = taken(config.as_ref(), args, archive.as_deref())?;
        let request = FolderRequest {
            folder: archive
                .as_ref()
                .map_or(from, |archive| archive.folder().to_owned()),
            rules,
            layout,
            archive,
            signer,
            now: context.now(),
        };
        let looked = look(request).await?;
        let store = Store::open_or_create(&store_folder).await?;
        let progress = Progress::new(context);
        let listener = |event| {
            if let Event::Import(event) = event {
                show_import(&progress, &event);
            }
        };
        let imported = looked.store(&store, &listener).await?;
        refresh_listing(context, &store).await;
        progress.ok(&Task::new("store"), &stored(&imported), None);
        Ok(imported)
    })
    .map_err(interrupted)?;
    tell_left_out(context, &imported.left_out);
    context
        .output
        .result(&imported.release.to_string(), || document(&imported))?;
    Ok(ExitCode::Ok)
}

/// What of the folder is taken, and what hosts lay out.
fn taken(
    config: Option<&Config>,
    args: &Args,
    archive: Option<&UnpackedArchive>,
) -> Result<(FolderRules, Layout)> {
    if let Some(label) = archive.and_then(UnpackedArchive::label) {
        if args.layout.is_some() || !args.shared.is_empty() || !args.writable.is_empty() {
            let message = format!("the archive is release {}, with its layout", label.release);
            return Err(CommandError::bad_input(message)
                .hint("leave out `--layout`, `--shared` and `--writable`"));
        }
        return Ok((FolderRules::Release, label.layout.clone()));
    }
    let (rules, mut layout) = match args.layout.unwrap_or(LayoutArg::Laravel) {
        LayoutArg::Laravel => (
            FolderRules::Laravel {
                exclude: config.map_or_else(Vec::new, |config| config.build.exclude.clone()),
            },
            config.map_or_else(default_layout, |config| config.layout.clone()),
        ),
        LayoutArg::Plain => (FolderRules::Plain, Layout::default()),
    };
    for (path, is_folder) in &args.shared {
        let list = match is_folder {
            true => &mut layout.shared_dirs,
            false => &mut layout.shared_files,
        };
        add(list, path);
    }
    for path in &args.writable {
        add(&mut layout.writable_dirs, path);
    }
    Ok((rules, layout))
}

fn add(list: &mut Vec<EntryPath>, path: &EntryPath) {
    if !list.contains(path) {
        list.push(path.clone());
    }
}

/// A store in the folder would grow while it is read, and be part of its own release.
fn refuse_store_inside(folder: &Path, store: &Path) -> Result<()> {
    let real = |path: &Path| {
        let there = path.ancestors().find(|path| path.exists());
        there.and_then(|path| path.canonicalize().ok())
    };
    match (real(folder), real(store)) {
        (Some(folder), Some(store)) if store.starts_with(&folder) => {
            let message = format!("the store would lie in the folder {}", folder.display());
            Err(CommandError::bad_input(message)
                .hint("choose another store with `--store` or `[store] path`"))
        }
        _ => Ok(()),
    }
}

/// What is true after a signal ended an import.
fn interrupted(error: CommandError) -> CommandError {
    if error.code != ExitCode::Interrupted {
        return error;
    }
    error
        .state("the store holds whole releases only; `relstore list` shows whether this one came to be")
        .hint("the same command begins anew")
}

fn stored(imported: &FolderImported) -> String {
    let content = format!(
        "{}, {}",
        counted(imported.files, "file"),
        bytes(imported.bytes)
    );
    match imported.new_blobs {
        0 => format!("{content}, all in the store already"),
        blobs => format!(
            "{content}; {} new, {} stored as {}",
            counted(blobs, "blob"),
            bytes(imported.new_bytes),
            bytes(imported.stored_bytes)
        ),
    }
}

fn tell_left_out(context: &Context, left_out: &[String]) {
    if left_out.is_empty() {
        return;
    }
    let mut text = left_out[..left_out.len().min(LEFT_OUT_SHOWN)].join(", ");
    if left_out.len() > LEFT_OUT_SHOWN {
        text.push_str(&format!(" and {} more", left_out.len() - LEFT_OUT_SHOWN));
    }
    context.output.note(&format!("  left out: {text}"));
}

fn document(imported: &FolderImported) -> Value {
    json!({
        "release": imported.release,
        "files": imported.files,
        "bytes": imported.bytes,
        "new_blobs": imported.new_blobs,
        "new_bytes": imported.new_bytes,
        "stored_bytes": imported.stored_bytes,
        "reused": imported.reused,
        "left_out": imported.left_out,
        "records": [imported.record],
    })
}
