//! `relstore deploy --dry-run`: the plan, and what it would mean for each host.

use std::fmt::Write as _;

use relstore_deployer::inspect::{HostPreview, Preview};
use relstore_deployer::plan::Plan;
use relstore_store::Store;
use relstore_store::id::ReleaseId;
use serde_json::{Value, json};

use super::deploy::Bringing;
use crate::context::Context;
use crate::error::Result;
use crate::exit_code::ExitCode;
use crate::hosts;
use crate::output::{bytes, counted};
use crate::progress::Progress;

/// Finds out what a deploy would do and shows it. Nothing is changed but, at most, that the helper
/// lies on the hosts.
pub(super) async fn run(
    context: &Context,
    bringing: &Bringing<'_>,
    store: &Store,
    release: ReleaseId,
) -> Result<ExitCode> {
    let (deployment, _) = bringing.deployment(store, release).await?;
    let progress = Progress::new(context);
    let listener = |event| hosts::show(&progress, bringing.several(), event);
    let preview = relstore_deployer::preview(&deployment, &bringing.connector, &listener).await?;
    progress.finish();
    context
        .output
        .result(&text(&preview), || document(&preview))?;
    Ok(ExitCode::Ok)
}

fn text(preview: &Preview) -> String {
    let plan = &preview.plan;
    let mut text = format!(
        "plan: {} {} on {}\n",
        plan.action.word(),
        plan.release.short(),
        plan.environment
    );
    for (host, seen) in plan.hosts.iter().zip(&preview.hosts) {
        let serves = match host.current {
            Some(release) if release == plan.release => "serves it already".to_owned(),
            Some(release) => format!("serves {}", release.short()),
            None => "serves nothing yet".to_owned(),
        };
        let _ = writeln!(
            text,
            "{}: {serves}, {} free",
            host.host,
            bytes(seen.hello.free_bytes)
        );
        if let Some(line) = changes(seen) {
            let _ = writeln!(text, "  {line}");
        }
        if !host.complete {
            let _ = writeln!(
                text,
                "  {} to send: {} of {} content",
                bytes(seen.send_bytes),
                counted(seen.send_blobs, "blob"),
                bytes(seen.raw_bytes)
            );
        }
    }
    for (phase, steps) in steps(plan) {
        for (host, step) in steps {
            let _ = writeln!(text, "  {phase:9} {host}: {step}");
        }
    }
    for url in &plan.health {
        let _ = writeln!(text, "  health    GET {url}");
    }
    text.push_str("nothing was changed\n");
    text
}

fn changes(seen: &HostPreview) -> Option<String> {
    let sum = seen.changes.as_ref()?;
    let total = sum.added + sum.removed + sum.changed + sum.renamed + sum.mode;
    Some(format!(
        "{} from what it serves",
        counted(total, "difference")
    ))
}

/// The steps of all hosts, by phase.
fn steps(plan: &Plan) -> Vec<(&'static str, Vec<(String, String)>)> {
    let phase =
        |of: fn(&relstore_deployer::plan::HostPlan) -> &Vec<relstore_deployer::plan::Step>| {
            let steps = plan.hosts.iter().flat_map(|host| {
                of(host)
                    .iter()
                    .map(|step| (host.host.clone(), step.to_string()))
            });
            steps.collect::<Vec<_>>()
        };
    vec![
        ("prepare", phase(|host| &host.prepare)),
        ("migrate", phase(|host| &host.migrate)),
        ("activate", phase(|host| &host.activate)),
        ("finish", phase(|host| &host.finish)),
    ]
}

fn document(preview: &Preview) -> Value {
    let plan = &preview.plan;
    let hosts: Vec<Value> = plan
        .hosts
        .iter()
        .zip(&preview.hosts)
        .map(|(host, seen)| {
            let texts = |steps: &[relstore_deployer::plan::Step]| -> Vec<Value> {
                steps
                    .iter()
                    .map(|step| json!({ "step": step.name(), "text": step.to_string() }))
                    .collect()
            };
            json!({
                "host": host.host,
                "current": host.current,
                "complete": host.complete,
                "switches": host.switches,
                "prepare": texts(&host.prepare),
                "migrate": texts(&host.migrate),
                "activate": texts(&host.activate),
                "finish": texts(&host.finish),
                "changes": seen.changes,
                "send_bytes": seen.send_bytes,
                "send_blobs": seen.send_blobs,
                "raw_bytes": seen.raw_bytes,
                "free_bytes": seen.hello.free_bytes,
                "free_inodes": seen.hello.free_inodes,
            })
        })
        .collect();
    json!({
        "action": plan.action.word(),
        "environment": plan.environment,
        "release": plan.release,
        "dry_run": true,
        "health": plan.health,
        "hosts": hosts,
    })
}
