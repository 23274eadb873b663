//! After a failure behind the switch: every switched host returns to what it served, and what
//! each host serves in the end is looked at, never assumed.

use std::time::Duration;

use futures::future::join_all;
use relstore_store::id::ReleaseId;

use crate::error::{DeployError, Kind};
use crate::execute::{Context, check_health, failed, remarks};
use crate::failure::{Failure, StepError};
use crate::host_run::{Activation, HostRun, SHORT, status};
use crate::outcome::{HostTruth, Serving};
use crate::plan::{self, Step};
use crate::protocol::{BaseState, Confirm, Done, GoBack, Switch, Switched, WentBack};

/// How often a host that was lost is asked again, and the pause between: its old helper may
/// still be going back.
const OBSERVATIONS: u32 = 15;
const OBSERVATION_PAUSE: Duration = Duration::from_secs(1);

/// A switch back needs no health check: it is confirmed at once.
const BACK_WITHIN_MS: u64 = 60_000;

/// Returns every switched host to what it served, and says what each host serves now.
pub(crate) async fn revert(
    context: &Context<'_>,
    runs: &mut [HostRun<'_>],
    mut failures: Vec<Failure>,
) -> DeployError {
    let touched = runs
        .iter()
        .any(|run| run.refreshed || run.activation != Activation::Untouched);
    let message = failures
        .first()
        .map(|f| format!("`{}`: {}", f.step, f.error))
        .unwrap_or_default();
    let returned = join_all(runs.iter_mut().map(HostRun::go_back)).await;
    failures.extend(returned.into_iter().flatten());
    let state = join_all(runs.iter_mut().map(HostRun::now_serving)).await;
    let kind = kind(context.deployment.release, touched, runs, &state);

    let mut remarks = remarks(runs);
    if kind == Kind::RolledBack {
        remarks.extend(old_health(context, &state).await);
    }
    let outcome = match kind {
        Kind::RolledBack => "rolled-back",
        Kind::Unhealthy => "unhealthy",
        _ => "failed",
    };
    join_all(
        runs.iter_mut()
            .map(|run| close(run, outcome, message.clone())),
    )
    .await;
    failed(context, kind, failures, state, remarks)
}

/// What the state of all hosts means.
fn kind(release: ReleaseId, touched: bool, runs: &[HostRun<'_>], state: &[HostTruth]) -> Kind {
    if state
        .iter()
        .any(|truth| matches!(truth.serving, Serving::Unknown(_)))
    {
        return Kind::Unknown;
    }
    let as_before = runs
        .iter()
        .zip(state)
        .all(|(run, truth)| run.before == truth.serving);
    let all_new = state
        .iter()
        .all(|truth| truth.serving.release() == Some(release));
    match (all_new, as_before) {
        (true, _) if touched => Kind::Unhealthy,
        (_, true) if touched => Kind::RolledBack,
        (_, true) => Kind::NothingChanged,
        (_, false) => Kind::Unknown,
    }
}

/// Asks whether what the hosts went back to is healthy.
async fn old_health(context: &Context<'_>, state: &[HostTruth]) -> Option<String> {
    let serving: Vec<ReleaseId> = state
        .iter()
        .filter_map(|truth| truth.serving.release())
        .collect();
    match check_health(context, &serving).await {
        Ok(healthy) => healthy.map(|healthy| {
            format!(
                "the health of what it went back to was checked: {0}/{0} x 200",
                healthy.answers
            )
        }),
        Err(failure) => Some(format!(
            "what it went back to is not healthy either: {}",
            failure.error
        )),
    }
}

/// Asks a host that was lost what it serves; waits while an activation is still unsettled.
pub(crate) async fn observe(run: &mut HostRun<'_>) -> Result<BaseState, StepError> {
    let mut attempt = 1;
    loop {
        let observed = run.connect().await.map(|hello| hello.state);
        let settled = observed.as_ref().is_ok_and(|state| state.pending.is_none());
        if settled || attempt == OBSERVATIONS {
            return observed;
        }
        attempt += 1;
        run.disconnect();
        tokio::time::sleep(OBSERVATION_PAUSE).await;
    }
}

/// Writes the outcome on a host that still holds its lock, and gives the lock back.
pub(crate) async fn close(run: &mut HostRun<'_>, outcome: &str, message: String) {
    if run.state.is_some() && run.session.is_some() {
        let running = run.begin("ledger");
        let recorded = run.record(outcome, message).await;
        if let Err(failure) = run.end(running, recorded) {
            run.warn(format!(
                "the outcome is not in the ledger: {}",
                failure.error
            ));
        }
    }
    run.unlock().await;
}

impl HostRun<'_> {
    /// Returns a switched host to what it served. A first release stays: there is nothing else.
    /// Returns all that went wrong; nothing of it stops what follows and can still be done.
    async fn go_back(&mut self) -> Vec<Failure> {
        if self.activation == Activation::Untouched || self.session.is_none() {
            // Without a connection the helper goes back by itself.
            return Vec::new();
        }
        let Some(old) = self.before.release() else {
            let running = self.begin("confirm");
            let stays = self.confirm_first().await;
            return self.end(running, stays).err().into_iter().collect();
        };
        let running = self.begin("go back");
        let went = self.switch_back(old).await;
        if let Err(failure) = self.end(running, went) {
            return vec![failure];
        }
        // The old caches may hold an outdated `.env`; without new ones it serves as it did before.
        let running = self.begin("caches");
        let warmed = self
            .warm_release(old)
            .await
            .map(|warmed| match warmed.reused {
                true => "up to date".into(),
                false => format!("{} files", warmed.files),
            });
        let mut failures: Vec<Failure> = self.end(running, warmed).err().into_iter().collect();
        if let Some(Step::Reload(commands)) = plan::reload(self.context.deployment.environment)
            && self.session.is_some()
        {
            let running = self.begin("reload");
            let reloaded = self.reload(&commands, old).await;
            failures.extend(self.end(running, reloaded).err());
        }
        failures
    }

    async fn confirm_first(&mut self) -> Result<String, StepError> {
        let Done {} = self.session()?.request(Confirm {}, SHORT).await?;
        Ok("the first release stays, there is nothing to go back to".into())
    }

    async fn switch_back(&mut self, old: ReleaseId) -> Result<String, StepError> {
        if self.activation == Activation::Confirmed {
            let request = Switch {
                from: Some(self.context.deployment.release),
                to: old,
                confirm_within_ms: BACK_WITHIN_MS,
                reload: vec![],
            };
            let Switched { .. } = self.session()?.request(request, SHORT).await?;
            let Done {} = self.session()?.request(Confirm {}, SHORT).await?;
        } else {
            let WentBack { .. } = self.session()?.request(GoBack {}, SHORT).await?;
        }
        Ok(format!("current -> {}", old.short()))
    }

    /// Looks at what the host serves.
    async fn now_serving(&mut self) -> HostTruth {
        let seen = match &mut self.session {
            Some(session) => status(session).await.ok(),
            None => None,
        };
        // What is unsettled on this connection is taken back when it ends: that is to be seen.
        let seen = match seen.filter(|state| state.pending.is_none()) {
            Some(state) => Ok(state),
            None => {
                let seen = observe(self).await;
                // The new connection does not hold the lock: nothing is written on it.
                self.disconnect();
                seen
            }
        };
        let serving = match seen {
            Ok(state) if state.pending.is_some() => {
                Serving::Unknown("an activation is not settled yet".into())
            }
            Ok(state) => Serving::from(&state.current),
            Err(error) => Serving::Unknown(error.to_string()),
        };
        self.truth(serving)
    }
}
