//! A proxy on loopback before a real server that does to each answer what a plan says.

use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What happens to one request. Those after the end of the plan pass.
#[derive(Clone)]
pub(super) enum Fault {
    Pass,
    /// The connection is closed without an answer.
    Close,
    /// An answer of the proxy's own.
    Say(String),
    /// The answer ends after this many bytes of head and body.
    Cut(usize),
    /// Nothing comes.
    Silence,
    /// After so many bytes of head and body, one byte every few milliseconds.
    Trickle(usize),
}

pub(super) struct Proxy {
    pub(super) port: u16,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    /// Starts it before the server at `upstream`; it ends with the runtime of the test.
    pub(super) async fn before(upstream: u16, plan: impl IntoIterator<Item = Fault>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let heads = Arc::clone(&seen);
        let mut plan: VecDeque<Fault> = plan.into_iter().collect();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let fault = plan.pop_front().unwrap_or(Fault::Pass);
                tokio::spawn(answer(client, upstream, fault, Arc::clone(&heads)));
            }
        });
        Self { port, seen }
    }

    pub(super) fn url(&self, below: &str) -> String {
        format!("http://127.0.0.1:{}/{below}/", self.port)
    }

    /// The heads of all requests so far, in lower case.
    pub(super) fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }
}

async fn answer(
    mut client: TcpStream,
    upstream: u16,
    fault: Fault,
    seen: Arc<Mutex<Vec<String>>>,
) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await?);
    }
    let head = String::from_utf8(head).unwrap();
    seen.lock().unwrap().push(head.to_lowercase());
    let (limit, slow) = match fault {
        Fault::Pass => (usize::MAX, false),
        Fault::Cut(bytes) => (bytes, false),
        Fault::Trickle(bytes) => (bytes, true),
        Fault::Close => return Ok(()),
        Fault::Say(text) => {
            client.write_all(text.as_bytes()).await?;
            return client.shutdown().await;
        }
        Fault::Silence => {
            tokio::time::sleep(Duration::from_secs(60)).await;
            return Ok(());
        }
    };
    // As a forward proxy it is asked for whole URLs.
    let head = head.replacen("http://store.invalid/", "/", 1);
    let head = head.replacen("\r\n", "\r\nConnection: close\r\n", 1);
    let mut server = TcpStream::connect((Ipv4Addr::LOCALHOST, upstream)).await?;
    server.write_all(head.as_bytes()).await?;
    let mut all = Vec::new();
    server.read_to_end(&mut all).await?;
    let (now, rest) = all.split_at(limit.min(all.len()));
    client.write_all(now).await?;
    if slow {
        for byte in rest {
            client.write_all(&[*byte]).await?;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    client.shutdown().await
}
