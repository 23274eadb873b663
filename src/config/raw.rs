//! What `relstore.toml` says, with places, before anything is defaulted or expanded.
//!
//! [`KEYS`] is the whole surface of the file; `docs/config.md` is compared with it.

use std::collections::BTreeMap;

use super::check::RawCheck;
use super::problem::{Place, Placed, Problem};
use super::reader::{Reader, Section};
use super::step::RawStep;

/// Every section and its keys; `NAME` stands for any environment.
pub(crate) const KEYS: &[(&str, &[&str])] = &[
    (
        "",
        &[
            "app", "build", "gates", "checks", "shared", "writable", "store", "signing", "env",
        ],
    ),
    (
        "build",
        &[
            "root",
            "steps",
            "env",
            "auth",
            "sandbox",
            "trusted_builders",
            "exclude",
            "step",
        ],
    ),
    ("build.step.NAME", super::step::KEYS),
    ("gates", &["off", "warn", "refuse", "allow", "command"]),
    ("gates.allow[]", &["gate", "path", "reason"]),
    ("shared", &["paths"]),
    ("writable", &["paths"]),
    (
        "store",
        &[
            "path",
            "remote",
            "keep_last",
            "keep_for",
            "keep_derivations",
            "grace",
            "remotes",
        ],
    ),
    (
        "store.remotes.NAME",
        &[
            "url",
            "endpoint",
            "region",
            "path_style",
            "token",
            "identity_file",
            "known_hosts",
            "require_signatures",
        ],
    ),
    ("store.remotes.NAME.token", &["env", "file"]),
    ("signing", &["key", "allowed_signers", "revoked"]),
    ("checks.NAME", super::check::KEYS),
    (
        "env.NAME",
        &[
            "extends",
            "transport",
            "hosts",
            "base",
            "url",
            "dotenv",
            "web_group",
            "php",
            "reload",
            "migrate",
            "keep",
            "timeout",
            "identity_file",
            "known_hosts",
            "health",
            "health_attempts",
            "health_interval",
        ],
    ),
    ("env.NAME.health[]", &["path", "bearer"]),
    ("env.NAME.health[].bearer", &["env", "file"]),
];

/// The keys of one section of [`KEYS`].
fn keys(section: &str) -> &'static [&'static str] {
    KEYS.iter()
        .find(|(name, _)| *name == section)
        .map_or(&[], |(_, keys)| keys)
}

type Text = Option<Placed<String>>;
type Texts = Option<Placed<Vec<Placed<String>>>>;

/// The file as written; every field is absent when the file does not say it.
#[derive(Debug, Default)]
pub(crate) struct RawConfig {
    pub(crate) app: Text,
    pub(crate) root: Text,
    pub(crate) steps: Texts,
    pub(crate) step: BTreeMap<String, RawStep>,
    pub(crate) auth: Texts,
    pub(crate) sandbox: Text,
    pub(crate) trusted_builders: Text,
    pub(crate) build_env: BTreeMap<String, Placed<String>>,
    pub(crate) exclude: Texts,
    pub(crate) gates: RawGates,
    pub(crate) checks: Vec<RawCheck>,
    pub(crate) shared: Texts,
    pub(crate) writable: Texts,
    pub(crate) store: RawStore,
    pub(crate) signing_key: Text,
    pub(crate) allowed_signers: Text,
    pub(crate) revoked: Text,
    pub(crate) environments: BTreeMap<String, RawEnvironment>,
}

/// The `[gates]` section.
#[derive(Debug, Default)]
pub(crate) struct RawGates {
    pub(crate) off: Texts,
    pub(crate) warn: Texts,
    pub(crate) refuse: Texts,
    pub(crate) allow: Vec<RawAllow>,
    pub(crate) command: BTreeMap<String, Placed<String>>,
}

/// One entry of `gates.allow`.
#[derive(Debug)]
pub(crate) struct RawAllow {
    pub(crate) key: String,
    pub(crate) gate: Text,
    pub(crate) path: Text,
    pub(crate) reason: Text,
}

/// The `[store]` section.
#[derive(Debug, Default)]
pub(crate) struct RawStore {
    pub(crate) path: Text,
    pub(crate) remote: Text,
    pub(crate) keep_last: Option<Placed<i64>>,
    pub(crate) keep_for: Text,
    pub(crate) keep_derivations: Text,
    pub(crate) grace: Text,
    pub(crate) remotes: BTreeMap<String, RawRemote>,
}

/// One `[store.remotes.NAME]` section.
#[derive(Debug, Default)]
pub(crate) struct RawRemote {
    /// Where the section stands.
    pub(crate) place: Option<Place>,
    pub(crate) url: Text,
    pub(crate) endpoint: Text,
    pub(crate) region: Text,
    pub(crate) path_style: Option<Placed<bool>>,
    pub(crate) token: Option<RawSecret>,
    pub(crate) identity_file: Text,
    pub(crate) known_hosts: Text,
    pub(crate) require_signatures: Option<Placed<bool>>,
}

/// One `[env.NAME]` section.
#[derive(Debug, Clone, Default)]
pub(crate) struct RawEnvironment {
    /// Where the section stands.
    pub(crate) place: Option<Place>,
    pub(crate) extends: Text,
    pub(crate) transport: Text,
    pub(crate) hosts: Texts,
    pub(crate) base: Text,
    pub(crate) url: Text,
    pub(crate) dotenv: Text,
    pub(crate) web_group: Text,
    pub(crate) php: Text,
    pub(crate) reload: Texts,
    pub(crate) migrate: Text,
    pub(crate) keep: Option<Placed<i64>>,
    pub(crate) timeout: Text,
    pub(crate) identity_file: Text,
    pub(crate) known_hosts: Text,
    pub(crate) health: Option<Vec<RawHealth>>,
    pub(crate) health_attempts: Option<Placed<i64>>,
    pub(crate) health_interval: Text,
}

/// One entry of `health`.
#[derive(Debug, Clone)]
pub(crate) struct RawHealth {
    pub(crate) key: String,
    pub(crate) path: Text,
    pub(crate) bearer: Option<RawSecret>,
}

/// Where a secret is to be read from. The file never holds the secret itself.
#[derive(Debug, Clone)]
pub(crate) enum RawSecret {
    Variable(Placed<String>),
    File(Placed<String>),
}

impl RawConfig {
    /// Reads the text of a configuration file. The problems are empty exactly when the file has the
    /// right shape; what its values mean is checked later, and those problems join these.
    pub(crate) fn parse(text: &str) -> (Self, Vec<Problem>) {
        let document = match toml_edit::Document::parse(text) {
            Ok(document) => document,
            Err(error) => {
                let place = error.span().map(|span| Place::of(text, span.start));
                // Only the parser's message: its full text quotes the line, which may hold a secret.
                let message = error.message().trim().replace('\n', ", ");
                return (Self::default(), vec![Problem::new(place, "", message)]);
            }
        };
        let mut reader = Reader::new(text);
        let root = reader.root(&document);
        reader.reject_unknown(&root, keys(""));
        let mut config = Self {
            app: reader.string(&root, "app"),
            ..Self::default()
        };
        if let Some(build) = reader.section(&root, "build") {
            reader.reject_unknown(&build, keys("build"));
            config.root = reader.string(&build, "root");
            config.steps = reader.strings(&build, "steps");
            config.auth = reader.strings(&build, "auth");
            config.sandbox = reader.string(&build, "sandbox");
            config.trusted_builders = reader.string(&build, "trusted_builders");
            if let Some(steps) = reader.section(&build, "step") {
                for name in steps.names() {
                    if let Some(section) = reader.section(&steps, name) {
                        let step = RawStep::read(&mut reader, &section);
                        config.step.insert(name.to_owned(), step);
                    }
                }
            }
            config.build_env = reader.string_map(&build, "env").unwrap_or_default();
            config.exclude = reader.strings(&build, "exclude");
        }
        if let Some(gates) = reader.section(&root, "gates") {
            config.gates = RawGates::read(&mut reader, &gates);
        }
        config.checks = RawCheck::read_all(&mut reader, &root);
        config.shared = only_list(&mut reader, &root, "shared", "paths");
        config.writable = only_list(&mut reader, &root, "writable", "paths");
        if let Some(store) = reader.section(&root, "store") {
            config.store = RawStore::read(&mut reader, &store);
        }
        if let Some(signing) = reader.section(&root, "signing") {
            reader.reject_unknown(&signing, keys("signing"));
            config.signing_key = reader.string(&signing, "key");
            config.allowed_signers = reader.string(&signing, "allowed_signers");
            config.revoked = reader.string(&signing, "revoked");
        }
        if let Some(environments) = reader.section(&root, "env") {
            for name in environments.names() {
                if let Some(section) = reader.section(&environments, name) {
                    config
                        .environments
                        .insert(name.to_owned(), RawEnvironment::read(&mut reader, &section));
                }
            }
        }
        (config, reader.problems)
    }
}

/// A section whose one key is a list of strings.
fn only_list<'a>(reader: &mut Reader<'a>, root: &Section<'a>, name: &str, key: &str) -> Texts {
    let section = reader.section(root, name)?;
    reader.reject_unknown(&section, keys(name));
    reader.strings(&section, key)
}

impl RawGates {
    fn read<'a>(reader: &mut Reader<'a>, section: &Section<'a>) -> Self {
        reader.reject_unknown(section, keys("gates"));
        let allow = reader.sections(section, "allow").unwrap_or_default();
        Self {
            off: reader.strings(section, "off"),
            warn: reader.strings(section, "warn"),
            refuse: reader.strings(section, "refuse"),
            allow: allow
                .iter()
                .map(|entry| RawAllow::read(reader, entry))
                .collect(),
            command: reader.string_map(section, "command").unwrap_or_default(),
        }
    }
}

impl RawAllow {
    fn read<'a>(reader: &mut Reader<'a>, section: &Section<'a>) -> Self {
        let known = keys("gates.allow[]");
        reader.reject_unknown(section, known);
        for name in known
            .iter()
            .filter(|name| !reader.has(section, name))
            .collect::<Vec<_>>()
        {
            reader.problem(section.place, section.key(name), "is missing");
        }
        Self {
            key: section.path.clone(),
            gate: reader.string(section, "gate"),
            path: reader.string(section, "path"),
            reason: reader.string(section, "reason"),
        }
    }
}

impl RawStore {
    fn read<'a>(reader: &mut Reader<'a>, section: &Section<'a>) -> Self {
        reader.reject_unknown(section, keys("store"));
        let mut remotes = BTreeMap::new();
        if let Some(named) = reader.section(section, "remotes") {
            for name in named.names() {
                if let Some(section) = reader.section(&named, name) {
                    remotes.insert(name.to_owned(), RawRemote::read(reader, &section));
                }
            }
        }
        Self {
            path: reader.string(section, "path"),
            remote: reader.string(section, "remote"),
            keep_last: reader.integer(section, "keep_last"),
            keep_for: reader.string(section, "keep_for"),
            keep_derivations: reader.string(section, "keep_derivations"),
            grace: reader.string(section, "grace"),
            remotes,
        }
    }
}

impl RawRemote {
    fn read<'a>(reader: &mut Reader<'a>, section: &Section<'a>) -> Self {
        reader.reject_unknown(section, keys("store.remotes.NAME"));
        if !reader.has(section, "url") {
            reader.problem(section.place, section.key("url"), "is missing");
        }
        Self {
            place: section.place,
            url: reader.string(section, "url"),
            endpoint: reader.string(section, "endpoint"),
            region: reader.string(section, "region"),
            path_style: reader.boolean(section, "path_style"),
            token: RawSecret::read(reader, section, "token"),
            identity_file: reader.string(section, "identity_file"),
            known_hosts: reader.string(section, "known_hosts"),
            require_signatures: reader.boolean(section, "require_signatures"),
        }
    }
}

impl RawEnvironment {
    fn read<'a>(reader: &mut Reader<'a>, section: &Section<'a>) -> Self {
        reader.reject_unknown(section, keys("env.NAME"));
        Self {
            place: section.place,
            extends: reader.string(section, "extends"),
            transport: reader.string(section, "transport"),
            hosts: reader.strings(section, "hosts"),
            base: reader.string(section, "base"),
            url: reader.string(section, "url"),
            dotenv: reader.string(section, "dotenv"),
            web_group: reader.string(section, "web_group"),
            php: reader.string(section, "php"),
            reload: reader.strings(section, "reload"),
            migrate: reader.string(section, "migrate"),
            keep: reader.integer(section, "keep"),
            timeout: reader.string(section, "timeout"),
            identity_file: reader.string(section, "identity_file"),
            known_hosts: reader.string(section, "known_hosts"),
            health: reader.sections(section, "health").map(|entries| {
                entries
                    .iter()
                    .map(|entry| RawHealth::read(reader, entry))
                    .collect()
            }),
            health_attempts: reader.integer(section, "health_attempts"),
            health_interval: reader.string(section, "health_interval"),
        }
    }

    /// This environment with everything it does not say taken from its parent.
    pub(crate) fn or(self, parent: Self) -> Self {
        Self {
            place: self.place,
            extends: self.extends,
            transport: self.transport.or(parent.transport),
            hosts: self.hosts.or(parent.hosts),
            base: self.base.or(parent.base),
            url: self.url.or(parent.url),
            dotenv: self.dotenv.or(parent.dotenv),
            web_group: self.web_group.or(parent.web_group),
            php: self.php.or(parent.php),
            reload: self.reload.or(parent.reload),
            migrate: self.migrate.or(parent.migrate),
            keep: self.keep.or(parent.keep),
            timeout: self.timeout.or(parent.timeout),
            identity_file: self.identity_file.or(parent.identity_file),
            known_hosts: self.known_hosts.or(parent.known_hosts),
            health: self.health.or(parent.health),
            health_attempts: self.health_attempts.or(parent.health_attempts),
            health_interval: self.health_interval.or(parent.health_interval),
        }
    }
}

impl RawHealth {
    fn read<'a>(reader: &mut Reader<'a>, section: &Section<'a>) -> Self {
        reader.reject_unknown(section, keys("env.NAME.health[]"));
        let path = reader.string(section, "path");
        if !reader.has(section, "path") {
            reader.problem(section.place, section.key("path"), "is missing");
        }
        Self {
            key: section.path.clone(),
            path,
            bearer: RawSecret::read(reader, section, "bearer"),
        }
    }
}

impl RawSecret {
    fn read<'a>(reader: &mut Reader<'a>, section: &Section<'a>, name: &str) -> Option<Self> {
        const HOW: &str = "write { env = \"NAME\" } or { file = \"PATH\" }";
        if !reader.has(section, name) {
            return None;
        }
        let place = reader.key_place(section, name);
        if !reader.is_table(section, name) {
            reader.problem(
                place,
                section.key(name),
                format!("a secret never stands in this file, {HOW}"),
            );
            return None;
        }
        let table = reader.section(section, name)?;
        reader.reject_unknown(&table, keys("env.NAME.health[].bearer"));
        match (reader.string(&table, "env"), reader.string(&table, "file")) {
            (Some(variable), None) => Some(Self::Variable(variable)),
            (None, Some(file)) => Some(Self::File(file)),
            _ => {
                reader.problem(
                    place,
                    section.key(name),
                    format!("must name one source, {HOW}"),
                );
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> Vec<String> {
        RawConfig::parse(text)
            .1
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn all_problems_are_reported_together_with_place_and_nearest_key() {
        let text = "aap = \"x\"\n[build]\nstps = [\"composer\"]\nsteps = \"composer\"\nexclude = [1]\n\
                    [env.prod]\nkeep = \"five\"\nhealth = [{ path = \"/up\" }, 3, {}]\n[databse]\n";
        assert_eq!(
            problems(text),
            [
                "1:1: aap: unknown key, did you mean `app`?",
                "9:2: databse: unknown key, known here: app, build, gates, checks, shared, writable, store, signing, env",
                "3:1: build.stps: unknown key, did you mean `steps`?",
                "4:9: build.steps: must be a list of strings, not a string",
                "5:12: build.exclude[0]: must be a string, not a whole number",
                "7:8: env.prod.keep: must be a whole number, not a string",
                "8:29: env.prod.health[1]: must be a table, not a whole number",
                "8:32: env.prod.health[2].path: is missing",
            ]
        );
    }

    #[test]
    fn literal_secret_is_refused_and_not_repeated() {
        let found = problems("[env.prod]\nhealth = [{ path = \"/\", bearer = \"s3ntinel\" }]\n");
        assert_eq!(
            found,
            [
                "2:25: env.prod.health[0].bearer: a secret never stands in this file, \
              write { env = \"NAME\" } or { file = \"PATH\" }"
            ]
        );
        let syntax = problems("[env.prod]\nhealth = [{ bearer = \"s3ntinel\n");
        assert_eq!(syntax.len(), 1);
        assert!(!syntax[0].contains("s3ntinel"), "{syntax:?}");
    }

    #[test]
    fn health_may_be_an_array_of_tables() {
        let (config, problems) = RawConfig::parse(
            "[[env.p.health]]\npath = \"/a\"\n[[env.p.health]]\npath = \"/b\"\nbearer.env = \"T\"\n",
        );
        assert_eq!(problems, []);
        let health = config.environments["p"].health.as_ref().map(Vec::len);
        assert_eq!(health, Some(2));
    }

    #[test]
    fn nasty_texts_give_problems_and_never_panics() {
        for text in [
            "\u{0}",
            "=",
            "[",
            "[env]\nprod = 1",
            "env = 3",
            "app = 1979-01-01",
            "a.b.c = {",
            "[build.env]\nX = 1",
        ] {
            assert!(!problems(text).is_empty(), "{text:?}");
        }
        assert!(problems("").is_empty());
    }
}
