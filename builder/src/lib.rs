//! Source and lock files become a release in a store.
//!
//! ```text
//! source -> plan (pure) -> steps -> assemble -> gates -> import -> records
//! ```
//! [`build`](build()) does it all; [`prepare`] does all but the last two and so never touches a store.
//! Pure parts: [`conditions`], [`exclude`], [`step`], [`plan`], [`lockfile`], [`provenance`], [`sbom`],
//! [`facts`], parts of [`check`]. The crate reads no environment variable, no clock and no home folder:
//! what it needs of them is in the [`BuildRequest`]. [`imported`] makes a release of a folder that was
//! not built here.

pub mod archive;
pub mod assemble;
pub mod build;
pub mod check;
pub mod conditions;
pub mod derivation;
pub mod error;
pub mod event;
pub mod exclude;
pub mod facts;
pub mod gate;
mod git;
pub mod imported;
mod judge;
mod key;
mod key_lock;
mod lay_out;
pub mod lockfile;
mod locks;
mod made;
mod package_tree;
pub mod plan;
pub mod prepared;
pub mod preset;
mod private_folder;
mod process;
pub mod provenance;
pub mod reproduce;
mod run;
mod sandbox;
pub mod sbom;
mod scratch;
pub mod secret;
pub mod service;
mod signed;
pub mod source;
mod source_tree;
mod stage;
pub mod step;
mod store_place;
mod tool;
mod transcript;
mod variable_use;
mod workshop;

pub use build::{BuildRequest, build, prepare};
pub use error::BuildError;
pub use event::Event;
pub use gate::{Gate, GateResult, Verdict};
pub use lay_out::Trespass;
pub use made::How;
pub use plan::{StepSettings, Wanted};
pub use prepared::{Built, Prepared, Surroundings};
pub use preset::Preset;
pub use run::StepResult;
pub use sandbox::SandboxMode;
pub use source::SourceSpec;
pub use store_place::StorePlace;
pub use variable_use::VariableUse;
