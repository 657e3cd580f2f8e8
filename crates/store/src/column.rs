//! One field of up to 4,096 findings as bytes: a dictionary of its values, and which of them each finding has.

use crate::Error;
use crate::filter::Element;
use crate::layout::IS_NUMBER;

/// Findings of one chunk.
pub(crate) const CHUNK: usize = 4096;

const WORDS: usize = CHUNK / 64;

/// A set of findings of one chunk, by their offset in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bits([u64; WORDS]);

impl Bits {
    pub(crate) const EMPTY: Self = Self([0; WORDS]);

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

/// Findings are looked at one by one where less than one of so many matters; that takes as much longer for each.
const FEW: usize = 4;

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

    fn contains(&self, id: u32) -> bool {
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

/// What a field of one finding holds: element of the repeated field that it is in, and id of the value.
pub(crate) type Value = (u8, u32);

/// A field of consecutive findings, to be encoded.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    /// Where each finding's values end.
    ends: Vec<u32>,
    values: Vec<Value>,
}

impl Rows {
    /// Adds the next finding.
    pub(crate) fn push(&mut self, values: impl IntoIterator<Item = Value>) {
        self.values.extend(values);
        self.ends
            .push(u32::try_from(self.values.len()).unwrap_or(u32::MAX));
    }

    /// Empty when no finding has a value.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut dictionary: Vec<u32> = self.values.iter().map(|(_, id)| *id).collect();
        dictionary.sort_unstable();
        dictionary.dedup();
        if dictionary.is_empty() {
            return Vec::new();
        }
        let is_single = self
            .ends
            .iter()
            .zip(std::iter::once(&0).chain(&self.ends))
            .all(|(end, start)| end - start <= 1)
            && self.values.iter().all(|(element, _)| *element == 0);
        let kind = match (is_single, dictionary.len()) {
            (true, 1) if self.values.len() == self.ends.len() => ALL,
            (true, ..=SETS_MAX) => SETS,
            (true, _) => ONE,
            _ => MANY,
        };
        // Code 0 stands for no value.
        let width = match dictionary.len() {
            ..=0xff => 1,
            0x100..=0xffff => 2,
            _ => 4,
        };
        let mut bytes = vec![kind, width, 0, 0];
        let mut number = |number: u32| bytes.extend(number.to_le_bytes());
        number(dictionary.len() as u32);
        number(self.ends.len() as u32);
        dictionary.iter().for_each(|id| number(*id));
        let code = |id: &u32| dictionary.binary_search(id).map_or(0, |code| code + 1);
        let push_code = |bytes: &mut Vec<u8>, code: usize| {
            bytes.extend(code.to_le_bytes().iter().take(usize::from(width)));
        };
        match kind {
            ONE => {
                let mut start = 0;
                for end in &self.ends {
                    let value = self.values.get(start..*end as usize).unwrap_or_default();
                    push_code(&mut bytes, value.first().map_or(0, |(_, id)| code(id)));
                    start = *end as usize;
                }
            }
            SETS => {
                let mut sets = vec![Bits::EMPTY; dictionary.len()];
                let mut start = 0;
                for (offset, end) in self.ends.iter().enumerate() {
                    let value = self.values.get(start..*end as usize).unwrap_or_default();
                    let code = value.first().map_or(0, |(_, id)| code(id));
                    if let Some(set) = code.checked_sub(1).and_then(|at| sets.get_mut(at)) {
                        set.insert(offset);
                    }
                    start = *end as usize;
                }
                bytes.extend(sets.into_iter().flat_map(Bits::to_bytes));
            }
            MANY => {
                bytes.extend(self.ends.iter().flat_map(|end| end.to_le_bytes()));
                for (_, id) in &self.values {
                    push_code(&mut bytes, code(id));
                }
                bytes.extend(self.values.iter().map(|(element, _)| *element));
            }
            _ => {}
        }
        bytes
    }
}

/// Every finding has the one value.
const ALL: u8 = 0;
/// Each finding has one value or none.
const ONE: u8 = 1;
/// Findings have any number of values, in elements.
const MANY: u8 = 2;

/// The same, of few different values: the set of findings of each.
const SETS: u8 = 3;

/// Values of which sets are kept: as large as codes of a byte.
const SETS_MAX: usize = 8;

/// A field of consecutive findings, read.
pub(crate) struct Terms<'a> {
    rows: usize,
    dictionary: &'a [[u8; 4]],
    width: usize,
    codes: &'a [u8],
    /// Where each finding's codes end, and the element of each, for those with many.
    many: Option<(&'a [[u8; 4]], &'a [u8])>,
    /// The findings of each value, in place of codes.
    sets: Option<Vec<Bits>>,
}

impl<'a> Terms<'a> {
    pub(crate) fn read(bytes: &'a [u8]) -> Result<Self, Error> {
        Self::split(bytes).ok_or(Error::Damaged)
    }

    fn split(bytes: &'a [u8]) -> Option<Self> {
        if bytes.is_empty() {
            return Some(Self {
                rows: 0,
                dictionary: &[],
                width: 1,
                codes: &[],
                many: None,
                sets: None,
            });
        }
        let (head, rest) = bytes.split_first_chunk::<4>()?;
        let (length, rest) = rest.split_first_chunk::<4>()?;
        let (rows, rest) = rest.split_first_chunk::<4>()?;
        let rows = u32::from_le_bytes(*rows) as usize;
        let (dictionary, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize * 4)?;
        let width = usize::from(head[1]);
        let dictionary = dictionary.as_chunks().0;
        if rows > CHUNK {
            return None;
        }
        let mut sets = None;
        let (ends, codes, elements): (&[[u8; 4]], _, _) = match head[0] {
            ALL => {
                let mut all = Bits::EMPTY;
                (0..rows).for_each(|offset| all.insert(offset));
                sets = Some(vec![all]);
                (&[], &[][..], None)
            }
            SETS => {
                let (bits, _) = rest.as_chunks::<{ WORDS * 8 }>();
                sets = Some(bits.iter().map(|bits| Bits::from_bytes(bits)).collect());
                (&[], &[][..], None)
            }
            ONE => (&[], rest.get(..rows * width)?, None),
            MANY => {
                let (ends, rest) = rest.split_at_checked(rows * 4)?;
                let ends = ends.as_chunks().0;
                let values = ends.last().map_or(0, |end| u32::from_le_bytes(*end)) as usize;
                let (codes, elements) = rest.split_at_checked(values * width)?;
                (ends, codes, Some(elements.get(..values)?))
            }
            _ => return None,
        };
        matches!(width, 1 | 2 | 4).then_some(Self {
            rows,
            dictionary,
            width,
            codes,
            many: elements.map(|elements| (ends, elements)),
            sets,
        })
    }

    /// The distinct values, ascending. The first has code 1.
    pub(crate) fn dictionary(&self) -> impl ExactSizeIterator<Item = u32> {
        self.dictionary.iter().map(|id| u32::from_le_bytes(*id))
    }

    /// The value of a code; `None` for 0.
    pub(crate) fn id(&self, code: usize) -> Option<u32> {
        let id = self.dictionary.get(code.checked_sub(1)?)?;
        Some(u32::from_le_bytes(*id))
    }

    /// No finding has more than one value.
    pub(crate) fn is_single(&self) -> bool {
        self.many.is_none()
    }

    /// By code, whether it is one of these values. `None` when none of them is.
    pub(crate) fn codes_of(&self, ids: &Ids) -> Option<Vec<bool>> {
        let mut wanted = vec![false; self.dictionary.len() + 1];
        let mut found = false;
        if ids.bits.is_empty() {
            for id in &ids.sorted {
                let code = self
                    .dictionary
                    .binary_search_by_key(id, |id| u32::from_le_bytes(*id));
                if let Some(wanted) = code.ok().and_then(|code| wanted.get_mut(code + 1)) {
                    *wanted = true;
                    found = true;
                }
            }
        } else {
            for (wanted, id) in wanted.iter_mut().skip(1).zip(self.dictionary()) {
                *wanted = ids.contains(id);
                found |= *wanted;
            }
        }
        if let Some(numbers) = &ids.numbers {
            let first = self
                .dictionary
                .partition_point(|id| u32::from_le_bytes(*id) < IS_NUMBER);
            let held = self.dictionary().skip(first);
            for (wanted, id) in wanted.iter_mut().skip(first + 1).zip(held) {
                *wanted = numbers.passes(id & !IS_NUMBER);
                found |= *wanted;
            }
        }
        found.then_some(wanted)
    }

    /// The findings with a value whose code is wanted.
    pub(crate) fn select(&self, wanted: &[bool]) -> Bits {
        let mut bits = Bits::EMPTY;
        let is_wanted = |code: usize| wanted.get(code).is_some_and(|wanted| *wanted);
        if let Some(sets) = &self.sets {
            for (_, set) in sets.iter().enumerate().filter(|(at, _)| is_wanted(at + 1)) {
                bits = bits.or(set);
            }
            return bits;
        }
        match self.many {
            None if self.width == 1 => {
                // Without a branch: this is what most of the time is spent in.
                let mut table = [0_u64; 256];
                for (slot, wanted) in table.iter_mut().zip(wanted) {
                    *slot = u64::from(*wanted);
                }
                for (word, codes) in bits.0.iter_mut().zip(self.codes.chunks(64)) {
                    for (bit, code) in codes.iter().enumerate() {
                        *word |= table[usize::from(*code)] << bit;
                    }
                }
            }
            None => self.each_code(|offset, code| {
                if let Some(word) = bits.0.get_mut(offset / 64) {
                    *word |= u64::from(is_wanted(code)) << (offset % 64);
                }
            }),
            Some((ends, _)) => {
                self.each_of_many(ends, |offset, _, code| {
                    if is_wanted(code) {
                        bits.insert(offset);
                    }
                });
            }
        }
        bits
    }

    /// Adds to each finding's mask the elements whose value is wanted. The last bit stands for all from there on. Findings
    /// of which `among` has no element may be left out.
    pub(crate) fn mask(&self, wanted: &[bool], among: &[u64], masks: &mut [u64]) {
        let Some((ends, elements)) = self.many else {
            for offset in self.select(wanted).iter() {
                if let Some(mask) = masks.get_mut(offset) {
                    *mask |= 1;
                }
            }
            return;
        };
        let few = among.iter().filter(|mask| **mask != 0).count() < among.len() / FEW;
        if few {
            let is_wanted = |code: usize| wanted.get(code).is_some_and(|wanted| *wanted);
            for (offset, mask) in masks.iter_mut().enumerate() {
                if among.get(offset).is_some_and(|among| *among != 0) {
                    self.each(offset, |code, element| {
                        *mask |= u64::from(is_wanted(code)) << element.min(63);
                    });
                }
            }
            return;
        }
        // Without a branch: this is what most of the time is spent in.
        let mut table = [0_u64; 256];
        for (slot, wanted) in table.iter_mut().zip(wanted) {
            *slot = u64::from(*wanted);
        }
        let mut start = 0;
        for (mask, end) in masks.iter_mut().zip(ends) {
            let end = u32::from_le_bytes(*end) as usize;
            let elements = elements.get(start..end).unwrap_or_default();
            if self.width == 1 {
                let codes = self.codes.get(start..end).unwrap_or_default();
                for (code, element) in codes.iter().zip(elements) {
                    *mask |= table[usize::from(*code)] << element.min(&63);
                }
            } else {
                for (position, element) in (start..end).zip(elements) {
                    let wanted = wanted.get(self.code(position));
                    *mask |= u64::from(wanted == Some(&true)) << element.min(&63);
                }
            }
            start = end;
        }
    }

    /// Code and element of each value of one finding.
    pub(crate) fn each(&self, offset: usize, mut take: impl FnMut(usize, u8)) {
        match self.many {
            _ if offset >= self.rows => {}
            _ if self.sets.is_some() => {
                let sets = self.sets.iter().flatten();
                if let Some(at) = sets.into_iter().position(|set| set.contains(offset)) {
                    take(at + 1, 0);
                }
            }
            None => match self.code(offset) {
                0 => {}
                code => take(code, 0),
            },
            Some((ends, elements)) => {
                let start = match offset.checked_sub(1) {
                    Some(before) => next_end(ends, before),
                    None => 0,
                };
                for position in start..next_end(ends, offset).min(elements.len()) {
                    take(
                        self.code(position),
                        elements.get(position).copied().unwrap_or(0),
                    );
                }
            }
        }
    }

    /// The values of one finding.
    pub(crate) fn values(&self, offset: usize) -> Vec<Value> {
        let mut values = Vec::new();
        self.each(offset, |code, element| {
            values.extend(self.id(code).map(|id| (element, id)));
        });
        values
    }

    fn code(&self, position: usize) -> usize {
        let start = position * self.width;
        match *self
            .codes
            .get(start..start + self.width)
            .unwrap_or_default()
        {
            [a] => a.into(),
            [a, b] => u16::from_le_bytes([a, b]).into(),
            [a, b, c, d] => u32::from_le_bytes([a, b, c, d]) as usize,
            _ => 0,
        }
    }

    /// Finding, position and code of each value, where findings have several.
    fn each_of_many(&self, ends: &[[u8; 4]], mut take: impl FnMut(usize, usize, usize)) {
        let mut offset = 0;
        let mut end = next_end(ends, 0);
        self.each_code(|position, code| {
            while position >= end && offset < self.rows {
                offset += 1;
                end = next_end(ends, offset);
            }
            take(offset, position, code);
        });
    }

    fn each_code(&self, mut take: impl FnMut(usize, usize)) {
        match self.width {
            1 => {
                for (position, code) in self.codes.iter().enumerate() {
                    take(position, (*code).into());
                }
            }
            2 => {
                for (position, code) in self.codes.as_chunks().0.iter().enumerate() {
                    take(position, u16::from_le_bytes(*code).into());
                }
            }
            _ => {
                for (position, code) in self.codes.as_chunks().0.iter().enumerate() {
                    take(position, u32::from_le_bytes(*code) as usize);
                }
            }
        }
    }

    /// The findings of each value, the first of code 1, where that is known without looking at each.
    pub(crate) fn sets(&self) -> Option<&[Bits]> {
        self.sets.as_deref()
    }

    /// How many of these findings have each code, the one for no value first. Only where no finding has several.
    pub(crate) fn count(&self, findings: &Bits, counts: &mut [i64]) {
        if let Some(sets) = &self.sets {
            let mut rest = findings.count();
            for (count, set) in counts.iter_mut().skip(1).zip(sets) {
                let own = findings.and(set).count();
                *count += own;
                rest -= own;
            }
            if let Some(none) = counts.first_mut() {
                *none += rest;
            }
            return;
        }
        let mut seen = 0;
        self.each_code(|offset, code| {
            let bit = findings
                .0
                .get(offset / 64)
                .map_or(0, |word| word >> (offset % 64) & 1);
            if let Some(count) = counts.get_mut(code) {
                *count += bit as i64;
                seen += bit as i64;
            }
        });
        if let Some(none) = counts.first_mut() {
            *none += findings.count() - seen;
        }
    }

    /// All findings, to be encoded again with the changed ones in place.
    pub(crate) fn patched(
        &self,
        rows: usize,
        changed: impl Fn(usize) -> Option<Vec<Value>>,
    ) -> Rows {
        let mut all = Rows::default();
        for offset in 0..rows {
            match changed(offset) {
                Some(values) => all.push(values),
                None => all.push(self.values(offset)),
            }
        }
        all
    }
}

fn next_end(ends: &[[u8; 4]], offset: usize) -> usize {
    ends.get(offset)
        .map_or(usize::MAX, |end| u32::from_le_bytes(*end) as usize)
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
