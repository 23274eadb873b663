//! Whose derivations are used: a tree of a derivation could be any code.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use common::{Project, path, ran};
use relstore_builder::derivation::Derivation;
use relstore_builder::step::CommandLine;
use relstore_builder::{
    BuildError, BuildRequest, Built, How, SourceSpec, StepSettings, StorePlace,
};

use relstore_store::allowed_signers::AllowedSigners;
use relstore_store::derivation::Derivation as Stored;
use relstore_store::import::{Layout, ReleaseTree};
use relstore_store::signature::{KeySigner, Namespace, Signature, Signer};

const MADE: &str = "public/made/file";

/// A project whose one step makes a file, a store that others write into, and two keys.
struct Shared {
    project: Project,
    store: StorePlace,
    ours: Arc<KeySigner>,
    theirs: Arc<KeySigner>,
}

impl Shared {
    fn new() -> Self {
        let project = Project::committed();
        let store = project.store();
        let key = |name: &str| {
            let file = project.root.path().join(name);
            let mut make = Command::new("ssh-keygen");
            make.args(["-q", "-t", "ed25519", "-N", "", "-f"]);
            assert!(make.arg(&file).status().unwrap().success());
            Arc::new(KeySigner::parse(&std::fs::read_to_string(file).unwrap()).unwrap())
        };
        let (ours, theirs) = (key("ours"), key("theirs"));
        Self {
            project,
            store,
            ours,
            theirs,
        }
    }

    /// A request that signs and trusts nobody.
    fn request(&self) -> BuildRequest {
        let mut request = self.project.request(SourceSpec::WorkTree);
        let script = format!("mkdir -p public/made; echo honest > {MADE}");
        let settings = StepSettings {
            run: vec![CommandLine::new(["sh", "-c", &script])],
            inputs: Some(vec!["app".to_owned()]),
            outputs: vec![path("public/made")],
            ..StepSettings::default()
        };
        request.wanted.settings = BTreeMap::from([("made".to_owned(), settings)]);
        request
    }

    async fn build_signed(&self, signer: Option<&Arc<KeySigner>>) -> Built {
        let mut request = self.request();
        request.signer = signer.map(|signer| Arc::clone(signer) as Arc<dyn Signer>);
        self.project.build(request, &self.store).await.unwrap()
    }

    /// Builds with our key alone trusted; `options` stand before it in the file.
    async fn build_trusting(&self, options: &str) -> Result<Built, BuildError> {
        let public = self.ours.public_key().to_openssh().unwrap();
        let line = format!("ci@example.com {options} {public}");
        let mut request = self.request();
        request.trusted_builders = Some(AllowedSigners::parse(&line).unwrap());
        self.project.build(request, &self.store).await
    }

    async fn derivation(&self, built: &Built) -> Stored {
        let store = self.store.make().await.unwrap();
        let found = store.derivations(&built.steps[0].key).await.unwrap();
        found.into_iter().next().unwrap()
    }

    /// Adds a derivation of the same key with code of somebody else, newer than all others.
    async fn attack(&self, built: &Built, signature: Option<&Signature>) {
        let folder = self.project.root.path().join("attack");
        std::fs::create_dir_all(folder.join("public/made")).unwrap();
        std::fs::write(folder.join(MADE), "hostile\n").unwrap();
        let tree = ReleaseTree {
            root: folder,
            layout: Layout::default(),
        };
        let store = self.store.make().await.unwrap();
        let hostile = store.import(&tree, &|_| {}).await.unwrap().release;
        let key = &built.steps[0].key;
        let honest = self.derivation(built).await.record.json;
        let altered = Derivation {
            tree: hostile,
            ..Derivation::parse(&honest, key).unwrap()
        };
        tokio::time::sleep(Duration::from_millis(20)).await;
        let record = store.put_derivation(key, &altered.to_json()).await;
        if let Some(signature) = signature {
            let record = record.unwrap();
            let put = store.put_derivation_signature(key, &record, signature);
            put.await.unwrap();
        }
    }

    async fn made(&self, built: &Built) -> String {
        let store = self.store.make().await.unwrap();
        let manifest = store.manifest(&built.release).await.unwrap();
        let (blob, _) = manifest.get(&path(MADE)).unwrap().kind.content().unwrap();
        String::from_utf8(store.read_blob(&blob).await.unwrap().to_vec()).unwrap()
    }
}

#[tokio::test]
async fn a_derivation_of_a_trusted_builder_is_used_and_the_provenance_names_who_signed_it() {
    let shared = Shared::new();
    let first = shared.build_signed(Some(&shared.ours)).await;
    let built = shared.build_trusting("").await.unwrap();
    let How::Cached { record, signer } = &built.steps[0].how else {
        panic!("{:?}", built.steps)
    };
    assert_eq!(*record, shared.derivation(&first).await.record.id);
    let fingerprint = shared.ours.fingerprint().to_string();
    assert_eq!(signer.as_deref(), Some(fingerprint.as_str()));
    let store = shared.store.make().await.unwrap();
    let records = store.records(&built.release).await.unwrap();
    let named = |json: &[u8]| String::from_utf8_lossy(json).contains(&fingerprint);
    assert!(records.iter().any(|record| named(&record.json)));

    // Nobody asked who made it: nobody is named.
    let built = shared.build_signed(None).await;
    assert!(matches!(
        &built.steps[0].how,
        How::Cached { signer: None, .. }
    ));
}

#[tokio::test]
async fn a_derivation_that_no_trusted_builder_signed_is_made_anew() {
    let shared = Shared::new();
    let built = shared.build_signed(None).await;
    let built_again = shared.build_trusting("").await.unwrap();
    assert_eq!(ran(&built_again), ["made"]);
    assert_eq!(built_again.release, built.release);

    let shared = Shared::new();
    shared.build_signed(Some(&shared.theirs)).await;
    assert_eq!(ran(&shared.build_trusting("").await.unwrap()), ["made"]);
}

#[tokio::test]
async fn a_key_counts_for_its_purpose_and_its_time_alone() {
    for (options, counts) in [
        ("namespaces=\"relstore-derivation@v1\"", true),
        ("namespaces=\"relstore-record@v1\"", false),
        // It is November 2023.
        ("valid-before=\"20240101Z\"", true),
        ("valid-before=\"20230101Z\"", false),
        ("valid-after=\"20240101Z\"", false),
    ] {
        let shared = Shared::new();
        shared.build_signed(Some(&shared.ours)).await;
        let built = shared.build_trusting(options).await.unwrap();
        assert_eq!(ran(&built).is_empty(), counts, "{options}");
    }
}

#[tokio::test]
async fn a_signature_for_another_purpose_does_not_count() {
    let shared = Shared::new();
    let built = shared.build_signed(None).await;
    let known = shared.derivation(&built).await.record;
    let signature = shared.ours.sign(Namespace::Record, &known.json);
    let signature = signature.await.unwrap();
    let store = shared.store.make().await.unwrap();
    let key = &built.steps[0].key;
    let put = store.put_derivation_signature(key, &known.id, &signature);
    put.await.unwrap();
    assert_eq!(ran(&shared.build_trusting("").await.unwrap()), ["made"]);
}

#[tokio::test]
async fn code_of_others_under_the_same_key_is_taken_by_nobody_who_asks_whose_it_is() {
    let shared = Shared::new();
    let built = shared.build_signed(Some(&shared.ours)).await;
    shared.attack(&built, None).await;
    let trusting = shared.build_trusting("").await.unwrap();
    assert!(ran(&trusting).is_empty());
    assert_eq!(shared.made(&trusting).await, "honest\n");
    // The attack is one.
    let trustful = shared.build_signed(None).await;
    assert_eq!(shared.made(&trustful).await, "hostile\n");
}

#[tokio::test]
async fn an_altered_record_is_not_saved_by_the_signature_of_the_original() {
    let shared = Shared::new();
    let built = shared.build_signed(Some(&shared.ours)).await;
    let original = shared.derivation(&built).await.record;
    let store = shared.store.make().await.unwrap();
    let key = built.steps[0].key;
    let signatures = store.derivation_signatures(&key, &original.id).await;
    shared.attack(&built, Some(&signatures.unwrap()[0])).await;
    let folder = shared.project.root.path().join("store/derivations");
    let place = folder
        .join(key.to_string())
        .join(format!("{}.json", original.id));
    std::fs::remove_file(&place).unwrap();
    let trusting = shared.build_trusting("").await.unwrap();
    assert_eq!(ran(&trusting), ["made"]);
    assert_eq!(shared.made(&trusting).await, "honest\n");

    // In its own place it does not have its own name any more.
    let text = String::from_utf8(original.json.to_vec()).unwrap();
    std::fs::write(&place, text.replace("\"sandboxed\"", "\"sand\"")).unwrap();
    let again = shared.build_trusting("").await.unwrap();
    assert_eq!(ran(&again), ["made"]);
    assert_eq!(shared.made(&again).await, "honest\n");
}
