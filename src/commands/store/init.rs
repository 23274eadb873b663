//! `relstore store init`: makes a store where there is none, after its place was probed.

use std::sync::Arc;

use relstore_store::backend::Backend;
use relstore_store::place::Place;
use relstore_store::probe::{FINDINGS, Findings, ProbeError, probe};
use relstore_store::{Store, StoreError};
use serde_json::json;

use crate::context::Context;
use crate::error::{CommandError, Result};
use crate::exit_code::ExitCode;
use crate::output::table;
use crate::remote;
use crate::stored::block_on;

/// Probe a place and make a store there, when there is none
///
/// The probe puts, reads, lists and deletes a few objects. A place that does not do what a store
/// relies on is refused. What was found is kept in the store as `probe.json`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  relstore store init s3://acme-releases/notes
  relstore store init /srv/releases/notes --json")]
pub(crate) struct Args {
    /// A folder, a URL or the name of a remote [default: the store of the project]
    #[arg(value_name = "PLACE")]
    pub(crate) place: Option<String>,
}

/// Runs the command.
pub(crate) fn run(context: &Context, args: &Args) -> Result<ExitCode> {
    block_on(async {
        let config = context.optional_config()?;
        let config = config.as_ref();
        let remote = match args.place.as_deref() {
            Some(said) => remote::chosen(context, config, Some(said))?,
            None => remote::at(context, config, context.store_place(config)?),
        };
        let backend = remote::backend(context, &remote).await?;
        let made = is_empty(&remote.place, backend.as_ref()).await?;
        let findings = probe(backend.as_ref(), &name(context), &|| context.now())
            .await
            .map_err(unfit)?;
        if made {
            Store::create_backend(Arc::clone(&backend)).await?;
        }
        let mut json = serde_json::to_vec_pretty(&findings).map_err(|error| {
            CommandError::new(ExitCode::Failure, "cannot write the findings").caused_by(&error)
        })?;
        json.push(b'\n');
        backend.put_advisory(FINDINGS, json.into()).await?;
        let place = backend.place();
        context.output.result(
            &text(&place, made, &findings),
            || json!({ "store": place, "made": made, "findings": findings }),
        )?;
        Ok(ExitCode::Ok)
    })
}

/// Whether the place holds no store yet. What holds other things is refused: a store is never mixed
/// with what is not its own.
async fn is_empty(place: &Place, backend: &dyn Backend) -> Result<bool> {
    if let Place::Folder(folder) = place {
        let empty = matches!(Store::open(folder).await, Err(StoreError::NoStore { .. }));
        // Made before the probe leaves anything there that would look like somebody else's.
        Store::open_or_create(folder).await?;
        return Ok(empty);
    }
    if backend.get("format.json").await?.is_some() {
        return Ok(false);
    }
    let objects = backend.list("").await?;
    // An earlier probe may have been interrupted.
    match objects
        .iter()
        .any(|object| !object.name.starts_with("probes/"))
    {
        true => Err(StoreError::Occupied {
            place: backend.place(),
        }
        .into()),
        false => Ok(true),
    }
}

/// A name for the objects of this probe that no other one has.
fn name(context: &Context) -> String {
    let now = context.now().duration_since(std::time::UNIX_EPOCH);
    let nanos = now.unwrap_or_default().as_nanos();
    format!("init-{nanos}-{}", std::process::id())
}

fn unfit(error: ProbeError) -> CommandError {
    match error {
        ProbeError::Store(error) => error.into(),
        ProbeError::Unfit { place, failures } => {
            let error =
                CommandError::new(ExitCode::Failure, format!("{place} cannot hold a store"));
            failures
                .into_iter()
                .fold(error, CommandError::detail)
                .hint("use another kind of place; docs/stores.md says what a store relies on")
        }
    }
}

fn text(place: &str, made: bool, findings: &Findings) -> String {
    let yes = |holds: bool| if holds { "yes" } else { "no" }.to_owned();
    let mut rows = vec![
        ("reads, lists and deletes at once", yes(true)),
        ("refuses other bytes for a name", yes(true)),
        (
            "lets one of several writers win",
            yes(findings.atomic_create),
        ),
    ];
    if let Some(conditional) = findings.conditional_put {
        rows.push(("honours If-None-Match", yes(conditional)));
    }
    rows.push(("tells times in order", yes(findings.ordered_times)));
    rows.push((
        "smallest step of times",
        format!("{} ms", findings.time_step_ms),
    ));
    rows.push((
        "clock against this machine",
        format!("{:+} ms", findings.clock_skew_ms),
    ));
    let rows: Vec<Vec<String>> = rows
        .into_iter()
        .map(|(what, found)| vec![what.to_owned(), found])
        .collect();
    let first = match made {
        true => "a store was made at",
        false => "there is a store at",
    };
    format!("{first} {place}\n{}", table(&rows))
}
