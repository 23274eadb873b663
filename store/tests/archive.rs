//! Archives: what we write other programs read, what they write we read, and nothing that is made
//! to do harm does any.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs::{File, Permissions};
use std::io::{Cursor, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use relstore_store::Store;
use relstore_store::archive::{ArchiveError, Format, Label, Unpacked, unpack};
use relstore_store::id::ReleaseId;
use relstore_store::import::{Layout, ReleaseTree};
use relstore_store::name::EntryPath;
use relstore_store::stop::Stop;

/// Runs a command in a folder to success; returns what it printed.
fn run(folder: &Path, line: &str) -> String {
    let mut command = Command::new("bash");
    command
        .args(["-o", "pipefail", "-ec", line])
        .current_dir(folder);
    command.env("LC_ALL", "C.UTF-8").env("TZ", "UTC");
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{line}: {said}");
    assert!(said.is_empty(), "{line}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

fn path(text: &str) -> EntryPath {
    EntryPath::new(text).unwrap()
}

fn write(root: &Path, path: &str, content: impl AsRef<[u8]>) {
    let path = root.join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, content).unwrap();
}

fn noise(length: usize) -> Vec<u8> {
    let mut state = 1u32;
    let byte = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..length).map(byte).collect()
}

/// A tree with everything a release can have.
fn tree(root: &Path) -> ReleaseTree {
    let deep = ["d".repeat(90), "e".repeat(90), "f".repeat(90)].join("/");
    write(root, &format!("{deep}/{}", "g".repeat(30)), "deep\n");
    write(root, "artisan", "#!/usr/bin/env php\n");
    std::fs::set_permissions(root.join("artisan"), Permissions::from_mode(0o755)).unwrap();
    write(root, "public/t\u{fc}r \u{4e2d}.txt", "hello\n");
    write(root, "public/back\\slash", "hello\n");
    write(root, "storage/logs/.gitignore", "*\n");
    write(root, "storage/fonts/a.ttf", "font\n");
    write(root, "a-b", "before a/b\n");
    write(root, "a/b", "");
    write(root, "long", noise(6 << 20));
    write(root, &"n".repeat(100), "a name that fills its field\n");
    for empty in ["bootstrap/cache", "empty/folder", "storage/app"] {
        std::fs::create_dir_all(root.join(empty)).unwrap();
    }
    symlink("../storage/app/public", root.join("public/storage")).unwrap();
    symlink(format!("{deep}/nothing"), root.join("far")).unwrap();
    ReleaseTree {
        root: root.to_owned(),
        layout: Layout {
            shared_files: vec![path(".env"), path("config/own/.env")],
            shared_dirs: vec![path("storage")],
            writable_dirs: vec![path("bootstrap/cache")],
        },
    }
}

struct Stored {
    folder: tempfile::TempDir,
    store: Store,
    release: ReleaseId,
}

async fn stored() -> Stored {
    let folder = tempfile::tempdir().unwrap();
    let tree = tree(&folder.path().join("tree"));
    let store = Store::open_or_create(&folder.path().join("store"))
        .await
        .unwrap();
    let release = store.import(&tree, &|_| {}).await.unwrap().release;
    store.publish(&release).await.unwrap();
    Stored {
        folder,
        store,
        release,
    }
}

impl Stored {
    fn path(&self) -> &Path {
        self.folder.path()
    }

    async fn export(&self, name: &str, format: Format) -> PathBuf {
        let file = self.path().join(name);
        let out = File::create(&file).unwrap();
        let exported = self.store.export(&self.release, format, self.path(), out);
        let exported = exported.await.unwrap();
        assert_eq!(exported.bytes, file.metadata().unwrap().len());
        let sum = run(self.path(), &format!("sha256sum {name}"));
        assert_eq!(sum, format!("{}  {name}\n", exported.sha256));
        file
    }

    fn unpack(&self, archive: impl Read) -> Result<(tempfile::TempDir, Unpacked), ArchiveError> {
        let folder = tempfile::tempdir_in(self.path()).unwrap();
        let unpacked = unpack(archive, folder.path(), &Stop::default())?;
        Ok((folder, unpacked))
    }
}

/// Kind, mode, size, target, content of all that is in a folder, by path.
fn listed(root: &Path) -> Vec<String> {
    let entries = walkdir::WalkDir::new(root).min_depth(1).sort_by_file_name();
    let line = |entry: walkdir::DirEntry| {
        let meta = entry.path().symlink_metadata().unwrap();
        let content = match meta.file_type() {
            kind if kind.is_file() => {
                blake3::hash(&std::fs::read(entry.path()).unwrap()).to_string()
            }
            kind if kind.is_symlink() => {
                format!("-> {:?}", std::fs::read_link(entry.path()).unwrap())
            }
            _ => String::new(),
        };
        let name = entry.path().strip_prefix(root).unwrap();
        format!("{name:?} {:o} {content}", meta.mode())
    };
    entries
        .into_iter()
        .map(|entry| line(entry.unwrap()))
        .collect()
}

#[tokio::test]
async fn gnu_tar_and_bsdtar_unpack_what_a_checkout_lays_out() {
    let stored = stored().await;
    let checkout = stored.path().join("checkout");
    std::fs::create_dir(&checkout).unwrap();
    stored
        .store
        .checkout(&stored.release, &checkout)
        .await
        .unwrap();
    // A checkout makes the folders of shared files, which an archive has no use for.
    std::fs::remove_dir_all(checkout.join("config")).unwrap();
    let expected = listed(&checkout);
    for (format, cat) in [
        (Format::TarZst, "zstd -dc"),
        (Format::TarGz, "gzip -dc"),
        (Format::Tar, "cat"),
    ] {
        let name = format!("x.{}", format.extension());
        stored.export(&name, format).await;
        run(stored.path(), &format!("{cat} < {name} > plain"));
        let mut lists = Vec::new();
        for program in ["tar", "bsdtar"] {
            let out = format!("{program}-{name}-out");
            std::fs::create_dir(stored.path().join(&out)).unwrap();
            run(
                stored.path(),
                &format!("umask 022; {program} -xf plain -C {out}"),
            );
            assert_eq!(
                listed(&stored.path().join(&out)),
                expected,
                "{program} {name}"
            );
            lists.push(run(stored.path(), &format!("LC_ALL=C {program} -tf plain")));
            // They open it by themselves, too.
            run(stored.path(), &format!("{program} -tf {name} > /dev/null"));
        }
        let verbose = run(stored.path(), "tar --numeric-owner --full-time -tvf plain");
        for line in verbose.lines() {
            assert!(
                line.contains(" 0/0 ") && line.contains("1970-01-01 00:00:01"),
                "{line}"
            );
        }
        let lines = |list: &str| list.lines().count();
        assert_eq!(
            (lines(&lists[0]), lines(&lists[1])),
            (expected.len(), expected.len())
        );
    }
}

#[tokio::test]
async fn two_stores_export_the_same_bytes() {
    let (one, two) = (stored().await, stored().await);
    for format in [Format::TarZst, Format::TarGz] {
        let first = std::fs::read(one.export("a", format).await).unwrap();
        let second = std::fs::read(two.export("b", format).await).unwrap();
        assert!(first == second, "{format:?}");
    }
}

#[tokio::test]
async fn archive_of_ours_says_what_it_is_and_unpacks_to_the_same_release() {
    let stored = stored().await;
    let manifest = stored.store.manifest(&stored.release).await.unwrap();
    for format in [Format::TarZst, Format::TarGz, Format::Tar] {
        let file = stored.export("x", format).await;
        let (_folder, unpacked) = stored.unpack(File::open(file).unwrap()).unwrap();
        assert_eq!(unpacked.label, Some(Label::of(&manifest)));
        let tree = ReleaseTree {
            root: unpacked.root,
            layout: unpacked.label.unwrap().layout,
        };
        let again = stored.store.import(&tree, &|_| {}).await.unwrap();
        assert_eq!(again.release, stored.release);
        assert_eq!(again.new_blobs, 0);
    }
}

#[tokio::test]
async fn damaged_store_is_not_exported() {
    let stored = stored().await;
    let bundle = std::fs::read_dir(stored.path().join("store/bundles"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let mut bytes = std::fs::read(&bundle).unwrap();
    // In the middle of the long file, whose noise zstd stores as it is.
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::set_permissions(&bundle, Permissions::from_mode(0o644)).unwrap();
    std::fs::write(&bundle, bytes).unwrap();
    let out = tempfile::tempfile().unwrap();
    let exported = stored
        .store
        .export(&stored.release, Format::Tar, stored.path(), out)
        .await;
    assert!(exported.is_err());
}

#[tokio::test]
async fn sound_copy_is_exported_when_another_is_damaged() {
    let stored = stored().await;
    let expected = std::fs::read(stored.export("x", Format::Tar).await).unwrap();
    // The same blobs in another bundle.
    let again = tree(&stored.path().join("again"));
    write(&again.root, "more", "more\n");
    let place = stored.path().join("other");
    let other = Store::open_or_create(&place).await.unwrap();
    other.import(&again, &|_| {}).await.unwrap();
    run(stored.path(), "cp other/bundles/* store/bundles/");
    let bundles: Vec<PathBuf> = std::fs::read_dir(stored.path().join("store/bundles"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert_eq!(bundles.len(), 2);
    for bundle in bundles {
        let whole = std::fs::read(&bundle).unwrap();
        let mut bytes = whole.clone();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::set_permissions(&bundle, Permissions::from_mode(0o644)).unwrap();
        std::fs::write(&bundle, bytes).unwrap();
        let out = stored.path().join("out");
        let store = Store::open(&stored.path().join("store")).await.unwrap();
        let file = File::create(&out).unwrap();
        let exported = store.export(&stored.release, Format::Tar, stored.path(), file);
        exported.await.unwrap();
        assert!(std::fs::read(&out).unwrap() == expected);
        std::fs::write(&bundle, whole).unwrap();
    }
}

#[tokio::test]
async fn archives_of_other_programs_are_read() {
    let stored = stored().await;
    let expected = listed(&stored.path().join("tree"));
    // Private modes, so compare what counts.
    let plain = |lines: Vec<String>| -> Vec<String> {
        let modes = [
            ("40755", "d"),
            ("40700", "d"),
            ("100644", "f"),
            ("100600", "f"),
            ("100755", "x"),
            ("100700", "x"),
        ];
        let line = |line: String| {
            modes.iter().fold(line, |line, (mode, kind)| {
                line.replace(&format!("\" {mode} "), &format!("\" {kind} "))
            })
        };
        lines.into_iter().map(line).collect()
    };
    let expected = plain(expected);
    run(
        stored.path(),
        "cd tree; git init -q; git add -A -f; git -c user.name=a -c user.email=b commit -qm x",
    );
    for (line, with_empty) in [
        ("tar -cf out -C tree --exclude=.git .", true),
        ("tar -czf out -C tree --exclude=.git --format=gnu .", true),
        ("tar -czf out -C tree --exclude=.git --format=posix .", true),
        ("tar -czf out --exclude=.git tree", true),
        (
            "tar -cf - --exclude=.git --format=pax tree | zstd -q > out",
            true,
        ),
        (
            "tar -cf out --exclude=.git --transform 's,^tree,x,' tree",
            true,
        ),
        ("bsdtar -cf out -C tree --exclude .git .", true),
        ("bsdtar -czf out --exclude .git --format pax tree", true),
        ("bsdtar -czf out --exclude .git --format gnutar tree", true),
        (
            "cd tree; ls -A | grep -vx .git | tar -czf ../out -T -",
            true,
        ),
        ("cd tree; git archive --format=tar.gz HEAD > ../out", false),
        (
            "cd tree; git archive --format=tar --prefix=app-1.0/ HEAD > ../out",
            false,
        ),
        (
            "cd tree; git archive --format=tar --prefix=app-1.0/ HEAD | zstd -q > ../out",
            false,
        ),
    ] {
        run(stored.path(), line);
        let file = File::open(stored.path().join("out")).unwrap();
        let (_folder, unpacked) = stored
            .unpack(file)
            .unwrap_or_else(|error| panic!("{line}: {error:?}"));
        assert_eq!(unpacked.label, None, "{line}");
        assert_eq!(
            unpacked.sha256,
            run(stored.path(), "sha256sum < out")[..64],
            "{line}"
        );
        let found = plain(listed(&unpacked.root));
        if with_empty {
            assert_eq!(found, expected, "{line}");
        } else {
            // Git has no empty folders.
            let kept: Vec<_> = expected
                .iter()
                .filter(|line| {
                    !["bootstrap", "empty", "storage/app\""]
                        .iter()
                        .any(|name| line[1..].starts_with(name))
                })
                .cloned()
                .collect();
            assert_eq!(found, kept, "{line}");
        }
    }
}

#[tokio::test]
async fn hard_links_become_files_of_the_same_content() {
    let stored = stored().await;
    run(
        stored.path(),
        "mkdir h; echo same > h/a; ln h/a h/b; tar -cf out -C h a b; bsdtar -cf out2 -C h a b",
    );
    for name in ["out", "out2"] {
        let file = File::open(stored.path().join(name)).unwrap();
        let (_folder, unpacked) = stored.unpack(file).unwrap();
        for file in ["a", "b"] {
            assert_eq!(std::fs::read(unpacked.root.join(file)).unwrap(), b"same\n");
        }
    }
}

/// Decodes to as many zeros, behind the header of a file that has them.
fn bomb(zeros: u64, pack: impl FnOnce(&mut dyn Read) -> Vec<u8>) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.set_path("zeros").unwrap();
    header.set_mode(0o644);
    header.set_size(zeros);
    header.set_cksum();
    let header = Cursor::new(header.as_bytes().to_vec());
    pack(&mut header.chain(std::io::repeat(0).take(zeros + 1024)))
}

#[tokio::test]
async fn bombs_are_refused_long_before_the_disk_is_full() {
    let stored = stored().await;
    let gz = bomb(1 << 30, |mut zeros| {
        let mut packed = Vec::new();
        let mut encoder = flate2::read::GzEncoder::new(&mut zeros, flate2::Compression::fast());
        encoder.read_to_end(&mut packed).unwrap();
        packed
    });
    let zst = bomb(1 << 30, |zeros| zstd::encode_all(zeros, 1).unwrap());
    for packed in [gz, zst] {
        assert!(packed.len() < 8 << 20);
        let folder = tempfile::tempdir_in(stored.path()).unwrap();
        let refused = unpack(packed.as_slice(), folder.path(), &Stop::default());
        assert!(matches!(refused, Err(ArchiveError::Ratio)), "{refused:?}");
        let written: u64 = listed_bytes(folder.path());
        assert!(written < 1 << 30, "{written}");
    }
    // A window that would need gigabytes of memory.
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
    encoder.long_distance_matching(true).unwrap();
    encoder.window_log(30).unwrap();
    encoder.write_all(&noise(1 << 20)).unwrap();
    let wide = encoder.finish().unwrap();
    assert!(matches!(
        stored.unpack(wide.as_slice()),
        Err(ArchiveError::Decode(_))
    ));
}

fn listed_bytes(root: &Path) -> u64 {
    let entries = walkdir::WalkDir::new(root).into_iter();
    entries
        .map(|entry| entry.unwrap().metadata().unwrap().len())
        .sum()
}

#[tokio::test]
async fn archive_that_is_cut_or_goes_on_is_refused() {
    let stored = stored().await;
    run(
        stored.path(),
        "mkdir s; echo 1 > s/a; ln -s a s/b; tar --format=gnu -b1 -cf out.tar -C s a b; gzip -kn out.tar; zstd -q out.tar",
    );
    for name in ["out.tar", "out.tar.gz", "out.tar.zst"] {
        let whole = std::fs::read(stored.path().join(name)).unwrap();
        assert!(stored.unpack(whole.as_slice()).is_ok(), "{name}");
        for at in 0..whole.len() {
            assert!(stored.unpack(&whole[..at]).is_err(), "{name} cut at {at}");
        }
        for tail in [&b"x"[..], b"tail", &[1; 600], &whole] {
            let longer = [&whole, tail].concat();
            assert!(
                stored.unpack(longer.as_slice()).is_err(),
                "{name} and {} bytes",
                tail.len()
            );
        }
    }
}

#[tokio::test]
async fn hostile_archives_touch_nothing_outside() {
    let stored = stored().await;
    let outside = stored.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    let header = |kind, size| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(0o644);
        header.set_size(size);
        header
    };
    let place = outside.display().to_string();
    let raw = |path: &str, kind, link: &str, content: &[u8]| {
        let mut made = Vec::new();
        let mut header = header(kind, content.len() as u64);
        let name = path.as_bytes();
        header.as_old_mut().name[..name.len()].copy_from_slice(name);
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_cksum();
        made.extend_from_slice(header.as_bytes());
        made.extend_from_slice(content);
        made.resize(made.len().next_multiple_of(512), 0);
        made
    };
    use tar::EntryType as T;
    let file = |path: &str| raw(path, T::Regular, "", b"hostile");
    for members in [
        vec![file("../outside/x")],
        vec![file(&format!("{place}/x"))],
        vec![file("a/../../outside/x")],
        vec![raw("l", T::Symlink, &place, b""), file("l/x")],
        vec![
            raw("l", T::Symlink, "../outside", b""),
            raw("l/d", T::Directory, "", b""),
            file("l/d/x"),
        ],
        vec![raw("l", T::Link, "/etc/passwd", b"")],
        vec![
            raw("l", T::Symlink, "/etc/passwd", b""),
            raw("m", T::Link, "l", b""),
        ],
        vec![raw("l", T::Symlink, &format!("{place}/x"), b""), file("l")],
        vec![raw("p", T::Fifo, "", b"")],
        vec![raw("p", T::Char, "", b"")],
    ] {
        let mut archive = members.concat();
        archive.resize(archive.len() + 1024, 0);
        assert!(stored.unpack(archive.as_slice()).is_err());
        assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
    }
}

#[tokio::test]
async fn work_nobody_waits_for_ends() {
    let stored = stored().await;
    let file = stored.export("x", Format::Tar).await;
    let (stop, waiting) = Stop::new();
    drop(waiting);
    let folder = tempfile::tempdir().unwrap();
    let ended = unpack(File::open(file).unwrap(), folder.path(), &stop);
    assert!(matches!(ended, Err(ArchiveError::Interrupted)));
}
