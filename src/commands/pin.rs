//! `relstore pin`: releases that garbage collection leaves alone.

use serde_json::{Value, json};

use crate::context::Context;
use crate::error::{CommandError, Result};
use crate::exit_code::ExitCode;
use crate::output::{printable, table};
use crate::stored::{block_on, open, resolve};

/// Keep a release in the store until the pin is removed
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  relstore pin v1.4 --name audit-2026
  relstore pin                               lists the pins
  relstore pin v1.4 --name audit-2026 --remove")]
pub(crate) struct Args {
    /// The release; without one the pins are listed
    pub(crate) release: Option<String>,
    /// Why it is kept: a release may have several pins
    #[arg(long, default_value = "kept", requires = "release")]
    pub(crate) name: String,
    /// Remove the pin
    #[arg(long, requires = "release")]
    pub(crate) remove: bool,
}

/// Runs the command.
pub(crate) fn run(context: &Context, args: &Args) -> Result<ExitCode> {
    block_on(async {
        let (config, store) = open(context).await?;
        let Some(name) = &args.release else {
            let pins = store.pins().await?;
            let mut rows = vec![vec!["RELEASE".to_owned(), "PIN".to_owned()]];
            rows.extend(
                pins.iter()
                    .map(|(release, name)| vec![release.short(), printable(name)]),
            );
            let text = match pins.as_slice() {
                [] => format!("no pin in {}\n", store.place()),
                _ => table(&rows),
            };
            let list: Vec<Value> = pins
                .iter()
                .map(|(release, name)| json!({ "release": release, "name": name }))
                .collect();
            context.output.result(&text, || json!({ "pins": list }))?;
            return Ok(ExitCode::Ok);
        };
        if args.name.is_empty() || args.name.len() > 64 {
            return Err(CommandError::bad_input("a pin's name has 1 to 64 bytes"));
        }
        let release = resolve(context, config.as_ref(), &store, name).await?;
        let said = json!({ "release": release, "name": args.name, "removed": args.remove });
        if args.remove {
            if !store.unpin(&release, &args.name).await? {
                let message = format!("{} has no pin `{}`", release.short(), args.name);
                return Err(CommandError::bad_input(message).hint("`relstore pin` lists them"));
            }
            let text = format!(
                "{} is not pinned as `{}` any more\n",
                release.short(),
                args.name
            );
            context.output.result(&text, || said)?;
        } else {
            store.pin(&release, &args.name).await?;
            let text = format!("{} stays, pinned as `{}`\n", release.short(), args.name);
            context.output.result(&text, || said)?;
        }
        Ok(ExitCode::Ok)
    })
}
