//! The host helper's program file, as it lies beside the running program.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::TransportError;

/// File name of the host helper.
const NAME: &str = "relstore-host";

/// The host helper that is copied to hosts. Its bytes are held in memory (a few megabytes), so
/// that a program file that is replaced meanwhile cannot arrive under the hash of the old one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HelperBinary {
    /// The program file on this machine.
    pub path: PathBuf,
    /// SHA-256 of its bytes: 64 lower-case hex digits, and its folder's name on a host.
    pub sha256: String,
    /// The program.
    pub bytes: Bytes,
}

impl HelperBinary {
    /// Reads and hashes the program at `path`; fails with [`TransportError::HelperUnreadable`].
    /// Blocks for the time of reading the file.
    pub fn load(path: impl Into<PathBuf>) -> Result<Self, TransportError> {
        let path = path.into();
        match std::fs::read(&path) {
            Ok(bytes) => Ok(Self {
                path,
                sha256: sha256(&bytes),
                bytes: bytes.into(),
            }),
            Err(source) => Err(TransportError::HelperUnreadable { path, source }),
        }
    }

    /// Loads `relstore-host` from the folder that holds `program`.
    pub fn beside(program: &Path) -> Result<Self, TransportError> {
        Self::load(program.with_file_name(NAME))
    }

    /// Returns the folder of this helper below `base`.
    pub(super) fn folder(&self, base: &str) -> String {
        format!("{base}/.relstore/helper/{}", self.sha256)
    }

    /// Returns the path of this helper below `base`.
    pub(super) fn installed(&self, base: &str) -> String {
        format!("{}/{NAME}", self.folder(base))
    }

    /// Returns the name of the helper's machine when it certainly does not run on a machine that
    /// calls itself `uname`, as `uname -m` prints it. Unknown names are left to the attempt.
    pub(super) fn foreign_to(&self, uname: &str) -> Option<&'static str> {
        let runs: &[u16] = match uname {
            "x86_64" | "amd64" => &[62, 3],
            "aarch64" | "arm64" => &[183, 40],
            "armv6l" | "armv7l" | "armv8l" => &[40],
            "i386" | "i486" | "i586" | "i686" => &[3],
            "riscv64" => &[243],
            "ppc64le" | "ppc64" => &[21],
            "s390x" => &[22],
            _ => return None,
        };
        let machine = elf_machine(&self.bytes)?;
        let name = match machine {
            3 => "i686",
            21 => "ppc64",
            22 => "s390x",
            40 => "arm",
            62 => "x86_64",
            183 => "aarch64",
            243 => "riscv64",
            _ => "another architecture",
        };
        (!runs.contains(&machine)).then_some(name)
    }
}

/// Returns SHA-256 in hex.
pub(super) fn sha256(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Returns `e_machine` of an ELF header.
fn elf_machine(head: &[u8]) -> Option<u16> {
    if head.len() < 20 || &head[..4] != b"\x7fELF" {
        return None;
    }
    let bytes = [head[18], head[19]];
    match head[5] {
        1 => Some(u16::from_le_bytes(bytes)),
        2 => Some(u16::from_be_bytes(bytes)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn elf(order: u8, machine: [u8; 2]) -> Vec<u8> {
        let mut head = b"\x7fELF\x02\x01".to_vec();
        head[5] = order;
        head.resize(18, 0);
        head.extend(machine);
        head
    }

    #[test]
    fn sha256_is_the_one_of_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(NAME);
        std::fs::write(&path, "abc").unwrap();
        let helper = HelperBinary::beside(&folder.path().join("relstore")).unwrap();
        assert_eq!(
            helper.sha256,
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_eq!((helper.path, &helper.bytes[..]), (path, &b"abc"[..]));
    }

    #[test]
    fn only_certain_mismatches_are_foreign() {
        let helper = |head: &[u8]| HelperBinary {
            path: PathBuf::new(),
            sha256: String::new(),
            bytes: Bytes::copy_from_slice(head),
        };
        assert_eq!(helper(&elf(1, [62, 0])).foreign_to("x86_64"), None);
        assert_eq!(
            helper(&elf(1, [62, 0])).foreign_to("aarch64"),
            Some("x86_64")
        );
        assert_eq!(helper(&elf(2, [0, 22])).foreign_to("x86_64"), Some("s390x"));
        assert_eq!(helper(&elf(1, [3, 0])).foreign_to("x86_64"), None);
        assert_eq!(helper(&elf(1, [62, 0])).foreign_to("vax"), None);
        assert_eq!(helper(b"#!/bin/sh\n").foreign_to("x86_64"), None);
    }
}
