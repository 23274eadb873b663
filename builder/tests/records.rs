//! Records against the definitions of their standards, and their signatures.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use common::{Project, layout};
use relstore_builder::check::{CheckOutcome, CheckResult, JunitSummary};
use relstore_builder::facts::{AppFacts, Part};
use relstore_builder::provenance::{Origin, StepOutcome, StepRecord};
use relstore_builder::source::Source;
use relstore_builder::{BuildError, gate, lockfile};
use relstore_store::allowed_signers::AllowedSigners;
use relstore_store::id::ReleaseId;
use relstore_store::signature::{Fingerprint, KeySigner, Namespace, SignError, Signature, Signer};

const COMPOSER_LOCK: &str = r#"{
    "packages": [
        {"name": "laravel/framework", "version": "v11.1.0", "license": ["MIT"],
         "source": {"type": "git", "url": "https://git.example/f.git", "reference": "0123456789abcdef0123456789abcdef01234567"},
         "dist": {"type": "zip", "url": "https://u:s3ntinel@zip.example/f.zip?token=s3ntinel", "shasum": "da39a3ee5e6b4b0d3255bfef95601890afd80709"}},
        {"name": "acme/own", "version": "dev-feature/x+y", "license": ["proprietary", "MIT"]},
        {"name": "acme/any", "version": "1.0", "license": ["(LGPL-2.1-only or GPL-3.0-or-later)", "ISC"]}
    ],
    "packages-dev": [{"name": "mockery/mockery", "version": "1.5.1", "license": ["BSD-3-Clause"]}]
}"#;

fn origin() -> Origin {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/apps/notes");
    let package_lock = std::fs::read(fixture.join("package-lock.json")).unwrap();
    let mut packages = lockfile::parse("composer.lock", COMPOSER_LOCK.as_bytes()).unwrap();
    packages.extend(lockfile::parse("package-lock.json", &package_lock).unwrap());
    let cached = StepOutcome::Cached {
        derivation: "cd".repeat(32),
        signer: Some("SHA256:abc".to_owned()),
    };
    let started = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    Origin {
        application: "shop".to_owned(),
        source: Source {
            commit: Some("0123456789abcdef0123456789abcdef01234567".to_owned()),
            dirty: false,
            epoch: 1_700_000_000,
            prefix: String::new(),
            files: 1,
            bytes: 1,
        },
        revision: Some("main".to_owned()),
        steps: vec![step("composer", StepOutcome::Ran), step("npm", cached)],
        env: BTreeMap::from([("VITE_A".to_owned(), "b".to_owned())]),
        exclude: Vec::new(),
        layout: layout(),
        locks: BTreeMap::from([("composer.lock", "ef".repeat(32))]),
        packages,
        package_trees: BTreeMap::from([("laravel/framework".to_owned(), "01".repeat(32))]),
        gates: gates_of(&fixture),
        checks: vec![
            check("tests", CheckOutcome::Passed),
            check("lint", CheckOutcome::Failed),
        ],
        facts: Some(AppFacts {
            php: "8.2.1".to_owned(),
            laravel: Part::Value("11.1.0".to_owned()),
            routes: Part::Value(Vec::new()),
            schedule: Part::Error("no".to_owned()),
            config: Part::Value(vec!["app.key".to_owned()]),
            env: Part::Value(Vec::new()),
        }),
        started,
        finished: started + Duration::from_secs(3),
    }
}

fn step(name: &str, outcome: StepOutcome) -> StepRecord {
    StepRecord {
        name: name.to_owned(),
        key: "ab".repeat(32),
        outcome,
        commands: vec![format!("{name} install")],
        env: BTreeMap::from([("A".to_owned(), "b".to_owned())]),
        network: true,
        sandboxed: true,
        tools: BTreeMap::from([("php".to_owned(), "8.2.1".to_owned())]),
        milliseconds: 5,
    }
}

fn check(name: &str, outcome: CheckOutcome) -> CheckResult {
    CheckResult {
        name: name.to_owned(),
        group: "fast".to_owned(),
        command: "vendor/bin/phpunit".to_owned(),
        outcome,
        exit_code: Some(0),
        milliseconds: 12,
        last_output: vec!["OK".to_owned()],
        junit: Some(JunitSummary {
            tests: 3,
            failures: 0,
            errors: 0,
            skipped: 1,
        }),
        coverage_percent: Some(81.25),
    }
}

/// What the official definitions say about documents; empty when all are valid.
fn mistakes(records: &[Vec<u8>]) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let python = root.join("target/record-schemas/bin/python");
    assert!(
        python.exists(),
        "`scripts/setup.sh test` installs the schemas"
    );
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(python);
    command.arg(root.join("fixtures/schemas/check.py"));
    for (index, record) in records.iter().enumerate() {
        let file = folder.path().join(format!("{index}.json"));
        std::fs::write(&file, record).unwrap();
        command.arg(file);
    }
    let output = command.output().unwrap();
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert_eq!(output.status.success(), said.is_empty(), "{said}");
    said
}

#[test]
fn records_are_what_their_standards_define() {
    let manifest = b"relstore-manifest 1\n";
    let release = ReleaseId::of(manifest);
    let records = origin().records(&release, manifest);
    assert_eq!(records.len(), 5);
    assert_eq!(mistakes(&records), "");
    for record in &records {
        let text = std::str::from_utf8(record).unwrap();
        assert!(
            !text.contains("s3ntinel") && text.contains(&release.to_string()),
            "{text}"
        );
        // The definitions are asked in earnest.
        for (good, bad) in [
            (
                "\"specVersion\":\"1.6\"",
                "\"specVersion\":\"1.6\",\"colour\":1",
            ),
            ("\"SHA-512\"", "\"SHA-513\""),
            ("\"buildType\":", "\"buildKind\":"),
            ("\"passedTests\":", "\"pastTests\":"),
            ("\"predicateType\":", "\"predicate_kind\":"),
            ("\"id\":\"urn:relstore:builder\",", ""),
        ] {
            if text.contains(good) {
                let altered = text.replacen(good, bad, 1).into_bytes();
                assert_ne!(mistakes(&[altered]), "", "{bad}");
            }
        }
    }
}

fn signer(folder: &Path) -> (Arc<KeySigner>, AllowedSigners) {
    let key = folder.join("key");
    let made = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-f"])
        .arg(&key)
        .status();
    assert!(made.unwrap().success());
    let signer = KeySigner::parse(&std::fs::read_to_string(key).unwrap()).unwrap();
    let public = signer.public_key().to_openssh().unwrap();
    let allowed = AllowedSigners::parse(&format!("ci@example.com {public}")).unwrap();
    (Arc::new(signer), allowed)
}

#[tokio::test]
async fn every_record_of_a_build_is_signed() {
    let project = Project::committed();
    let store = project.store();
    let (signer, allowed) = signer(project.root.path());
    let mut request = project.head();
    request.signer = Some(signer);
    let built = project.build(request, &store).await.unwrap();
    let kept = store.make().await.unwrap();
    let records = kept.records(&built.release).await.unwrap();
    let signatures = kept.signatures(&built.release).await.unwrap();
    assert_eq!(records.len(), built.records.len());
    assert_eq!(signatures.len(), records.len());
    for record in &records {
        let (_, signature) = signatures.iter().find(|(id, _)| *id == record.id).unwrap();
        let now = SystemTime::now();
        let identity = allowed.verify(Namespace::Record, &record.json, signature, now);
        assert_eq!(identity.unwrap().principal, "ci@example.com");
    }
    let unsigned = project.build(project.head(), &store).await.unwrap();
    assert_eq!(
        unsigned.release, built.release,
        "signing is no part of what is built"
    );
}

/// Signs twice and then no more, as an agent whose key was taken away.
#[derive(Debug)]
struct Tired(KeySigner, std::sync::atomic::AtomicUsize);

#[async_trait]
impl Signer for Tired {
    fn fingerprint(&self) -> Fingerprint {
        self.0.fingerprint()
    }

    async fn sign(&self, namespace: Namespace, bytes: &[u8]) -> Result<Signature, SignError> {
        if self.1.fetch_add(1, std::sync::atomic::Ordering::Relaxed) < 2 {
            return self.0.sign(namespace, bytes).await;
        }
        Err(SignError::Refused {
            fingerprint: self.fingerprint(),
            said: "agent refused operation".to_owned(),
        })
    }
}

#[tokio::test]
async fn key_that_refuses_leaves_no_release_and_no_record() {
    let project = Project::committed();
    let store = project.store();
    let (signer, _) = signer(project.root.path());
    let mut request = project.head();
    request.signer = Some(Arc::new(Tired((*signer).clone(), 0.into())));
    let error = project.build(request, &store).await.unwrap_err();
    assert!(matches!(error, BuildError::Sign(_)), "{error}");
    assert!(error.hint().unwrap().contains("ssh-add"));
    let kept = store.make().await.unwrap();
    assert_eq!(kept.releases().await.unwrap(), []);
    assert!(!project.root.path().join("store/records").exists());
}

/// The verdicts on a tree, with one gate off.
fn gates_of(root: &Path) -> Vec<gate::GateResult> {
    let context = gate::Context {
        root,
        left_out: &gate::LeftOut::default(),
        search_path: &common::search_path(),
        cache: None,
        cancelled: &false.into(),
    };
    let settings = gate::Settings {
        off: vec!["vite-manifest".to_owned()],
        ..gate::Settings::default()
    };
    gate::run(&context, &settings)
}
