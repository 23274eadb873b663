//! What the program knows about its surroundings: the only reader of environment variables, the
//! clock, the working directory and the configuration file. Read once, then passed as values.

use std::ffi::OsString;
use std::io::IsTerminal;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use relstore_deployer::Secret;
use relstore_store::place::Place;

use crate::cli::Global;
use crate::config::{Config, FILE_NAME, SecretRef, variables::Variables};
use crate::error::{CommandError, Result};
use crate::exit_code::ExitCode;
use crate::output::Output;

/// The surroundings of one run.
pub(crate) struct Context {
    pub(crate) output: Output,
    pub(crate) variables: Variables,
    /// The working directory, absolute.
    pub(crate) folder: PathBuf,
    /// Whether progress may be drawn as bars (stderr is a terminal and nobody forbade it).
    pub(crate) bars: bool,
    config_path: Option<PathBuf>,
    store: Option<String>,
}

impl Context {
    /// Reads the surroundings; the command line's options win over variables.
    pub(crate) fn new(global: &Global) -> Result<Self> {
        // Variables that are not UTF-8 cannot be used in a configuration and are left out.
        let variables: Variables = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        let folder = std::env::current_dir().map_err(|error| {
            CommandError::new(ExitCode::Failure, "cannot find the working directory")
                .caused_by(&error)
        })?;
        let terminal = std::io::stderr().is_terminal() && variables.get("TERM") != Some("dumb");
        let from_variable = |name| {
            std::env::var_os(name)
                .filter(|value: &OsString| !value.is_empty())
                .map(PathBuf::from)
        };
        let output = Output {
            json: global.json,
            quiet: global.quiet,
            verbose: global.verbose,
            // no-color.org: any value but an empty one
            color: terminal && variables.get("NO_COLOR").is_none(),
        };
        Ok(Self {
            output,
            bars: terminal && !global.no_progress && !global.quiet,
            config_path: global
                .config
                .clone()
                .or_else(|| from_variable("RELSTORE_CONFIG")),
            store: global.store.clone().or_else(|| {
                let from = variables.get("RELSTORE_STORE");
                from.filter(|text| !text.is_empty()).map(str::to_owned)
            }),
            variables,
            folder,
        })
    }

    /// The time now.
    pub(crate) fn now(&self) -> SystemTime {
        SystemTime::now()
    }

    /// The name of the user that runs the program: what the environment says, else that of the
    /// process. Neither cron nor many build machines set `USER`.
    pub(crate) fn user(&self) -> Option<String> {
        let variables = &self.variables;
        let said = variables.get("USER").or_else(|| variables.get("LOGNAME"));
        said.map(str::to_owned).or_else(|| {
            let passwd = std::fs::read_to_string("/etc/passwd").ok()?;
            user_name(&passwd, uid()?)
        })
    }

    /// Who runs the program, for ledgers and records: `user@host` as far as it is known. A user
    /// without a name is its number.
    pub(crate) fn actor(&self) -> String {
        let user = self
            .user()
            .or_else(|| uid().map(|uid| uid.to_string()))
            .unwrap_or_else(|| "unknown".to_owned());
        match self
            .variables
            .get("HOSTNAME")
            .map(str::to_owned)
            .or_else(host_name)
        {
            Some(host) => format!("{user}@{host}"),
            None => user,
        }
    }

    /// The path of the configuration file: what the user says, else the nearest one upwards.
    pub(crate) fn config_file(&self) -> Option<PathBuf> {
        match &self.config_path {
            Some(path) => Some(self.folder.join(path)),
            None => self
                .folder
                .ancestors()
                .map(|folder| folder.join(FILE_NAME))
                .find(|file| file.is_file()),
        }
    }

    /// Reads the configuration of the project.
    pub(crate) fn config(&self) -> Result<Config> {
        let Some(file) = self.config_file() else {
            let message = format!(
                "no {FILE_NAME} in {} or a folder above it",
                self.folder.display()
            );
            return Err(CommandError::bad_input(message)
                .hint("`relstore init` writes one for the Laravel project in the current folder"));
        };
        let text = std::fs::read_to_string(&file).map_err(|error| {
            CommandError::bad_input(format!("cannot read the configuration {}", file.display()))
                .caused_by(&error)
        })?;
        Ok(Config::parse(&file, &text, &self.variables)?)
    }

    /// The configuration when there is one: commands that only read the store can do without.
    pub(crate) fn optional_config(&self) -> Result<Option<Config>> {
        match self.config_file() {
            Some(_) => self.config().map(Some),
            None => Ok(None),
        }
    }

    /// A path that somebody typed, from the working directory; without parts that say nothing.
    pub(crate) fn path(&self, typed: &Path) -> PathBuf {
        self.folder.join(typed).components().collect()
    }

    /// The store: `--store`, `RELSTORE_STORE`, the file, the default for the app.
    pub(crate) fn store_place(&self, config: Option<&Config>) -> Result<Place> {
        if let Some(text) = &self.store {
            let place = Place::parse(text).map_err(|error| {
                CommandError::bad_input("the store that is named cannot be used").caused_by(&error)
            })?;
            return Ok(match place {
                Place::Folder(path) => Place::Folder(self.path(&path)),
                place => place,
            });
        }
        match config {
            Some(config) => config.store.path.clone().map(Place::Folder).ok_or_else(|| {
                CommandError::bad_input(
                    "no folder for the store is known: neither XDG_DATA_HOME nor HOME is set",
                )
                .hint("write [store] path = \"...\", or say --store PATH")
            }),
            None => Err(CommandError::bad_input(format!(
                "no store is known without a {FILE_NAME}"
            ))
            .hint("say --store PATH, or run this inside the project")),
        }
    }

    /// The folder of the store, for work that needs one.
    pub(crate) fn store_folder(&self, config: Option<&Config>) -> Result<PathBuf> {
        match self.store_place(config)? {
            Place::Folder(path) => Ok(path),
            place => Err(CommandError::bad_input(format!(
                "{place} is a remote store; this needs a folder of this machine"
            ))
            .hint("work with a local store and `relstore push` what is to be there")),
        }
    }

    /// The folder for caches, logs and private folders of builds.
    pub(crate) fn cache_folder(&self) -> Result<PathBuf> {
        let absolute = |name| {
            let path = self.variables.get(name).map(PathBuf::from);
            path.filter(|path| path.is_absolute())
        };
        absolute("XDG_CACHE_HOME")
            .or_else(|| absolute("HOME").map(|home| home.join(".cache")))
            .map(|cache| cache.join("relstore"))
            .ok_or_else(|| {
                CommandError::bad_input(
                    "no folder for caches is known: neither XDG_CACHE_HOME nor HOME is set",
                )
            })
    }

    /// Where of this kind is kept what belongs to one store, by its place.
    pub(crate) fn cache_of(&self, kind: &str, place: &str) -> Result<PathBuf> {
        let name = blake3::hash(place.as_bytes()).to_hex();
        Ok(self.cache_folder()?.join(kind).join(&name.as_str()[..32]))
    }

    /// The environment that a command is for: its option, else `RELSTORE_ENV`.
    pub(crate) fn environment_name(&self, option: Option<&str>) -> Option<String> {
        option
            .or_else(|| self.variables.get("RELSTORE_ENV"))
            .map(str::to_owned)
    }

    /// Reads a secret from where the configuration says it is.
    pub(crate) fn secret(&self, reference: &SecretRef) -> Result<Secret> {
        let text = match reference {
            SecretRef::Variable(name) => match self.variables.get(name) {
                Some(value) => value.to_owned(),
                None => {
                    return Err(CommandError::bad_input(format!(
                        "the environment variable {name} is not set, it is to hold a secret"
                    )));
                }
            },
            SecretRef::File(path) => std::fs::read_to_string(path).map_err(|error| {
                CommandError::bad_input(format!("cannot read the secret in {}", path.display()))
                    .caused_by(&error)
            })?,
        };
        // A line end after a token is never part of it, but would be refused in a header.
        let text = text.trim();
        if text.is_empty() || !text.chars().all(|c| c.is_ascii_graphic()) {
            let from = match reference {
                SecretRef::Variable(name) => format!("the environment variable {name}"),
                SecretRef::File(path) => path.display().to_string(),
            };
            return Err(CommandError::bad_input(format!(
                "{from} does not hold one token of printable ASCII"
            )));
        }
        Ok(Secret::new(text))
    }
}

/// The number of the user of this process, where Linux tells it.
fn uid() -> Option<u32> {
    Some(std::fs::metadata("/proc/self").ok()?.uid())
}

/// The name of a user in the text of `/etc/passwd`.
fn user_name(passwd: &str, uid: u32) -> Option<String> {
    let number = uid.to_string();
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        (fields.nth(1) == Some(number.as_str())).then(|| name.to_owned())
    })
}

/// The name of this machine, where Linux tells it.
fn host_name() -> Option<String> {
    let text = std::fs::read_to_string(Path::new("/proc/sys/kernel/hostname")).ok()?;
    Some(text.trim().to_owned()).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_without_a_variable_is_looked_up_by_number() {
        let passwd = "root:x:0:0:root:/root:/bin/bash\n\n:x:7:\nbroken\ndeploy:x:1000:1000::/home/deploy:/bin/sh\n";
        assert_eq!(user_name(passwd, 1000).as_deref(), Some("deploy"));
        assert_eq!(user_name(passwd, 0).as_deref(), Some("root"));
        assert_eq!(user_name(passwd, 7), None);
        assert_eq!(user_name(passwd, 100), None);
    }
}
