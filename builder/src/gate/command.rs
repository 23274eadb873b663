//! Command gates: the project's own programs, run in the tree. They must end with 0, in time, and
//! leave the tree as it is.
//!
//! A command gets an environment of its own: the search path, `LC_ALL=C.UTF-8`, `TZ=UTC`, an empty
//! HOME that goes with it. It runs in a process group that ends with it.

use std::collections::BTreeMap;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

use super::answer::{Answer, Finding};
use super::tree::{Kind, Tree};
use super::{Context, timed};
use crate::process;

/// Longest time a command may take.
const LIMIT: Duration = Duration::from_secs(600);
/// How often a running command is looked at.
const PAUSE: Duration = Duration::from_millis(10);
/// How long output may still come from processes that left the group.
const LATE_OUTPUT: Duration = Duration::from_secs(2);
/// Lines of output that are kept, the last ones, and characters of each.
const LINES: usize = 20;
const LINE: usize = 300;
/// Bytes at the end of the output that are enough for these.
const TAIL: usize = 64 << 10;

/// Runs the commands, all at the same time; the answers stand where the command lines stand.
pub(crate) fn ask_all(
    context: &Context<'_>,
    tree: &Tree,
    lines: &[Option<Vec<String>>],
) -> Vec<Option<(Answer, Duration)>> {
    if lines.iter().all(Option::is_none) {
        return Vec::new();
    }
    let before = stamps(tree);
    let ask = |words: &Vec<String>| timed(|| ask(context, words, LIMIT));
    let mut answers: Vec<Option<(Answer, Duration)>> = std::thread::scope(|scope| {
        let running: Vec<_> = lines
            .iter()
            .map(|words| words.as_ref().map(|words| scope.spawn(|| ask(words))))
            .collect();
        let ended = running.into_iter();
        ended
            .map(|one| one.and_then(|one| one.join().ok()))
            .collect()
    });
    let after = Tree::listed(context.root, context.left_out);
    let changed = changes(&before, &stamps(&after));
    // Nobody knows which of them it was.
    for (answer, _) in answers.iter_mut().flatten() {
        answer.findings.extend(changed.iter().cloned());
    }
    answers
}

/// What tells an unchanged file from another one; folders only have to stay.
type Stamp = (u64, i64, i64, u64);

fn stamps(tree: &Tree) -> BTreeMap<&[u8], Option<Stamp>> {
    let stamp = |(path, kind): &(Vec<u8>, Kind)| {
        let meta = std::fs::symlink_metadata(tree.place(path)).ok();
        let meta = meta.filter(|_| *kind != Kind::Folder);
        meta.map(|meta| (meta.ino(), meta.ctime(), meta.ctime_nsec(), meta.size()))
    };
    let paths = tree.paths.iter();
    paths
        .map(|entry| (entry.0.as_slice(), stamp(entry)))
        .collect()
}

fn changes(
    before: &BTreeMap<&[u8], Option<Stamp>>,
    after: &BTreeMap<&[u8], Option<Stamp>>,
) -> Vec<Finding> {
    let finding = |path: &[u8], what| {
        Finding::at(
            path,
            format!("was {what} while the command gates ran, which must only look"),
        )
    };
    let gone = before.keys().filter(|path| !after.contains_key(*path));
    let gone = gone.map(|path| finding(path, "removed"));
    let rest = after
        .iter()
        .filter_map(|(path, stamp)| match before.get(path) {
            None => Some(finding(path, "made")),
            Some(old) if old != stamp => Some(finding(path, "changed")),
            Some(_) => None,
        });
    gone.chain(rest).collect()
}

fn ask(context: &Context<'_>, words: &[String], limit: Duration) -> Answer {
    let Some((name, args)) = words.split_first() else {
        return Answer::default();
    };
    let program = if name.contains('/') {
        Some(context.root.join(name))
    } else {
        process::find(context.search_path, name)
    };
    let Some(program) = program else {
        let what = format!("`{name}` is not installed");
        return Answer::of(vec![Finding::general(what)]);
    };
    let line = words.join(" ");
    match run(context, &program, args, limit) {
        Err(error) => {
            let what = format!("`{line}` cannot be run: {error}");
            Answer::of(vec![Finding::general(what)])
        }
        Ok((ended, output)) => {
            let what = match ended {
                Ended::Status(status) if status.success() => {
                    return output.into_iter().fold(Answer::default(), Answer::note);
                }
                Ended::Status(status) => format!("`{line}` ended with {status}"),
                Ended::TimedOut => format!("`{line}` did not end within {} s", limit.as_secs()),
                Ended::Cancelled => format!("`{line}` was interrupted"),
            };
            let all = std::iter::once(what).chain(output);
            Answer::of(all.map(Finding::general).collect())
        }
    }
}

enum Ended {
    Status(ExitStatus),
    TimedOut,
    Cancelled,
}

fn run(
    context: &Context<'_>,
    program: &Path,
    args: &[String],
    limit: Duration,
) -> std::io::Result<(Ended, Vec<String>)> {
    let home = match context.cache {
        Some(cache) => {
            std::fs::create_dir_all(cache)?;
            Some(tempfile::Builder::new().prefix("gate-").tempdir_in(cache)?)
        }
        None => None,
    };
    let (reader, writer) = std::io::pipe()?;
    let mut command = Command::new("/bin/sh");
    command
        // The umask is a property of the process: setting it here would change ours.
        .args(["-c", "umask 022; exec \"$@\"", "sh"])
        .arg(program)
        .args(args)
        .env_clear()
        .env("PATH", context.search_path)
        .env("LC_ALL", "C.UTF-8")
        .env("TZ", "UTC")
        .current_dir(context.root)
        .stdin(Stdio::null())
        .stdout(writer.try_clone()?)
        .stderr(writer)
        .process_group(0);
    if let Some(home) = &home {
        command.env("HOME", home.path());
    }
    let mut group = Group(command.spawn()?);
    // It holds the ends for writing: without them the reader sees the end of the output.
    drop(command);
    let lines = last_lines(reader);
    let deadline = Instant::now() + limit;
    let ended = loop {
        if let Some(status) = group.0.try_wait()? {
            break Ended::Status(status);
        }
        if context.cancelled.load(Ordering::Relaxed) {
            break Ended::Cancelled;
        }
        if Instant::now() >= deadline {
            break Ended::TimedOut;
        }
        std::thread::sleep(PAUSE);
    };
    drop(group);
    Ok((ended, lines.recv_timeout(LATE_OUTPUT).unwrap_or_default()))
}

/// A process that ends, with all of its group, when this is dropped.
struct Group(Child);

impl Drop for Group {
    fn drop(&mut self) {
        let leader = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw);
        if let Some(leader) = leader {
            let _ = rustix::process::kill_process_group(leader, Signal::KILL);
        }
        let _ = self.0.wait();
    }
}

/// Reads to the end on a thread of its own; the last lines come when it is reached.
fn last_lines(mut reader: std::io::PipeReader) -> mpsc::Receiver<Vec<String>> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut tail = Vec::new();
        let mut chunk = [0; 8 << 10];
        // An error of the pipe is its end: the exit status tells what happened.
        while let Ok(count @ 1..) = reader.read(&mut chunk) {
            tail.extend_from_slice(&chunk[..count]);
            if tail.len() > 2 * TAIL {
                tail.drain(..tail.len() - TAIL);
            }
        }
        // Nobody waits any more when it came too late.
        let _ = sender.send(lines_of(&tail));
    });
    receiver
}

fn lines_of(tail: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(tail);
    let lines = text.lines().map(str::trim_end);
    let lines: Vec<&str> = lines.filter(|line| !line.is_empty()).collect();
    let last = &lines[lines.len().saturating_sub(LINES)..];
    let cut = |line: &&str| line.chars().take(LINE).collect();
    last.iter().map(cut).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::LeftOut;
    use super::super::tree::testing::folder;
    use super::*;
    use std::sync::atomic::AtomicBool;

    const PATH: &str = "/usr/local/bin:/usr/bin:/bin";

    /// The answers of these shell scripts in a tree with one file, and the tree.
    fn asked(scripts: &[&str]) -> (Vec<Answer>, tempfile::TempDir) {
        let root = folder(&[("app/a.php", "x")]);
        let cache = tempfile::tempdir().unwrap();
        let left_out = LeftOut::default();
        let context = Context {
            root: root.path(),
            left_out: &left_out,
            search_path: PATH,
            cache: Some(cache.path()),
            cancelled: &AtomicBool::new(false),
        };
        let words = |script: &&str| Some(["sh", "-c", script].map(str::to_owned).to_vec());
        let lines: Vec<_> = scripts.iter().map(words).collect();
        let answers = ask_all(&context, &Tree::read(root.path(), &left_out), &lines);
        let left = std::fs::read_dir(cache.path()).unwrap().count();
        assert_eq!(left, 0, "the homes are gone");
        (
            answers.into_iter().map(|one| one.unwrap().0).collect(),
            root,
        )
    }

    fn texts(answer: &Answer) -> Vec<String> {
        answer.findings.iter().map(Finding::text).collect()
    }

    #[test]
    fn exit_code_decides_and_the_last_output_is_kept() {
        let (answers, _root) = asked(&[
            "cat app/a.php; echo; echo err >&2",
            "seq 1 100; echo last; exit 3",
            "kill -9 $$",
        ]);
        assert_eq!((texts(&answers[0]), answers[0].notes.len()), (vec![], 2));
        let failed = texts(&answers[1]);
        assert_eq!(
            failed[0],
            "`sh -c seq 1 100; echo last; exit 3` ended with exit status: 3"
        );
        assert_eq!((failed.len(), failed[LINES].as_str()), (LINES + 1, "last"));
        assert!(texts(&answers[2])[0].contains("signal: 9"));
    }

    #[test]
    fn environment_is_cleared_and_home_is_empty() {
        let (answers, root) =
            asked(&["env | cut -d= -f1 | sort | tr '\n' ' '; ls -A ~; umask; pwd"]);
        assert_eq!(
            answers[0].notes,
            [
                "HOME LC_ALL PATH PWD TZ 0022",
                &root.path().display().to_string()
            ]
        );
    }

    #[test]
    fn commands_that_change_the_tree_are_refused() {
        for (script, what) in [
            ("touch new", "`new` was made"),
            ("echo > app/a.php", "`app/a.php` was changed"),
            ("chmod 600 app/a.php", "`app/a.php` was changed"),
            ("rm app/a.php", "`app/a.php` was removed"),
        ] {
            let (answers, _root) = asked(&[script, "true"]);
            for answer in answers {
                assert!(
                    texts(&answer).join("").contains(what),
                    "{script}: {answer:?}"
                );
            }
        }
    }

    fn one(words: &[&str], limit: Duration, cancelled: bool) -> Answer {
        let root = folder(&[("bin/check", "#!/bin/sh\nexit 0\n")]);
        let context = Context {
            root: root.path(),
            left_out: &LeftOut::default(),
            search_path: PATH,
            cache: None,
            cancelled: &AtomicBool::new(cancelled),
        };
        let words: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
        ask(&context, &words, limit)
    }

    #[test]
    fn command_that_takes_too_long_ends_with_all_it_started() {
        let begun = Instant::now();
        let script = "sleep 300 & echo $!; wait";
        let answer = one(&["sh", "-c", script], Duration::from_millis(200), false);
        assert!(begun.elapsed() < Duration::from_secs(60));
        let found = texts(&answer);
        assert!(found[0].contains("did not end within"), "{found:?}");
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", found[1])).unwrap_or_default();
        assert!(stat.is_empty() || stat.contains(") Z"), "{stat}");
        let answer = one(&["sleep", "300"], LIMIT, true);
        assert!(texts(&answer)[0].contains("was interrupted"));
    }

    #[test]
    fn programs_are_found_in_the_search_path_or_in_the_tree() {
        let answer = one(&["no-such-program"], LIMIT, false);
        assert_eq!(texts(&answer), ["`no-such-program` is not installed"]);
        let answer = one(&["bin/check"], LIMIT, false);
        assert!(texts(&answer)[0].contains("exit status: 126"), "{answer:?}");
    }
}
