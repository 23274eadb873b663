//! Hosts in memory that fail on demand: the protocol's other side as it is documented, with real
//! packs, and none of the real helper's disk.

#![allow(clippy::unwrap_used)]

pub(crate) mod world;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::Read;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use relstore_store::id::{BlobId, ReleaseId};
use relstore_store::manifest::Manifest;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use crate::environment::{Environment, Host, Migrate};
use crate::protocol::*;
use crate::session::{Connect, Wire};
use crate::transport::{Endpoint, TransportError};

/// An environment of hosts `web1`, `web2`, ... with migrations and a reload command.
pub(crate) fn environment(hosts: usize) -> Environment {
    let host = |n| Host {
        name: format!("web{n}"),
        endpoint: Endpoint::Local,
    };
    Environment {
        name: "prod".into(),
        hosts: (1..=hosts).map(host).collect(),
        base: "/srv/app".into(),
        url: None,
        dotenv: "shared/.env".into(),
        web_group: None,
        php: "php".into(),
        reload: vec![vec!["reload-fpm".into()]],
        migrate: Migrate::Run,
        keep: 5,
        health: vec![],
        health_attempts: 2,
        health_interval: Duration::from_millis(5),
        command_timeout: Duration::from_secs(60),
    }
}

/// The state of a base.
pub(crate) fn state(current: Option<ReleaseId>, complete: &[ReleaseId]) -> BaseState {
    BaseState {
        current: current.map_or(Current::Absent, Current::Release),
        previous: None,
        complete: complete.to_vec(),
        pending: None,
        holder: None,
        warm_key: None,
    }
}

/// How a request goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It is refused and does nothing.
    Refused,
    /// The connection breaks before it is carried out.
    CutBefore,
    /// It is carried out, and the connection breaks before the reply.
    CutAfter,
    /// As `CutBefore`, and the host cannot be reached any more.
    Down,
}

/// What a host in memory holds.
#[derive(Debug, Default)]
pub(crate) struct Base {
    pub(crate) current: Option<ReleaseId>,
    pub(crate) previous: Option<ReleaseId>,
    pub(crate) complete: BTreeSet<ReleaseId>,
    pub(crate) pending: Option<(Option<ReleaseId>, ReleaseId)>,
    pub(crate) locked_by: Option<u64>,
    pub(crate) blobs: HashMap<BlobId, Vec<u8>>,
    pub(crate) ledger: Vec<String>,
    /// What was run, in order: `reload-fpm`, `warm <release>`, ...
    pub(crate) ran: Vec<String>,
    pub(crate) dotenv: u32,
    warm: BTreeMap<ReleaseId, u32>,
    /// Blobs that arrive damaged, and how often still.
    pub(crate) damaged: HashMap<BlobId, u32>,
    /// Commands that fail, by their first word or `argv[1..]` text.
    pub(crate) failing: Vec<String>,
    pub(crate) down: bool,
    /// Requests of these names are refused.
    pub(crate) refused: Vec<&'static str>,
    connections: u64,
    /// Requests carried out so far, and the one that goes wrong.
    pub(crate) calls: u32,
    pub(crate) fault: Option<(u32, Fault)>,
}

impl Base {
    fn state(&self) -> BaseState {
        let complete: Vec<_> = self.complete.iter().copied().collect();
        let pending = self.pending.map(|(from, to)| Pending {
            transaction: "t".into(),
            from,
            to,
            deadline_ms: 0,
            boot_id: String::new(),
            reload: vec![],
        });
        BaseState {
            previous: self.previous,
            pending,
            ..state(self.current, &complete)
        }
    }

    fn go_back(&mut self) {
        if let Some((Some(from), _)) = self.pending.take() {
            self.current = Some(from);
        }
    }
}

/// An environment's hosts in memory.
#[derive(Debug, Clone)]
pub(crate) struct FaultyHosts {
    bases: BTreeMap<String, Arc<Mutex<Base>>>,
}

impl FaultyHosts {
    pub(crate) fn new(environment: &Environment) -> Self {
        let base = |host: &Host| (host.name.clone(), Arc::default());
        Self {
            bases: environment.hosts.iter().map(base).collect(),
        }
    }

    pub(crate) fn base(&self, host: &str) -> MutexGuard<'_, Base> {
        self.bases[host].lock().unwrap()
    }

    pub(crate) fn serving(&self) -> Vec<Option<ReleaseId>> {
        self.bases
            .values()
            .map(|base| base.lock().unwrap().current)
            .collect()
    }

    /// Waits until every helper has noticed that its program is gone.
    pub(crate) async fn settled(&self) {
        for base in self.bases.values() {
            while base.lock().unwrap().locked_by.is_some() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    }
}

#[async_trait]
impl Connect for FaultyHosts {
    async fn connect(&self, host: &Host, _base: &str) -> Result<Wire, TransportError> {
        let base = Arc::clone(&self.bases[&host.name]);
        let id = {
            let mut base = base.lock().unwrap();
            if base.down {
                let source = std::io::ErrorKind::ConnectionRefused.into();
                return Err(TransportError::Connect {
                    host: host.name.clone(),
                    port: 22,
                    source,
                });
            }
            base.connections += 1;
            base.connections
        };
        let (near, far) = tokio::io::duplex(64 << 10);
        tokio::spawn(
            Helper {
                base,
                id,
                manifest: None,
                pack: None,
                failed: vec![],
            }
            .serve(far),
        );
        let (reader, writer) = tokio::io::split(near);
        Ok(Wire {
            reader: Box::new(reader),
            writer: Box::new(writer),
            link: None,
        })
    }
}

struct Helper {
    base: Arc<Mutex<Base>>,
    id: u64,
    manifest: Option<(ReleaseId, Manifest)>,
    pack: Option<(Pack, Vec<u8>)>,
    failed: Vec<BlobId>,
}

impl Helper {
    async fn serve(mut self, mut stream: DuplexStream) {
        // What breaks the connection ends this; what is unconfirmed is taken back.
        let _ = self.talk(&mut stream).await;
        let mut base = self.base.lock().unwrap();
        if base.locked_by == Some(self.id) {
            base.go_back();
            base.locked_by = None;
        }
    }

    async fn talk(&mut self, stream: &mut DuplexStream) -> std::io::Result<()> {
        let hello = {
            let base = self.base.lock().unwrap();
            Hello {
                protocol: PROTOCOL,
                version: "test".into(),
                host: "memory".into(),
                user: "deploy".into(),
                free_bytes: 1 << 40,
                free_inodes: 1 << 20,
                settled: None,
                state: base.state(),
            }
        };
        stream
            .write_all(&Message::from(hello).encode().unwrap())
            .await?;
        loop {
            let mut length = [0; 4];
            stream.read_exact(&mut length).await?;
            let mut frame = vec![0; frame_length(length).unwrap() as usize];
            stream.read_exact(&mut frame).await?;
            let message = Message::decode(&frame).unwrap();
            let fault = {
                let mut base = self.base.lock().unwrap();
                base.calls += 1;
                let calls = base.calls;
                let named = base.refused.contains(&message.name());
                base.fault
                    .filter(|(call, _)| *call == calls)
                    .map(|(_, fault)| fault)
                    .or(named.then_some(Fault::Refused))
            };
            let broken = || std::io::Error::from(std::io::ErrorKind::BrokenPipe);
            let reply = match fault {
                Some(Fault::Refused) => {
                    self.pack = None;
                    Some(refused(Reason::Io, "it failed on demand"))
                }
                Some(Fault::CutBefore) => return Err(broken()),
                Some(Fault::Down) => {
                    self.base.lock().unwrap().down = true;
                    return Err(broken());
                }
                Some(Fault::CutAfter) => {
                    self.answer(message);
                    return Err(broken());
                }
                None => self.answer(message),
            };
            if let Some(reply) = reply {
                stream.write_all(&reply.encode().unwrap()).await?;
            }
        }
    }

    fn answer(&mut self, message: Message) -> Option<Message> {
        let base = Arc::clone(&self.base);
        let mut base = base.lock().unwrap();
        if !matches!(
            message,
            Message::Lock(_) | Message::Status(_) | Message::Verify(_) | Message::History(_)
        ) && base.locked_by != Some(self.id)
        {
            return Some(refused(Reason::Protocol, "the lock is not held"));
        }
        Some(match message {
            Message::Lock(_) if base.locked_by.is_some() => {
                refused(Reason::Busy, "another deploy runs")
            }
            Message::Lock(_) => {
                base.locked_by = Some(self.id);
                Locked {
                    state: base.state(),
                }
                .into()
            }
            Message::Status(_) => State {
                state: base.state(),
            }
            .into(),
            Message::History(_) => Entries {
                lines: base.ledger.clone(),
            }
            .into(),
            Message::Manifest(manifest) => {
                let prefix = match manifest.base {
                    Some(release) => base.blobs[&BlobId::from_bytes(*release.as_bytes())].clone(),
                    None => vec![],
                };
                let text = decode(&manifest.frame, &prefix);
                assert_eq!(ReleaseId::of(&text), manifest.release);
                assert_eq!(text.len() as u64, manifest.length);
                let parsed = Manifest::parse(&text).unwrap();
                let entries = parsed.entries().len() as u64;
                base.blobs.insert(BlobId::of(&text), text);
                self.manifest = Some((manifest.release, parsed));
                ManifestAccepted { entries }.into()
            }
            Message::Pack(pack) => {
                self.pack = Some((pack, vec![]));
                return None;
            }
            Message::PackPart(part) => {
                assert!(part.bytes.len() <= MAX_PART);
                // After a refusal the rest of the pack is still under way.
                if let Some((_, frame)) = &mut self.pack {
                    frame.extend(part.bytes);
                }
                return None;
            }
            Message::PackEnd(_) => {
                self.receive(&mut base);
                return None;
            }
            Message::Transferred(_) => match self.missing(&base) {
                missing if missing.is_empty() => Received { blobs: 0, bytes: 0 }.into(),
                blobs => Need { blobs }.into(),
            },
            Message::Materialise(request) => {
                let reused = !base.complete.insert(request.release);
                Materialised {
                    files: 1,
                    bytes: 1,
                    linked: 1,
                    reused,
                }
                .into()
            }
            Message::Check(_) => Checked { failures: vec![] }.into(),
            Message::Run(run) => {
                let command = run.argv.join(" ");
                let fails = base
                    .failing
                    .iter()
                    .any(|failing| command.contains(failing.as_str()));
                base.ran.push(command);
                let ended = Ended::Exited(i32::from(fails));
                Ran {
                    ended,
                    milliseconds: 1,
                }
                .into()
            }
            Message::Warm(warm) => {
                let dotenv = base.dotenv;
                let reused = base.warm.insert(warm.release, dotenv) == Some(dotenv);
                base.ran.push(format!("warm {}", warm.release.short()));
                Warmed {
                    key: dotenv.to_string(),
                    reused,
                    files: 4,
                    php: "PHP 8.2".into(),
                }
                .into()
            }
            Message::Switch(switch) if base.current != switch.from => {
                refused(Reason::Moved, "`current` was moved")
            }
            Message::Switch(switch) => {
                assert!(base.complete.contains(&switch.to));
                base.previous = base.current;
                base.current = Some(switch.to);
                base.pending = Some((switch.from, switch.to));
                Switched { at_ms: 1 }.into()
            }
            Message::Confirm(_) => {
                base.pending = None;
                Done {}.into()
            }
            Message::GoBack(_) => {
                base.go_back();
                WentBack {
                    current: base.state().current,
                }
                .into()
            }
            Message::Record(record) => {
                base.ledger.push(record.outcome.clone());
                let number = base.ledger.len() as u64;
                Recorded {
                    number,
                    hash: format!("{number:064}"),
                    line: format!("{record:?}"),
                }
                .into()
            }
            Message::Prune(_) => Pruned {
                removed: vec![],
                blobs: 0,
                bytes: 0,
                problems: vec![],
            }
            .into(),
            Message::Unlock(_) => {
                base.locked_by = None;
                Done {}.into()
            }
            other => refused(Reason::Protocol, other.name()),
        })
    }

    fn receive(&mut self, base: &mut Base) {
        let Some((pack, frame)) = self.pack.take() else {
            return;
        };
        let prefix = pack
            .prefix
            .map(|blob| base.blobs[&blob].clone())
            .unwrap_or_default();
        let content = decode(&frame, &prefix);
        let mut rest = content.as_slice();
        for (blob, size) in pack.blobs {
            let (bytes, tail) = rest.split_at(size as usize);
            rest = tail;
            assert_eq!(BlobId::of(bytes), blob);
            match base.damaged.get_mut(&blob) {
                Some(times @ 1..) => {
                    *times -= 1;
                    self.failed.push(blob);
                }
                _ => drop(base.blobs.insert(blob, bytes.to_vec())),
            }
        }
        assert!(rest.is_empty());
    }

    fn missing(&self, base: &Base) -> Vec<BlobId> {
        let (_, manifest) = self.manifest.as_ref().unwrap();
        manifest
            .blobs()
            .into_keys()
            .filter(|blob| !base.blobs.contains_key(blob))
            .collect()
    }
}

fn decode(frame: &[u8], prefix: &[u8]) -> Vec<u8> {
    let mut content = Vec::new();
    let mut decoder = zstd::stream::read::Decoder::with_ref_prefix(frame, prefix).unwrap();
    decoder.read_to_end(&mut content).unwrap();
    content
}

fn refused(reason: Reason, message: &str) -> Message {
    Refused {
        reason,
        message: message.into(),
        causes: vec![],
        state: String::new(),
        hint: "try again".into(),
    }
    .into()
}
