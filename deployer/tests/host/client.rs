//! A small synchronous program's side, and a base to work on.

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use relstore_deployer::ledger::{self, Entry};
use relstore_deployer::protocol::{
    self, BaseState, Confirm, Current, Ended, Hello, Lock, MAGIC, Materialise, Message, Ran,
    Record, Refused, Run, Switch, Transferred, Unlock, Verified, Verify,
};
use relstore_store::id::ReleaseId;

use super::tree::Tree;

pub(crate) const HELPER: &str = env!("CARGO_BIN_EXE_relstore-host");

/// A folder of this machine that is deployed to.
pub(crate) struct Site {
    _folder: tempfile::TempDir,
    pub(crate) base: PathBuf,
}

impl Site {
    /// A base with the `.env` that releases want.
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path().join("app");
        fs::create_dir_all(base.join("shared")).unwrap();
        fs::write(base.join("shared/.env"), "SECRET=sentinel-4711\n").unwrap();
        Self {
            _folder: folder,
            base,
        }
    }

    pub(crate) fn start(&self) -> Helper {
        let mut command = Command::new(HELPER);
        command.args(["serve", "--base"]).arg(&self.base);
        Helper::start(command)
    }

    pub(crate) fn private(&self, name: &str) -> PathBuf {
        self.base.join(".relstore").join(name)
    }

    pub(crate) fn release(&self, id: ReleaseId) -> PathBuf {
        self.base.join("releases").join(id.to_string())
    }

    /// Where the helper keeps a blob.
    pub(crate) fn blob(&self, tree: &Tree, at: &str) -> PathBuf {
        let hex = tree.blob(at).to_string();
        self.private("blobs").join(&hex[..2]).join(&hex[2..])
    }

    /// What `current` serves, read through the link as a web server does.
    pub(crate) fn served(&self) -> String {
        fs::read_to_string(self.base.join("current/index.php")).unwrap()
    }

    pub(crate) fn active(&self) -> Option<ReleaseId> {
        link(&self.base.join("current"))
    }

    pub(crate) fn previous(&self) -> Option<ReleaseId> {
        link(&self.base.join("previous"))
    }

    /// The ledger, whose chain has to be whole.
    pub(crate) fn ledger(&self) -> Vec<Entry> {
        let text = fs::read_to_string(self.private("ledger")).unwrap();
        ledger::check(text.lines()).unwrap()
    }

    pub(crate) fn outcomes(&self) -> Vec<String> {
        self.ledger()
            .into_iter()
            .map(|entry| entry.outcome)
            .collect()
    }

    /// Brings a release live from a new connection, to the very end.
    pub(crate) fn deploy(&self, tree: &Tree) {
        let mut helper = self.start();
        for request in deploy(tree, self.active()) {
            helper.carry(request);
        }
        helper.finish();
        assert_eq!(self.active(), Some(tree.id()));
    }

    /// `current` is nothing or a release that is whole, byte for byte.
    pub(crate) fn assert_sound(&self) {
        let mut helper = self.start();
        let Some(active) = self.active() else {
            assert!(fs::symlink_metadata(self.base.join("current")).is_err());
            return;
        };
        let drift = helper.verify(None).drift;
        assert!(drift.is_empty(), "{active}: {drift:?}");
        helper.finish();
    }
}

fn link(path: &Path) -> Option<ReleaseId> {
    let target = fs::read_link(path).ok()?;
    Some(
        target
            .strip_prefix("releases")
            .unwrap()
            .to_str()
            .unwrap()
            .parse()
            .unwrap(),
    )
}

/// One thing a deploy asks for.
#[derive(Clone)]
pub(crate) enum Request {
    Ask(Box<Message>),
    /// Sent without waiting for an answer.
    Stream(Vec<Message>),
}

/// All requests of a deploy, in order.
pub(crate) fn deploy(tree: &Tree, from: Option<ReleaseId>) -> Vec<Request> {
    let to = tree.id();
    let ask = |message: Message| Request::Ask(Box::new(message));
    vec![
        ask(lock(to).into()),
        ask(tree.manifest_message(None)),
        Request::Stream(tree.pack(&tree.blobs())),
        ask(Transferred {}.into()),
        ask(materialise(to).into()),
        ask(run(to, "true").into()),
        ask(switch(from, to).into()),
        ask(Confirm {}.into()),
        ask(record("live").into()),
        ask(Unlock {}.into()),
    ]
}

pub(crate) fn lock(release: ReleaseId) -> Lock {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    Lock {
        transaction: format!("1700000000000-{:08x}", NEXT.fetch_add(1, Ordering::Relaxed)),
        actor: "ann@ci".into(),
        action: "deploy".into(),
        environment: "prod".into(),
        release,
        commit: Some("c0ffee".into()),
        web_group: None,
    }
}

pub(crate) fn materialise(release: ReleaseId) -> Materialise {
    Materialise {
        release,
        dotenv: "shared/.env".into(),
    }
}

pub(crate) fn run(release: ReleaseId, script: &str) -> Run {
    Run {
        step: "script".into(),
        release,
        argv: ["sh", "-c", script].map(str::to_owned).to_vec(),
        umask: 0o027,
        timeout_ms: 20_000,
    }
}

pub(crate) fn switch(from: Option<ReleaseId>, to: ReleaseId) -> Switch {
    Switch {
        from,
        to,
        confirm_within_ms: 60_000,
        reload: Vec::new(),
    }
}

pub(crate) fn record(outcome: &str) -> Record {
    Record {
        outcome: outcome.into(),
        message: "a word".into(),
    }
}

/// A running helper.
pub(crate) struct Helper {
    child: Child,
    to: Option<ChildStdin>,
    from: ChildStdout,
    pub(crate) hello: Message,
    /// Lines of commands, in order.
    pub(crate) output: Vec<String>,
}

impl Helper {
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut from = child.stdout.take().unwrap();
        let mut magic = vec![0; MAGIC.len()];
        from.read_exact(&mut magic).unwrap();
        assert_eq!(magic, MAGIC);
        let hello = protocol::read(&mut from).unwrap();
        Self {
            to: child.stdin.take(),
            child,
            from,
            hello,
            output: Vec::new(),
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn hello(&self) -> &Hello {
        match &self.hello {
            Message::Hello(hello) => hello,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn send(&mut self, message: impl Into<Message>) {
        protocol::write(self.to.as_mut().unwrap(), &message.into()).unwrap();
    }

    /// Writes bytes that need not be a frame.
    pub(crate) fn send_raw(&mut self, bytes: &[u8]) {
        let to = self.to.as_mut().unwrap();
        // The helper may have given up on what came before.
        let _ = to.write_all(bytes).and_then(|()| to.flush());
    }

    /// The next reply; lines of commands are put aside.
    pub(crate) fn reply(&mut self) -> Message {
        loop {
            match protocol::read(&mut self.from).unwrap() {
                Message::Output(output) => self.output.push(output.line),
                reply => return reply,
            }
        }
    }

    /// Waits until a command has printed this line.
    pub(crate) fn wait_for(&mut self, line: &str) {
        while !self.output.iter().any(|seen| seen == line) {
            match protocol::read(&mut self.from).unwrap() {
                Message::Output(output) => self.output.push(output.line),
                reply => panic!("{reply:?} before `{line}`"),
            }
        }
    }

    pub(crate) fn ask(&mut self, message: impl Into<Message>) -> Message {
        self.send(message);
        self.reply()
    }

    /// Asks for what has to succeed.
    pub(crate) fn must(&mut self, message: impl Into<Message>) -> Message {
        match self.ask(message) {
            Message::Refused(refused) => panic!("{refused:?}"),
            reply => reply,
        }
    }

    /// Asks for what has to be refused.
    pub(crate) fn refused(&mut self, message: impl Into<Message>) -> Refused {
        match self.ask(message) {
            Message::Refused(refused) => refused,
            reply => panic!("{reply:?}"),
        }
    }

    pub(crate) fn stream(&mut self, messages: Vec<Message>) {
        for message in messages {
            self.send(message);
        }
    }

    pub(crate) fn carry(&mut self, request: Request) {
        match request {
            Request::Ask(message) => drop(self.must(*message)),
            Request::Stream(messages) => self.stream(messages),
        }
    }

    pub(crate) fn locked(&mut self, release: ReleaseId) -> BaseState {
        match self.must(lock(release)) {
            Message::Locked(locked) => locked.state,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn ran(&mut self, request: Run) -> Ended {
        match self.must(request) {
            Message::Ran(Ran { ended, .. }) => ended,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn verify(&mut self, release: Option<ReleaseId>) -> Verified {
        match self.must(Verify { release }) {
            Message::Verified(verified) => verified,
            other => panic!("{other:?}"),
        }
    }

    /// Brings a release as far as it can be activated.
    pub(crate) fn bring(&mut self, tree: &Tree) {
        self.must(tree.manifest_message(None));
        self.stream(tree.pack(&tree.blobs()));
        let received = self.must(Transferred {});
        assert!(matches!(received, Message::Received(_)), "{received:?}");
        let made = self.must(materialise(tree.id()));
        assert!(matches!(made, Message::Materialised(_)), "{made:?}");
    }

    /// Goes away as a program does that is killed: the helper sees the end of its input.
    pub(crate) fn finish(mut self) {
        self.to = None;
        let started = Instant::now();
        while self.child.try_wait().unwrap().is_none() {
            assert!(
                started.elapsed() < Duration::from_secs(20),
                "the helper stays"
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Ends the helper itself, without a chance to do anything.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        // It has ended already unless a test failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether a current is this release.
pub(crate) fn is(current: &Current, release: ReleaseId) -> bool {
    *current == Current::Release(release)
}
