//! `relstore-host`: the host helper. `relstore` copies it to a host and starts it there, one per
//! connection; people never need to. See `docs/host.md`.

use std::ffi::OsString;
use std::io;
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
            ended(host::serve(Path::new(base), io::stdin(), io::stdout()))
        }
        ["store", "--root", root] if root.starts_with('/') => ended(store(root, false)),
        ["store", "--root", root, "--read-only"] if root.starts_with('/') => {
            ended(store(root, true))
        }
        ["step", ..] => {
            eprintln!("relstore-host: {}", host::step(&arguments[1..]));
            ExitCode::from(127)
        }
        _ => {
            eprintln!(
                "usage: relstore-host serve --base FOLDER\n       relstore-host store --root FOLDER [--read-only]\n\nrelstore starts it; there is nothing to do by hand."
            );
            ExitCode::from(2)
        }
    }
}

fn store(root: &str, read_only: bool) -> io::Result<()> {
    host::serve_store(Path::new(root), read_only, io::stdin(), io::stdout())
}

#[allow(clippy::print_stderr, reason = "this is the program")]
fn ended(conversation: io::Result<()>) -> ExitCode {
    match conversation {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("relstore-host: {error}");
            ExitCode::FAILURE
        }
    }
}
