//! `relstore`: builds a Laravel project into a release, stores it, deploys it, proves it, rolls it back.

mod cli;
mod commands;
mod config;
mod context;
mod credentials;
mod error;
mod exit_code;
mod facts;
mod git;
mod hosts;
mod output;
mod progress;
mod project_scan;
mod release_name;
mod remote;
mod said;
mod serve;
mod signing;
mod stored;
mod time;

use clap::Parser;

use cli::{Cli, Command};
use context::Context;
use error::{CommandError, Result};
use exit_code::ExitCode;
use output::Output;

fn main() -> std::process::ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error).into(),
    };
    let plain = Output {
        json: cli.global.json,
        quiet: false,
        verbose: false,
        color: false,
    };
    let outcome = match Context::new(&cli.global) {
        Ok(context) => run(&context, cli.command).map_err(|error| (context.output, error)),
        Err(error) => Err((plain, error)),
    };
    match outcome {
        Ok(code) => code.into(),
        Err((output, error)) => {
            output.error(&error);
            error.code.into()
        }
    }
}

fn run(context: &Context, command: Command) -> Result<ExitCode> {
    match command {
        Command::Init(args) => commands::init::run(context, &args),
        Command::Build(args) => commands::build::run(context, &args),
        Command::Import(args) => commands::import::run(context, &args),
        Command::Export(args) => commands::export::run(context, &args),
        Command::Check(args) => commands::check::run(context, &args),
        Command::List(args) => commands::list::run(context, &args),
        Command::Show(args) => commands::show::run(context, &args),
        Command::Manifest(args) => commands::manifest::run(context, &args),
        Command::Diff(args) => commands::diff::run(context, &args),
        Command::Push(args) => commands::push::run(context, &args),
        Command::Pull(args) => commands::pull::run(context, &args),
        Command::Pin(args) => commands::pin::run(context, &args),
        Command::Gc(args) => commands::gc::run(context, &args),
        Command::Serve(args) => commands::serve::run(context, &args),
        Command::Store(args) => commands::store::run(context, &args),
        Command::Fsck(args) => commands::fsck::run(context, &args),
        Command::Deploy(args) => commands::deploy::run(context, &args),
        Command::Rollback(args) => commands::rollback::run(context, &args),
        Command::Status(args) => commands::status::run(context, &args),
        Command::Verify(args) => commands::verify::run(context, &args),
        Command::History(args) => commands::history::run(context, &args),
    }
}

/// `--help` and `--version` are results; anything else is a mistake on the command line.
fn usage(error: &clap::Error) -> ExitCode {
    use clap::error::ErrorKind::{DisplayHelp, DisplayVersion};
    // Failing to print leaves nothing to report to.
    if matches!(error.kind(), DisplayHelp | DisplayVersion) {
        let _ = error.print();
        return ExitCode::Ok;
    }
    let json = std::env::args_os()
        .take_while(|argument| argument != "--")
        .any(|argument| argument == "--json");
    if json {
        let output = Output {
            json,
            quiet: false,
            verbose: false,
            color: false,
        };
        output.error(&usage_error(&error.render().to_string()));
    } else {
        let _ = error.print();
    }
    ExitCode::Usage
}

/// The parts of what a person would read: the mistake, and what to do about it.
fn usage_error(rendered: &str) -> CommandError {
    let mut paragraphs = rendered.trim().split("\n\n");
    let message = paragraphs.next().unwrap_or_default();
    let message = message.strip_prefix("error: ").unwrap_or(message);
    let error = CommandError::new(ExitCode::Usage, message);
    paragraphs
        .map(str::trim)
        .filter(|text| !text.starts_with("For more information"))
        .fold(error, |error, text| {
            error.hint(text.strip_prefix("tip: ").unwrap_or(text))
        })
}
