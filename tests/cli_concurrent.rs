//! Many programs at once on one store while garbage is collected: some are killed, some stand
//! still for longer than a whole collection. What one of them reported as stored is there.

use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use relstore_store::testing::garage::{self, Garage};

use crate::common::TestEnv;

/// Releases that are stored.
const JOBS: usize = 50;
/// Programs at once, beside the collector.
const WORKERS: usize = 6;
/// How much longer releases are kept than the test asks for: until a collector knows the time.
const MARGIN: Duration = Duration::from_secs(5);

/// A sequence that only looks random.
struct Dice(u64);

impl Dice {
    fn next(&mut self, below: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below
    }
}

pub(crate) struct Campaign {
    env: TestEnv,
    /// Where all of them write.
    target: String,
    /// The configuration, with `KEEP` for how long releases are kept.
    settings: String,
    /// Whether releases are pushed there, or imported.
    pushes: bool,
    /// Between mark and deletion.
    grace: Duration,
    reported: Mutex<Vec<String>>,
    killed: AtomicUsize,
    frozen: AtomicUsize,
}

impl Campaign {
    pub(crate) fn new(
        env: TestEnv,
        target: &str,
        pushes: bool,
        grace: Duration,
        more: &str,
    ) -> Self {
        let settings = settings(grace, more);
        env.write("relstore.toml", &settings.replace("KEEP", "1h"));
        for at in 0..JOBS {
            for file in 0..8 {
                // Files are shared by many trees, and one is of each tree alone.
                let text = format!("{}\n", (at / 4 + file) % 12).repeat(200);
                env.write(&format!("trees/{at}/shared-{file}"), &text);
            }
            env.write(&format!("trees/{at}/own"), &format!("tree {at}\n"));
        }
        Self {
            env,
            target: target.to_owned(),
            settings,
            pushes,
            grace,
            reported: Mutex::default(),
            killed: AtomicUsize::new(0),
            frozen: AtomicUsize::new(0),
        }
    }

    /// Makes the store.
    pub(crate) fn prepare(&self) {
        self.env.run(["store", "init", &self.target]).ok();
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.env.command(env!("CARGO_BIN_EXE_relstore"));
        command.args(arguments).current_dir(self.env.project());
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    fn job(&self, at: usize) -> Child {
        let tree = format!("trees/{at}");
        let command = match self.pushes {
            false => self.command(&[
                "import",
                &tree,
                "--layout",
                "plain",
                "--store",
                &self.target,
            ]),
            true => {
                let own = format!("own/{at}");
                let imported = self
                    .command(&["import", &tree, "--layout", "plain", "--store", &own])
                    .output();
                assert!(imported.unwrap().status.success());
                self.command(&["push", "--store", &own, "--to", "target"])
            }
        };
        { command }.spawn().unwrap()
    }

    /// Runs a job, and perhaps disturbs it.
    fn run(&self, at: usize, dice: &mut Dice) {
        let child = self.job(at);
        let pid = child.id().to_string();
        let signal = |name: &str| {
            let sent = Command::new("kill")
                .args([name, &pid])
                .stderr(Stdio::null())
                .status();
            sent.unwrap().success()
        };
        let moment = Duration::from_millis(dice.next(150));
        match dice.next(5) {
            0 => {
                std::thread::sleep(moment);
                self.killed
                    .fetch_add(usize::from(signal("-KILL")), Ordering::SeqCst);
            }
            1 => {
                std::thread::sleep(moment);
                self.frozen
                    .fetch_add(usize::from(signal("-STOP")), Ordering::SeqCst);
                std::thread::sleep(2 * self.grace + Duration::from_secs(1));
                signal("-CONT");
            }
            _ => {}
        }
        let ended = child.wait_with_output().unwrap();
        if ended.status.success() {
            let release = String::from_utf8(ended.stdout).unwrap().trim().to_owned();
            assert_eq!(release.len(), 64);
            self.reported.lock().unwrap().push(release);
        }
    }

    /// Collects garbage. While a writer that stood still is about to store again what it has lost,
    /// its release cannot be read, and nothing is deleted; nor is by a collector that was too slow.
    fn collect(&self, since: Instant, at_rest: bool) {
        let keep = since.elapsed() + MARGIN;
        let text = self
            .settings
            .replace("KEEP", &format!("{}s", keep.as_secs() + 1));
        self.env.write("collector.toml", &text);
        let ran = self
            .command(&["gc", "--config", "collector.toml", "--store", &self.target])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&ran.stderr);
        let harmless = ["is not in the store", "stood still for too long"];
        let harmless = harmless.iter().any(|text| said.contains(text));
        assert!(ran.status.success() || (harmless && !at_rest), "{said}");
    }

    fn all(&self, seed: u64) {
        let next = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for worker in 0..WORKERS {
                let next = &next;
                scope.spawn(move || {
                    let mut dice = Dice(seed * 1000 + worker as u64);
                    loop {
                        let at = next.fetch_add(1, Ordering::SeqCst);
                        if at >= JOBS {
                            return;
                        }
                        self.run(at, &mut dice);
                    }
                });
            }
        });
    }

    /// Everything twice: while what was stored first is old enough to be garbage.
    pub(crate) fn passes(&self, seed: u64) {
        self.all(seed);
        let first = std::mem::take(&mut *self.reported.lock().unwrap());
        assert!(first.len() >= JOBS / 2, "{} of {JOBS}", first.len());
        std::thread::sleep(MARGIN + Duration::from_secs(2));
        let done = AtomicBool::new(false);
        let began = Instant::now();
        std::thread::scope(|scope| {
            let collector = scope.spawn(|| {
                let mut runs = 0;
                while !done.load(Ordering::SeqCst) {
                    self.collect(began, false);
                    runs += 1;
                }
                runs
            });
            self.all(seed + 1);
            done.store(true, Ordering::SeqCst);
            assert!(collector.join().unwrap() >= 3);
        });
        let reported = self.reported.lock().unwrap();
        assert!(reported.len() >= JOBS / 2, "{} of {JOBS}", reported.len());
        let disturbed = [&self.killed, &self.frozen].map(|count| count.load(Ordering::SeqCst));
        assert!(disturbed.iter().all(|count| *count > 2), "{disturbed:?}");
        for release in reported.iter() {
            let ran = self
                .command(&["check", release, "--store", &self.target, "--json"])
                .output()
                .unwrap();
            // No gate holds for these trees; what counts is that the release could be laid out.
            let said = String::from_utf8_lossy(&ran.stdout).into_owned();
            assert!(
                ran.status.success() || said.contains("gate"),
                "{release}: {said}"
            );
        }
        drop(reported);
        let checked = self
            .command(&["fsck", "--full", "--store", &self.target])
            .output()
            .unwrap();
        assert!(
            checked.status.success(),
            "{}{}",
            String::from_utf8_lossy(&checked.stdout),
            String::from_utf8_lossy(&checked.stderr)
        );
        std::thread::sleep(self.grace);
        self.collect(began, true);
        self.collect(began, true);
    }
}

fn settings(grace: Duration, more: &str) -> String {
    format!(
        "app = \"notes\"\n[store]\nkeep_last = 1\nkeep_for = \"KEEP\"\ngrace = \"{}s\"\n{more}",
        grace.as_secs()
    )
}

#[test]
fn fifty_imports_at_once_survive_collections_kills_and_freezes() {
    let env = TestEnv::new();
    let grace = Duration::from_secs(2);
    Campaign::new(env, "target", false, grace, "").passes(1);
}

#[test]
fn fifty_pushes_into_a_bucket_survive_collections_kills_and_freezes() {
    let garage = Garage::start(1);
    let mut env = TestEnv::new();
    env.set("AWS_ACCESS_KEY_ID", garage::KEY_ID);
    env.set("AWS_SECRET_ACCESS_KEY", garage::SECRET);
    let remote = format!(
        "[store.remotes.target]\nurl = \"s3://{}/app\"\nendpoint = \"{}\"\nregion = \"{}\"\npath_style = true\n",
        garage::BUCKET,
        garage.endpoint(0),
        garage::REGION
    );
    let grace = Duration::from_secs(3);
    let target = format!("s3://{}/app", garage::BUCKET);
    let campaign = Campaign::new(env, &target, true, grace, &remote);
    campaign.prepare();
    campaign.passes(7);
}
