//! Which releases are trusted, with keys and signatures that ssh-keygen made.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::time::{Duration, SystemTime};

use relstore_store::Store;
use relstore_store::allowed_signers::{AllowedSigners, Refusal};
use relstore_store::id::{RecordId, ReleaseId};
use relstore_store::import::{Layout, ReleaseTree};
use relstore_store::revoked::RevokedKeys;
use relstore_store::signature::{Fingerprint, Signature, fingerprint_of};
use relstore_store::testing::ssh_keygen::ssh_keygen;
use relstore_store::trust::{TrustError, Trusted, Why, check_release};
use sha2::{Digest, Sha256};

const RECORD: &str = "relstore-record@v1";

/// A store with a release, and keys.
struct Case {
    folder: tempfile::TempDir,
    store: Store,
    release: ReleaseId,
    sha256: String,
}

impl Case {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("tree");
        std::fs::create_dir(&root).unwrap();
        std::fs::write(root.join("a"), "content").unwrap();
        let store = Store::open_or_create(&folder.path().join("store"))
            .await
            .unwrap();
        let layout = Layout::default();
        let imported = store
            .import(&ReleaseTree { root, layout }, &|_| {})
            .await
            .unwrap();
        let sha256 = Sha256::digest(imported.manifest.to_text());
        for key in ["ci", "other"] {
            let args = ["-q", "-t", "ed25519", "-N", "", "-C", key, "-f", key];
            assert!(ssh_keygen(folder.path(), &args, b"").0);
        }
        Self {
            store,
            release: imported.release,
            sha256: sha256.iter().map(|byte| format!("{byte:02x}")).collect(),
            folder,
        }
    }

    fn public(&self, key: &str) -> String {
        std::fs::read_to_string(self.folder.path().join(format!("{key}.pub"))).unwrap()
    }

    fn fingerprint(&self, key: &str) -> Fingerprint {
        fingerprint_of(&self.public(key)).unwrap()
    }

    /// A statement about what has this digest.
    fn statement(&self, kind: &str, sha256: &str) -> String {
        format!(
            r#"{{"_type":"https://in-toto.io/Statement/v1","subject":[{{"name":"x","digest":{{"sha256":"{sha256}"}}}}],"predicateType":"{kind}","predicate":{{}}}}"#
        )
    }

    fn provenance(&self) -> String {
        self.statement("https://slsa.dev/provenance/v1", &self.sha256)
    }

    async fn put(&self, json: &str) -> RecordId {
        self.store
            .put_record(&self.release, json.as_bytes())
            .await
            .unwrap()
    }

    fn signed(&self, key: &str, namespace: &str, bytes: &str) -> Signature {
        let args = ["-Y", "sign", "-q", "-f", key, "-n", namespace];
        let (signed, text) = ssh_keygen(self.folder.path(), &args, bytes.as_bytes());
        assert!(signed, "{text}");
        Signature::parse(text.as_bytes()).unwrap()
    }

    async fn sign(&self, record: &RecordId, signature: &Signature) {
        self.store
            .put_signature(&self.release, record, signature)
            .await
            .unwrap();
    }

    /// The key `ci` with options before it.
    fn allowed(&self, options: &str) -> AllowedSigners {
        AllowedSigners::parse(&format!("ci@example.com {options} {}", self.public("ci"))).unwrap()
    }

    async fn check(&self, signers: &AllowedSigners) -> Result<Trusted, TrustError> {
        // 2026-01-02
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_312_000);
        check_release(&self.store, &self.release, signers, now).await
    }

    /// Why the only signature, which is by this key, does not count.
    async fn why(&self, signers: &AllowedSigners, key: &str) -> Why {
        let error = self.check(signers).await.unwrap_err();
        let text = error.to_string();
        let TrustError::Refused { refusals, .. } = error else {
            panic!("{text}");
        };
        assert_eq!(refusals.len(), 1, "{text}");
        assert_eq!(refusals[0].fingerprint, self.fingerprint(key));
        assert!(text.contains(&self.fingerprint(key).to_string()), "{text}");
        refusals[0].why.clone()
    }
}

#[tokio::test]
async fn provenance_signed_by_an_allowed_key_is_trusted() {
    let case = Case::new().await;
    let json = case.provenance();
    let record = case.put(&json).await;
    case.sign(&record, &case.signed("ci", RECORD, &json)).await;
    let trusted = case.check(&case.allowed("")).await.unwrap();
    assert_eq!(trusted.release, case.release);
    assert_eq!(trusted.by.len(), 1);
    assert_eq!(trusted.by[0].record, record);
    assert_eq!(trusted.by[0].signer.principal, "ci@example.com");
    assert_eq!(trusted.by[0].signer.fingerprint, case.fingerprint("ci"));

    // What somebody else adds does not take it away.
    case.sign(&record, &case.signed("other", RECORD, "something"))
        .await;
    let more = format!("{json}\n");
    let unsigned = case.put(&more).await;
    case.sign(&unsigned, &case.signed("other", RECORD, &more))
        .await;
    case.put("no JSON").await;
    assert_eq!(case.check(&case.allowed("")).await.unwrap().by.len(), 1);
}

#[tokio::test]
async fn release_without_a_signature_is_refused() {
    let case = Case::new().await;
    let signers = case.allowed("");
    let error = case.check(&signers).await.unwrap_err();
    assert!(matches!(error, TrustError::NoProvenance { .. }), "{error}");
    // A signed record of another kind says nothing about the origin.
    let results = case.statement(
        "https://in-toto.io/attestation/test-result/v0.1",
        &case.sha256,
    );
    let record = case.put(&results).await;
    case.sign(&record, &case.signed("ci", RECORD, &results))
        .await;
    let error = case.check(&signers).await.unwrap_err();
    assert!(matches!(error, TrustError::NoProvenance { .. }), "{error}");
    case.put(&case.provenance()).await;
    let error = case.check(&signers).await.unwrap_err();
    assert!(matches!(error, TrustError::Unsigned { .. }), "{error}");
    assert!(error.hint().unwrap().contains("signing.key"));
}

#[tokio::test]
async fn key_that_does_not_count_is_named_with_the_reason() {
    let case = Case::new().await;
    let json = case.provenance();
    let record = case.put(&json).await;
    case.sign(&record, &case.signed("ci", RECORD, &json)).await;
    let fingerprint = case.fingerprint("ci");

    let other = AllowedSigners::parse(&format!("x {}", case.public("other"))).unwrap();
    assert_eq!(
        case.why(&other, "ci").await,
        Refusal::UnknownKey { fingerprint }.into()
    );
    let nobody = AllowedSigners::default();
    assert_eq!(
        case.why(&nobody, "ci").await,
        Refusal::UnknownKey { fingerprint }.into()
    );

    let told = |why: Why| why.to_string();
    let expired = case.allowed("valid-before=\"20260101Z\"");
    assert!(told(case.why(&expired, "ci").await).contains("not valid any more"));
    let early = case.allowed("valid-after=\"20260103Z\"");
    assert!(told(case.why(&early, "ci").await).contains("not valid yet"));
    case.check(&case.allowed("valid-after=\"20260101Z\",valid-before=\"20260103Z\""))
        .await
        .unwrap();

    let elsewhere = case.allowed("namespaces=\"git,relstore-derivation@v1\"");
    assert!(
        told(case.why(&elsewhere, "ci").await)
            .contains("not allowed to sign for relstore-record@v1")
    );

    let revoked = RevokedKeys::parse(case.public("ci").as_bytes()).unwrap();
    let signers = case.allowed("").without(revoked);
    assert_eq!(
        case.why(&signers, "ci").await,
        Refusal::Revoked { fingerprint }.into()
    );
    let others = RevokedKeys::parse(case.public("other").as_bytes()).unwrap();
    case.check(&case.allowed("").without(others)).await.unwrap();
}

#[tokio::test]
async fn revoked_keys_are_those_that_ssh_keygen_refuses() {
    let case = Case::new().await;
    let json = case.provenance();
    let record = case.put(&json).await;
    let signature = case.signed("ci", RECORD, &json);
    case.sign(&record, &signature).await;
    let write =
        |name: &str, text: &str| std::fs::write(case.folder.path().join(name), text).unwrap();
    write("sig", signature.text());
    write("signers", &format!("ci@example.com {}", case.public("ci")));
    for (key, fine) in [("other", true), ("ci", false)] {
        let list = format!("# stolen\n{}", case.public(key));
        write("revoked", &list);
        let args = [
            "-Y",
            "verify",
            "-f",
            "signers",
            "-I",
            "ci@example.com",
            "-n",
            RECORD,
            "-s",
            "sig",
            "-r",
            "revoked",
        ];
        let (verified, said) = ssh_keygen(case.folder.path(), &args, json.as_bytes());
        assert_eq!(verified, fine, "{said}");
        let revoked = RevokedKeys::parse(list.as_bytes()).unwrap();
        let checked = case.check(&case.allowed("").without(revoked)).await;
        assert_eq!(checked.is_ok(), fine, "{key}");
    }
}

#[tokio::test]
async fn signature_over_something_else_is_refused() {
    let case = Case::new().await;
    let json = case.provenance();
    let record = case.put(&json).await;
    case.sign(&record, &case.signed("ci", RECORD, "other bytes"))
        .await;
    let wrong = Refusal::Wrong {
        fingerprint: case.fingerprint("ci"),
    };
    assert_eq!(case.why(&case.allowed(""), "ci").await, wrong.into());

    for namespace in ["relstore-derivation@v1", "git"] {
        let case = Case::new().await;
        let json = case.provenance();
        let record = case.put(&json).await;
        case.sign(&record, &case.signed("ci", namespace, &json))
            .await;
        let why = case.why(&case.allowed(""), "ci").await;
        assert_eq!(
            why,
            Why::Purpose {
                namespace: namespace.to_owned()
            }
        );
    }
}

#[tokio::test]
async fn provenance_of_another_release_is_refused() {
    let provenance = "https://slsa.dev/provenance/v1";
    let case = Case::new().await;
    let json = case.statement(provenance, &"0".repeat(64));
    let record = case.put(&json).await;
    case.sign(&record, &case.signed("ci", RECORD, &json)).await;
    assert_eq!(case.why(&case.allowed(""), "ci").await, Why::Subject);

    // Two subjects in one object: readers would differ in which one counts.
    let case = Case::new().await;
    let twice = case
        .provenance()
        .replace("\"predicate\":{}", "\"predicate\":{},\"subject\":[]");
    let record = case.put(&twice).await;
    case.sign(&record, &case.signed("ci", RECORD, &twice)).await;
    let error = case.check(&case.allowed("")).await.unwrap_err();
    assert!(matches!(error, TrustError::NoProvenance { .. }), "{error}");
}
