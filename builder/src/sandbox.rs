//! The sandbox of a step: bubblewrap (`bwrap`), where the machine lets ordinary users have
//! namespaces. Arguments and advice are pure; [`probe`] asks the machine.
//!
//! Inside, whoever builds:
//! ```text
//! /build            what the step sees of the source and of other steps, and what it makes
//! /home             HOME, empty
//! /composer, /cache COMPOSER_HOME, downloads (steps with network access)
//! /tmp, /run        private and empty
//! /usr, /etc (a few), /opt, /nix and the folders of the tools   read-only
//! ```
//! One user (1000), one host name, its own processes, which end with it; no network unless the step
//! declares it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::conditions::Conditions;
use crate::error::BuildError;
use crate::process::{self, Ended, Invocation};

/// What the configuration wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SandboxMode {
    /// No build without.
    Required,
    /// Where the machine allows it.
    #[default]
    Auto,
    /// Never.
    Off,
}

/// Folders and files of the machine that programs need and that say nothing about it.
const SYSTEM: [&str; 24] = [
    "/etc/ImageMagick-6",
    "/etc/alternatives",
    "/etc/ca-certificates",
    "/etc/crypto-policies",
    "/etc/fonts",
    "/etc/gai.conf",
    "/etc/host.conf",
    "/etc/hosts",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/mime.types",
    "/etc/nsswitch.conf",
    "/etc/php",
    "/etc/pki",
    "/etc/protocols",
    "/etc/services",
    "/etc/ssh/ssh_known_hosts",
    "/etc/ssl",
    "/nix/store",
    "/opt",
    "/usr",
    "/var/lib/ca-certificates",
    "/var/lib/dpkg/alternatives",
];
/// Links into /usr on most systems, folders on some.
const ROOTS: [&str; 6] = ["/bin", "/lib", "/lib32", "/lib64", "/libx32", "/sbin"];

/// Where things are inside.
pub(crate) const COMPOSER_HOME: &str = "/composer";
pub(crate) const CACHE: &str = "/cache";
pub(crate) const AGENT: &str = "/run/ssh-agent";

/// What one step gets to see.
pub(crate) struct View<'a> {
    /// The folder that becomes `place`.
    pub(crate) build: &'a Path,
    /// Absolute path of it inside.
    pub(crate) place: &'a str,
    /// The folder that becomes HOME.
    pub(crate) home: &'a Path,
    /// Absolute path of it inside.
    pub(crate) home_place: &'a str,
    pub(crate) composer_home: &'a Path,
    pub(crate) network: bool,
    /// Downloads.
    pub(crate) cache: Option<&'a Path>,
    /// Folders that are at the same place inside and can be written.
    pub(crate) shared: &'a [&'a Path],
    /// Files with the names of the user and its group.
    pub(crate) accounts: &'a Path,
    /// Folders and files of tools outside of the system's.
    pub(crate) tools: &'a [PathBuf],
    pub(crate) agent: Option<&'a Path>,
    pub(crate) known_hosts: Option<&'a Path>,
    /// Where it begins to run, inside.
    pub(crate) folder: &'a str,
    pub(crate) conditions: &'a Conditions,
}

impl View<'_> {
    /// The arguments of `bwrap` in front of the program.
    pub(crate) fn arguments(&self) -> Vec<OsString> {
        let conditions = self.conditions;
        let mut args = Arguments::default();
        args.words([
            "--unshare-all",
            "--die-with-parent",
            "--new-session",
            "--hostname",
            &conditions.host_name,
            "--uid",
            &conditions.user.to_string(),
            "--gid",
            &conditions.user.to_string(),
        ]);
        if self.network {
            args.words(["--share-net"]);
        }
        system(&mut args);
        args.words([
            "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "--tmpfs", "/run",
        ]);
        // Behind the private folders: a tool may be installed below one of them.
        for tool in self.tools {
            args.bind("--ro-bind-try", tool, tool);
        }
        args.bind("--ro-bind", &self.accounts.join("passwd"), "/etc/passwd");
        args.bind("--ro-bind", &self.accounts.join("group"), "/etc/group");
        args.bind("--bind", self.build, self.place);
        args.bind("--bind", self.home, self.home_place);
        args.bind("--bind", self.composer_home, COMPOSER_HOME);
        if let Some(cache) = self.cache {
            args.bind("--bind", cache, CACHE);
        }
        for folder in self.shared {
            args.bind("--bind", folder, folder);
        }
        if self.network {
            // Often a link into /run, which is private.
            if let Ok(resolver) = std::fs::canonicalize("/etc/resolv.conf") {
                args.bind("--ro-bind", &resolver, "/etc/resolv.conf");
            }
        }
        if let Some(agent) = self.agent {
            args.bind("--bind", agent, AGENT);
        }
        if let Some(known_hosts) = self.known_hosts {
            let place = format!("{}/.ssh/known_hosts", self.home_place);
            args.bind("--ro-bind", known_hosts, &place);
        }
        args.words(["--chdir", self.folder, "--"]);
        args.0
    }
}

#[derive(Default)]
struct Arguments(Vec<OsString>);

impl Arguments {
    fn words<'a>(&mut self, words: impl IntoIterator<Item = &'a str>) {
        self.0.extend(words.into_iter().map(OsString::from));
    }

    fn bind(&mut self, how: &str, from: &Path, to: impl AsRef<Path>) {
        self.0.extend([how.into(), from.into(), to.as_ref().into()]);
    }
}

fn system(args: &mut Arguments) {
    for root in ROOTS {
        match std::fs::read_link(root) {
            Ok(target) => args.bind("--symlink", &target, root),
            Err(_) => args.bind("--ro-bind-try", Path::new(root), root),
        }
    }
    for path in SYSTEM {
        args.bind("--ro-bind-try", Path::new(path), path);
    }
}

/// Whether every sandbox shows this path.
pub(crate) fn is_shown(path: &Path) -> bool {
    let mut known = SYSTEM.iter().chain(&ROOTS);
    known.any(|known| path.starts_with(known))
}

/// The folder of a program outside of the system's that it needs to run: where it was installed,
/// such as `~/.nvm/versions/node/v20`. Never a home folder as a whole, which holds secrets.
pub(crate) fn tool_folders(program: &Path, home: Option<&Path>) -> Vec<PathBuf> {
    let mut folders = Vec::new();
    let real = std::fs::canonicalize(program).unwrap_or_else(|_| program.to_owned());
    for path in [program, &real] {
        if is_shown(path) {
            continue;
        }
        let bin = path.parent().unwrap_or(Path::new("/"));
        let prefix = bin.parent().unwrap_or(bin);
        let private = |folder: &Path| {
            home.is_some_and(|home| home.starts_with(folder) || folder == home.join(".local"))
        };
        let installed = bin.ends_with("bin") && prefix.components().count() > 2;
        folders.push(match installed && !private(prefix) {
            true => prefix.to_owned(),
            false => path.to_owned(),
        });
    }
    folders.dedup();
    folders
}

/// What a machine answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Probe {
    /// Sandboxes work; the program.
    Works(PathBuf),
    /// They do not: why, and what to do about it.
    Fails { why: String, remedy: String },
}

/// Tries to run a program in a sandbox.
pub(crate) async fn probe(search_path: &str) -> Result<Probe, BuildError> {
    let Some(program) = process::find(search_path, "bwrap") else {
        return Ok(Probe::Fails {
            why: "bubblewrap is not installed".to_owned(),
            remedy: "`apt install bubblewrap`".to_owned(),
        });
    };
    let mut args = Arguments::default();
    args.words([
        "--unshare-all",
        "--uid",
        "1000",
        "--gid",
        "1000",
        "--hostname",
        "probe",
    ]);
    system(&mut args);
    args.words([
        "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "--", "/bin/sh", "-c", ":",
    ]);
    let said = std::sync::Mutex::new(Vec::new());
    let keep = |line: String| {
        said.lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .push(line);
    };
    let invocation = Invocation {
        args: args.0,
        limit: Duration::from_secs(20),
        ..Invocation::new(&program, Path::new("/"), Vec::new())
    };
    let ended = process::run(invocation, &keep).await?;
    if matches!(ended, Ended::Status(status) if status.success()) {
        return Ok(Probe::Works(program));
    }
    let said = said
        .into_inner()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    Ok(Probe::Fails {
        why: said.join("; "),
        remedy: remedy(&Machine::look()),
    })
}

/// What decides whether namespaces can be had.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Machine {
    /// `kernel.apparmor_restrict_unprivileged_userns` is 1 (Ubuntu 24.04 and its runners).
    apparmor: bool,
    /// `kernel.unprivileged_userns_clone` is 0 (older Debian).
    clone_off: bool,
    /// `user.max_user_namespaces` is 0.
    none_left: bool,
    /// Inside a container of Docker or Podman.
    container: bool,
}

impl Machine {
    fn look() -> Self {
        let is = |name: &str, value: &str| {
            std::fs::read_to_string(Path::new("/proc/sys").join(name))
                .is_ok_and(|text| text.trim() == value)
        };
        Self {
            apparmor: is("kernel/apparmor_restrict_unprivileged_userns", "1"),
            clone_off: is("kernel/unprivileged_userns_clone", "0"),
            none_left: is("user/max_user_namespaces", "0"),
            container: Path::new("/.dockerenv").exists()
                || Path::new("/run/.containerenv").exists(),
        }
    }
}

/// What to do on a machine where sandboxes fail.
fn remedy(machine: &Machine) -> String {
    if machine.container {
        "start the container with `--security-opt seccomp=unconfined --security-opt apparmor=unconfined` (and `--security-opt systempaths=unconfined`), or build with `[build] sandbox = \"off\"`"
    } else if machine.apparmor {
        "`sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0` allows it until the next boot; an AppArmor profile for /usr/bin/bwrap with the rule `userns,` allows it for bubblewrap alone"
    } else if machine.clone_off {
        "`sudo sysctl kernel.unprivileged_userns_clone=1` allows it; write it into /etc/sysctl.d to keep it"
    } else if machine.none_left {
        "`sudo sysctl user.max_user_namespaces=15000` allows it; write it into /etc/sysctl.d to keep it"
    } else {
        "the machine forbids user namespaces; build elsewhere, or with `[build] sandbox = \"off\"`"
    }
    .to_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn each_machine_gets_its_own_advice() {
        let all = Machine {
            apparmor: true,
            clone_off: true,
            none_left: true,
            container: true,
        };
        assert!(remedy(&all).contains("--security-opt"));
        for (machine, word) in [
            (
                Machine {
                    apparmor: true,
                    ..Machine::default()
                },
                "apparmor_restrict_unprivileged_userns=0",
            ),
            (
                Machine {
                    clone_off: true,
                    ..Machine::default()
                },
                "unprivileged_userns_clone=1",
            ),
            (
                Machine {
                    none_left: true,
                    ..Machine::default()
                },
                "max_user_namespaces",
            ),
            (Machine::default(), "sandbox = \"off\""),
        ] {
            assert!(remedy(&machine).contains(word), "{machine:?}");
        }
    }

    #[test]
    fn a_tool_shows_its_own_folder_and_never_a_home() {
        let home = Some(Path::new("/home/u"));
        for (program, shown) in [
            ("/usr/bin/php", None),
            (
                "/home/u/.nvm/versions/node/v20/bin/node",
                Some("/home/u/.nvm/versions/node/v20"),
            ),
            ("/home/u/bin/composer", Some("/home/u/bin/composer")),
            (
                "/home/u/.local/bin/composer",
                Some("/home/u/.local/bin/composer"),
            ),
            ("/srv/composer.phar", Some("/srv/composer.phar")),
        ] {
            let folders = tool_folders(Path::new(program), home);
            let shown: Vec<PathBuf> = shown.into_iter().map(PathBuf::from).collect();
            assert_eq!(folders, shown, "{program}");
        }
    }
}
