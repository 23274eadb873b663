//! Links that lead back to themselves: every look at one fails, on every host. Pure.

use std::collections::HashMap;

use crate::manifest::{Entry, Kind};
use crate::name::EntryPath;

/// How many links Linux follows for one path.
const MAX_HOPS: usize = 40;

/// The first link, by path, behind which the file system would find nothing but further links.
/// A link that leads to nothing is none: what it means may be made on the host.
#[must_use]
pub(crate) fn find(entries: &[Entry]) -> Option<&EntryPath> {
    let links: HashMap<&[u8], &[u8]> = entries
        .iter()
        .filter_map(|entry| match &entry.kind {
            Kind::Link { target } => Some((entry.path.as_bytes(), target.as_bytes())),
            _ => None,
        })
        .collect();
    let paths = entries.iter().map(|entry| &entry.path);
    paths
        .filter(|path| links.contains_key(path.as_bytes()) && loops(path.as_bytes(), &links))
        .min()
}

/// Follows a path as the file system would, one name after the other.
fn loops(path: &[u8], links: &HashMap<&[u8], &[u8]>) -> bool {
    let names = |path: &[u8]| -> Vec<Vec<u8>> {
        let names = path.split(|&byte| byte == b'/').rev();
        names.map(<[u8]>::to_vec).collect()
    };
    // The names still to come, the next one last.
    let mut ahead = names(path);
    let mut at: Vec<u8> = Vec::new();
    let mut hops = 0;
    while let Some(name) = ahead.pop() {
        let folder = at.len();
        if name == b".." {
            let end = at.iter().rposition(|&byte| byte == b'/').unwrap_or(0);
            at.truncate(end);
            continue;
        }
        if folder > 0 {
            at.push(b'/');
        }
        at.extend_from_slice(&name);
        if let Some(target) = links.get(at.as_slice()) {
            hops += 1;
            if hops > MAX_HOPS {
                return true;
            }
            at.truncate(folder);
            ahead.extend(names(target));
        }
    }
    false
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::name::LinkTarget;

    fn found(links: &[(&str, &str)]) -> Option<String> {
        let entries: Vec<Entry> = links
            .iter()
            .map(|(path, target)| {
                let path = EntryPath::new(*path).unwrap();
                let target = LinkTarget::new(*target, &path).unwrap();
                Entry {
                    path,
                    kind: Kind::Link { target },
                }
            })
            .collect();
        find(&entries).map(ToString::to_string)
    }

    #[test]
    fn loops_of_any_length_are_found_and_other_links_are_not() {
        assert_eq!(found(&[("a", "a")]).as_deref(), Some("a"));
        assert_eq!(
            found(&[("z/b", "../z/a"), ("z/a", "b")]).as_deref(),
            Some("z/a")
        );
        assert_eq!(
            found(&[("d/x", "y/z"), ("d/y", "../d/x")]).as_deref(),
            Some("d/x")
        );
        assert_eq!(found(&[("public/storage", "../storage/app/public")]), None);
        // A folder that holds a link to a folder above it has an end for every path.
        assert_eq!(found(&[("a/up", "../a"), ("b", "a/up/up/up")]), None);
        assert_eq!(found(&[("v", "dist"), ("w", "v/x"), ("dist/x", "y")]), None);
    }

    #[test]
    fn more_links_in_a_row_than_linux_follows_are_a_loop() {
        let chain = |length: usize| -> Vec<(String, String)> {
            (0..length)
                .map(|at| (format!("{at:03}"), format!("{:03}", at + 1)))
                .collect()
        };
        let borrowed = |links: &[(String, String)]| {
            let links: Vec<(&str, &str)> = links
                .iter()
                .map(|(a, b)| (a.as_str(), b.as_str()))
                .collect();
            found(&links)
        };
        assert_eq!(borrowed(&chain(40)), None);
        assert_eq!(borrowed(&chain(41)).as_deref(), Some("000"));
    }
}
