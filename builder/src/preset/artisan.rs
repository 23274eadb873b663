//! `artisan`: commands of the booted application that make files of the release or of the assets,
//! such as a list of routes for scripts. The configuration gives the commands and the outputs.

use super::{LARAVEL_WRITES, blank, dummy_environment};
use crate::step::{Step, Tool};

pub(crate) fn artisan() -> Step {
    Step {
        tools: [Tool::Php].into(),
        needs: vec!["autoload".to_owned()],
        files: vec!["artisan"],
        scratch: LARAVEL_WRITES.map(str::to_owned).to_vec(),
        env: dummy_environment(),
        ..blank("artisan")
    }
}
