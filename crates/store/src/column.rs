//! Sets of findings and of values, and the numbers of up to 4,096 findings as bytes. Other fields are in `piece`.

use crate::Error;
use crate::filter::Element;
use crate::piece::Value;

/// Findings of one chunk.
pub(crate) const CHUNK: usize = 4096;

const WORDS: usize = CHUNK / 64;

/// A set of findings of one chunk, by their offset in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bits([u64; WORDS]);

impl Bits {
    pub(crate) const EMPTY: Self = Self([0; WORDS]);

    /// Of a set that is stored.
    pub(crate) const BYTES: usize = WORDS * 8;

    /// The first so many.
    pub(crate) fn first(count: usize) -> Self {
        let mut bits = Self::EMPTY;
        (0..count).for_each(|offset| bits.insert(offset));
        bits
    }

    pub(crate) fn insert(&mut self, offset: usize) {
        if let Some(word) = self.0.get_mut(offset / 64) {
            *word |= 1 << (offset % 64);
        }
    }

    pub(crate) fn remove(&mut self, offset: usize) {
        if let Some(word) = self.0.get_mut(offset / 64) {
            *word &= !(1 << (offset % 64));
        }
    }

    pub(crate) fn contains(&self, offset: usize) -> bool {
        self.0
            .get(offset / 64)
            .is_some_and(|word| word >> (offset % 64) & 1 == 1)
    }

    pub(crate) fn and(mut self, other: &Self) -> Self {
        self.0.iter_mut().zip(other.0).for_each(|(a, b)| *a &= b);
        self
    }

    pub(crate) fn or(mut self, other: &Self) -> Self {
        self.0.iter_mut().zip(other.0).for_each(|(a, b)| *a |= b);
        self
    }

    pub(crate) fn without(mut self, other: &Self) -> Self {
        self.0.iter_mut().zip(other.0).for_each(|(a, b)| *a &= !b);
        self
    }

    pub(crate) fn count(&self) -> i64 {
        self.0.iter().map(|word| i64::from(word.count_ones())).sum()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0 == [0; WORDS]
    }

    /// The offsets, ascending.
    pub(crate) fn iter(&self) -> impl Iterator<Item = usize> {
        self.0.iter().enumerate().flat_map(|(at, word)| {
            let mut rest = *word;
            std::iter::from_fn(move || {
                let bit = rest.trailing_zeros() as usize;
                (rest != 0).then(|| {
                    rest &= rest - 1;
                    at * 64 + bit
                })
            })
        })
    }

    /// The findings whose mask is not empty.
    pub(crate) fn of_masks(masks: &[u64]) -> Self {
        let mut bits = Self::EMPTY;
        for (word, masks) in bits.0.iter_mut().zip(masks.chunks(64)) {
            for (bit, mask) in masks.iter().enumerate() {
                *word |= u64::from(*mask != 0) << bit;
            }
        }
        bits
    }

    /// A bit of each finding, the first of them the lowest.
    pub(crate) fn words_mut(&mut self) -> impl Iterator<Item = &mut u64> {
        self.0.iter_mut()
    }

    pub(crate) fn to_bytes(self) -> Vec<u8> {
        self.0.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Self {
        let mut bits = Self::EMPTY;
        for (word, bytes) in bits.0.iter_mut().zip(bytes.as_chunks().0) {
            *word = u64::from_le_bytes(*bytes);
        }
        bits
    }
}

/// A set of values.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Ids {
    /// Ascending.
    sorted: Vec<u32>,
    /// A bit of each, where they are many.
    bits: Vec<u64>,
    /// What a number must fulfil that a column holds itself. None is meant without it.
    numbers: Option<Element>,
}

/// Values that are looked for one by one. More are looked up.
const SOUGHT_MAX: usize = 64;

impl Ids {
    pub(crate) fn is_empty(&self) -> bool {
        self.sorted.is_empty() && self.numbers.is_none()
    }

    /// The same, and of the numbers that a column holds itself those that fulfil this.
    pub(crate) fn and_numbers(self, numbers: Element) -> Self {
        Self {
            numbers: Some(numbers),
            ..self
        }
    }

    /// The values when they are few enough to be looked for one by one, ascending. Otherwise there is [`Ids::contains`].
    pub(crate) fn sought(&self) -> Option<&[u32]> {
        self.bits.is_empty().then_some(&*self.sorted)
    }

    pub(crate) fn numbers(&self) -> Option<&Element> {
        self.numbers.as_ref()
    }

    pub(crate) fn contains(&self, id: u32) -> bool {
        self.bits
            .get(id as usize / 64)
            .is_some_and(|word| word >> (id % 64) & 1 == 1)
    }
}

impl From<Vec<u32>> for Ids {
    fn from(mut sorted: Vec<u32>) -> Self {
        sorted.sort_unstable();
        let mut bits = Vec::new();
        if sorted.len() > SOUGHT_MAX {
            bits.resize(sorted.last().map_or(0, |last| *last as usize / 64 + 1), 0);
            for id in &sorted {
                if let Some(word) = bits.get_mut(*id as usize / 64) {
                    *word |= 1 << (id % 64);
                }
            }
        }
        Self {
            sorted,
            bits,
            numbers: None,
        }
    }
}

/// Numbers of consecutive findings: the least of them, and for each how much more it is, in as few bytes as the largest
/// difference needs.
pub(crate) fn encode_numbers(numbers: &[i64]) -> Vec<u8> {
    let Some(base) = numbers.iter().min().copied() else {
        return Vec::new();
    };
    let most = numbers.iter().map(|number| number.abs_diff(base)).max();
    let width = (8 - most.unwrap_or(0).leading_zeros() / 8) as usize;
    let mut bytes = vec![width as u8];
    bytes.extend(base.to_le_bytes());
    bytes.extend((numbers.len() as u32).to_le_bytes());
    for number in numbers {
        bytes.extend(number.abs_diff(base).to_le_bytes().iter().take(width));
    }
    bytes
}

/// The inverse of [`encode_numbers`].
pub(crate) fn decode_numbers(bytes: &[u8]) -> Result<Vec<i64>, Error> {
    if bytes.is_empty() {
        return Ok(Vec::new());
    }
    let split = || {
        let (width, rest) = bytes.split_first()?;
        let (base, rest) = rest.split_first_chunk()?;
        let (length, rest) = rest.split_first_chunk()?;
        let width = usize::from(*width);
        let length = u32::from_le_bytes(*length) as usize;
        let rest = rest.get(..length.checked_mul(width)?)?;
        (width <= 8 && length <= CHUNK).then_some((width, i64::from_le_bytes(*base), length, rest))
    };
    let (width, base, length, rest) = split().ok_or(Error::Damaged)?;
    if width == 0 {
        return Ok(vec![base; length]);
    }
    Ok(rest
        .chunks_exact(width)
        .map(|bytes| {
            let mut number = [0; 8];
            number
                .iter_mut()
                .zip(bytes)
                .for_each(|(to, from)| *to = *from);
            base.wrapping_add_unsigned(u64::from_le_bytes(number))
        })
        .collect())
}

/// What the columns hold of one finding.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Entry {
    /// By number of the column.
    pub(crate) numbers: [i64; NUMBERS],
    /// Number of the column, element, id of the value; sorted, each once.
    pub(crate) values: Vec<(u8, u8, u32)>,
}

/// Columns of numbers; they are the first.
pub(crate) const NUMBERS: usize = 5;

impl Entry {
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(NUMBERS * 8 + self.values.len() * 6);
        bytes.extend(self.numbers.iter().flat_map(|number| number.to_le_bytes()));
        for (column, element, id) in &self.values {
            bytes.extend([*column, *element]);
            bytes.extend(id.to_le_bytes());
        }
        bytes
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let (numbers, values) = bytes.split_at_checked(NUMBERS * 8).ok_or(Error::Damaged)?;
        let mut entry = Self::default();
        for (to, from) in entry.numbers.iter_mut().zip(numbers.as_chunks().0) {
            *to = i64::from_le_bytes(*from);
        }
        entry.values = values
            .as_chunks()
            .0
            .iter()
            .map(|[column, element, a, b, c, d]| {
                (*column, *element, u32::from_le_bytes([*a, *b, *c, *d]))
            })
            .collect();
        Ok(entry)
    }

    /// The values of one column.
    pub(crate) fn column(&self, column: u8) -> impl Iterator<Item = Value> {
        let start = self.values.partition_point(|value| value.0 < column);
        self.values
            .get(start..)
            .unwrap_or_default()
            .iter()
            .take_while(move |value| value.0 == column)
            .map(|(_, element, id)| (*element, *id))
    }
}
