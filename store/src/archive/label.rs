//! What an archive of ours says about itself, in a comment that other programs pass over. Pure.
//!
//! ```text
//! relstore-release 1 <release>
//! S<TAB>storage
//! s<TAB>.env
//! w<TAB>bootstrap/cache
//! ```
//! The lines are those of the manifest for which a folder has no equivalent, in its order and
//! spelling. Whoever imports it compares the release: a label that lies is found.

use crate::id::ReleaseId;
use crate::import::Layout;
use crate::manifest::{Kind, Manifest};
use crate::name::EntryPath;

use super::ArchiveError;

const BEGIN: &str = "relstore-release ";

/// The label of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// The release that it holds.
    pub release: ReleaseId,
    /// What of it hosts lay out.
    pub layout: Layout,
}

impl Label {
    /// The label of an archive of this release.
    #[must_use]
    pub fn of(manifest: &Manifest) -> Self {
        let mut layout = Layout::default();
        for entry in manifest.entries() {
            let list = match entry.kind {
                Kind::SharedFile => &mut layout.shared_files,
                Kind::SharedDir => &mut layout.shared_dirs,
                Kind::WritableDir => &mut layout.writable_dirs,
                _ => continue,
            };
            list.push(entry.path.clone());
        }
        Self {
            release: manifest.id(),
            layout,
        }
    }

    /// The text; its lines have the order of the paths.
    #[must_use]
    pub fn to_text(&self) -> String {
        let layout = &self.layout;
        let lists = [
            ('s', &layout.shared_files),
            ('S', &layout.shared_dirs),
            ('w', &layout.writable_dirs),
        ];
        let mut lines: Vec<(&EntryPath, char)> = Vec::new();
        for (kind, list) in lists {
            lines.extend(list.iter().map(|path| (path, kind)));
        }
        lines.sort_unstable();
        let mut text = format!("{BEGIN}1 {}\n", self.release);
        for (path, kind) in lines {
            text.push_str(&format!("{kind}\t{path}\n"));
        }
        text
    }

    /// Reads a comment: `None` when it is somebody else's.
    ///
    /// # Errors
    /// [`ArchiveError::Label`] for one of ours that [`Label::to_text`] would not have written.
    pub fn parse(comment: &[u8]) -> Result<Option<Self>, ArchiveError> {
        if !comment.starts_with(BEGIN.as_bytes()) {
            return Ok(None);
        }
        let read = || {
            let text = std::str::from_utf8(comment).ok()?;
            let (first, rest) = text.strip_prefix(BEGIN)?.split_once('\n')?;
            let mut label = Self {
                release: first.strip_prefix("1 ")?.parse().ok()?,
                layout: Layout::default(),
            };
            for line in rest.lines() {
                let (kind, path) = line.split_once('\t')?;
                let list = match kind {
                    "s" => &mut label.layout.shared_files,
                    "S" => &mut label.layout.shared_dirs,
                    "w" => &mut label.layout.writable_dirs,
                    _ => return None,
                };
                list.push(EntryPath::from_escaped(path.as_bytes()).ok()?);
            }
            (label.to_text() == text).then_some(label)
        };
        read().map(Some).ok_or(ArchiveError::Label)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn path(text: &str) -> EntryPath {
        EntryPath::new(text).unwrap()
    }

    fn label() -> Label {
        Label {
            release: ReleaseId::of(b"x"),
            layout: Layout {
                shared_files: vec![path(".env")],
                shared_dirs: vec![path("storage"), path("t\u{fc}r\n")],
                writable_dirs: vec![path("bootstrap/cache")],
            },
        }
    }

    #[test]
    fn label_is_read_back_and_other_comments_are_passed_over() {
        let text = label().to_text();
        assert_eq!(Label::parse(text.as_bytes()).unwrap(), Some(label()));
        for other in ["", "5c2a", "relstore"] {
            assert_eq!(Label::parse(other.as_bytes()).unwrap(), None, "{other}");
        }
    }

    #[test]
    fn label_in_another_spelling_is_refused() {
        let text = label().to_text();
        for wrong in [
            text.replace("release 1", "release 2"),
            text.replace("storage", "../storage"),
            text.replace("s\t.env\n", ""),
            text.replace("s\t.env\n", "s\t.env\ns\t.env\n"),
            text.replace("w\t", "d\t"),
            text.trim_end().to_owned(),
            format!("{text}x"),
        ] {
            // Without one line it is another label, which is fine; its release will not match.
            let parsed = Label::parse(wrong.as_bytes());
            assert!(
                parsed.is_err() || parsed.unwrap() != Some(label()),
                "{wrong}"
            );
        }
        assert!(Label::parse(text.replace("w\t", "w ").as_bytes()).is_err());
        assert!(Label::parse(format!("{text}s\t.env\n").as_bytes()).is_err());
    }

    proptest! {
        #[test]
        fn any_comment_is_read_back_or_refused(bytes: Vec<u8>) {
            let text = [b"relstore-release 1 ".as_slice(), &bytes].concat();
            let _ = Label::parse(&bytes);
            if let Ok(Some(label)) = Label::parse(&text) {
                prop_assert_eq!(label.to_text().into_bytes(), text);
            }
        }
    }
}
