//! A private MariaDB: its own data folder, a Unix socket, no network, users for one build.
//!
//! ```text
//! <folder>/data      made by mariadb-install-db
//! <folder>/init.sql  databases and users, read before the first connection
//! <folder>/log       what the server says
//! <folder>/s         the socket, or in a folder in /tmp when that path is too long
//! ```
//! Nothing is synced to disk, the data is thrown away.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;

use super::attended::Attended;
use super::error::{IoContext, ServiceError};
use crate::check::tail::Tail;
use crate::process::{self, Ended, Invocation};

const INSTALL: &str = "mariadb-install-db";
const SERVER: &str = "mariadbd";
/// What has to be installed.
pub(super) const PROGRAMS: [&str; 2] = [INSTALL, SERVER];

/// How long the server may take until it answers; on an idle machine a third of a second.
const START_LIMIT: Duration = Duration::from_secs(120);
/// How often it is asked.
const INTERVAL: Duration = Duration::from_millis(20);
/// Longest path of a socket, of the 108 bytes of `sun_path`.
const MAX_SOCKET: usize = 107;

/// A running server.
pub(super) struct MariaDb {
    server: Attended,
    socket: PathBuf,
    /// By name of the check.
    databases: BTreeMap<String, Database>,
    /// Where the socket is when the private folder's path is too long.
    _short: Option<tempfile::TempDir>,
}

struct Database {
    /// Of the database and of its user.
    name: String,
    password: String,
}

impl MariaDb {
    /// Sets a server up in a folder that is not there yet, with a database for each of `users`,
    /// and starts it.
    pub(super) async fn start(
        folder: PathBuf,
        search_path: &str,
        users: &[String],
    ) -> Result<Self, ServiceError> {
        let [install, program] = PROGRAMS.map(|program| {
            process::find(search_path, program).ok_or(ServiceError::NoProgram { program })
        });
        let (install, program) = (install?, program?);
        let mut private = DirBuilder::new();
        private.mode(0o700);
        private.create(&folder).at("create", &folder)?;
        let temp = folder.join("tmp");
        private.create(&temp).at("create", &temp)?;
        set_up(&install, &folder, search_path).await?;

        let databases = databases(users)?;
        let init = folder.join("init.sql");
        std::fs::write(&init, statements(databases.values())).at("write", &init)?;
        let (socket, short) = socket(&folder)?;
        let args = server_args(&folder, &socket);
        let env = environment(&folder, search_path);
        let server = Attended::spawn(&program, &args, &env, &folder).at("run", &program)?;
        let mut database = Self {
            server,
            socket,
            databases,
            _short: short,
        };
        database.wait(&folder.join("log")).await?;
        Ok(database)
    }

    /// Waits until the server greets.
    async fn wait(&mut self, log: &Path) -> Result<(), ServiceError> {
        let said = || last_lines(log);
        let greeted = async {
            while !greets(&self.socket).await {
                tokio::time::sleep(INTERVAL).await;
            }
        };
        tokio::select! {
            status = self.server.ended() => Err(ServiceError::Ended {
                program: SERVER,
                status,
                said: said(),
            }),
            () = greeted => Ok(()),
            () = tokio::time::sleep(START_LIMIT) => Err(ServiceError::TimedOut {
                program: SERVER,
                limit: START_LIMIT,
                said: said(),
            }),
        }
    }

    /// What a check has to know; nothing for one that was not named at the start.
    pub(super) fn variables(&self, check: &str) -> Vec<(OsString, OsString)> {
        let Some(database) = self.databases.get(check) else {
            return Vec::new();
        };
        [
            ("DB_CONNECTION", "mysql".into()),
            ("DB_HOST", "localhost".into()),
            ("DB_SOCKET", self.socket.clone().into_os_string()),
            ("DB_DATABASE", database.name.as_str().into()),
            ("DB_USERNAME", database.name.as_str().into()),
            ("DB_PASSWORD", database.password.as_str().into()),
        ]
        .map(|(name, value)| (name.into(), value))
        .into()
    }

    /// Ends the server and waits for its end.
    pub(super) async fn stop(self) {
        self.server.stop().await;
    }
}

/// Makes the data folder.
async fn set_up(program: &Path, folder: &Path, search_path: &str) -> Result<(), ServiceError> {
    let (data, temp) = (
        option("--datadir=", &folder.join("data")),
        option("--tmpdir=", &folder.join("tmp")),
    );
    let mut args = vec![
        "--no-defaults",
        "--auth-root-authentication-method=socket",
        "--innodb-log-file-size=8M",
        "--skip-name-resolve",
        "--skip-test-db",
        &data,
        &temp,
    ];
    args.extend(user());
    let said = std::sync::Mutex::new(Tail::default());
    let keep = |line: String| lock(&said).push(&line);
    let invocation = Invocation {
        args: args.into_iter().map(OsString::from).collect(),
        limit: START_LIMIT,
        ..Invocation::new(program, folder, environment(folder, search_path))
    };
    let ended = process::run(invocation, &keep)
        .await
        .map_err(|error| ServiceError::Start(Box::new(error)))?;
    let said = said
        .into_inner()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
        .into_lines();
    match ended {
        Ended::Status(status) if status.success() => Ok(()),
        Ended::Status(status) => Err(ServiceError::Ended {
            program: INSTALL,
            status: status.to_string(),
            said,
        }),
        Ended::TimedOut => Err(ServiceError::TimedOut {
            program: INSTALL,
            limit: START_LIMIT,
            said,
        }),
    }
}

fn lock<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn option(name: &str, path: &Path) -> String {
    format!("{name}{}", path.display())
}

/// MariaDB refuses to be root unless it is told so. Another account could not enter the private
/// folder; what checks may do in the database is no more than what they may do without it.
fn user() -> Option<&'static str> {
    rustix::process::geteuid()
        .is_root()
        .then_some("--user=root")
}

fn server_args(folder: &Path, socket: &Path) -> Vec<String> {
    let path = |name: &str| folder.join(name);
    let mut args = vec![
        "--no-defaults".to_owned(),
        option("--datadir=", &path("data")),
        option("--tmpdir=", &path("tmp")),
        option("--socket=", socket),
        option("--pid-file=", &path("pid")),
        option("--log-error=", &path("log")),
        option("--init-file=", &path("init.sql")),
    ];
    let fixed = [
        "--skip-networking",
        "--skip-log-bin",
        "--skip-name-resolve",
        "--character-set-server=utf8mb4",
        "--collation-server=utf8mb4_unicode_ci",
        "--innodb-buffer-pool-size=64M",
        "--innodb-doublewrite=0",
        "--innodb-flush-log-at-trx-commit=0",
        "--innodb-flush-method=nosync",
        "--innodb-log-file-size=8M",
    ];
    args.extend(fixed.into_iter().chain(user()).map(str::to_owned));
    args
}

fn environment(folder: &Path, search_path: &str) -> Vec<(OsString, OsString)> {
    vec![
        ("PATH".into(), search_path.into()),
        ("HOME".into(), folder.into()),
        ("LC_ALL".into(), "C.UTF-8".into()),
        ("TZ".into(), "UTC".into()),
    ]
}

fn databases(users: &[String]) -> Result<BTreeMap<String, Database>, ServiceError> {
    let mut databases = BTreeMap::new();
    for (index, user) in users.iter().enumerate() {
        let name = format!("check_{}_", index + 1);
        let password = password().at("read", Path::new("the system's random numbers"))?;
        databases.insert(user.clone(), Database { name, password });
    }
    Ok(databases)
}

fn password() -> rustix::io::Result<String> {
    let mut bytes = [0; 16];
    rustix::rand::getrandom(&mut bytes[..], rustix::rand::GetRandomFlags::empty())?;
    let mut text = String::with_capacity(32);
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    Ok(text)
}

/// One statement per line, as MariaDB reads this file. In a grant `_` stands for any letter.
fn statements<'a>(databases: impl Iterator<Item = &'a Database>) -> String {
    let mut text = String::new();
    for Database { name, password } in databases {
        let pattern = name.replace('_', "\\_");
        let _ = writeln!(
            text,
            "CREATE DATABASE `{name}`;\nCREATE USER `{name}`@localhost IDENTIFIED BY '{password}';\nGRANT ALL ON `{pattern}%`.* TO `{name}`@localhost;"
        );
    }
    text
}

/// Where the socket is.
fn socket(folder: &Path) -> Result<(PathBuf, Option<tempfile::TempDir>), ServiceError> {
    let socket = folder.join("s");
    if socket.as_os_str().len() <= MAX_SOCKET {
        return Ok((socket, None));
    }
    let short = tempfile::Builder::new()
        .prefix("relstore-")
        .tempdir_in("/tmp")
        .at("create a folder in", Path::new("/tmp"))?;
    Ok((short.path().join("s"), Some(short)))
}

/// Whether the server accepts connections: it listens before it does, so its first byte counts.
async fn greets(socket: &Path) -> bool {
    match UnixStream::connect(socket).await {
        Ok(mut stream) => stream.read_u8().await.is_ok(),
        Err(_) => false,
    }
}

fn last_lines(log: &Path) -> Vec<String> {
    let mut tail = Tail::default();
    for line in String::from_utf8_lossy(&std::fs::read(log).unwrap_or_default()).lines() {
        tail.push(line);
    }
    tail.into_lines()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn statements_stand_on_one_line_each_and_grant_only_what_begins_alike() {
        let databases = databases(&["b".to_owned(), "a".to_owned()]).unwrap();
        assert_eq!(databases["b"].name, "check_1_");
        assert_ne!(databases["a"].password, databases["b"].password);
        let text = statements(databases.values());
        assert_eq!(text.lines().count(), 6);
        assert!(text.lines().all(|line| line.ends_with(';')));
        assert!(text.contains("GRANT ALL ON `check\\_1\\_%`.* TO `check_1_`@localhost;"));
    }
}
