//! `relstore serve`: the store over HTTP, read only.

use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use crate::config::SecretRef;
use crate::context::Context;
use crate::error::{CommandError, Result};
use crate::exit_code::ExitCode;
use crate::serve::{Access, Server};
use crate::stored::{open, runtime};

/// Serve the store over HTTP, for reading only
///
/// Whoever has the address, and the token when there is one, reads every object. The address and
/// the store are printed on stdout, one line per request on stderr (unless `--quiet`). SIGTERM and
/// Ctrl-C end it when all answers that were begun are sent, at most 30 s later.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  relstore serve --token-file /etc/relstore/token
  relstore pull HEAD --from https://releases.example.com     (through a web server with TLS)")]
pub(crate) struct Args {
    /// The address to listen on; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8377")]
    listen: SocketAddr,
    /// Ask for the bearer token that this environment variable holds
    #[arg(long, value_name = "NAME", conflicts_with = "token_file")]
    token_env: Option<String>,
    /// Ask for the bearer token that this file holds
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Let everybody read who reaches the address, even from other machines
    #[arg(long, conflicts_with_all = ["token_env", "token_file"])]
    public: bool,
}

/// Runs the command.
pub(crate) fn run(context: &Context, args: &Args) -> Result<ExitCode> {
    let access = access(context, args)?;
    if access.is_open(args.listen) && !args.public {
        let message = format!(
            "{} can be reached by others, and no token guards it",
            args.listen
        );
        return Err(CommandError::bad_input(message)
            .hint("say --token-file FILE or --token-env NAME, or --public to let everybody read"));
    }
    let runtime = runtime()?;
    let served = runtime.block_on(serve(context, args, access));
    runtime.shutdown_background();
    served
}

fn access(context: &Context, args: &Args) -> Result<Access> {
    let reference = match (&args.token_env, &args.token_file) {
        (Some(name), _) => SecretRef::Variable(name.clone()),
        (None, Some(path)) => SecretRef::File(context.folder.join(path)),
        (None, None) => return Ok(Access::Everybody),
    };
    Ok(Access::token(&context.secret(&reference)?))
}

async fn serve(context: &Context, args: &Args, access: Access) -> Result<ExitCode> {
    let stop = stop()?;
    let (_, store) = open(context).await?;
    let place = store.place();
    let failed = |error: std::io::Error| {
        let message = format!("cannot listen on {}", args.listen);
        CommandError::new(ExitCode::Failure, message).caused_by(&error)
    };
    let server = Server::bind(args.listen, store.into_backend(), access, context.output)
        .await
        .map_err(failed)?;
    let url = format!("http://{}/", server.address().map_err(failed)?);
    let text = format!("serving {place} at {url}\n");
    context
        .output
        .result(&text, || json!({ "store": place, "url": url }))?;
    server.run(stop).await.map_err(failed)?;
    Ok(ExitCode::Ok)
}

/// Waits for a signal that asks the program to end. From now on it no longer ends by itself.
fn stop() -> Result<impl Future<Output = ()> + Send + 'static> {
    let failed = |error: std::io::Error| {
        CommandError::new(ExitCode::Failure, "cannot wait for signals").caused_by(&error)
    };
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}
