//! An activation that nobody has confirmed: written durably before the switch, removed when the
//! program confirms. Whoever finds one without its deploy takes it back.

use relstore_store::id::ReleaseId;
use serde::{Deserialize, Serialize};

use super::base::Base;
use super::disk;
use super::error::{HostError, Result};
use crate::protocol::{Pending, Reason};

/// What lies in `pending`, JSON.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Stored {
    pub(crate) pending: Pending,
    /// What `previous` was before the switch.
    pub(crate) previous: Option<ReleaseId>,
    /// For the ledger, when somebody else has to take it back.
    pub(crate) actor: String,
    pub(crate) action: String,
    pub(crate) environment: String,
    pub(crate) commit: Option<String>,
}

/// The unconfirmed activation, if there is one.
pub(crate) fn read(base: &Base) -> Result<Option<Stored>> {
    let path = base.private("pending");
    let Some(json) = disk::read(&path)? else {
        return Ok(None);
    };
    serde_json::from_slice(&json).map(Some).map_err(|error| {
        HostError::new(Reason::Corrupt, format!("{} is damaged", path.display()))
            .cause(error.to_string())
            .hint("look at `current`, make it what it should be by hand, then remove this file")
    })
}

pub(crate) fn write(base: &Base, stored: &Stored) -> Result<()> {
    let json = serde_json::to_vec(stored).expect("strings and numbers are JSON");
    disk::write(&base.private("pending"), &json, 0o600)
}

pub(crate) fn remove(base: &Base) -> Result<()> {
    disk::remove(&base.private("pending"))
}

/// Boot id of the running kernel; empty where there is none.
pub(crate) fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .unwrap_or_default()
        .trim()
        .to_owned()
}
