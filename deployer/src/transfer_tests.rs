#![allow(clippy::unwrap_used)]

use relstore_store::manifest::Kind;

use super::*;

fn known(files: &[(&str, &str)]) -> Known {
    let entry = |(path, content): &(&str, &str)| Entry {
        path: EntryPath::new(*path).unwrap(),
        kind: Kind::File {
            size: content.len() as u64,
            blob: BlobId::of(content.as_bytes()),
        },
    };
    let manifest = Manifest::from_entries(files.iter().map(entry).collect()).unwrap();
    Known {
        release: manifest.id(),
        manifest: Arc::new(manifest),
    }
}

fn blob(content: &str) -> BlobId {
    BlobId::of(content.as_bytes())
}

#[test]
fn only_what_no_complete_release_has_is_sent() {
    let one = known(&[("a", "1"), ("b", "2")]);
    let two = known(&[("c", "3")]);
    let new = known(&[("a", "1"), ("moved", "3"), ("b", "changed"), ("new", "4")]);
    let transfer = plan(&new, &[one.clone(), two], |_| true);
    assert_eq!(transfer.base.as_ref().unwrap().0, one.release);
    let patch = Patch {
        blob: blob("changed"),
        size: 7,
        old: blob("2"),
        old_size: 1,
    };
    assert_eq!(transfer.patches, [patch]);
    assert_eq!(transfer.whole, [(blob("4"), 1)]);
    assert_eq!((transfer.blobs(), transfer.raw_bytes()), (2, 8));
}

#[test]
fn first_deploy_sends_each_content_once_grouped_by_extension() {
    let new = known(&[("b.php", "x"), ("a.js", "y"), ("c.php", "x"), ("d.js", "z")]);
    let transfer = plan(&new, &[], |_| true);
    assert!(transfer.base.is_none() && transfer.patches.is_empty());
    assert_eq!(
        transfer.whole,
        [(blob("y"), 1), (blob("z"), 1), (blob("x"), 1)]
    );
}

#[test]
fn base_with_the_least_to_send_wins_and_the_active_release_wins_a_tie() {
    let (far, near) = (known(&[("a", "0")]), known(&[("a", "1"), ("b", "2")]));
    let new = known(&[("a", "1"), ("b", "3")]);
    let transfer = plan(&new, &[far.clone(), near.clone()], |_| true);
    assert_eq!(transfer.base.unwrap().0, near.release);
    let twin = known(&[("a", "1"), ("b", "9")]);
    for order in [[near.clone(), twin.clone()], [twin, near]] {
        let transfer = plan(&new, &order, |_| true);
        assert_eq!(transfer.base.unwrap().0, order[0].release);
    }
}

#[test]
fn old_content_that_is_empty_or_not_in_the_store_is_no_reference() {
    let old = known(&[("a", ""), ("b", "2")]);
    let new = known(&[("a", "1"), ("b", "3")]);
    let transfer = plan(&new, &[old], |_| false);
    assert!(transfer.patches.is_empty());
    assert_eq!(transfer.blobs(), 2);
}

#[test]
fn file_that_becomes_executable_is_sent_as_a_reference_to_itself() {
    let old = known(&[("artisan", "#!php"), ("b", "2")]);
    let entry = |path: &str, kind| Entry {
        path: EntryPath::new(path).unwrap(),
        kind,
    };
    let executable = Kind::Executable {
        size: 5,
        blob: blob("#!php"),
    };
    let manifest = Manifest::from_entries(vec![entry("artisan", executable)]).unwrap();
    let new = Known {
        release: manifest.id(),
        manifest: Arc::new(manifest),
    };
    let transfer = plan(&new, &[old], |_| true);
    let patch = Patch {
        blob: blob("#!php"),
        size: 5,
        old: blob("#!php"),
        old_size: 5,
    };
    assert_eq!((transfer.patches, transfer.whole), (vec![patch], vec![]));
}
