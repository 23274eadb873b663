//! `facts`: the application, booted once at build time, says what it is: see [`crate::facts`]. It is
//! no preset of a configuration; a build with an autoloader has it.

use super::{LARAVEL_WRITES, blank, changed, dummy_environment};
use crate::facts;
use crate::step::{CommandLine, Inputs, Step, Tool};

const SCRIPT: &str = ".relstore/facts.php";
/// Where the answer is; not released.
pub(crate) const ANSWER: &str = ".relstore/facts.json";

/// The step. An application that cannot be booted without its environment gives no answer, and is
/// built all the same.
pub(crate) fn step(inputs: &Inputs) -> Step {
    let command = format!("php {SCRIPT} > {ANSWER}; true");
    Step {
        commands: vec![CommandLine::new(["sh", "-c", &command])],
        tools: [Tool::Php].into(),
        needs: vec!["autoload".to_owned()],
        inputs: inputs.clone(),
        provided: vec![(SCRIPT, facts::script())],
        outputs: vec![changed(ANSWER, false)],
        scratch: LARAVEL_WRITES.map(str::to_owned).to_vec(),
        env: dummy_environment(),
        released: false,
        ..blank("facts")
    }
}
