//! Each step of a plan as requests to the helper of one host.

use std::time::Duration;

use futures::TryStreamExt;
use relstore_store::StoreError;
use relstore_store::id::{BlobId, ReleaseId};
use relstore_store::structure::Requirement;

use crate::event::Event;
use crate::failure::StepError;
use crate::host_run::{Activation, HostRun, LONG, SHORT};
use crate::pack;
use crate::plan::{Command, Step};
use crate::protocol::{
    Check, Checked, Confirm, Done, Ended, ManifestAccepted, Materialise, Materialised, Prune,
    Pruned, Ran, Received, Record, Recorded, Run, Switch, Switched, Transferred, Warm, Warmed,
};
use crate::session::OrNeed;
use crate::transfer::{self, Transfer};

/// What a command's reply may take beyond the command's own time limit.
const COMMAND_RESERVE: Duration = Duration::from_secs(30);
/// Commands that making the caches runs, `php --version` included.
const WARM_COMMANDS: u32 = 6;
/// Level for blobs that had to be asked for.
const RESEND_LEVEL: i32 = 6;

impl HostRun<'_> {
    fn release(&self) -> ReleaseId {
        self.context.deployment.release
    }

    /// Does one step; returns what came of it, for people.
    pub(crate) async fn step(&mut self, step: &Step) -> Result<String, StepError> {
        match step {
            Step::Transfer => self.transfer().await,
            Step::Materialise => self.materialise().await,
            Step::Check(requirements) => self.check(requirements).await,
            Step::Run(command) => {
                self.migrated |= command.name == "migrate";
                let release = self.release();
                self.run(command, release).await
            }
            Step::Warm => self.warm().await,
            Step::Switch {
                from,
                confirm_within,
            } => self.switch(*from, *confirm_within).await,
            Step::Reload(commands) => {
                let release = self.release();
                self.reload(commands, release).await
            }
            Step::Confirm => {
                let Done {} = self.session()?.request(Confirm {}, SHORT).await?;
                self.activation = Activation::Confirmed;
                Ok(String::new())
            }
            Step::Record => {
                let (outcome, message) = match self.plan.as_ref().is_some_and(|plan| plan.switches)
                {
                    true => ("live", "activated".to_owned()),
                    false if self.refreshed => {
                        ("live", "applied the changed .env or PHP".to_owned())
                    }
                    false => ("unchanged", "nothing to do".to_owned()),
                };
                self.record(outcome, message).await
            }
            Step::Prune { keep } => self.prune(*keep).await,
        }
    }

    /// Plans and sends what the host lacks.
    async fn transfer(&mut self) -> Result<String, StepError> {
        let store = self.context.deployment.store;
        let new = self.context.manifest.as_ref().ok_or(self.not_in_store())?;
        let state = self.state.as_ref().ok_or(StepError::Interrupted)?;
        let complete = transfer::complete_releases(store, state).await?;
        let index = store.index().await?;
        let transfer = transfer::plan(new, &complete, |blob| index.contains(blob));
        let (blobs, raw_bytes) = (transfer.blobs(), transfer.raw_bytes());
        let (host, step) = (Some(self.host.name.clone()), "transfer".to_owned());
        self.emit(Event::Begin {
            host,
            step,
            total_bytes: Some(raw_bytes),
        });

        let before = self.traffic().sent_bytes;
        self.send_manifest(&transfer).await?;
        self.send_packs(pack::packs(store, &transfer)).await?;
        let needed = match self.session()?.request(Transferred {}, LONG).await? {
            OrNeed::Reply(Received { .. }) => Vec::new(),
            OrNeed::Need(blobs) => blobs,
        };
        if !needed.is_empty() {
            self.resend(needed).await?;
        }
        let sent = human_bytes(self.traffic().sent_bytes - before);
        Ok(format!(
            "{sent} sent for {blobs} files of {}",
            human_bytes(raw_bytes)
        ))
    }

    async fn send_manifest(&mut self, transfer: &Transfer) -> Result<(), StepError> {
        let message = pack::manifest(transfer).await?;
        let ManifestAccepted { .. } = self.session()?.request(message, LONG).await?;
        self.manifest_sent = true;
        Ok(())
    }

    async fn send_packs(
        &mut self,
        packs: impl futures::Stream<Item = Result<pack::Encoded, StepError>>,
    ) -> Result<(), StepError> {
        let mut packs = std::pin::pin!(packs);
        let mut done_bytes = 0;
        while let Some(encoded) = packs.try_next().await? {
            for message in &encoded.messages {
                self.session()?.stream(message).await?;
            }
            done_bytes += encoded.raw_bytes;
            let host = Some(self.host.name.clone());
            self.emit(Event::Advance {
                host,
                step: "transfer".into(),
                done_bytes,
            });
        }
        Ok(())
    }

    /// Sends blobs that the host asks for, whole; once.
    async fn resend(&mut self, needed: Vec<BlobId>) -> Result<(), StepError> {
        let new = self.context.manifest.as_ref().ok_or(self.not_in_store())?;
        let sizes = new.manifest.blobs();
        let sized = |blob: &BlobId| match sizes.get(blob) {
            Some(size) => Ok((*blob, *size)),
            None => Err(StepError::Stranger { blob: *blob }),
        };
        let blobs = needed.iter().map(sized).collect::<Result<Vec<_>, _>>()?;
        if !self.manifest_sent {
            let alone = transfer::plan(new, &[], |_| false);
            self.send_manifest(&alone).await?;
        }
        self.warn(format!(
            "{} files did not arrive intact and are sent again",
            blobs.len()
        ));
        self.send_packs(pack::whole(
            self.context.deployment.store,
            &blobs,
            RESEND_LEVEL,
        ))
        .await?;
        match self.session()?.request(Transferred {}, LONG).await? {
            OrNeed::Reply(Received { .. }) => Ok(()),
            OrNeed::Need(blobs) => Err(corrupt(&blobs)),
        }
    }

    async fn materialise(&mut self) -> Result<String, StepError> {
        let dotenv = self.context.deployment.environment.dotenv.clone();
        let request = Materialise {
            release: self.release(),
            dotenv,
        };
        let mut reply = self.session()?.request(request.clone(), LONG).await?;
        if let OrNeed::Need(blobs) = reply {
            self.resend(blobs).await?;
            reply = self.session()?.request(request, LONG).await?;
        }
        let Materialised {
            files,
            bytes,
            linked,
            reused,
        } = match reply {
            OrNeed::Reply(materialised) => materialised,
            OrNeed::Need(blobs) => return Err(corrupt(&blobs)),
        };
        let verified = format!("{files} files, {}, match the manifest", human_bytes(bytes));
        Ok(if reused {
            format!("{verified} (was here already)")
        } else {
            format!("{verified}, {linked} linked")
        })
    }

    async fn check(&mut self, requirements: &[Requirement]) -> Result<String, StepError> {
        let request = Check {
            release: self.release(),
            requirements: requirements.to_vec(),
        };
        let Checked { failures } = self.session()?.request(request, SHORT).await?;
        if failures.is_empty() {
            Ok(format!("{0}/{0}", requirements.len()))
        } else {
            Err(StepError::Gates { failures })
        }
    }

    /// Runs a command in a release's folder; returns the last line it printed.
    async fn run(&mut self, command: &Command, release: ReleaseId) -> Result<String, StepError> {
        let timeout = self.context.deployment.environment.command_timeout;
        let request = Run {
            step: command.name.into(),
            release,
            argv: command.argv.clone(),
            umask: command.umask,
            timeout_ms: milliseconds(timeout),
        };
        let session = self.session()?;
        let limit = timeout.saturating_add(COMMAND_RESERVE);
        let Ran { ended, .. } = session.request(request, limit).await?;
        let output = session.tail();
        match ended {
            Ended::Exited(0) => Ok(output.lines().last().unwrap_or_default().to_owned()),
            ended => Err(StepError::Command {
                command: command.argv.join(" "),
                ended,
                output,
            }),
        }
    }

    /// Runs reload commands in a release's folder.
    pub(crate) async fn reload(
        &mut self,
        commands: &[Command],
        release: ReleaseId,
    ) -> Result<String, StepError> {
        for command in commands {
            self.run(command, release).await?;
        }
        Ok(commands
            .iter()
            .map(|command| command.argv.join(" "))
            .collect::<Vec<_>>()
            .join(", "))
    }

    /// Makes the caches of `release`; returns the reply.
    pub(crate) async fn warm_release(&mut self, release: ReleaseId) -> Result<Warmed, StepError> {
        let environment = self.context.deployment.environment;
        let timeout = environment.command_timeout;
        let request = Warm {
            release,
            php: environment.php.clone(),
            timeout_ms: milliseconds(timeout),
        };
        let limit = timeout
            .saturating_mul(WARM_COMMANDS)
            .saturating_add(COMMAND_RESERVE);
        self.session()?.request(request, limit).await
    }

    async fn warm(&mut self) -> Result<String, StepError> {
        let warmed = self.warm_release(self.release()).await?;
        self.refreshed = !warmed.reused;
        Ok(match (warmed.reused, warmed.files) {
            (true, _) => "up to date".into(),
            (false, 0) => "none to make".into(),
            (false, files) => format!("{files} files, {}", warmed.php),
        })
    }

    async fn switch(
        &mut self,
        from: Option<ReleaseId>,
        within: Duration,
    ) -> Result<String, StepError> {
        let commands = &self.context.deployment.environment.reload;
        let request = Switch {
            from,
            to: self.release(),
            confirm_within_ms: milliseconds(within),
            reload: commands.clone(),
        };
        self.activation = Activation::Asked;
        match self.session()?.request::<Switched>(request, SHORT).await {
            Ok(switched) => {
                self.activation = Activation::Switched;
                self.switched_at_ms = Some(switched.at_ms);
                Ok(format!("current -> {}", self.release().short()))
            }
            Err(error) => {
                if !error.breaks_session() {
                    self.activation = Activation::Untouched;
                }
                Err(error)
            }
        }
    }

    /// Writes the ledger entry and its copy in the store.
    pub(crate) async fn record(
        &mut self,
        outcome: &str,
        message: String,
    ) -> Result<String, StepError> {
        let request = Record {
            outcome: outcome.into(),
            message,
        };
        let Recorded { number, hash, line } = self.session()?.request(request, SHORT).await?;
        self.ledger_number = Some(number);
        let deployment = self.context.deployment;
        let (environment, host) = (&deployment.environment.name, &self.host.name);
        if let Err(error) = deployment
            .store
            .put_ledger(environment, host, number, &hash, &line)
            .await
        {
            self.warn(format!(
                "ledger entry {number} could not be copied to the store: {error}"
            ));
        }
        Ok(format!("entry {number}: {outcome}"))
    }

    async fn prune(&mut self, keep: u32) -> Result<String, StepError> {
        let Pruned {
            removed,
            blobs,
            bytes,
            problems,
        } = self.session()?.request(Prune { keep }, LONG).await?;
        for problem in problems {
            self.warn(problem);
        }
        Ok(match removed.len() {
            0 => "nothing to remove".into(),
            count => format!(
                "{count} releases, {blobs} blobs, {} removed",
                human_bytes(bytes)
            ),
        })
    }

    fn not_in_store(&self) -> StepError {
        StoreError::NoRelease {
            release: self.release(),
        }
        .into()
    }
}

fn corrupt(blobs: &[BlobId]) -> StepError {
    match blobs.first() {
        Some(first) => StepError::Corrupt {
            count: blobs.len(),
            first: *first,
        },
        None => StepError::Unexpected {
            request: "Transferred",
            reply: "Need without blobs",
        },
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// A number of bytes for people: `812 B`, `44 kB`, `61.3 MB`.
fn human_bytes(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{} kB", bytes.div_ceil(1_000)),
        1_000_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.2} GB", bytes as f64 / 1e9),
    }
}
