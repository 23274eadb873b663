//! The host helper's program file, as it lies beside the running program.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::TransportError;

/// File name of the host helper.
const NAME: &str = "relstore-host";

/// The host helper that is copied to hosts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HelperBinary {
    /// The program file on this machine.
    pub path: PathBuf,
    /// SHA-256 of its bytes: 64 lower-case hex digits, and its folder's name on a host.
    pub sha256: String,
    /// Its length in bytes.
    pub size_bytes: u64,
    /// The machine number of its ELF header, when it has one.
    machine: Option<u16>,
}

impl HelperBinary {
    /// Reads and hashes the program at `path`; fails with [`TransportError::HelperUnreadable`].
    /// Blocks for the time of reading the file.
    pub fn load(path: impl Into<PathBuf>) -> Result<Self, TransportError> {
        let path = path.into();
        match digest(&path) {
            Ok((sha256, size_bytes, head)) => Ok(Self {
                path,
                sha256,
                size_bytes,
                machine: elf_machine(&head),
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
        let machine = self.machine?;
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

/// Returns SHA-256 in hex, length and first 20 bytes of the file at `path`.
pub(super) fn digest(path: &Path) -> io::Result<(String, u64, Vec<u8>)> {
    let mut file = File::open(path)?;
    let (mut hasher, mut length, mut head) = (Sha256::new(), 0_u64, Vec::new());
    let mut buffer = vec![0; 64 << 10];
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        hasher.update(&buffer[..read]);
        length += read as u64;
        let wanted = 20_usize.saturating_sub(head.len()).min(read);
        head.extend_from_slice(&buffer[..wanted]);
    }
    let hex = hasher
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    Ok((hex, length, head))
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
        assert_eq!((helper.path, helper.size_bytes), (path, 3));
    }

    #[test]
    fn only_certain_mismatches_are_foreign() {
        let helper = |head: &[u8]| HelperBinary {
            path: PathBuf::new(),
            sha256: String::new(),
            size_bytes: 0,
            machine: elf_machine(head),
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
