//! One entry of `[checks]`: what the file says, and what it means. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use relstore_builder::check::{Check, Group};
use relstore_builder::service::Service;

use super::problem::{Place, Placed, nearest};
use super::reader::{Reader, Section};
use super::resolver::Resolver;
use super::value;

/// The keys of a check that is a table.
pub(super) const KEYS: &[&str] = &[
    "run",
    "group",
    "services",
    "junit",
    "coverage",
    "env",
    "network",
    "required",
    "time_limit",
];

/// Longest time a check may take when nobody says.
const TIME_LIMIT: Duration = Duration::from_secs(30 * 60);

type Text = Option<Placed<String>>;

/// A check as written: a command alone, or a table.
#[derive(Debug, Clone, Default)]
pub(crate) struct RawCheck {
    pub(crate) name: String,
    place: Option<Place>,
    run: Text,
    group: Text,
    services: Option<Placed<Vec<Placed<String>>>>,
    junit: Text,
    coverage: Text,
    env: BTreeMap<String, Placed<String>>,
    network: Option<Placed<bool>>,
    required: Option<Placed<bool>>,
    time_limit: Text,
}

impl RawCheck {
    /// Reads `[checks]`, in the order of the file.
    pub(super) fn read_all<'a>(reader: &mut Reader<'a>, root: &Section<'a>) -> Vec<Self> {
        let Some(checks) = reader.section(root, "checks") else {
            return Vec::new();
        };
        let names = checks.names().into_iter();
        names
            .filter_map(|name| Self::read(reader, &checks, name))
            .collect()
    }

    fn read<'a>(reader: &mut Reader<'a>, checks: &Section<'a>, name: &str) -> Option<Self> {
        let raw = Self {
            name: name.to_owned(),
            place: reader.key_place(checks, name),
            ..Self::default()
        };
        if !reader.is_table(checks, name) {
            let run = reader.string(checks, name)?;
            return Some(Self {
                run: Some(run),
                ..raw
            });
        }
        let section = reader.section(checks, name)?;
        reader.reject_unknown(&section, KEYS);
        if !reader.has(&section, "run") {
            reader.problem(section.place, section.key("run"), "is missing");
        }
        Some(Self {
            run: reader.string(&section, "run"),
            group: reader.string(&section, "group"),
            services: reader.strings(&section, "services"),
            junit: reader.string(&section, "junit"),
            coverage: reader.string(&section, "coverage"),
            env: reader.string_map(&section, "env").unwrap_or_default(),
            network: reader.boolean(&section, "network"),
            required: reader.boolean(&section, "required"),
            time_limit: reader.string(&section, "time_limit"),
            ..raw
        })
    }
}

impl Resolver<'_> {
    /// The check, with its defaults; `None` (noted) when its command or a path is wrong.
    pub(super) fn check(&mut self, raw: &RawCheck) -> Option<Check> {
        let section = format!("checks.{}", raw.name);
        let key = |field: &str| format!("{section}.{field}");
        if let Err(message) = value::name(&raw.name) {
            self.problem(raw.place, &section, format!("the name {message}"));
        }
        let group = self.checked(&key("group"), raw.group.as_ref(), group);
        let services = self.list(&key("services"), raw.services.as_ref(), service);
        let time_limit = self.checked(&key("time_limit"), raw.time_limit.as_ref(), value::duration);
        let junit = self.checked(&key("junit"), raw.junit.as_ref(), value::inner_path);
        let coverage = self.checked(&key("coverage"), raw.coverage.as_ref(), value::inner_path);
        let env = self.environment_variables(&key("env"), &raw.env);
        Some(Check {
            name: raw.name.clone(),
            command: self.checked(&key("run"), raw.run.as_ref(), value::command)?,
            group: group.unwrap_or(Group::Fast),
            services: services.unwrap_or_default(),
            junit,
            coverage,
            env,
            network: raw.network.as_ref().is_some_and(|network| network.value),
            required: raw.required.as_ref().is_none_or(|required| required.value),
            time_limit: time_limit.unwrap_or(TIME_LIMIT),
        })
    }
}

fn group(text: &str) -> Result<Group, String> {
    text.parse()
        .map_err(|_| "must be \"fast\", \"medium\" or \"slow\"".to_owned())
}

fn service(text: &str) -> Result<Service, String> {
    let names = || Service::ALL.into_iter().map(Service::name);
    text.parse().map_err(|_| match nearest(text, names()) {
        Some(near) => format!("is no service, did you mean `{near}`?"),
        None => format!(
            "is no service, the services are: {}",
            names().collect::<Vec<_>>().join(", ")
        ),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;
    use crate::config::variables::Variables;
    use crate::config::{Config, ConfigError};

    fn parse(checks: &str) -> Result<Config, ConfigError> {
        let text = format!("app = \"a\"\n[checks]\n{checks}");
        let variables = Variables::from_iter([("LEVEL", "5")]);
        Config::parse("/p/relstore.toml".as_ref(), &text, &variables)
    }

    fn problems(checks: &str) -> Vec<String> {
        match parse(checks) {
            Err(ConfigError::Problems { problems, .. }) => {
                problems.iter().map(ToString::to_string).collect()
            }
            other => panic!("expected problems, got {other:?}"),
        }
    }

    #[test]
    fn command_alone_is_a_required_fast_check() {
        let config = parse("lint = \"vendor/bin/pint --test 'a b'\"\n").unwrap();
        assert_eq!(
            config.checks,
            [Check {
                name: "lint".to_owned(),
                command: ["vendor/bin/pint", "--test", "a b"]
                    .map(str::to_owned)
                    .into(),
                group: Group::Fast,
                services: Vec::new(),
                junit: None,
                coverage: None,
                env: BTreeMap::new(),
                network: false,
                required: true,
                time_limit: Duration::from_secs(1800),
            }]
        );
        assert!(parse("").unwrap().checks.is_empty());
    }

    #[test]
    fn table_says_the_rest_and_the_order_of_the_file_stays() {
        let config = parse(
            "tests = { run = \"vendor/bin/pest --level=${LEVEL}\", services = [\"mariadb\"], junit = \"logs/junit.xml\", \
             coverage = \"clover.xml\", group = \"slow\", time_limit = \"10m\", env = { APP_ENV = \"testing\" } }\n\
             audit = { run = \"composer audit\", network = true, required = false }\n\
             [checks.last]\nrun = \"x\"\n",
        )
        .unwrap();
        let names: Vec<&str> = config
            .checks
            .iter()
            .map(|check| check.name.as_str())
            .collect();
        assert_eq!(names, ["tests", "audit", "last"]);
        let tests = &config.checks[0];
        assert_eq!(tests.command[1], "--level=5");
        assert_eq!(
            (tests.group, &tests.services[..]),
            (Group::Slow, &[Service::MariaDb][..])
        );
        assert_eq!(tests.junit.as_deref(), Some("logs/junit.xml"));
        assert_eq!(tests.coverage.as_deref(), Some("clover.xml"));
        assert_eq!(tests.env["APP_ENV"], "testing");
        assert_eq!(tests.time_limit, Duration::from_secs(600));
        assert!(config.checks[1].network && !config.checks[1].required);
    }

    #[test]
    fn every_mistake_has_its_place() {
        assert_eq!(
            problems(
                "\"a b\" = \"x\"\nb = 3\nc = { group = \"quick\" }\nd = { run = \"x | y\", services = [\"mariabd\", \"redis\"] }\n\
                 e = { run = \"x\", junit = \"../j.xml\", network = \"yes\", tme_limit = \"5\" }\n"
            ),
            [
                "3:1: checks.a b: the name must begin with a letter or digit and hold only A-Z a-z 0-9 . _ -, at most 64",
                "4:5: checks.b: must be a string, not a whole number",
                "5:1: checks.c.run: is missing",
                "5:15: checks.c.group: \"quick\" must be \"fast\", \"medium\" or \"slow\"",
                "6:13: checks.d.run: \"x | y\" holds `|`, but no shell runs it, write sh -c '...' if you need one",
                "6:34: checks.d.services[0]: \"mariabd\" is no service, did you mean `mariadb`?",
                "6:45: checks.d.services[1]: \"redis\" is no service, the services are: mariadb",
                "7:26: checks.e.junit: \"../j.xml\" must not hold empty names, `.` or `..`",
                "7:48: checks.e.network: must be true or false, not a string",
                "7:55: checks.e.tme_limit: unknown key, did you mean `time_limit`?",
            ]
        );
    }
}
