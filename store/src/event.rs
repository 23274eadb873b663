//! What the store tells while it works; the program turns it into bars or lines.

/// One piece of news.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The tree was walked.
    Scanned {
        /// Number of files.
        files: u64,
        /// Their bytes.
        bytes: u64,
    },
    /// So many more bytes are read, hashed and, where the store lacked them, on their way into a
    /// bundle.
    Imported(u64),
    /// So many bytes of an object were deleted.
    Deleted(u64),
    /// So many bytes are to be moved from store to store or bundle to bundle.
    ToMove(u64),
    /// So many bytes of bundles are to be checked.
    ToCheck(u64),
    /// So many more bytes were checked.
    Checked(u64),
    /// So many more bytes were moved.
    Moved(u64),
}

/// Who listens.
pub type Listener<'a> = &'a (dyn Fn(Event) + Send + Sync);
