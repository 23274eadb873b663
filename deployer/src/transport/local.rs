//! The host helper as a process of this machine, for a folder of this machine.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};

use super::bootstrap::{self, Start};
use super::channel::{Channel, Counters, Link, Meter, Metered, Process, Tail};
use super::helper::sha256;
use super::{Caller, HelperBinary, Service, TransportError};

/// What messages call this machine.
const HOST: &str = "this machine";

/// How often a helper that was just written is started. A process that this one forked in the
/// meantime may hold the file open for writing until it executes its own program; until then the
/// kernel calls the helper busy.
const BUSY_ATTEMPTS: u32 = 5;

/// Installs the helper below `base` as on any other host and starts it.
pub(super) async fn open(
    service: Service,
    base: &str,
    helper: &HelperBinary,
    caller: &Caller,
) -> Result<Channel, TransportError> {
    let installed = {
        let (base, helper) = (base.to_owned(), helper.clone());
        let install = tokio::task::spawn_blocking(move || install(&base, &helper));
        install.await.map_err(|error| TransportError::Closed {
            host: HOST.into(),
            doing: "installing the host helper",
            detail: error.to_string(),
        })??
    };
    let mut attempts = if installed { BUSY_ATTEMPTS } else { 1 };
    loop {
        attempts -= 1;
        let channel = started(service, base, helper, caller, installed)?;
        match bootstrap::start(channel).await? {
            Start::Running(channel) => return Ok(*channel),
            Start::Absent { exit, .. } if exit.code == Some(126) && attempts > 0 => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Start::Absent { exit, output } => {
                return Err(TransportError::HelperDoesNotRun {
                    host: HOST.into(),
                    exit,
                    output,
                });
            }
        }
    }
}

/// Returns a channel to the installed helper's process, which may not have got anywhere yet.
fn started(
    service: Service,
    base: &str,
    helper: &HelperBinary,
    caller: &Caller,
    installed: bool,
) -> Result<Channel, TransportError> {
    let path = PathBuf::from(helper.installed(base));
    let mut child = spawn(&path, service, base).map_err(|source| TransportError::Io {
        doing: "run",
        path,
        source,
    })?;
    let meter = Meter::default();
    let stderr = Tail::default();
    let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (Some(stdin), Some(stdout), Some(mut errors)) = pipes else {
        return Err(TransportError::Closed {
            host: HOST.into(),
            doing: "starting the host helper",
            detail: "its pipes are missing".into(),
        });
    };
    let tail = stderr.clone();
    let collected = tokio::spawn(async move {
        let mut piece = vec![0; 4 << 10];
        while let Ok(read @ 1..) = errors.read(&mut piece).await {
            tail.push(&piece[..read]);
        }
    });
    Ok(Channel {
        reader: Box::new(Metered::new(stdout, &meter)),
        writer: Box::new(Metered::new(stdin, &meter)),
        link: Link {
            host: HOST.into(),
            stderr,
            counters: Counters {
                payload: meter.clone(),
                wire: meter,
            },
            installed,
            limit: caller.limits.idle,
            process: Process::Local {
                child,
                stderr: collected,
            },
        },
    })
}

/// Starts the helper in a session of its own, so that neither the terminal's signals nor its end
/// reach it: like a remote one, it learns from its input that the program is gone.
fn spawn(path: &Path, service: Service, base: &str) -> io::Result<Child> {
    let piped = |program: &Path| {
        let mut command = Command::new(program);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    };
    let mut with_session = piped(Path::new("setsid"));
    with_session.arg(path).args(service.words()).arg(base);
    match with_session.spawn() {
        // Without setsid, a process group keeps at least the terminal's signals away.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let mut alone = piped(path);
            alone.args(service.words()).arg(base);
            alone.process_group(0).spawn()
        }
        other => other,
    }
}

/// Puts the helper into its folder unless it is there with the same bytes; returns whether it
/// had to.
fn install(base: &str, helper: &HelperBinary) -> Result<bool, TransportError> {
    let target = PathBuf::from(helper.installed(base));
    if fs::read(&target).is_ok_and(|bytes| sha256(&bytes) == helper.sha256) {
        return Ok(false);
    }
    let failed = |error: io::Error| {
        let (host, base, stderr) = (HOST.to_owned(), base.to_owned(), error.to_string());
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                TransportError::DiskFull { host, base, stderr }
            }
            _ => TransportError::BaseUnwritable { host, base, stderr },
        }
    };
    let folder = PathBuf::from(helper.folder(base));
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(base)
        .map_err(failed)?;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&folder)
        .map_err(failed)?;

    static ATTEMPTS: AtomicU64 = AtomicU64::new(0);
    let attempt = ATTEMPTS.fetch_add(1, Ordering::Relaxed);
    let fresh = folder.join(format!("new.{}.{attempt}", std::process::id()));
    let placed = fs::write(&fresh, &helper.bytes)
        .and_then(|()| fs::set_permissions(&fresh, fs::Permissions::from_mode(0o700)))
        .and_then(|()| fs::rename(&fresh, &target));
    if placed.is_err() {
        // The error is already on its way; a leftover would only cost space.
        let _ = fs::remove_file(&fresh);
    }
    placed.map(|()| true).map_err(failed)
}
