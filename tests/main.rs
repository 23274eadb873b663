//! Tests of the program as a whole, in one binary.
#![allow(clippy::unwrap_used, clippy::panic)]

mod cli_build;
mod cli_check;
mod cli_concurrent;
mod cli_deploy;
mod cli_export;
mod cli_fsck;
mod cli_help;
mod cli_import;
mod cli_init;
mod cli_records;
mod cli_remote;
mod cli_serve;
mod cli_store;
mod cli_store_init;
mod common;
#[cfg(feature = "e2e")]
mod e2e;
