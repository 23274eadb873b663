//! What an `[env.NAME]` section means: what it inherits, its defaults, its checks. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::problem::{Problem, nearest};
use super::raw::{RawEnvironment, RawHealth};
use super::resolver::Resolver;
use super::value::{self, HostAddress};
use super::{Environment, Health, Migrate, Transport};

impl Resolver<'_> {
    /// The section with all that it inherits; `None` (noted) for an unknown parent or a circle.
    fn inherited(
        &mut self,
        name: &str,
        section: &RawEnvironment,
        all: &BTreeMap<String, RawEnvironment>,
    ) -> Option<RawEnvironment> {
        let mut merged = section.clone();
        let mut seen = BTreeSet::from([name.to_owned()]);
        let mut extends = section.extends.clone();
        while let Some(parent) = extends {
            let key = format!("env.{name}.extends");
            let Some(section) = all.get(&parent.value) else {
                let near = nearest(&parent.value, all.keys().map(String::as_str));
                let near = near
                    .map(|near| format!(", did you mean `{near}`?"))
                    .unwrap_or_default();
                self.problem(
                    Some(parent.place),
                    &key,
                    format!("there is no [env.{}]{near}", parent.value),
                );
                return None;
            };
            if !seen.insert(parent.value.clone()) {
                self.problem(
                    Some(parent.place),
                    &key,
                    "the environments extend each other in a circle",
                );
                return None;
            }
            merged = merged.or(section.clone());
            extends = section.extends.clone();
        }
        Some(merged)
    }

    pub(super) fn environment(
        &mut self,
        name: &str,
        section: &RawEnvironment,
        all: &BTreeMap<String, RawEnvironment>,
    ) -> Option<Environment> {
        let key = |field: &str| format!("env.{name}.{field}");
        if let Err(message) = value::name(name) {
            self.problem(
                section.place,
                &format!("env.{name}"),
                format!("the name {message}"),
            );
        }
        let raw = self.inherited(name, section, all)?;
        let transport = self.checked(
            &key("transport"),
            raw.transport.as_ref(),
            |text| match text {
                "ssh" => Ok(Transport::Ssh),
                "local" => Ok(Transport::Local),
                _ => Err("must be \"ssh\" or \"local\"".to_owned()),
            },
        );
        let transport = transport.unwrap_or(Transport::Ssh);
        let hosts = self
            .list(&key("hosts"), raw.hosts.as_ref(), HostAddress::parse)
            .unwrap_or_default();
        self.check_hosts(&key("hosts"), &raw, transport, &hosts, is_parent(name, all));
        let base = self.checked(&key("base"), raw.base.as_ref(), value::base);
        if raw.base.is_none() {
            self.missing(
                &raw,
                &key("base"),
                "is missing, it is the folder on the host",
                is_parent(name, all),
            );
        }
        let url = self.checked(&key("url"), raw.url.as_ref(), value::url);
        let health: Vec<Health> = raw
            .health
            .iter()
            .flatten()
            .filter_map(|entry| self.health(entry))
            .collect();
        if !health.is_empty() && raw.url.is_none() {
            self.missing(
                &raw,
                &key("url"),
                "is missing, health requests need it",
                is_parent(name, all),
            );
        }
        let migrate = self.checked(&key("migrate"), raw.migrate.as_ref(), |text| match text {
            "run" => Ok(Migrate::Run),
            "off" => Ok(Migrate::Off),
            _ => Err("must be \"run\" or \"off\"".to_owned()),
        });
        let environment = Environment {
            name: name.to_owned(),
            transport,
            hosts,
            base: base.unwrap_or_default(),
            url,
            dotenv: self
                .checked(&key("dotenv"), raw.dotenv.as_ref(), value::inner_path)
                .unwrap_or_else(|| "shared/.env".to_owned()),
            web_group: self
                .checked(&key("web_group"), raw.web_group.as_ref(), value::name)
                .unwrap_or_else(|| "www-data".to_owned()),
            php: self
                .checked(&key("php"), raw.php.as_ref(), program)
                .unwrap_or_else(|| "php".to_owned()),
            reload: self
                .list(&key("reload"), raw.reload.as_ref(), value::command)
                .unwrap_or_default(),
            migrate: migrate.unwrap_or(Migrate::Off),
            keep: self.number(&key("keep"), raw.keep.as_ref(), 5),
            timeout: self
                .checked(&key("timeout"), raw.timeout.as_ref(), value::duration)
                .unwrap_or(std::time::Duration::from_secs(600)),
            identity_file: self
                .text(&key("identity_file"), raw.identity_file.as_ref())
                .map(|p| self.path(&p.value)),
            known_hosts: self
                .text(&key("known_hosts"), raw.known_hosts.as_ref())
                .map(|p| self.path(&p.value)),
            health,
            health_attempts: self.number(&key("health_attempts"), raw.health_attempts.as_ref(), 6),
            health_interval: self
                .checked(
                    &key("health_interval"),
                    raw.health_interval.as_ref(),
                    value::duration,
                )
                .unwrap_or(std::time::Duration::from_secs(5)),
        };
        (self.problems.is_empty() && self.undefined.is_empty()).then_some(environment)
    }

    fn check_hosts(
        &mut self,
        key: &str,
        raw: &RawEnvironment,
        transport: Transport,
        hosts: &[HostAddress],
        parent: bool,
    ) {
        let place = raw.hosts.as_ref().map(|hosts| hosts.place);
        let written = raw.hosts.as_ref().map_or(0, |hosts| hosts.value.len());
        match transport {
            Transport::Ssh if written == 0 => self.missing(
                raw,
                key,
                "is missing or empty, write hosts = [\"user@host\"]",
                parent,
            ),
            Transport::Local if written > 0 => self.problem(
                place,
                key,
                "transport \"local\" is this machine, it has no hosts",
            ),
            _ => {}
        }
        let distinct: BTreeSet<_> = hosts.iter().collect();
        if distinct.len() < hosts.len() {
            self.problem(place, key, "names a host twice");
        }
    }

    /// Notes a key that is missing; in a section that others extend only when it is used itself.
    fn missing(&mut self, raw: &RawEnvironment, key: &str, message: &str, parent: bool) {
        let problem = Problem::new(raw.place, key, message);
        if parent {
            self.undefined.push(problem);
        } else {
            self.problems.push(problem);
        }
    }

    fn health(&mut self, raw: &RawHealth) -> Option<Health> {
        let path = self.checked(
            &format!("{}.path", raw.key),
            raw.path.as_ref(),
            value::url_path,
        );
        let key = format!("{}.bearer", raw.key);
        let bearer = raw.bearer.as_ref().and_then(|raw| self.secret(&key, raw));
        Some(Health {
            path: path?,
            bearer,
        })
    }
}

/// Whether another environment extends this one.
fn is_parent(name: &str, all: &BTreeMap<String, RawEnvironment>) -> bool {
    all.values().any(|other| {
        other
            .extends
            .as_ref()
            .is_some_and(|parent| parent.value == name)
    })
}

/// A program: a name or an absolute path of plain characters, since hosts run it.
fn program(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '/' | '-' | '+');
    if text.is_empty() || text.starts_with('-') || !text.chars().all(plain) {
        return Err("must be a program name or path of A-Z a-z 0-9 . _ - + /".to_owned());
    }
    Ok(text.to_owned())
}
