//! Brings the host helper to a host over an SSH channel and starts it.
//!
//! The start is tried first, in one request; only a host that lacks the helper costs a second and
//! a third. The login shell sees two commands, made of fixed text, the base folder and a hash:
//!
//! ```text
//! exec '<base>/.relstore/helper/<sha256>/relstore-host' serve --base '<base>'   (or store --root)
//! sh -c '<script>'       says what it finds, reads the helper, checks it, renames it into place
//! ```
//! The script is a single line without single quotes, so that csh and fish pass it on unchanged.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::channel::{Channel, Exit, printable};
use super::preamble::{self, MAX_CHATTER, Preamble};
use super::{HelperBinary, Service, TransportError};

/// Precedes each word the script says, so that a shell's chatter is told apart.
const MARK: &str = "relstore-bootstrap ";

/// Runs in `sh`; `@BASE@` and `@SHA@` are filled in. `true` rather than `:`, because a failed
/// redirection of a special built-in ends the shell.
const SCRIPT: &str = concat!(
    r#"LC_ALL=C; export LC_ALL; b="@BASE@"; s=@SHA@; d="$b/.relstore/helper/$s"; "#,
    r#"f="$d/relstore-host"; t="$d/new.$$"; "#,
    r#"say() { printf "\nrelstore-bootstrap %s\n" "$1"; }; end() { say "$1"; exit 0; }; "#,
    r#"ok() { printf "%s  %s\n" "$s" "$1" | sha256sum -c >/dev/null 2>&1; }; "#,
    r#"command -v sha256sum >/dev/null 2>&1 || end no-sha256sum; "#,
    r#"umask 022; mkdir -p "$b" || end unwritable; "#,
    r#"umask 077; mkdir -p "$d" || end unwritable; "#,
    r#"m="$(uname -s) $(uname -m)"; "#,
    r#"if [ -f "$f" ] && ok "$f"; then end "present $m"; fi; "#,
    r#"trap "rm -f \"$t\"" EXIT; trap "exit 1" HUP INT PIPE TERM; "#,
    r#"rm -f "$t"; true > "$t" || end unwritable; say "ready $m"; "#,
    r#"cat > "$t" || end unwritable; ok "$t" || end damaged; "#,
    r#"chmod 0700 "$t" && mv -f "$t" "$f" || end unwritable; end done"#,
);

/// Returns the command that starts the installed helper.
pub(super) fn start_command(service: Service, base: &str, helper: &HelperBinary) -> String {
    let [verb, option] = service.words();
    format!("exec '{}' {verb} {option} '{base}'", helper.installed(base))
}

/// Returns the command that installs the helper from its stdin.
pub(super) fn install_command(base: &str, helper: &HelperBinary) -> String {
    let script = SCRIPT
        .replace("@BASE@", base)
        .replace("@SHA@", &helper.sha256);
    format!("sh -c '{script}'")
}

/// What became of an attempt to start the helper.
pub(super) enum Start {
    /// It runs; the channel stands behind the magic bytes.
    Running(Box<Channel>),
    /// It is not there, or did not start.
    Absent {
        /// How the attempt ended.
        exit: Exit,
        /// What the shell or the helper printed.
        output: String,
    },
}

/// Waits for the magic bytes on a channel on which the helper was started.
pub(super) async fn start(mut channel: Channel) -> Result<Start, TransportError> {
    let limit = channel.link.limit;
    match preamble::skip(&mut channel.reader, limit).await {
        Preamble::Magic(rest) => {
            let rest = std::io::Cursor::new(rest);
            channel.reader = Box::new(rest.chain(channel.reader));
            Ok(Start::Running(Box::new(channel)))
        }
        Preamble::Ended(chatter) => {
            let stderr = channel.link.stderr.clone();
            let exit = channel.finish().await?;
            let output = joined(&printable(&chatter), &stderr.text());
            Ok(Start::Absent { exit, output })
        }
        Preamble::Flood(chatter) => Err(TransportError::ShellNoise {
            host: channel.link.host,
            text: printable(&chatter[..200]),
        }),
        Preamble::Silent(chatter) => Err(TransportError::Stalled {
            output: joined(&printable(&chatter), &channel.link.stderr()),
            host: channel.link.host,
            doing: "waiting for the host helper to start",
            limit,
        }),
        Preamble::Broken(error) => Err(closed(channel.link.host, error)),
    }
}

/// Copies `helper` over a channel on which [`install_command`] was started, unless it lies there
/// intact; returns whether it had to.
pub(super) async fn install(
    mut channel: Channel,
    base: &str,
    helper: &HelperBinary,
) -> Result<bool, TransportError> {
    let mut talk = Talk::default();
    let meter = channel.link.counters.payload.clone();
    let limit = channel.link.limit;
    let outcome = {
        let copy = converse(&mut channel, helper, &mut talk);
        tokio::select! {
            outcome = copy => outcome,
            () = meter.stalled(limit) => Err(TransportError::Stalled {
                host: String::new(),
                doing: "copying the host helper",
                limit,
                output: String::new(),
            }),
        }
    };
    let (host, stderr) = (channel.link.host.clone(), channel.link.stderr.clone());
    let word = match outcome {
        Ok(word) => word,
        Err(TransportError::Stalled { doing, limit, .. }) => {
            let output = joined(&talk.chatter(), &stderr.text());
            return Err(TransportError::Stalled {
                host,
                doing,
                limit,
                output,
            });
        }
        Err(noise @ TransportError::ShellNoise { .. }) => return Err(noise),
        Err(other) => {
            // The script removes what it began once its input ends; its own end says nothing new.
            let _ = channel.finish().await;
            return Err(other);
        }
    };
    let exit = channel.finish().await?;
    let stderr = stderr.text();
    let Some(word) = word else {
        let output = joined(&talk.chatter(), &stderr);
        return Err(TransportError::ShellRefuses { host, exit, output });
    };
    let base = base.to_owned();
    match word {
        Word::Done => Ok(true),
        Word::Present => Ok(false),
        Word::NoSha256sum => Err(TransportError::NoSha256sum { host }),
        Word::Damaged => Err(TransportError::UploadDamaged { host }),
        Word::Unwritable if is_full(&stderr) => {
            Err(TransportError::DiskFull { host, base, stderr })
        }
        Word::Unwritable => Err(TransportError::BaseUnwritable { host, base, stderr }),
    }
}

/// The last word of the script.
enum Word {
    Done,
    Present,
    NoSha256sum,
    Damaged,
    Unwritable,
}

/// Answers the script until its last word; `None` when it ends without one.
async fn converse(
    channel: &mut Channel,
    helper: &HelperBinary,
    talk: &mut Talk,
) -> Result<Option<Word>, TransportError> {
    let host = channel.link.host.clone();
    let Some(first) = talk.next(channel).await? else {
        return Ok(None);
    };
    if let Some(machine) = first
        .strip_prefix("ready ")
        .or(first.strip_prefix("present "))
    {
        let (system, name) = machine.split_once(' ').unwrap_or((machine, ""));
        let foreign = helper.foreign_to(name);
        if foreign.is_some() || system != "Linux" {
            return Err(TransportError::WrongArchitecture {
                host,
                machine: printable(machine.as_bytes()),
                helper: format!("Linux {}", foreign.unwrap_or("machines")),
            });
        }
    }
    if !first.starts_with("ready ") {
        return Ok(word(&first));
    }
    // A full disk ends the script while it is still sent to; its last word, or that there is none,
    // says more than the failed write.
    let _ = send(channel, helper).await;
    Ok(talk.next(channel).await?.as_deref().and_then(word))
}

fn word(text: &str) -> Option<Word> {
    match text {
        "done" => Some(Word::Done),
        "no-sha256sum" => Some(Word::NoSha256sum),
        "damaged" => Some(Word::Damaged),
        "unwritable" => Some(Word::Unwritable),
        _ if text.starts_with("present ") => Some(Word::Present),
        _ => None,
    }
}

/// Writes the helper and ends the script's input.
async fn send(channel: &mut Channel, helper: &HelperBinary) -> std::io::Result<()> {
    channel.writer.write_all(&helper.bytes).await?;
    channel.writer.shutdown().await
}

/// The script's words among what the shell prints.
#[derive(Default)]
struct Talk {
    seen: Vec<u8>,
    read_to: usize,
}

impl Talk {
    /// Returns the next word of the script, or `None` at the end of the channel.
    async fn next(&mut self, channel: &mut Channel) -> Result<Option<String>, TransportError> {
        let mut piece = vec![0; 4 << 10];
        loop {
            if let Some((word, end)) = self.find() {
                self.read_to = end;
                return Ok(Some(word));
            }
            if self.seen.len() > MAX_CHATTER {
                return Err(TransportError::ShellNoise {
                    host: channel.link.host.clone(),
                    text: printable(&self.seen[..200]),
                });
            }
            match channel.reader.read(&mut piece).await {
                Ok(0) => return Ok(None),
                Ok(read) => self.seen.extend_from_slice(&piece[..read]),
                Err(error) => return Err(closed(channel.link.host.clone(), error)),
            }
        }
    }

    fn find(&self) -> Option<(String, usize)> {
        let unread = &self.seen[self.read_to..];
        let mark = MARK.as_bytes();
        let start = unread
            .windows(mark.len())
            .position(|window| window == mark)?
            + mark.len();
        let length = unread[start..].iter().position(|byte| *byte == b'\n')?;
        let word = String::from_utf8_lossy(&unread[start..start + length]);
        Some((word.trim().to_owned(), self.read_to + start + length))
    }

    fn chatter(&self) -> String {
        printable(&self.seen)
    }
}

fn is_full(stderr: &str) -> bool {
    let text = stderr.to_ascii_lowercase();
    text.contains("no space left") || text.contains("quota exceeded")
}

fn joined(chatter: &str, stderr: &str) -> String {
    let parts: Vec<&str> = [stderr, chatter]
        .into_iter()
        .filter(|part| !part.is_empty())
        .collect();
    parts.join("; ")
}

fn closed(host: String, error: std::io::Error) -> TransportError {
    TransportError::Closed {
        host,
        doing: "starting the host helper",
        detail: error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn talk(text: &str) -> Talk {
        Talk {
            seen: text.into(),
            read_to: 0,
        }
    }

    #[test]
    fn words_are_found_in_chatter() {
        let talk = talk("Welcome!relstore-bootstrap ready Linux x86_64\r\nrelstore-bootstrap do");
        let (word, end) = talk.find().unwrap();
        assert_eq!(word, "ready Linux x86_64");
        let rest = Talk {
            read_to: end,
            ..talk
        };
        assert!(rest.find().is_none(), "half a word");
    }

    #[test]
    fn the_script_is_one_line_that_every_shell_passes_on() {
        assert!(!SCRIPT.contains(['\'', '\n', '!']));
        assert!(SCRIPT.contains(MARK));
    }

    #[test]
    fn full_disks_are_told_from_missing_rights() {
        assert!(is_full("cat: write error: No space left on device"));
        assert!(is_full(
            "mkdir: cannot create directory: Disk quota exceeded"
        ));
        assert!(!is_full(
            "mkdir: cannot create directory: Permission denied"
        ));
    }
}
