//! `relstore deploy`: a release becomes what an environment serves. `rollback` ends here too.

use std::fmt::Write as _;

use relstore_builder::gate;
use relstore_deployer::environment::Environment;
use relstore_deployer::outcome::{Ending, Outcome};
use relstore_deployer::plan::Action;
use relstore_deployer::session::Connector;
use relstore_deployer::{Deployment, deploy};
use relstore_store::Store;
use relstore_store::id::ReleaseId;
use relstore_store::place::Place;
use serde_json::{Value, json};

use super::preview;
use super::pull::{SourceArgs, pull};
use crate::cli::EnvironmentArg;
use crate::config::{self, Config};
use crate::context::Context;
use crate::error::Result;
use crate::exit_code::ExitCode;
use crate::git;
use crate::hosts;
use crate::output::{bytes, printable};
use crate::progress::{Progress, Task, seconds};
use crate::release_name::short_commit;
use crate::remote;
use crate::said::Said;
use crate::signing;
use crate::stored::{block_on, find, resolve_waiting};
use crate::time::{local_minute, milliseconds};

/// Deploy a release to every host of an environment
///
/// Sends what the hosts lack, verifies every byte, runs the gates there, makes the caches, switches,
/// and checks the site's health; when that fails, the old release comes back by itself.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  relstore deploy HEAD --env staging
  relstore deploy env:staging --env prod     exactly what staging serves
  relstore deploy HEAD --env prod --dry-run")]
pub(crate) struct Args {
    /// The release
    pub(crate) release: String,
    #[command(flatten)]
    pub(crate) environment: EnvironmentArg,
    /// Show what would be done, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) source: SourceArgs,
}

/// Runs the command.
pub(crate) fn run(context: &Context, args: &Args) -> Result<ExitCode> {
    let config = context.config()?;
    let configured = hosts::chosen(context, &config, &args.environment)?;
    let work = async {
        let (store, release) = wanted(context, &config, args).await?;
        let bringing = Bringing::new(context, &config, configured, Action::Deploy)?;
        if args.dry_run {
            preview::run(context, &bringing, &store, release).await
        } else {
            bringing.run(context, &store, release).await
        }
    };
    block_on(work).map_err(|error| error.interrupted_hint(&configured.name))
}

/// The release and the store it is in. One that the local store lacks comes from the remote, when there is one.
async fn wanted(context: &Context, config: &Config, args: &Args) -> Result<(Store, ReleaseId)> {
    let (name, wait) = (&args.release, args.source.wait);
    let known = Some(config);
    let folder = match context.store_place(known)? {
        Place::Folder(folder) => folder,
        place => {
            let remote = remote::at(context, known, place);
            let store = remote::open(context, &remote).await?;
            let release = resolve_waiting(context, known, &store, name, wait).await?;
            signing::require(context, known, &remote, &store, &release).await?;
            return Ok((store, release));
        }
    };
    let from = args.source.from.as_deref();
    if from.is_none() && config.store.remotes.is_empty() {
        let store = Store::open(&folder).await?;
        let release = resolve_waiting(context, known, &store, name, wait).await?;
        return Ok((store, release));
    }
    Store::check_place(&folder).await?;
    if from.is_none()
        && let Ok(store) = Store::open(&folder).await
    {
        match find(context, known, &store, name).await? {
            Ok(release) => return Ok((store, release)),
            Err(absent) if absent.is_absence() => {}
            // What the local store has is not one release: another store must not decide.
            Err(refused) => return Err(refused.into()),
        }
    }
    let remote = remote::chosen(context, known, from)?;
    let names = std::slice::from_ref(name);
    let pulled = pull(context, known, &folder, &remote, names, wait).await?;
    Ok((Store::open(&folder).await?, pulled.releases[0]))
}

/// A deploy or rollback with all that it needs beside the release.
pub(crate) struct Bringing<'a> {
    config: &'a Config,
    pub(crate) environment: Environment,
    pub(crate) connector: Connector,
    action: Action,
    actor: String,
    started_ms: i64,
}

impl<'a> Bringing<'a> {
    /// Reads what the environment refers to: secrets, and the helper beside the program.
    pub(crate) fn new(
        context: &Context,
        config: &'a Config,
        configured: &config::Environment,
        action: Action,
    ) -> Result<Self> {
        Ok(Self {
            config,
            environment: hosts::environment(context, configured, true)?,
            connector: hosts::connector(context)?,
            action,
            actor: context.actor(),
            started_ms: milliseconds(context.now()),
        })
    }

    /// The deployment of a release, with what the store says about it.
    pub(crate) async fn deployment<'b>(
        &'b self,
        store: &'b Store,
        release: ReleaseId,
    ) -> Result<(Deployment<'b>, Said)> {
        let said = Said::of(&store.records(&release).await?);
        // A gate that was off when the release was built cannot be asked on a host.
        let mut off = self.config.gates.off.clone();
        off.extend(said.gates_off.iter().cloned());
        let commit = said
            .origin()
            .filter(|build| !build.dirty)
            .and_then(|build| build.commit.clone());
        let deployment = Deployment {
            environment: &self.environment,
            release,
            store,
            requirements: gate::requirements(&off),
            actor: self.actor.clone(),
            action: self.action,
            commit,
            started_ms: self.started_ms,
        };
        Ok((deployment, said))
    }

    /// Whether hosts have to be told apart.
    pub(crate) fn several(&self) -> bool {
        self.environment.hosts.len() > 1
    }

    /// Carries it out and tells how it went.
    pub(crate) async fn run(
        &self,
        context: &Context,
        store: &Store,
        release: ReleaseId,
    ) -> Result<ExitCode> {
        let (deployment, said) = self.deployment(store, release).await?;
        context.output.note(&self.headline(release, &said));
        let progress = Progress::new(context);
        let listener = |event| hosts::show(&progress, self.several(), event);
        // Until the ledger says that it is served, nothing else keeps it in the store.
        let pin = format!("{} {}", self.action.word(), self.environment.name);
        let pinned = match store.has_release(&release).await? {
            true => store.pin(&release, &pin).await.map(|()| true),
            false => Ok(false),
        };
        if let Err(error) = &pinned {
            let task = Task::new("store");
            progress.warning(&task, &format!("the release is not pinned there: {error}"));
        }
        let outcome = deploy(&deployment, &self.connector, &listener).await;
        if pinned.is_ok_and(|pinned| pinned) {
            // A pin too many keeps a release a little longer, nothing else.
            let _ = store.unpin(&release, &pin).await;
        }
        let outcome = outcome?;
        progress.finish();
        context
            .output
            .result(&self.text(&outcome), || self.document(&outcome))?;
        Ok(ExitCode::Ok)
    }

    /// Which release, from which commit, built when.
    fn headline(&self, release: ReleaseId, said: &Said) -> String {
        let mut line = format!("release  {}", release.short());
        if let Some(build) = said.origin() {
            if let Some(commit) = &build.commit {
                let _ = write!(line, "   commit {}", short_commit(commit));
                if let Some(subject) = git::subject(self.config.project(), commit) {
                    let _ = write!(line, " \"{}\"", printable(&subject));
                }
            }
            if build.dirty {
                line.push_str("   from a work tree");
            }
            if let Some(finished) = &build.finished {
                let _ = write!(line, "   built {}", local_minute(finished));
            }
        }
        line
    }

    fn text(&self, outcome: &Outcome) -> String {
        let (release, environment) = (outcome.release.short(), &self.environment.name);
        let where_ = self.environment.url.as_deref().unwrap_or(environment);
        let took = seconds(outcome.took);
        let mut text = match outcome.ending {
            Ending::Unchanged => {
                return format!("nothing to do: {where_} serves {release} already\n");
            }
            Ending::Refreshed => {
                return format!(
                    "{where_} served {release} already; its caches were made anew from the changed .env or PHP in {took}\n"
                );
            }
            Ending::Live => format!("live in {took}\n{where_} serves {release}\n"),
        };
        let sent: u64 = outcome.hosts.iter().map(|host| host.sent_bytes).sum();
        let received: u64 = outcome.hosts.iter().map(|host| host.received_bytes).sum();
        let _ = writeln!(
            text,
            "sent     {}, received {}",
            bytes(sent),
            bytes(received)
        );
        let before = outcome
            .hosts
            .iter()
            .filter(|host| host.switched)
            .find_map(|host| host.before);
        if let Some(before) = before {
            let _ = writeln!(
                text,
                "undo     relstore rollback --env {environment}      (back to {})",
                before.short()
            );
        }
        text
    }

    fn document(&self, outcome: &Outcome) -> Value {
        let hosts: Vec<Value> = outcome
            .hosts
            .iter()
            .map(|host| {
                json!({
                    "host": host.host,
                    "before": host.before,
                    "switched": host.switched,
                    "switched_at_ms": host.switched_at_ms,
                    "sent_bytes": host.sent_bytes,
                    "received_bytes": host.received_bytes,
                    "wire_sent_bytes": host.wire_sent_bytes,
                    "wire_received_bytes": host.wire_received_bytes,
                    "ledger_number": host.ledger_number,
                })
            })
            .collect();
        let health = outcome.health.map(|health| {
            json!({ "answers": health.answers, "confirmed": health.confirmed, "attempt": health.attempt })
        });
        json!({
            "action": self.action.word(),
            "environment": self.environment.name,
            "release": outcome.release,
            "outcome": outcome.ending.word(),
            "hosts": hosts,
            "health": health,
            "milliseconds": u64::try_from(outcome.took.as_millis()).unwrap_or(u64::MAX),
        })
    }
}
