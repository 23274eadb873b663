//! The real ssh-keygen, whose keys and signatures ours have to agree with.
#![allow(clippy::unwrap_used, reason = "support of tests")]

use std::path::Path;
use std::process::{Command, Stdio};

/// Runs it in a folder. Returns whether it succeeded, and what it said.
///
/// # Panics
/// When it is not installed.
#[must_use]
pub fn ssh_keygen(folder: &Path, arguments: &[&str], stdin: &[u8]) -> (bool, String) {
    let input = folder.join("stdin");
    std::fs::write(&input, stdin).unwrap();
    let output = Command::new("ssh-keygen")
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::from(std::fs::File::open(input).unwrap()))
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(said).unwrap())
}
