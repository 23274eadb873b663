//! What comes before the first frame: a login shell's chatter, then the helper's magic bytes.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};

use super::MAGIC;

/// How much chatter is skipped, in bytes.
pub(super) const MAX_CHATTER: usize = 64 << 10;

/// How the beginning of a channel ended.
#[derive(Debug)]
pub(super) enum Preamble {
    /// The magic bytes came; these bytes were read behind them.
    Magic(Vec<u8>),
    /// The channel ended first, after this chatter.
    Ended(Vec<u8>),
    /// More than [`MAX_CHATTER`] came without the magic bytes.
    Flood(Vec<u8>),
    /// Nothing came for the time limit, after this chatter.
    Silent(Vec<u8>),
    /// The channel failed.
    Broken(io::Error),
}

/// Reads up to the magic bytes, waiting at most `limit` for each piece.
pub(super) async fn skip<R: AsyncRead + Unpin>(reader: &mut R, limit: Duration) -> Preamble {
    let mut seen = Vec::new();
    let mut piece = vec![0; 8 << 10];
    loop {
        let read = match tokio::time::timeout(limit, reader.read(&mut piece)).await {
            Err(_) => return Preamble::Silent(seen),
            Ok(Err(error)) => return Preamble::Broken(error),
            Ok(Ok(0)) => return Preamble::Ended(seen),
            Ok(Ok(read)) => read,
        };
        // The magic may be split between two pieces.
        let from = seen.len().saturating_sub(MAGIC.len() - 1);
        seen.extend_from_slice(&piece[..read]);
        let found = seen[from..]
            .windows(MAGIC.len())
            .position(|window| window == MAGIC);
        if let Some(at) = found.map(|at| from + at).filter(|at| *at <= MAX_CHATTER) {
            return Preamble::Magic(seen.split_off(at + MAGIC.len()));
        }
        if seen.len() > MAX_CHATTER + MAGIC.len() {
            return Preamble::Flood(seen);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const SOON: Duration = Duration::from_millis(50);

    /// Gives one byte per read, so that every split of the magic occurs.
    async fn dripped(bytes: &[u8]) -> Preamble {
        let (mut near, far) = tokio::io::duplex(1);
        let bytes = bytes.to_vec();
        let feed = tokio::spawn(async move {
            let mut far = far;
            let _ = tokio::io::AsyncWriteExt::write_all(&mut far, &bytes).await;
        });
        let preamble = skip(&mut near, Duration::from_secs(5)).await;
        drop(near);
        feed.await.unwrap();
        preamble
    }

    #[tokio::test]
    async fn chatter_before_the_magic_is_skipped_and_frames_behind_it_are_kept() {
        for chatter in [
            "",
            "Welcome!\n",
            "\0relstore-hos",
            "\0\0relstore",
            "relstore-host\0",
        ] {
            let bytes = [chatter.as_bytes(), MAGIC, b"frames"].concat();
            match skip(&mut bytes.as_slice(), SOON).await {
                Preamble::Magic(rest) => assert_eq!(rest, b"frames", "{chatter:?}"),
                other => panic!("{chatter:?}: {other:?}"),
            }
            let dripped = dripped(&bytes).await;
            assert!(
                matches!(dripped, Preamble::Magic(_)),
                "{chatter:?}: {dripped:?}"
            );
        }
    }

    #[tokio::test]
    async fn an_end_without_magic_keeps_the_chatter() {
        match skip(&mut b"not found\n".as_slice(), SOON).await {
            Preamble::Ended(chatter) => assert_eq!(chatter, b"not found\n"),
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn exactly_64_kib_of_chatter_are_skipped() {
        let mut bytes = vec![b'x'; MAX_CHATTER];
        bytes.extend_from_slice(MAGIC);
        assert!(matches!(
            skip(&mut bytes.as_slice(), SOON).await,
            Preamble::Magic(_)
        ));
        bytes.insert(0, b'x');
        bytes.extend(vec![b'x'; 100_000]);
        assert!(matches!(
            skip(&mut bytes.as_slice(), SOON).await,
            Preamble::Flood(_)
        ));
    }

    #[tokio::test]
    async fn silence_ends_the_wait() {
        let (mut near, _far) = tokio::io::duplex(8);
        assert!(matches!(skip(&mut near, SOON).await, Preamble::Silent(_)));
    }
}
