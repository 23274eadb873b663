//! The worked example of `docs/format.md`, made anew and compared byte by byte.
#![allow(clippy::unwrap_used)]

use std::fmt::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use relstore_store::Store;
use relstore_store::bundle::toc::Toc;
use relstore_store::import::{Layout, ReleaseTree};
use relstore_store::name::EntryPath;

const BEGIN: &str = "<!-- worked example: made by store/tests/format.rs -->\n";
const END: &str = "<!-- end of the worked example -->\n";

fn hex(bytes: &[u8]) -> String {
    let mut out = String::new();
    for (row, chunk) in bytes.chunks(16).enumerate() {
        let digits: Vec<String> = chunk.iter().map(|byte| format!("{byte:02x}")).collect();
        let text: String = chunk
            .iter()
            .map(|&byte| {
                if (0x20..0x7f).contains(&byte) {
                    char::from(byte)
                } else {
                    '.'
                }
            })
            .collect();
        writeln!(out, "{:08x}  {:<47}  {text}", row * 16, digits.join(" ")).unwrap();
    }
    out
}

async fn worked_example() -> String {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("tree");
    let at = folder.path().join("store");
    for dir in ["public", "bin", "storage/logs", "bootstrap/cache"] {
        std::fs::create_dir_all(root.join(dir)).unwrap();
    }
    std::fs::write(root.join("public/index.html"), "hello\n").unwrap();
    std::fs::write(root.join("bin/run"), "#!/bin/sh\n").unwrap();
    std::fs::set_permissions(root.join("bin/run"), PermissionsExt::from_mode(0o700)).unwrap();
    std::fs::write(root.join("storage/logs/.gitignore"), "*\n").unwrap();
    std::fs::write(root.join("public/t\u{fc}r.txt"), "hello\n").unwrap();
    symlink("../storage/app/public", root.join("public/storage")).unwrap();
    let path = |text: &str| EntryPath::new(text).unwrap();
    let layout = Layout {
        shared_files: vec![path(".env")],
        shared_dirs: vec![path("storage")],
        writable_dirs: vec![path("bootstrap/cache")],
    };
    let store = Store::open_or_create(&at).await.unwrap();
    let imported = store
        .import(&ReleaseTree { root, layout }, &|_| {})
        .await
        .unwrap();
    store
        .put_record(&imported.release, b"{\"said\":\"something\"}\n")
        .await
        .unwrap();
    store.publish(&imported.release).await.unwrap();
    let commit = "5".repeat(40);
    store.add_commit(&commit, &imported.release).await.unwrap();

    let mut names: Vec<String> = walkdir::WalkDir::new(&at)
        .into_iter()
        .map(Result::unwrap)
        .filter(|entry| entry.file_type().is_file())
        .map(|entry| {
            entry
                .path()
                .strip_prefix(&at)
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned()
        })
        .collect();
    names.sort();
    let bytes_of = |prefix: &str| {
        let name = names.iter().find(|name| name.starts_with(prefix)).unwrap();
        std::fs::read(at.join(name)).unwrap()
    };
    let text = String::from_utf8(imported.manifest.to_text()).unwrap();
    let bundle = bytes_of("bundles/");
    let toc = Toc::parse(&bytes_of("index/")).unwrap();
    let frame = toc.frames()[0];
    let mut out = String::new();
    writeln!(
        out,
        "The manifest (columns are separated by one TAB):\n\n```text\n{text}```\n"
    )
    .unwrap();
    writeln!(
        out,
        "`b3sum` of these {} bytes is the release id:\n\n```text\n{}\n```\n",
        text.len(),
        imported.release
    )
    .unwrap();
    writeln!(
        out,
        "The objects of the store:\n\n```text\n{}\n```\n",
        names.join("\n")
    )
    .unwrap();
    writeln!(
        out,
        "`format.json`:\n\n```json\n{}```\n",
        String::from_utf8(bytes_of("format.json")).unwrap()
    )
    .unwrap();
    writeln!(
        out,
        "The index ({} frame, {} blobs):\n\n```text\n{}```\n",
        toc.frames().len(),
        toc.slots().len(),
        hex(&bytes_of("index/"))
    )
    .unwrap();
    let stored = frame.stored as usize;
    writeln!(
        out,
        "The bundle: {stored} bytes of zstd, which decode to {} bytes of tar,\n\n```text\n{}```\n",
        frame.raw,
        hex(&bundle[..stored])
    )
    .unwrap();
    let (head, foot) = (&bundle[stored..stored + 8], &bundle[bundle.len() - 12..]);
    writeln!(out, "then the skippable frame: its header, the bytes of the index, the footer.\n\n```text\n{}...\n{}```", hex(head), hex(foot)).unwrap();
    assert_eq!(bundle[stored + 8..bundle.len() - 12], bytes_of("index/"));
    out
}

#[tokio::test]
async fn worked_example_of_the_format_is_what_the_code_writes() {
    let doc = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/format.md");
    let text = std::fs::read_to_string(&doc).unwrap();
    let made = worked_example().await;
    let (_, rest) = text.split_once(BEGIN).expect("the example's first marker");
    let (written, _) = rest.split_once(END).expect("the example's last marker");
    assert!(
        written.trim() == made.trim(),
        "docs/format.md shows another example than the code makes:\n{made}"
    );
}
