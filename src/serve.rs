//! The store over HTTP, read only: what [`HttpBackend`](relstore_store::backend::http::HttpBackend)
//! reads, and any other client.
//!
//! `GET` and `HEAD` of names of objects, nothing else. Bodies are read from the store in pieces while
//! they are sent, so memory does not grow with them; answers, connections and waits are bounded.

mod access;
mod answer;
mod connection;
mod journal;
mod objects;
mod range;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::connect_info::ConnectInfo;
use axum::extract::{Request, State};
use axum::response::Response;
use relstore_store::backend::Backend;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, oneshot};

pub(crate) use access::Access;
use connection::{Connections, Peer};
use journal::Entry;
use objects::Objects;

use crate::output::Output;

/// Answers that are made or sent at once; more wait for their turn.
const ANSWERS: usize = 64;
/// How long answers that were begun may go on after the server was told to end.
const GRACE: Duration = Duration::from_secs(30);

/// A server that is bound to its address.
pub(crate) struct Server {
    listener: TcpListener,
    shared: Arc<Shared>,
}

/// What every request needs.
struct Shared {
    objects: Objects,
    access: Access,
    answers: Arc<Semaphore>,
    output: Output,
}

impl Server {
    /// Binds the address, where port 0 is any free one.
    pub(crate) async fn bind(
        address: SocketAddr,
        backend: Arc<dyn Backend>,
        access: Access,
        output: Output,
    ) -> io::Result<Self> {
        let shared = Shared {
            objects: Objects::new(backend),
            access,
            answers: Arc::new(Semaphore::new(ANSWERS)),
            output,
        };
        Ok(Self {
            listener: TcpListener::bind(address).await?,
            shared: Arc::new(shared),
        })
    }

    /// The address that it listens on.
    pub(crate) fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Answers requests until `stop` is done; then takes no more, and ends when those that were begun
    /// are answered, or after [`GRACE`].
    pub(crate) async fn run(
        self,
        stop: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<()> {
        let (told, stopping) = oneshot::channel();
        let output = self.shared.output;
        let app = Router::new().fallback(respond).with_state(self.shared);
        let app = app.into_make_service_with_connect_info::<Peer>();
        let served =
            axum::serve(Connections::new(self.listener), app).with_graceful_shutdown(async move {
                stop.await;
                let _ = told.send(());
            });
        let late = async {
            // An error means that the server ended by itself, and is the one that is told.
            if stopping.await.is_err() {
                std::future::pending::<()>().await;
            }
            tokio::time::sleep(GRACE).await;
        };
        tokio::select! {
            served = served.into_future() => served,
            () = late => {
                let seconds = GRACE.as_secs();
                output.warning(&format!("answers not ended within {seconds} s were cut"));
                Ok(())
            }
        }
    }
}

async fn respond(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    request: Request,
) -> Response {
    let entry = Entry::new(shared.output, peer, &request);
    // The semaphore is never closed.
    let turn = Arc::clone(&shared.answers).acquire_owned().await.ok();
    let response = answer::answer(&shared, request).await;
    entry.follow(response, turn)
}
