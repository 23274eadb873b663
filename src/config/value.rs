//! Values of the configuration that are checked when they are made. Pure.
//!
//! Each error is the end of the sentence "KEY: ...".

use std::fmt;
use std::time::Duration;

use relstore_builder::SandboxMode;
use relstore_store::name::EntryPath;

use super::variables::is_name;

/// `user@host:port` as people write it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct HostAddress {
    pub(crate) user: Option<String>,
    pub(crate) host: String,
    pub(crate) port: Option<u16>,
}

impl HostAddress {
    /// Reads `[user@]host[:port]`; an IPv6 address with a port stands in brackets.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let (user, rest) = match text.rsplit_once('@') {
            Some((user, rest)) => (Some(user), rest),
            None => (None, text),
        };
        let (host, port) = if let Some(inner) = rest.strip_prefix('[') {
            let (host, after) = inner.split_once(']').ok_or("has `[` without `]`")?;
            let port = match after {
                "" => None,
                _ => Some(
                    after
                        .strip_prefix(':')
                        .ok_or("has text after `]` that is no port")?,
                ),
            };
            (host, port)
        } else if rest.matches(':').count() == 1 {
            rest.split_once(':')
                .map_or((rest, None), |(host, port)| (host, Some(port)))
        } else {
            (rest, None)
        };
        // ssh and its relatives would take a name that begins with `-` for an option.
        for (what, name) in [("user", user.unwrap_or("x")), ("host", host)] {
            let plain =
                |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '%');
            if name.is_empty() {
                return Err(format!("has an empty {what} name"));
            }
            if name.starts_with('-') {
                return Err(format!("has a {what} name that begins with `-`"));
            }
            if !name.chars().all(plain) {
                return Err(format!(
                    "has a {what} name with a character other than A-Z a-z 0-9 . _ - : %"
                ));
            }
        }
        let port = match port.map(str::parse::<u16>) {
            None => None,
            Some(Ok(port)) if port > 0 => Some(port),
            Some(_) => return Err("has a port that is not a number from 1 to 65535".to_owned()),
        };
        Ok(Self {
            user: user.map(str::to_owned),
            host: host.to_owned(),
            port,
        })
    }
}

impl fmt::Display for HostAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(user) = &self.user {
            write!(f, "{user}@")?;
        }
        match (self.host.contains(':'), self.port) {
            (true, Some(port)) => write!(f, "[{}]:{port}", self.host),
            (false, Some(port)) => write!(f, "{}:{port}", self.host),
            (_, None) => f.write_str(&self.host),
        }
    }
}

/// Reads a time like `500ms`, `5s`, `10m` or `1h`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || "must be a time like 500ms, 5s, 10m or 1h".to_owned();
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let number: u64 = text[..digits].parse().map_err(|_| wrong())?;
    let unit_millis: u64 = match &text[digits..] {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(wrong()),
    };
    number
        .checked_mul(unit_millis)
        .map(Duration::from_millis)
        .ok_or_else(wrong)
}

/// Reads how long something is kept, like `36h` or `7d`.
pub(crate) fn retention(text: &str) -> Result<Duration, String> {
    let days = text
        .strip_suffix('d')
        .and_then(|days| days.parse::<u32>().ok());
    match days {
        Some(days) => Ok(Duration::from_secs(u64::from(days) * 86_400)),
        None => duration(text).map_err(|_| "must be a time like 12h, 7d or 30d".to_owned()),
    }
}

/// Reads whether steps run in a sandbox.
pub(crate) fn sandbox(text: &str) -> Result<SandboxMode, String> {
    match text {
        "required" => Ok(SandboxMode::Required),
        "auto" => Ok(SandboxMode::Auto),
        "off" => Ok(SandboxMode::Off),
        _ => Err("must be \"required\", \"auto\" or \"off\"".to_owned()),
    }
}

/// Checks where credentials of package registries come from: the name of a variable,
/// `auth.json`, `.npmrc` or `ssh-agent`.
pub(crate) fn credentials(text: &str) -> Result<String, String> {
    if matches!(text, "auth.json" | ".npmrc" | "ssh-agent") || is_name(text) {
        Ok(text.to_owned())
    } else {
        Err(
            "must be the name of an environment variable, or auth.json, .npmrc, ssh-agent"
                .to_owned(),
        )
    }
}

/// Splits a command line into program and arguments. Quotes and `\` work as in a shell, but no
/// shell runs it: what only a shell could do is refused, so that nobody relies on it.
pub(crate) fn command(text: &str) -> Result<Vec<String>, String> {
    if text.chars().any(char::is_control) {
        return Err("must be a command on one line".to_owned());
    }
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some('\''), c) => word.get_or_insert_default().push(c),
            (_, '\\') => {
                let next = chars.next().ok_or("ends with a lone `\\`")?;
                word.get_or_insert_default().push(next);
            }
            (Some(_), c) => word.get_or_insert_default().push(c),
            (None, '\'' | '"') => {
                word.get_or_insert_default();
                quote = Some(c);
            }
            (None, ' ') => words.extend(word.take()),
            (None, '|' | '&' | ';' | '<' | '>' | '$' | '`' | '(' | ')' | '*' | '?') => {
                return Err(format!(
                    "holds `{c}`, but no shell runs it, write sh -c '...' if you need one"
                ));
            }
            (None, c) => word.get_or_insert_default().push(c),
        }
    }
    if quote.is_some() {
        return Err("has a quote that is not closed".to_owned());
    }
    words.extend(word);
    match words.first().map(String::as_str) {
        None | Some("") => Err("must name a program".to_owned()),
        Some(_) => Ok(words),
    }
}

/// Checks a folder on a host: absolute, of plain characters, without `.` and `..`, not the root.
pub(crate) fn base(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '/' | '-');
    if !text.starts_with('/') {
        return Err("must be an absolute path".to_owned());
    }
    if !text.chars().all(plain) {
        return Err("may hold only A-Z a-z 0-9 . _ - and /".to_owned());
    }
    let trimmed = text.trim_end_matches('/');
    if trimmed.is_empty() {
        return Err("must not be the root folder".to_owned());
    }
    let bad = |name: &str| matches!(name, "" | "." | "..");
    if trimmed.split('/').skip(1).any(bad) {
        return Err("must not hold empty names, `.` or `..`".to_owned());
    }
    Ok(trimmed.to_owned())
}

/// Checks a path inside a release or a base: relative, without `.` and `..`. A `/` at the end is dropped.
pub(crate) fn inner_path(text: &str) -> Result<String, String> {
    let trimmed = text.strip_suffix('/').unwrap_or(text);
    if trimmed.is_empty() {
        return Err("must not be empty".to_owned());
    }
    if trimmed.starts_with('/') {
        return Err("must be a relative path".to_owned());
    }
    if trimmed.chars().any(char::is_control) {
        return Err("must not hold control characters".to_owned());
    }
    if trimmed
        .split('/')
        .any(|name| matches!(name, "" | "." | ".."))
    {
        return Err("must not hold empty names, `.` or `..`".to_owned());
    }
    Ok(trimmed.to_owned())
}

/// Checks a path inside a release.
pub(crate) fn entry_path(text: &str) -> Result<EntryPath, String> {
    EntryPath::new(inner_path(text)?).map_err(|error| format!("is no path of a release: {error}"))
}

/// A path that releases share, and whether it is a folder: when a `/` says so, or when its last
/// name has no extension.
pub(crate) fn shared_path(text: &str) -> Result<(EntryPath, bool), String> {
    let path = entry_path(text)?;
    let name = path.file_name();
    let folder = text.ends_with('/') || (!name.starts_with(b".") && path.extension().is_empty());
    Ok((path, folder))
}

/// Checks an address of a site: http or https, a host, no user or password, no query. A `/` at the end is dropped.
pub(crate) fn url(text: &str) -> Result<String, String> {
    let rest = text
        .strip_prefix("https://")
        .or_else(|| text.strip_prefix("http://"))
        .ok_or("must begin with https:// or http://")?;
    if rest.contains('@') {
        return Err("must not hold a user or password".to_owned());
    }
    if rest.split('/').next().unwrap_or_default().is_empty() {
        return Err("has no host".to_owned());
    }
    if rest.contains(['?', '#', ' ']) || !rest.chars().all(|c| c.is_ascii_graphic()) {
        return Err("must be an address without spaces, query and fragment".to_owned());
    }
    Ok(text.trim_end_matches('/').to_owned())
}

/// Checks a path of a health request: begins with `/`, printable ASCII.
pub(crate) fn url_path(text: &str) -> Result<String, String> {
    if !text.starts_with('/') {
        return Err("must begin with `/`".to_owned());
    }
    if !text.chars().all(|c| c.is_ascii_graphic()) {
        return Err("must be printable ASCII without spaces".to_owned());
    }
    Ok(text.to_owned())
}

/// Checks the name of an app or environment, which becomes a folder name and part of `env:NAME@previous`.
pub(crate) fn name(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let begins = text.starts_with(|c: char| c.is_ascii_alphanumeric());
    if begins && text.chars().all(plain) && text.len() <= 64 {
        Ok(text.to_owned())
    } else {
        Err(
            "must begin with a letter or digit and hold only A-Z a-z 0-9 . _ -, at most 64"
                .to_owned(),
        )
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn host_addresses_print_as_they_were_written() {
        for text in [
            "web1",
            "deploy@web1.example.com",
            "deploy@127.0.0.1:22022",
            "u@[::1]:22",
            "fe80::1%eth0",
        ] {
            assert_eq!(HostAddress::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(HostAddress::parse("a@b:22").unwrap().port, Some(22));
    }

    #[test]
    fn dangerous_or_broken_hosts_are_refused() {
        for text in [
            "",
            "-oProxyCommand=x",
            "-l@host",
            "u@-h",
            "u@",
            "@h",
            "h:0",
            "h:70000",
            "h:x",
            "h:",
            "a b",
            "[::1",
            "[::1]x",
            "h;ls",
            "$(x)",
        ] {
            assert!(HostAddress::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn durations_need_a_unit() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("5s"), Ok(Duration::from_secs(5)));
        assert_eq!(duration("2h"), Ok(Duration::from_secs(7200)));
        for text in [
            "",
            "5",
            "s",
            "-1s",
            "1.5s",
            "1d",
            "5 s",
            "99999999999999999999s",
            "18446744073709551615h",
            "é",
        ] {
            assert!(duration(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn commands_are_split_like_a_shell_would_and_never_need_one() {
        for (text, words) in [
            (
                "sudo -n service php8.3-fpm reload",
                &["sudo", "-n", "service", "php8.3-fpm", "reload"][..],
            ),
            (
                "  a  'b c' \"d 'e\" f\\ g '' ",
                &["a", "b c", "d 'e", "f g", ""],
            ),
            (
                "sh -c 'kill -USR2 $(cat pid)'",
                &["sh", "-c", "kill -USR2 $(cat pid)"],
            ),
        ] {
            assert_eq!(command(text).unwrap(), words, "{text}");
        }
        for text in [
            "",
            "  ",
            "''",
            "a | b",
            "a && b",
            "a; b",
            "a > b",
            "echo $HOME",
            "a `b`",
            "a 'b",
            "a \\",
            "a\nb",
        ] {
            assert!(command(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn base_is_absolute_plain_and_never_the_root() {
        assert_eq!(base("/var/www/app-1/").as_deref(), Ok("/var/www/app-1"));
        for text in [
            "", "/", "//", "var/www", "/a/../b", "/a/./b", "/a//b", "/a b", "/a'b", "/a$b", "/ä",
            "~/x",
        ] {
            assert!(base(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn inner_paths_stay_inside() {
        assert_eq!(inner_path("storage/").as_deref(), Ok("storage"));
        assert_eq!(
            inner_path("public/uploads").as_deref(),
            Ok("public/uploads")
        );
        for text in ["", "/", "/etc", "..", "a/../b", "./a", "a//b", "a\nb"] {
            assert!(inner_path(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn shared_path_with_an_extension_is_a_file_unless_a_slash_says_otherwise() {
        for (text, folder) in [
            ("storage", true),
            ("public/uploads", true),
            ("database/database.sqlite", false),
            (".env.local", false),
            ("data.d/", true),
        ] {
            assert_eq!(shared_path(text).unwrap().1, folder, "{text}");
        }
    }

    #[test]
    fn url_has_a_host_and_no_credentials() {
        assert_eq!(
            url("https://a.example/").as_deref(),
            Ok("https://a.example")
        );
        assert_eq!(
            url("http://127.0.0.1:18080").as_deref(),
            Ok("http://127.0.0.1:18080")
        );
        for text in [
            "a.example",
            "ftp://a",
            "https://",
            "https:///x",
            "https://u:p@a",
            "https://a?x=1",
            "https://a b",
            "javascript:1",
        ] {
            assert!(url(text).is_err(), "{text:?}");
        }
    }
}
