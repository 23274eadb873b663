//! `relstore show`: one release.

mod text;

use relstore_store::allowed_signers::{AllowedSigners, Refusal};
use relstore_store::id::{RecordId, ReleaseId};
use relstore_store::manifest::{Kind, Manifest};
use relstore_store::record::Record;
use relstore_store::signature::{Fingerprint, Namespace, Signature};
use serde_json::{Value, json};

use crate::context::Context;
use crate::error::{CommandError, Result};
use crate::exit_code::ExitCode;
use crate::said::{RecordKind, Said};
use crate::signing;
use crate::stored::{block_on, open, resolve};

/// Show one release: content, commit, gates, how it was built
///
/// Also its packages and licences, results of checks, what the application says about itself, and
/// who signed all that.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  relstore show latest
  relstore show env:prod
  relstore show HEAD --sbom > sbom.json          the bill of materials, CycloneDX
  relstore show HEAD --provenance | jq .         how it was built, in-toto and SLSA
  relstore show HEAD --record 5d41402abc4b2a76   one record with its exact bytes")]
pub(crate) struct Args {
    /// The release
    pub(crate) release: String,
    /// Print the newest bill of materials as it is stored
    #[arg(long, group = "raw", conflicts_with = "json")]
    pub(crate) sbom: bool,
    /// Print the newest provenance as it is stored
    #[arg(long, group = "raw", conflicts_with = "json")]
    pub(crate) provenance: bool,
    /// Print the record whose hash begins so as it is stored
    #[arg(long, value_name = "HASH", group = "raw", conflicts_with = "json")]
    pub(crate) record: Option<String>,
    /// List the records, each with its kind and who signed it
    #[arg(long, conflicts_with = "raw")]
    pub(crate) records: bool,
}

/// A record, what it is, and who signed it.
pub(crate) struct Known {
    pub(crate) record: Record,
    pub(crate) kind: RecordKind,
    pub(crate) signatures: Vec<Signed>,
}

/// One signature over a record.
pub(crate) struct Signed {
    pub(crate) fingerprint: Fingerprint,
    /// Whose key it is, or why that does not count.
    pub(crate) by: std::result::Result<String, String>,
}

/// Runs the command.
pub(crate) fn run(context: &Context, args: &Args) -> Result<ExitCode> {
    block_on(async {
        let (config, store) = open(context).await?;
        let release = resolve(context, config.as_ref(), &store, &args.release).await?;
        let records = store.records(&release).await?;
        if let Some(record) = wanted(args, release, &records)? {
            context.output.bytes(&record.json)?;
            return Ok(ExitCode::Ok);
        }
        let allowed = signing::allowed_signers(config.as_ref())?;
        let signatures = store.signatures(&release).await?;
        let said = Said::all(&records);
        let known = known(context, records, &signatures, &allowed);
        let manifest = store.manifest(&release).await?;
        let text = match args.records {
            true => text::records(&known),
            false => text::release(config.as_ref(), release, &manifest, &said, &known),
        };
        context
            .output
            .result(&text, || document(release, &manifest, &said, &known))?;
        Ok(ExitCode::Ok)
    })
}

/// The one record that is asked for, when one is.
fn wanted<'a>(
    args: &Args,
    release: ReleaseId,
    records: &'a [Record],
) -> Result<Option<&'a Record>> {
    let newest = |kind| {
        let mut latest_first = records.iter().rev();
        latest_first.find(|record| RecordKind::of(record) == kind)
    };
    let (what, found) = match &args.record {
        Some(prefix) => {
            let begins = |record: &&Record| record.id.to_string().starts_with(prefix.as_str());
            let mut matching = records.iter().filter(begins);
            let first = matching.next();
            if matching.next().is_some() {
                let message = format!("several records begin with `{prefix}`");
                return Err(CommandError::bad_input(message).hint("say more digits"));
            }
            (format!("record `{prefix}`"), first)
        }
        None if args.sbom => ("bill of materials".to_owned(), newest(RecordKind::Sbom)),
        None if args.provenance => ("provenance".to_owned(), newest(RecordKind::Provenance)),
        None => return Ok(None),
    };
    found.map(Some).ok_or_else(|| {
        CommandError::bad_input(format!("release {} has no {what}", release.short())).hint(format!(
            "`relstore show {} --records` lists what it has",
            release.short()
        ))
    })
}

fn known(
    context: &Context,
    records: Vec<Record>,
    signatures: &[(RecordId, Signature)],
    allowed: &AllowedSigners,
) -> Vec<Known> {
    let signed = |record: &Record, signature: &Signature| Signed {
        fingerprint: signature.fingerprint(),
        by: allowed
            .verify(Namespace::Record, &record.json, signature, context.now())
            .map(|identity| identity.principal)
            .map_err(|refusal| match refusal {
                Refusal::UnknownKey { fingerprint } if allowed.is_empty() => {
                    format!(
                        "the key {fingerprint} is not known, `signing.allowed_signers` names nobody"
                    )
                }
                refusal => refusal.to_string(),
            }),
    };
    let one = |record: Record| Known {
        kind: RecordKind::of(&record),
        signatures: signatures
            .iter()
            .filter(|(of, _)| *of == record.id)
            .map(|(_, signature)| signed(&record, signature))
            .collect(),
        record,
    };
    records.into_iter().map(one).collect()
}

fn document(release: ReleaseId, manifest: &Manifest, said: &Said, known: &[Known]) -> Value {
    let mut object = said.to_json();
    object["release"] = json!(release);
    object["files"] = json!(manifest.file_count());
    object["bytes"] = json!(manifest.content_bytes());
    object["shared"] = json!(shared(manifest));
    object["writable"] = json!(writable(manifest));
    let records: Vec<Value> = known.iter().map(record_document).collect();
    object["records"] = json!(records);
    object
}

fn record_document(known: &Known) -> Value {
    let signatures: Vec<Value> = known
        .signatures
        .iter()
        .map(|signed| {
            json!({
                "key": signed.fingerprint,
                "principal": signed.by.as_ref().ok(),
                "refused": signed.by.as_ref().err(),
            })
        })
        .collect();
    json!({ "id": known.record.id, "kind": known.kind.name(), "signatures": signatures })
}

fn shared(manifest: &Manifest) -> Vec<String> {
    paths(manifest, |kind| {
        matches!(kind, Kind::SharedFile | Kind::SharedDir)
    })
}

fn writable(manifest: &Manifest) -> Vec<String> {
    paths(manifest, |kind| matches!(kind, Kind::WritableDir))
}

fn paths(manifest: &Manifest, wanted: impl Fn(&Kind) -> bool) -> Vec<String> {
    manifest
        .entries()
        .iter()
        .filter(|entry| wanted(&entry.kind))
        .map(|entry| entry.path.to_string())
        .collect()
}
