//! `relstore push`: releases go from the local store to another one.

use relstore_store::id::ReleaseId;
use relstore_store::{Store, StoreError, transfer};
use serde_json::{Value, json};

use crate::config::Config;
use crate::config::remote::Remote;
use crate::context::Context;
use crate::error::Result;
use crate::exit_code::ExitCode;
use crate::output::bytes;
use crate::progress::{Progress, Task};
use crate::remote;
use crate::stored::{block_on, open, refresh_listing, resolve};

/// How often a transfer is begun.
const TRIES: usize = 3;

/// Send releases to another store
///
/// Moves only what the other store lacks. What arrived before a cut is not sent again.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  relstore push                              the release that was stored last, to [store] remote
  relstore push HEAD v1.4 --to s3://bucket/app
  relstore push --all --to mirror")]
pub(crate) struct Args {
    /// The releases [default: latest]
    #[arg(conflicts_with = "all")]
    pub(crate) releases: Vec<String>,
    /// Send every release of the store
    #[arg(long)]
    pub(crate) all: bool,
    /// Name of a remote, URL or folder [default: `[store] remote`]
    #[arg(long, value_name = "REMOTE")]
    pub(crate) to: Option<String>,
}

/// Runs the command.
pub(crate) fn run(context: &Context, args: &Args) -> Result<ExitCode> {
    block_on(async {
        let (config, store) = open(context).await?;
        let remote = remote::chosen(context, config.as_ref(), args.to.as_deref())?;
        let releases = match args.releases.as_slice() {
            _ if args.all => store.releases().await?,
            [] => vec![resolve(context, config.as_ref(), &store, "latest").await?],
            names => named(context, config.as_ref(), &store, names).await?,
        };
        let done = push(context, &store, &releases, &remote).await?;
        context.output.result(&text(&done), || document(&done))?;
        Ok(ExitCode::Ok)
    })
}

async fn named(
    context: &Context,
    config: Option<&Config>,
    store: &Store,
    names: &[String],
) -> Result<Vec<ReleaseId>> {
    let mut releases = Vec::new();
    for name in names {
        let release = resolve(context, config, store, name).await?;
        if !releases.contains(&release) {
            releases.push(release);
        }
    }
    Ok(releases)
}

/// What a push or a pull did.
pub(crate) struct Done {
    pub(crate) releases: Vec<ReleaseId>,
    pub(crate) place: String,
    pub(crate) moved: transfer::Moved,
}

/// Sends releases, and says so.
pub(crate) async fn push(
    context: &Context,
    store: &Store,
    releases: &[ReleaseId],
    remote: &Remote,
) -> Result<Done> {
    let to = remote::open(context, remote).await?;
    let moved = carry(context, "push", store, &to, releases).await?;
    refresh_listing(context, &to).await;
    Ok(Done {
        releases: releases.to_vec(),
        place: to.place(),
        moved,
    })
}

/// Moves releases from store to store while a bar moves.
pub(crate) async fn carry(
    context: &Context,
    word: &str,
    from: &Store,
    to: &Store,
    releases: &[ReleaseId],
) -> Result<transfer::Moved> {
    use relstore_store::event::Event;
    let progress = Progress::new(context);
    let task = Task::new(word);
    let began = std::time::Instant::now();
    let listener = |event: Event| match event {
        Event::ToMove(bytes) => progress.begin(&task, Some(bytes)),
        Event::Moved(bytes) => progress.advance_by(&task, bytes),
        _ => {}
    };
    let mut tries = 0;
    let moved = loop {
        tries += 1;
        let plan = transfer::plan(from, to, releases).await?;
        match transfer::run(from, to, &plan, &listener).await {
            // Collected as garbage while this program stood still: it is sent again.
            Err(StoreError::NoBlob { .. }) if tries < TRIES => progress.end(&task),
            moved => break moved?,
        }
    };
    let took = began.elapsed();
    let rate = moved.bundle_bytes as f64 / took.as_secs_f64().max(0.001);
    let said = match moved.bundles {
        0 => "all content was there already".to_owned(),
        _ => format!("{} ({}/s)", bytes(moved.bundle_bytes), bytes(rate as u64)),
    };
    progress.ok(&task, &said, Some(took));
    Ok(moved)
}

pub(crate) fn text(done: &Done) -> String {
    let mut text = String::new();
    for release in &done.releases {
        text.push_str(&format!("{release}\n"));
    }
    text
}

pub(crate) fn document(done: &Done) -> Value {
    json!({
        "releases": done.releases,
        "store": done.place,
        "bundles": done.moved.bundles,
        "bundle_bytes": done.moved.bundle_bytes,
        "records": done.moved.records,
    })
}
