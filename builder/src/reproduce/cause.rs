//! Why two builds differ, and what to do about it.

use crate::conditions::Condition;

/// A cause that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// Its name in JSON and in `docs/reproducible.md`.
    pub id: &'static str,
    /// What happened, without a period.
    pub sentence: &'static str,
    /// What to do about it, without a period.
    pub remedy: &'static str,
}

/// How sure a cause is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// The file differs when this condition alone is another one.
    Alone(Condition),
    /// The file differs although all conditions are the same.
    Unsteady,
    /// The file differs because others do.
    Follows,
    /// What differs looks like it.
    Looks,
}

/// Why one file differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cause {
    /// What is known about it.
    pub known: Known,
    /// How that is known.
    pub proof: Proof,
}

/// The cause of what differs without any condition being varied, when no rule knows better.
pub(super) const UNSTEADY: Known = Known {
    id: "unsteady",
    sentence: "it differs from build to build although nothing around it does: random numbers, memory addresses, or work done at the same time",
    remedy: "find the step that writes it (`relstore build -v`) and give it a fixed seed or one worker",
};

/// The cause of a file that names others.
pub(super) const FOLLOWS: Known = Known {
    id: "names-changed-files",
    sentence: "it differs only because it names files whose names have changed",
    remedy: "look at those files",
};

pub(super) const PATH: Known = Known {
    id: "path",
    sentence: "it depends on the folder in which the build lies",
    remedy: "write paths relative to the project; `base_path()` and `__DIR__` belong into code that runs on the host, not into what is built",
};
pub(super) const TIME: Known = Known {
    id: "time",
    sentence: "it has the time of the build in it",
    remedy: "take the time from the variable SOURCE_DATE_EPOCH, which is that of the commit, or leave it out",
};
pub(super) const FOLDER_ORDER: Known = Known {
    id: "folder-order",
    sentence: "it depends on the order in which a folder lists its files, which is another one on each disk",
    remedy: "sort what is read from a folder before it is used",
};
pub(super) const TIME_ZONE: Known = Known {
    id: "time-zone",
    sentence: "it depends on the time zone",
    remedy: "write times in UTC (`date -u`, `gmdate`, `toISOString`)",
};
pub(super) const LOCALE: Known = Known {
    id: "locale",
    sentence: "it depends on the locale: order, case or the form of numbers and dates",
    remedy: "name the locale where it matters (`LC_ALL=C sort`, `toLocaleString('en-US')`)",
};
pub(super) const UMASK: Known = Known {
    id: "umask",
    sentence: "it depends on the umask",
    remedy: "say the mode where a file is made (`install -m 0644`, `tar --mode`)",
};
pub(super) const PROCESSORS: Known = Known {
    id: "processors",
    sentence: "it depends on the number of processors",
    remedy: "give the tool a fixed number of workers, or sort what they return",
};
pub(super) const HOME: Known = Known {
    id: "home-folder",
    sentence: "it depends on the home folder",
    remedy: "keep caches and configuration of tools in the project, and their paths out of what is built",
};
pub(super) const HOST_NAME: Known = Known {
    id: "host-name",
    sentence: "it has the name of the machine in it",
    remedy: "leave it out; which host built a release is said by its provenance",
};
pub(super) const USER: Known = Known {
    id: "user",
    sentence: "it depends on the user that builds",
    remedy: "leave names and numbers of users out (`tar --owner=0 --group=0 --numeric-owner`)",
};

/// What is known about a file that depends on a condition.
pub(super) const fn of_condition(condition: Condition) -> Known {
    match condition {
        Condition::Place => PATH,
        Condition::Clock => TIME,
        Condition::Order => FOLDER_ORDER,
        Condition::TimeZone => TIME_ZONE,
        Condition::Locale => LOCALE,
        Condition::Umask => UMASK,
        Condition::Cpus => PROCESSORS,
        Condition::Home => HOME,
        Condition::HostName => HOST_NAME,
        Condition::User => USER,
    }
}
