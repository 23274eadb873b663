//! What steps with network access get: how the network is reached, and the credentials that
//! `[build] auth` names. Nothing of it is ever printed or stored.

use std::path::PathBuf;

use relstore_builder::secret::{NETWORK_VARIABLES, Secrets};

use crate::config::Config;
use crate::context::Context;
use crate::error::{CommandError, Result};

/// Reads all of it. A name that leads nowhere is an error: the build would fail later, and say less.
pub(crate) fn read(context: &Context, config: &Config) -> Result<Secrets> {
    let variables = &context.variables;
    let network = NETWORK_VARIABLES
        .iter()
        .filter_map(|name| Some(((*name).to_owned(), variables.get(name)?.to_owned())));
    let mut secrets = Secrets::new(network);
    for source in &config.build.auth {
        secrets = match source.as_str() {
            "ssh-agent" => match variables.get("SSH_AUTH_SOCK") {
                Some(socket) => secrets.with_agent(PathBuf::from(socket)),
                None => return Err(missing(source, "SSH_AUTH_SOCK is not set: no agent runs")),
            },
            "auth.json" | ".npmrc" => {
                let content = file(context, config, source)?;
                secrets.with_file(source.clone(), content)
            }
            name => match variables.get(name) {
                Some(value) => secrets.with_variable(name.to_owned(), value.to_owned()),
                None => return Err(missing(source, "the environment variable is not set")),
            },
        };
    }
    Ok(secrets)
}

fn missing(source: &str, why: &str) -> CommandError {
    CommandError::bad_input(format!("`[build] auth` names `{source}`, but {why}"))
        .hint("set it, or take it out of `[build] auth` in relstore.toml")
}

/// The file of the application's folder, else that of the user.
fn file(context: &Context, config: &Config, name: &str) -> Result<Vec<u8>> {
    let mut places = vec![config.project().join(&config.build.root).join(name)];
    let folder = |variable: &str| context.variables.get(variable).map(PathBuf::from);
    let home = folder("HOME");
    if name == "auth.json" {
        places.extend(folder("COMPOSER_HOME").map(|folder| folder.join(name)));
        places.extend(
            home.iter()
                .map(|home| home.join(".config/composer").join(name)),
        );
        places.extend(home.iter().map(|home| home.join(".composer").join(name)));
    } else {
        places.extend(home.iter().map(|home| home.join(name)));
    }
    for place in &places {
        match std::fs::read(place) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => {
                let message = format!("cannot read {}", place.display());
                return Err(CommandError::bad_input(message).caused_by(&error));
            }
            Ok(content) => return Ok(content),
        }
    }
    let tried: Vec<String> = places
        .iter()
        .map(|place| place.display().to_string())
        .collect();
    Err(missing(
        name,
        &format!("it is not there: {}", tried.join(", ")),
    ))
}
