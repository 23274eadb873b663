//! A long line on this machine: a proxy that holds back what passes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::Instant;

/// A proxy on a loopback port. Its task ends with the test's runtime.
pub(crate) struct Line {
    pub(crate) port: u16,
    count: Count,
}

/// How often the client spoke after it had heard something.
#[derive(Clone, Default)]
struct Count {
    heard: Arc<AtomicBool>,
    turns: Arc<AtomicUsize>,
}

impl Line {
    /// Leads to `port`; each way takes `delay`.
    pub(crate) async fn to(port: u16, delay: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let line = Self {
            port: listener.local_addr().unwrap().port(),
            count: Count::default(),
        };
        let count = line.count.clone();
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let far = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                for stream in [&near, &far] {
                    stream.set_nodelay(true).unwrap();
                }
                let ((from_near, to_near), (from_far, to_far)) =
                    (near.into_split(), far.into_split());
                tokio::spawn(carry(from_near, to_far, delay, count.clone(), true));
                tokio::spawn(carry(from_far, to_near, delay, count.clone(), false));
            }
        });
        line
    }

    pub(crate) fn turns(&self) -> usize {
        self.count.turns.load(Ordering::SeqCst)
    }
}

/// Carries one direction: what is read goes on after the delay, and more is read meanwhile.
async fn carry(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    delay: Duration,
    count: Count,
    client: bool,
) {
    let (under_way, mut arriving) = mpsc::channel::<(Instant, Vec<u8>)>(1024);
    tokio::spawn(async move {
        while let Some((at, bytes)) = arriving.recv().await {
            tokio::time::sleep_until(at).await;
            if to.write_all(&bytes).await.is_err() {
                return;
            }
            if !client {
                count.heard.store(true, Ordering::SeqCst);
            } else if count.heard.swap(false, Ordering::SeqCst) {
                count.turns.fetch_add(1, Ordering::SeqCst);
            }
        }
    });
    let mut piece = vec![0; 64 << 10];
    while let Ok(length @ 1..) = from.read(&mut piece).await {
        let at = Instant::now() + delay;
        if under_way
            .send((at, piece[..length].to_vec()))
            .await
            .is_err()
        {
            return;
        }
    }
}
