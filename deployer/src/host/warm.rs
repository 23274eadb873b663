//! Warm state: Laravel's configuration, route, event, package and view caches of one release.
//!
//! They hold absolute paths and secrets, so they are made in the release's final folder on the
//! host. Made below `bootstrap/cache/.warm-new` under other names and renamed, because artisan
//! itself leaves moments without a file when it makes them anew. Keyed by release, `.env` and PHP:
//! an edited `.env` takes effect, and a rollback never brings old passwords back.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use relstore_store::id::{BlobId, ReleaseId};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use serde::{Deserialize, Serialize};

use super::base::Base;
use super::command::{self, Job};
use super::error::{At, HostError, Result};
use super::shared::WebGroup;
use super::{disk, verify};
use crate::protocol::{Drift, DriftKind, Ended, Reason, Warmed};

const CACHE: &str = "bootstrap/cache";
const NEW: &str = "bootstrap/cache/.warm-new";
/// Umask of artisan: for the deploy user and the web server's group only.
const UMASK: u32 = 0o007;
const FILE_MODE: u32 = 0o640;
const FOLDER_MODE: u32 = 0o2750;
/// Of the compiled views: PHP adds those that `view:cache` cannot know (error pages, inline
/// components) and, because of the sticky bit, replaces none of the deploy user's.
const VIEWS_MODE: u32 = 0o3770;
/// Environment variable and file name of each cache; the configuration last, because it tells
/// where the views are.
const FILES: [(&str, &str); 5] = [
    ("APP_PACKAGES_CACHE", "packages.php"),
    ("APP_SERVICES_CACHE", "services.php"),
    ("APP_EVENTS_CACHE", "events.php"),
    ("APP_ROUTES_CACHE", "routes-v7.php"),
    ("APP_CONFIG_CACHE", "config.php"),
];

/// What lies in `warm/<id>`, JSON.
#[derive(Debug, Serialize, Deserialize)]
struct Recorded {
    key: String,
    /// Path relative to the release, and digest, of everything that was made.
    files: BTreeMap<String, BlobId>,
}

fn file(base: &Base, id: &ReleaseId) -> PathBuf {
    base.private("warm").join(id.to_string())
}

fn recorded(base: &Base, id: &ReleaseId) -> Result<Option<Recorded>> {
    // A damaged note is no note: the caches are made anew.
    Ok(disk::read(&file(base, id))?.and_then(|json| serde_json::from_slice(&json).ok()))
}

/// The key of a release's warm state, as last made.
pub(crate) fn recorded_key(base: &Base, id: &ReleaseId) -> Result<Option<String>> {
    Ok(recorded(base, id)?.map(|recorded| recorded.key))
}

/// How the caches of a release differ from what was made.
pub(crate) fn drift(base: &Base, id: &ReleaseId) -> Result<Vec<Drift>> {
    let Some(recorded) = recorded(base, id)? else {
        return Ok(Vec::new());
    };
    let root = base.release(id);
    let mut drift: Vec<Drift> = Vec::new();
    for (name, digest) in &recorded.files {
        let (kind, detail) = match verify::hash(&root.join(name)) {
            Ok((_, found)) if found == *digest => continue,
            Ok(_) => (DriftKind::Changed, "is not the cache that the deploy made"),
            Err(_) => (DriftKind::Missing, "the deploy made it"),
        };
        drift.push(Drift {
            path: name.clone(),
            kind,
            detail: detail.into(),
        });
    }
    // PHP beside the caches that nobody made would be run as well. Among the compiled views it is
    // PHP-FPM that adds files.
    let folder = root.join(CACHE);
    for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
        let name = format!("{CACHE}/{}", entry.file_name().to_string_lossy());
        if name.ends_with(".php") && !recorded.files.contains_key(&name) {
            drift.push(Drift {
                path: name,
                kind: DriftKind::Additional,
                detail: "the deploy did not make it".into(),
            });
        }
    }
    Ok(drift)
}

/// Makes the caches of one release.
pub(crate) struct Warming<'a> {
    pub(crate) base: &'a Base,
    pub(crate) release: ReleaseId,
    pub(crate) php: &'a str,
    pub(crate) limit: Duration,
    pub(crate) group: Option<&'a WebGroup>,
    pub(crate) gone: &'a dyn Fn() -> bool,
}

impl Warming<'_> {
    /// Makes them, or finds those of the right key.
    pub(crate) fn warm(&self, line: &mut dyn FnMut(&str)) -> Result<Warmed> {
        let root = self.base.release(&self.release);
        let php = self.version(&root)?;
        let key = self.key(&root, &php)?;
        let artisan = root.join("artisan").is_file() && root.join(CACHE).is_dir();
        if !artisan {
            return Ok(Warmed {
                key,
                reused: true,
                files: 0,
                php,
            });
        }
        if let Some(recorded) = recorded(self.base, &self.release)?
            && recorded.key == key
            && drift(self.base, &self.release)?.is_empty()
        {
            return Ok(Warmed {
                key,
                reused: true,
                files: recorded.files.len() as u64,
                php,
            });
        }
        self.make(&root, line)?;
        // Before they are published: afterwards PHP-FPM may add views of its own.
        let mut made = BTreeMap::new();
        hash_below(&root, Path::new(NEW), &mut made)?;
        let place = |name: String| name.replacen(NEW, CACHE, 1);
        let files: BTreeMap<String, BlobId> = made
            .into_iter()
            .map(|(name, digest)| (place(name), digest))
            .collect();
        self.publish(&root)?;
        let count = files.len() as u64;
        let json = serde_json::to_vec(&Recorded {
            key: key.clone(),
            files,
        })
        .expect("strings are JSON");
        disk::write(&file(self.base, &self.release), &json, 0o600)?;
        Ok(Warmed {
            key,
            reused: false,
            files: count,
            php,
        })
    }

    /// First line of `php --version`.
    fn version(&self, root: &Path) -> Result<String> {
        let mut first = String::new();
        let argv = [self.php.to_owned(), "--version".to_owned()];
        let job = Job {
            argv: &argv,
            dir: root,
            env: &[],
            umask: UMASK,
            limit: self.limit,
        };
        let ended = command::run(
            &job,
            &mut |line| {
                if first.is_empty() {
                    first.push_str(line);
                }
            },
            self.gone,
        )?;
        self.check(ended, "php --version", "")?;
        Ok(first)
    }

    fn check(&self, ended: Ended, what: &str, last: &str) -> Result<()> {
        let failed = |why: String| {
            let error = HostError::new(Reason::Command, format!("`{what}` failed")).cause(why);
            if last.is_empty() {
                error
            } else {
                error.cause(last)
            }
        };
        match ended {
            Ended::Exited(0) => Ok(()),
            Ended::Exited(code) => Err(failed(format!("exit status {code}"))
                .hint("run it by hand in the release's folder as the deploy user; the site is as it was")),
            Ended::Signalled(signal) => Err(failed(format!("ended by signal {signal}"))),
            Ended::TimedOut => Err(failed(format!("it took longer than {} s", self.limit.as_secs()))),
            Ended::NotStarted => Err(HostError::new(Reason::Command, format!("there is no program `{}` on the host", self.php))
                .hint("install PHP on the host, or set `php` in relstore.toml to the program's name or path")),
        }
    }

    fn key(&self, root: &Path, php: &str) -> Result<String> {
        let dotenv = root.join(".env");
        let digest = match disk::read(&dotenv)? {
            Some(bytes) => BlobId::of(&bytes).to_string(),
            None => "none".into(),
        };
        Ok(
            blake3::hash(format!("{}\n{digest}\n{php}\n", self.release).as_bytes())
                .to_hex()
                .to_string(),
        )
    }

    fn make(&self, root: &Path, line: &mut dyn FnMut(&str)) -> Result<()> {
        let new = root.join(NEW);
        if let Some(problem) = disk::remove_tree(&new).first() {
            return Err(
                HostError::new(Reason::Io, "cannot remove what an earlier attempt left")
                    .cause(problem),
            );
        }
        disk::make_dir(&new, FOLDER_MODE)?;
        disk::make_dir(&new.join("views"), FOLDER_MODE)?;
        let path = |path: PathBuf| path.to_string_lossy().into_owned();
        let mut env: Vec<(&'static str, String)> = FILES
            .iter()
            .map(|(variable, name)| (*variable, path(new.join(name))))
            .collect();
        // No configuration cache is at its path yet, so artisan reads the files and this variable.
        let now = [("VIEW_COMPILED_PATH", path(new.join("views")))];
        let later = [("VIEW_COMPILED_PATH", path(root.join(CACHE).join("views")))];
        for (name, views) in [
            ("view:cache", &now),
            ("event:cache", &now),
            ("route:cache", &now),
            ("config:cache", &later),
        ] {
            env.truncate(FILES.len());
            env.extend(views.iter().cloned());
            let argv: Vec<String> = [self.php, "artisan", name, "--no-interaction", "--no-ansi"]
                .map(str::to_owned)
                .into();
            let job = Job {
                argv: &argv,
                dir: root,
                env: &env,
                umask: UMASK,
                limit: self.limit,
            };
            let mut last = String::new();
            let ended = command::run(
                &job,
                &mut |text| {
                    if !text.trim().is_empty() {
                        text.clone_into(&mut last);
                    }
                    line(text);
                },
                self.gone,
            )?;
            self.check(ended, &format!("php artisan {name}"), &last)?;
        }
        Ok(())
    }

    /// Gives everything its name, each in one step.
    fn publish(&self, root: &Path) -> Result<()> {
        let (new, cache) = (root.join(NEW), root.join(CACHE));
        self.set_modes(&new)?;
        disk::sync_all(&new)?;
        let (from, to) = (new.join("views"), cache.join("views"));
        if to.exists() {
            renameat_with(CWD, &from, CWD, &to, RenameFlags::EXCHANGE).at("exchange", &to)?;
        } else {
            fs::rename(&from, &to).at("rename to", &to)?;
        }
        for (_, name) in FILES {
            let (from, to) = (new.join(name), cache.join(name));
            match fs::rename(&from, &to) {
                // An application without events or packages has no such cache.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => disk::remove(&to)?,
                renamed => renamed.at("rename to", &to)?,
            }
        }
        disk::sync_dir(&cache)?;
        match disk::remove_tree(&new).into_iter().next() {
            Some(problem) => {
                Err(HostError::new(Reason::Io, "cannot remove the old caches").cause(problem))
            }
            None => Ok(()),
        }
    }

    /// The web server reads and does not write.
    fn set_modes(&self, path: &Path) -> Result<()> {
        let meta = fs::symlink_metadata(path).at("look at", path)?;
        if let Some(group) = self.group {
            group.give(path)?;
        }
        let mode = match meta.is_dir() {
            true if path.ends_with("views") => VIEWS_MODE,
            true => FOLDER_MODE,
            false => FILE_MODE,
        };
        fs::set_permissions(path, PermissionsExt::from_mode(mode)).at("set the mode of", path)?;
        if meta.is_dir() {
            for entry in fs::read_dir(path).at("list", path)?.flatten() {
                self.set_modes(&entry.path())?;
            }
        }
        Ok(())
    }
}

/// Digests of all files below a folder of a release, by their path in it.
fn hash_below(root: &Path, folder: &Path, files: &mut BTreeMap<String, BlobId>) -> Result<()> {
    let path = root.join(folder);
    let Ok(entries) = fs::read_dir(&path) else {
        return Ok(());
    };
    for entry in entries.flatten() {
        let inner = folder.join(entry.file_name());
        let kind = entry.file_type().at("look at", &entry.path())?;
        if kind.is_dir() {
            hash_below(root, &inner, files)?;
        } else if kind.is_file() {
            let (_, digest) = verify::hash(&entry.path()).at("read", &entry.path())?;
            files.insert(inner.to_string_lossy().into_owned(), digest);
        }
    }
    Ok(())
}
