//! `relstore list`: the releases in the store.

use std::collections::HashMap;

use relstore_store::id::ReleaseId;
use serde_json::{Value, json};

use crate::config::Config;
use crate::context::Context;
use crate::error::Result;
use crate::exit_code::ExitCode;
use crate::facts::Facts;
use crate::git;
use crate::output::{bytes, count, printable, table};
use crate::release_name::short_commit;
use crate::said::Said;
use crate::stored::{block_on, open};
use crate::time::local_minute;

/// List the releases in the store, newest first
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  relstore list
  relstore list --limit 5 --json")]
pub(crate) struct Args {
    /// Show at most this many
    #[arg(long, short = 'n', value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) limit: Option<u32>,
}

struct Listed {
    release: ReleaseId,
    said: Said,
    commits: Vec<String>,
    files: u64,
    bytes: u64,
}

impl Listed {
    fn finished(&self) -> Option<&str> {
        self.said.last_build()?.finished.as_deref()
    }

    fn commit(&self) -> Option<&str> {
        let built = self.said.origin().and_then(|build| build.commit.as_ref());
        built.or(self.commits.first()).map(String::as_str)
    }
}

/// Runs the command.
pub(crate) fn run(context: &Context, args: &Args) -> Result<ExitCode> {
    block_on(async {
        let (config, store) = open(context).await?;
        let mut commits: HashMap<ReleaseId, Vec<String>> = HashMap::new();
        for (commit, release) in store.commits().await? {
            commits.entry(release).or_default().push(commit);
        }
        let catalog = store.catalog().await?;
        let facts = Facts::of(context, &store, &catalog).await?;
        let mut listed = Vec::new();
        for (release, records) in &catalog.releases {
            let sums = facts.sums(release);
            listed.push(Listed {
                release: *release,
                said: facts.said(records),
                commits: commits.remove(release).unwrap_or_default(),
                files: sums.files,
                bytes: sums.bytes,
            });
        }
        // `latest` goes by the store's own times, so that it and the first line always agree.
        listed.sort_by(|a, b| {
            let key = |one: &Listed| {
                (
                    catalog.latest == Some(one.release),
                    one.finished().map(str::to_owned),
                )
            };
            key(b).cmp(&key(a)).then_with(|| a.release.cmp(&b.release))
        });
        listed.truncate(args.limit.map_or(usize::MAX, |limit| limit as usize));
        let text = text(config.as_ref(), &listed, &store.place());
        context.output.result(&text, || document(&listed))?;
        Ok(ExitCode::Ok)
    })
}

fn text(config: Option<&Config>, listed: &[Listed], place: &str) -> String {
    if listed.is_empty() {
        return format!("no release in {place}\n");
    }
    let mut rows = vec![
        ["RELEASE", "BUILT", "COMMIT", "FILES", "SIZE", "SUBJECT"]
            .map(str::to_owned)
            .to_vec(),
    ];
    let commits: Vec<&str> = listed.iter().filter_map(Listed::commit).collect();
    let subjects = config.map_or_else(HashMap::new, |config| {
        git::subjects(config.project(), &commits)
    });
    for one in listed {
        let origin = one.said.origin();
        let commit = one.commit();
        let subject = commit.and_then(|commit| subjects.get(commit)).cloned();
        let dirty = origin.is_some_and(|build| build.dirty);
        rows.push(vec![
            one.release.short(),
            one.finished()
                .map(local_minute)
                .unwrap_or_else(|| "?".to_owned()),
            match commit {
                Some(commit) => format!("{}{}", short_commit(commit), if dirty { "+" } else { "" }),
                None if dirty => "work tree".to_owned(),
                None => "?".to_owned(),
            },
            count(one.files),
            bytes(one.bytes),
            printable(&subject.unwrap_or_default()),
        ]);
    }
    table(&rows)
}

fn document(listed: &[Listed]) -> Value {
    let releases: Vec<Value> = listed
        .iter()
        .map(|one| {
            json!({
                "release": one.release,
                "finished": one.finished(),
                "commits": one.commits,
                "dirty": one.said.origin().is_some_and(|build| build.dirty),
                "files": one.files,
                "bytes": one.bytes,
            })
        })
        .collect();
    json!({ "releases": releases })
}
