//! Gates: what a release has to fulfil before it is stored. `check` asks them on any folder, and the
//! structure gates among them are asked again on every host before the switch.
//!
//! ```text
//! Context (which tree)  ->  Tree (read once)  ->  each gate: Answer (findings)  ->  GateResult
//! Settings (what is off, warns, is allowed, is added)  ---------------------------------^
//! ```
//! The content gates are functions of the tree alone, apart from `php-syntax`, which asks PHP about
//! files it has not seen before, and the project's own command gates. All are asked at the same time,
//! and all they find is reported together. No gate changes the tree.

mod answer;
mod assets;
mod case_collisions;
mod class_map;
mod command;
mod destructive_migrations;
mod env_calls;
mod left_out;
mod migration_names;
mod migrations;
mod php;
mod php_syntax;
mod result;
mod secrets;
mod settings;
mod structure;
mod tree;

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use rayon::prelude::*;
use relstore_store::structure::Requirement;
use serde::{Deserialize, Serialize};

use answer::Answer;
use tree::Tree;

pub use left_out::LeftOut;
pub use result::{Allowed, GateResult, Verdict};
pub use settings::{Allow, CommandGate, Settings, has_paths};
pub use structure::{nine, requirements};

/// One thing a release has to fulfil.
#[derive(Debug, Clone)]
pub struct Gate {
    /// How people name it.
    pub id: String,
    /// Why a release that does not fulfil it is wrong, in one line.
    pub purpose: String,
    /// What usually led there; empty when nobody can know.
    pub cause: String,
    /// What happens when it finds something.
    pub state: State,
    question: Question,
}

/// What a gate does when it finds something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Nothing is stored.
    On,
    /// It is reported, and the release is stored.
    Warns,
    /// It is not asked.
    Off,
}

#[derive(Debug, Clone)]
enum Question {
    /// Something has to lie at a path.
    Path(Requirement),
    /// A function of the tree.
    Tree(fn(&Tree) -> Answer),
    /// PHP compiles every file.
    Syntax,
    /// A command ends with 0: program and arguments.
    Command(Vec<String>),
}

/// Which tree is asked about, and with what.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// The tree's folder.
    pub root: &'a Path,
    /// What lies there and would be in no release; nothing when the tree is one.
    pub left_out: &'a LeftOut,
    /// Folders with programs, as in PATH: for `php` and for command gates.
    pub search_path: &'a str,
    /// Folder for what is remembered between runs; made when absent. Nothing is without one.
    pub cache: Option<&'a Path>,
    /// When this becomes true, running programs are ended and the verdicts mean nothing.
    pub cancelled: &'a AtomicBool,
}

/// A gate on the content, before it is a [`Gate`].
struct Row {
    id: &'static str,
    state: State,
    question: Question,
    purpose: &'static str,
    cause: &'static str,
}

const CONTENT: [Row; 8] = [
    Row {
        id: "secrets",
        state: State::On,
        question: Question::Tree(secrets::ask),
        purpose: "keys and tokens in a release are on every host and in every store for ever",
        cause: "a value that belongs into .env was written into the code; replace it where it was issued, for git's history keeps it",
    },
    Row {
        id: "case-collisions",
        state: State::On,
        question: Question::Tree(case_collisions::ask),
        purpose: "macOS and Windows can hold only one of two names that differ in case",
        cause: "a file was renamed on such a machine, and git kept the old name too",
    },
    Row {
        id: "assets",
        state: State::On,
        question: Question::Tree(assets::ask),
        purpose: "pages ask for every file that the Vite or Mix manifest lists",
        cause: "an old manifest was committed or its files are excluded; the steps `vite` and `mix` write both together",
    },
    Row {
        id: "class-map",
        state: State::On,
        question: Question::Tree(class_map::ask),
        purpose: "a class whose file is missing fails when it is first used",
        cause: "the file is excluded from the release, or vendor/ is older than the code",
    },
    Row {
        id: "php-syntax",
        state: State::On,
        question: Question::Syntax,
        purpose: "a file that PHP cannot compile fails when it is first loaded",
        cause: "a merge went wrong, or the code needs a newer PHP than the one that builds",
    },
    Row {
        id: "migration-names",
        state: State::On,
        question: Question::Tree(migration_names::ask),
        purpose: "Laravel runs migrations in the order of their names and knows them by nothing else",
        cause: "a migration was copied or renamed by hand; `php artisan make:migration` gives it a name",
    },
    Row {
        id: "destructive-migrations",
        state: State::Warns,
        question: Question::Tree(destructive_migrations::ask),
        purpose: "what a migration drops, renames or retypes breaks the release that still serves, and no rollback brings it back",
        cause: "the schema was cleaned up in the release that stopped using it; do that one release later, with a backup",
    },
    Row {
        id: "env-outside-config",
        state: State::Warns,
        question: Question::Tree(env_calls::ask),
        purpose: "env() gives null outside config/ once the configuration is cached, as it is on every host",
        cause: "works on a developer's machine, where nothing is cached; put it into a file of config/ and read it with config()",
    },
];

/// The ids of all gates but the project's own, in order.
#[must_use]
pub fn ids() -> Vec<&'static str> {
    structure::ids()
        .chain(CONTENT.iter().map(|row| row.id))
        .collect()
}

/// All gates as the settings have them, the project's own last.
#[must_use]
pub fn all(settings: &Settings) -> Vec<Gate> {
    let content = CONTENT.iter().map(|row| Gate {
        id: row.id.to_owned(),
        purpose: row.purpose.to_owned(),
        cause: row.cause.to_owned(),
        state: row.state,
        question: row.question.clone(),
    });
    let commands = settings.commands.iter().map(CommandGate::gate);
    let mut gates: Vec<Gate> = nine().into_iter().chain(content).chain(commands).collect();
    for gate in &mut gates {
        gate.state = settings.state(&gate.id, gate.state);
    }
    gates
}

impl Gate {
    /// What has to lie where; `None` unless this is a structure gate.
    #[must_use]
    pub fn requirement(&self) -> Option<&Requirement> {
        match &self.question {
            Question::Path(requirement) => Some(requirement),
            _ => None,
        }
    }

    /// The command line; `None` unless this is a command gate.
    #[must_use]
    pub fn command(&self) -> Option<&[String]> {
        match &self.question {
            Question::Command(words) => Some(words),
            _ => None,
        }
    }
}

/// Asks all gates at the same time and returns every verdict, in the order of [`all`].
#[must_use]
pub fn run(context: &Context<'_>, settings: &Settings) -> Vec<GateResult> {
    let gates = all(settings);
    let tree = Tree::read(context.root, context.left_out);
    let words = |gate: &Gate| match (gate.state, gate.command()) {
        (State::Off, _) | (_, None) => None,
        (_, Some(words)) => Some(words.to_vec()),
    };
    let lines: Vec<Option<Vec<String>>> = gates.iter().map(words).collect();
    // Commands wait for other programs: on threads of their own they keep no rayon thread busy.
    let (mut commands, others) = std::thread::scope(|scope| {
        let commands = scope.spawn(|| command::ask_all(context, &tree, &lines));
        let others: Vec<(Answer, Duration)> = gates
            .par_iter()
            .map(|gate| timed(|| ask(context, &tree, gate)))
            .collect();
        (commands.join().unwrap_or_default(), others)
    });
    commands.resize_with(gates.len(), || None);
    gates
        .iter()
        .zip(others)
        .zip(commands)
        .map(|((gate, other), command)| {
            let (answer, took) = command.unwrap_or(other);
            GateResult::new(gate, answer, took, &settings.allow)
        })
        .collect()
}

/// Asks the structure gates alone: of a tree that is not complete yet.
#[must_use]
pub fn run_structure(root: &Path, off: &[String]) -> Vec<GateResult> {
    let settings = Settings {
        off: off.to_vec(),
        ..Settings::default()
    };
    nine()
        .into_par_iter()
        .map(|mut gate| {
            gate.state = settings.state(&gate.id, gate.state);
            let (answer, took) = timed(|| structure::ask(root, &gate));
            GateResult::new(&gate, answer, took, &[])
        })
        .collect()
}

fn ask(context: &Context<'_>, tree: &Tree, gate: &Gate) -> Answer {
    match &gate.question {
        _ if gate.state == State::Off => Answer::default(),
        Question::Path(_) => structure::ask(context.root, gate),
        Question::Tree(ask) => ask(tree),
        Question::Syntax => php_syntax::ask(context, tree),
        // Asked beside this.
        Question::Command(_) => Answer::default(),
    }
}

fn timed(ask: impl FnOnce() -> Answer) -> (Answer, Duration) {
    let begun = Instant::now();
    let answer = ask();
    (answer, begun.elapsed())
}

#[cfg(test)]
mod tests;
