//! The identity of programs: what about them an output may depend on.
//!
//! - `php`: version, extensions with their versions, and the ini files it reads, by content
//! - `composer`: version, and its file's content
//! - `node`, `npm`, `pnpm`, `yarn`: version; npm's is read from its own package where it lies in one,
//!   as npm does when it is asked: starting it is a good part of a build that runs nothing
//! - any other program that a step of the configuration runs: its file's content
//!
//! An identity is text of one line, `<version> <hash>` where a hash is needed.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use relstore_store::id::BlobId;
use serde::Deserialize;

use crate::error::{BuildError, IoContext};
use crate::process::{self, Invocation};
use crate::step::Tool;

/// How long a program may think about its own version.
const VERSION_LIMIT: Duration = Duration::from_secs(20);

/// Version, extensions, ini files: one line each.
const ASK_PHP: &str = r#"echo PHP_VERSION, "\n";
foreach (get_loaded_extensions() as $name) { echo "extension $name ", phpversion($name), "\n"; }
echo "ini ", php_ini_loaded_file(), "\n";
foreach (explode(",", (string) php_ini_scanned_files()) as $file) { echo "ini ", trim($file), "\n"; }"#;

/// What is known of a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    /// For people.
    pub(crate) version: String,
    /// For keys.
    pub(crate) identity: String,
    /// Files it reads beside its own, which a sandbox has to show.
    pub(crate) files: Vec<PathBuf>,
}

/// Asks programs about themselves.
pub(crate) struct Prober<'a> {
    pub(crate) search_path: &'a str,
    /// An empty folder: their home, and where they run.
    pub(crate) home: &'a Path,
}

impl Prober<'_> {
    /// The identity of a tool. A program that does not answer has an empty version.
    pub(crate) async fn ask(&self, tool: Tool, program: &Path) -> Result<Identity, BuildError> {
        let args: &[&str] = match tool {
            Tool::Php => &["-r", ASK_PHP],
            Tool::Composer => &["--version", "--no-ansi"],
            _ => &["--version"],
        };
        let known = match tool {
            Tool::Npm => npm_version(program),
            _ => None,
        };
        let lines = match known {
            Some(version) => vec![version],
            None => self.lines(program, args).await?,
        };
        let version = lines.first().cloned().unwrap_or_default();
        let mut files = Vec::new();
        let hash = match tool {
            Tool::Php => {
                let said = lines.iter().filter_map(|line| line.strip_prefix("ini "));
                files = said
                    .filter(|path| path.starts_with('/'))
                    .map(PathBuf::from)
                    .collect();
                Some(php_digest(&lines, &files)?)
            }
            Tool::Composer => Some(digest(program)?),
            _ => None,
        };
        let identity = match &hash {
            Some(hash) => format!("{version} {hash}"),
            None => version.clone(),
        };
        Ok(Identity {
            version,
            identity,
            files,
        })
    }

    async fn lines(&self, program: &Path, args: &[&str]) -> Result<Vec<String>, BuildError> {
        let said = Mutex::new(Vec::new());
        let keep = |text: String| {
            said.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(text);
        };
        let env = [
            ("PATH", self.search_path.into()),
            ("HOME", self.home.into()),
            ("COMPOSER_HOME", self.home.into()),
            ("COMPOSER_ALLOW_SUPERUSER", "1".into()),
            ("LC_ALL", "C.UTF-8".into()),
            // Composer would run `stty` to find them out.
            ("COLUMNS", "80".into()),
            ("LINES", "24".into()),
        ];
        let env: Vec<_> = env.map(|(name, value)| (name.into(), value)).into();
        let args: Vec<_> = args.iter().map(Into::into).collect();
        let invocation = Invocation {
            args,
            limit: VERSION_LIMIT,
            ..Invocation::new(program, self.home, env)
        };
        process::run(invocation, &keep).await?;
        Ok(said.into_inner().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The version in npm's package.json, when the program is the one of that package; `None` for
/// others, such as those that choose between several versions of npm.
fn npm_version(program: &Path) -> Option<String> {
    #[derive(Deserialize)]
    struct Package {
        name: String,
        version: String,
    }
    let file = program.canonicalize().ok()?;
    let package = file.ancestors().nth(2)?;
    if file != package.join("bin/npm-cli.js") {
        return None;
    }
    let json = std::fs::read(package.join("package.json")).ok()?;
    let package: Package = serde_json::from_slice(&json).ok()?;
    (package.name == "npm" && !package.version.is_empty()).then_some(package.version)
}

/// The identity of any program: its file.
pub(crate) fn of_file(program: &Path) -> Result<Identity, BuildError> {
    Ok(Identity {
        version: String::new(),
        identity: digest(program)?,
        files: Vec::new(),
    })
}

fn digest(program: &Path) -> Result<String, BuildError> {
    let file = File::open(program).at("read", program)?;
    Ok(BlobId::of_reader(file).at("read", program)?.short())
}

/// Extensions in the order of their names: how they are loaded changes nothing.
fn php_digest(lines: &[String], files: &[PathBuf]) -> Result<String, BuildError> {
    let mut extensions: Vec<&str> = lines
        .iter()
        .filter_map(|line| line.strip_prefix("extension "))
        .collect();
    extensions.sort_unstable();
    let mut text = extensions.join("\n").into_bytes();
    for file in files {
        text.push(b'\n');
        text.extend(std::fs::read(file).at("read", file)?);
    }
    Ok(BlobId::of(&text).short())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn version_of_npm_is_that_of_its_own_package_only() {
        let root = tempfile::tempdir().unwrap();
        let package = root.path().join("lib/npm");
        std::fs::create_dir_all(package.join("bin")).unwrap();
        std::fs::write(package.join("bin/npm-cli.js"), "").unwrap();
        std::fs::write(package.join("bin/npm"), "").unwrap();
        let link = root.path().join("npm");
        std::os::unix::fs::symlink("lib/npm/bin/npm-cli.js", &link).unwrap();
        assert_eq!(npm_version(&link), None);
        let json = r#"{"name":"npm","version":"11.4.2","files":[]}"#;
        std::fs::write(package.join("package.json"), json).unwrap();
        assert_eq!(npm_version(&link).as_deref(), Some("11.4.2"));
        assert_eq!(npm_version(&package.join("bin/npm")), None);
        std::fs::write(package.join("package.json"), json.replace("\"npm", "\"pm")).unwrap();
        assert_eq!(npm_version(&link), None);
        assert_eq!(npm_version(Path::new("npm")), None);
    }
}
