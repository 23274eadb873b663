//! The manifest of Vite or of Laravel Mix: every file it lists is there and holds something.
//!
//! Vite writes `public/build/manifest.json`, an object of chunks: `file`, `css` and `assets` are
//! paths below `public/build`, `imports` and `dynamicImports` keys of the same object. Mix writes
//! `public/mix-manifest.json`, an object of addresses: the values are below `public`, with a query.

use serde_json::{Map, Value};

use super::answer::{Answer, Finding, counted};
use super::tree::Tree;

const VITE: &str = "public/build/manifest.json";
const MIX: &str = "public/mix-manifest.json";

/// Reads the manifests that are there.
pub(crate) fn ask(tree: &Tree) -> Answer {
    let mut check = Check {
        tree,
        findings: Vec::new(),
        files: 0,
        manifests: 0,
    };
    if let Some(manifest) = check.manifest(VITE) {
        check.vite(&manifest);
    }
    if let Some(manifest) = check.manifest(MIX) {
        check.mix(&manifest);
    }
    let note = match check.manifests {
        0 => "no manifest".to_owned(),
        _ => counted(check.files, "file"),
    };
    Answer::of(check.findings).note(note)
}

struct Check<'a> {
    tree: &'a Tree,
    findings: Vec<Finding>,
    files: usize,
    manifests: usize,
}

impl Check<'_> {
    /// The content of a manifest; `None` when there is none or (noted) it cannot be used.
    fn manifest(&mut self, path: &'static str) -> Option<Map<String, Value>> {
        if !self.tree.has_file(path.as_bytes()) {
            return None;
        }
        self.manifests += 1;
        match std::fs::read(self.tree.place(path.as_bytes())) {
            Err(error) => self.wrong(path, format!("cannot be read: {error}")),
            Ok(bytes) => match serde_json::from_slice(&bytes) {
                Ok(Value::Object(manifest)) => return Some(manifest),
                Ok(_) => self.wrong(path, "holds no JSON object"),
                Err(error) => self.wrong(path, format!("holds no JSON: {error}")),
            },
        }
        None
    }

    fn wrong(&mut self, manifest: &str, what: impl Into<String>) {
        self.findings.push(Finding::at(manifest.as_bytes(), what));
    }

    fn vite(&mut self, manifest: &Map<String, Value>) {
        // A text instead of a chunk is what other tools write under the same name.
        for (key, chunk) in manifest.iter().filter(|(_, chunk)| !chunk.is_string()) {
            match chunk["file"].as_str() {
                Some(file) => self.file(VITE, "public/build", file),
                None => self.wrong(VITE, format!("names no file for `{}`", shown(key))),
            }
            for list in ["css", "assets"] {
                for file in texts(&chunk[list]) {
                    self.file(VITE, "public/build", file);
                }
            }
            for list in ["imports", "dynamicImports"] {
                for import in texts(&chunk[list]) {
                    if !manifest.contains_key(import) {
                        let what = format!("does not list `{}`", shown(import));
                        self.wrong(VITE, format!("{what}, which `{}` imports", shown(key)));
                    }
                }
            }
        }
    }

    fn mix(&mut self, manifest: &Map<String, Value>) {
        for (key, value) in manifest {
            match value.as_str() {
                // Others are served from elsewhere: a content delivery network, the hot server.
                Some(address) => {
                    let path = address
                        .strip_prefix('/')
                        .filter(|path| !path.starts_with('/'));
                    if let Some(path) = path {
                        self.file(MIX, "public", path);
                    }
                }
                None => self.wrong(MIX, format!("names no file for `{}`", shown(key))),
            }
        }
    }

    fn file(&mut self, manifest: &str, folder: &str, file: &str) {
        self.files += 1;
        let file = file.split(['?', '#']).next().unwrap_or_default();
        let path = format!("{folder}/{file}");
        let leaves = file.is_empty() || file.split('/').any(|name| matches!(name, "" | "." | ".."));
        let what = if leaves {
            "is no path in that folder"
        } else {
            match std::fs::metadata(self.tree.place(path.as_bytes())) {
                Ok(meta) if !meta.is_file() => "is no file",
                Ok(meta) if meta.len() == 0 => "is empty",
                Ok(_) => return,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => "is missing",
                Err(_) => "cannot be looked at",
            }
        };
        self.wrong(manifest, format!("lists `{}`, which {what}", shown(&path)));
    }
}

fn texts(list: &Value) -> impl Iterator<Item = &str> {
    list.as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
}

fn shown(text: &str) -> String {
    relstore_store::name::escape(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::super::tree::testing::found;
    use super::*;

    const APP: &str = r#"{"app.js":{"file":"assets/a.js","css":["assets/a.css"],"assets":["assets/a.woff2"],
        "imports":["_x.js"],"dynamicImports":["_x.js"],"src":"app.js","isEntry":true},"_x.js":{"file":"assets/x.js"}}"#;

    #[test]
    fn manifest_whose_files_are_all_there_passes() {
        let files = [
            (VITE, APP),
            ("public/build/assets/a.js", "1"),
            ("public/build/assets/a.css", "1"),
            ("public/build/assets/a.woff2", "1"),
            ("public/build/assets/x.js", "1"),
            (
                MIX,
                r#"{"/js/m.js":"/js/m.js?id=5","/x":"//cdn.example/x.js","/y":"https://cdn.example/y.js"}"#,
            ),
            ("public/js/m.js", "1"),
        ];
        assert_eq!(found(ask, &files), [""; 0]);
        assert_eq!(found(ask, &[(VITE, "{}"), (MIX, "{}")]), [""; 0]);
        assert_eq!(found(ask, &[("artisan", "")]), [""; 0]);
    }

    #[test]
    fn missing_empty_and_unresolved_entries_are_named() {
        let files = [
            (VITE, APP),
            ("public/build/assets/a.js", ""),
            ("public/build/assets/a.css/x", ""),
        ];
        assert_eq!(
            found(ask, &files),
            [
                "lists `public/build/assets/x.js`, which is missing",
                "lists `public/build/assets/a.js`, which is empty",
                "lists `public/build/assets/a.css`, which is no file",
                "lists `public/build/assets/a.woff2`, which is missing",
            ]
            .map(|what| format!("`{VITE}` {what}"))
        );
        let one = |vite: &str| found(ask, &[(VITE, vite)]).join("\n");
        assert_eq!(one("{\"a\":\"b\"}"), "", "not Vite's");
        assert!(one("{\"a\":{}}").contains("names no file for `a`"));
        assert!(one("{\"a\":{\"file\":\"../x\"}}").contains("is no path in that folder"));
        assert!(one("[]").contains("holds no JSON object"));
        assert!(one("{").contains("holds no JSON: "));
        let imports = one(r#"{"a":{"file":"../..","imports":["b\n"]}}"#);
        assert!(
            imports.contains("does not list `b\\x0a`, which `a` imports"),
            "{imports}"
        );
    }

    #[test]
    fn values_of_the_mix_manifest_are_files_without_their_query() {
        let mix = r#"{"/css/a.css":"/css/a.css?id=1","/b":3}"#;
        let found = found(ask, &[(MIX, mix), ("public/css/b.css", "1")]);
        assert_eq!(
            found,
            [
                format!("`{MIX}` names no file for `/b`"),
                format!("`{MIX}` lists `public/css/a.css`, which is missing"),
            ]
        );
    }
}
