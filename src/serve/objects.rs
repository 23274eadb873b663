//! What can be asked for: objects of the store by name, and a listing made when it is asked for.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt};
use relstore_store::StoreError;
use relstore_store::backend::{Backend, is_object_name};
use relstore_store::listing::{self, LISTING};
use tokio::sync::Mutex as AsyncMutex;

/// What is read of the store at once, in bytes.
const PIECE: u64 = 1 << 20;
/// Pieces that are read ahead of what was sent.
const AHEAD: usize = 2;
/// How old a listing may be.
const FRESH: Duration = Duration::from_secs(1);
/// Folders whose objects are what they are for ever. The others hold marks: that one is there says
/// something, which gc may take back.
const LASTING: [&str; 7] = [
    "bundles/",
    "derivations/",
    "environments/",
    "index/",
    "manifests/",
    "packages/",
    "records/",
];

/// The objects of a store.
pub(super) struct Objects {
    backend: Arc<dyn Backend>,
    /// Sizes of the objects that are longer than a piece: those of one name never change.
    sizes: Arc<Mutex<HashMap<String, u64>>>,
    listing: AsyncMutex<Option<(Instant, Bytes)>>,
}

/// An object that is there.
pub(super) struct Found {
    pub(super) size: u64,
    /// Strong: equal bytes, or equal names where names decide the bytes.
    pub(super) etag: String,
    /// Whether what has its name can be kept for ever.
    pub(super) lasting: bool,
    source: Source,
}

enum Source {
    Whole(Bytes),
    Pieces { objects: Pieces, name: String },
}

/// Bytes of an object, piece by piece.
pub(super) type Body = BoxStream<'static, Result<Bytes, StoreError>>;

#[derive(Clone)]
struct Pieces {
    backend: Arc<dyn Backend>,
    sizes: Arc<Mutex<HashMap<String, u64>>>,
}

impl Objects {
    pub(super) fn new(backend: Arc<dyn Backend>) -> Self {
        Self {
            backend,
            sizes: Arc::default(),
            listing: AsyncMutex::default(),
        }
    }

    /// Finds an object; `None` also for names that no object can have.
    pub(super) async fn find(&self, name: &str) -> Result<Option<Found>, StoreError> {
        if !is_object_name(name) {
            return Ok(None);
        }
        if name == LISTING {
            return Ok(Some(Found::of_content(self.listing().await?)));
        }
        let known = self.sizes().get(name).copied();
        let size = match known {
            Some(size) => size,
            None => match self.backend.get_range(name, 0, PIECE).await? {
                None => return Ok(None),
                Some(bytes) if (bytes.len() as u64) < PIECE => {
                    return Ok(Some(Found::small(name, bytes)));
                }
                Some(_) => match self.size(name).await? {
                    Some(size) => size,
                    None => return Ok(None),
                },
            },
        };
        Ok(Some(Found {
            size,
            etag: of_name(name),
            lasting: is_lasting(name),
            source: Source::Pieces {
                objects: Pieces {
                    backend: Arc::clone(&self.backend),
                    sizes: Arc::clone(&self.sizes),
                },
                name: name.to_owned(),
            },
        }))
    }

    /// The size of a long object. Those beside it are asked for soon, and are remembered as well.
    async fn size(&self, name: &str) -> Result<Option<u64>, StoreError> {
        let folder = name.rfind('/').map_or("", |at| &name[..=at]);
        let listed = self.backend.list(folder).await?;
        let long = listed.into_iter().filter(|object| object.size >= PIECE);
        let mut sizes = self.sizes();
        sizes.extend(long.map(|object| (object.name, object.size)));
        Ok(sizes.get(name).copied())
    }

    /// A listing that is at most [`FRESH`] old; one is made for all who wait.
    async fn listing(&self) -> Result<Bytes, StoreError> {
        let mut slot = self.listing.lock().await;
        if let Some((made, bytes)) = slot.as_ref()
            && made.elapsed() < FRESH
        {
            return Ok(bytes.clone());
        }
        let bytes = listing::made(self.backend.as_ref()).await?;
        *slot = Some((Instant::now(), bytes.clone()));
        Ok(bytes)
    }

    fn sizes(&self) -> std::sync::MutexGuard<'_, HashMap<String, u64>> {
        self.sizes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Found {
    fn small(name: &str, bytes: Bytes) -> Self {
        if !name.contains('/') {
            return Self::of_content(bytes);
        }
        Self {
            size: bytes.len() as u64,
            etag: of_name(name),
            lasting: is_lasting(name),
            source: Source::Whole(bytes),
        }
    }

    /// One whose bytes may be others tomorrow.
    fn of_content(bytes: Bytes) -> Self {
        Self {
            size: bytes.len() as u64,
            etag: quoted(&bytes),
            lasting: false,
            source: Source::Whole(bytes),
        }
    }

    /// Bytes of the object; `None` when it went meanwhile. The first piece is read at once, so that
    /// what cannot be read is an error and not a cut answer.
    pub(super) async fn read(self, range: Range<u64>) -> Result<Option<Body>, StoreError> {
        let (objects, name) = match self.source {
            Source::Whole(bytes) => {
                let bytes = bytes.slice(range.start as usize..range.end as usize);
                return Ok(Some(stream::iter([Ok(bytes)]).boxed()));
            }
            Source::Pieces { objects, name } => (objects, name),
        };
        let starts = (range.start..range.end).step_by(PIECE as usize);
        let mut pieces = starts.map(move |start| start..range.end.min(start + PIECE));
        let Some(first) = pieces.next() else {
            return Ok(Some(stream::empty().boxed()));
        };
        let first = match objects.piece(&name, first).await {
            Err(StoreError::Damaged { .. }) => return Ok(None),
            read => read?,
        };
        let rest = stream::iter(pieces)
            .map(move |piece| {
                let (objects, name) = (objects.clone(), name.clone());
                async move { objects.piece(&name, piece).await }
            })
            .buffered(AHEAD);
        Ok(Some(stream::iter([Ok(first)]).chain(rest).boxed()))
    }
}

impl Pieces {
    async fn piece(&self, name: &str, piece: Range<u64>) -> Result<Bytes, StoreError> {
        let length = piece.end - piece.start;
        match self.backend.get_range(name, piece.start, length).await? {
            Some(bytes) if bytes.len() as u64 == length => Ok(bytes),
            _ => {
                let mut sizes = self.sizes.lock().unwrap_or_else(PoisonError::into_inner);
                sizes.remove(name);
                Err(StoreError::Damaged {
                    name: name.to_owned(),
                    what: "it is gone, or shorter than it was".into(),
                })
            }
        }
    }
}

fn is_lasting(name: &str) -> bool {
    LASTING.iter().any(|folder| name.starts_with(folder))
}

fn of_name(name: &str) -> String {
    quoted(name.as_bytes())
}

fn quoted(bytes: &[u8]) -> String {
    format!("\"{}\"", &blake3::hash(bytes).to_hex()[..32])
}
