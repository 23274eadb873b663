//! A server process that ends with relstore, however that ends: a shell beside it waits for the end
//! of a pipe that only relstore holds open, and kills it then.

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::process::Stdio;

use rustix::process::{Pid, Signal};
use tokio::process::{Child, ChildStdin, Command};

/// Becomes what follows; a part of it stays behind and kills that as soon as the pipe ends.
const SCRIPT: &str = r#"umask 077
exec 3<&0 </dev/null
{ read -r _ <&3; kill -KILL $$; } >/dev/null 2>&1 &
exec 3<&- "$@""#;

/// A running server. It is killed when this is dropped.
pub(super) struct Attended {
    child: Child,
    group: Option<Pid>,
    /// Apart from the child, which would close it when it is waited for.
    _pipe: Option<ChildStdin>,
}

impl Attended {
    /// Starts a program in a process group of its own; its output is thrown away.
    pub(super) fn spawn(
        program: &Path,
        args: &[String],
        env: &[(OsString, OsString)],
        folder: &Path,
    ) -> io::Result<Self> {
        let mut child = Command::new("/bin/sh")
            .args(["-c", SCRIPT, "sh"])
            .arg(program)
            .args(args)
            .env_clear()
            .envs(env.iter().map(|(name, value)| (name, value)))
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let pipe = child.stdin.take();
        let group = child
            .id()
            .and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        Ok(Self {
            child,
            group,
            _pipe: pipe,
        })
    }

    /// Waits until it has ended by itself; the answer is how, `exit status: 1`.
    pub(super) async fn ended(&mut self) -> String {
        match self.child.wait().await {
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        }
    }

    /// Kills it and waits for its end.
    pub(super) async fn stop(mut self) {
        self.kill();
        let _ = self.child.wait().await;
    }

    /// Kills the server and the shell. The number of the group cannot have gone to others: as long
    /// as one of the two lives it is taken, and the shell lives until here.
    fn kill(&mut self) {
        if let Some(group) = self.group.take() {
            let _ = rustix::process::kill_process_group(group, Signal::KILL);
        }
    }
}

impl Drop for Attended {
    fn drop(&mut self) {
        self.kill();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::time::Duration;

    fn sleep() -> Attended {
        let env = [("PATH".into(), "/usr/bin:/bin".into())];
        let args = ["300".to_owned()];
        Attended::spawn(Path::new("/bin/sleep"), &args, &env, Path::new("/")).unwrap()
    }

    const LONG: Duration = Duration::from_secs(30);

    #[tokio::test]
    async fn server_ends_when_the_pipe_does() {
        let mut server = sleep();
        let early = tokio::time::timeout(Duration::from_millis(300), server.ended()).await;
        assert!(early.is_err(), "it goes on as long as the pipe is open");
        // What the kernel does when relstore is killed.
        drop(server._pipe.take());
        let ended = tokio::time::timeout(LONG, server.ended()).await.unwrap();
        assert!(ended.contains("signal: 9"), "{ended}");
    }

    #[tokio::test]
    async fn stopping_waits_for_the_end() {
        let server = sleep();
        let pid = server.child.id().unwrap();
        tokio::time::timeout(LONG, server.stop()).await.unwrap();
        assert!(!Path::new(&format!("/proc/{pid}")).exists());
    }
}
