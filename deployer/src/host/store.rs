//! A store in a folder of this machine, served to one program.
//!
//! Requests are carried out one after the other, in the order they come, and answered in it; the
//! program sends as many as it likes ahead. What was answered with [`StoreDone`] is durable.
//! Memory stays at a few parts: objects pass through it piece by piece in both directions.
//! Nothing outside the root is read or written, whatever a name says; see [`Folder::confined`].

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::time::UNIX_EPOCH;

use relstore_store::StoreError;
use relstore_store::backend::Object;
use relstore_store::backend::folder::Folder;
use relstore_store::backend::incoming::{self, Incoming};

use super::disk;
use crate::protocol::{
    self, MAGIC, MAX_PART, MAX_STORE_BODY, Message, ProtocolError, STORE_PROTOCOL, StoreAbsent,
    StoreBytes, StoreDone, StoreFault, StoreFound, StoreHello, StoreObject, StoreObjects,
    StoreRefused,
};

/// Objects in one part of a list: about 100 KiB.
const PAGE: usize = 1000;
/// Buffer of each direction, in bytes: many small requests and replies per system call.
const BUFFER: usize = 128 << 10;

/// Why a request ended without its reply.
enum Failure {
    /// It failed; the next one may succeed.
    Store(StoreError),
    /// The channel failed: nobody listens.
    Channel(io::Error),
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

type Result<T> = std::result::Result<T, Failure>;

/// An object on its way in. A failure is told at its end, because its beginning and its parts
/// have no reply.
struct Arriving {
    name: String,
    advisory: bool,
    file: std::result::Result<Incoming, StoreError>,
}

struct Server<W: Write> {
    folder: Folder,
    read_only: bool,
    out: BufWriter<W>,
    arriving: Option<Arriving>,
}

/// Serves one program on `input` and `output` until it goes away. An object that has not arrived
/// whole by then is removed.
///
/// # Errors
/// When the channel cannot be written.
pub fn serve_store(
    root: &Path,
    read_only: bool,
    input: impl Read,
    output: impl Write,
) -> io::Result<()> {
    let mut input = BufReader::with_capacity(BUFFER, input);
    let mut server = Server {
        folder: Folder::confined(root.to_owned()),
        read_only,
        out: BufWriter::with_capacity(BUFFER, output),
        arriving: None,
    };
    if !read_only {
        incoming::sweep(&server.folder);
    }
    server.out.write_all(MAGIC)?;
    server.send(server.hello())?;
    loop {
        // Replies wait for each other only while there is more to do.
        if input.buffer().is_empty() {
            server.out.flush()?;
        }
        let request = match protocol::read_up_to(&mut input, MAX_STORE_BODY) {
            Ok(request) => request,
            Err(ProtocolError::Closed | ProtocolError::Io(_)) => return Ok(()),
            Err(error) => return server.part_ways(error.to_string()),
        };
        let name = request.name();
        match server.handle(request) {
            Ok(true) => {}
            Ok(false) => return server.part_ways(format!("{name} makes no sense here")),
            Err(Failure::Store(error)) => server.send(refusal(&error))?,
            Err(Failure::Channel(error)) => return Err(error),
        }
    }
}

impl<W: Write> Server<W> {
    fn send(&mut self, message: impl Into<Message>) -> io::Result<()> {
        let frame = message.into().encode().map_err(io::Error::other)?;
        self.out.write_all(&frame)
    }

    fn reply(&mut self, message: impl Into<Message>) -> Result<bool> {
        self.send(message).map(|()| true).map_err(Failure::Channel)
    }

    /// Ends the conversation: the two sides do not understand each other.
    fn part_ways(&mut self, message: String) -> io::Result<()> {
        let fault = StoreFault::Protocol;
        self.send(StoreRefused { fault, message })?;
        self.out.flush()
    }

    fn hello(&self) -> StoreHello {
        let (free_bytes, free_inodes) = disk::room(self.folder.root());
        StoreHello {
            protocol: STORE_PROTOCOL,
            version: env!("CARGO_PKG_VERSION").into(),
            root: self.folder.root().display().to_string(),
            read_only: self.read_only,
            free_bytes,
            free_inodes,
        }
    }

    /// Carries a request out; `false` when it is none, or not now.
    fn handle(&mut self, request: Message) -> Result<bool> {
        if let Some(arriving) = self.arriving.take() {
            return self.arrive(arriving, request);
        }
        match request {
            Message::StoreGet(get) => self.get(&get),
            Message::StorePut(put) => {
                self.arriving = Some(Arriving {
                    file: self.writable().and_then(|()| Incoming::begin(&self.folder)),
                    name: put.name,
                    advisory: put.advisory,
                });
                Ok(true)
            }
            Message::StoreList(list) => self.list(&list.prefix),
            Message::StoreDelete(delete) => {
                self.writable()?;
                self.folder.delete(&delete.name)?;
                self.reply(StoreDone {})
            }
            Message::StoreSettle(settle) => {
                self.folder.settle(&settle.folder)?;
                self.reply(StoreDone {})
            }
            _ => Ok(false),
        }
    }

    fn writable(&self) -> std::result::Result<(), StoreError> {
        if self.read_only {
            let place = self.folder.root().display().to_string();
            return Err(StoreError::ReadOnly { place });
        }
        Ok(())
    }

    /// Takes the next part of an object, or its end.
    fn arrive(&mut self, mut arriving: Arriving, request: Message) -> Result<bool> {
        match request {
            Message::StorePart(part) if part.bytes.len() <= MAX_PART => {
                if let Ok(file) = &mut arriving.file
                    && let Err(error) = file.write(&part.bytes)
                {
                    // What came so far is removed now: it may be what fills the disk.
                    arriving.file = Err(error);
                }
                self.arriving = Some(arriving);
                Ok(true)
            }
            Message::StorePutEnd(end) => {
                let file = arriving.file?;
                if file.length() != end.length {
                    return Ok(false);
                }
                file.put(&self.folder, &arriving.name, arriving.advisory)?;
                self.reply(StoreDone {})
            }
            _ => Ok(false),
        }
    }

    fn get(&mut self, get: &protocol::StoreGet) -> Result<bool> {
        let Some(mut file) = self.folder.open(&get.name)? else {
            return self.reply(StoreAbsent {});
        };
        let path = self.folder.root().join(&get.name);
        let failed = |source| StoreError::Io {
            what: "read",
            path: path.clone(),
            source,
        };
        let size = file.metadata().map_err(failed)?.len();
        let offset = get.offset.min(size);
        let mut left = get.length.min(size - offset);
        file.seek(SeekFrom::Start(offset)).map_err(failed)?;
        self.reply(StoreFound { length: left })?;
        while left > 0 {
            let bytes = part(&mut file, left).map_err(failed)?;
            left -= bytes.len() as u64;
            self.reply(StoreBytes { bytes })?;
        }
        Ok(true)
    }

    fn list(&mut self, prefix: &str) -> Result<bool> {
        let folder = self.folder.clone();
        let mut objects = Vec::new();
        folder.list_each(prefix, &mut |object| {
            objects.push(listed(object));
            if objects.len() == PAGE {
                let objects = std::mem::take(&mut objects);
                self.reply(StoreObjects { objects })?;
            }
            Ok::<_, Failure>(())
        })?;
        if !objects.is_empty() {
            self.reply(StoreObjects { objects })?;
        }
        self.reply(StoreDone {})
    }
}

/// The next bytes of a file, as many as one part holds.
fn part(file: &mut File, left: u64) -> io::Result<Vec<u8>> {
    let length = left.min(MAX_PART as u64);
    let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or(MAX_PART));
    file.take(length).read_to_end(&mut bytes)?;
    if bytes.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(bytes)
}

fn listed(object: Object) -> StoreObject {
    let since = object.modified.duration_since(UNIX_EPOCH);
    StoreObject {
        name: object.name,
        size: object.size,
        modified_ns: since.map_or(0, |since| {
            u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
        }),
    }
}

fn refusal(error: &StoreError) -> StoreRefused {
    let (fault, message) = match error {
        StoreError::Conflict { .. } => (StoreFault::Conflict, String::new()),
        StoreError::Damaged { what, .. } => (StoreFault::Damaged, what.clone()),
        StoreError::ReadOnly { .. } => (StoreFault::ReadOnly, String::new()),
        StoreError::Io { source, .. } => {
            let fault = match source.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreFault::NoSpace,
                io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                    StoreFault::Permission
                }
                _ => StoreFault::Io,
            };
            (fault, format!("{error}: {source}"))
        }
        other => (StoreFault::Io, other.to_string()),
    };
    StoreRefused { fault, message }
}
