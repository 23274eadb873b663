//! Signatures: what we make ssh-keygen accepts, what it makes we accept, and the store keeps them.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::time::SystemTime;

use relstore_store::allowed_signers::{AllowedSigners, Refusal};
use relstore_store::id::ReleaseId;
use relstore_store::signature::{KeySigner, Namespace, SignError, Signature, Signer};
use relstore_store::testing::ssh_keygen::ssh_keygen;
use relstore_store::{Store, StoreError};

const CONTENT: &[u8] = b"{\"_type\":\"x\"}\n";

/// Makes the key pair `key` in the folder and allows it for records.
fn make_key(folder: &Path, kind: &str, passphrase: &str) -> AllowedSigners {
    let bits = if kind == "rsa" { "2048" } else { "256" };
    let args = ["-q", "-t", kind, "-b", bits, "-N", passphrase, "-f", "key"];
    let (made, said) = ssh_keygen(folder, &args, b"");
    assert!(made, "{said}");
    let public = std::fs::read_to_string(folder.join("key.pub")).unwrap();
    let line = format!("ci@example.com namespaces=\"relstore-*\" {public}");
    std::fs::write(folder.join("allowed"), &line).unwrap();
    AllowedSigners::parse(&line).unwrap()
}

fn signer(folder: &Path) -> Result<KeySigner, SignError> {
    KeySigner::parse(&std::fs::read_to_string(folder.join("key")).unwrap())
}

fn keygen_verifies(folder: &Path, namespace: &str, content: &[u8]) -> bool {
    let args = [
        "-Y",
        "verify",
        "-f",
        "allowed",
        "-I",
        "ci@example.com",
        "-n",
        namespace,
        "-s",
        "sig",
    ];
    ssh_keygen(folder, &args, content).0
}

#[tokio::test]
async fn ssh_keygen_accepts_what_we_sign() {
    for kind in ["ed25519", "ecdsa"] {
        let folder = tempfile::tempdir().unwrap();
        make_key(folder.path(), kind, "");
        let signer = signer(folder.path()).unwrap();
        for namespace in [Namespace::Record, Namespace::Derivation] {
            let signature = signer.sign(namespace, CONTENT).await.unwrap();
            std::fs::write(folder.path().join("sig"), signature.text()).unwrap();
            assert!(
                keygen_verifies(folder.path(), namespace.as_str(), CONTENT),
                "{kind}"
            );
            assert!(
                !keygen_verifies(folder.path(), namespace.as_str(), b"{}\n"),
                "{kind}"
            );
            assert!(!keygen_verifies(folder.path(), "file", CONTENT), "{kind}");
        }
        let (_, said) = ssh_keygen(folder.path(), &["-l", "-f", "key.pub"], b"");
        assert!(said.contains(&signer.fingerprint().to_string()), "{said}");
    }
}

#[test]
fn we_accept_what_ssh_keygen_signs_and_refuse_the_same() {
    let now = SystemTime::now();
    for kind in ["ed25519", "ecdsa", "rsa"] {
        let folder = tempfile::tempdir().unwrap();
        let allowed = make_key(folder.path(), kind, "");
        let args = ["-Y", "sign", "-q", "-f", "key", "-n", "relstore-record@v1"];
        let (signed, text) = ssh_keygen(folder.path(), &args, CONTENT);
        assert!(signed, "{text}");
        let signature = Signature::parse(text.as_bytes()).unwrap();
        let identity = allowed
            .verify(Namespace::Record, CONTENT, &signature, now)
            .unwrap();
        assert_eq!(identity.principal, "ci@example.com");
        for (namespace, content) in [(Namespace::Record, b"{}"), (Namespace::Derivation, b"{}")] {
            let refused = allowed.verify(namespace, content, &signature, now);
            assert!(matches!(refused, Err(Refusal::Wrong { .. })), "{kind}");
        }
        assert!(
            allowed
                .verify(Namespace::Derivation, CONTENT, &signature, now)
                .is_err()
        );
        // Every byte of the armour counts, or is no part of what is signed.
        let altered = text.replacen("U1NIU0lH", "U1NIU0lG", 1);
        assert!(Signature::parse(altered.as_bytes()).is_err());
    }
}

#[test]
fn keys_that_cannot_sign_from_a_file_are_refused_with_a_hint() {
    let folder = tempfile::tempdir().unwrap();
    make_key(folder.path(), "ed25519", "secret phrase");
    let error = signer(folder.path()).unwrap_err();
    assert!(matches!(error, SignError::Encrypted), "{error}");
    assert!(error.hint().unwrap().contains("ssh-add"));
    let folder = tempfile::tempdir().unwrap();
    make_key(folder.path(), "rsa", "");
    let error = signer(folder.path()).unwrap_err();
    assert!(error.to_string().contains("ssh-rsa"), "{error}");
    assert!(matches!(KeySigner::parse("x"), Err(SignError::Key(_))));
}

#[tokio::test]
async fn store_keeps_signatures_beside_the_record() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open_or_create(&folder.path().join("store"))
        .await
        .unwrap();
    let release = ReleaseId::of(b"x");
    let record = store.put_record(&release, CONTENT).await.unwrap();
    let mut fingerprints = Vec::new();
    for name in ["a", "b"] {
        let keys = folder.path().join(name);
        std::fs::create_dir(&keys).unwrap();
        make_key(&keys, "ed25519", "");
        let signature = signer(&keys)
            .unwrap()
            .sign(Namespace::Record, CONTENT)
            .await
            .unwrap();
        for _ in 0..2 {
            store
                .put_signature(&release, &record, &signature)
                .await
                .unwrap();
        }
        fingerprints.push(signature.fingerprint());
    }
    fingerprints.sort();
    let found = store.signatures(&release).await.unwrap();
    let by: Vec<_> = found
        .iter()
        .map(|(_, signature)| signature.fingerprint())
        .collect();
    assert_eq!(by, fingerprints);
    assert!(
        found.iter().all(|(of, signature)| {
            *of == record && signature.matches(Namespace::Record, CONTENT)
        })
    );
    // The record is still the only one.
    assert_eq!(store.records(&release).await.unwrap().len(), 1);

    let name = |key: &str| format!("records/{release}/{record}.{key}.sig");
    let path = |key: &str| folder.path().join("store").join(name(key));
    std::fs::rename(path(&fingerprints[0].hex()), path(&"0".repeat(64))).unwrap();
    let error = store.signatures(&release).await.unwrap_err();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
}

#[tokio::test]
async fn second_signature_by_one_key_leaves_the_first() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open_or_create(&folder.path().join("store"))
        .await
        .unwrap();
    let (release, allowed) = (ReleaseId::of(b"x"), make_key(folder.path(), "ecdsa", ""));
    let record = store.put_record(&release, CONTENT).await.unwrap();
    let args = ["-Y", "sign", "-q", "-f", "key", "-n", "relstore-record@v1"];
    let sign = || {
        let (_, text) = ssh_keygen(folder.path(), &args, CONTENT);
        Signature::parse(text.as_bytes()).unwrap()
    };
    let (first, second) = (sign(), sign());
    assert_ne!(first, second);
    for signature in [&first, &second] {
        store
            .put_signature(&release, &record, signature)
            .await
            .unwrap();
    }
    let found = store.signatures(&release).await.unwrap();
    assert_eq!(found, [(record, first.clone())]);
    let now = SystemTime::now();
    assert!(
        allowed
            .verify(Namespace::Record, CONTENT, &found[0].1, now)
            .is_ok()
    );
}

#[tokio::test]
async fn a_signature_that_does_not_fit_keeps_no_right_one_out() {
    let (folder, release) = (tempfile::tempdir().unwrap(), ReleaseId::of(b"release"));
    make_key(folder.path(), "ed25519", "");
    let store = Store::open_or_create(&folder.path().join("store"))
        .await
        .unwrap();
    let record = store.put_record(&release, CONTENT).await.unwrap();
    let signer = signer(folder.path()).unwrap();
    let wrong = signer
        .sign(Namespace::Record, b"something else")
        .await
        .unwrap();
    store
        .put_signature(&release, &record, &wrong)
        .await
        .unwrap();
    let right = signer.sign(Namespace::Record, CONTENT).await.unwrap();
    store
        .put_signature(&release, &record, &right)
        .await
        .unwrap();
    let found = store.signatures(&release).await.unwrap();
    assert!(
        found
            .iter()
            .any(|(_, one)| one.matches(Namespace::Record, CONTENT))
    );
    // Again, and the other way round, adds nothing.
    store
        .put_signature(&release, &record, &right)
        .await
        .unwrap();
    store
        .put_signature(&release, &record, &wrong)
        .await
        .unwrap();
    assert_eq!(store.signatures(&release).await.unwrap().len(), 2);
}
