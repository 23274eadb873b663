//! Moves `current`, by one system call, and takes it back.

use std::fs;
use std::path::{Path, PathBuf};

use relstore_store::id::ReleaseId;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use super::base::Base;
use super::disk;
use super::error::{At, HostError, Result};
use super::pending::{self, Stored};
use crate::protocol::{Current, Reason};

fn target(id: &ReleaseId) -> PathBuf {
    Path::new("releases").join(id.to_string())
}

fn moved(base: &Base, found: &str) -> HostError {
    HostError::new(
        Reason::Moved,
        format!(
            "{} is not what it was when this deploy began",
            base.current().display()
        ),
    )
    .cause(found)
    .hint("somebody else moved `current`; look at `relstore status`, then deploy again")
}

/// Makes `current` the pending release if it is what it is expected to be. The pending note is
/// durable before, and gone again when this fails.
pub(crate) fn activate(base: &Base, stored: &Stored) -> Result<()> {
    let (from, to) = (stored.pending.from, stored.pending.to);
    if base.complete(&to)?.is_none() {
        return Err(HostError::new(
            Reason::Protocol,
            format!("release {} is not complete on this host", to.short()),
        ));
    }
    let expected = from.map_or(Current::Absent, Current::Release);
    let found = base.current_state()?;
    if found != expected {
        return Err(moved(base, &base.state_line()));
    }
    pending::write(base, stored)?;
    let temp = base.root().join(".current.new");
    let _ = fs::remove_file(&temp);
    let switched = std::os::unix::fs::symlink(target(&to), &temp)
        .at("make the link", &temp)
        .and_then(|()| exchange(base, &temp, from.as_ref()));
    let _ = fs::remove_file(&temp);
    if let Err(error) = switched {
        pending::remove(base)?;
        return Err(error);
    }
    if let Some(from) = from {
        disk::replace_link(&base.previous(), &target(&from))?;
    }
    disk::sync_dir(base.root())
}

fn exchange(base: &Base, temp: &Path, from: Option<&ReleaseId>) -> Result<()> {
    let current = base.current();
    let Some(from) = from else {
        return if disk::rename_new(temp, &current)? {
            Ok(())
        } else {
            Err(moved(base, "it was absent and is there now"))
        };
    };
    match renameat_with(CWD, temp, CWD, &current, RenameFlags::EXCHANGE) {
        Ok(()) => {}
        // File systems without exchange: the check above is all there is.
        Err(Errno::INVAL | Errno::NOSYS) => {
            return fs::rename(temp, &current).at("switch", &current);
        }
        Err(error) => return Err(error).at("switch", &current),
    }
    // What came out tells what was there at that very moment.
    let out = fs::read_link(temp);
    if out.as_ref().is_ok_and(|out| *out == target(from)) {
        return Ok(());
    }
    renameat_with(CWD, temp, CWD, &current, RenameFlags::EXCHANGE).at("switch back", &current)?;
    Err(moved(
        base,
        &format!(
            "it was {}",
            out.map_or_else(|_| "no link".into(), |out| out.display().to_string())
        ),
    ))
}

/// Takes an unconfirmed activation back; says whether `current` was moved. A first release has
/// nothing to go back to and stays.
pub(crate) fn go_back(base: &Base, stored: &Stored) -> Result<bool> {
    let (from, to) = (stored.pending.from, stored.pending.to);
    let mut went = false;
    if let (Some(from), Some(active)) = (from, base.active()?)
        && active == to
    {
        disk::replace_link(&base.current(), &target(&from))?;
        match stored.previous {
            Some(previous) => disk::replace_link(&base.previous(), &target(&previous))?,
            None => disk::remove(&base.previous())?,
        }
        went = true;
    }
    pending::remove(base)?;
    Ok(went)
}
