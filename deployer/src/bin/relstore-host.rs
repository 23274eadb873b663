//! `relstore-host`: the host helper. `relstore` copies it to a host and starts it there, one per
//! connection; people never need to. See `docs/host.md`.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use relstore_deployer::host;

#[allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "this is the program"
)]
fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let words: Vec<&str> = arguments
        .iter()
        .map(|argument| argument.to_str().unwrap_or_default())
        .collect();
    match words.as_slice() {
        ["--version"] => {
            println!("relstore-host {}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
        ["serve", "--base", base] if base.starts_with('/') => {
            match host::serve(Path::new(base), std::io::stdin(), std::io::stdout()) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => {
                    eprintln!("relstore-host: {error}");
                    ExitCode::FAILURE
                }
            }
        }
        ["step", ..] => {
            eprintln!("relstore-host: {}", host::step(&arguments[1..]));
            ExitCode::from(127)
        }
        _ => {
            eprintln!(
                "usage: relstore-host serve --base FOLDER\n\nrelstore starts it; there is nothing to do by hand."
            );
            ExitCode::from(2)
        }
    }
}
