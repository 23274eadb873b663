//! What the application says about itself when it is booted at build time: routes, schedule, names
//! of its configuration and of the variables it reads. For comparison of releases, and for checks
//! of an environment before a deploy. Pure: the script is run by a build step.
//!
//! No value of the configuration or the environment is among it. Each part is known or says why it
//! is not: a route file that needs a database says nothing about the schedule.

use relstore_store::id::ReleaseId;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::provenance::statement;

/// Predicate type of the record; its predicate is an [`AppFacts`].
pub const PREDICATE: &str = "urn:relstore:application:1";

/// The PHP file that finds them. It is run in the folder of the application, its dependencies
/// installed, in [`crate::preset::dummy_environment`], and prints one line of JSON; it writes nothing into the folder.
#[must_use]
pub const fn script() -> &'static str {
    include_str!("facts/script.php")
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppFacts {
    /// Version of PHP that booted it.
    pub php: String,
    /// Version of Laravel.
    pub laravel: Part<String>,
    /// In the order in which they are tried.
    pub routes: Part<Vec<Route>>,
    /// In the order in which they were added.
    pub schedule: Part<Vec<ScheduledTask>>,
    /// Names with dots; a list has one name.
    pub config: Part<Vec<String>>,
    /// By name.
    pub env: Part<Vec<EnvKey>>,
}

/// A part that is known, or why it is not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part<T> {
    /// What was found.
    Value(T),
    /// The message of PHP.
    Error(String),
}

impl<T> Part<T> {
    /// What was found.
    pub fn value(&self) -> Option<&T> {
        match self {
            Self::Value(value) => Some(value),
            Self::Error(_) => None,
        }
    }
}

/// An address that the application answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// `GET`, `HEAD`, ...
    pub methods: Vec<String>,
    /// Without the slash in front.
    pub uri: String,
    /// For links.
    pub name: Option<String>,
    /// Class and method, or `Closure`.
    pub action: String,
    /// When only one host has it.
    pub domain: Option<String>,
    /// What a request passes through.
    pub middleware: Vec<String>,
}

/// Something that runs at times.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScheduledTask {
    /// As in crontab.
    pub expression: String,
    /// `None` for a closure or job.
    pub command: Option<String>,
    /// What the application calls it.
    pub description: Option<String>,
    /// `None` is the one of the application.
    pub timezone: Option<String>,
    /// Only there; empty means everywhere.
    pub environments: Vec<String>,
    /// Whether it waits for its last run.
    pub without_overlapping: bool,
    /// Whether only one host runs it.
    pub on_one_server: bool,
    /// Whether the next one does not wait for it.
    pub in_background: bool,
    /// Whether maintenance mode does not stop it.
    pub even_in_maintenance_mode: bool,
}

/// A variable that the application reads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvKey {
    /// Its name.
    pub name: String,
    /// Whether `.env.example` has it.
    pub example: bool,
    /// Whether a file in `config` asks for it.
    pub config: bool,
    /// Whether at least one of those can do without it.
    pub default: bool,
}

/// Why there are no facts.
#[derive(Debug, thiserror::Error)]
pub enum FactsError {
    /// PHP ended before it could say anything.
    #[error("the application said nothing about itself")]
    Nothing,
    /// It is not what the script says.
    #[error("what the application said about itself cannot be read")]
    Unreadable(#[source] serde_json::Error),
}

/// Reads what the script printed: the last line that is an answer of it, for the application may
/// print something before and, when it ends, after it.
///
/// # Errors
/// A [`FactsError`].
pub fn parse(stdout: &[u8]) -> Result<AppFacts, FactsError> {
    let mut lines = stdout.rsplit(|&byte| byte == b'\n');
    let answer = lines.find(|line| line.starts_with(b"{\"facts\":1,"));
    serde_json::from_slice(answer.ok_or(FactsError::Nothing)?).map_err(FactsError::Unreadable)
}

impl AppFacts {
    /// The record: an in-toto statement, one JSON document with a line end.
    #[must_use]
    pub fn record(&self, release: &ReleaseId, manifest: &[u8]) -> Vec<u8> {
        statement(release, manifest, PREDICATE, &json!(self))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const SAID: &str = r#"Deprecated: something
{"facts":1,"php":"8.2.1","laravel":{"value":"8.83.26"},"routes":{"value":[{"methods":["GET","HEAD"],"uri":"/","name":null,"action":"Closure","domain":null,"middleware":["web"]}]},"schedule":{"error":"RuntimeException: no"},"config":{"value":["app.name"]},"env":{"value":[{"name":"APP_KEY","example":true,"config":true,"default":false}]}}
Bye
"#;

    #[test]
    fn answer_is_found_among_what_the_application_prints() {
        let facts = parse(SAID.as_bytes()).unwrap();
        assert_eq!(facts.laravel.value().unwrap(), "8.83.26");
        assert_eq!(facts.routes.value().unwrap()[0].middleware, ["web"]);
        assert_eq!(
            facts.schedule,
            Part::Error("RuntimeException: no".to_owned())
        );
        assert!(matches!(parse(b"Killed\n"), Err(FactsError::Nothing)));
        assert!(matches!(
            parse(b"{\"facts\":1,}\n"),
            Err(FactsError::Unreadable(_))
        ));
    }

    #[test]
    fn record_is_a_statement_about_the_release() {
        let facts = parse(SAID.as_bytes()).unwrap();
        let release = ReleaseId::of(b"x");
        let record = facts.record(&release, b"x");
        let json: serde_json::Value = serde_json::from_slice(&record).unwrap();
        assert_eq!(json["predicateType"], PREDICATE);
        assert_eq!(json["subject"][0]["name"], release.to_string());
        let again: AppFacts = serde_json::from_value(json["predicate"].clone()).unwrap();
        assert_eq!(again, facts);
    }
}
