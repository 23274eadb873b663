//! What a command reports when it fails: message, causes, state, hints and exit code.
//!
//! The libraries say what went wrong; only this layer adds what the user can do about it. Layout:
//!
//! ```text
//! error: what was attempted
//!   detail (one line per problem)
//!   caused by: the next error in the chain
//!   state: what each host serves now
//!   hint: the next command
//! ```

use std::error::Error;
use std::fmt;

use relstore_store::StoreError;
use serde_json::{Value, json};

use crate::config::ConfigError;
use crate::exit_code::ExitCode;

/// Shorthand for what commands return.
pub(crate) type Result<T> = std::result::Result<T, CommandError>;

/// A failure of a command, ready to be printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CommandError {
    pub(crate) code: ExitCode,
    message: String,
    lines: Vec<(Part, String)>,
}

/// What a line below the message is; in the order in which they are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Detail,
    Cause,
    State,
    Hint,
}

impl Part {
    const ALL: [Self; 4] = [Self::Detail, Self::Cause, Self::State, Self::Hint];

    fn label(self) -> &'static str {
        match self {
            Self::Detail => "",
            Self::Cause => "caused by: ",
            Self::State => "state: ",
            Self::Hint => "hint: ",
        }
    }
}

impl CommandError {
    /// An error with a message alone.
    pub(crate) fn new(code: ExitCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            lines: Vec::new(),
        }
    }

    /// A mistake in what the command was given.
    pub(crate) fn bad_input(message: impl Into<String>) -> Self {
        Self::new(ExitCode::BadInput, message)
    }

    /// An error of a library with all its causes.
    pub(crate) fn of(code: ExitCode, error: &dyn Error) -> Self {
        let mut command_error = Self::new(code, error.to_string());
        command_error.add_causes(error);
        command_error
    }

    /// Adds an error and all its causes below the message.
    pub(crate) fn caused_by(mut self, error: &dyn Error) -> Self {
        self.lines.push((Part::Cause, error.to_string()));
        self.add_causes(error);
        self
    }

    fn add_causes(&mut self, error: &dyn Error) {
        let mut source = error.source();
        while let Some(cause) = source {
            let text = cause.to_string();
            // A transparent wrapper would say the same line twice.
            let told = self.lines.last().map_or(&self.message, |(_, line)| line);
            if *told != text {
                self.lines.push((Part::Cause, text));
            }
            source = cause.source();
        }
    }

    /// Adds a line of what is wrong in particular.
    pub(crate) fn detail(mut self, text: impl Into<String>) -> Self {
        self.lines.push((Part::Detail, text.into()));
        self
    }

    /// Adds one line below the message that says why.
    pub(crate) fn cause(mut self, text: impl Into<String>) -> Self {
        self.lines.push((Part::Cause, text.into()));
        self
    }

    /// Adds what is true now.
    pub(crate) fn state(mut self, text: impl Into<String>) -> Self {
        self.lines.push((Part::State, text.into()));
        self
    }

    /// Adds what to do next.
    pub(crate) fn hint(mut self, text: impl Into<String>) -> Self {
        self.lines.push((Part::Hint, text.into()));
        self
    }

    /// What to do after a signal ended something that was changing an environment.
    pub(crate) fn interrupted_hint(self, environment: &str) -> Self {
        match self.code {
            ExitCode::Interrupted => self
                .state("hosts undo what was not confirmed")
                .hint(format!(
                    "`relstore status --env {environment}` shows what they serve"
                )),
            _ => self,
        }
    }

    fn part(&self, part: Part) -> Vec<&str> {
        let lines = self.lines.iter().filter(|(other, _)| *other == part);
        lines.map(|(_, line)| line.as_str()).collect()
    }

    /// The object under `error` in the JSON answer.
    pub(crate) fn to_json(&self) -> Value {
        json!({
            "kind": self.code.name(),
            "exit_code": self.code as u8,
            "message": self.message,
            "details": self.part(Part::Detail),
            "causes": self.part(Part::Cause),
            "state": self.part(Part::State),
            "hints": self.part(Part::Hint),
        })
    }
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.message)?;
        for part in Part::ALL {
            for line in self.part(part) {
                let line = line.trim_end().replace('\n', "\n    ");
                write!(f, "\n  {}{line}", part.label())?;
            }
        }
        Ok(())
    }
}

impl From<StoreError> for CommandError {
    fn from(error: StoreError) -> Self {
        let code = match error {
            StoreError::NoStore { .. }
            | StoreError::NoRelease { .. }
            | StoreError::Occupied { .. } => ExitCode::BadInput,
            _ => ExitCode::Failure,
        };
        let command_error = Self::of(code, &error);
        match error.hint() {
            Some(hint) => command_error.hint(hint),
            None => command_error,
        }
    }
}

impl From<ConfigError> for CommandError {
    fn from(error: ConfigError) -> Self {
        let mut command_error = Self::bad_input(error.to_string());
        match error {
            ConfigError::Problems { file, problems }
            | ConfigError::Unusable { file, problems, .. } => {
                let name = file
                    .file_name()
                    .unwrap_or(file.as_os_str())
                    .to_string_lossy()
                    .into_owned();
                for problem in problems {
                    let separator = if problem.place.is_some() { ":" } else { ": " };
                    command_error = command_error.detail(format!("{name}{separator}{problem}"));
                }
                command_error
            }
            ConfigError::NoEnvironment {
                nearest: Some(near),
                ..
            } => command_error.hint(format!("did you mean `{near}`?")),
            ConfigError::NoEnvironment { known, .. } if known.is_empty() => {
                command_error.hint("add an [env.NAME] section with hosts and base")
            }
            ConfigError::NoEnvironment { known, .. } => {
                command_error.hint(format!("the environments are: {}", known.join(", ")))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::{Config, variables::Variables};

    #[derive(Debug, thiserror::Error)]
    #[error("no connection to web2")]
    struct Outer(#[source] std::io::Error);

    #[test]
    fn error_has_one_line_per_fact_and_causes_in_order() {
        let error = Outer(std::io::Error::other("refused"));
        let error = CommandError::new(ExitCode::StateUnknown, "release 3f9c was not activated")
            .caused_by(&error)
            .state("web1 serves 3f9c")
            .hint("try again");
        assert_eq!(
            error.to_string(),
            "error: release 3f9c was not activated\n  caused by: no connection to web2\n  caused by: refused\n  \
             state: web1 serves 3f9c\n  hint: try again"
        );
        assert_eq!(error.to_json()["exit_code"], 7);
    }

    #[test]
    fn config_problems_are_links_to_the_file() {
        let error = Config::parse(
            "/p/relstore.toml".as_ref(),
            "[buid]\n",
            &Variables::default(),
        )
        .unwrap_err();
        assert_eq!(
            CommandError::from(error).to_string(),
            "error: /p/relstore.toml has 2 problems\n  relstore.toml:1:2: buid: unknown key, did you mean `build`?\n  \
             relstore.toml: app: is missing, it names the application"
        );
    }
}
