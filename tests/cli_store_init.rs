//! `relstore store init`: a folder, a bucket, and places that are refused.

use relstore_store::testing::garage::{self, Garage};

use crate::common::TestEnv;

#[test]
fn folder_becomes_a_store_and_is_probed_again_later() {
    let env = TestEnv::new();
    let ran = env.run(["store", "init", "./made"]).ok();
    assert!(
        ran.stdout
            .starts_with("a store was made at $ROOT/project/made\n")
            && ran.stdout.contains("lets one of several writers win   yes")
            && !ran.stdout.contains("If-None-Match"),
        "{}",
        ran.all()
    );
    let again = env.run(["store", "init", "./made", "--json"]).ok().json();
    assert_eq!(again["made"], false);
    let kept = std::fs::read(env.project().join("made/probe.json")).unwrap();
    let kept: serde_json::Value = serde_json::from_slice(&kept).unwrap();
    assert_eq!(kept, again["findings"]);
    let left = std::fs::read_dir(env.project().join("made/probes")).unwrap();
    assert_eq!(left.count(), 0);
    assert!(
        env.run(["list", "--store", "./made"])
            .ok()
            .stdout
            .contains("no release")
    );
}

#[test]
fn folder_of_others_is_refused_and_left_alone() {
    let env = TestEnv::new();
    env.write("index.html", "mine");
    let ran = env.run(["store", "init", "."]).fails(3);
    assert!(ran.stderr.contains("holds other files"), "{}", ran.all());
    assert_eq!(std::fs::read_dir(env.project()).unwrap().count(), 1);
}

#[test]
fn bucket_becomes_a_store_and_its_conditions_are_found_to_be_ignored() {
    let garage = Garage::start(1);
    let mut env = TestEnv::new();
    for name in ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION"] {
        env.set(name, &Garage::variable(name).unwrap());
    }
    env.write(
        "relstore.toml",
        &format!(
            "app = \"notes\"\n[store.remotes.bucket]\nurl = \"s3://{}/notes\"\nendpoint = \"{}\"\npath_style = true\n",
            garage::BUCKET,
            garage.endpoint(0)
        ),
    );
    let ran = env.run(["push", "latest", "--to", "bucket"]);
    assert!(!ran.stderr.contains("panicked"), "{}", ran.all());
    let made = env.run(["store", "init", "bucket", "--json"]).ok().json();
    assert_eq!(made["store"], "s3://releases/notes");
    assert_eq!(
        (&made["made"], &made["findings"]["conditional_put"]),
        (&true.into(), &false.into())
    );
    let ran = env.run(["store", "init", "bucket"]).ok();
    assert!(
        ran.stdout
            .starts_with("there is a store at s3://releases/notes\n")
            && ran.stdout.contains("honours If-None-Match             no"),
        "{}",
        ran.all()
    );
    let url = format!("s3://{}/notes", garage::BUCKET);
    assert!(
        env.run(["list", "--store", &url])
            .ok()
            .stdout
            .contains("no release")
    );
}
