//! A bounded queue whose sender never waits and counts what it had to drop.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
    mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
};

/// Sending half. A full queue drops the item and counts it; the count is read with [`Sender::take_dropped`].
#[derive(Debug)]
pub struct Sender<T> {
    inner: SyncSender<T>,
    dropped: Arc<AtomicU64>,
}

/// The receiver is gone: the pipeline is shutting down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed;

impl<T> Sender<T> {
    /// Hands `item` over, or drops and counts it when the queue is full.
    ///
    /// # Errors
    /// [`Closed`] when nobody will ever receive again.
    pub fn send(&self, item: T) -> Result<(), Closed> {
        match self.inner.try_send(item) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(_)) => {
                self.dropped.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }
            Err(TrySendError::Disconnected(_)) => Err(Closed),
        }
    }

    /// Hands `item` over, waiting while the queue is full. For a source that has a queue of its own behind it (a kernel
    /// ring buffer), where waiting moves the loss to the place that counts it.
    ///
    /// # Errors
    /// [`Closed`] when nobody will ever receive again.
    pub fn send_waiting(&self, item: T) -> Result<(), Closed> {
        self.inner.send(item).map_err(|_| Closed)
    }

    /// Items dropped since the last call.
    pub fn take_dropped(&self) -> u64 {
        self.dropped.swap(0, Ordering::Relaxed)
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            dropped: Arc::clone(&self.dropped),
        }
    }
}

/// A queue of at most `items_max` items.
pub fn bounded<T>(items_max: usize) -> (Sender<T>, Receiver<T>) {
    let (inner, receiver) = sync_channel(items_max);
    (
        Sender {
            inner,
            dropped: Arc::new(AtomicU64::new(0)),
        },
        receiver,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_counted_and_never_blocks() {
        let (sender, receiver) = bounded(2);
        for item in 0..5 {
            sender.send(item).unwrap();
        }
        assert_eq!(sender.take_dropped(), 3);
        assert_eq!(sender.take_dropped(), 0);
        assert_eq!(receiver.try_iter().collect::<Vec<_>>(), [0, 1]);
        drop(receiver);
        assert_eq!(sender.send(9), Err(Closed));
    }
}
