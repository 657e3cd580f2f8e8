//! One field of up to 4,096 findings as bytes: a dictionary of its values, and which of them each finding has.
//!
//! Numbers are little-endian. First come the kind, the width of a code, and two bytes that only lists use; then the length of
//! the dictionary, the number of findings, and the dictionary: ids of values, ascending. What follows depends on the kind.
//! The code of a value is one more than its place in the dictionary, 0 stands for no value.

mod read;
#[cfg(test)]
mod tests;
mod write;

pub(crate) use read::Terms;
pub(crate) use write::Rows;

/// Every finding has the one value. Nothing follows.
const ALL: u8 = 0;

/// Each finding has one value or none: its code.
const ONE: u8 = 1;

/// Findings have any number of values: where each one's end (four bytes), the codes, and the element of each. So it was written
/// until schema 12.
const MANY: u8 = 2;

/// Each finding has one value or none, of few different ones: the set of findings of each.
const SETS: u8 = 3;

/// Findings have any number of values, many of them the same list of values: the number of lists (four bytes), the width of
/// their lengths, which list each finding has, the length of each, the codes, and the element of each. The third byte says
/// how elements are told, the fourth has the width of a list's number, 0 when there is only one, or [`OWN`].
const LISTS: u8 = 4;

/// Each finding has a list of its own, in order, so that no number of it is there.
const OWN: u8 = 0xff;

/// An element of each value is there.
const TOLD: u8 = 0;
/// All values are of the first element.
const FIRST: u8 = 1;
/// The first value of each list is of the first element, the second of the second.
const COUNTED: u8 = 2;

/// What a field of one finding holds: element of the repeated field that it is in, and id of the value.
pub(crate) type Value = (u8, u32);
