//! Runs programs: cleared environment, a umask, a process group of their own that ends with them,
//! output line by line, a time limit.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal};
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::error::BuildError;

/// Longest line that is passed on, in bytes; longer ones are cut into several.
const MAX_LINE: usize = 16 << 10;
/// How long output may still come after the program has ended, from processes that left its group.
const LATE_OUTPUT: Duration = Duration::from_secs(5);

/// A program ready to run.
pub(crate) struct Invocation<'a> {
    pub(crate) program: &'a Path,
    pub(crate) args: Vec<OsString>,
    /// The whole environment.
    pub(crate) env: Vec<(OsString, OsString)>,
    pub(crate) folder: &'a Path,
    pub(crate) limit: Duration,
    pub(crate) umask: u32,
    /// `NAME=value` that only processes of this program have in their environment: what left its
    /// group is found and killed by it.
    pub(crate) marker: Option<OsString>,
}

impl<'a> Invocation<'a> {
    /// A program without arguments, with umask 022 and an hour of time.
    pub(crate) fn new(program: &'a Path, folder: &'a Path, env: Vec<(OsString, OsString)>) -> Self {
        Self {
            program,
            args: Vec::new(),
            env,
            folder,
            limit: Duration::from_secs(3600),
            umask: 0o022,
            marker: None,
        }
    }
}

/// How a program ended.
pub(crate) enum Ended {
    Status(ExitStatus),
    /// It was killed after its time limit.
    TimedOut,
}

/// Finds a program in a search path.
pub(crate) fn find(search_path: &str, name: &str) -> Option<PathBuf> {
    search_path
        .split(':')
        .map(Path::new)
        // A relative folder would mean another program in every working directory.
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join(name))
        .find(|path| {
            std::fs::metadata(path)
                .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
        })
}

/// Runs a program to its end; `on_line` gets each line of both streams. When the returned future
/// is dropped, the program and all of its process group are killed.
pub(crate) async fn run(
    invocation: Invocation<'_>,
    on_line: &(dyn Fn(String) + Sync),
) -> Result<Ended, BuildError> {
    let start_error = |source| BuildError::Start {
        program: invocation.program.to_owned(),
        source,
    };
    let mut child = tokio::process::Command::new("/bin/sh")
        // The umask is a property of the process: setting it here would change ours.
        .arg("-c")
        .arg(format!("umask {:03o}; exec \"$@\"", invocation.umask))
        .arg("sh")
        .arg(invocation.program)
        .args(&invocation.args)
        .env_clear()
        .envs(invocation.env.iter().map(|(name, value)| (name, value)))
        .current_dir(invocation.folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(start_error)?;
    let group = Group {
        leader: child
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .and_then(Pid::from_raw),
        marker: invocation.marker,
    };
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let mut readers = pin!(async {
        tokio::join!(read(stdout, on_line), read(stderr, on_line));
    });
    let mut all_read = false;
    let mut limit = pin!(tokio::time::sleep(invocation.limit));
    let ended = loop {
        tokio::select! {
            status = child.wait() => break Ended::Status(status.map_err(start_error)?),
            () = &mut readers, if !all_read => all_read = true,
            () = &mut limit => break Ended::TimedOut,
        }
    };
    // What it started and left behind must not outlive it, nor keep its output open.
    drop(group);
    if !all_read {
        let _ = tokio::time::timeout(LATE_OUTPUT, readers).await;
    }
    if let Ended::TimedOut = ended {
        // Killed with its group; this also takes its entry out of the process table.
        let _ = child.kill().await;
    }
    Ok(ended)
}

/// A process group that is killed when this is dropped, with all that left it. Its number cannot
/// have gone to others by then: it is dropped at the latest right after its leader was waited for.
struct Group {
    leader: Option<Pid>,
    marker: Option<OsString>,
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.leader {
            let _ = rustix::process::kill_process_group(leader, Signal::KILL);
        }
        if let Some(marker) = &self.marker {
            kill_marked(marker);
        }
    }
}

/// Kills every process with this in its environment. Twice: one may have been starting another.
fn kill_marked(marker: &OsStr) {
    for _ in 0..2 {
        for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
            let name = entry.file_name();
            let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            let environment = std::fs::read(entry.path().join("environ")).unwrap_or_default();
            let mut variables = environment.split(|&byte| byte == 0);
            if variables.any(|variable| variable == marker.as_bytes())
                && let Some(pid) = Pid::from_raw(pid)
            {
                let _ = rustix::process::kill_process(pid, Signal::KILL);
            }
        }
    }
}

/// Passes on lines; a carriage return ends one, as programs draw progress with it.
async fn read(stream: Option<impl AsyncRead + Unpin>, on_line: &(dyn Fn(String) + Sync)) {
    let Some(mut stream) = stream else { return };
    let mut chunk = [0; 8 << 10];
    let mut line = Vec::new();
    let emit = |line: &mut Vec<u8>| {
        if !line.is_empty() {
            on_line(String::from_utf8_lossy(line).into_owned());
            line.clear();
        }
    };
    // An error of the pipe is its end: the exit status tells what happened.
    while let Ok(count @ 1..) = stream.read(&mut chunk).await {
        for &byte in &chunk[..count] {
            if matches!(byte, b'\n' | b'\r') {
                emit(&mut line);
            } else {
                line.push(byte);
                if line.len() >= MAX_LINE {
                    emit(&mut line);
                }
            }
        }
    }
    emit(&mut line);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::sync::Mutex;
    use std::time::Instant;

    async fn sh(script: &str, limit: Duration) -> (Ended, Vec<String>) {
        let lines = Mutex::new(Vec::new());
        let ended = run(
            Invocation {
                args: vec!["-c".into(), script.into()],
                limit,
                marker: Some(format!("MARKER={}", std::process::id()).into()),
                ..Invocation::new(Path::new("/bin/sh"), Path::new("/"), environment())
            },
            &|line| lines.lock().unwrap().push(line),
        )
        .await
        .unwrap();
        (ended, lines.into_inner().unwrap())
    }

    fn environment() -> Vec<(OsString, OsString)> {
        vec![
            ("PATH".into(), "/usr/bin:/bin".into()),
            ("MARKER".into(), std::process::id().to_string().into()),
        ]
    }

    const LONG: Duration = Duration::from_secs(60);

    /// Whether the process ends within a second, as one that was killed does; a zombie that waits
    /// for its parent has ended.
    async fn ends(pid: &str) -> bool {
        for _ in 0..200 {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            if stat.is_empty() || stat.contains(") Z") {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        false
    }

    #[tokio::test]
    async fn environment_and_umask_are_the_same_for_everyone() {
        let (ended, lines) = sh("umask; env", LONG).await;
        assert!(matches!(ended, Ended::Status(status) if status.success()));
        let names: Vec<&str> = lines[1..]
            .iter()
            .filter_map(|line| line.split('=').next())
            .filter(|name| !matches!(*name, "PWD" | "_" | "SHLVL" | "OLDPWD"))
            .collect();
        assert_eq!((lines[0].as_str(), names), ("0022", vec!["MARKER", "PATH"]));
    }

    #[tokio::test]
    async fn lines_come_from_both_streams_and_from_carriage_returns() {
        let (_, mut lines) = sh("printf 'a\\rb\\n\\377\\nend'; echo err >&2", LONG).await;
        lines.sort();
        assert_eq!(lines, ["a", "b", "end", "err", "\u{fffd}"]);
    }

    #[tokio::test]
    async fn what_a_program_leaves_behind_ends_with_it() {
        let started = Instant::now();
        let (_, lines) = sh("sleep 300 & echo $!", LONG).await;
        assert!(started.elapsed() < LATE_OUTPUT);
        assert!(ends(&lines[0]).await);
    }

    #[tokio::test]
    async fn what_left_the_group_ends_with_it() {
        let (_, lines) = sh("setsid sh -c 'sleep 300 & echo $!' & wait", LONG).await;
        assert!(ends(&lines[0]).await);
    }

    #[tokio::test]
    async fn time_limit_kills_the_whole_group() {
        let (ended, lines) = sh("sleep 300 & echo $!; sleep 300", Duration::from_millis(300)).await;
        assert!(matches!(ended, Ended::TimedOut));
        assert!(ends(&lines[0]).await);
    }

    #[tokio::test]
    async fn dropping_the_future_kills_the_whole_group() {
        let folder = tempfile::tempdir().unwrap();
        let script = format!(
            "sleep 300 & echo $! > {0}/t; mv {0}/t {0}/pid; wait",
            folder.path().display()
        );
        let file = folder.path().join("pid");
        let running = sh(&script, LONG);
        let written = async {
            while !file.exists() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::select! { _ = running => panic!("must not end"), () = written => {} }
        let pid = std::fs::read_to_string(&file).unwrap();
        assert!(ends(pid.trim()).await);
    }

    #[test]
    fn programs_are_found_in_absolute_folders_only() {
        assert_eq!(find(".:bin:/bin", "sh"), Some(PathBuf::from("/bin/sh")));
        assert_eq!(find("", "sh"), None);
        assert_eq!(find("/etc", "passwd"), None, "not executable");
    }
}
