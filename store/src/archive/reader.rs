//! The members of an archive, one after the other, each checked: its header, its name, and what it
//! may be. Reads ustar, GNU's and pax headers as GNU tar, bsdtar and git write them.
//!
//! Memory is bounded: by [`MAX_EXTENSION`] for an extension header, by
//! [`MAX_NAMES`](super::MAX_NAMES) for all names. Content is handed on in pieces.

use tar::{EntryType, Header};

use super::names::{Named, Names};
use super::{ArchiveError, BLOCK, Label, MAX_EXTENSION, Source};
use crate::name::{EntryPath, MAX_PATH, NameError, escape};

/// A member of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Where it lies.
    pub path: EntryPath,
    /// What it is.
    pub body: Body,
}

/// What a member is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// A file, whose content comes next: see [`Reader::content`].
    File {
        /// Its length in bytes.
        size: u64,
        /// Whether its owner may run it.
        executable: bool,
    },
    /// A folder.
    Folder,
    /// A symbolic link. Where it leads is not checked: nothing is ever read or written through it.
    Link {
        /// As written; not empty, no NUL, at most [`MAX_PATH`] bytes.
        target: Vec<u8>,
    },
    /// Another name of a file that came before.
    HardLink {
        /// That file.
        to: EntryPath,
    },
}

/// Reads an archive.
pub struct Reader<'a> {
    source: Source<'a>,
    names: Names,
    label: Option<Label>,
    /// Bytes of the last file that were not asked for, and zeros behind it.
    content: u64,
    padding: u64,
    members: u64,
}

/// What extension headers say about the next member.
#[derive(Default)]
struct Said {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<Vec<u8>>,
}

impl<'a> Reader<'a> {
    /// Begins with the first member.
    #[must_use]
    pub fn new(source: Source<'a>) -> Self {
        Self {
            source,
            names: Names::default(),
            label: None,
            content: 0,
            padding: 0,
            members: 0,
        }
    }

    /// The next member; `None` once after the last, when all bytes of the file were read and made
    /// sense. What was not asked for of the content before is passed over.
    ///
    /// # Errors
    /// An [`ArchiveError`]; reading on is of no use then.
    pub fn next_member(&mut self) -> Result<Option<Member>, ArchiveError> {
        let mut said = Said::default();
        loop {
            self.pass_over()?;
            let Some((at, header)) = self.header()? else {
                let nothing = said.path.is_none() && said.link.is_none() && said.size.is_none();
                return nothing.then_some(None).ok_or(ArchiveError::Truncated);
            };
            let wrong = |what| ArchiveError::Header { at, what };
            let size = header.entry_size();
            let size = size.map_err(|_| wrong("has a size that is no number"))?;
            match header.entry_type() {
                EntryType::GNULongName => set(&mut said.path, self.text(at, size)?, at)?,
                EntryType::GNULongLink => set(&mut said.link, self.text(at, size)?, at)?,
                EntryType::XHeader => {
                    let records = self.extension(at, size)?;
                    for (key, value) in pax(&records).ok_or(wrong("is no pax header"))? {
                        match key {
                            b"path" => set(&mut said.path, value.to_vec(), at)?,
                            b"linkpath" => set(&mut said.link, value.to_vec(), at)?,
                            b"size" => set(&mut said.size, value.to_vec(), at)?,
                            _ if key.starts_with(b"GNU.sparse.") => {
                                return Err(wrong("is of a sparse file"));
                            }
                            _ => {}
                        }
                    }
                }
                EntryType::XGlobalHeader => {
                    let records = self.extension(at, size)?;
                    self.take_global(at, &records)?;
                }
                _ => {
                    if let Some(member) = self.member(at, &header, size, said)? {
                        return Ok(Some(member));
                    }
                    said = Said::default();
                }
            }
        }
    }

    /// Fills the buffer with content of the last member; returns how many bytes there were, none at
    /// the end.
    ///
    /// # Errors
    /// As [`Reader::next_member`].
    pub fn content(&mut self, into: &mut [u8]) -> Result<usize, ArchiveError> {
        let wanted = usize::try_from(self.content).map_or(into.len(), |left| left.min(into.len()));
        let count = self.source.fill(&mut into[..wanted])?;
        if count < wanted {
            return Err(ArchiveError::Truncated);
        }
        self.content -= count as u64;
        Ok(count)
    }

    /// What the archive says about itself; to be asked after the last member.
    #[must_use]
    pub fn label(&self) -> Option<&Label> {
        self.label.as_ref()
    }

    /// SHA-256 of the file, in hex; to be asked after the last member.
    #[must_use]
    pub fn sha256(&self) -> String {
        self.source.sha256()
    }

    fn pass_over(&mut self) -> Result<(), ArchiveError> {
        let mut buffer = [0; 16 * BLOCK];
        self.content += std::mem::take(&mut self.padding);
        while self.content > 0 {
            self.content(&mut buffer)?;
        }
        Ok(())
    }

    /// The next header and where it lies; `None` at the end.
    fn header(&mut self) -> Result<Option<(u64, Header)>, ArchiveError> {
        let at = self.source.position();
        let mut block = [0; BLOCK];
        if self.source.fill(&mut block)? < BLOCK {
            return Err(ArchiveError::Truncated);
        }
        if block.iter().all(|byte| *byte == 0) {
            self.end()?;
            return Ok(None);
        }
        if !checksum_fits(&block) {
            let what = "does not match its checksum";
            return Err(ArchiveError::Header { at, what });
        }
        let mut header = Header::new_old();
        header.as_mut_bytes().copy_from_slice(&block);
        Ok(Some((at, header)))
    }

    /// A second block of zeros ends an archive; programs fill up with more of them.
    fn end(&mut self) -> Result<(), ArchiveError> {
        let mut buffer = [0; 16 * BLOCK];
        let mut zeros = 0;
        loop {
            let count = self.source.fill(&mut buffer)?;
            if buffer[..count].iter().any(|byte| *byte != 0) {
                return Err(ArchiveError::Trailing);
            }
            zeros += count;
            if count < buffer.len() {
                break;
            }
        }
        match zeros {
            0..BLOCK => Err(ArchiveError::Truncated),
            zeros if zeros % BLOCK == 0 => Ok(()),
            _ => Err(ArchiveError::Trailing),
        }
    }

    /// The content of an extension header.
    fn extension(&mut self, at: u64, size: u64) -> Result<Vec<u8>, ArchiveError> {
        if size > MAX_EXTENSION {
            let what = "announces too long an extension";
            return Err(ArchiveError::Header { at, what });
        }
        self.set_content(size);
        let mut bytes = vec![0; size as usize];
        self.content(&mut bytes)?;
        Ok(bytes)
    }

    /// A long name as GNU tar writes it, with a NUL at its end.
    fn text(&mut self, at: u64, size: u64) -> Result<Vec<u8>, ArchiveError> {
        let mut bytes = self.extension(at, size)?;
        if bytes.last() == Some(&0) {
            bytes.pop();
        }
        Ok(bytes)
    }

    fn set_content(&mut self, size: u64) {
        self.content = size;
        self.padding = size.next_multiple_of(BLOCK as u64) - size;
    }

    fn take_global(&mut self, at: u64, records: &[u8]) -> Result<(), ArchiveError> {
        let wrong = |what| ArchiveError::Header { at, what };
        for (key, value) in pax(records).ok_or(wrong("is no pax header"))? {
            match key {
                // What holds for all members but is written once, some programs do not know.
                b"path" | b"linkpath" | b"size" => {
                    return Err(wrong("gives all members one name or size"));
                }
                b"comment" => {
                    if let Some(label) = Label::parse(value)? {
                        if self.members > 0 || self.label.is_some() {
                            return Err(ArchiveError::Label);
                        }
                        self.label = Some(label);
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// A member that is no extension; `None` for the archive's own folder, `./`.
    fn member(
        &mut self,
        at: u64,
        header: &Header,
        size: u64,
        said: Said,
    ) -> Result<Option<Member>, ArchiveError> {
        let wrong = |what| ArchiveError::Header { at, what };
        self.members += 1;
        let same = said
            .size
            .is_none_or(|said| said == size.to_string().as_bytes());
        if !same {
            return Err(wrong("says two sizes of one file"));
        }
        let raw = match said.path {
            Some(path) => path,
            None => header.path_bytes().into_owned(),
        };
        let (name, is_folder_name) = plain(&raw);
        let kind = match header.entry_type() {
            EntryType::Regular if is_folder_name => EntryType::Directory,
            kind => kind,
        };
        if kind != EntryType::Regular && size > 0 {
            return Err(wrong("is of something without content, but has a size"));
        }
        if name.is_empty() && kind == EntryType::Directory {
            return Ok(None);
        }
        let path = EntryPath::new(name)?;
        let target = || match &said.link {
            Some(link) => link.clone(),
            None => header.link_name_bytes().unwrap_or_default().into_owned(),
        };
        let body = match kind {
            EntryType::Regular => {
                let mode = header
                    .mode()
                    .map_err(|_| wrong("has a mode that is no number"))?;
                let executable = mode & 0o100 != 0;
                self.names.add(&path, Named::File)?;
                self.set_content(size);
                Body::File { size, executable }
            }
            EntryType::Directory => {
                self.names.add(&path, Named::Folder)?;
                Body::Folder
            }
            EntryType::Symlink => {
                let target = checked_target(target())?;
                self.names.add(&path, Named::Link)?;
                Body::Link { target }
            }
            EntryType::Link => {
                let target = target();
                let to = EntryPath::new(plain(&target).0).ok();
                let to = to.filter(|to| self.names.has_file(to));
                let to = to.ok_or_else(|| ArchiveError::HardLink {
                    path: path.to_string(),
                    target: escape(&target),
                })?;
                self.names.add(&path, Named::File)?;
                Body::HardLink { to }
            }
            other => {
                return Err(ArchiveError::Kind {
                    path: path.to_string(),
                    what: what(other),
                });
            }
        };
        Ok(Some(Member { path, body }))
    }
}

/// Sets what may be said once about a member.
fn set(slot: &mut Option<Vec<u8>>, value: Vec<u8>, at: u64) -> Result<(), ArchiveError> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(ArchiveError::Header {
            at,
            what: "says again what another one said",
        }),
    }
}

/// The name without `./` before it and `/` behind it, and whether it was that of a folder.
fn plain(raw: &[u8]) -> (&[u8], bool) {
    let mut name = raw;
    while let Some(rest) = name.strip_prefix(b"./") {
        name = rest;
    }
    let whole = name;
    while let Some(rest) = name.strip_suffix(b"/") {
        name = rest;
    }
    let only_slashes = name.is_empty() && !whole.is_empty();
    match name {
        // `/` is no name of the archive's own folder.
        _ if only_slashes => (whole, true),
        b"." => (b"", true),
        name => (name, name.len() < whole.len() || name.is_empty()),
    }
}

fn checked_target(target: Vec<u8>) -> Result<Vec<u8>, ArchiveError> {
    let shown = || escape(&target);
    if target.is_empty() {
        Err(NameError::Empty { path: shown() }.into())
    } else if target.contains(&0) {
        Err(NameError::Nul { path: shown() }.into())
    } else if target.len() > MAX_PATH {
        Err(NameError::TooLong { path: shown() }.into())
    } else {
        Ok(target)
    }
}

const fn what(kind: EntryType) -> &'static str {
    match kind {
        EntryType::Char | EntryType::Block => "a device",
        EntryType::Fifo => "a named pipe",
        EntryType::GNUSparse => "a sparse file, which tar writes with --sparse only",
        _ => "of a kind that is not known",
    }
}

/// The records of a pax header, `<length> <key>=<value>\n` each; `None` when they are no such.
fn pax(mut bytes: &[u8]) -> Option<Vec<(&[u8], &[u8])>> {
    let mut records = Vec::new();
    while !bytes.is_empty() {
        let blank = bytes.iter().position(|byte| *byte == b' ')?;
        let digits = std::str::from_utf8(&bytes[..blank]).ok()?;
        let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
        let length: usize = digits.parse().ok().filter(|_| is_number)?;
        let record = bytes.get(blank + 1..length)?.strip_suffix(b"\n")?;
        let equals = record.iter().position(|byte| *byte == b'=')?;
        records.push((&record[..equals], &record[equals + 1..]));
        bytes = &bytes[length..];
    }
    Some(records)
}

/// Whether the header's checksum is that of its bytes, its own field taken as blanks.
pub(super) fn checksum_fits(block: &[u8; BLOCK]) -> bool {
    let mut header = Header::new_old();
    header.as_mut_bytes().copy_from_slice(block);
    let before: u32 = block[..148].iter().copied().map(u32::from).sum();
    let after: u32 = block[156..].iter().copied().map(u32::from).sum();
    header.cksum().ok() == Some(before + 8 * u32::from(b' ') + after)
}

#[cfg(test)]
#[path = "reader_tests.rs"]
mod tests;
