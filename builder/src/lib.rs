//! Source and lock files become a release in a store.
//!
//! ```text
//! source -> plan (pure) -> steps -> assemble -> gates -> import -> records
//! ```
//! [`build`](build()) does it all; [`prepare`] does all but the last two and so never touches a store.
//! Pure parts: [`conditions`], [`exclude`], [`step`], [`plan`], [`provenance`]. The crate reads no environment
//! variable, no clock and no home folder: what it needs of them is in the [`BuildRequest`].

pub mod assemble;
pub mod build;
pub mod conditions;
pub mod error;
pub mod event;
pub mod exclude;
pub mod gate;
mod git;
pub mod plan;
pub mod prepared;
mod process;
pub mod provenance;
pub mod reproduce;
mod run;
mod scratch;
pub mod secret;
pub mod source;
pub mod step;

pub use build::{BuildRequest, StepResult, build, prepare};
pub use error::BuildError;
pub use event::Event;
pub use gate::{Gate, GateResult, Verdict};
pub use prepared::{Built, Prepared};
pub use source::SourceSpec;
pub use step::Preset;
