//! One host during a deploy: its session, its lock, how far it has come. The steps themselves are
//! in [`crate::steps`].

use std::time::{Duration, Instant};

use crate::environment::Host;
use crate::event::Event;
use crate::execute::Context;
use crate::failure::{Failure, StepError};
use crate::outcome::{HostTruth, Serving};
use crate::plan::{HostPlan, Step};
use crate::protocol::{self, BaseState, Done, Hello, Lock, Locked, Unlock};
use crate::session::Session;
use crate::transport::Traffic;

/// Longest silence on requests that only touch a few files.
pub(crate) const SHORT: Duration = Duration::from_secs(120);
/// Longest silence while the helper reads, writes and syncs a whole release.
pub(crate) const LONG: Duration = Duration::from_secs(900);
/// How far the activation of a host has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Activation {
    /// `current` was not touched.
    Untouched,
    /// The switch was asked for, the answer never came.
    Asked,
    /// `current` is the release; the helper goes back when the connection breaks.
    Switched,
    /// The release stays.
    Confirmed,
}

/// A step that has begun.
#[must_use = "its end has to be told"]
pub(crate) struct Running {
    step: String,
    started: Instant,
}

/// One host during a deploy.
pub(crate) struct HostRun<'a> {
    pub(crate) context: &'a Context<'a>,
    pub(crate) host: &'a Host,
    /// `None` before the host is reached and after the connection broke.
    pub(crate) session: Option<Session<'a>>,
    /// What the host served before this deploy.
    pub(crate) before: Serving,
    /// What the base holds, under the lock.
    pub(crate) state: Option<BaseState>,
    pub(crate) plan: Option<HostPlan>,
    pub(crate) activation: Activation,
    pub(crate) switched_at_ms: Option<i64>,
    /// The caches of the active release were made anew.
    pub(crate) refreshed: bool,
    pub(crate) migrated: bool,
    pub(crate) ledger_number: Option<u64>,
    traffic: Traffic,
    /// The helper has the release's manifest from this connection.
    pub(crate) manifest_sent: bool,
}

impl<'a> HostRun<'a> {
    pub(crate) fn new(context: &'a Context<'a>, host: &'a Host) -> Self {
        Self {
            context,
            host,
            session: None,
            before: Serving::Unknown("it was not reached, nothing was changed there".into()),
            state: None,
            plan: None,
            activation: Activation::Untouched,
            switched_at_ms: None,
            refreshed: false,
            migrated: false,
            ledger_number: None,
            traffic: Traffic {
                sent_bytes: 0,
                received_bytes: 0,
                wire_sent_bytes: 0,
                wire_received_bytes: 0,
            },
            manifest_sent: false,
        }
    }

    pub(crate) fn emit(&self, event: Event) {
        (self.context.listener)(event);
    }

    pub(crate) fn warn(&self, text: String) {
        self.emit(Event::Warning {
            host: Some(self.host.name.clone()),
            text,
        });
    }

    /// The session, or the error of a host that has none any more.
    pub(crate) fn session(&mut self) -> Result<&mut Session<'a>, StepError> {
        self.session.as_mut().ok_or(StepError::Interrupted)
    }

    /// Bytes moved so far, over all connections to the host.
    pub(crate) fn traffic(&self) -> Traffic {
        let now = self.session.as_ref().map(Session::traffic);
        now.map_or(self.traffic, |now| add(self.traffic, now))
    }

    /// Gives the connection up; the helper undoes what is not confirmed.
    pub(crate) fn disconnect(&mut self) {
        self.traffic = self.traffic();
        self.session = None;
        self.manifest_sent = false;
    }

    /// Connects, anew if there was a connection, and returns what the helper says first.
    pub(crate) async fn connect(&mut self) -> Result<Hello, StepError> {
        self.disconnect();
        let base = &self.context.deployment.environment.base;
        let opened =
            Session::open(self.context.connect, self.host, base, self.context.listener).await;
        let (session, hello) = opened?;
        self.session = Some(session);
        if let Some(settled) = &hello.settled {
            self.warn(format!("an earlier deploy was interrupted: {settled}"));
        }
        Ok(hello)
    }

    /// First contact.
    pub(crate) async fn greet(&mut self) -> Result<(), Failure> {
        let running = self.begin("connect");
        let connected = self.connect().await.map(|hello| {
            self.before = Serving::from(&hello.state.current);
            format!("{} as {}", hello.host, hello.user)
        });
        self.end(running, connected)
    }

    /// Takes the lock.
    pub(crate) async fn lock(&mut self) -> Result<(), Failure> {
        let running = self.begin("lock");
        let locked = self.take_lock().await.map(|()| String::new());
        self.end(running, locked)
    }

    async fn take_lock(&mut self) -> Result<(), StepError> {
        let deployment = self.context.deployment;
        let request = Lock {
            transaction: self.context.transaction.clone(),
            actor: deployment.actor.clone(),
            action: deployment.action.word().into(),
            environment: deployment.environment.name.clone(),
            release: deployment.release,
            commit: deployment.commit.clone(),
            web_group: deployment.environment.web_group.clone(),
        };
        let locked: Locked = self.session()?.request(request, LONG).await?;
        self.before = Serving::from(&locked.state.current);
        self.state = Some(locked.state);
        Ok(())
    }

    /// Does the steps of a phase one after the other.
    pub(crate) async fn steps(&mut self, steps: &[Step]) -> Result<(), Failure> {
        for step in steps {
            // Caches that are still right leave nothing for the web server to learn.
            let refreshing = self.plan.as_ref().is_some_and(|plan| !plan.switches);
            if refreshing && matches!(step, Step::Reload(_)) && !self.refreshed {
                continue;
            }
            let running = self.begin(step.name());
            let result = self.step(step).await;
            self.end(running, result)?;
        }
        Ok(())
    }

    /// Tells that a step begins.
    pub(crate) fn begin(&mut self, name: &str) -> Running {
        let step = name.to_owned();
        let started = Instant::now();
        self.emit(Event::Begin {
            host: Some(self.host.name.clone()),
            step: step.clone(),
            total_bytes: None,
        });
        if let Some(session) = &mut self.session {
            session.begin(name);
        }
        Running { step, started }
    }

    /// Tells how a step ended; gives the connection up when its error broke it.
    pub(crate) fn end(
        &mut self,
        running: Running,
        result: Result<String, StepError>,
    ) -> Result<(), Failure> {
        let Running { step, started } = running;
        let (host, took) = (Some(self.host.name.clone()), started.elapsed());
        match result {
            Ok(detail) => {
                self.emit(Event::Done {
                    host,
                    step,
                    detail,
                    took,
                });
                Ok(())
            }
            Err(error) => {
                let out_of_step = self.session.as_ref().is_some_and(Session::is_streaming);
                if error.breaks_session() || out_of_step {
                    self.disconnect();
                }
                let detail = error.to_string();
                self.emit(Event::Failed {
                    host: host.clone(),
                    step: step.clone(),
                    detail,
                    took,
                });
                Err(Failure { host, step, error })
            }
        }
    }

    /// Gives the lock back and ends the connection. What cannot be given back is free as soon as
    /// the helper has ended.
    pub(crate) async fn unlock(&mut self) {
        if self.state.is_some()
            && let Some(session) = &mut self.session
        {
            let unlocked: Result<Done, _> = session.request(Unlock {}, SHORT).await;
            if let Err(error) = unlocked {
                self.warn(format!("the lock was not given back: {error}"));
            }
        }
        self.disconnect();
    }

    pub(crate) fn truth(&self, serving: Serving) -> HostTruth {
        HostTruth {
            host: self.host.name.clone(),
            serving,
        }
    }
}

fn add(a: Traffic, b: Traffic) -> Traffic {
    Traffic {
        sent_bytes: a.sent_bytes + b.sent_bytes,
        received_bytes: a.received_bytes + b.received_bytes,
        wire_sent_bytes: a.wire_sent_bytes + b.wire_sent_bytes,
        wire_received_bytes: a.wire_received_bytes + b.wire_received_bytes,
    }
}

/// Asks the base for its state.
pub(crate) async fn status(session: &mut Session<'_>) -> Result<BaseState, StepError> {
    let protocol::State { state } = session.request(protocol::Status {}, SHORT).await?;
    Ok(state)
}
