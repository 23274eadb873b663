//! Work that blocks or computes for long, off the async workers.

use crate::error::StoreError;

/// Runs it on a thread of its own.
///
/// # Errors
/// [`StoreError::Interrupted`] when the program is shutting down.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, StoreError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| StoreError::Interrupted)
}
