//! Events of a fanotify group that reports descriptors (`struct fanotify_event_metadata`, fanotify(7)).

use super::fields::Fields;

/// Of `fanotify_event_metadata.vers`.
const METADATA_VERSION: u8 = 3;
/// `FAN_NOFD`.
const NO_DESCRIPTOR: i32 = -1;
/// `FAN_Q_OVERFLOW`.
const QUEUE_OVERFLOW: u64 = 0x4000;

/// One event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FanotifyEvent {
    /// Descriptor of the opened file; `None` when the kernel could not make one. Whoever reads a buffer owns all of them.
    pub fd: Option<i32>,
    /// Process that opened it, 0 when it is outside the reader's pid namespace.
    pub pid: u32,
    /// The queue was full and events are missing.
    pub is_overflow: bool,
}

/// The events of what one read(2) returned. Ends at the first thing that is not an event; the kernel writes none.
pub fn fanotify_events(buffer: &[u8]) -> impl Iterator<Item = FanotifyEvent> {
    let mut rest = buffer;
    std::iter::from_fn(move || {
        let mut fields = Fields(rest);
        let length = fields.length().ok()?;
        let version = fields.u8().ok()?;
        let _reserved = fields.u8().ok()?;
        let metadata_length = usize::from(fields.u16().ok()?);
        let mask = fields.u64().ok()?;
        let fd = fields.i32().ok()?;
        let pid = fields.i32().ok()?;
        if version != METADATA_VERSION || length < metadata_length.max(24) {
            return None;
        }
        rest = rest.get(length..)?;
        Some(FanotifyEvent {
            fd: (fd > NO_DESCRIPTOR).then_some(fd),
            pid: u32::try_from(pid).unwrap_or_default(),
            is_overflow: mask & QUEUE_OVERFLOW != 0,
        })
    })
}
