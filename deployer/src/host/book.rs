//! The ledger's file: appended to under the lock, each entry durable before it is reported.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;

use super::base::Base;
use super::disk;
use super::error::{At, HostError, Result};
use crate::ledger::{Entry, GENESIS, hash};
use crate::protocol::{Reason, Recorded};

/// All whole lines, oldest first. A last line without line feed was being written when the
/// machine stopped, was never reported, and is left out.
pub(crate) fn lines(base: &Base) -> Result<Vec<String>> {
    let path = base.private("ledger");
    let bytes = disk::read(&path)?.unwrap_or_default();
    let whole = bytes
        .iter()
        .rposition(|&byte| byte == b'\n')
        .map_or(&[][..], |end| &bytes[..end]);
    let text = std::str::from_utf8(whole).map_err(|error| {
        HostError::new(Reason::Corrupt, format!("{} is damaged", path.display()))
            .cause(error.to_string())
    })?;
    Ok(text.lines().map(str::to_owned).collect())
}

/// Appends an entry; its number and predecessor are filled in.
pub(crate) fn append(base: &Base, mut entry: Entry) -> Result<Recorded> {
    let path = base.private("ledger");
    let known = lines(base)?;
    cut_torn(base, &known)?;
    entry.n = known.len() as u64 + 1;
    entry.prev = known
        .last()
        .map_or_else(|| GENESIS.to_owned(), |line| hash(line));
    let line = entry.line();
    let mut file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(&path)
        .at("open", &path)?;
    file.write_all(format!("{line}\n").as_bytes())
        .and_then(|()| file.sync_all())
        .at("write", &path)?;
    if entry.n == 1 {
        disk::sync_dir(&base.private(""))?;
    }
    Ok(Recorded {
        number: entry.n,
        hash: hash(&line),
        line,
    })
}

/// Cuts a torn last line off, so that the next entry begins on a line of its own.
fn cut_torn(base: &Base, known: &[String]) -> Result<()> {
    let path = base.private("ledger");
    let whole: u64 = known.iter().map(|line| line.len() as u64 + 1).sum();
    match std::fs::metadata(&path) {
        Ok(meta) if meta.len() > whole => {
            let file = OpenOptions::new()
                .write(true)
                .open(&path)
                .at("open", &path)?;
            file.set_len(whole)
                .and_then(|()| file.sync_all())
                .at("write", &path)
        }
        _ => Ok(()),
    }
}
