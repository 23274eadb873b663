//! Servers that checks ask for: started in a private folder when the first check needs one, used by
//! all, gone with the build. Nothing listens on the network.

mod attended;
mod error;
mod mariadb;

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use tokio::sync::OnceCell;

use crate::process;
use mariadb::MariaDb;

pub use error::ServiceError;

/// A server by name, as a configuration lists it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Service {
    /// MariaDB. Each check gets a database of its own, and `DB_CONNECTION=mysql`, `DB_HOST`,
    /// `DB_SOCKET`, `DB_DATABASE`, `DB_USERNAME` and `DB_PASSWORD`, as Laravel reads them. The user
    /// may make more databases whose names begin with its own, as parallel test runners do.
    MariaDb,
}

impl Service {
    /// All services.
    pub const ALL: [Self; 1] = [Self::MariaDb];

    /// The name in a configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::MariaDb => "mariadb",
        }
    }

    /// The first program of it that is in no folder of the search path.
    pub(crate) fn missing_program(self, search_path: &str) -> Option<&'static str> {
        let search_path = with_system_folders(search_path);
        let mut programs = match self {
            Self::MariaDb => mariadb::PROGRAMS.iter().copied(),
        };
        programs.find(|program| process::find(&search_path, program).is_none())
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A service nobody knows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no service `{name}`, the services are: mariadb")]
pub struct UnknownService {
    /// As given.
    pub name: String,
}

impl FromStr for Service {
    type Err = UnknownService;
    fn from_str(text: &str) -> Result<Self, UnknownService> {
        let found = Self::ALL.into_iter().find(|service| service.name() == text);
        found.ok_or_else(|| UnknownService {
            name: text.to_owned(),
        })
    }
}

/// A user's search path on Debian has no servers.
fn with_system_folders(search_path: &str) -> String {
    format!("{search_path}:/usr/local/sbin:/usr/sbin:/sbin")
}

/// The services of one build. What runs is killed when this is dropped.
pub(crate) struct Services {
    folder: PathBuf,
    search_path: String,
    /// Who gets a database.
    mariadb_users: Vec<String>,
    mariadb: OnceCell<Result<MariaDb, ServiceError>>,
}

impl Services {
    /// Nothing is started. `folder` is private, and made when it is needed.
    pub(crate) fn new(folder: PathBuf, search_path: &str, mariadb_users: Vec<String>) -> Self {
        Self {
            folder,
            search_path: with_system_folders(search_path),
            mariadb_users,
            mariadb: OnceCell::new(),
        }
    }

    /// The variables with which a check finds a service, which is started by the first that asks.
    /// When that fails, it fails for everybody.
    pub(crate) async fn variables(
        &self,
        service: Service,
        check: &str,
    ) -> Result<Vec<(OsString, OsString)>, &ServiceError> {
        match service {
            Service::MariaDb => {
                let start = || {
                    MariaDb::start(
                        self.folder.join(service.name()),
                        &self.search_path,
                        &self.mariadb_users,
                    )
                };
                let started = self.mariadb.get_or_init(start).await.as_ref();
                started.map(|server| server.variables(check))
            }
        }
    }

    /// Ends what runs, and waits for its end: its folder can be removed then.
    pub(crate) async fn stop(self) {
        if let Some(Ok(server)) = self.mariadb.into_inner() {
            server.stop().await;
        }
    }
}
