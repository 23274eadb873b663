//! The commands, one file each: help text, options, and one function that reads top to bottom.

pub(crate) mod build;
pub(crate) mod check;
pub(crate) mod deploy;
pub(crate) mod diff;
pub(crate) mod export;
pub(crate) mod fsck;
pub(crate) mod gc;
pub(crate) mod history;
pub(crate) mod import;
pub(crate) mod init;
pub(crate) mod list;
pub(crate) mod manifest;
pub(crate) mod pin;
mod preview;
pub(crate) mod pull;
pub(crate) mod push;
mod reproduce;
pub(crate) mod rollback;
pub(crate) mod serve;
pub(crate) mod show;
pub(crate) mod status;
pub(crate) mod store;
pub(crate) mod verify;
