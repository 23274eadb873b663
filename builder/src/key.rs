//! When two steps make the same: the key of a derivation. Pure.
//!
//! The key is the plain BLAKE3-256 of a text, written here by hand and held by a golden test; no
//! secret, time, place or user is in it. One line per fact, fields separated by TAB, every byte
//! outside 0x20-0x7e and `\` written `\xhh`, LF at the end of each line:
//!
//! ```text
//! relstore-derivation 1
//! step     <name>
//! command  <program> <argument>...            one line per command, in order
//! env      <name> <value>                     sorted
//! epoch    <SOURCE_DATE_EPOCH>
//! network  yes | no
//! sandbox  yes | no                           whether it really ran in one
//! tool     <name> <identity>                  sorted, see `tool`
//! output   <path>                             in order
//! provided <path> <blob id>                   files that are no part of the source
//! made     <step> <manifest id>               what it sees of other steps' outputs
//! input    <kind> <blob or target> <path>     what it sees of the source, sorted by path;
//!                                             kinds as in a manifest: f x l d
//! ```

use std::collections::BTreeMap;

use relstore_store::id::{BlobId, DerivationKey, ReleaseId};
use relstore_store::name::escape;

use crate::source_tree::{Content, SourceEntry};
use crate::step::Step;

const HEADER: &str = "relstore-derivation 1\n";

/// All that a step's output depends on.
#[derive(Debug)]
pub(crate) struct KeyFacts<'a> {
    pub(crate) step: &'a Step,
    /// SOURCE_DATE_EPOCH as the step gets it.
    pub(crate) epoch: u64,
    pub(crate) sandboxed: bool,
    pub(crate) tools: &'a BTreeMap<String, String>,
    pub(crate) made: &'a [(String, ReleaseId)],
    pub(crate) inputs: &'a [&'a SourceEntry],
}

/// The text whose hash is the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeyText(String);

impl KeyText {
    /// Writes the text.
    pub(crate) fn of(facts: &KeyFacts<'_>) -> Self {
        let step = facts.step;
        let mut text = KeyText(HEADER.to_owned());
        text.line("step", [step.name.as_str()]);
        for command in &step.commands {
            let args = command.args.iter().map(String::as_str);
            text.line(
                "command",
                [command.program.as_str()].into_iter().chain(args),
            );
        }
        for (name, value) in &step.env {
            text.line("env", [name.as_str(), value]);
        }
        text.line("epoch", [facts.epoch.to_string().as_str()]);
        text.line("network", [yes(step.network)]);
        text.line("sandbox", [yes(facts.sandboxed)]);
        for (tool, identity) in facts.tools {
            text.line("tool", [tool.as_str(), identity]);
        }
        for output in &step.outputs {
            text.line("output", [output.path.to_string().as_str()]);
        }
        for (path, content) in &step.provided {
            let blob = BlobId::of(content.as_bytes()).to_string();
            text.line("provided", [*path, &blob]);
        }
        for (step, id) in facts.made {
            text.line("made", [step.as_str(), &id.to_string()]);
        }
        for entry in facts.inputs {
            text.input(entry);
        }
        text
    }

    fn line<'a>(&mut self, label: &str, fields: impl IntoIterator<Item = &'a str>) {
        self.0.push_str(label);
        for field in fields {
            self.0.push('\t');
            self.0.push_str(&escape(field.as_bytes()));
        }
        self.0.push('\n');
    }

    fn input(&mut self, entry: &SourceEntry) {
        let (kind, content) = match &entry.content {
            Content::File { executable, blob } => {
                let kind = if *executable { "x" } else { "f" };
                (
                    kind,
                    entry.cleaned.clone().unwrap_or_else(|| blob.to_string()),
                )
            }
            Content::Link(target) => ("l", escape(target)),
            Content::EmptyDir => ("d", "-".to_owned()),
        };
        // Fields that are escaped already.
        for field in ["input", kind, &content] {
            self.0.push_str(field);
            self.0.push('\t');
        }
        self.0.push_str(&escape(&entry.path));
        self.0.push('\n');
    }

    /// The key.
    pub(crate) fn key(&self) -> DerivationKey {
        DerivationKey::of(self.0.as_bytes())
    }

    /// A hash over what the step sees alone, 32 hex digits: it changes whenever a file does.
    pub(crate) fn inputs_digest(&self) -> String {
        let seen: String = self
            .0
            .lines()
            .filter(|line| line.starts_with("input\t") || line.starts_with("made\t"))
            .flat_map(|line| [line, "\n"])
            .collect();
        let mut digest = DerivationKey::of(seen.as_bytes()).to_string();
        digest.truncate(32);
        digest
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

const fn yes(value: bool) -> &'static str {
    if value { "yes" } else { "no" }
}

/// What differs between two texts of one step, in words for people; empty when they are equal.
pub(crate) fn reasons(before: &str, after: &str) -> Vec<String> {
    let (old, new) = (facts_of(before), facts_of(after));
    let mut reasons = Vec::new();
    for (fact, value) in &new {
        match old.get(fact) {
            None => reasons.push(said(fact, "is new")),
            Some(known) if known != value => reasons.push(said(fact, "changed")),
            Some(_) => {}
        }
    }
    let gone = old.keys().filter(|fact| !new.contains_key(*fact));
    reasons.extend(gone.map(|fact| said(fact, "is gone")));
    // Files first: they are what people change.
    reasons.sort_by_key(|reason| !reason.starts_with('`'));
    reasons
}

type Fact<'a> = (&'a str, &'a str);

/// Each line as what it is about, and what it says.
fn facts_of(text: &str) -> BTreeMap<Fact<'_>, &str> {
    let mut facts = BTreeMap::new();
    for line in text.lines().skip(1) {
        let (label, rest) = line.split_once('\t').unwrap_or((line, ""));
        let fact = match label {
            "input" => rest.rsplit_once('\t').map(|(value, path)| (path, value)),
            "env" | "tool" | "made" | "provided" => rest.split_once('\t'),
            // Whole lines: a command that changed is another command.
            "command" | "output" => Some((rest, "")),
            _ => Some(("", rest)),
        };
        if let Some((about, value)) = fact {
            facts.insert((label, about), value);
        }
    }
    facts
}

fn said((label, about): &Fact<'_>, what: &str) -> String {
    match *label {
        "input" => format!("`{about}` {what}"),
        "env" => format!("the variable {about} {what}"),
        "tool" => format!("{about} {what}"),
        "made" => format!("the output of step `{about}` {what}"),
        "command" => format!("the command `{}` {what}", about.replace('\t', " ")),
        "output" => format!("the output `{about}` {what}"),
        "epoch" => format!("the commit's time {what}"),
        "network" => format!("network access {what}"),
        "sandbox" => format!("the sandbox {what}"),
        label => format!("{label} {what}"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn entries() -> Vec<SourceEntry> {
        let file = |path: &str, executable, cleaned: Option<&str>| SourceEntry {
            path: path.as_bytes().to_vec(),
            content: Content::File {
                blob: BlobId::of(path.as_bytes()),
                executable,
            },
            cleaned: cleaned.map(str::to_owned),
        };
        vec![
            file(".npmrc", false, Some("0123")),
            file("a\tb", true, None),
            SourceEntry {
                path: b"l".to_vec(),
                content: Content::Link(b"\xfft".to_vec()),
                cleaned: None,
            },
            SourceEntry {
                path: b"z".to_vec(),
                content: Content::EmptyDir,
                cleaned: None,
            },
        ]
    }

    fn text(change: impl FnOnce(&mut Step, &mut Vec<SourceEntry>)) -> KeyText {
        let mut step = crate::preset::blank("assets");
        step.commands = vec![crate::step::CommandLine::new(["node", "a b", "x"])];
        step.env = BTreeMap::from([("A".to_owned(), "1\n2".to_owned())]);
        let mut entries = entries();
        change(&mut step, &mut entries);
        let inputs: Vec<&SourceEntry> = entries.iter().collect();
        KeyText::of(&KeyFacts {
            step: &step,
            epoch: 7,
            sandboxed: true,
            tools: &BTreeMap::from([("node".to_owned(), "v20".to_owned())]),
            made: &[("npm".to_owned(), ReleaseId::of(b"tree"))],
            inputs: &inputs,
        })
    }

    #[test]
    fn text_is_the_documented_one() {
        let plain = text(|_, _| {});
        let (tree, blob) = (ReleaseId::of(b"tree"), BlobId::of(b"a\tb"));
        assert_eq!(
            plain.as_str(),
            format!(
                "relstore-derivation 1\nstep\tassets\ncommand\tnode\ta b\tx\nenv\tA\t1\\x0a2\nepoch\t7\nnetwork\tno\n\
                 sandbox\tyes\ntool\tnode\tv20\nmade\tnpm\t{tree}\ninput\tf\t0123\t.npmrc\ninput\tx\t{blob}\ta\\x09b\n\
                 input\tl\t\\xfft\tl\ninput\td\t-\tz\n"
            )
        );
        assert_eq!(
            plain.key().to_string(),
            "c5db0b3625d8ee0650c46eec35ca0a83ab5300a881e5d98993ffd9f71ae76e8f"
        );
    }

    #[test]
    fn whatever_changes_is_named() {
        let before = text(|_, _| {});
        type Change = fn(&mut Step, &mut Vec<SourceEntry>);
        let changes: [(Change, &str); 6] = [
            (|_, entries| drop(entries.remove(3)), "`z` is gone"),
            (|_, entries| entries[3].path = b"y".to_vec(), "`y` is new"),
            (
                |_, entries| entries[2].content = Content::EmptyDir,
                "`l` changed",
            ),
            (
                |step, _| drop(step.env.insert("B".into(), String::new())),
                "the variable B is new",
            ),
            (
                |step, _| step.commands[0].args.clear(),
                "the command `node` is new",
            ),
            (|step, _| step.network = true, "network access changed"),
        ];
        for (change, reason) in changes {
            let after = text(change);
            assert_ne!(after.key(), before.key());
            let said = reasons(before.as_str(), after.as_str());
            assert!(said.iter().any(|line| line == reason), "{reason}: {said:?}");
        }
        assert!(reasons(before.as_str(), before.as_str()).is_empty());
    }

    #[test]
    fn inputs_digest_changes_with_files_and_outputs_alone() {
        let digest = |text: KeyText| text.inputs_digest();
        let plain = digest(text(|_, _| {}));
        assert_eq!(plain.len(), 32);
        assert_eq!(plain, digest(text(|step, _| step.env.clear())));
        assert_ne!(plain, digest(text(|_, entries| drop(entries.pop()))));
    }
}
