//! What is said about a release: `relstore show`, and `[signing]` with real keys and a real agent.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use relstore_store::id::RecordId;
use serde_json::json;

use crate::common::TestEnv;

const LOCK: &str = r#"{"packages": [
    {"name": "laravel/framework", "version": "v11.1.0", "license": ["MIT"]},
    {"name": "acme/own", "version": "1.0"}],
  "packages-dev": [{"name": "mockery/mockery", "version": "1.5.1", "license": ["BSD-3-Clause"]}]}"#;

/// A committed application, and a Composer that installs nothing but the autoloader.
fn application() -> TestEnv {
    let mut env = TestEnv::new();
    for path in [
        "artisan",
        "public/index.php",
        "bootstrap/x.php",
        "config/x.php",
        "routes/x.php",
        "app/x.php",
    ] {
        env.write(path, "<?php\n");
    }
    env.write("public/build/manifest.json", "{}");
    env.write("composer.json", "{}");
    env.write("composer.lock", LOCK);
    env.program(
        "composer",
        "case $1 in --version) echo 'Composer version 2.9';; *) mkdir -p vendor/composer; echo '<?php' > vendor/autoload.php; echo > vendor/composer/x;; esac",
    );
    env.program("php", "echo 8.3.1");
    configure(&env, "");
    env.commit("First");
    env
}

fn configure(env: &TestEnv, signing: &str) {
    let text = format!("app = \"notes\"\n[build]\nsteps = [\"composer\"]\n{signing}");
    env.write("relstore.toml", &text);
}

/// Makes a key pair in the home folder, and the file of allowed signers in the project.
fn key(env: &TestEnv, kind: &str, passphrase: &str) -> PathBuf {
    let key = env.root().join("home/key");
    let made = env
        .command("ssh-keygen")
        .args(["-q", "-t", kind, "-N", passphrase, "-C", "comment", "-f"])
        .arg(&key)
        .status();
    assert!(made.unwrap().success());
    let public = fs::read_to_string(key.with_extension("pub")).unwrap();
    let line = format!("ci@example.com namespaces=\"relstore-*\" {public}");
    env.write("allowed_signers", &line);
    key
}

/// Records of the only release with their signatures, as they lie in the store.
fn stored(env: &TestEnv) -> Vec<(PathBuf, Vec<PathBuf>)> {
    let files: Vec<PathBuf> = env
        .contents(&env.store().join("records"))
        .into_iter()
        .map(|(path, _)| path)
        .collect();
    let ends = |path: &Path, end: &str| path.extension().is_some_and(|is| is == end);
    let records = files.iter().filter(|path| ends(path, "json"));
    records
        .map(|record| {
            let stem = record.file_stem().unwrap().to_str().unwrap();
            let of = |path: &&PathBuf| {
                path.file_name()
                    .unwrap()
                    .to_str()
                    .unwrap()
                    .starts_with(stem)
            };
            let signatures = files.iter().filter(|path| ends(path, "sig")).filter(of);
            (record.clone(), signatures.cloned().collect())
        })
        .collect()
}

fn assert_ssh_keygen_accepts_all(env: &TestEnv) {
    let stored = stored(env);
    assert!(stored.len() > 2, "{stored:?}");
    for (record, signatures) in stored {
        assert_eq!(signatures.len(), 1, "{record:?}");
        let verified = env
            .command("ssh-keygen")
            .args([
                "-Y",
                "verify",
                "-f",
                "allowed_signers",
                "-I",
                "ci@example.com",
            ])
            .args(["-n", "relstore-record@v1", "-s"])
            .arg(&signatures[0])
            .stdin(Stdio::from(fs::File::open(record).unwrap()))
            .current_dir(env.project())
            .output()
            .unwrap();
        assert!(verified.status.success(), "{verified:?}");
    }
}

#[test]
fn show_tells_all_that_is_recorded() {
    let env = application();
    env.run(["build"]).ok();
    let text = env.run(["show", "latest"]).ok().stdout;
    for line in [
        "steps     composer 0.",
        "tools     Composer version 2.9, php 8.3.1",
        "packages  3 composer (1 not required)",
        "licences  1 MIT, 1 without",
        "gates     ",
        "records   ",
    ] {
        assert!(text.contains(&format!("\n{line}")), "{line}: {text}");
    }
    assert!(!text.contains("signed"), "{text}");
    let json = env.run(["show", "latest", "--json"]).ok().json();
    assert_eq!(json["builds"][0]["steps"][0]["name"], "composer");
    assert_eq!(json["materials"]["packages"]["composer"]["all"], 3);
    assert_eq!(json["builds"][0]["steps"][0]["cached"], false);
    assert_eq!(json["records"][0]["signatures"], json!([]));
    // What the first build made is known to the second.
    env.run(["build"]).ok();
    let text = env.run(["show", "latest"]).ok().stdout;
    assert!(text.contains("\nsteps     composer cached, "), "{text}");
}

#[test]
fn records_are_printed_byte_for_byte() {
    let env = application();
    env.run(["build"]).ok();
    let list = env.run(["show", "latest", "--records"]).ok().stdout;
    let kinds: Vec<&str> = list
        .lines()
        .map(|line| line.split_whitespace().nth(1).unwrap())
        .collect();
    let id = |kind: &str| {
        let line = list.lines().find(|line| line.contains(kind)).unwrap();
        line.split_whitespace().next().unwrap().to_owned()
    };
    let mut sorted = kinds.clone();
    sorted.retain(|kind| *kind != "application");
    sorted.sort_unstable();
    assert_eq!(sorted, ["gates", "provenance", "sbom"]);
    let print = |option: &[&str]| env.run([&["show", "latest"], option].concat()).ok().stdout;
    for (option, kind) in [("--sbom", "sbom"), ("--provenance", "provenance")] {
        let printed = print(&[option]);
        assert_eq!(RecordId::of(printed.as_bytes()).to_string(), id(kind));
        assert_eq!(print(&["--record", &id(kind)[..16]]), printed);
    }
    env.run(["show", "latest", "--sbom", "--provenance"])
        .fails(2);
    let ran = env.run(["show", "latest", "--record", "0000"]).fails(3);
    assert!(ran.stderr.contains("--records"), "{}", ran.stderr);
    let old = env.stored(&[("a", "1", false)], &"a".repeat(40));
    let ran = env.run(["show", &old.to_string(), "--sbom"]).fails(3);
    assert!(
        ran.stderr.contains("has no bill of materials"),
        "{}",
        ran.stderr
    );
}

#[test]
fn key_file_signs_what_ssh_keygen_accepts() {
    for kind in ["ed25519", "ecdsa"] {
        let env = application();
        key(&env, kind, "");
        configure(
            &env,
            "[signing]\nkey = \"~/key\"\nallowed_signers = \"allowed_signers\"\n",
        );
        env.run(["build"]).ok();
        assert_ssh_keygen_accepts_all(&env);
        let text = env.run(["show", "latest"]).ok().stdout;
        let all = stored(&env).len();
        let line = format!("signed    {all} of {all} records by ci@example.com, SHA256:");
        assert!(text.contains(&line), "{text}");
        let public = fs::read_to_string(env.root().join("home/key.pub")).unwrap();
        env.write("revoked", &public);
        let settings = "[signing]\nallowed_signers = \"allowed_signers\"\nrevoked = \"revoked\"\n";
        configure(&env, settings);
        let text = env.run(["show", "latest"]).ok().stdout;
        assert!(text.contains("was revoked"), "{text}");
        env.write("revoked", "a key\n");
        let told = env.run(["show", "latest"]).fails(3).stderr;
        assert!(told.contains("line 1 of the revoked keys"), "{told}");
        env.write("revoked", "");
        env.write("allowed_signers", "# nobody\n");
        let text = env.run(["show", "latest"]).ok().stdout;
        assert!(text.contains("records, but the key SHA256:"), "{text}");
    }
}

#[test]
fn import_signs_its_record_too() {
    let env = application();
    key(&env, "ed25519", "");
    configure(
        &env,
        "[signing]\nkey = \"~/key\"\nallowed_signers = \"allowed_signers\"\n",
    );
    env.run(["import", ".", "--layout", "plain"]).ok();
    let text = env.run(["show", "latest"]).ok().stdout;
    assert!(
        text.contains("signed    1 of 1 record by ci@example.com"),
        "{text}"
    );
}

#[test]
fn altered_record_keeps_no_signature() {
    let env = application();
    key(&env, "ed25519", "");
    configure(
        &env,
        "[signing]\nkey = \"~/key\"\nallowed_signers = \"allowed_signers\"\n",
    );
    env.run(["build"]).ok();
    let (record, signatures) = stored(&env).remove(0);
    let altered = [fs::read(&record).unwrap(), b"\n".to_vec()].concat();
    let id = RecordId::of(&altered).to_string();
    let stem = record.file_stem().unwrap().to_str().unwrap();
    fs::write(record.with_file_name(format!("{id}.json")), &altered).unwrap();
    let name = signatures[0].file_name().unwrap().to_str().unwrap();
    fs::copy(
        &signatures[0],
        record.with_file_name(name.replace(stem, &id)),
    )
    .unwrap();
    let list = env.run(["show", "latest", "--records"]).ok().stdout;
    let line = list.lines().find(|line| line.starts_with(&id)).unwrap();
    assert!(line.contains("is not over this content"), "{line}");
}

/// A real agent, ended by its number.
struct Agent(Child);

impl Agent {
    fn start(env: &mut TestEnv, key: &Path) -> Self {
        let socket = env.root().join("agent");
        let agent = env
            .command("ssh-agent")
            .args(["-D", "-a"])
            .arg(&socket)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let agent = Self(agent);
        while !socket.exists() {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        env.set("SSH_AUTH_SOCK", socket.to_str().unwrap());
        let added = env.command("ssh-add").arg("-q").arg(key).status();
        assert!(added.unwrap().success());
        // From here on only the agent has it.
        fs::remove_file(key).unwrap();
        agent
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn key_in_an_agent_signs_what_ssh_keygen_accepts() {
    for kind in ["ed25519", "rsa"] {
        let mut env = application();
        let key = key(&env, kind, "");
        let agent = Agent::start(&mut env, &key);
        configure(
            &env,
            "[signing]\nkey = \"~/key.pub\"\nallowed_signers = \"allowed_signers\"\n",
        );
        let release = env.run(["build"]).ok().stdout;
        assert_ssh_keygen_accepts_all(&env);
        let text = env.run(["show", "latest"]).ok().stdout;
        assert!(text.contains(" records by ci@example.com"), "{text}");

        drop(agent);
        env.write("app/x.php", "<?php // new\n");
        env.commit("Second");
        let before = env.contents(&env.store().join("releases"));
        let ran = env.run(["build"]).fails(1);
        assert!(
            ran.stderr.contains("the release was not signed"),
            "{}",
            ran.stderr
        );
        assert!(ran.stderr.contains("ssh-add -l"), "{}", ran.stderr);
        assert_eq!(env.contents(&env.store().join("releases")), before);
        assert_eq!(
            env.run(["list", "--json"]).ok().json()["releases"]
                .as_array()
                .unwrap()
                .len(),
            1
        );
        assert_eq!(
            env.run(["show", "latest", "--json"]).ok().json()["release"],
            release.trim()
        );
    }
}

#[test]
fn key_that_cannot_sign_is_told_before_the_build() {
    let env = application();
    for (key_file, said, hint) in [
        ("none", "cannot read the signing key", ""),
        ("key", "the key has a passphrase", "ssh-add"),
        ("key.pub", "SSH_AUTH_SOCK is not set", "ssh-agent"),
        ("text", "it is no SSH key", "ssh-keygen -t ed25519"),
    ] {
        if key_file == "key" {
            key(&env, "ed25519", "a long phrase");
        }
        fs::write(env.root().join("home/text"), "s3ntinel").unwrap();
        configure(&env, &format!("[signing]\nkey = \"~/{key_file}\"\n"));
        let ran = env.run(["build"]).fails(3);
        assert!(
            ran.stderr.contains(said) && ran.stderr.contains(hint),
            "{}",
            ran.stderr
        );
        assert!(!ran.stderr.contains("s3ntinel") && !env.store().exists());
    }
    configure(&env, "[signing]\nallowed_signers = \"allowed_signers\"\n");
    env.run(["build"]).ok();
    env.write(
        "allowed_signers",
        "ci@example.com cert-authority ssh-ed25519 AAAA\n",
    );
    let ran = env.run(["show", "latest"]).fails(3);
    assert!(
        ran.stderr.contains("line 1 of the allowed signers"),
        "{}",
        ran.stderr
    );
}
