//! The umask belongs to the whole process, hence a test binary of its own.
#![allow(clippy::unwrap_used)]

mod common;

use common::Project;
use relstore_builder::SourceSpec;
use rustix::fs::Mode;

#[tokio::test]
async fn release_does_not_depend_on_the_umask() {
    let mut releases = Vec::new();
    for mask in [0o022, 0o077, 0o000, 0o027, 0o111] {
        rustix::process::umask(Mode::from_raw_mode(mask));
        let project = Project::committed();
        let store = project.store();
        for source in [SourceSpec::Commit("HEAD".to_owned()), SourceSpec::WorkTree] {
            let built = project
                .build(project.request(source), &store)
                .await
                .unwrap();
            releases.push(built.release);
        }
    }
    releases.dedup();
    assert_eq!(releases.len(), 1);
}
