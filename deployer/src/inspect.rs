//! Questions to the hosts of an environment that change nothing: what is served, what differs,
//! what happened, what a deploy would do.

use futures::TryStreamExt;
use futures::future::join_all;
use relstore_store::diff::{self, Summary};
use relstore_store::id::ReleaseId;

use crate::environment::{Environment, Host};
use crate::error::DeployError;
use crate::event::{Event, Listener};
use crate::execute::{Deployment, plan_for};
use crate::failure::StepError;
use crate::host_run::{LONG, SHORT};
use crate::outcome::Serving;
use crate::pack;
use crate::plan::{Action, Plan};
use crate::protocol::{Entries, Hello, History, Verified, Verify};
use crate::session::{Connect, Session};
use crate::transfer::{self, Known};

/// What a host answered, or why it could not be asked.
#[derive(Debug)]
pub struct Asked<T> {
    /// The host.
    pub host: String,
    /// Its answer.
    pub answer: Result<T, StepError>,
}

/// What a host says of itself.
#[derive(Debug, Clone)]
pub struct HostStatus {
    /// What it serves.
    pub serving: Serving,
    /// The helper's greeting: base, free space, lock, unconfirmed activation.
    pub hello: Hello,
}

/// What a deploy would do.
#[derive(Debug)]
pub struct Preview {
    /// The steps.
    pub plan: Plan,
    /// What it means for each host, in the plan's order.
    pub hosts: Vec<HostPreview>,
}

/// What a deploy would mean for one host.
#[derive(Debug)]
pub struct HostPreview {
    /// The host.
    pub host: String,
    /// The helper's greeting.
    pub hello: Hello,
    /// Bytes that would be sent: the very packs are made and counted.
    pub send_bytes: u64,
    /// Blobs in them.
    pub send_blobs: u64,
    /// Their raw bytes.
    pub raw_bytes: u64,
    /// Changes from the active release, when there is one and the store knows it.
    pub changes: Option<Summary>,
}

/// Connects to a host for a question.
async fn greet<'a>(
    environment: &Environment,
    host: &Host,
    connect: &dyn Connect,
    listener: Listener<'a>,
) -> Result<(Session<'a>, Hello), StepError> {
    let (session, hello) = Session::open(connect, host, &environment.base, listener).await?;
    if let Some(settled) = &hello.settled {
        let text = format!("an earlier deploy was interrupted: {settled}");
        listener(Event::Warning {
            host: Some(host.name.clone()),
            text,
        });
    }
    Ok((session, hello))
}

/// Puts a question to every host at once.
async fn ask<'h, T, F>(
    environment: &'h Environment,
    question: impl Fn(&'h Host) -> F,
) -> Vec<Asked<T>>
where
    F: Future<Output = Result<T, StepError>>,
{
    let answers = join_all(environment.hosts.iter().map(question)).await;
    let asked = environment
        .hosts
        .iter()
        .zip(answers)
        .map(|(host, answer)| Asked {
            host: host.name.clone(),
            answer,
        });
    asked.collect()
}

/// Asks every host what it serves.
pub async fn status(
    environment: &Environment,
    connect: &dyn Connect,
    listener: Listener<'_>,
) -> Vec<Asked<HostStatus>> {
    ask(environment, |host| async move {
        let (_, hello) = greet(environment, host, connect, listener).await?;
        let serving = Serving::from(&hello.state.current);
        Ok(HostStatus { serving, hello })
    })
    .await
}

/// Compares every byte of a release (the active one when `None`) on every host with its manifest.
pub async fn verify(
    environment: &Environment,
    release: Option<ReleaseId>,
    connect: &dyn Connect,
    listener: Listener<'_>,
) -> Vec<Asked<Verified>> {
    ask(environment, |host| async move {
        let (mut session, _) = greet(environment, host, connect, listener).await?;
        session.begin("verify");
        session.request(Verify { release }, LONG).await
    })
    .await
}

/// Reads the ledger of every host: the newest `last` lines, oldest first; all when 0.
pub async fn history(
    environment: &Environment,
    last: u32,
    connect: &dyn Connect,
    listener: Listener<'_>,
) -> Vec<Asked<Vec<String>>> {
    ask(environment, |host| async move {
        let (mut session, _) = greet(environment, host, connect, listener).await?;
        session.begin("history");
        let Entries { lines } = session.request(History { last }, SHORT).await?;
        Ok(lines)
    })
    .await
}

/// The release that all hosts served before the active one.
///
/// # Errors
/// [`DeployError::Ask`], [`DeployError::NoPrevious`], and [`DeployError::Disagree`], which says
/// what each host has.
pub async fn rollback_target(
    environment: &Environment,
    connect: &dyn Connect,
    listener: Listener<'_>,
) -> Result<ReleaseId, DeployError> {
    let mut previous: Vec<(String, Option<ReleaseId>)> = Vec::new();
    for asked in status(environment, connect, listener).await {
        let host = asked.host;
        match asked.answer {
            Ok(status) => previous.push((host, status.hello.state.previous)),
            Err(source) => return Err(DeployError::Ask { host, source }),
        }
    }
    let name = || environment.name.clone();
    match previous.first() {
        None => Err(DeployError::NoHosts {
            environment: name(),
        }),
        Some((_, first)) if previous.iter().all(|(_, other)| other == first) => {
            first.ok_or(DeployError::NoPrevious {
                environment: name(),
            })
        }
        Some(_) => Err(DeployError::Disagree {
            environment: name(),
            previous: previous
                .iter()
                .map(|(host, previous)| match previous {
                    Some(release) => format!("{host} served {} before", release.short()),
                    None => format!("{host} served nothing before"),
                })
                .collect(),
        }),
    }
}

/// Finds out what a deploy would do, without doing any of it.
///
/// # Errors
/// [`DeployError::Release`], [`DeployError::Ask`], [`DeployError::NoHosts`].
pub async fn preview(
    deployment: &Deployment<'_>,
    connect: &dyn Connect,
    listener: Listener<'_>,
) -> Result<Preview, DeployError> {
    let environment = deployment.environment;
    if environment.hosts.is_empty() {
        return Err(DeployError::NoHosts {
            environment: environment.name.clone(),
        });
    }
    let release = deployment.release;
    let manifest = match deployment.store.manifest(&release).await {
        Ok(manifest) => Some(Known {
            release,
            manifest: manifest.into(),
        }),
        Err(relstore_store::StoreError::NoRelease { .. })
            if deployment.action == Action::Rollback =>
        {
            None
        }
        Err(source) => return Err(DeployError::Release { release, source }),
    };
    let manifest = manifest.as_ref();
    let asked = ask(environment, |host| async move {
        let (_, hello) = greet(environment, host, connect, listener).await?;
        preview_host(deployment, manifest, host, hello).await
    })
    .await;
    let mut hosts = Vec::new();
    for Asked { host, answer } in asked {
        hosts.push(answer.map_err(|source| DeployError::Ask { host, source })?);
    }
    let states: Vec<_> = hosts.iter().map(|host| host.hello.state.clone()).collect();
    let plan = plan_for(deployment, &states)
        .map_err(|(host, source)| DeployError::Ask { host, source })?;
    Ok(Preview { plan, hosts })
}

async fn preview_host(
    deployment: &Deployment<'_>,
    new: Option<&Known>,
    host: &Host,
    hello: Hello,
) -> Result<HostPreview, StepError> {
    let mut preview = HostPreview {
        host: host.name.clone(),
        hello,
        send_bytes: 0,
        send_blobs: 0,
        raw_bytes: 0,
        changes: None,
    };
    let Some(new) = new else {
        return Ok(preview);
    };
    let (store, state) = (deployment.store, &preview.hello.state);
    let complete = transfer::complete_releases(store, state).await?;
    let active = Serving::from(&state.current).release();
    if let Some(active) = complete.iter().find(|known| Some(known.release) == active) {
        let changes = diff::diff(&active.manifest, &new.manifest);
        preview.changes = Some(diff::summary(&active.manifest, &new.manifest, &changes));
    }
    if state.complete.contains(&deployment.release) {
        return Ok(preview);
    }
    let index = store.index().await?;
    let transfer = transfer::plan(new, &complete, |blob| index.contains(blob));
    let mut messages = vec![pack::manifest(&transfer).await?];
    let mut packs = std::pin::pin!(pack::packs(store, &transfer));
    loop {
        for message in messages.drain(..) {
            preview.send_bytes += message.encode().map_err(StepError::Message)?.len() as u64;
        }
        match packs.try_next().await? {
            Some(encoded) => messages = encoded.messages,
            None => break,
        }
    }
    preview.send_blobs = transfer.blobs() as u64;
    preview.raw_bytes = transfer.raw_bytes();
    Ok(preview)
}

#[cfg(test)]
#[path = "inspect_tests.rs"]
mod tests;
