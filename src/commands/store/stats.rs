//! `relstore store stats`: what the store holds, and how it grows.

use relstore_store::stats::{Growth, Stats};
use serde_json::{Value, json};

use crate::context::Context;
use crate::error::Result;
use crate::exit_code::ExitCode;
use crate::output::{bytes, count, table};
use crate::stored::{block_on, open};
use crate::time::{local_minute_of, milliseconds};

/// Show what the store holds, what it saves, and what the last releases added
///
/// Garbage is what no release and no output of a build step names any more, and further copies;
/// `relstore gc --dry-run` says what would go, releases that nothing keeps included.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  relstore store stats
  relstore store stats -n 50 --json
  relstore store stats --store s3://bucket/app")]
pub(crate) struct Args {
    /// Show what so many releases added, the newest first
    #[arg(long, short = 'n', value_name = "N", default_value_t = 10)]
    limit: usize,
}

/// Runs the command.
pub(crate) fn run(context: &Context, args: &Args) -> Result<ExitCode> {
    block_on(async {
        let (_, store) = open(context).await?;
        let stats = store.stats().await?;
        let newest: Vec<&Growth> = stats.growth.iter().rev().take(args.limit).collect();
        let text = text(&store.place(), &stats, &newest);
        context
            .output
            .result(&text, || document(&store.place(), &stats, &newest))?;
        Ok(ExitCode::Ok)
    })
}

fn text(place: &str, stats: &Stats, newest: &[&Growth]) -> String {
    let times = |ratio: Option<f64>| ratio.map_or("-".to_owned(), |ratio| format!("{ratio:.2} x"));
    let share = stats.garbage_share().unwrap_or(0.0) * 100.0;
    let facts = [
        ("store", place.to_owned()),
        ("releases", count(stats.growth.len() as u64)),
        ("content", bytes(stats.logical_bytes)),
        (
            "different",
            format!(
                "{} in {} blobs, {}",
                bytes(stats.unique_bytes),
                count(stats.blobs as u64),
                times(stats.dedup_ratio())
            ),
        ),
        (
            "stored",
            format!(
                "{} in {} bundles, {}",
                bytes(stats.stored_bytes),
                count(stats.bundles as u64),
                times(stats.compression_ratio())
            ),
        ),
        ("steps", bytes(stats.step_bytes)),
        (
            "garbage",
            format!("{}, {share:.1}%", bytes(stats.garbage_bytes)),
        ),
        ("other", bytes(stats.other_bytes)),
    ];
    let rows: Vec<_> = facts
        .map(|(name, value)| vec![name.to_owned(), value])
        .into();
    let mut text = table(&rows);
    if !newest.is_empty() {
        text.push_str(&format!("\n{}", growth(newest)));
    }
    text
}

fn growth(newest: &[&Growth]) -> String {
    let head = [
        "RELEASE",
        "STORED",
        "FILES",
        "SIZE",
        "NEW BLOBS",
        "NEW",
        "GREW",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(newest.iter().map(|one| {
        vec![
            one.release.short(),
            local_minute_of(milliseconds(one.stored)),
            count(one.files as u64),
            bytes(one.bytes),
            count(one.new_blobs as u64),
            bytes(one.new_bytes),
            bytes(one.new_stored_bytes),
        ]
    }));
    table(&rows)
}

fn document(place: &str, stats: &Stats, newest: &[&Growth]) -> Value {
    let growth: Vec<Value> = newest
        .iter()
        .map(|one| {
            json!({
                "release": one.release,
                "stored_ms": milliseconds(one.stored),
                "files": one.files,
                "bytes": one.bytes,
                "new_blobs": one.new_blobs,
                "new_bytes": one.new_bytes,
                "new_stored_bytes": one.new_stored_bytes,
            })
        })
        .collect();
    json!({
        "store": place,
        "releases": stats.growth.len(),
        "logical_bytes": stats.logical_bytes,
        "blobs": stats.blobs,
        "unique_bytes": stats.unique_bytes,
        "dedup_ratio": stats.dedup_ratio(),
        "bundles": stats.bundles,
        "packed_blobs": stats.packed_blobs,
        "packed_bytes": stats.packed_bytes,
        "stored_bytes": stats.stored_bytes,
        "compression_ratio": stats.compression_ratio(),
        "step_bytes": stats.step_bytes,
        "garbage_bytes": stats.garbage_bytes,
        "garbage_share": stats.garbage_share(),
        "other_bytes": stats.other_bytes,
        "growth": growth,
    })
}
