//! A store on a disk that is really full, and one behind a real sshd.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use super::site::variable;
use crate::cli_concurrent::Campaign;
use crate::common::TestEnv;

/// A file system of its own in a file. Gone with the test.
struct Disk {
    folder: tempfile::TempDir,
}

impl Disk {
    fn new(kind: &str, megabytes: u64) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("relstore-disk-")
            .tempdir_in("/var/tmp")
            .unwrap();
        let image = folder.path().join("image");
        fs::File::create(&image)
            .unwrap()
            .set_len(megabytes << 20)
            .unwrap();
        let disk = Self { folder };
        fs::create_dir(disk.root()).unwrap();
        for (program, arguments) in [
            (format!("mkfs.{kind}"), vec!["-q".as_ref(), image.as_path()]),
            (
                "mount".into(),
                vec!["-oloop".as_ref(), image.as_path(), &disk.root()],
            ),
        ] {
            let status = Command::new(&program).args(arguments).status();
            assert!(status.unwrap().success(), "{program}");
        }
        disk
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("disk")
    }

    /// Fills it but for so many bytes.
    fn fill(&self, left: u64) -> PathBuf {
        let filler = self.root().join("filler");
        let mut size = 0;
        let mut file = fs::File::create(&filler).unwrap();
        let piece = vec![1; 64 << 10];
        while std::io::Write::write_all(&mut file, &piece).is_ok() {
            size += piece.len() as u64;
        }
        file.set_len(size.saturating_sub(left)).unwrap();
        file.sync_all().unwrap();
        filler
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount")
            .arg("--lazy")
            .arg(self.root())
            .status();
    }
}

/// Bytes that do not compress.
fn noise(seed: u8, length: usize) -> Vec<u8> {
    let mut state = u64::from(seed) + 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..length).map(|_| next()).collect()
}

fn survives_a_full_disk(kind: &str, megabytes: u64) {
    let env = TestEnv::new();
    env.write("relstore.toml", "app = \"notes\"\n");
    let disk = Disk::new(kind, megabytes);
    let store = disk.root().join("store");
    let store = store.to_str().unwrap();
    let tree = |name: &str, seed: u8, length: usize| {
        let folder = env.project().join(name);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("file"), noise(seed, length)).unwrap();
    };
    tree("small", 1, 50_000);
    tree("large", 2, 8_000_000);
    let import =
        |name: &str, to: &str| env.run(["import", name, "--layout", "plain", "--store", to]);
    let first = import("small", store).ok().stdout;
    let filler = disk.fill(1 << 20);
    let full = import("large", store).fails(1);
    assert!(full.stderr.contains("make room"), "{kind}: {}", full.stderr);
    // A push is cut in the same way.
    let second = import("large", "other").ok().stdout;
    let pushed = env
        .run(["push", "--store", "other", "--to", store])
        .fails(1);
    assert!(
        pushed.stderr.contains("make room"),
        "{kind}: {}",
        pushed.stderr
    );
    let listed = env.run(["list", "--json", "--store", store]).ok().json();
    assert_eq!(listed["releases"].as_array().unwrap().len(), 1, "{kind}");
    env.run(["manifest", first.trim(), "--store", store]).ok();
    env.run(["fsck", "--full", "--store", store]).ok();
    fs::remove_file(filler).unwrap();
    env.run(["push", "--store", "other", "--to", store]).ok();
    env.run(["manifest", second.trim(), "--store", store]).ok();
    env.run(["fsck", "--full", "--store", store]).ok();
}

#[test]
fn a_full_ext4_loses_nothing() {
    survives_a_full_disk("ext4", 64);
}

#[test]
fn a_full_xfs_loses_nothing() {
    survives_a_full_disk("xfs", 320);
}

#[test]
fn fifty_pushes_over_ssh_survive_collections_kills_and_freezes() {
    let env = TestEnv::new();
    let grace = std::time::Duration::from_secs(3);
    let folder = format!("/home/deploy/store-{}", std::process::id());
    let target = format!(
        "ssh://deploy@127.0.0.1:{}{folder}",
        variable("RELSTORE_SSH_PORT")
    );
    let remote = format!(
        "[store.remotes.target]\nurl = {target:?}\nidentity_file = {:?}\nknown_hosts = {:?}\n",
        variable("RELSTORE_SSH_KEY"),
        variable("RELSTORE_KNOWN_HOSTS"),
    );
    let campaign = Campaign::new(env, &target, true, grace, &remote);
    campaign.prepare();
    campaign.passes(13);
    fs::remove_dir_all(folder).unwrap();
}
