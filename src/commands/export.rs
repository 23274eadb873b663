//! `relstore export`: a release as one archive, for servers and pipelines without relstore.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use relstore_store::Store;
use relstore_store::archive::Format;
use relstore_store::export::Exported;
use relstore_store::fs::{publish_as, same_bytes, temp_in};
use relstore_store::id::ReleaseId;
use serde_json::json;

use super::manifest::sum_line;
use crate::context::Context;
use crate::error::{CommandError, Result};
use crate::exit_code::ExitCode;
use crate::output::bytes;
use crate::stored::{block_on, open, resolve};

/// Write a release as one archive that needs no relstore to be unpacked
///
/// The archive has the release's own paths; shared and writable folders are folders, `.env` is not
/// in it. The same release gives the same bytes. A list of its SHA-256 is written beside it, for
/// `sha256sum -c`. `relstore import` makes the same release of it again.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  relstore export HEAD                                writes deployment-bundle-<hash>.tar.zst here
  relstore export latest --format tar.gz --output dist/
  relstore export env:prod --output - | ssh host 'mkdir new && zstd -dc | tar -x -C new'")]
pub(crate) struct Args {
    /// The release
    pub(crate) release: String,
    /// How to compress it [default: as `--output` is named, else tar.zst]
    #[arg(long, value_enum)]
    pub(crate) format: Option<FormatArg>,
    /// The file to write, or the folder to write it into; `-` for stdout, without a list of sums
    /// [default: here]
    #[arg(long, value_name = "PATH")]
    pub(crate) output: Option<PathBuf>,
}

/// Kinds of archives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum FormatArg {
    #[value(name = "tar.zst")]
    TarZst,
    #[value(name = "tar.gz")]
    TarGz,
}

/// Runs the command.
pub(crate) fn run(context: &Context, args: &Args) -> Result<ExitCode> {
    let to_stdout = args.output.as_deref() == Some(Path::new("-"));
    if to_stdout && context.output.json {
        let message = "--json and --output - exclude each other";
        return Err(CommandError::new(ExitCode::Usage, message));
    }
    block_on(async {
        let (config, store) = open(context).await?;
        let release = resolve(context, config.as_ref(), &store, &args.release).await?;
        let format = format(args);
        if to_stdout {
            let out = context.output.stream()?;
            let room = context.cache_folder()?;
            relstore_store::fs::create_dirs(&room)?;
            store.export(&release, format, &room, out).await?;
            return Ok(ExitCode::Ok);
        }
        let file = file(context, args, &release, format);
        let exported = write(&store, &release, format, &file).await?;
        let sums = with_ending(&file, ".sha256");
        write_sums(&file, &sums, &exported)?;
        let length = bytes(exported.bytes);
        context
            .output
            .note(&format!("  {length}, sha256 {}", exported.sha256));
        context.output.result(&file.display().to_string(), || {
            json!({
                "release": release,
                "file": file.to_string_lossy(),
                "sums": sums.to_string_lossy(),
                "format": format.extension(),
                "bytes": exported.bytes,
                "sha256": exported.sha256,
            })
        })?;
        Ok(ExitCode::Ok)
    })
}

fn format(args: &Args) -> Format {
    let named = |ending: &str| {
        let name = args.output.as_deref().and_then(Path::file_name);
        name.is_some_and(|name| name.as_encoded_bytes().ends_with(ending.as_bytes()))
    };
    match args.format {
        Some(FormatArg::TarZst) => Format::TarZst,
        Some(FormatArg::TarGz) => Format::TarGz,
        None if named(".tar.gz") || named(".tgz") => Format::TarGz,
        None => Format::TarZst,
    }
}

/// Where the archive goes.
fn file(context: &Context, args: &Args, release: &ReleaseId, format: Format) -> PathBuf {
    let name = format!("deployment-bundle-{release}.{}", format.extension());
    let Some(output) = &args.output else {
        return context.folder.join(name);
    };
    let path = context.folder.join(output);
    let is_folder = path.is_dir() || output.as_os_str().as_encoded_bytes().ends_with(b"/");
    match is_folder {
        true => path.join(name),
        false => path,
    }
}

/// Writes the archive beside its place first; nothing is ever seen there but the whole.
async fn write(
    store: &Store,
    release: &ReleaseId,
    format: Format,
    file: &Path,
) -> Result<Exported> {
    let folder = file.parent().unwrap_or(Path::new("."));
    relstore_store::fs::create_dirs(folder)?;
    let temp = temp_in(folder)?;
    let out = temp.reopen().map_err(|error| cannot_write(file, &error))?;
    let exported = store.export(release, format, folder, out).await?;
    publish(temp, file)?;
    Ok(exported)
}

fn write_sums(file: &Path, sums: &Path, exported: &Exported) -> Result<()> {
    let name = file.file_name().unwrap_or_default().as_encoded_bytes();
    let line = sum_line(&exported.sha256, name)?;
    let mut temp = temp_in(sums.parent().unwrap_or(Path::new(".")))?;
    let written = temp.write_all(line.as_bytes());
    written.map_err(|error| cannot_write(sums, &error))?;
    publish(temp, sums)
}

/// Gives a file its name. One that is there with the same bytes is what is wanted.
fn publish(temp: tempfile::NamedTempFile, file: &Path) -> Result<()> {
    let again = temp.reopen().map_err(|error| cannot_write(file, &error))?;
    if publish_as(temp, file, 0o644)? {
        return Ok(());
    }
    let same = File::open(file).and_then(|there| same_bytes(there, again));
    if same.map_err(|error| cannot_write(file, &error))? {
        return Ok(());
    }
    let message = format!("{} is there already, with other content", file.display());
    Err(CommandError::bad_input(message).hint("remove it, or name another one with `--output`"))
}

fn with_ending(file: &Path, ending: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

fn cannot_write(file: &Path, error: &std::io::Error) -> CommandError {
    let message = format!("cannot write {}", file.display());
    CommandError::new(ExitCode::Failure, message).caused_by(error)
}
