//! The command line: global options and the list of commands. Each command's own options stand in
//! its file under `commands/`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::commands::{
    build, check, deploy, diff, export, fsck, gc, history, import, init, list, manifest, pin, pull,
    push, rollback, serve, show, status, store, verify,
};

/// The list of exit codes under `relstore --help`.
const AFTER_HELP: &str = "\
A RELEASE is named by its hash or a prefix of at least 8 digits, `HEAD`, a commit, branch or tag,
`latest`, `env:NAME` (what the environment serves) or `env:NAME@previous`.

Example, from a checkout to a live site and back:
  relstore init
  relstore build
  relstore deploy HEAD --env prod
  relstore rollback --env prod

Exit codes: 0 ok, 1 failure, 2 usage, 3 bad input, 4 gate failed, 5 nothing changed,
6 rolled back, 7 state unknown, 8 drift, 9 busy, 10 interrupted, 11 not reproducible,
12 check failed, 13 damaged";

/// Reproducible, content-addressed releases for Laravel: build, store, deploy, verify, roll back.
#[derive(Debug, Parser)]
#[command(name = "relstore", version, after_help = AFTER_HELP, subcommand_required = true, disable_help_subcommand = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options that every command takes.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// Print the result as one JSON document on stdout (an error too, under `error`)
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// The configuration file [default: relstore.toml here or in a folder above; env: RELSTORE_CONFIG]
    #[arg(long, global = true, value_name = "PATH")]
    pub(crate) config: Option<PathBuf>,
    /// The store, a folder or (to read) a URL [default: `[store] path`; env: RELSTORE_STORE]
    #[arg(long, global = true, value_name = "PLACE")]
    pub(crate) store: Option<String>,
    /// Show progress as plain lines, even on a terminal
    #[arg(long, global = true)]
    pub(crate) no_progress: bool,
    /// Say nothing but results, warnings and errors
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// Say more: output of build steps, commands and times
    #[arg(short, long, global = true)]
    pub(crate) verbose: bool,
}

/// What can be done, in the order in which people meet it.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Init(init::Args),
    Build(build::Args),
    Import(import::Args),
    Export(export::Args),
    Check(check::Args),
    List(list::Args),
    Show(show::Args),
    Manifest(manifest::Args),
    Diff(diff::Args),
    Push(push::Args),
    Pull(pull::Args),
    Deploy(deploy::Args),
    Rollback(rollback::Args),
    Status(status::Args),
    Verify(verify::Args),
    History(history::Args),
    Pin(pin::Args),
    Gc(gc::Args),
    Serve(serve::Args),
    Store(store::Args),
    Fsck(fsck::Args),
}

/// The environment that a command is for.
#[derive(Debug, Clone, Args)]
pub(crate) struct EnvironmentArg {
    /// The environment, an `[env.NAME]` of the configuration [env: RELSTORE_ENV]
    #[arg(long = "env", short = 'e', value_name = "NAME")]
    pub(crate) env: Option<String>,
}
