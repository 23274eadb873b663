//! The bytes of an archive, decoded, within bounds: its digest and its length are taken on the way.

use std::cell::{Cell, RefCell};
use std::io::{self, Cursor, Read};
use std::rc::Rc;

use flate2::read::MultiGzDecoder;
use sha2::{Digest, Sha256};

use super::{ArchiveError, BLOCK, FREE_DECODED, Format, MAX_DECODED, MAX_RATIO};

/// Largest window of zstd that is decoded: more memory is for archives that nobody makes by
/// default.
const MAX_WINDOW: u32 = 27;

/// The decoded bytes.
pub struct Source<'a> {
    decoder: Box<dyn Read + 'a>,
    meter: Rc<Meter>,
    given: u64,
    limit: u64,
    format: Format,
}

/// What was taken of the file.
#[derive(Default)]
struct Meter {
    bytes: Cell<u64>,
    digest: RefCell<Sha256>,
}

struct Metered<R> {
    inner: R,
    meter: Rc<Meter>,
}

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(into)?;
        self.meter.bytes.set(self.meter.bytes.get() + count as u64);
        self.meter.digest.borrow_mut().update(&into[..count]);
        Ok(count)
    }
}

impl<'a> Source<'a> {
    /// Begins to read a file, whose first bytes tell how it is compressed. `room`: how many bytes
    /// may come out of it, at most [`MAX_DECODED`].
    ///
    /// # Errors
    /// [`ArchiveError::Unknown`], [`ArchiveError::Decode`].
    pub fn new(file: impl Read + 'a, room: u64) -> Result<Self, ArchiveError> {
        let meter = Rc::new(Meter::default());
        let mut file = Metered {
            inner: file,
            meter: Rc::clone(&meter),
        };
        let mut head = Vec::with_capacity(BLOCK);
        (&mut file).take(BLOCK as u64).read_to_end(&mut head)?;
        let format = format_of(&head).ok_or(ArchiveError::Unknown)?;
        let whole = Cursor::new(head).chain(file);
        let decoder: Box<dyn Read + 'a> = match format {
            Format::TarZst => {
                let mut decoder = zstd::stream::read::Decoder::new(whole)?;
                decoder.window_log_max(MAX_WINDOW)?;
                Box::new(decoder)
            }
            Format::TarGz => Box::new(MultiGzDecoder::new(whole)),
            Format::Tar => Box::new(io::BufReader::new(whole)),
        };
        Ok(Self {
            decoder,
            meter,
            given: 0,
            limit: room.min(MAX_DECODED),
            format,
        })
    }

    /// How the file is compressed.
    #[must_use]
    pub const fn format(&self) -> Format {
        self.format
    }

    /// Decoded bytes so far.
    pub(super) const fn position(&self) -> u64 {
        self.given
    }

    /// Fills the buffer as far as there are bytes; returns how many there were.
    pub(super) fn fill(&mut self, into: &mut [u8]) -> Result<usize, ArchiveError> {
        let mut filled = 0;
        while filled < into.len() {
            match self.decoder.read(&mut into[filled..]) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.given += filled as u64;
        if self.given > self.limit {
            return Err(ArchiveError::TooLarge { limit: self.limit });
        }
        let ratio = self.meter.bytes.get().saturating_mul(MAX_RATIO);
        if self.given > ratio.saturating_add(FREE_DECODED) {
            return Err(ArchiveError::Ratio);
        }
        Ok(filled)
    }

    /// SHA-256 of the file's bytes that were read, in hex; of all when the end was reached.
    pub(super) fn sha256(&self) -> String {
        let digest = self.meter.digest.borrow().clone().finalize();
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// What a file that begins so is.
fn format_of(head: &[u8]) -> Option<Format> {
    match head {
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Some(Format::TarZst),
        [0x1f, 0x8b, ..] => Some(Format::TarGz),
        _ => {
            let block: &[u8; BLOCK] = head.first_chunk()?;
            let is_end = block.iter().all(|byte| *byte == 0);
            (is_end || super::reader::checksum_fits(block)).then_some(Format::Tar)
        }
    }
}
