//! Runs commands in a release's folder: a session of their own, ended with the helper, the lock
//! inherited, no shell.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use super::accounts;
use super::error::{At, HostError, Result};
use crate::protocol::{Ended, Reason};

/// Longest line that is passed on, in bytes.
const LINE: u64 = 4096;
/// How often a running command is looked at.
const TICK: Duration = Duration::from_millis(10);
/// How long output is waited for after a command ended: a daemon that it started may keep the
/// pipe open for ever.
const LAST_OUTPUT: Duration = Duration::from_millis(300);
/// Where programs are when the login gives no PATH.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What to run.
#[derive(Debug)]
pub(crate) struct Job<'a> {
    pub(crate) argv: &'a [String],
    pub(crate) dir: &'a Path,
    /// Added to the fixed environment.
    pub(crate) env: &'a [(&'static str, String)],
    pub(crate) umask: u32,
    pub(crate) limit: Duration,
}

/// Runs a job. `line` gets each line of output; `gone` tells that nobody waits any more, and then
/// the command is ended.
pub(crate) fn run(
    job: &Job<'_>,
    line: &mut dyn FnMut(&str),
    gone: &dyn Fn() -> bool,
) -> Result<Ended> {
    let Some((program, arguments)) = job.argv.split_first() else {
        return Err(HostError::new(Reason::Protocol, "an empty command"));
    };
    let path = std::env::var("PATH").map_or_else(
        |_| DEFAULT_PATH.to_owned(),
        |path| format!("{path}:{DEFAULT_PATH}"),
    );
    let Some(program) = find(program, &path, job.dir) else {
        return Ok(Ended::NotStarted);
    };
    let helper = std::env::current_exe().at("find", Path::new("relstore-host"))?;
    let (reader, writer) = std::io::pipe().at("make a pipe for", &program)?;
    let second = writer.try_clone().at("make a pipe for", &program)?;
    let mut command = Command::new(helper);
    command
        .arg("step")
        .arg(job.umask.to_string())
        .arg(std::process::id().to_string())
        .arg(&program)
        .args(arguments)
        .current_dir(job.dir)
        .env_clear()
        .env("PATH", path)
        .env("LANG", "C.UTF-8")
        .stdin(Stdio::null())
        .stdout(writer)
        .stderr(second);
    let uid = rustix::process::getuid().as_raw();
    let user = accounts::user_name(uid);
    command.env("USER", &user).env("LOGNAME", &user);
    if let Some(home) = std::env::var("HOME").ok().or_else(|| accounts::home(uid)) {
        command.env("HOME", home);
    }
    command.envs(job.env.iter().map(|(name, value)| (name, value)));
    let child = command.spawn().at("start", &program)?;
    drop(command); // closes our ends of the pipe, so that its end is the command's
    let (sender, lines) = mpsc::channel();
    std::thread::spawn(move || {
        let mut reader = BufReader::new(reader);
        let mut bytes = Vec::new();
        while matches!(
            reader.by_ref().take(LINE).read_until(b'\n', &mut bytes),
            Ok(1..)
        ) {
            let text = String::from_utf8_lossy(&bytes)
                .trim_end_matches(['\n', '\r'])
                .to_owned();
            if sender.send(text).is_err() {
                return;
            }
            bytes.clear();
        }
    });
    wait(child, &lines, job.limit, line, gone).at("wait for", &program)
}

fn wait(
    mut child: Child,
    lines: &Receiver<String>,
    limit: Duration,
    line: &mut dyn FnMut(&str),
    gone: &dyn Fn() -> bool,
) -> std::io::Result<Ended> {
    let began = Instant::now();
    let mut timed_out = false;
    let status = loop {
        match lines.recv_timeout(TICK) {
            Ok(text) => line(&text),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => std::thread::sleep(TICK),
        }
        if let Some(status) = child.try_wait()? {
            break status;
        }
        timed_out = timed_out || began.elapsed() > limit;
        if timed_out || gone() {
            end(&child);
        }
    };
    let until = Instant::now() + LAST_OUTPUT;
    while let Ok(text) = lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
        line(&text);
    }
    Ok(match (timed_out, status.code(), status.signal()) {
        (true, ..) => Ended::TimedOut,
        (_, Some(code), _) => Ended::Exited(code),
        (.., signal) => Ended::Signalled(signal.unwrap_or_default()),
    })
}

/// Ends the command and what it started in its session.
fn end(child: &Child) {
    if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        let _ = kill_process_group(group, Signal::KILL);
    }
}

/// Looks a program up as `execvp` does; relative names with a slash count from `dir`.
fn find(program: &str, path: &str, dir: &Path) -> Option<PathBuf> {
    use std::os::unix::fs::PermissionsExt;
    let runs = |file: &PathBuf| {
        std::fs::metadata(file)
            .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
    };
    if program.contains('/') {
        return Some(dir.join(program)).filter(runs);
    }
    path.split(':')
        .filter(|folder| folder.starts_with('/'))
        .map(|folder| Path::new(folder).join(program))
        .find(runs)
}

/// `relstore-host step UMASK PARENT PROGRAM ARGS...`: becomes the command, in a session of its own,
/// to be killed when the helper ends. A step of its own because this cannot be arranged between
/// fork and exec without unsafe code. Returns only when it failed.
pub fn step(arguments: &[std::ffi::OsString]) -> std::io::Error {
    use std::os::unix::process::CommandExt;
    let text = |at: usize| arguments.get(at).and_then(|argument| argument.to_str());
    let (Some(umask), Some(parent), Some(program)) = (
        text(0).and_then(|text| text.parse().ok()),
        text(1).and_then(|text| text.parse().ok()),
        arguments.get(2),
    ) else {
        return std::io::Error::other("usage: relstore-host step UMASK PARENT PROGRAM ARGS...");
    };
    if let Err(error) = rustix::process::set_parent_process_death_signal(Some(Signal::KILL)) {
        return error.into();
    }
    // The helper may have ended before the line above.
    if rustix::process::getppid() != Pid::from_raw(parent) {
        return std::io::Error::other("the helper has ended");
    }
    if let Err(error) = rustix::process::setsid() {
        return error.into();
    }
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(umask));
    Command::new(program).args(&arguments[3..]).exec()
}
