//! Who asks: keys found in the order in which AWS's own tools look.
//!
//! 1. `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`
//! 2. `AWS_WEB_IDENTITY_TOKEN_FILE` with `AWS_ROLE_ARN`
//! 3. the profile `AWS_PROFILE` (or `default`) of `~/.aws/credentials` and `~/.aws/config`
//! 4. `AWS_CONTAINER_CREDENTIALS_RELATIVE_URI`, or `..._FULL_URI` with its token file
//! 5. the metadata service of the machine: only towards AWS, and not when
//!    `AWS_EC2_METADATA_DISABLED` is `true`
//!
//! The client fetches and renews 2, 4 and 5; 1 and 3 are read here. A profile that gets its keys in
//! another way (single sign-on, a process, a role to assume) is refused rather than passed over:
//! what comes later in the list could be somebody else.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey as Config};

use super::S3Settings;

/// Region when nobody names one; servers other than AWS mostly ignore it.
const DEFAULT_REGION: &str = "us-east-1";

/// Credentials and what was found beside them.
pub(super) struct Found {
    pub(super) credentials: Credentials,
    pub(super) region: String,
    pub(super) endpoint: Option<String>,
}

/// What the client is given; without any output, it holds secrets.
pub(super) struct Credentials(Vec<(Config, String)>);

/// Why nobody can ask.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(super) enum CredentialsError {
    /// Nothing in the list applies.
    #[error("no credentials were found")]
    None,
    /// One half of a pair.
    #[error("{present} is set, but {missing} is not")]
    Half {
        present: &'static str,
        missing: &'static str,
    },
    /// `AWS_PROFILE` names a profile that is in no file.
    #[error("there is no profile `{name}` in {}", files.join(" or "))]
    NoProfile { name: String, files: Vec<String> },
    /// A profile without keys of its own.
    #[error("the profile `{name}` gets its keys by `{by}`")]
    Indirect { name: String, by: String },
}

impl CredentialsError {
    pub(super) fn hint(&self) -> String {
        match self {
            Self::Indirect { name, .. } => format!(
                "relstore reads keys only: `eval \"$(aws configure export-credentials --profile {name} --format env)\"`"
            ),
            _ => "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE for a profile of ~/.aws/credentials".into(),
        }
    }
}

impl Credentials {
    /// Gives them to the client.
    pub(super) fn configure(self, builder: AmazonS3Builder) -> AmazonS3Builder {
        let settings = self.0.into_iter();
        settings.fold(builder, |builder, (key, value)| {
            builder.with_config(key, value)
        })
    }
}

/// Finds credentials, region and endpoint.
pub(super) fn find(settings: &S3Settings<'_>) -> Result<Found, CredentialsError> {
    find_in(settings, &|path| std::fs::read_to_string(path).ok())
}

fn find_in(
    settings: &S3Settings<'_>,
    read: &dyn Fn(&Path) -> Option<String>,
) -> Result<Found, CredentialsError> {
    let variable = |name: &str| (settings.variables)(name).filter(|value| !value.is_empty());
    let profile = Profile::read(&variable, read);
    let own = |given: &Option<String>, variables: &[&str], key: &str| {
        given
            .clone()
            .or_else(|| variables.iter().find_map(|name| variable(name)))
            .or_else(|| profile.values.get(key).cloned())
    };
    let endpoint = own(
        &settings.endpoint,
        &["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"],
        "endpoint_url",
    )
    .map(|endpoint| endpoint.trim_end_matches('/').to_owned());
    let region = own(
        &settings.region,
        &["AWS_REGION", "AWS_DEFAULT_REGION"],
        "region",
    );
    let aws = endpoint
        .as_deref()
        .is_none_or(|endpoint| endpoint.contains(".amazonaws.com"));
    Ok(Found {
        credentials: Credentials(choose(&variable, &profile, aws)?),
        region: region.unwrap_or_else(|| DEFAULT_REGION.to_owned()),
        endpoint,
    })
}

fn choose(
    variable: &dyn Fn(&str) -> Option<String>,
    profile: &Profile,
    aws: bool,
) -> Result<Vec<(Config, String)>, CredentialsError> {
    const ID: &str = "AWS_ACCESS_KEY_ID";
    const SECRET: &str = "AWS_SECRET_ACCESS_KEY";
    let half = |present, missing| Err(CredentialsError::Half { present, missing });
    match (variable(ID), variable(SECRET)) {
        (Some(id), Some(secret)) => {
            return Ok(keys(id, secret, variable("AWS_SESSION_TOKEN")));
        }
        (Some(_), None) => return half(ID, SECRET),
        (None, Some(_)) => return half(SECRET, ID),
        (None, None) => {}
    }
    let all = |names: &[(Config, &str)]| -> Option<Vec<(Config, String)>> {
        let found = names
            .iter()
            .map(|(key, name)| Some((*key, variable(name)?)));
        found.collect()
    };
    if let Some(mut found) = all(&[
        (Config::WebIdentityTokenFile, "AWS_WEB_IDENTITY_TOKEN_FILE"),
        (Config::RoleArn, "AWS_ROLE_ARN"),
    ]) {
        found
            .extend(all(&[(Config::RoleSessionName, "AWS_ROLE_SESSION_NAME")]).unwrap_or_default());
        return Ok(found);
    }
    if let Some(keys) = profile.keys()? {
        return Ok(keys);
    }
    let container = all(&[(
        Config::ContainerCredentialsRelativeUri,
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    )])
    .or_else(|| {
        all(&[
            (
                Config::ContainerCredentialsFullUri,
                "AWS_CONTAINER_CREDENTIALS_FULL_URI",
            ),
            (
                Config::ContainerAuthorizationTokenFile,
                "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
            ),
        ])
    });
    if let Some(found) = container {
        return Ok(found);
    }
    let forbidden = variable("AWS_EC2_METADATA_DISABLED")
        .is_some_and(|value| value.eq_ignore_ascii_case("true"));
    if !aws || forbidden {
        return Err(CredentialsError::None);
    }
    Ok(Vec::new())
}

fn keys(id: String, secret: String, token: Option<String>) -> Vec<(Config, String)> {
    let mut keys = vec![(Config::AccessKeyId, id), (Config::SecretAccessKey, secret)];
    keys.extend(token.map(|token| (Config::Token, token)));
    keys
}

/// A profile of the shared files.
struct Profile {
    name: String,
    /// Whether `AWS_PROFILE` asks for it.
    wanted: bool,
    present: bool,
    files: Vec<PathBuf>,
    values: BTreeMap<String, String>,
}

impl Profile {
    fn read(
        variable: &dyn Fn(&str) -> Option<String>,
        read: &dyn Fn(&Path) -> Option<String>,
    ) -> Self {
        let home = variable("HOME").map(PathBuf::from);
        let file = |name: &str, below_home: &str| {
            variable(name)
                .map(PathBuf::from)
                .or_else(|| Some(home.as_ref()?.join(below_home)))
        };
        let wanted = variable("AWS_PROFILE");
        let mut profile = Self {
            wanted: wanted.is_some(),
            name: wanted.unwrap_or_else(|| "default".to_owned()),
            present: false,
            files: Vec::new(),
            values: BTreeMap::new(),
        };
        let in_config = match profile.name.as_str() {
            "default" => "default".to_owned(),
            name => format!("profile {name}"),
        };
        let in_credentials = profile.name.clone();
        // The first file that says something wins.
        for (path, section) in [
            (
                file("AWS_SHARED_CREDENTIALS_FILE", ".aws/credentials"),
                in_credentials,
            ),
            (file("AWS_CONFIG_FILE", ".aws/config"), in_config),
        ] {
            let Some(path) = path else { continue };
            if let Some(values) = read(&path).and_then(|text| self::section(&text, &section)) {
                profile.present = true;
                for (key, value) in values {
                    profile.values.entry(key).or_insert(value);
                }
            }
            profile.files.push(path);
        }
        profile
    }

    /// Its keys; `None` when there are none and nobody asked for it.
    fn keys(&self) -> Result<Option<Vec<(Config, String)>>, CredentialsError> {
        let value = |key: &str| self.values.get(key).cloned();
        match (value("aws_access_key_id"), value("aws_secret_access_key")) {
            (Some(id), Some(secret)) => {
                return Ok(Some(keys(id, secret, value("aws_session_token"))));
            }
            (Some(_), None) => {
                return Err(CredentialsError::Half {
                    present: "aws_access_key_id of the profile",
                    missing: "aws_secret_access_key",
                });
            }
            _ => {}
        }
        let indirect = [
            "role_arn",
            "sso_session",
            "sso_start_url",
            "credential_process",
        ];
        if let Some(by) = indirect.iter().find(|key| self.values.contains_key(**key)) {
            return Err(CredentialsError::Indirect {
                name: self.name.clone(),
                by: (*by).to_owned(),
            });
        }
        if self.wanted && !self.present {
            return Err(CredentialsError::NoProfile {
                name: self.name.clone(),
                files: self
                    .files
                    .iter()
                    .map(|file| file.display().to_string())
                    .collect(),
            });
        }
        Ok(None)
    }
}

/// `key = value` lines of one section of an INI file; `None` when there is no such section.
/// Nested values, which are indented, are left out.
fn section(text: &str, name: &str) -> Option<BTreeMap<String, String>> {
    let mut values = None;
    let mut inside = false;
    for line in text.lines() {
        if line.starts_with([' ', '\t', '#', ';']) {
            continue;
        }
        let line = line.trim();
        if let Some(header) = line
            .strip_prefix('[')
            .and_then(|rest| rest.split(']').next())
        {
            inside = header.split_whitespace().eq(name.split_whitespace());
            if inside {
                values.get_or_insert_with(BTreeMap::new);
            }
        } else if let (true, Some((key, value))) = (inside, line.split_once('=')) {
            values
                .get_or_insert_with(BTreeMap::new)
                .insert(key.trim().to_lowercase(), value.trim().to_owned());
        }
    }
    values
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const CREDENTIALS: &str = "[default]\naws_access_key_id = DID\naws_secret_access_key=DSECRET\n\n\
        [ci]\n# a comment\naws_access_key_id = CID\naws_secret_access_key = C=SECRET\naws_session_token = CT\n";
    const CONFIG: &str = "[default]\nregion = eu-west-1\ns3 =\n  addressing_style = path\n\
        [profile ci]\nregion = eu-central-1\nendpoint_url = http://127.0.0.1:9000/\n\
        [profile sso]\nsso_session = work\n";

    fn found(
        variables: &[(&str, &str)],
        endpoint: Option<&str>,
    ) -> Result<Found, CredentialsError> {
        let lookup = |name: &str| {
            let found = variables.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        let settings = S3Settings {
            bucket: "b".into(),
            prefix: String::new(),
            endpoint: endpoint.map(str::to_owned),
            region: None,
            path_style: false,
            variables: &lookup,
        };
        find_in(&settings, &|path| match path.to_str()? {
            "/home/.aws/credentials" => Some(CREDENTIALS.to_owned()),
            "/home/.aws/config" => Some(CONFIG.to_owned()),
            _ => None,
        })
    }

    fn names(found: &Found) -> Vec<&str> {
        let values = found.credentials.0.iter();
        values.map(|(_, value)| value.as_str()).collect()
    }

    #[test]
    fn variables_win_over_everything_and_files_over_services() {
        let home = ("HOME", "/home");
        let keys = [
            home,
            ("AWS_ACCESS_KEY_ID", "ID"),
            ("AWS_SECRET_ACCESS_KEY", "SECRET"),
            ("AWS_WEB_IDENTITY_TOKEN_FILE", "/token"),
            ("AWS_ROLE_ARN", "arn"),
        ];
        assert_eq!(names(&found(&keys, None).unwrap()), ["ID", "SECRET"]);
        let web = [home, keys[3], keys[4]];
        assert_eq!(names(&found(&web, None).unwrap()), ["/token", "arn"]);
        let container = ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/v2");
        let default = found(&[home, container], None).unwrap();
        assert_eq!(names(&default), ["DID", "DSECRET"]);
        assert_eq!(default.region, "eu-west-1");
        assert_eq!(names(&found(&[container], None).unwrap()), ["/v2"]);
        // Nothing at all: the machine's own service is asked, by the client.
        assert!(names(&found(&[], None).unwrap()).is_empty());
    }

    #[test]
    fn profile_brings_keys_region_and_endpoint() {
        let profile = found(&[("HOME", "/home"), ("AWS_PROFILE", "ci")], None).unwrap();
        assert_eq!(names(&profile), ["CID", "C=SECRET", "CT"]);
        assert_eq!(profile.region, "eu-central-1");
        assert_eq!(profile.endpoint.as_deref(), Some("http://127.0.0.1:9000"));
        let given = [
            ("HOME", "/home"),
            ("AWS_PROFILE", "ci"),
            ("AWS_REGION", "garage"),
        ];
        let given = found(&given, Some("https://s3.example.com")).unwrap();
        assert_eq!(given.region, "garage");
        assert_eq!(given.endpoint.as_deref(), Some("https://s3.example.com"));
    }

    #[test]
    fn what_cannot_be_used_is_an_error_and_never_somebody_else() {
        let error = |variables: &[(&str, &str)], endpoint| {
            let error = found(variables, endpoint).err().unwrap();
            format!("{error}; {}", error.hint())
        };
        let home = ("HOME", "/home");
        assert!(
            error(&[home, ("AWS_PROFILE", "sso")], None)
                .contains("export-credentials --profile sso")
        );
        assert!(
            error(&[home, ("AWS_PROFILE", "no")], None)
                .contains("no profile `no` in /home/.aws/credentials or")
        );
        let half = error(&[home, ("AWS_SECRET_ACCESS_KEY", "hunter2")], None);
        assert!(half.contains("AWS_ACCESS_KEY_ID is not") && !half.contains("hunter2"));
        // Only AWS has a metadata service that could know.
        assert!(error(&[], Some("https://s3.example.com")).contains("no credentials"));
        assert!(error(&[("AWS_EC2_METADATA_DISABLED", "true")], None).contains("no credentials"));
    }
}
