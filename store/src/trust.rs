//! Whether a release may be used where signatures are required.
//!
//! A release is trusted when at least one record says where it comes from (an in-toto statement
//! with SLSA provenance), has the release as its subject, and is signed by a key that the allowed
//! signers allow at that time. Other records and further signatures do not count, in neither
//! direction: whoever may write into a store can add a wrong one, and that must not take a release
//! away. The bytes of the release need no signature: its id names them.

use std::fmt;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::allowed_signers::{AllowedSigners, Refusal, SignerIdentity};
use crate::error::StoreError;
use crate::id::{RecordId, ReleaseId};
use crate::record::Record;
use crate::signature::{Fingerprint, Namespace, Signature};
use crate::store::Store;

const STATEMENT: &str = "https://in-toto.io/Statement/v1";
/// Any version: what is checked here is the same in all.
const PROVENANCE: &str = "https://slsa.dev/provenance/";

/// A release whose origin somebody trusted vouches for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Trusted {
    /// The release.
    pub release: ReleaseId,
    /// Who vouches for it, by which record; at least one.
    pub by: Vec<Vouched>,
}

/// A record with a signature that counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Vouched {
    /// The provenance.
    pub record: RecordId,
    /// Who signed it.
    pub signer: SignerIdentity,
}

/// Why a release is not trusted.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// Nothing says where it comes from.
    #[error("release {release} has no provenance")]
    NoProvenance {
        /// The release.
        release: ReleaseId,
    },
    /// What says so was signed by nobody: anybody can have written it.
    #[error("release {release} is not signed")]
    Unsigned {
        /// The release.
        release: ReleaseId,
    },
    /// No signature counts.
    #[error("release {release} has no signature that counts: {}", listed(refusals))]
    Refused {
        /// The release.
        release: ReleaseId,
        /// All signatures over its provenance.
        refusals: Vec<Refused>,
    },
    /// The store could not be read, or lies.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A signature that does not count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The record that it lies beside.
    pub record: RecordId,
    /// The key that it names.
    pub fingerprint: Fingerprint,
    /// Why.
    pub why: Why,
}

/// Why a signature does not count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    /// It was made for something else, and moved here.
    #[error("it was made for `{namespace}`, not for {}", Namespace::Record.as_str())]
    Purpose {
        /// What it was made for; any text, made printable.
        namespace: String,
    },
    /// It is wrong, or its key does not count.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// It counts, but what was signed speaks of another release.
    #[error("what it signs is about another release")]
    Subject,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.fingerprint, self.why)
    }
}

fn listed(refusals: &[Refused]) -> String {
    let lines: Vec<String> = refusals.iter().map(Refused::to_string).collect();
    lines.join("; ")
}

impl TrustError {
    /// What to do next, when there is something to do.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let text = match self {
            Self::NoProvenance { .. } | Self::Unsigned { .. } => {
                "build it again with `signing.key`; the same commit gives the same release"
            }
            Self::Refused { .. } => {
                "if you trust the key, add it to the allowed signers; else do not use this release"
            }
            Self::Store(error) => return error.hint(),
        };
        Some(text.to_owned())
    }
}

/// As much of a statement as says what it is about. A field that stands twice is an error: two
/// readers could take different ones.
#[derive(Deserialize)]
struct Statement {
    #[serde(rename = "_type")]
    kind: String,
    #[serde(rename = "predicateType")]
    predicate: String,
    subject: Vec<Subject>,
}

#[derive(Deserialize)]
struct Subject {
    digest: Digests,
}

#[derive(Deserialize)]
struct Digests {
    sha256: Option<String>,
}

/// Reads what is said about a release in its store and judges it at this time.
///
/// # Errors
/// [`TrustError`].
pub async fn check_release(
    store: &Store,
    release: &ReleaseId,
    signers: &AllowedSigners,
    now: SystemTime,
) -> Result<Trusted, TrustError> {
    let manifest = store.manifest_text(release).await?;
    let records = store.records(release).await?;
    let signatures = store.signatures(release).await?;
    judge(&manifest, &records, &signatures, signers, now)
}

/// The judgement alone: of a release with this manifest, these records and signatures. Pure.
///
/// # Errors
/// [`TrustError`], never of a store.
pub fn judge(
    manifest: &[u8],
    records: &[Record],
    signatures: &[(RecordId, Signature)],
    signers: &AllowedSigners,
    now: SystemTime,
) -> Result<Trusted, TrustError> {
    let release = ReleaseId::of(manifest);
    let sha256 = Sha256::digest(manifest);
    let sha256: String = sha256.iter().map(|byte| format!("{byte:02x}")).collect();
    let (mut by, mut refusals, mut provenance) = (Vec::new(), Vec::new(), false);
    for record in records {
        let Some(statement) = provenance_of(record) else {
            continue;
        };
        provenance = true;
        for (_, signature) in signatures.iter().filter(|(of, _)| *of == record.id) {
            match vouches(record, &statement, signature, signers, now, &sha256) {
                Ok(signer) => by.push(Vouched {
                    record: record.id,
                    signer,
                }),
                Err(why) => refusals.push(Refused {
                    record: record.id,
                    fingerprint: signature.fingerprint(),
                    why,
                }),
            }
        }
    }
    match (by.is_empty(), refusals.is_empty()) {
        (false, _) => Ok(Trusted { release, by }),
        (true, false) => Err(TrustError::Refused { release, refusals }),
        _ if provenance => Err(TrustError::Unsigned { release }),
        _ => Err(TrustError::NoProvenance { release }),
    }
}

fn provenance_of(record: &Record) -> Option<Statement> {
    let statement: Statement = serde_json::from_slice(&record.json).ok()?;
    let is_provenance = statement.kind == STATEMENT && statement.predicate.starts_with(PROVENANCE);
    is_provenance.then_some(statement)
}

fn vouches(
    record: &Record,
    statement: &Statement,
    signature: &Signature,
    signers: &AllowedSigners,
    now: SystemTime,
    sha256: &str,
) -> Result<SignerIdentity, Why> {
    if signature.namespace() != Namespace::Record.as_str() {
        let namespace = crate::name::escape(signature.namespace().as_bytes());
        return Err(Why::Purpose { namespace });
    }
    let signer = signers.verify(Namespace::Record, &record.json, signature, now)?;
    let is_subject = |subject: &Subject| subject.digest.sha256.as_deref() == Some(sha256);
    match statement.subject.iter().any(is_subject) {
        true => Ok(signer),
        false => Err(Why::Subject),
    }
}
