//! Where a store is, as people write it: a path, `s3://bucket/prefix`, `https://host/path`,
//! `ssh://user@host/path`. Pure.

use std::fmt;
use std::path::PathBuf;

/// The place of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A folder of this machine.
    Folder(PathBuf),
    /// Objects of a bucket whose keys begin with `prefix`, which is empty or ends in `/`.
    S3 {
        /// Bucket.
        bucket: String,
        /// Beginning of every key.
        prefix: String,
    },
    /// A web server; read only. Ends in `/`.
    Http(String),
    /// A folder of another machine.
    Ssh {
        /// User, host and port as [`str`]: `user@host:port`.
        host: String,
        /// Absolute path there.
        path: String,
    },
}

/// Why a text is not the place of a store. The text is not repeated: it may hold a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlaceError {
    /// A scheme that no backend has.
    #[error(
        "`{scheme}://` is no kind of store; there are a path, s3://, https://, http:// and ssh://"
    )]
    Scheme {
        /// What stands before `://`.
        scheme: String,
    },
    /// Nothing where something has to be.
    #[error("{scheme}:// needs {what}")]
    Missing {
        /// The scheme.
        scheme: &'static str,
        /// What is missing.
        what: &'static str,
    },
    /// A password or a query: places are printed, logged and kept in files.
    #[error("a store's URL holds neither a password nor a query")]
    Secret,
}

impl Place {
    /// Reads a place. Anything without `://` is a path.
    ///
    /// # Errors
    /// [`PlaceError`].
    pub fn parse(text: &str) -> Result<Self, PlaceError> {
        let Some((scheme, rest)) = text.split_once("://") else {
            return Ok(Self::Folder(PathBuf::from(text)));
        };
        let missing = |scheme, what| PlaceError::Missing { scheme, what };
        if rest.contains(['?', '#']) {
            return Err(PlaceError::Secret);
        }
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        let path = path.trim_matches('/');
        if host
            .rsplit_once('@')
            .is_some_and(|(user, _)| user.contains(':') || scheme != "ssh")
        {
            return Err(PlaceError::Secret);
        }
        let slash = if path.is_empty() { "" } else { "/" };
        match scheme {
            "s3" if host.is_empty() => Err(missing("s3", "a bucket")),
            "s3" => Ok(Self::S3 {
                bucket: host.to_owned(),
                prefix: format!("{path}{slash}"),
            }),
            "http" | "https" if host.is_empty() => Err(missing("https", "a host")),
            "http" | "https" => Ok(Self::Http(format!("{scheme}://{host}/{path}{slash}"))),
            "ssh" if host.is_empty() || host.ends_with('@') => Err(missing("ssh", "a host")),
            "ssh" if path.is_empty() => Err(missing("ssh", "an absolute path")),
            "ssh" => Ok(Self::Ssh {
                host: host.to_owned(),
                path: format!("/{path}"),
            }),
            _ => Err(PlaceError::Scheme {
                scheme: scheme.to_owned(),
            }),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(path) => write!(f, "{}", path.display()),
            Self::S3 { bucket, prefix } => {
                write!(f, "s3://{bucket}/{}", prefix.trim_end_matches('/'))
            }
            Self::Http(url) => f.write_str(url.trim_end_matches('/')),
            Self::Ssh { host, path } => write!(f, "ssh://{host}{path}"),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn places_print_as_they_are_read() {
        for text in [
            "/var/lib/store",
            "../store",
            "s3://bucket/app/releases",
            "https://releases.example.com/store",
            "http://[::1]:8080",
            "ssh://deploy@host.example.com:2222/srv/store",
            "ssh://host/srv",
        ] {
            let place = Place::parse(text).unwrap();
            assert_eq!(place.to_string().trim_end_matches('/'), text);
            assert_eq!(Place::parse(&place.to_string()).unwrap(), place);
        }
        assert_eq!(
            Place::parse("s3://b").unwrap(),
            Place::S3 {
                bucket: "b".into(),
                prefix: String::new()
            }
        );
        assert_eq!(
            Place::parse("https://h/a/b/").unwrap(),
            Place::Http("https://h/a/b/".into())
        );
    }

    #[test]
    fn places_without_a_place_and_with_a_secret_are_refused() {
        for text in [
            "s3://",
            "s3:///key",
            "https://",
            "ssh://host",
            "ssh://host/",
            "ssh://user@/path",
            "ftp://host/path",
            "https://user:hunter2@host/",
            "https://token@host/",
            "ssh://user:hunter2@host/path",
            "https://host/store?token=hunter2",
        ] {
            let error = Place::parse(text).unwrap_err();
            assert!(!error.to_string().contains("hunter2"), "{text}");
        }
    }
}
