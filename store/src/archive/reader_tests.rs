#![allow(clippy::unwrap_used)]
use super::*;
use proptest::prelude::*;

/// An archive as a list of headers and contents.
#[derive(Default)]
struct Made(Vec<u8>);

impl Made {
    fn add(mut self, kind: u8, path: &[u8], link: &[u8], content: &[u8]) -> Self {
        let mut header = Header::new_ustar();
        let old = header.as_old_mut();
        old.name[..path.len()].copy_from_slice(path);
        old.linkname[..link.len()].copy_from_slice(link);
        header.set_entry_type(EntryType::new(kind));
        header.set_mode(0o644);
        header.set_size(content.len() as u64);
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(content);
        let whole = self.0.len().next_multiple_of(BLOCK);
        self.0.resize(whole, 0);
        self
    }

    fn file(self, path: &str) -> Self {
        self.add(b'0', path.as_bytes(), b"", b"content")
    }

    fn end(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 2 * BLOCK, 0);
        self.0
    }
}

fn read(bytes: &[u8]) -> Result<Vec<Member>, ArchiveError> {
    let mut reader = Reader::new(Source::new(bytes, u64::MAX)?);
    let mut members = Vec::new();
    while let Some(member) = reader.next_member()? {
        members.push(member);
    }
    Ok(members)
}

/// What is said of an archive; empty when it is fine.
fn said(made: Made) -> String {
    read(&made.end())
        .err()
        .map(|error| match std::error::Error::source(&error) {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        })
        .unwrap_or_default()
}

fn paths(made: Made) -> Vec<String> {
    let members = read(&made.end()).unwrap();
    members
        .iter()
        .map(|member| member.path.to_string())
        .collect()
}

#[test]
fn names_are_as_programs_write_them() {
    let made = Made::default()
        .add(b'5', b"./", b"", b"")
        .add(b'5', b"./a/", b"", b"")
        .file("./a/b")
        .add(b'0', b"old/", b"", b"")
        .add(b'1', b"a/c", b"./a/b", b"")
        .add(b'2', b"a/d", b"/anywhere", b"");
    assert_eq!(paths(made), ["a", "a/b", "old", "a/c", "a/d"]);
}

#[test]
fn long_names_are_those_of_the_extensions() {
    let long = "n".repeat(120);
    let gnu = format!("{long}\0");
    let pax = |key: &str| format!("{} {key}={long}\n", key.len() + 126);
    let made = Made::default()
        .add(b'L', b"././@LongLink", b"", gnu.as_bytes())
        .file("n")
        .add(
            b'x',
            b"PaxHeaders/a",
            b"",
            pax("path").replace('n', "m").as_bytes(),
        )
        .file("m");
    assert_eq!(paths(made), [long.clone(), "m".repeat(120)]);
    let made = Made::default()
        .add(b'x', b"PaxHeaders/a", b"", pax("linkpath").as_bytes())
        .add(b'2', b"link", b"cut", b"");
    let members = read(&made.end()).unwrap();
    let target = long.into_bytes();
    assert_eq!(members[0].body, Body::Link { target });
}

#[test]
fn names_that_lead_out_are_refused() {
    for name in [
        "/etc/passwd",
        "../x",
        "a/../../x",
        "a/..",
        "..",
        "a//b",
        "a/./b",
        "/",
        "//",
        ".//x",
    ] {
        let told = said(Made::default().add(b'0', name.as_bytes(), b"", b""));
        assert!(told.starts_with("a name is refused"), "{name}: {told}");
        let told = said(Made::default().add(b'5', name.as_bytes(), b"", b""));
        assert!(told.starts_with("a name is refused"), "{name}: {told}");
    }
    let told = said(
        Made::default()
            .add(b'x', b"p", b"", b"16 path=../../x\n")
            .file("fine"),
    );
    assert!(told.contains(".."), "{told}");
}

#[test]
fn nothing_lies_below_a_link_or_twice() {
    let link = || Made::default().add(b'2', b"a", b"/etc", b"");
    assert!(said(link().file("a/passwd")).contains("lies below `a`"));
    assert!(said(link().file("a")).contains("twice"));
    assert!(said(link().add(b'5', b"a/", b"", b"")).contains("twice"));
    assert!(said(Made::default().file("a").file("a")).contains("twice"));
    assert!(said(Made::default().file("a/b").add(b'2', b"a", b"/etc", b"")).contains("twice"));
}

#[test]
fn hard_links_lead_to_files_before_them_only() {
    for target in ["/etc/passwd", "../x", "later", "folder", "link", "self", ""] {
        let made = Made::default()
            .add(b'5', b"folder", b"", b"")
            .add(b'2', b"link", b"/etc/passwd", b"")
            .add(b'1', b"self", target.as_bytes(), b"")
            .file("later");
        assert!(said(made).contains("hard link"), "{target}");
    }
}

#[test]
fn what_is_no_file_folder_or_link_is_refused() {
    for (kind, what) in [
        (b'3', "a device"),
        (b'4', "a device"),
        (b'6', "a named pipe"),
        (b'S', "a sparse file"),
        (b'7', "a kind that is not known"),
        (b'V', "a kind that is not known"),
    ] {
        let told = said(Made::default().add(kind, b"x", b"", b""));
        assert!(told.contains(what), "{}: {told}", char::from(kind));
    }
}

#[test]
fn headers_that_contradict_each_other_are_refused() {
    let twice = Made::default()
        .add(b'L', b"l", b"", b"a\0")
        .add(b'L', b"l", b"", b"b\0");
    for (made, what) in [
        (twice.file("x"), "says again"),
        (
            Made::default()
                .add(b'x', b"p", b"", b"9 size=1\n")
                .file("x"),
            "two sizes",
        ),
        (
            Made::default()
                .add(b'x', b"p", b"", b"24 GNU.sparse.major=1\n")
                .file("x"),
            "no pax header",
        ),
        (
            Made::default()
                .add(b'x', b"p", b"", b"22 GNU.sparse.major=1\n")
                .file("x"),
            "sparse",
        ),
        (
            Made::default()
                .add(b'g', b"p", b"", b"9 path=x\n")
                .file("x"),
            "all members",
        ),
        (
            Made::default().add(b'5', b"d", b"", b"x"),
            "without content",
        ),
        (
            Made::default().add(b'2', b"l", b"", b""),
            "a name is refused",
        ),
        (Made::default().add(b'L', b"l", b"", b"a\0"), "cut off"),
    ] {
        let told = said(made);
        assert!(told.contains(what), "{told}");
    }
    let mut header = Header::new_ustar();
    header.set_entry_type(EntryType::GNULongName);
    header.set_size(MAX_EXTENSION + 1);
    header.set_cksum();
    let refused = read(header.as_bytes()).unwrap_err();
    assert!(refused.to_string().contains("too long"), "{refused}");
}

#[test]
fn archive_ends_where_it_says() {
    let whole = Made::default().file("a").add(b'2', b"b", b"a", b"").end();
    assert_eq!(read(&whole).unwrap().len(), 2);
    for at in 0..whole.len() {
        assert!(read(&whole[..at]).is_err(), "cut at {at}");
    }
    let padded = [whole.as_slice(), &[0; 8 * BLOCK]].concat();
    assert_eq!(read(&padded).unwrap().len(), 2);
    for tail in [&b"x"[..], &[0; 100], &[1; BLOCK], &whole] {
        let longer = [whole.as_slice(), tail].concat();
        assert!(matches!(read(&longer), Err(ArchiveError::Trailing)));
    }
    assert!(matches!(read(b""), Err(ArchiveError::Unknown)));
    assert!(matches!(
        read(&[b'x'; 2 * BLOCK]),
        Err(ArchiveError::Unknown)
    ));
}

#[test]
fn every_flipped_bit_of_a_header_is_found_or_says_the_same() {
    let whole = Made::default().file("a").end();
    for at in 0..BLOCK {
        let mut wrong = whole.clone();
        wrong[at] ^= 1;
        // Blanks and NULs end a number alike.
        if let Ok(members) = read(&wrong) {
            assert_eq!(members, read(&whole).unwrap(), "byte {at}");
        }
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes: Vec<u8>, kind in 0u8..=255, name in proptest::collection::vec(any::<u8>(), 0..100)) {
        let _ = read(&bytes);
        let made = Made::default().add(kind, &name, &name, &bytes).file("after");
        if let Ok(members) = read(&made.end()) {
            prop_assert!(members.len() <= 2);
        }
        let _ = pax(&bytes);
    }

    #[test]
    fn pax_records_are_read_back(pairs in proptest::collection::vec(("[a-zA-Z.]{1,9}", proptest::collection::vec(any::<u8>(), 0..99)), 0..5)) {
        let mut bytes = Vec::new();
        for (key, value) in &pairs {
            let rest = key.len() + value.len() + 3;
            let mut length = rest + 1;
            while length != rest + length.to_string().len() {
                length = rest + length.to_string().len();
            }
            bytes.extend_from_slice(format!("{length} {key}=").as_bytes());
            bytes.extend_from_slice(value);
            bytes.push(b'\n');
        }
        let read: Vec<_> = pax(&bytes).unwrap().iter()
            .map(|(key, value)| (String::from_utf8(key.to_vec()).unwrap(), value.to_vec())).collect();
        prop_assert_eq!(read, pairs);
    }
}
