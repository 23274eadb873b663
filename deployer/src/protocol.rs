//! The framed protocol between the program and the host helper, on one byte channel.
//!
//! ```text
//! helper -> program   MAGIC, then frames      program -> helper   frames
//! frame               u32 length (little endian, of all that follows), u16 message number, body
//! body                bincode 1.3, fixed-width little-endian integers, no trailing bytes
//! ```
//! The helper speaks first and unasked ([`Hello`]). Each request is answered by any number of
//! [`Output`] and then exactly one reply: the one its documentation names, or [`Refused`].
//! Numbers are never reused and the shape of a numbered message never changes: what has to grow
//! gets a new number. Golden vectors in the tests hold the bytes.
//!
//! The messages from 200 on are another conversation, with a helper that serves a store
//! (`relstore-host store`): it begins with [`StoreHello`], and replies come in the order of the
//! requests, so that many are under way at once. Their golden vectors are in
//! `protocol_store_tests.rs`.

use std::io::{self, Read, Write};

use bincode::Options;
use relstore_store::id::{BlobId, ReleaseId};
use relstore_store::structure::Requirement;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::raw_bytes;

/// Version of the protocol; the helper serves this one.
pub const PROTOCOL: u32 = 1;
/// Version of the conversation with a helper that serves a store.
pub const STORE_PROTOCOL: u32 = 1;
/// Printed by the helper before its first frame, so that the chatter of a login shell is skipped.
pub const MAGIC: &[u8] = b"\0relstore-host\0";
/// Largest frame body either side accepts, in bytes.
pub const MAX_BODY: u32 = 32 << 20;
/// Largest piece of a pack in one [`PackPart`], of an object in one [`StorePart`] or
/// [`StoreBytes`], in bytes.
pub const MAX_PART: usize = 256 << 10;
/// Largest frame body a helper that serves a store accepts, in bytes: a part, or a long name.
pub const MAX_STORE_BODY: u32 = (MAX_PART as u32) + (64 << 10);

/// Why a frame could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum ProtocolError {
    /// The channel ended between two frames: the other side is gone.
    #[error("the other side closed the channel")]
    Closed,
    /// The channel failed or ended within a frame.
    #[error("the channel failed")]
    Io(#[source] io::Error),
    /// A frame longer than [`MAX_BODY`].
    #[error("a frame of {length} bytes is longer than allowed")]
    TooLong {
        /// The announced length in bytes.
        length: u32,
    },
    /// A number no version of this program knows.
    #[error("unknown message number {number}")]
    Unknown {
        /// The number.
        number: u16,
    },
    /// A body that is not what its number says.
    #[error("message {number} is malformed")]
    Malformed {
        /// The number.
        number: u16,
        /// What the decoder says.
        source: bincode::Error,
    },
}

/// A message body with its number.
pub trait Body: Serialize + DeserializeOwned {
    /// The number on the wire.
    const NUMBER: u16;
}

fn options() -> impl Options {
    bincode::DefaultOptions::new()
        .with_fixint_encoding()
        .with_little_endian()
        .with_limit(u64::from(MAX_BODY))
        .reject_trailing_bytes()
}

macro_rules! messages {
    ($($(#[$doc:meta])* $number:literal $name:ident { $($(#[$fdoc:meta])* $field:ident: $type:ty),* $(,)? })*) => {
        $(
            $(#[$doc])*
            #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
            pub struct $name { $($(#[$fdoc])* pub $field: $type),* }
            impl Body for $name { const NUMBER: u16 = $number; }
            impl From<$name> for Message { fn from(body: $name) -> Self { Self::$name(body) } }
        )*

        /// Any message, decoded.
        #[derive(Debug, Clone, PartialEq, Eq)]
        #[allow(missing_docs, reason = "each variant is the message of that name")]
        pub enum Message { $($name($name)),* }

        impl Message {
            /// The message's name, for errors.
            #[must_use]
            pub fn name(&self) -> &'static str {
                match self { $(Self::$name(_) => stringify!($name)),* }
            }

            /// The whole frame: length, number, body.
            ///
            /// # Errors
            /// [`ProtocolError::Malformed`] when the body is over [`MAX_BODY`].
            pub fn encode(&self) -> Result<Vec<u8>, ProtocolError> {
                match self { $(Self::$name(body) => encode(body)),* }
            }

            /// Decodes what follows the length of a frame.
            ///
            /// # Errors
            /// [`ProtocolError::Unknown`], [`ProtocolError::Malformed`].
            pub fn decode(frame: &[u8]) -> Result<Self, ProtocolError> {
                let Some((number, body)) = frame.split_first_chunk::<2>() else {
                    return Err(ProtocolError::Unknown { number: 0 });
                };
                match u16::from_le_bytes(*number) {
                    $($number => options().deserialize(body).map(Self::$name)
                        .map_err(|source| ProtocolError::Malformed { number: $number, source }),)*
                    number => Err(ProtocolError::Unknown { number }),
                }
            }
        }
    };
}

fn encode<B: Body>(body: &B) -> Result<Vec<u8>, ProtocolError> {
    let malformed = |source| ProtocolError::Malformed {
        number: B::NUMBER,
        source,
    };
    let body = options().serialize(body).map_err(malformed)?;
    let length = u32::try_from(body.len() + 2).unwrap_or(u32::MAX);
    if length > MAX_BODY {
        return Err(ProtocolError::TooLong { length });
    }
    let mut frame = Vec::with_capacity(body.len() + 6);
    frame.extend_from_slice(&length.to_le_bytes());
    frame.extend_from_slice(&B::NUMBER.to_le_bytes());
    frame.extend_from_slice(&body);
    Ok(frame)
}

/// What `current` is on a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Current {
    /// There is no `current`: nothing was ever deployed.
    Absent,
    /// A link to a release.
    Release(ReleaseId),
    /// Something relstore did not make (a folder, a link elsewhere); in words.
    Foreign(String),
}

/// Who holds the lock of a base.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Who runs it, `user@machine`.
    pub actor: String,
    /// `deploy` or `rollback`.
    pub action: String,
    /// The release it brings.
    pub release: ReleaseId,
    /// Since when, milliseconds since 1970.
    pub since_ms: i64,
    /// Process of the helper that took the lock.
    pub pid: u32,
}

/// An activation that nobody has confirmed yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    /// The deploy it belongs to.
    pub transaction: String,
    /// What served before; `None` on a first deploy.
    pub from: Option<ReleaseId>,
    /// What was activated.
    pub to: ReleaseId,
    /// When it goes back by itself, milliseconds since 1970.
    pub deadline_ms: i64,
    /// Boot id of the kernel that wrote it.
    pub boot_id: String,
    /// What makes the web server serve `current` anew after going back.
    pub reload: Vec<Vec<String>>,
}

/// What a base holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BaseState {
    /// What `current` is.
    pub current: Current,
    /// The release that served before.
    pub previous: Option<ReleaseId>,
    /// Releases that are whole here.
    pub complete: Vec<ReleaseId>,
    /// An activation nobody has confirmed.
    pub pending: Option<Pending>,
    /// Who holds the lock now.
    pub holder: Option<Holder>,
    /// Key of the active release's warm state, see [`Warmed::key`].
    pub warm_key: Option<String>,
}

/// Why a request was refused; decides the program's exit code and hint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reason {
    /// The request makes no sense now (wrong order, wrong version).
    Protocol,
    /// Another deploy holds the lock.
    Busy,
    /// The base cannot be used: unwritable, `current` is foreign, another file system layout.
    Base,
    /// Not enough room: bytes or inodes.
    DiskFull,
    /// A blob, manifest or release is not what its id says.
    Corrupt,
    /// A program is missing on the host or failed.
    Command,
    /// `current` is not the release that it should be: somebody else moved it.
    Moved,
    /// Any other system call that failed.
    Io,
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ended {
    /// With this exit status.
    Exited(i32),
    /// By this signal.
    Signalled(i32),
    /// It was ended after its time limit.
    TimedOut,
    /// The program could not be started (not found, not executable).
    NotStarted,
}

/// How a path of a release differs from its manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DriftKind {
    /// The content has another digest.
    Changed,
    /// Nothing is there.
    Missing,
    /// Something is there that the manifest does not name.
    Additional,
    /// The permissions differ.
    Mode,
    /// It is of another kind, or a link points elsewhere.
    Kind,
}

/// One difference between a host and its manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drift {
    /// Path relative to the release, escaped as in manifests.
    pub path: String,
    /// How it differs.
    pub kind: DriftKind,
    /// Expected and found, in words.
    pub detail: String,
}

/// An object of a store, as listed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreObject {
    /// Full name.
    pub name: String,
    /// Length in bytes.
    pub size: u64,
    /// When it was put, nanoseconds since 1970 by the clock of the store's machine.
    pub modified_ns: u64,
}

/// Why a request to a store was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum StoreFault {
    /// The name has other bytes.
    Conflict,
    /// No object can have the name, or a link leads out of the store.
    Damaged,
    /// No room or quota.
    NoSpace,
    /// Missing rights, or a file system that is mounted read-only.
    Permission,
    /// The helper was started with `--read-only`.
    ReadOnly,
    /// Any other system call that failed.
    Io,
    /// Messages in an order that makes no sense; the conversation ends.
    Protocol,
}

messages! {
    /// First frame of the helper, unasked.
    1 Hello {
        /// The helper's protocol version.
        protocol: u32,
        /// The helper's program version.
        version: String,
        /// Host name.
        host: String,
        /// Login name, or the number when it has none.
        user: String,
        /// Free bytes for an unprivileged user on the base's file system.
        free_bytes: u64,
        /// Free inodes; `u64::MAX` where the file system does not count them.
        free_inodes: u64,
        /// Unconfirmed activation that this start of the helper took back, in words.
        settled: Option<String>,
        /// What the base holds.
        state: BaseState,
    }
    /// Reply: the request failed; says what state things are in.
    2 Refused {
        /// Kind of failure.
        reason: Reason,
        /// What was attempted and failed, lower case, no period.
        message: String,
        /// The causes, outermost first.
        causes: Vec<String>,
        /// What the base is like now.
        state: String,
        /// What to do next.
        hint: String,
    }
    /// A line a running command printed; any number before a reply.
    3 Output {
        /// The step it belongs to.
        step: String,
        /// The line without its line feed, invalid UTF-8 replaced, 4096 bytes at most.
        line: String,
    }
    /// Reply to [`Lock`].
    4 Locked {
        /// The base under the lock.
        state: BaseState,
    }
    /// Reply to [`Transferred`] and [`Materialise`]: these blobs are missing or do not hash.
    6 Need {
        /// The blobs to send whole.
        blobs: Vec<BlobId>,
    }
    /// Reply to [`Transferred`]: every blob of the manifest is here.
    7 Received {
        /// Blobs stored by this transfer.
        blobs: u64,
        /// Their raw bytes.
        bytes: u64,
    }
    /// Reply to [`Materialise`]: `releases/<id>` is whole and verified byte for byte.
    8 Materialised {
        /// Files in the release.
        files: u64,
        /// Raw bytes verified.
        bytes: u64,
        /// Files that share their inode with a blob; the others were copied (or are empty).
        linked: u64,
        /// The release was here already.
        reused: bool,
    }
    /// Reply to [`Check`].
    9 Checked {
        /// What is wrong, one line per failed requirement; empty means all hold.
        failures: Vec<String>,
    }
    /// Reply to [`Run`].
    10 Ran {
        /// How the command ended.
        ended: Ended,
        /// Wall time in milliseconds.
        milliseconds: u64,
    }
    /// Reply to [`Warm`].
    11 Warmed {
        /// BLAKE3 over release id, `.env` digest and PHP version; hex.
        key: String,
        /// The state of that key was there already and nothing was run.
        reused: bool,
        /// Files made.
        files: u64,
        /// First line of `php --version`.
        php: String,
    }
    /// Reply to [`Switch`].
    12 Switched {
        /// When, milliseconds since 1970.
        at_ms: i64,
    }
    /// Reply to [`GoBack`].
    13 WentBack {
        /// What `current` is now.
        current: Current,
    }
    /// Reply to [`Prune`].
    14 Pruned {
        /// Releases removed.
        removed: Vec<ReleaseId>,
        /// Blobs removed.
        blobs: u64,
        /// Bytes freed.
        bytes: u64,
        /// What could not be removed, in words.
        problems: Vec<String>,
    }
    /// Reply to [`Verify`].
    15 Verified {
        /// What was compared.
        release: ReleaseId,
        /// Files hashed.
        files: u64,
        /// Bytes hashed.
        bytes: u64,
        /// Every difference.
        drift: Vec<Drift>,
    }
    /// Reply to [`History`].
    16 Entries {
        /// Exact ledger lines, oldest first, without line feeds.
        lines: Vec<String>,
    }
    /// Reply to [`Record`].
    17 Recorded {
        /// Number of the entry, from 1.
        number: u64,
        /// BLAKE3 of the line, hex.
        hash: String,
        /// The exact line without line feed.
        line: String,
    }
    /// Reply to [`Confirm`], [`Unlock`].
    18 Done {}
    /// Reply to [`Manifest`]: which of its blobs are already here is known to the helper; go on.
    19 ManifestAccepted {
        /// Entries in the manifest.
        entries: u64,
    }
    /// Reply to [`Status`].
    20 State {
        /// What the base holds.
        state: BaseState,
    }

    /// Takes the base's lock, makes the base's folders when absent, writes the intent to the
    /// ledger. Answered by [`Locked`].
    100 Lock {
        /// Name of this deploy, unique: `<unix ms>-<8 hex digits>`.
        transaction: String,
        /// Who, `user@machine`.
        actor: String,
        /// `deploy` or `rollback`.
        action: String,
        /// Environment name.
        environment: String,
        /// The release to bring.
        release: ReleaseId,
        /// Commit the release was built from, if known.
        commit: Option<String>,
        /// Group of the web server, which must be able to use shared and writable paths.
        web_group: Option<String>,
    }
    /// The manifest of the release to bring. Answered by [`ManifestAccepted`].
    102 Manifest {
        /// Its id.
        release: ReleaseId,
        /// A complete release of the host whose manifest text is the zstd reference prefix.
        base: Option<ReleaseId>,
        /// Length of the manifest text in bytes.
        length: u64,
        /// One zstd frame.
        #[serde(with = "raw_bytes")]
        frame: Vec<u8>,
    }
    /// Begins a pack: one zstd frame that decodes to these blobs, one after the other. Not
    /// answered; a blob that fails is asked for by [`Need`].
    103 Pack {
        /// Ids and lengths in bytes.
        blobs: Vec<(BlobId, u64)>,
        /// A blob of the host whose content is the zstd reference prefix.
        prefix: Option<BlobId>,
    }
    /// Bytes of the pack's frame, [`MAX_PART`] at most. Not answered.
    104 PackPart {
        /// The bytes.
        #[serde(with = "raw_bytes")]
        bytes: Vec<u8>,
    }
    /// Ends the pack. Not answered.
    105 PackEnd {}
    /// All was sent. Answered by [`Received`] or [`Need`].
    106 Transferred {}
    /// Makes `releases/<id>` from the blobs. Answered by [`Materialised`], or [`Need`] when blobs
    /// of the host turn out damaged.
    107 Materialise {
        /// The release of the last accepted manifest, or one that is complete here.
        release: ReleaseId,
        /// Where `.env` is, relative to the base or absolute.
        dotenv: String,
    }
    /// Looks for required files and folders in a release. Answered by [`Checked`].
    108 Check {
        /// The release.
        release: ReleaseId,
        /// What has to be there.
        requirements: Vec<Requirement>,
    }
    /// Runs a command in a release's folder, in a session of its own. Answered by [`Ran`].
    109 Run {
        /// Name of the step, for the journal.
        step: String,
        /// The release.
        release: ReleaseId,
        /// Program and arguments; no shell.
        argv: Vec<String>,
        /// File mode mask.
        umask: u32,
        /// Time limit in milliseconds.
        timeout_ms: u64,
    }
    /// Makes the release's warm state: configuration, route, event and view caches. Answered by
    /// [`Warmed`].
    110 Warm {
        /// The release.
        release: ReleaseId,
        /// The PHP program.
        php: String,
        /// Time limit of each command in milliseconds.
        timeout_ms: u64,
    }
    /// Makes `current` the release, if it is what it was under the lock. Answered by [`Switched`].
    111 Switch {
        /// What `current` has to be.
        from: Option<ReleaseId>,
        /// What it shall be.
        to: ReleaseId,
        /// Goes back when not confirmed within this time in milliseconds.
        confirm_within_ms: u64,
        /// Commands that make the web server serve `current` anew.
        reload: Vec<Vec<String>>,
    }
    /// The new release is healthy: it stays. Answered by [`Done`].
    112 Confirm {}
    /// Takes the unconfirmed activation back. Answered by [`WentBack`].
    113 GoBack {}
    /// Removes old releases and blobs nothing needs. Answered by [`Pruned`].
    114 Prune {
        /// How many releases stay; the active and the previous one are among them and always stay.
        keep: u32,
    }
    /// Compares a release (default: the active one) with its manifest. Answered by [`Verified`].
    115 Verify {
        /// The release.
        release: Option<ReleaseId>,
    }
    /// Reads the ledger. Answered by [`Entries`].
    116 History {
        /// How many entries at most, the newest; 0 for all.
        last: u32,
    }
    /// Writes the outcome to the ledger. Answered by [`Recorded`].
    117 Record {
        /// `live`, `rolled-back`, `failed`, `unhealthy`, `unchanged`.
        outcome: String,
        /// One line for people.
        message: String,
    }
    /// Gives the lock back. Answered by [`Done`].
    118 Unlock {}
    /// Asks for the base's state. Answered by [`State`].
    119 Status {}

    /// First frame of a helper that serves a store, unasked.
    200 StoreHello {
        /// The helper's [`STORE_PROTOCOL`].
        protocol: u32,
        /// The helper's program version.
        version: String,
        /// The folder it serves.
        root: String,
        /// It only reads.
        read_only: bool,
        /// Free bytes for an unprivileged user on the folder's file system.
        free_bytes: u64,
        /// Free inodes; `u64::MAX` where the file system does not count them.
        free_inodes: u64,
    }
    /// Reply: the request failed and changed nothing that anybody sees.
    201 StoreRefused {
        /// Kind of failure.
        fault: StoreFault,
        /// What failed on which path, and why.
        message: String,
    }
    /// Reply to [`StoreGet`]: it is followed by [`StoreBytes`] of this length in all.
    202 StoreFound {
        /// Bytes that follow.
        length: u64,
    }
    /// Bytes of an object, [`MAX_PART`] at most.
    203 StoreBytes {
        /// The bytes.
        #[serde(with = "raw_bytes")]
        bytes: Vec<u8>,
    }
    /// Reply to [`StoreGet`]: there is no such object.
    204 StoreAbsent {}
    /// A part of the reply to [`StoreList`], before [`StoreDone`].
    205 StoreObjects {
        /// Some objects; over all parts their names increase strictly.
        objects: Vec<StoreObject>,
    }
    /// Reply: done, durably where the request changes something.
    206 StoreDone {}

    /// Asks for bytes of an object. Answered by [`StoreFound`] and [`StoreBytes`], or
    /// [`StoreAbsent`]. A failure in the middle is a [`StoreRefused`] in place of the next part.
    220 StoreGet {
        /// The object.
        name: String,
        /// First byte.
        offset: u64,
        /// How many; fewer come where the object ends. `u64::MAX` for all.
        length: u64,
    }
    /// Begins an object. Not answered.
    221 StorePut {
        /// Its name.
        name: String,
        /// It takes the place of whatever has the name.
        advisory: bool,
    }
    /// Bytes of the object that was begun, [`MAX_PART`] at most. Not answered.
    222 StorePart {
        /// The bytes.
        #[serde(with = "raw_bytes")]
        bytes: Vec<u8>,
    }
    /// Ends the object. Answered by [`StoreDone`].
    223 StorePutEnd {
        /// Its length in bytes; another one is refused.
        length: u64,
    }
    /// Asks for all objects whose names begin with a prefix. Answered by any number of
    /// [`StoreObjects`] and then [`StoreDone`].
    224 StoreList {
        /// The prefix: empty, or ends in `/`.
        prefix: String,
    }
    /// Removes an object. Answered by [`StoreDone`].
    225 StoreDelete {
        /// The object.
        name: String,
    }
    /// Makes the names directly below a folder durable. Answered by [`StoreDone`].
    226 StoreSettle {
        /// The folder.
        folder: String,
    }
}

/// Reads one frame, blocking.
///
/// # Errors
/// [`ProtocolError`]; [`ProtocolError::Closed`] only at a frame's border.
pub fn read(from: &mut impl Read) -> Result<Message, ProtocolError> {
    read_up_to(from, MAX_BODY)
}

/// Reads one frame whose body is `limit` bytes at most, blocking.
///
/// # Errors
/// As [`read`].
pub fn read_up_to(from: &mut impl Read, limit: u32) -> Result<Message, ProtocolError> {
    let mut length = [0; 4];
    let mut filled = 0;
    while filled < length.len() {
        match from.read(&mut length[filled..]) {
            Ok(0) if filled == 0 => return Err(ProtocolError::Closed),
            Ok(0) => return Err(ProtocolError::Io(io::ErrorKind::UnexpectedEof.into())),
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(ProtocolError::Io(error)),
        }
    }
    let length = frame_length(length)?;
    if length > limit {
        return Err(ProtocolError::TooLong { length });
    }
    // `take` and not a buffer of the announced length: a liar has to send what it announces.
    let mut frame = Vec::new();
    from.take(u64::from(length))
        .read_to_end(&mut frame)
        .map_err(ProtocolError::Io)?;
    if frame.len() as u64 != u64::from(length) {
        return Err(ProtocolError::Io(io::ErrorKind::UnexpectedEof.into()));
    }
    Message::decode(&frame)
}

/// Checks the first four bytes of a frame: the length of what follows.
///
/// # Errors
/// [`ProtocolError::TooLong`].
pub fn frame_length(bytes: [u8; 4]) -> Result<u32, ProtocolError> {
    let length = u32::from_le_bytes(bytes);
    if length > MAX_BODY {
        Err(ProtocolError::TooLong { length })
    } else {
        Ok(length)
    }
}

/// Writes one frame, blocking, and flushes.
///
/// # Errors
/// [`ProtocolError`].
pub fn write(to: &mut impl Write, message: &Message) -> Result<(), ProtocolError> {
    to.write_all(&message.encode()?)
        .and_then(|()| to.flush())
        .map_err(ProtocolError::Io)
}

#[cfg(test)]
#[path = "protocol_store_tests.rs"]
mod store_tests;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn golden_frames() {
        assert_eq!(
            Message::from(PackEnd {}).encode().unwrap(),
            [2, 0, 0, 0, 105, 0]
        );
        let prune = Message::from(Prune { keep: 5 }).encode().unwrap();
        assert_eq!(prune, [6, 0, 0, 0, 114, 0, 5, 0, 0, 0]);
        let need = Message::from(Need {
            blobs: vec![BlobId::from_bytes([7; 32])],
        })
        .encode()
        .unwrap();
        let mut expected = vec![42, 0, 0, 0, 6, 0, 1, 0, 0, 0, 0, 0, 0, 0];
        expected.extend([7; 32]);
        assert_eq!(need, expected);
        let went = Message::from(WentBack {
            current: Current::Foreign("x".into()),
        })
        .encode()
        .unwrap();
        assert_eq!(
            went,
            [15, 0, 0, 0, 13, 0, 2, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, b'x']
        );
    }

    #[test]
    fn frames_read_back_and_the_end_is_told_from_a_cut() {
        let message = Message::from(Output {
            step: "warm".into(),
            line: "ok".into(),
        });
        let bytes = message.encode().unwrap();
        assert_eq!(read(&mut bytes.as_slice()).unwrap(), message);
        assert!(matches!(
            read(&mut [].as_slice()),
            Err(ProtocolError::Closed)
        ));
        for cut in 1..bytes.len() {
            assert!(
                matches!(read(&mut &bytes[..cut]), Err(ProtocolError::Io(_))),
                "cut at {cut}"
            );
        }
    }

    #[test]
    fn trailing_bytes_unknown_numbers_and_long_frames_are_refused() {
        assert!(matches!(
            Message::decode(&[105, 0, 0]),
            Err(ProtocolError::Malformed { number: 105, .. })
        ));
        assert!(matches!(
            Message::decode(&[255, 255]),
            Err(ProtocolError::Unknown { number: 65535 })
        ));
        let long = (MAX_BODY + 1).to_le_bytes();
        assert!(matches!(
            read(&mut long.as_slice()),
            Err(ProtocolError::TooLong { .. })
        ));
        // A string that claims four GiB inside a short body allocates nothing of the kind.
        let mut liar = vec![104, 0];
        liar.extend(u64::MAX.to_le_bytes());
        assert!(matches!(
            Message::decode(&liar),
            Err(ProtocolError::Malformed { .. })
        ));
    }

    proptest! {
        #[test]
        fn decoding_anything_never_panics(bytes: Vec<u8>) {
            if let Ok(message) = Message::decode(&bytes) {
                prop_assert_eq!(&message.encode().unwrap()[4..], bytes.as_slice());
            }
        }
    }
}
