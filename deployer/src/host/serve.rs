//! One conversation: reads requests, carries them out, answers. When the program goes away,
//! whatever is not confirmed is taken back before the helper ends.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use relstore_store::id::ReleaseId;

use super::base::Base;
use super::command::{self, Job};
use super::error::{HostError, Result};
use super::journal::Journal;
use super::lock::{self, Lock};
use super::materialise::Work;
use super::receive::Transfer;
use super::shared::{self, WebGroup};
use super::warm::Warming;
use super::{accounts, book, disk, pending, prune, switch, verify};
use crate::ledger::Entry;
use crate::protocol::{
    self, Checked, Done, Ended, Entries, Hello, Holder, Locked, MAGIC, ManifestAccepted,
    Materialised, Message, Need, Output, PROTOCOL, Pending, Ran, Reason, State, Switched, WentBack,
};

/// Requests that wait while one is carried out: a few parts of a pack.
const WAITING: usize = 16;
/// Time limit of reload commands that nobody waits for.
const SETTLE_LIMIT: Duration = Duration::from_secs(60);

/// What a deploy holds.
struct Held {
    lock: Lock,
    journal: Journal,
    staging: PathBuf,
    request: protocol::Lock,
    previous: Option<ReleaseId>,
    group: Option<WebGroup>,
    transfer: Option<Transfer>,
    dotenv: String,
    recorded: bool,
    /// Why the transfer failed; told when its end is, because packs have no reply.
    failed: Option<HostError>,
    /// When an activation goes back that nobody has confirmed.
    deadline: Option<Instant>,
}

struct Server<W: Write> {
    base: Base,
    out: W,
    gone: Arc<AtomicBool>,
    held: Option<Held>,
}

/// Serves one program on `input` and `output` until it goes away.
///
/// # Errors
/// When the channel cannot be written; everything is settled then as well.
pub fn serve(
    base: &Path,
    input: impl io::Read + Send + 'static,
    mut output: impl Write,
) -> io::Result<()> {
    output.write_all(MAGIC)?;
    let gone = Arc::new(AtomicBool::new(false));
    let requests = listen(input, Arc::clone(&gone));
    let mut server = Server {
        base: Base::new(base.to_owned()),
        out: output,
        gone,
        held: None,
    };
    let hello = match server.hello() {
        Ok(hello) => hello.into(),
        Err(error) => server.refusal(error),
    };
    server.send(hello);
    loop {
        let received = match server.held.as_ref().and_then(|held| held.deadline) {
            None => requests.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(at) => requests.recv_timeout(at.saturating_duration_since(Instant::now())),
        };
        match received {
            Ok(message) => {
                if let Some(reply) = server.handle(message) {
                    server.send(reply);
                }
            }
            Err(RecvTimeoutError::Timeout) => server.overdue(),
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    // Only closed: a command that was cut off may have left something that still runs.
    drop(server.end());
    Ok(())
}

/// Reads on a thread of its own, so that the end of the program is noticed while a request runs.
fn listen(mut input: impl io::Read + Send + 'static, gone: Arc<AtomicBool>) -> Receiver<Message> {
    let (sender, receiver) = sync_channel(WAITING);
    std::thread::spawn(move || {
        // Whatever is no message ends the conversation: the two sides do not understand each other.
        while let Ok(message) = protocol::read(&mut input) {
            if sender.send(message).is_err() {
                break;
            }
        }
        gone.store(true, Ordering::SeqCst);
    });
    receiver
}

impl<W: Write> Server<W> {
    fn send(&mut self, message: Message) {
        if protocol::write(&mut self.out, &message).is_err() {
            self.gone.store(true, Ordering::SeqCst);
        }
    }

    fn refusal(&self, error: HostError) -> Message {
        error.refused(self.base.state_line()).into()
    }

    fn hello(&mut self) -> Result<Hello> {
        let root = self.base.root().to_owned();
        let settled = if self.base.private("lock").exists() {
            self.settle_leftover()?
        } else {
            None
        };
        let (free_bytes, free_inodes) = disk::room(&root);
        Ok(Hello {
            protocol: PROTOCOL,
            version: env!("CARGO_PKG_VERSION").into(),
            host: host_name(),
            user: accounts::user_name(rustix::process::getuid().as_raw()),
            free_bytes,
            free_inodes,
            settled,
            state: self.base.state()?,
        })
    }

    /// Takes back what a killed deploy left unconfirmed, when nobody else is at work.
    fn settle_leftover(&mut self) -> Result<Option<String>> {
        if pending::read(&self.base)?.is_none() {
            return Ok(None);
        }
        match lock::acquire(&self.base)? {
            Some(_lock) => self.settle(),
            None => Ok(None),
        }
    }

    /// Takes an unconfirmed activation back, under the lock; says what was done.
    fn settle(&mut self) -> Result<Option<String>> {
        let Some(stored) = pending::read(&self.base)? else {
            return Ok(None);
        };
        let Pending {
            transaction,
            from,
            to,
            reload,
            ..
        } = &stored.pending;
        let went = switch::go_back(&self.base, &stored)?;
        let (outcome, mut message) = match (went, from) {
            (true, Some(from)) => (
                "rolled-back",
                format!(
                    "{} was never confirmed: went back to {}",
                    to.short(),
                    from.short()
                ),
            ),
            (_, None) => (
                "unhealthy",
                format!(
                    "{} was never confirmed; there is no earlier release to go back to",
                    to.short()
                ),
            ),
            (false, Some(_)) => ("failed", format!("{} did not become active", to.short())),
        };
        if went && let Some(from) = from {
            let dir = self.base.release(from);
            for argv in reload {
                let job = Job {
                    argv,
                    dir: &dir,
                    env: &[],
                    umask: 0o022,
                    limit: SETTLE_LIMIT,
                };
                let ended = command::run(&job, &mut |_| {}, &|| false);
                if !matches!(ended, Ok(Ended::Exited(0))) {
                    message.push_str(&format!(
                        "; `{}` failed, reload the web server by hand",
                        argv.join(" ")
                    ));
                }
            }
        }
        let entry = Entry {
            n: 0,
            prev: String::new(),
            at_ms: disk::now_ms(),
            transaction: transaction.clone(),
            action: stored.action.clone(),
            outcome: outcome.into(),
            actor: stored.actor.clone(),
            environment: stored.environment.clone(),
            host: host_name(),
            release: *to,
            previous: *from,
            commit: stored.commit.clone(),
            message: message.clone(),
        };
        book::append(&self.base, entry)?;
        Ok(Some(message))
    }

    /// Carries a request out; parts of a transfer have no reply.
    fn handle(&mut self, message: Message) -> Option<Message> {
        let result = match message {
            Message::Pack(pack) => self.quiet("pack", |held, base| held.transfer(base)?.pack(pack)),
            Message::PackPart(part) => self.quiet("pack", |held, base| {
                held.transfer(base)?.part(part.bytes);
                Ok(())
            }),
            Message::PackEnd(_) => self.quiet("pack", |held, base| held.transfer(base)?.end_pack()),
            Message::Lock(request) => self.lock(request).map(Some),
            Message::Manifest(manifest) => self.manifest(&manifest).map(Some),
            Message::Transferred(_) => self.transferred().map(Some),
            Message::Materialise(request) => self.materialise(&request).map(Some),
            Message::Check(request) => Ok(Some(self.check(&request).into())),
            Message::Run(request) => self.run(&request).map(Some),
            Message::Warm(request) => self.warm(&request).map(Some),
            Message::Switch(request) => self.switch(request).map(Some),
            Message::Confirm(_) => self.confirm().map(Some),
            Message::GoBack(_) => self.go_back().map(Some),
            Message::Prune(request) => self.prune(request.keep).map(Some),
            Message::Record(request) => self.record(&request).map(Some),
            Message::Unlock(_) => self.unlock().map(Some),
            Message::Verify(request) => self.verify(request.release).map(Some),
            Message::History(request) => self.history(request.last).map(Some),
            Message::Status(_) => self.base.state().map(|state| Some(State { state }.into())),
            other => Err(HostError::new(
                Reason::Protocol,
                format!("{} is not a request", other.name()),
            )),
        };
        result.unwrap_or_else(|error| Some(self.refusal(error)))
    }

    fn held(&mut self) -> Result<&mut Held> {
        self.held
            .as_mut()
            .ok_or_else(|| HostError::new(Reason::Protocol, "the base is not locked"))
    }

    /// A request without reply.
    fn quiet(
        &mut self,
        step: &str,
        work: impl FnOnce(&mut Held, &Base) -> Result<()>,
    ) -> Result<Option<Message>> {
        let base = self.base.clone();
        // Without the lock the request that ends the transfer is refused.
        if let Some(held) = self.held.as_mut().filter(|held| held.failed.is_none())
            && let Err(error) = work(held, &base)
        {
            // A full disk may have no room for this line either; the first error matters.
            let _ = held.journal.write(step, "failed", &error.line());
            held.failed = Some(error);
        }
        Ok(None)
    }

    /// A step between two durable lines of the journal.
    fn journalled<T>(
        &mut self,
        step: &str,
        work: impl FnOnce(&mut Self) -> Result<T>,
    ) -> Result<T> {
        self.held()?.journal.write(step, "begin", "")?;
        let result = work(self);
        let journal = &mut self.held()?.journal;
        match &result {
            Ok(_) => journal.write(step, "end", "")?,
            Err(error) => journal.write(step, "failed", &error.line())?,
        }
        result
    }

    fn lock(&mut self, request: protocol::Lock) -> Result<Message> {
        if self.held.is_some() {
            return Err(HostError::new(
                Reason::Protocol,
                "the base is locked by this conversation already",
            ));
        }
        let safe = |text: &str| {
            !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        };
        if !safe(&request.transaction) || request.transaction.len() > 64 {
            return Err(HostError::new(
                Reason::Protocol,
                "a transaction is named by letters, digits and `-`",
            ));
        }
        self.base.check()?;
        self.base.make()?;
        let group = request
            .web_group
            .as_deref()
            .map(WebGroup::find)
            .transpose()?;
        let Some(mut lock) = lock::acquire_past_glances(&self.base)? else {
            return Err(self.busy()?);
        };
        let holder = Holder {
            actor: request.actor.clone(),
            action: request.action.clone(),
            release: request.release,
            since_ms: disk::now_ms(),
            pid: std::process::id(),
        };
        lock.name(&self.base, &holder)?;
        self.settle()?;
        // Nobody else is at work: what lies there is left over.
        for name in ["staging", "trash"] {
            let folder = self.base.private(name);
            for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
                disk::remove_tree(&entry.path());
            }
        }
        shared::make(&self.base, group.as_ref())?;
        let staging = self.base.private("staging").join(&request.transaction);
        disk::make_dir(&staging, 0o700)?;
        let mut journal = Journal::open(&self.base, &request.transaction)?;
        journal.write("lock", "begin", "")?;
        let previous = self.base.active()?;
        self.held = Some(Held {
            lock,
            journal,
            staging,
            request,
            previous,
            group,
            transfer: None,
            dotenv: String::new(),
            recorded: false,
            failed: None,
            deadline: None,
        });
        self.append("intent", "")?;
        self.held()?.journal.write("lock", "end", "")?;
        Ok(Locked {
            state: self.base.state()?,
        }
        .into())
    }

    fn busy(&self) -> Result<HostError> {
        let error = HostError::new(Reason::Busy, "another deploy holds the lock");
        let seconds = |since: i64| (disk::now_ms() - since).max(0) / 1000;
        Ok(match lock::holder(&self.base)? {
            Some(holder) => error
                .cause(format!(
                    "{} began to {} {} {} s ago (process {} on this host)",
                    holder.actor, holder.action, holder.release.short(), seconds(holder.since_ms), holder.pid
                ))
                .hint("wait until it has ended; the lock is free by itself when its last command has ended"),
            None => error.hint("it has just begun or ended: try again"),
        })
    }

    fn manifest(&mut self, message: &protocol::Manifest) -> Result<Message> {
        self.journalled("transfer", |server| {
            let base = server.base.clone();
            let held = server.held()?;
            let transfer = Transfer::begin(&base, held.staging.clone(), message)?;
            let entries = transfer.entries();
            held.transfer = Some(transfer);
            held.failed = None;
            Ok(ManifestAccepted { entries }.into())
        })
    }

    fn transferred(&mut self) -> Result<Message> {
        self.journalled("transferred", |server| {
            let base = server.base.clone();
            if let Some(error) = server.held()?.failed.take() {
                return Err(error);
            }
            Ok(match server.held()?.transfer(&base)?.finish()? {
                Ok(received) => received.into(),
                Err(blobs) => Need { blobs }.into(),
            })
        })
    }

    fn materialise(&mut self, request: &protocol::Materialise) -> Result<Message> {
        self.journalled("materialise", |server| {
            let base = server.base.clone();
            let held = server.held()?;
            held.dotenv.clone_from(&request.dotenv);
            let work = Work {
                base: &base,
                staging: &held.staging,
                group: held.group.as_ref(),
                dotenv: &request.dotenv,
            };
            Ok(match work.materialise(&request.release)? {
                Ok(made @ Materialised { .. }) => {
                    held.transfer = None;
                    made.into()
                }
                Err(blobs) => {
                    held.transfer = Some(Transfer::again(
                        &base,
                        held.staging.clone(),
                        request.release,
                    )?);
                    Need { blobs }.into()
                }
            })
        })
    }

    fn check(&self, request: &protocol::Check) -> Checked {
        let root = self.base.release(&request.release);
        Checked {
            failures: request
                .requirements
                .iter()
                .filter_map(|one| one.failure(&root))
                .collect(),
        }
    }

    /// The folder of a release that is complete here.
    fn complete_dir(&self, release: &ReleaseId) -> Result<PathBuf> {
        match self.base.complete(release)? {
            Some(_) => Ok(self.base.release(release)),
            None => Err(HostError::new(
                Reason::Protocol,
                format!("release {} is not complete on this host", release.short()),
            )),
        }
    }

    fn run(&mut self, request: &protocol::Run) -> Result<Message> {
        let dir = self.complete_dir(&request.release)?;
        self.journalled(&request.step, |server| {
            let limit = Duration::from_millis(request.timeout_ms);
            let job = Job {
                argv: &request.argv,
                dir: &dir,
                env: &[],
                umask: request.umask & 0o777,
                limit,
            };
            let began = Instant::now();
            let gone = Arc::clone(&server.gone);
            let mut line = |line: &str| {
                server.send(
                    Output {
                        step: request.step.clone(),
                        line: line.to_owned(),
                    }
                    .into(),
                );
            };
            let ended = command::run(&job, &mut line, &|| gone.load(Ordering::SeqCst))?;
            let milliseconds = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
            Ok(Ran {
                ended,
                milliseconds,
            }
            .into())
        })
    }

    fn warm(&mut self, request: &protocol::Warm) -> Result<Message> {
        self.complete_dir(&request.release)?;
        self.journalled("warm", |server| {
            let base = server.base.clone();
            let group = server.held()?.group.clone();
            let gone = Arc::clone(&server.gone);
            let warming = Warming {
                base: &base,
                release: request.release,
                php: &request.php,
                limit: Duration::from_millis(request.timeout_ms),
                group: group.as_ref(),
                gone: &|| gone.load(Ordering::SeqCst),
            };
            let mut line = |line: &str| {
                server.send(
                    Output {
                        step: "warm".into(),
                        line: line.to_owned(),
                    }
                    .into(),
                );
            };
            Ok(warming.warm(&mut line)?.into())
        })
    }

    fn switch(&mut self, request: protocol::Switch) -> Result<Message> {
        self.journalled("switch", |server| {
            let base = server.base.clone();
            if pending::read(&base)?.is_some() {
                // Its way back would be forgotten.
                return Err(HostError::new(
                    Reason::Protocol,
                    "an activation is still unconfirmed",
                ));
            }
            let previous = base.previous_release()?;
            let held = server.held()?;
            let within = Duration::from_millis(request.confirm_within_ms);
            let deadline_ms = disk::now_ms()
                .saturating_add(i64::try_from(request.confirm_within_ms).unwrap_or(i64::MAX));
            let stored = pending::Stored {
                pending: Pending {
                    transaction: held.request.transaction.clone(),
                    from: request.from,
                    to: request.to,
                    deadline_ms,
                    boot_id: pending::boot_id(),
                    reload: request.reload,
                },
                previous,
                actor: held.request.actor.clone(),
                action: held.request.action.clone(),
                environment: held.request.environment.clone(),
                commit: held.request.commit.clone(),
            };
            switch::activate(&base, &stored)?;
            held.deadline = Instant::now().checked_add(within);
            Ok(Switched {
                at_ms: disk::now_ms(),
            }
            .into())
        })
    }

    fn confirm(&mut self) -> Result<Message> {
        self.journalled("confirm", |server| {
            if pending::read(&server.base)?.is_none() {
                return Err(HostError::new(
                    Reason::Moved,
                    "the activation was taken back before it was confirmed",
                )
                .hint("look at `relstore status`, then deploy again"));
            }
            pending::remove(&server.base)?;
            server.held()?.deadline = None;
            Ok(Done {}.into())
        })
    }

    fn go_back(&mut self) -> Result<Message> {
        self.journalled("go-back", |server| {
            if let Some(stored) = pending::read(&server.base)? {
                switch::go_back(&server.base, &stored)?;
            }
            server.held()?.deadline = None;
            Ok(WentBack {
                current: server.base.current_state()?,
            }
            .into())
        })
    }

    fn prune(&mut self, keep: u32) -> Result<Message> {
        self.journalled("prune", |server| {
            Ok(prune::prune(&server.base, keep)?.into())
        })
    }

    fn record(&mut self, request: &protocol::Record) -> Result<Message> {
        self.journalled("record", |server| {
            let recorded = server.append(&request.outcome, &request.message)?;
            server.held()?.recorded = true;
            Ok(recorded.into())
        })
    }

    fn append(&mut self, outcome: &str, message: &str) -> Result<protocol::Recorded> {
        let base = self.base.clone();
        let held = self.held()?;
        let entry = Entry {
            n: 0,
            prev: String::new(),
            at_ms: disk::now_ms(),
            transaction: held.request.transaction.clone(),
            action: held.request.action.clone(),
            outcome: outcome.to_owned(),
            actor: held.request.actor.clone(),
            environment: held.request.environment.clone(),
            host: host_name(),
            release: held.request.release,
            previous: held.previous,
            commit: held.request.commit.clone(),
            message: message.to_owned(),
        };
        book::append(&base, entry)
    }

    fn unlock(&mut self) -> Result<Message> {
        self.held()?;
        match self.end() {
            Some(lock) => lock.release(&self.base).map(|()| Done {}.into()),
            None => Ok(Done {}.into()),
        }
    }

    fn verify(&mut self, release: Option<ReleaseId>) -> Result<Message> {
        let active = self.base.active()?;
        let id = release.or(active).ok_or_else(|| {
            HostError::new(Reason::Base, "nothing is active on this host")
                .hint("deploy a release first")
        })?;
        Ok(verify::release(&self.base, &id)?.into())
    }

    fn history(&mut self, last: u32) -> Result<Message> {
        let mut lines = book::lines(&self.base)?;
        if last > 0 && lines.len() > last as usize {
            lines.drain(..lines.len() - last as usize);
        }
        Ok(Entries { lines }.into())
    }

    /// Takes an activation back that was not confirmed in time, though the program is there.
    fn overdue(&mut self) {
        let settled = self.settle();
        if let Some(held) = &mut self.held {
            held.deadline = None;
            held.recorded |= matches!(settled, Ok(Some(_)));
            // A failure to settle stays on disk as `pending` and is told by the next start.
            let detail = settled.map_or_else(|error| error.line(), Option::unwrap_or_default);
            let _ = held.journal.write("deadline", "end", &detail);
        }
    }

    /// Settles everything; returns the lock, to be given back or only closed.
    fn end(&mut self) -> Option<Lock> {
        self.held.as_ref()?;
        let settled = self.settle();
        let recorded = match &settled {
            Ok(Some(_)) => true,
            _ => self.held.as_ref().is_some_and(|held| held.recorded),
        };
        if !recorded {
            let message = "the program went away before the switch; what is served was not touched";
            let _ = self.append("failed", message);
        }
        let mut held = self.held.take()?;
        // A failure to settle stays on disk as `pending` and is told by the next start.
        let detail = settled.map_or_else(|error| error.line(), Option::unwrap_or_default);
        let _ = held.journal.write("end", "end", &detail);
        drop(held.transfer.take());
        disk::remove_tree(&held.staging);
        Some(held.lock)
    }
}

impl Held {
    fn transfer(&mut self, base: &Base) -> Result<&mut Transfer> {
        if self.transfer.is_none() {
            self.transfer = Some(Transfer::again(
                base,
                self.staging.clone(),
                self.request.release,
            )?);
        }
        self.transfer
            .as_mut()
            .ok_or_else(|| HostError::new(Reason::Protocol, "no transfer was begun"))
    }
}

fn host_name() -> String {
    rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned()
}
