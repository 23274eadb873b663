//! Names that reach a command line or a remote shell: hosts, users, base folders.
//!
//! Each is held to a short alphabet in which no shell and no option parser finds anything to
//! interpret, so that nothing has to be quoted.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use super::TransportError;

/// An SSH host as it is configured. What is `None` comes from the user's SSH configuration, then
/// from SSH's defaults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshTarget {
    /// The remote user.
    pub user: Option<String>,
    /// Host name, address or alias of the SSH configuration.
    pub host: String,
    /// The TCP port.
    pub port: Option<u16>,
    /// The one private key to use.
    pub identity_file: Option<PathBuf>,
    /// The one file of host keys to trust, instead of the user's and the system's.
    pub known_hosts: Option<PathBuf>,
}

impl SshTarget {
    /// Returns the target `host` with everything else left to the SSH configuration.
    pub fn new(host: impl Into<String>) -> Self {
        Self {
            user: None,
            host: host.into(),
            port: None,
            identity_file: None,
            known_hosts: None,
        }
    }

    /// Fails with [`TransportError::InvalidTarget`] when host or user could be taken for
    /// something else than a name.
    pub(super) fn check(&self) -> Result<(), TransportError> {
        checked_host(&self.host)?;
        self.user.as_deref().map_or(Ok(""), checked_user)?;
        Ok(())
    }
}

impl fmt::Display for SshTarget {
    /// Writes `[user@]host[:port]`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(user) = &self.user {
            write!(f, "{user}@")?;
        }
        match (self.port, self.host.contains(':')) {
            (Some(port), true) => write!(f, "[{}]:{port}", self.host),
            (Some(port), false) => write!(f, "{}:{port}", self.host),
            (None, _) => f.write_str(&self.host),
        }
    }
}

impl FromStr for SshTarget {
    type Err = TransportError;

    /// Reads `[user@]host[:port]`; an IPv6 address with a port is written `[address]:port`.
    fn from_str(text: &str) -> Result<Self, TransportError> {
        let (user, rest) = match text.rsplit_once('@') {
            Some((user, rest)) => (Some(user.to_owned()), rest),
            None => (None, text),
        };
        let (host, port) = match rest.strip_prefix('[') {
            Some(inner) => match inner.split_once(']') {
                Some((host, "")) => (host, None),
                Some((host, tail)) if tail.starts_with(':') => (host, Some(&tail[1..])),
                _ => return Err(invalid("host", rest, "the bracket is not closed")),
            },
            None if rest.matches(':').count() == 1 => match rest.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (rest, None),
            },
            None => (rest, None),
        };
        let port = match port {
            Some(port) => Some(
                port.parse::<u16>()
                    .ok()
                    .filter(|port| *port > 0)
                    .ok_or_else(|| invalid("port", port, "it is not a number from 1 to 65535"))?,
            ),
            None => None,
        };
        let target = Self {
            user,
            port,
            ..Self::new(host)
        };
        target.check()?;
        Ok(target)
    }
}

/// Returns `host` unchanged when it is a plain name or address.
pub(super) fn checked_host(host: &str) -> Result<&str, TransportError> {
    // A host that begins with `-` would be read as an option by ssh.
    checked("host", host, "._-:%")
}

/// Returns `user` unchanged when it is a plain name.
pub(super) fn checked_user(user: &str) -> Result<&str, TransportError> {
    checked("user", user, "._-+@")
}

/// Returns `base` without trailing slashes when it is an absolute, plain path.
pub(super) fn checked_base(base: &str) -> Result<&str, TransportError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._/-".contains(c);
    let refuse = |reason| invalid("base folder", base, reason);
    if !base.starts_with('/') {
        return Err(refuse("it is not an absolute path"));
    }
    if !base.chars().all(allowed) {
        return Err(refuse("only letters, digits and . _ / - are allowed"));
    }
    let trimmed = base.trim_end_matches('/');
    if trimmed.is_empty() {
        return Err(refuse("it is the root folder"));
    }
    let odd = |part: &str| matches!(part, "" | "." | "..");
    if trimmed.split('/').skip(1).any(odd) {
        return Err(refuse("it has an empty, `.` or `..` part"));
    }
    Ok(trimmed)
}

fn checked<'a>(what: &'static str, text: &'a str, extra: &str) -> Result<&'a str, TransportError> {
    if text.is_empty() {
        return Err(invalid(what, text, "it is empty"));
    }
    if text.starts_with('-') {
        return Err(invalid(what, text, "it begins with `-`"));
    }
    if text.len() > 255 {
        return Err(invalid(what, text, "it is longer than 255 bytes"));
    }
    if !text
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || extra.contains(c))
    {
        return Err(invalid(
            what,
            text,
            "it contains characters that no such name has",
        ));
    }
    Ok(text)
}

fn invalid(what: &'static str, text: &str, reason: &'static str) -> TransportError {
    TransportError::InvalidTarget {
        what,
        text: text.to_owned(),
        reason,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn targets_read_back_as_written() {
        for (text, user, host, port) in [
            ("app1.example.com", None, "app1.example.com", None),
            ("deploy@app1", Some("deploy"), "app1", None),
            ("deploy@app1:2222", Some("deploy"), "app1", Some(2222)),
            ("a@b@app1", Some("a@b"), "app1", None),
            ("::1", None, "::1", None),
            ("[fe80::1%eth0]:22", None, "fe80::1%eth0", Some(22)),
        ] {
            let target: SshTarget = text.parse().unwrap();
            assert_eq!(target.user.as_deref(), user, "{text}");
            assert_eq!((target.host.as_str(), target.port), (host, port), "{text}");
            assert_eq!(target.to_string(), text);
        }
    }

    #[test]
    fn names_that_a_shell_or_an_option_parser_could_read_are_refused() {
        for text in [
            "",
            "-oProxyCommand=sh",
            "-l@host",
            "deploy@-host",
            "host name",
            "host\n",
            "ho$t",
            "`id`@host",
            "'@host",
            "host:0",
            "host:65536",
            "host:",
            "host:ssh",
            "[::1",
            "[::1]22",
            "@host",
            "hôst",
        ] {
            assert!(text.parse::<SshTarget>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn bases_are_absolute_plain_paths() {
        assert_eq!(
            checked_base("/var/www/app_1.2-x/").unwrap(),
            "/var/www/app_1.2-x"
        );
        for base in [
            "", "/", "//", "www", "./www", "/a/../b", "/a/./b", "/a//b", "/a b", "/a'b", "/a$b",
            "/a\nb", "/a;b", "~/www", "/ä",
        ] {
            assert!(checked_base(base).is_err(), "{base:?}");
        }
    }
}
