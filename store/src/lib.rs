//! Bytes and names: the content-addressed store of relstore.
//!
//! Knows neither PHP nor SSH nor a terminal. Pure parts: [`id`], [`name`], [`manifest`], [`diff`].

pub mod id;
pub mod manifest;
pub mod name;
pub mod structure;
