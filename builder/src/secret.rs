//! Values that steps may need and nobody may see.
//!
//! They reach only steps that use the network, as variables, files of the step's home or the socket
//! of an SSH agent; never a key, a record, a release. What is written anywhere goes through
//! `Secrets::redact` before.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use relstore_store::id::BlobId;
use serde_json::Value;

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

/// Names of files that package managers read credentials from.
const CREDENTIALS: [&[u8]; 4] = [b"auth.json", b".npmrc", b".yarnrc", b".yarnrc.yml"];
/// What settings of npm and Yarn with a credential have in their names.
const CREDENTIAL_SETTINGS: [&str; 5] = ["_auth", "_password", "authtoken", "authident", "password"];
/// Shorter values are not replaced: half of a log would be stars.
const SHORTEST: usize = 4;

/// Whether a path, from the application's folder, is a file that may hold credentials.
pub(crate) fn is_credentials(path: &[u8]) -> bool {
    let name = path.rsplit(|&byte| byte == b'/').next().unwrap_or(path);
    CREDENTIALS.contains(&name) && !path.starts_with(b"vendor/")
}

/// A digest of a file without its credentials: all of auth.json is one, of the others the lines
/// that set one are left out.
pub(crate) fn cleaned_digest(path: &[u8], content: &[u8]) -> String {
    if path.ends_with(b"auth.json") {
        return "credentials".to_owned();
    }
    let text = String::from_utf8_lossy(content);
    let plain: Vec<&str> = text.lines().filter(|line| !sets_credential(line)).collect();
    BlobId::of(plain.join("\n").as_bytes()).to_string()
}

fn sets_credential(line: &str) -> bool {
    let name = line.split(['=', ' ']).find(|part| !part.is_empty());
    let name = name.unwrap_or_default().to_ascii_lowercase();
    CREDENTIAL_SETTINGS.iter().any(|part| name.contains(part))
}

/// A file for the home of steps with network access.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct SecretFile {
    /// `auth.json` or `.npmrc`.
    pub(crate) name: String,
    pub(crate) content: Vec<u8>,
}

/// All that steps with network access get beside their declared environment.
#[derive(Clone, Default)]
pub struct Secrets {
    network: BTreeMap<String, String>,
    variables: BTreeMap<String, String>,
    files: Vec<SecretFile>,
    agent: Option<PathBuf>,
    hidden: Vec<String>,
}

impl Secrets {
    /// Takes what says how the network is reached, see [`NETWORK_VARIABLES`].
    #[must_use]
    pub fn new(network: impl IntoIterator<Item = (String, String)>) -> Self {
        let network: BTreeMap<_, _> = network.into_iter().collect();
        let mut secrets = Self::default();
        for value in network.values() {
            secrets.hide_user(value);
        }
        secrets.network = network;
        secrets.sorted()
    }

    /// With a variable whose value is a secret, such as COMPOSER_AUTH.
    #[must_use]
    pub fn with_variable(mut self, name: String, value: String) -> Self {
        self.hide(&value);
        self.hide_json(value.as_bytes());
        self.variables.insert(name, value);
        self.sorted()
    }

    /// With a file of credentials: `auth.json` for Composer, `.npmrc` for npm, pnpm and Yarn.
    #[must_use]
    pub fn with_file(mut self, name: String, content: Vec<u8>) -> Self {
        self.hide_file(&content);
        self.files.push(SecretFile { name, content });
        self.sorted()
    }

    /// With the socket of an SSH agent.
    #[must_use]
    pub fn with_agent(mut self, socket: PathBuf) -> Self {
        self.agent = Some(socket);
        self
    }

    /// Hides what files of the source hold as well.
    pub(crate) fn hiding(mut self, contents: &[Vec<u8>]) -> Self {
        contents.iter().for_each(|content| self.hide_file(content));
        self.sorted()
    }

    pub(crate) fn variables(&self) -> impl Iterator<Item = (&String, &String)> {
        self.network.iter().chain(&self.variables)
    }

    pub(crate) fn files(&self) -> &[SecretFile] {
        &self.files
    }

    pub(crate) fn agent(&self) -> Option<&Path> {
        self.agent.as_deref()
    }

    /// Longest first: a part must not be replaced before the whole.
    fn sorted(mut self) -> Self {
        self.hidden
            .sort_by_key(|text| std::cmp::Reverse(text.len()));
        self.hidden.dedup();
        self
    }

    fn hide(&mut self, text: &str) {
        let text = text.trim();
        if text.len() >= SHORTEST {
            self.hidden.push(text.to_owned());
        }
    }

    /// `user:password` of an address, and the password alone.
    fn hide_user(&mut self, address: &str) {
        let rest = address.split_once("://").map_or(address, |(_, rest)| rest);
        // A password may have an `@` or, badly written, a `/` in it.
        let authority = rest.split('/').next().unwrap_or(rest);
        let Some((user, _)) = authority.rsplit_once('@').or(rest.rsplit_once('@')) else {
            return;
        };
        let password = user.split_once(':').map(|(_, password)| password);
        let hidden = [Some(user), password].into_iter().flatten();
        self.hidden
            .extend(hidden.filter(|text| !text.is_empty()).map(str::to_owned));
    }

    /// Every text in a JSON document; names of hosts and users are among them.
    fn hide_json(&mut self, content: &[u8]) {
        let mut open: Vec<Value> = serde_json::from_slice(content).into_iter().collect();
        while let Some(value) = open.pop() {
            match value {
                Value::String(text) => self.hide(&text),
                Value::Array(values) => open.extend(values),
                Value::Object(map) => open.extend(map.into_iter().map(|(_, value)| value)),
                _ => {}
            }
        }
    }

    fn hide_file(&mut self, content: &[u8]) {
        self.hide_json(content);
        for line in String::from_utf8_lossy(content).lines().map(str::trim) {
            if sets_credential(line)
                && let Some((_, value)) = line.split_once(['=', ':', ' '])
            {
                // `//host/:_authToken=value`, `npmAuthToken: value`
                let value = value.rsplit_once('=').map_or(value, |(_, value)| value);
                let value = value.trim().trim_matches(['"', '\'']);
                // `${NAME}` is a reference, not the secret.
                if !value.starts_with("${") {
                    self.hide(value);
                }
            }
        }
    }

    /// Replaces what must not be seen.
    pub(crate) fn redact(&self, line: String) -> String {
        self.hidden.iter().fold(line, |line, secret| {
            if line.contains(secret) {
                line.replace(secret, "***")
            } else {
                line
            }
        })
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.network.keys().chain(self.variables.keys());
        let files = self.files.iter().map(|file| &file.name);
        f.debug_set().entries(names.chain(files)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxy(address: &str) -> Secrets {
        Secrets::new([("HTTPS_PROXY".to_owned(), address.to_owned())])
    }

    #[test]
    fn passwords_of_proxies_are_not_shown() {
        let secrets = proxy("http://me:s3ntinel@proxy:3128");
        let line = "cannot reach http://me:s3ntinel@proxy:3128, see /etc/ssl/certs";
        assert_eq!(
            secrets.redact(line.to_owned()),
            "cannot reach http://***@proxy:3128, see /etc/ssl/certs"
        );
        assert!(!format!("{secrets:?}").contains("s3ntinel"));
    }

    #[test]
    fn a_password_is_hidden_alone_and_with_an_at_sign_in_it() {
        let address = "http://me:s3nt@inel@proxy:3128/a@b";
        for said in [address, "Proxy password: s3nt@inel", "me:s3nt@inel@proxy"] {
            let shown = proxy(address).redact(said.to_owned());
            assert!(!shown.contains("inel"), "{shown}");
        }
    }

    #[test]
    fn credentials_of_variables_and_files_are_not_shown() {
        let auth = r#"{"http-basic":{"x.example":{"username":"u","password":"s3ntinel-a"}}}"#;
        let npmrc =
            "registry=https://x.example/\n//x.example/:_authToken=s3ntinel-b\nsave-exact=true\n";
        let yarnrc = "npmScopes:\n  acme:\n    npmAuthToken: \"s3ntinel-c\"\n";
        let secrets = Secrets::default()
            .with_variable("COMPOSER_AUTH".to_owned(), auth.to_owned())
            .with_file(".npmrc".to_owned(), npmrc.as_bytes().to_vec())
            .hiding(&[yarnrc.as_bytes().to_vec()]);
        let said = format!("{auth} s3ntinel-a s3ntinel-b s3ntinel-c");
        let shown = secrets.redact(said);
        assert!(!shown.contains("s3ntinel"), "{shown}");
        assert!(!format!("{secrets:?}").contains("s3ntinel"));
        assert_eq!(
            secrets.redact("save-exact=true".to_owned()),
            "save-exact=true"
        );
    }

    #[test]
    fn no_digest_is_made_of_a_credential() {
        let digest = |path: &str, text: &str| cleaned_digest(path.as_bytes(), text.as_bytes());
        let one = digest(".npmrc", "a=1\n//r/:_authToken=one\n");
        assert_eq!(one, digest(".npmrc", "a=1\n//r/:_authToken=two\n"));
        assert_ne!(one, digest(".npmrc", "a=2\n"));
        assert_eq!(digest("auth.json", "one"), digest("x/auth.json", "two"));
    }

    #[test]
    fn credentials_are_known_by_name_and_not_in_packages() {
        for path in [".npmrc", "auth.json", "apps/a/.npmrc", ".yarnrc.yml"] {
            assert!(is_credentials(path.as_bytes()), "{path}");
        }
        for path in ["vendor/a/auth.json", "config/auth.php", "my-auth.json"] {
            assert!(!is_credentials(path.as_bytes()), "{path}");
        }
    }
}
