//! `relstore gc`: what nothing keeps leaves the store.

use relstore_store::event::Event;
use relstore_store::gc::{Collected, Plan, Retention};
use relstore_store::id::ReleaseId;
use relstore_store::place::Place;
use serde_json::{Value, json};

use crate::context::Context;
use crate::error::Result;
use crate::exit_code::ExitCode;
use crate::output::{bytes, count};
use crate::progress::{Progress, Task, seconds};
use crate::stored::{block_on, open, refresh_listing};

/// Remove what nothing keeps from the store
///
/// Releases are kept that are pinned, that a host serves or served lately, that are among the newest,
/// or younger than the retention time of `[store]`. What nothing keeps is marked first, and deleted by
/// a run after the grace period: run it regularly. Nobody has to stop working meanwhile.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  relstore gc --dry-run
  relstore gc
  relstore gc --store s3://bucket/app        in a remote store")]
pub(crate) struct Args {
    /// Show what would be done, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// Runs the command.
pub(crate) fn run(context: &Context, args: &Args) -> Result<ExitCode> {
    block_on(async {
        let (config, store) = open(context).await?;
        let local = matches!(context.store_place(config.as_ref())?, Place::Folder(_));
        let mut retention = config
            .as_ref()
            .map_or_else(Retention::default, |config| config.store.retention);
        // Elsewhere everything would have to be fetched and sent again.
        retention.repack &= local;
        let plan = store.plan_gc(&retention).await?;
        if args.dry_run {
            let text = planned(&plan, &retention);
            context.output.result(&text, || document(&plan, None))?;
            return Ok(ExitCode::Ok);
        }
        let progress = Progress::new(context);
        let task = Task::new("gc");
        progress.begin(&task, Some(plan.frees()));
        let listener = |event: Event| {
            if let Event::Deleted(bytes) = event {
                progress.advance_by(&task, bytes);
            }
        };
        let done = store.run_gc(&plan, &listener).await?;
        progress.end(&task);
        refresh_listing(context, &store).await;
        let text = collected(&plan, &done, &retention);
        context
            .output
            .result(&text, || document(&plan, Some(&done)))?;
        Ok(ExitCode::Ok)
    })
}

fn releases(plan: &Plan) -> String {
    let mut text = format!(
        "keeps {} of {} releases\n",
        plan.kept.len(),
        plan.kept.len() + plan.expired.len()
    );
    for release in &plan.expired {
        text.push_str(&format!("  goes  {}\n", release.short()));
    }
    text
}

fn planned(plan: &Plan, retention: &Retention) -> String {
    let mut text = releases(plan);
    text.push_str(&format!(
        "would delete {} objects, {}\nwould mark {} objects, {}, for a run after {}\n",
        count(plan.delete.len() as u64),
        bytes(plan.frees()),
        count(plan.bury.len() as u64),
        bytes(plan.bury.iter().map(|dead| dead.size).sum()),
        seconds(retention.grace),
    ));
    let bundles: usize = plan.repack.iter().map(|repack| repack.bundles.len()).sum();
    if bundles > 0 {
        text.push_str(&format!(
            "would put {} bundles together anew\n",
            count(bundles as u64)
        ));
    }
    text
}

fn collected(plan: &Plan, done: &Collected, retention: &Retention) -> String {
    let mut text = releases(plan);
    text.push_str(&format!(
        "deleted {} objects, {}\nmarked {} objects for a run after {}\n",
        count(done.deleted as u64),
        bytes(done.deleted_bytes),
        count(done.buried as u64),
        seconds(retention.grace),
    ));
    if done.repacked_bytes > 0 {
        text.push_str(&format!(
            "put bundles together anew, {}\n",
            bytes(done.repacked_bytes)
        ));
    }
    text
}

fn document(plan: &Plan, done: Option<&Collected>) -> Value {
    let ids = |releases: &[ReleaseId]| releases.iter().map(ToString::to_string).collect::<Vec<_>>();
    let names = |dead: &[relstore_store::gc::Dead]| {
        dead.iter()
            .map(|dead| json!({ "object": dead.name, "bytes": dead.size }))
            .collect::<Vec<_>>()
    };
    json!({
        "kept": ids(&plan.kept),
        "expired": ids(&plan.expired),
        "delete": names(&plan.delete),
        "mark": names(&plan.bury),
        "repack": plan.repack.iter().map(|repack| names(&repack.bundles)).collect::<Vec<_>>(),
        "done": done.map(|done| json!({
            "marked": done.buried,
            "deleted": done.deleted,
            "deleted_bytes": done.deleted_bytes,
            "repacked_bytes": done.repacked_bytes,
        })),
    })
}
