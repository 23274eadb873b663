//! `relstore init`: writes a short, commented relstore.toml from what the folder shows.

use std::fmt::Write as _;
use std::io::{ErrorKind, Write as _};

use serde_json::json;

use crate::config::{Config, FILE_NAME};
use crate::context::Context;
use crate::error::{CommandError, Result};
use crate::exit_code::ExitCode;
use crate::project_scan::{Findings, Frontend, ScanError, scan};

/// Write a relstore.toml for the Laravel project in the current folder
///
/// Looks for Composer, Vite or Mix, the package manager and the database, writes a short, commented
/// file and never overwrites one. `relstore build` works right after it.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  cd my-laravel-app && relstore init && relstore build")]
pub(crate) struct Args {}

/// Runs the command.
pub(crate) fn run(context: &Context, _args: &Args) -> Result<ExitCode> {
    let findings = scan(&context.folder).map_err(|error| scan_error(&error))?;
    let text = relstore_toml(&findings);
    let file = context.folder.join(FILE_NAME);
    // What is written must be readable: a mistake here would be ours.
    Config::parse(&file, &text, &context.variables)?;
    let written =
        std::fs::File::create_new(&file).and_then(|mut created| created.write_all(text.as_bytes()));
    written.map_err(|error| {
        if error.kind() == ErrorKind::AlreadyExists {
            CommandError::bad_input(format!(
                "{} is already there, it is not overwritten",
                file.display()
            ))
            .hint("edit it, or remove it and run `relstore init` again")
        } else {
            CommandError::bad_input(format!("cannot write {}", file.display())).caused_by(&error)
        }
    })?;
    let found = found(&findings);
    let warnings = warnings(&findings);
    for warning in &warnings {
        context.output.warning(warning);
    }
    let mut answer = format!("wrote {FILE_NAME} for `{}`\n", findings.app);
    for line in &found {
        writeln!(answer, "  found  {line}").expect("a String takes every text");
    }
    answer.push_str("next   git add relstore.toml && git commit, then `relstore build`\n");
    context.output.result(
        &answer,
        || json!({ "file": file, "app": findings.app, "found": found, "warnings": warnings }),
    )?;
    Ok(ExitCode::Ok)
}

fn scan_error(error: &ScanError) -> CommandError {
    let command_error = CommandError::of(ExitCode::BadInput, error);
    match error {
        ScanError::NoComposer { .. } | ScanError::NotLaravel { .. } => command_error
            .hint("run `relstore init` in the folder that holds artisan and composer.json"),
        ScanError::Json { .. } | ScanError::Read { .. } => command_error,
    }
}

fn found(findings: &Findings) -> Vec<String> {
    let mut found = vec![format!("Laravel {} with Composer", findings.laravel)];
    found.push(match &findings.frontend {
        Frontend::Vite(file) => format!("Vite ({file})"),
        Frontend::Mix(file) => format!("Laravel Mix ({file}): the Vite gate is off"),
        Frontend::None => "no Vite and no Mix: the Vite gate is off".to_owned(),
    });
    if let Some((manager, file)) = findings.package_lock {
        found.push(format!("{manager} ({file})"));
    }
    if let Some(database) = &findings.database {
        found.push(match database.as_str() {
            "sqlite" => {
                "database sqlite: database/database.sqlite is shared by all releases".to_owned()
            }
            other => format!("database {other}"),
        });
    }
    if !findings.package_folders.is_empty() {
        found.push(format!(
            "local Composer packages in {}: left out of releases",
            findings.package_folders.join(", ")
        ));
    }
    found
}

fn warnings(findings: &Findings) -> Vec<String> {
    let mut warnings = Vec::new();
    if !findings.composer_lock {
        warnings.push(
            "there is no composer.lock; `composer update` writes it, and it must be committed"
                .to_owned(),
        );
    }
    if let Some(step) = findings.frontend.step() {
        match findings.package_lock {
            Some((_, "package-lock.json") | ("pnpm" | "yarn", _)) => {}
            Some((manager, file)) => warnings.push(format!(
                "no step of relstore reads {file} of {manager}, and {step} needs packages; `npm install --package-lock-only` writes package-lock.json"
            )),
            None => warnings.push(
                "there is no package-lock.json; `npm install --package-lock-only` writes it, and it must be committed".to_owned(),
            ),
        }
    }
    warnings
}

/// A TOML list of strings.
fn list(values: &[&str]) -> String {
    let quoted: Vec<String> = values
        .iter()
        .map(|value| toml_edit::Value::from(*value).to_string())
        .collect();
    format!("[{}]", quoted.join(", "))
}

/// The text of the file.
fn relstore_toml(findings: &Findings) -> String {
    let frontend = &findings.frontend;
    let app = toml_edit::Value::from(findings.app.as_str());
    let mut text = format!("app = {app}\n\n[build]\n");
    let mut steps = vec!["composer"];
    if let Some(step) = frontend.step() {
        // npm comes along by itself.
        let manager = findings.package_lock.map(|(manager, _)| manager);
        steps.extend(manager.filter(|name| matches!(*name, "pnpm" | "yarn")));
        steps.push(step);
    }
    let _ = writeln!(text, "steps = {}", list(&steps));
    if let Some(prefix) = frontend.variable_prefix() {
        let names: Vec<String> = findings
            .asset_variables
            .iter()
            .map(|name| format!("{name} = \"...\""))
            .collect();
        let example = if names.is_empty() {
            format!("{prefix}APP_NAME = \"...\"")
        } else {
            names.join(", ")
        };
        let _ = writeln!(
            text,
            "# Every {prefix}* variable that the code uses: its value becomes part of the release.\n# env = {{ {example} }}"
        );
    }
    if findings.package_folders.is_empty() {
        text.push_str("# What is no part of a release, beside .git, node_modules, tests and .env files.\n# exclude = [\"docs\"]\n");
    } else {
        let folders: Vec<&str> = findings
            .package_folders
            .iter()
            .map(String::as_str)
            .collect();
        let _ = writeln!(
            text,
            "# Packages that Composer installs into vendor/ are not needed twice.\nexclude = {}",
            list(&folders)
        );
    }
    if !matches!(frontend, Frontend::Vite(_)) {
        text.push_str("\n[gates]\n# No Vite here, so public/build/manifest.json is not asked for.\noff = [\"vite-manifest\"]\n");
    }
    text.push_str("\n[shared]\n# Lives on the host and is linked into every release.\n");
    let shared: &[&str] = if findings.database.as_deref() == Some("sqlite") {
        text.push_str("# Make the database on the host, empty, before the first deploy: shared/database/database.sqlite\n");
        &["storage", "database/database.sqlite"]
    } else {
        &["storage"]
    };
    let _ = writeln!(text, "paths = {}", list(shared));
    text.push_str(ENVIRONMENT);
    text
}

/// The commented example of an environment.
const ENVIRONMENT: &str = r#"
# Where to deploy. Remove the `#`, then: relstore deploy HEAD --env staging
# [env.staging]
# hosts  = ["deploy@staging.example.com"]
# base   = "/var/www/app"                  # nginx serves <base>/current/public
# url    = "https://staging.example.com"
# reload = ["sudo -n service php8.3-fpm reload"]
# health = [{ path = "/up" }]              # or { path = "/health", bearer = { env = "HEALTHCHECK_TOKEN" } }
"#;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use relstore_builder::Preset;

    use super::*;
    use crate::config::variables::Variables;

    fn findings(frontend: Frontend) -> Findings {
        Findings {
            app: "shop".to_owned(),
            laravel: "^11".to_owned(),
            composer_lock: true,
            frontend,
            package_lock: Some(("npm", "package-lock.json")),
            database: None,
            package_folders: Vec::new(),
            asset_variables: Vec::new(),
        }
    }

    fn parse(text: &str) -> Config {
        Config::parse("/p/relstore.toml".as_ref(), text, &Variables::default()).unwrap()
    }

    #[test]
    fn written_file_is_valid_for_every_kind_of_project() {
        let vite = parse(&relstore_toml(&findings(Frontend::Vite(
            "vite.config.js".to_owned(),
        ))));
        assert_eq!((vite.build.steps.len(), vite.gates.off.len()), (2, 0));
        for (frontend, steps) in [
            (
                Frontend::Mix("webpack.mix.js".to_owned()),
                &[Preset::Composer, Preset::Mix][..],
            ),
            (Frontend::None, &[Preset::Composer]),
        ] {
            let config = parse(&relstore_toml(&findings(frontend)));
            assert_eq!(config.build.steps, steps);
            assert_eq!(config.gates.off, ["vite-manifest"]);
        }
        let nasty = Findings {
            package_folders: vec!["a\"b".to_owned()],
            ..findings(Frontend::None)
        };
        assert_eq!(parse(&relstore_toml(&nasty)).build.exclude, ["a\"b"]);
        let sqlite = Findings {
            database: Some("sqlite".to_owned()),
            ..findings(Frontend::None)
        };
        let layout = parse(&relstore_toml(&sqlite)).layout;
        assert_eq!(
            layout.shared_files[0].as_bytes(),
            b"database/database.sqlite"
        );
    }

    #[test]
    fn commented_environment_is_valid_when_its_marks_are_removed() {
        let text = relstore_toml(&findings(Frontend::None));
        let (general, environment) = text.split_once("# [env.staging]").unwrap();
        let environment = environment.replace("\n# ", "\n");
        let config = parse(&format!("{general}[env.staging]{environment}"));
        assert_eq!(config.environment("staging").unwrap().health.len(), 1);
    }

    #[test]
    fn missing_or_foreign_lock_files_are_warned_about() {
        let vite = findings(Frontend::Vite("vite.config.js".to_owned()));
        assert!(warnings(&vite).is_empty());
        let bare = Findings {
            composer_lock: false,
            package_lock: None,
            ..vite.clone()
        };
        assert_eq!(warnings(&bare).len(), 2);
        let pnpm = Findings {
            package_lock: Some(("pnpm", "pnpm-lock.yaml")),
            ..vite.clone()
        };
        assert!(warnings(&pnpm).is_empty());
        let steps = [Preset::Composer, Preset::Pnpm, Preset::Vite];
        assert_eq!(parse(&relstore_toml(&pnpm)).build.steps, steps);
        let bun = Findings {
            package_lock: Some(("bun", "bun.lock")),
            ..vite
        };
        assert!(warnings(&bun)[0].contains("bun"), "{:?}", warnings(&bun));
    }
}
