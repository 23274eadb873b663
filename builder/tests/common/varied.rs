//! Builds a fixture by its `make.sh` under conditions, in a sandbox with a fixed place.
#![allow(clippy::unwrap_used, dead_code, unreachable_pub)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use relstore_builder::BuildError;
use relstore_builder::conditions::{Conditions, copy_in_order};
use relstore_builder::reproduce::{BuiltTree, Circumstances};

/// Where the private folder lies for what runs in the sandbox.
const INSIDE: &str = "/mnt";

pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../fixtures/irreproducible")
        .join(name)
}

/// Builds `source` and returns its folder `out`.
pub fn build(source: &Path, conditions: &Conditions) -> Result<BuiltTree, BuildError> {
    let private = match conditions.order {
        Some(_) => tempfile::tempdir_in("/dev/shm").unwrap(),
        None => tempfile::tempdir().unwrap(),
    };
    let folder = private.path().join(&conditions.place);
    for made in [&folder, &private.path().join(&conditions.home)] {
        std::fs::create_dir_all(made).unwrap();
    }
    copy_in_order(source, &folder, conditions.order)?;
    let started = SystemTime::now();
    let inside = |name: &str| format!("{INSIDE}/{name}");
    let output = command(private.path(), conditions).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    if !output.status.success() {
        // Any error that passes on what was said.
        return Err(BuildError::Git {
            what: "run make.sh",
            said: vec![String::from_utf8_lossy(&said).into_owned()],
        });
    }
    let circumstances = Circumstances {
        conditions: conditions.clone(),
        unvaried: BTreeMap::new(),
        folder: inside(&conditions.place),
        home: inside(&conditions.home),
        env: BTreeMap::new(),
        started,
        finished: SystemTime::now(),
    };
    Ok(BuiltTree::new(folder.join("out"), circumstances, private))
}

fn command(private: &Path, conditions: &Conditions) -> Command {
    let (user, home) = (
        conditions.user.to_string(),
        format!("{INSIDE}/{}", conditions.home),
    );
    let mut command = Command::new("bwrap");
    command
        .args(["--dev-bind", "/", "/", "--bind"])
        .arg(private)
        .args([INSIDE, "--chdir", &format!("{INSIDE}/{}", conditions.place)])
        .args(["--unshare-user", "--uid", &user, "--gid", &user])
        .args(["--unshare-uts", "--hostname", &conditions.host_name])
        .arg("--clearenv");
    for (name, value) in [
        ("PATH", "/usr/local/bin:/usr/bin:/bin"),
        ("HOME", &home),
        ("TZ", &conditions.time_zone),
        ("LANG", &conditions.locale),
        ("LC_ALL", &conditions.locale),
        ("COMPOSER_ALLOW_SUPERUSER", "1"),
    ] {
        command.args(["--setenv", name, value]);
    }
    command.args(["sh", "-c"]);
    command
        .arg(format!("umask {:03o}; exec \"$@\"", conditions.umask))
        .arg("sh");
    if let Some(count) = conditions.cpus {
        command.args(["taskset", "-c", &format!("0-{}", count - 1)]);
    }
    if conditions.clock_offset != 0 {
        command.args(["faketime", "-f", &format!("+{}s", conditions.clock_offset)]);
    }
    command.args(["sh", "-e", "make.sh"]);
    command
}
