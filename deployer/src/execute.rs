//! Carries a [`Plan`] out: all hosts at once, phase by phase, and back again when a phase after
//! the switch fails.

use std::time::Instant;

use futures::future::join_all;
use relstore_store::id::ReleaseId;
use relstore_store::structure::Requirement;
use relstore_store::{Store, StoreError};

use crate::environment::Environment;
use crate::error::{DeployError, Failed, Kind};
use crate::event::{Event, Listener};
use crate::failure::{Failure, StepError};
use crate::health::{self, Healthy};
use crate::host_run::{Activation, HostRun};
use crate::outcome::{Ending, HostOutcome, Outcome};
use crate::plan::{self, Action, HostPlan, Plan, Step};
use crate::protocol::BaseState;
use crate::revert;
use crate::session::Connect;
use crate::transfer::Known;

/// What is to be deployed, where, from where, and who says so.
#[derive(Debug)]
pub struct Deployment<'a> {
    /// The environment.
    pub environment: &'a Environment,
    /// The release.
    pub release: ReleaseId,
    /// The store that has it. A rollback to a release that every host still has complete works
    /// without it being in the store.
    pub store: &'a Store,
    /// What has to be in the release on every host. PHP's own checks run for what is among it.
    pub requirements: Vec<Requirement>,
    /// Who deploys, `user@machine`.
    pub actor: String,
    /// Deploy or rollback.
    pub action: Action,
    /// The commit that the release was built from, if known.
    pub commit: Option<String>,
    /// When the program started this, milliseconds since 1970; makes the deploy's name unique.
    pub started_ms: i64,
}

impl Deployment<'_> {
    /// A name for this deploy: `<unix ms>-<8 hex digits>`.
    fn transaction(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        hasher.update(self.release.as_bytes());
        hasher.update(self.actor.as_bytes());
        hasher.update(&std::process::id().to_le_bytes());
        let digits = hasher.finalize().to_hex();
        format!("{}-{}", self.started_ms, &digits[..8])
    }
}

/// What all hosts of a deploy share.
pub(crate) struct Context<'a> {
    pub(crate) deployment: &'a Deployment<'a>,
    pub(crate) connect: &'a dyn Connect,
    pub(crate) listener: Listener<'a>,
    pub(crate) manifest: Option<Known>,
    pub(crate) transaction: String,
}

/// Brings a release to every host of an environment and activates it, or leaves or returns every
/// host to what it served. To cancel, drop the future: the helpers undo what is not confirmed.
///
/// # Errors
/// [`DeployError`], which says what each host serves now.
pub async fn deploy(
    deployment: &Deployment<'_>,
    connect: &dyn Connect,
    listener: Listener<'_>,
) -> Result<Outcome, DeployError> {
    let started = Instant::now();
    let environment = deployment.environment;
    if environment.hosts.is_empty() {
        return Err(DeployError::NoHosts {
            environment: environment.name.clone(),
        });
    }
    let context = Context {
        deployment,
        connect,
        listener,
        manifest: manifest(deployment).await?,
        transaction: deployment.transaction(),
    };
    let mut runs: Vec<HostRun> = environment
        .hosts
        .iter()
        .map(|host| HostRun::new(&context, host))
        .collect();

    let plan = match prepare(&context, &mut runs).await {
        Ok(plan) => plan,
        Err(failures) => return Err(untouched(&context, &mut runs, failures).await),
    };
    let health = match activate(&context, &mut runs, &plan).await {
        Ok(health) => health,
        Err(failures) => return Err(revert::revert(&context, &mut runs, failures).await),
    };
    finish(&mut runs).await;
    let ending = match (
        plan.is_active_everywhere(),
        runs.iter().any(|run| run.refreshed),
    ) {
        (false, _) => Ending::Live,
        (true, true) => Ending::Refreshed,
        (true, false) => Ending::Unchanged,
    };
    let hosts = runs.iter().map(outcome).collect();
    Ok(Outcome {
        release: deployment.release,
        ending,
        hosts,
        health,
        took: started.elapsed(),
    })
}

/// The release's manifest, if the store has it.
async fn manifest(deployment: &Deployment<'_>) -> Result<Option<Known>, DeployError> {
    let release = deployment.release;
    match deployment.store.manifest(&release).await {
        Ok(manifest) => Ok(Some(Known {
            release,
            manifest: manifest.into(),
        })),
        Err(StoreError::NoRelease { .. }) if deployment.action == Action::Rollback => Ok(None),
        Err(source) => Err(DeployError::Release { release, source }),
    }
}

/// Everything up to the migrations; nothing of it changes what a host serves.
async fn prepare(context: &Context<'_>, runs: &mut [HostRun<'_>]) -> Result<Plan, Vec<Failure>> {
    all(join_all(runs.iter_mut().map(HostRun::greet)).await)?;
    // Two deploys meet at the first host, where exactly one gets the lock.
    if let Some((first, others)) = runs.split_first_mut() {
        all(vec![first.lock().await])?;
        all(join_all(others.iter_mut().map(HostRun::lock)).await)?;
    }
    let deployment = context.deployment;
    let states: Vec<BaseState> = runs.iter().filter_map(|run| run.state.clone()).collect();
    let plan = plan_for(deployment, &states).map_err(|(host, error)| {
        vec![Failure {
            host: Some(host),
            step: "plan".into(),
            error,
        }]
    })?;
    for (run, host) in runs.iter_mut().zip(&plan.hosts) {
        run.plan = Some(host.clone());
    }
    phase(runs, |host| host.prepare.clone()).await?;
    phase(runs, |host| host.migrate.clone()).await?;
    Ok(plan)
}

/// From the switch to the confirmation.
async fn activate(
    context: &Context<'_>,
    runs: &mut [HostRun<'_>],
    plan: &Plan,
) -> Result<Option<Healthy>, Vec<Failure>> {
    phase(runs, |host| host.activate.clone()).await?;
    let changed = !plan.is_active_everywhere() || runs.iter().any(|run| run.refreshed);
    let healthy = match changed {
        true => check_health(context, &[plan.release])
            .await
            .map_err(|failure| vec![failure])?,
        false => None,
    };
    let confirmed = join_all(runs.iter_mut().map(confirm)).await;
    all(confirmed)?;
    Ok(healthy)
}

/// The environment's health checks, when it has any.
pub(crate) async fn check_health(
    context: &Context<'_>,
    expected: &[ReleaseId],
) -> Result<Option<Healthy>, Failure> {
    let environment = context.deployment.environment;
    if environment.health.is_empty() {
        return Ok(None);
    }
    let (step, started) = ("health".to_owned(), Instant::now());
    (context.listener)(Event::Begin {
        host: None,
        step: step.clone(),
        total_bytes: None,
    });
    let (attempts, interval) = (environment.health_attempts, environment.health_interval);
    let checked = health::check(&environment.health, expected, attempts, interval).await;
    let took = started.elapsed();
    match checked {
        Ok(healthy) => {
            let Healthy {
                answers,
                confirmed,
                attempt,
            } = healthy;
            let detail = format!(
                "{answers}/{answers} x 200, release confirmed in {confirmed}/{answers}, attempt {attempt}/{}",
                attempts.max(1)
            );
            (context.listener)(Event::Done {
                host: None,
                step,
                detail,
                took,
            });
            Ok(Some(healthy))
        }
        Err(error) => {
            let detail = error.to_string();
            (context.listener)(Event::Failed {
                host: None,
                step: step.clone(),
                detail,
                took,
            });
            Err(Failure {
                host: None,
                step,
                error: error.into(),
            })
        }
    }
}

/// Confirms one host. When the answer is lost, the host itself says whether it took it.
async fn confirm(run: &mut HostRun<'_>) -> Result<(), Failure> {
    let confirms = run
        .plan
        .as_ref()
        .is_some_and(|plan| plan.finish.contains(&Step::Confirm));
    if !confirms {
        return Ok(());
    }
    let failure = match run.steps(&[Step::Confirm]).await {
        Ok(()) => return Ok(()),
        Err(failure) => failure,
    };
    if run.session.is_some() {
        return Err(failure);
    }
    match revert::observe(run).await {
        Ok(state) if state.pending.is_none() && run.serves_release(&state) => {
            run.activation = Activation::Confirmed;
            // This connection does not hold the lock, and another deploy might.
            run.disconnect();
            run.warn("the connection broke after the confirmation: the release is live, its ledger entry is missing".into());
            Ok(())
        }
        _ => Err(failure),
    }
}

/// What remains when the release is live. Failures here are told and change nothing.
async fn finish(runs: &mut [HostRun<'_>]) {
    let finish = runs.iter_mut().map(|run| async move {
        let steps = run
            .plan
            .as_ref()
            .map(|plan| plan.finish.clone())
            .unwrap_or_default();
        for step in steps.iter().filter(|step| **step != Step::Confirm) {
            if run.session.is_none() {
                break;
            }
            if let Err(failure) = run.steps(std::slice::from_ref(step)).await {
                run.warn(format!(
                    "the release is live, but `{}` failed: {}",
                    failure.step, failure.error
                ));
            }
        }
        run.unlock().await;
    });
    join_all(finish).await;
}

/// Runs one phase on all hosts at once; waits for every host and returns every failure.
async fn phase(
    runs: &mut [HostRun<'_>],
    steps: impl Fn(&HostPlan) -> Vec<Step>,
) -> Result<(), Vec<Failure>> {
    let steps = &steps;
    let phase = runs.iter_mut().map(|run| async move {
        let steps = run.plan.as_ref().map(steps).unwrap_or_default();
        run.steps(&steps).await
    });
    all(join_all(phase).await)
}

fn all(results: Vec<Result<(), Failure>>) -> Result<(), Vec<Failure>> {
    let failures: Vec<Failure> = results.into_iter().filter_map(Result::err).collect();
    if failures.is_empty() {
        Ok(())
    } else {
        Err(failures)
    }
}

/// Ends a deploy that failed before any host switched.
async fn untouched(
    context: &Context<'_>,
    runs: &mut [HostRun<'_>],
    failures: Vec<Failure>,
) -> DeployError {
    let message = failures
        .first()
        .map(|f| format!("`{}`: {}", f.step, f.error))
        .unwrap_or_default();
    let end = runs
        .iter_mut()
        .map(|run| revert::close(run, "failed", message.clone()));
    join_all(end).await;
    let busy = failures.iter().all(|failure| failure.error.is_busy());
    let state = runs
        .iter()
        .map(|run| run.truth(run.before.clone()))
        .collect();
    failed(
        context,
        if busy {
            Kind::Busy
        } else {
            Kind::NothingChanged
        },
        failures,
        state,
        remarks(runs),
    )
}

pub(crate) fn failed(
    context: &Context<'_>,
    kind: Kind,
    failures: Vec<Failure>,
    state: Vec<crate::outcome::HostTruth>,
    remarks: Vec<String>,
) -> DeployError {
    let deployment = context.deployment;
    DeployError::Failed(Box::new(Failed {
        kind,
        environment: deployment.environment.name.clone(),
        release: deployment.release,
        failures,
        state,
        remarks,
    }))
}

/// What is true beside what the hosts serve.
pub(crate) fn remarks(runs: &[HostRun<'_>]) -> Vec<String> {
    let migrated = runs.iter().filter(|run| run.migrated);
    migrated
        .map(|run| {
            format!(
                "migrations of this release were run on {} and are not taken back",
                run.host.name
            )
        })
        .collect()
}

fn outcome(run: &HostRun<'_>) -> HostOutcome {
    let traffic = run.traffic();
    HostOutcome {
        host: run.host.name.clone(),
        before: run.before.release(),
        switched: run.switched_at_ms.is_some(),
        switched_at_ms: run.switched_at_ms,
        sent_bytes: traffic.sent_bytes,
        received_bytes: traffic.received_bytes,
        wire_sent_bytes: traffic.wire_sent_bytes,
        wire_received_bytes: traffic.wire_received_bytes,
        ledger_number: run.ledger_number,
    }
}

impl HostRun<'_> {
    /// Whether this state's `current` is the release of this deploy.
    pub(crate) fn serves_release(&self, state: &BaseState) -> bool {
        crate::outcome::Serving::from(&state.current).release()
            == Some(self.context.deployment.release)
    }
}

/// The plan of a deploy under the present states of the hosts.
pub(crate) fn plan_for(
    deployment: &Deployment<'_>,
    states: &[BaseState],
) -> Result<Plan, (String, StepError)> {
    plan::plan(
        deployment.environment,
        deployment.release,
        deployment.action,
        &deployment.requirements,
        states,
    )
}

#[cfg(test)]
#[path = "execute_tests.rs"]
mod tests;
