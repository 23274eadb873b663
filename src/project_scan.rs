//! What a folder says about the Laravel project in it, as far as `init` needs to know.
//!
//! Only files that decide something are read: composer.json, package.json's neighbours, the Vite
//! or Mix configuration, `.env.example`. Nothing is run.

use std::io;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// Why a folder cannot be set up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ScanError {
    #[error("{} is no Laravel project: it has no composer.json", folder.display())]
    NoComposer { folder: PathBuf },
    #[error("{} is no Laravel project: it does not require laravel/framework", file.display())]
    NotLaravel { file: PathBuf },
    #[error("{} is not valid JSON", file.display())]
    Json {
        file: PathBuf,
        source: serde_json::Error,
    },
    #[error("cannot read {}", file.display())]
    Read { file: PathBuf, source: io::Error },
}

/// How the project makes its assets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Frontend {
    /// Vite, with the name of its configuration file.
    Vite(String),
    /// Laravel Mix, with the name of its configuration file.
    Mix(String),
    None,
}

impl Frontend {
    /// How the names of variables begin that become part of scripts.
    pub(crate) const fn variable_prefix(&self) -> Option<&'static str> {
        match self {
            Self::Vite(_) => Some("VITE_"),
            Self::Mix(_) => Some("MIX_"),
            Self::None => None,
        }
    }

    /// The build step that makes the assets.
    pub(crate) const fn step(&self) -> Option<&'static str> {
        match self {
            Self::Vite(_) => Some("vite"),
            Self::Mix(_) => Some("mix"),
            Self::None => None,
        }
    }
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Findings {
    pub(crate) app: String,
    /// What composer.json asks of laravel/framework, such as `^11.0`.
    pub(crate) laravel: String,
    pub(crate) composer_lock: bool,
    pub(crate) frontend: Frontend,
    /// The package manager that the lock file belongs to, and the file.
    pub(crate) package_lock: Option<(&'static str, &'static str)>,
    /// `DB_CONNECTION` of `.env.example`.
    pub(crate) database: Option<String>,
    /// Folders that hold packages for Composer and are no part of a release.
    pub(crate) package_folders: Vec<String>,
    /// Names of `.env.example` that the frontend puts into scripts: `VITE_*` or `MIX_*`.
    pub(crate) asset_variables: Vec<String>,
}

const VITE_CONFIGS: [&str; 6] = [
    "vite.config.js",
    "vite.config.ts",
    "vite.config.mjs",
    "vite.config.mts",
    "vite.config.cjs",
    "vite.config.cts",
];
const MIX_CONFIGS: [&str; 2] = ["webpack.mix.js", "webpack.mix.cjs"];
const LOCKS: [(&str, &str); 6] = [
    ("npm", "package-lock.json"),
    ("npm", "npm-shrinkwrap.json"),
    ("yarn", "yarn.lock"),
    ("pnpm", "pnpm-lock.yaml"),
    ("bun", "bun.lock"),
    ("bun", "bun.lockb"),
];

/// Looks at the project in a folder.
pub(crate) fn scan(folder: &Path) -> Result<Findings, ScanError> {
    let file = folder.join("composer.json");
    let text = read(&file)?.ok_or_else(|| ScanError::NoComposer {
        folder: folder.to_owned(),
    })?;
    let composer: Value = serde_json::from_str(&text).map_err(|source| ScanError::Json {
        file: file.clone(),
        source,
    })?;
    let laravel = composer["require"]["laravel/framework"]
        .as_str()
        .ok_or(ScanError::NotLaravel { file })?
        .to_owned();
    let is_file = |name: &&str| folder.join(name).is_file();
    let frontend = if let Some(name) = VITE_CONFIGS.iter().find(|name| is_file(name)) {
        Frontend::Vite((*name).to_owned())
    } else if let Some(name) = MIX_CONFIGS.iter().find(|name| is_file(name)) {
        Frontend::Mix((*name).to_owned())
    } else {
        Frontend::None
    };
    let prefix = frontend.variable_prefix();
    let example = read(&folder.join(".env.example"))?.unwrap_or_default();
    Ok(Findings {
        app: app_name(composer["name"].as_str(), folder),
        laravel,
        composer_lock: is_file(&"composer.lock"),
        frontend,
        package_lock: LOCKS.iter().find(|(_, name)| is_file(name)).copied(),
        database: dotenv_value(&example, "DB_CONNECTION"),
        package_folders: package_folders(&composer["repositories"], folder),
        asset_variables: dotenv_names(&example)
            .filter(|name| prefix.is_some_and(|prefix| name.starts_with(prefix)))
            .map(str::to_owned)
            .collect(),
    })
}

fn read(file: &Path) -> Result<Option<String>, ScanError> {
    match std::fs::read(file) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(ScanError::Read {
            file: file.to_owned(),
            source,
        }),
    }
}

/// A name that can be a folder: from composer.json unless it is still the skeleton's, else the folder's.
fn app_name(package: Option<&str>, folder: &Path) -> String {
    let package = package
        .filter(|name| *name != "laravel/laravel")
        .and_then(|name| name.rsplit('/').next());
    let folder_name = folder.file_name().and_then(|name| name.to_str());
    let clean = |name: &str| {
        let plain: String = name
            .chars()
            .map(|c| {
                if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') {
                    c.to_ascii_lowercase()
                } else {
                    '-'
                }
            })
            .take(64)
            .collect();
        plain.trim_matches(['-', '.', '_']).to_owned()
    };
    [package, folder_name]
        .into_iter()
        .flatten()
        .map(clean)
        .find(|name| !name.is_empty())
        .unwrap_or_else(|| "app".to_owned())
}

/// Local folders of `artifact` and `path` repositories (a list, or a table by name).
fn package_folders(repositories: &Value, folder: &Path) -> Vec<String> {
    let entries: Vec<&Value> = match repositories {
        Value::Array(entries) => entries.iter().collect(),
        Value::Object(entries) => entries.values().collect(),
        _ => Vec::new(),
    };
    let mut folders = Vec::new();
    for entry in entries {
        let local = matches!(entry["type"].as_str(), Some("artifact" | "path"));
        let Some(url) = entry["url"].as_str().filter(|_| local) else {
            continue;
        };
        // `packages/*` of a path repository means all folders in it.
        let plain: Vec<&str> = url
            .trim_start_matches("./")
            .split('/')
            .take_while(|name| !name.contains(['*', '?', '[', '{']))
            .filter(|name| !name.is_empty())
            .collect();
        let outside = url.starts_with('/') || plain.iter().any(|name| matches!(*name, "." | ".."));
        let path = plain.join("/");
        if !outside && !path.is_empty() && folder.join(&path).is_dir() && !folders.contains(&path) {
            folders.push(path);
        }
    }
    folders
}

fn dotenv_names(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .filter_map(|line| line.trim().split_once('='))
        .map(|(name, _)| name.trim())
        .filter(|name| !name.starts_with('#'))
}

fn dotenv_value(text: &str, wanted: &str) -> Option<String> {
    let lines = text.lines().filter_map(|line| line.trim().split_once('='));
    let (_, value) = lines.into_iter().find(|(name, _)| name.trim() == wanted)?;
    Some(value.trim().trim_matches(['"', '\'']).to_owned()).filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn project(files: &[(&str, &str)]) -> (tempfile::TempDir, Result<Findings, ScanError>) {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let findings = scan(folder.path());
        (folder, findings)
    }

    #[test]
    fn vite_npm_database_and_local_packages_are_found() {
        let (_folder, findings) = project(&[
            (
                "composer.json",
                r#"{"name":"acme/Shop App","require":{"laravel/framework":"^8.83"},"repositories":[
                    {"type":"artifact","url":"packages"},{"type":"path","url":"./modules/*"},
                    {"type":"path","url":"../other"},{"type":"vcs","url":"app"},{"packagist.org":false}]}"#,
            ),
            ("packages/a.zip", ""),
            ("modules/one/composer.json", "{}"),
            ("app/x.php", ""),
            ("composer.lock", "{}"),
            ("vite.config.js", ""),
            ("package-lock.json", "{}"),
            (
                ".env.example",
                "APP_NAME=x\n# VITE_OLD=1\nVITE_APP_NAME=\"${APP_NAME}\"\nDB_CONNECTION=sqlite\n",
            ),
        ]);
        let findings = findings.unwrap();
        assert_eq!(findings.app, "shop-app");
        assert_eq!(findings.laravel, "^8.83");
        assert!(findings.composer_lock);
        assert_eq!(
            findings.frontend,
            Frontend::Vite("vite.config.js".to_owned())
        );
        assert_eq!(findings.package_lock, Some(("npm", "package-lock.json")));
        assert_eq!(findings.database.as_deref(), Some("sqlite"));
        assert_eq!(findings.package_folders, ["packages", "modules"]);
        assert_eq!(findings.asset_variables, ["VITE_APP_NAME"]);
    }

    #[test]
    fn mix_and_no_frontend_are_told_apart() {
        let composer = (
            "composer.json",
            r#"{"name":"laravel/laravel","require":{"laravel/framework":"*"}}"#,
        );
        let (_folder, mix) = project(&[
            composer,
            ("webpack.mix.js", ""),
            ("yarn.lock", ""),
            (".env.example", "VITE_A=1\nMIX_KEY=\n"),
        ]);
        let mix = mix.unwrap();
        assert_eq!(mix.frontend, Frontend::Mix("webpack.mix.js".to_owned()));
        assert_eq!(mix.asset_variables, ["MIX_KEY"]);
        assert_eq!(mix.package_lock, Some(("yarn", "yarn.lock")));
        assert_ne!(mix.app, "laravel", "the skeleton's own name says nothing");
        let (_folder, none) = project(&[composer]);
        assert_eq!(none.unwrap().frontend, Frontend::None);
    }

    #[test]
    fn folder_that_is_no_laravel_project_is_refused() {
        assert!(matches!(project(&[]).1, Err(ScanError::NoComposer { .. })));
        assert!(matches!(
            project(&[("composer.json", "{}")]).1,
            Err(ScanError::NotLaravel { .. })
        ));
        assert!(matches!(
            project(&[("composer.json", "{")]).1,
            Err(ScanError::Json { .. })
        ));
    }
}
