//! Values that steps may need and nobody may see.

use std::collections::BTreeMap;
use std::fmt;

/// Variables that say how the network is reached: proxies and certificates. They change no content,
/// so steps with network access get them though their environment is cleared otherwise.
pub const NETWORK_VARIABLES: [&str; 12] = [
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "ALL_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "all_proxy",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "NODE_EXTRA_CA_CERTS",
    "GIT_SSL_CAINFO",
];

/// Variables for steps with network access: never part of a record, a log or an error.
#[derive(Clone, Default)]
pub struct SecretVariables(BTreeMap<String, String>);

impl SecretVariables {
    /// Takes name and value pairs.
    #[must_use]
    pub fn new(variables: impl IntoIterator<Item = (String, String)>) -> Self {
        Self(variables.into_iter().collect())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&String, &String)> {
        self.0.iter()
    }

    /// What must not be seen in output: `user:password` of URLs, and the password alone.
    fn hidden(&self) -> impl Iterator<Item = &str> {
        let password = |user| <str>::split_once(user, ':').map(|(_, password)| password);
        let alone = self.users().filter_map(password);
        self.users().chain(alone).filter(|text| !text.is_empty())
    }

    fn users(&self) -> impl Iterator<Item = &str> {
        self.0.values().filter_map(|value| {
            let rest = value
                .split_once("://")
                .map_or(value.as_str(), |(_, rest)| rest);
            // A password may have an `@` or, badly written, a `/` in it.
            let authority = rest.split('/').next().unwrap_or(rest);
            let cut = authority.rsplit_once('@').or(rest.rsplit_once('@'));
            cut.map(|(user, _)| user)
        })
    }

    /// Replaces what must not be seen.
    pub(crate) fn redact(&self, line: String) -> String {
        self.hidden().fold(line, |line, secret| {
            if line.contains(secret) {
                line.replace(secret, "***")
            } else {
                line
            }
        })
    }
}

impl fmt::Debug for SecretVariables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_of_proxies_are_not_shown() {
        let secrets = SecretVariables::new([
            (
                "HTTPS_PROXY".to_owned(),
                "http://me:s3ntinel@proxy:3128".to_owned(),
            ),
            ("SSL_CERT_DIR".to_owned(), "/etc/ssl/certs".to_owned()),
        ]);
        let line = "cannot reach http://me:s3ntinel@proxy:3128, see /etc/ssl/certs";
        assert_eq!(
            secrets.redact(line.to_owned()),
            "cannot reach http://***@proxy:3128, see /etc/ssl/certs"
        );
        assert!(!format!("{secrets:?}").contains("s3ntinel"));
    }

    #[test]
    fn a_password_is_hidden_alone_and_with_an_at_sign_in_it() {
        let proxy = "http://me:s3nt@inel@proxy:3128/a@b";
        let secrets = SecretVariables::new([("HTTPS_PROXY".to_owned(), proxy.to_owned())]);
        for said in [proxy, "Proxy password: s3nt@inel", "me:s3nt@inel@proxy"] {
            let shown = secrets.redact(said.to_owned());
            assert!(!shown.contains("inel"), "{shown}");
        }
    }
}
