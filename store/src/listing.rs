//! `listing.zst`: which objects a store has, for readers that cannot list, such as those of a static
//! web server. One zstd frame of text, see `docs/format.md`:
//!
//! ```text
//! relstore-listing 1
//! name TAB bytes TAB milliseconds since 1970 LF      by name
//! ```
//! It is advisory: it may be old or lost, and what it says is believed only as far as the objects
//! themselves agree. Encoding and decoding are pure; [`write_listing`] and [`Store::refresh_listing`]
//! write it.

use std::io::Read;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;

use crate::backend::{Backend, Object, is_object_name};
use crate::blocking::blocking;
use crate::error::StoreError;
use crate::store::Store;

/// Name of the object.
pub const LISTING: &str = "listing.zst";

const MAGIC: &str = "relstore-listing 1\n";
/// Most bytes of text: about a million objects.
const MAX_TEXT: u64 = 256 << 20;
/// Most of the text are digits of digests, which no level makes smaller.
const LEVEL: i32 = 3;
/// Probes are deleted as soon as they are made.
const PROBES: &str = "probes/";

/// Objects by name, each name once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    objects: Vec<Object>,
}

/// Why bytes are not a listing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ListingError {
    /// Not one whole zstd frame.
    #[error("it is not one zstd frame of at most {MAX_TEXT} bytes")]
    Frame,
    /// Another first line, or a last one without an end.
    #[error("it does not begin with `relstore-listing 1`, or ends in the middle of a line")]
    Magic,
    /// A line that the writer would not write.
    #[error("line {line} is not `name TAB bytes TAB milliseconds`")]
    Line {
        /// Number of the line, from 1.
        line: usize,
    },
    /// A name that is not after the one before.
    #[error("line {line} is not in order")]
    Order {
        /// Number of the line, from 1.
        line: usize,
    },
}

impl Listing {
    /// Takes what a backend lists, in any order. Left out are the listing itself, probes, files
    /// still being written and names that are not relstore's. Times are cut to milliseconds, and
    /// those before 1970 to its beginning.
    #[must_use]
    pub fn of(objects: Vec<Object>) -> Self {
        let listed =
            |name: &str| is_object_name(name) && name != LISTING && !name.starts_with(PROBES);
        let mut objects = objects;
        objects.retain(|object| listed(&object.name));
        objects.sort_by(|a, b| a.name.cmp(&b.name));
        objects.dedup_by(|a, b| a.name == b.name);
        for object in &mut objects {
            object.modified = time(milliseconds(object.modified)).unwrap_or(UNIX_EPOCH);
        }
        Self { objects }
    }

    /// All objects, by name.
    #[must_use]
    pub fn objects(&self) -> &[Object] {
        &self.objects
    }

    /// Those whose names begin with `prefix`.
    #[must_use]
    pub fn below(&self, prefix: &str) -> &[Object] {
        let from = self
            .objects
            .partition_point(|object| object.name.as_str() < prefix);
        let rest = &self.objects[from..];
        &rest[..rest.partition_point(|object| object.name.starts_with(prefix))]
    }

    /// The canonical text.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = MAGIC.to_owned();
        for object in &self.objects {
            let Object {
                name,
                size,
                modified,
            } = object;
            text.push_str(&format!("{name}\t{size}\t{}\n", milliseconds(*modified)));
        }
        text
    }

    /// Reads the text; accepts exactly what [`Listing::to_text`] writes.
    ///
    /// # Errors
    /// [`ListingError`].
    pub fn parse(text: &[u8]) -> Result<Self, ListingError> {
        let text = str::from_utf8(text).map_err(|_| ListingError::Magic)?;
        let lines = text.strip_prefix(MAGIC).ok_or(ListingError::Magic)?;
        if !(lines.is_empty() || lines.ends_with('\n')) {
            return Err(ListingError::Magic);
        }
        let mut objects: Vec<Object> = Vec::new();
        for (at, line) in lines.split_terminator('\n').enumerate() {
            let line_number = at + 2;
            let object = parse_line(line).ok_or(ListingError::Line { line: line_number })?;
            if objects.last().is_some_and(|last| last.name >= object.name) {
                return Err(ListingError::Order { line: line_number });
            }
            objects.push(object);
        }
        Ok(Self { objects })
    }

    /// The bytes of the object.
    ///
    /// # Errors
    /// [`StoreError::Io`] when there are too many objects, or no memory is left.
    pub fn encode(&self) -> Result<Vec<u8>, StoreError> {
        let text = self.to_text();
        let failed = |source| StoreError::Io {
            what: "compress",
            path: LISTING.into(),
            source,
        };
        if text.len() as u64 > MAX_TEXT {
            return Err(failed(std::io::ErrorKind::FileTooLarge.into()));
        }
        zstd::bulk::compress(text.as_bytes(), LEVEL).map_err(failed)
    }

    /// Reads the bytes of the object. Memory is bounded whatever they announce.
    ///
    /// # Errors
    /// [`ListingError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, ListingError> {
        let frame = |_| ListingError::Frame;
        let mut decoder = zstd::stream::Decoder::with_buffer(bytes)
            .map_err(frame)?
            .single_frame();
        let mut text = Vec::new();
        let mut bounded = (&mut decoder).take(MAX_TEXT + 1);
        bounded.read_to_end(&mut text).map_err(frame)?;
        if text.len() as u64 > MAX_TEXT || !decoder.finish().is_empty() {
            return Err(ListingError::Frame);
        }
        Self::parse(&text)
    }
}

fn parse_line(line: &str) -> Option<Object> {
    let mut fields = line.split('\t');
    let (name, size, modified) = (fields.next()?, fields.next()?, fields.next()?);
    if fields.next().is_some() || !is_object_name(name) {
        return None;
    }
    if name == LISTING || name.starts_with(PROBES) {
        return None;
    }
    Some(Object {
        name: name.to_owned(),
        size: decimal(size)?,
        modified: time(decimal(modified)?)?,
    })
}

/// A number as the writer writes it: without sign and leading zeros.
fn decimal(text: &str) -> Option<u64> {
    let canonical = text == "0" || text.starts_with(|first: char| matches!(first, '1'..='9'));
    canonical.then(|| text.parse().ok())?
}

fn milliseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn time(milliseconds: u64) -> Option<SystemTime> {
    UNIX_EPOCH.checked_add(Duration::from_millis(milliseconds))
}

/// Lists all objects of a backend into its `listing.zst`. To be called after a push and a gc.
///
/// # Errors
/// Those of the backend.
pub async fn write_listing(backend: &dyn Backend) -> Result<(), StoreError> {
    let bytes = made(backend).await?;
    backend.put_advisory(LISTING, bytes).await
}

/// What `listing.zst` would be now.
///
/// # Errors
/// Those of the backend.
pub async fn made(backend: &dyn Backend) -> Result<Bytes, StoreError> {
    let objects = backend.list("").await?;
    blocking(move || Listing::of(objects).encode())
        .await?
        .map(Bytes::from)
}

impl Store {
    /// Brings `listing.zst` up to date where there is one: whoever has none does not pay for it.
    /// To be called after a build or an import.
    ///
    /// # Errors
    /// Those of the backend.
    pub async fn refresh_listing(&self) -> Result<(), StoreError> {
        let backend = self.backend.as_ref();
        match backend.get_range(LISTING, 0, 0).await? {
            Some(_) => write_listing(backend).await,
            None => Ok(()),
        }
    }
}

#[cfg(test)]
#[path = "listing_tests.rs"]
mod tests;
