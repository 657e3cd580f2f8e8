//! The filter language of SCC: text to tree, nothing else.

/// What is wrong with a filter, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("filter, position {position}: {message}")]
pub struct Error {
    /// Byte offset into the filter text.
    pub position: usize,
    /// What is wrong and what would be right.
    pub message: String,
}
