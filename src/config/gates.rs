//! `[gates]`: which gates are asked, what they may find, and the project's own ones.

use relstore_builder::gate::{Allow, CommandGate, Settings, has_paths, ids};

use super::problem::nearest;
use super::raw::{RawAllow, RawGates};
use super::resolver::Resolver;
use super::value;

/// Longest id of a gate of the project's own.
const MAX_NAME: usize = 40;

impl Resolver<'_> {
    /// The settings of the gates; what is wrong is noted and left out.
    pub(super) fn gates(&mut self, raw: &RawGates) -> Settings {
        let commands = self.gate_commands(raw);
        let own: Vec<&str> = raw.command.keys().map(String::as_str).collect();
        let known: Vec<&str> = ids().into_iter().chain(own.iter().copied()).collect();
        let off = |text: &str| gate_id(text, &known);
        let off = self.list("gates.off", raw.off.as_ref(), off);
        let off = off.unwrap_or_default();
        let change = |text: &str, taken: &[&[String]]| {
            let id = gate_id(text, &known)?;
            if !has_paths(&id) && !own.contains(&text) {
                return Err(
                    "is a gate of structure, which hosts insist on: it can only be off".to_owned(),
                );
            }
            match taken.iter().any(|list| list.contains(&id)) {
                true => Err("stands in two of off, warn and refuse".to_owned()),
                false => Ok(id),
            }
        };
        let warn = self.list("gates.warn", raw.warn.as_ref(), |text| {
            change(text, &[&off])
        });
        let warn = warn.unwrap_or_default();
        let refuse = |text: &str| change(text, &[&off, &warn]);
        let refuse = self.list("gates.refuse", raw.refuse.as_ref(), refuse);
        let refuse = refuse.unwrap_or_default();
        let allow = raw.allow.iter();
        Settings {
            allow: allow
                .filter_map(|entry| self.allow(entry, &known))
                .collect(),
            off,
            warn,
            refuse,
            commands,
        }
    }

    fn gate_commands(&mut self, raw: &RawGates) -> Vec<CommandGate> {
        let mut commands = Vec::new();
        for (name, line) in &raw.command {
            let key = format!("gates.command.{name}");
            let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            let well_formed = name.len() <= MAX_NAME
                && name.starts_with(|c: char| c.is_ascii_lowercase())
                && name.chars().all(plain);
            if ids().contains(&name.as_str()) {
                let message = "is the name of a gate that is there already";
                self.problem(Some(line.place), &key, message);
            } else if !well_formed {
                let message =
                    "must have a name of a-z, 0-9 and `-` that begins with a letter, at most 40";
                self.problem(Some(line.place), &key, message);
            }
            if let Some(words) = self.checked(&key, Some(line), value::command) {
                let name = name.clone();
                commands.push(CommandGate { name, words });
            }
        }
        commands
    }

    fn allow(&mut self, raw: &RawAllow, known: &[&str]) -> Option<Allow> {
        let key = |name| format!("{}.{name}", raw.key);
        let gate = self.checked(&key("gate"), raw.gate.as_ref(), |text| {
            match gate_id(text, known)? {
                id if has_paths(&id) => Ok(id),
                _ => Err("finds nothing that could be allowed by its path".to_owned()),
            }
        });
        let path = self.checked(&key("path"), raw.path.as_ref(), |text| {
            match Allow::new("", text, "") {
                Ok(_) => Ok(text.to_owned()),
                Err(error) => Err(error.reason.to_owned()),
            }
        });
        let reason = self.checked(&key("reason"), raw.reason.as_ref(), |text| {
            match text.trim() {
                "" => Err("must say why, it is recorded with the release".to_owned()),
                reason => Ok(reason.to_owned()),
            }
        });
        Allow::new(&gate?, &path?, &reason?).ok()
    }
}

/// Checks the id of a gate.
fn gate_id(text: &str, known: &[&str]) -> Result<String, String> {
    if known.contains(&text) {
        return Ok(text.to_owned());
    }
    Err(match nearest(text, known.iter().copied()) {
        Some(near) => format!("is no gate, did you mean `{near}`?"),
        None => format!("is no gate, the gates are: {}", known.join(", ")),
    })
}
