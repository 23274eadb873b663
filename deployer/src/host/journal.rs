//! The steps of one deploy, each written before and after, durably: what was going on when
//! somebody pulled the plug.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use serde::Serialize;

use super::base::Base;
use super::disk;
use super::error::{At, Result};

/// Journals that are kept.
const KEEP: usize = 20;

#[derive(Serialize)]
struct Line<'a> {
    at_ms: i64,
    step: &'a str,
    event: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    detail: &'a str,
}

/// An open journal.
#[derive(Debug)]
pub(crate) struct Journal {
    path: PathBuf,
    file: File,
}

impl Journal {
    /// Begins the journal of a transaction and removes the oldest ones.
    pub(crate) fn open(base: &Base, transaction: &str) -> Result<Self> {
        let folder = base.private("journal");
        let path = folder.join(format!("{transaction}.jsonl"));
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&path)
            .at("open", &path)?;
        disk::sync_dir(&folder)?;
        let mut all: Vec<PathBuf> = fs::read_dir(&folder)
            .at("list", &folder)?
            .flatten()
            .map(|entry| entry.path())
            .collect();
        // Names begin with the time, so they sort by age.
        all.sort();
        for old in all.iter().rev().skip(KEEP) {
            let _ = fs::remove_file(old);
        }
        Ok(Self { path, file })
    }

    /// Writes one line.
    pub(crate) fn write(&mut self, step: &str, event: &str, detail: &str) -> Result<()> {
        let line = Line {
            at_ms: disk::now_ms(),
            step,
            event,
            detail,
        };
        let mut json = serde_json::to_vec(&line).expect("strings and numbers are JSON");
        json.push(b'\n');
        self.file
            .write_all(&json)
            .and_then(|()| self.file.sync_data())
            .at("write", &self.path)
    }
}
