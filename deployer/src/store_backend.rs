//! A store on another machine, over SSH: the store's [`Backend`] on top of the host helper.
//!
//! ```text
//! many tasks -> SshBackend -> Connection -> one SSH channel -> relstore-host store --root ...
//! ```
//! One connection carries everything; requests are sent without waiting for replies, so that a
//! long line costs its delay once and not once per object. A connection that is lost is opened
//! again, and what was under way on it asked again, once: each request may be made twice.

mod answer;
mod connection;
mod fault;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use relstore_store::StoreError;
use relstore_store::backend::{Backend, Content, Object};
use tokio::sync::{Mutex, Semaphore, SemaphorePermit};

use crate::protocol::StoreHello;
use crate::transport::{self, Caller, Endpoint, HelperBinary};
use answer::Answer;
use connection::{Connection, Failed};
use fault::At;

/// Bytes that may be under way, in KiB: 64 MiB.
const WINDOW: u32 = 64 << 10;
/// What a whole object counts whose length is not known yet, in KiB.
const UNKNOWN: u32 = 1 << 10;
/// How often a request is made when connections are lost.
const TRIES: u32 = 2;
/// How many idle limits of a connection the helper may be silent: it may be syncing a bundle.
const PATIENCE: u32 = 4;

/// What the store is asked for. Each may be asked twice.
#[derive(Debug, Clone)]
enum Request {
    Get {
        name: String,
        offset: u64,
        length: u64,
    },
    Put {
        name: String,
        advisory: bool,
        source: Source,
    },
    List {
        prefix: String,
    },
    Delete {
        name: String,
    },
    Settle {
        folder: String,
    },
}

/// The bytes of an object that is put.
#[derive(Debug, Clone)]
enum Source {
    Bytes(Bytes),
    File(Arc<tempfile::NamedTempFile>),
}

impl Request {
    /// The attempt and the object, for errors.
    fn subject(&self) -> (&'static str, &str) {
        match self {
            Self::Get { name, .. } => ("read", name),
            Self::Put { name, .. } => ("write", name),
            Self::List { prefix } => ("list", prefix),
            Self::Delete { name } => ("delete", name),
            Self::Settle { folder } => ("sync folder", folder),
        }
    }

    /// Its share of [`WINDOW`].
    fn weight(&self) -> u32 {
        let kib = |bytes: u64| u32::try_from(bytes >> 10).unwrap_or(u32::MAX);
        let weight = match self {
            Self::Get {
                length: u64::MAX, ..
            } => UNKNOWN,
            Self::Get { length, .. } => kib(*length),
            Self::Put {
                source: Source::Bytes(bytes),
                ..
            } => kib(bytes.len() as u64),
            // Read from the disk part by part while it is sent.
            Self::Put { .. } => UNKNOWN,
            _ => 0,
        };
        weight.clamp(1, WINDOW)
    }
}

/// A folder of another machine, reached by SSH; or of this one, through the same helper.
pub struct SshBackend {
    endpoint: Endpoint,
    root: String,
    helper: HelperBinary,
    caller: Caller,
    spool: PathBuf,
    place: String,
    window: Semaphore,
    connection: Mutex<Arc<Connection>>,
}

impl fmt::Debug for SshBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SshBackend")
            .field("place", &self.place)
            .finish_non_exhaustive()
    }
}

impl SshBackend {
    /// Connects to `endpoint` and starts the helper for the folder `root` there, an absolute path,
    /// after copying it when it is missing. `spool` is a folder of this machine for files that
    /// are about to be put; it is made when it does not exist.
    ///
    /// # Errors
    /// [`StoreError::Remote`] with what is in the way and what to do about it;
    /// [`StoreError::Io`] for the spool.
    pub async fn open(
        endpoint: Endpoint,
        root: &str,
        helper: HelperBinary,
        caller: Caller,
        spool: PathBuf,
    ) -> Result<Self, StoreError> {
        let root = match root.trim_end_matches('/') {
            "" => root,
            trimmed => trimmed,
        };
        let place = match &endpoint {
            Endpoint::Local => root.to_owned(),
            Endpoint::Ssh(target) => format!("ssh://{target}{root}"),
        };
        let folder = spool.clone();
        tokio::task::spawn_blocking(move || relstore_store::fs::create_dirs(&folder))
            .await
            .map_err(|_| StoreError::Interrupted)??;
        let connection = connect(&endpoint, root, &helper, &caller, &place).await?;
        Ok(Self {
            root: root.to_owned(),
            endpoint,
            helper,
            caller,
            spool,
            place,
            window: Semaphore::new(WINDOW as usize),
            connection: Mutex::new(Arc::new(connection)),
        })
    }

    /// What the helper said first: its version, whether it only reads, how much room there is.
    pub async fn hello(&self) -> StoreHello {
        self.connection.lock().await.hello().clone()
    }

    /// The connection; opened again when it was lost.
    async fn connection(&self) -> Result<Arc<Connection>, StoreError> {
        let mut connection = self.connection.lock().await;
        if connection.is_lost() {
            let (endpoint, place) = (&self.endpoint, &self.place);
            let again = connect(endpoint, &self.root, &self.helper, &self.caller, place).await?;
            *connection = Arc::new(again);
        }
        Ok(Arc::clone(&connection))
    }

    /// Takes a request's share of the window.
    async fn share(&self, request: &Request) -> Result<SemaphorePermit<'_>, StoreError> {
        let share = self.window.acquire_many(request.weight()).await;
        share.map_err(|_| StoreError::Interrupted)
    }

    async fn ask(&self, request: Request) -> Result<Answer, StoreError> {
        let (what, name) = request.subject();
        let at = At {
            what,
            name,
            place: &self.place,
        };
        let _share = self.share(&request).await?;
        let mut tries = TRIES;
        loop {
            tries -= 1;
            match self.connection().await?.ask(request.clone()).await {
                Ok(answer) => return Ok(answer),
                Err(Failed::Refused(refused)) => return Err(at.refused(refused)),
                Err(Failed::Lost(lost)) if tries == 0 => return Err(at.lost(lost)),
                Err(Failed::Lost(_)) => {}
            }
        }
    }

    async fn read(
        &self,
        name: &str,
        offset: u64,
        length: u64,
    ) -> Result<Option<Bytes>, StoreError> {
        let request = Request::Get {
            name: name.to_owned(),
            offset,
            length,
        };
        match self.ask(request).await? {
            Answer::Bytes(bytes) => Ok(bytes),
            _ => Err(StoreError::Interrupted),
        }
    }

    async fn write(&self, name: &str, advisory: bool, source: Source) -> Result<(), StoreError> {
        let request = Request::Put {
            name: name.to_owned(),
            advisory,
            source,
        };
        self.ask(request).await.map(drop)
    }
}

async fn connect(
    endpoint: &Endpoint,
    root: &str,
    helper: &HelperBinary,
    caller: &Caller,
    place: &str,
) -> Result<Connection, StoreError> {
    let at = At {
        what: "connect to",
        name: "the store",
        place,
    };
    let channel = transport::open_store(endpoint, root, helper, caller)
        .await
        .map_err(|error| at.unreached(error))?;
    let limit = caller.limits.idle * PATIENCE;
    let opened = Connection::open(channel.into(), limit).await;
    let connection = opened.map_err(|lost| at.lost(lost))?;
    // A key that may only use one store starts its helper whatever was asked for.
    let served = &connection.hello().root;
    if served.trim_end_matches('/') != root {
        return Err(at.other_root(served));
    }
    Ok(connection)
}

#[async_trait]
impl Backend for SshBackend {
    async fn get(&self, name: &str) -> Result<Option<Bytes>, StoreError> {
        self.read(name, 0, u64::MAX).await
    }

    async fn get_range(
        &self,
        name: &str,
        offset: u64,
        length: u64,
    ) -> Result<Option<Bytes>, StoreError> {
        self.read(name, offset, length).await
    }

    async fn put(&self, name: &str, content: Content) -> Result<(), StoreError> {
        let source = match content {
            Content::Bytes(bytes) => Source::Bytes(bytes),
            Content::File(file) => Source::File(Arc::new(file)),
        };
        self.write(name, false, source).await
    }

    async fn put_advisory(&self, name: &str, bytes: Bytes) -> Result<(), StoreError> {
        self.write(name, true, Source::Bytes(bytes)).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Object>, StoreError> {
        let prefix = prefix.to_owned();
        match self.ask(Request::List { prefix }).await? {
            Answer::Objects(objects) => Ok(objects),
            _ => Err(StoreError::Interrupted),
        }
    }

    async fn delete(&self, name: &str) -> Result<(), StoreError> {
        let name = name.to_owned();
        self.ask(Request::Delete { name }).await.map(drop)
    }

    async fn settle(&self, folder: &str) -> Result<(), StoreError> {
        let folder = folder.to_owned();
        self.ask(Request::Settle { folder }).await.map(drop)
    }

    fn spool(&self) -> PathBuf {
        self.spool.clone()
    }

    fn place(&self) -> String {
        self.place.clone()
    }
}
