//! Users and groups from `/etc/passwd` and `/etc/group`: a static program has no name services.

use std::fs;

use rustix::fs::Gid;

/// Login name of a user; the number where it has none.
pub(crate) fn user_name(uid: u32) -> String {
    let text = fs::read_to_string("/etc/passwd").unwrap_or_default();
    lookup(&text, 2, &uid.to_string(), 0).map_or_else(|| uid.to_string(), str::to_owned)
}

/// Home folder of a user.
pub(crate) fn home(uid: u32) -> Option<String> {
    let text = fs::read_to_string("/etc/passwd").unwrap_or_default();
    lookup(&text, 2, &uid.to_string(), 5).map(str::to_owned)
}

/// Number of a group.
pub(crate) fn group(name: &str) -> Option<Gid> {
    let text = fs::read_to_string("/etc/group").unwrap_or_default();
    lookup(&text, 0, name, 2)
        .and_then(|gid| gid.parse().ok())
        .map(Gid::from_raw)
}

/// Field `want` of the first line whose field `key` is `value`.
fn lookup<'a>(text: &'a str, key: usize, value: &str, want: usize) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        (fields.get(key) == Some(&value)).then(|| fields.get(want).copied())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_by_name_and_number() {
        let passwd =
            "root:x:0:0:root:/root:/bin/sh\ndeploy:x:1001:1001::/home/deploy:/bin/bash\nodd\n";
        assert_eq!(lookup(passwd, 2, "1001", 0), Some("deploy"));
        assert_eq!(lookup(passwd, 2, "1001", 5), Some("/home/deploy"));
        assert_eq!(lookup(passwd, 0, "nobody", 2), None);
    }
}
