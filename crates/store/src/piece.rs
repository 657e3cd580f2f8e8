//! One field of up to 4,096 findings as bytes: a dictionary of its values, and which of them each finding has.
//!
//! Numbers are little-endian. First come the kind, the width of a code, and two bytes that only lists use; then the length of
//! the dictionary, the number of findings, and the dictionary: ids of values, ascending. What follows depends on the kind.
//! The code of a value is one more than its place in the dictionary, 0 stands for no value.

use std::collections::HashMap;

use crate::Error;
use crate::column::{Bits, CHUNK, Ids};
use crate::layout::IS_NUMBER;

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

/// Values of which sets are kept: as large as codes of a byte.
const SETS_MAX: usize = 8;

/// Findings are looked at one by one where less than one of so many matters; that takes as much longer for each.
const FEW: usize = 4;

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

    fn iter(&self) -> impl Iterator<Item = &[Value]> {
        let starts = std::iter::once(&0).chain(&self.ends);
        starts.zip(&self.ends).map(|(start, end)| {
            let range = *start as usize..*end as usize;
            self.values.get(range).unwrap_or_default()
        })
    }

    /// Empty when no finding has a value.
    pub(crate) fn encode(&self) -> Vec<u8> {
        if self.values.is_empty() {
            return Vec::new();
        }
        let is_single = |values: &[Value]| matches!(values, [] | [(0, _)]);
        if self.iter().all(is_single) {
            self.encode_single()
        } else {
            self.encode_lists()
        }
    }

    fn encode_single(&self) -> Vec<u8> {
        let dictionary = Dictionary::of(self.values.iter());
        let codes = self
            .iter()
            .map(|values| values.first().map_or(0, |(_, id)| dictionary.code(*id)));
        let rows = self.ends.len();
        match dictionary.ids.len() {
            1 if self.values.len() == rows => dictionary.begin(ALL, [0, 0], rows),
            ..=SETS_MAX => {
                let mut bytes = dictionary.begin(SETS, [0, 0], rows);
                let mut sets = vec![Bits::EMPTY; dictionary.ids.len()];
                for (offset, code) in codes.enumerate() {
                    if let Some(set) = code.checked_sub(1).and_then(|at| sets.get_mut(at)) {
                        set.insert(offset);
                    }
                }
                bytes.extend(sets.into_iter().flat_map(Bits::to_bytes));
                bytes
            }
            _ => {
                let mut bytes = dictionary.begin(ONE, [0, 0], rows);
                push_all(&mut bytes, codes, dictionary.width);
                bytes
            }
        }
    }

    fn encode_lists(&self) -> Vec<u8> {
        let mut known: HashMap<&[Value], usize> = HashMap::new();
        let mut lists: Vec<&[Value]> = Vec::new();
        let mut which = Vec::with_capacity(self.ends.len());
        for values in self.iter() {
            which.push(*known.entry(values).or_insert_with(|| {
                lists.push(values);
                lists.len() - 1
            }));
        }
        let dictionary = Dictionary::of(lists.iter().copied().flatten());
        let is_first = |list: &&[Value]| list.iter().all(|(element, _)| *element == 0);
        let is_counted = |list: &&[Value]| {
            let mut elements = (0..).zip(list.iter());
            elements.all(|(place, (element, _))| usize::from(*element) == place)
        };
        let elements = match () {
            () if lists.iter().all(is_first) => FIRST,
            () if lists.iter().all(is_counted) => COUNTED,
            () => TOLD,
        };
        let longest = lists.iter().map(|list| list.len()).max().unwrap_or(0);
        let length_width = width(longest);
        let which_width = match lists.len() {
            1 => 0,
            lists => width(lists - 1),
        };
        let size = |lists: usize, values: usize| {
            lists * length_width + values * (dictionary.width + usize::from(elements == TOLD))
        };
        let own_size = size(self.ends.len(), self.values.len());
        let shared = lists.iter().map(|list| list.len()).sum();
        let shared_size = self.ends.len() * which_width + size(lists.len(), shared);
        let is_shared = shared_size < own_size;
        if !is_shared {
            lists = self.iter().collect();
        }
        let which_byte = if is_shared { which_width as u8 } else { OWN };
        let mut bytes = dictionary.begin(LISTS, [elements, which_byte], self.ends.len());
        bytes.extend((lists.len() as u32).to_le_bytes());
        bytes.push(length_width as u8);
        if is_shared {
            push_all(&mut bytes, which.into_iter(), which_width);
        }
        let lengths = lists.iter().map(|list| list.len());
        push_all(&mut bytes, lengths, length_width);
        let values = || lists.iter().copied().flatten();
        let codes = values().map(|(_, id)| dictionary.code(*id));
        push_all(&mut bytes, codes, dictionary.width);
        if elements == TOLD {
            bytes.extend(values().map(|(element, _)| *element));
        }
        bytes
    }
}

/// Ids of values, ascending.
struct Dictionary {
    ids: Vec<u32>,
    /// Bytes of a code.
    width: usize,
}

impl Dictionary {
    fn of<'a>(values: impl Iterator<Item = &'a Value>) -> Self {
        let mut ids: Vec<u32> = values.map(|(_, id)| *id).collect();
        ids.sort_unstable();
        ids.dedup();
        let width = width(ids.len());
        Self { ids, width }
    }

    fn code(&self, id: u32) -> usize {
        self.ids.binary_search(&id).map_or(0, |place| place + 1)
    }

    /// All that comes before what depends on the kind.
    fn begin(&self, kind: u8, of_lists: [u8; 2], rows: usize) -> Vec<u8> {
        let [elements, which_width] = of_lists;
        let mut bytes = vec![kind, self.width as u8, elements, which_width];
        bytes.extend((self.ids.len() as u32).to_le_bytes());
        bytes.extend((rows as u32).to_le_bytes());
        bytes.extend(self.ids.iter().flat_map(|id| id.to_le_bytes()));
        bytes
    }
}

/// Bytes that a number takes: 1, 2 or 4.
fn width(most: usize) -> usize {
    match most {
        ..=0xff => 1,
        0x100..=0xffff => 2,
        _ => 4,
    }
}

fn push_all(bytes: &mut Vec<u8>, numbers: impl Iterator<Item = usize>, width: usize) {
    for number in numbers {
        bytes.extend(number.to_le_bytes().iter().take(width));
    }
}

/// Numbers of the same width, one after the other.
#[derive(Clone, Copy)]
struct Numbers<'a> {
    width: usize,
    bytes: &'a [u8],
}

impl<'a> Numbers<'a> {
    /// Takes them from the beginning of what is left.
    fn take(rest: &mut &'a [u8], width: usize, length: usize) -> Option<Self> {
        let (bytes, after) = rest.split_at_checked(width.checked_mul(length)?)?;
        *rest = after;
        matches!(width, 0 | 1 | 2 | 4).then_some(Self { width, bytes })
    }

    /// 0 for one that is not there.
    fn get(&self, at: usize) -> usize {
        let start = at * self.width;
        let bytes = self.bytes.get(start..start + self.width);
        match *bytes.unwrap_or_default() {
            [a] => a.into(),
            [a, b] => u16::from_le_bytes([a, b]).into(),
            [a, b, c, d] => u32::from_le_bytes([a, b, c, d]) as usize,
            _ => 0,
        }
    }

    fn each(&self, mut take: impl FnMut(usize, usize)) {
        match self.width {
            1 => {
                for (at, number) in self.bytes.iter().enumerate() {
                    take(at, (*number).into());
                }
            }
            2 => {
                for (at, number) in self.bytes.as_chunks().0.iter().enumerate() {
                    take(at, u16::from_le_bytes(*number).into());
                }
            }
            _ => {
                for (at, number) in self.bytes.as_chunks().0.iter().enumerate() {
                    take(at, u32::from_le_bytes(*number) as usize);
                }
            }
        }
    }
}

/// A field of consecutive findings, read.
pub(crate) struct Terms<'a> {
    rows: usize,
    dictionary: &'a [[u8; 4]],
    held: Held<'a>,
}

enum Held<'a> {
    /// The findings of each value.
    Sets(Vec<Bits>),
    /// The code of each finding.
    Codes(Numbers<'a>),
    Lists(Lists<'a>),
}

struct Lists<'a> {
    /// The list of each finding; without it each has its own.
    which: Option<Numbers<'a>>,
    /// Where each list ends.
    ends: Vec<u32>,
    codes: Numbers<'a>,
    elements: Elements<'a>,
}

/// The element of each value.
enum Elements<'a> {
    Told(&'a [u8]),
    First,
    Counted,
}

impl<'a> Terms<'a> {
    pub(crate) fn read(bytes: &'a [u8]) -> Result<Self, Error> {
        if bytes.is_empty() {
            return Ok(Self {
                rows: 0,
                dictionary: &[],
                held: Held::Sets(Vec::new()),
            });
        }
        Self::split(bytes).ok_or(Error::Damaged)
    }

    fn split(bytes: &'a [u8]) -> Option<Self> {
        let ([kind, width, elements, which], mut rest) = bytes.split_first_chunk()?;
        let width = usize::from(*width);
        let length = number(&mut rest)?;
        let rows = number(&mut rest)?;
        let (dictionary, mut rest) = rest.split_at_checked(length.checked_mul(4)?)?;
        if rows > CHUNK || !matches!(width, 1 | 2 | 4) {
            return None;
        }
        let held = match *kind {
            ALL => Held::Sets(vec![Bits::first(rows)]),
            SETS => {
                let (sets, _) = rest.as_chunks::<{ Bits::BYTES }>();
                Held::Sets(sets.iter().map(|set| Bits::from_bytes(set)).collect())
            }
            ONE => Held::Codes(Numbers::take(&mut rest, width, rows)?),
            MANY => {
                let ends = Numbers::take(&mut rest, 4, rows)?.bytes.as_chunks().0;
                let last = ends.last().map_or(0, |end| u32::from_le_bytes(*end));
                let values = last as usize;
                let ends = ends.iter().map(|end| u32::from_le_bytes(*end).min(last));
                Held::Lists(Lists {
                    which: None,
                    ends: ends.collect(),
                    codes: Numbers::take(&mut rest, width, values)?,
                    elements: Elements::Told(rest.get(..values)?),
                })
            }
            LISTS => Held::Lists(Lists::split(rest, rows, width, (*elements, *which))?),
            _ => return None,
        };
        Some(Self {
            rows,
            dictionary: dictionary.as_chunks().0,
            held,
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
        !matches!(self.held, Held::Lists(_))
    }

    /// By code, whether it is one of these values. `None` when none of them is.
    pub(crate) fn codes_of(&self, ids: &Ids) -> Option<Vec<bool>> {
        let mut wanted = vec![false; self.dictionary.len() + 1];
        let mut found = false;
        match ids.sought() {
            Some(sought) => {
                for id in sought {
                    let code = self
                        .dictionary
                        .binary_search_by_key(id, |id| u32::from_le_bytes(*id));
                    if let Some(wanted) = code.ok().and_then(|code| wanted.get_mut(code + 1)) {
                        *wanted = true;
                        found = true;
                    }
                }
            }
            None => {
                for (wanted, id) in wanted.iter_mut().skip(1).zip(self.dictionary()) {
                    *wanted = ids.contains(id);
                    found |= *wanted;
                }
            }
        }
        if let Some(numbers) = ids.numbers() {
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
        let is_wanted = |code: usize| wanted.get(code).is_some_and(|wanted| *wanted);
        match &self.held {
            Held::Sets(sets) => {
                let wanted = sets.iter().zip(1..).filter(|(_, code)| is_wanted(*code));
                wanted.fold(Bits::EMPTY, |found, (set, _)| found.or(set))
            }
            Held::Codes(codes) => {
                let wanted: Vec<u64> = wanted.iter().copied().map(u64::from).collect();
                bits_of(codes, &wanted)
            }
            Held::Lists(lists) => {
                let masks = lists.masks(wanted);
                match &lists.which {
                    None => Bits::of_masks(&masks),
                    Some(which) if which.width == 0 => match masks.first() {
                        None | Some(0) => Bits::EMPTY,
                        Some(_) => Bits::first(self.rows),
                    },
                    Some(which) => {
                        let wanted: Vec<u64> =
                            masks.iter().map(|mask| u64::from(*mask != 0)).collect();
                        bits_of(which, &wanted)
                    }
                }
            }
        }
    }

    /// Adds to each finding's mask the elements whose value is wanted. The last bit stands for all from there on. Findings
    /// of which `among` has no element may be left out.
    pub(crate) fn mask(&self, wanted: &[bool], among: &[u64], masks: &mut [u64]) {
        let Held::Lists(lists) = &self.held else {
            for offset in self.select(wanted).iter() {
                if let Some(mask) = masks.get_mut(offset) {
                    *mask |= 1;
                }
            }
            return;
        };
        let masks = masks.iter_mut().take(self.rows).enumerate();
        let is_few = || among.iter().filter(|mask| **mask != 0).count() < among.len() / FEW;
        if lists.which.is_none() && is_few() {
            let is_wanted = |code: usize| wanted.get(code).is_some_and(|wanted| *wanted);
            for (offset, mask) in masks {
                if among.get(offset).is_some_and(|among| *among != 0) {
                    lists.each(offset, |code, element| {
                        *mask |= u64::from(is_wanted(code)) << element.min(63);
                    });
                }
            }
            return;
        }
        let by_list = lists.masks(wanted);
        for (offset, mask) in masks {
            *mask |= by_list.get(lists.of(offset)).copied().unwrap_or(0);
        }
    }

    /// Code and element of each value of one finding.
    pub(crate) fn each(&self, offset: usize, mut take: impl FnMut(usize, u8)) {
        if offset >= self.rows {
            return;
        }
        match &self.held {
            Held::Sets(sets) => {
                if let Some(at) = sets.iter().position(|set| set.contains(offset)) {
                    take(at + 1, 0);
                }
            }
            Held::Codes(codes) => match codes.get(offset) {
                0 => {}
                code => take(code, 0),
            },
            Held::Lists(lists) => lists.each(lists.of(offset), take),
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

    /// The findings of each value, the first of code 1, where that is known without looking at each.
    pub(crate) fn sets(&self) -> Option<&[Bits]> {
        match &self.held {
            Held::Sets(sets) => Some(sets),
            _ => None,
        }
    }

    /// How many of these findings have each code, the one for no value first. Only where no finding has several.
    pub(crate) fn count(&self, findings: &Bits, counts: &mut [i64]) {
        let mut rest = findings.count();
        match &self.held {
            Held::Sets(sets) => {
                for (count, set) in counts.iter_mut().skip(1).zip(sets) {
                    let own = findings.and(set).count();
                    *count += own;
                    rest -= own;
                }
            }
            Held::Codes(codes) => codes.each(|offset, code| {
                let own = i64::from(findings.contains(offset));
                if let Some(count) = counts.get_mut(code) {
                    *count += own;
                    rest -= own;
                }
            }),
            Held::Lists(_) => {}
        }
        if let Some(none) = counts.first_mut() {
            *none += rest;
        }
    }

    /// All findings, to be encoded again with the changed ones in place.
    pub(crate) fn patched(
        &self,
        rows: usize,
        changed: impl Fn(usize) -> Option<Vec<Value>>,
    ) -> Rows {
        let mut all = Rows::default();
        let mut values = Vec::new();
        for offset in 0..rows {
            match changed(offset) {
                Some(values) => all.push(values),
                None => {
                    self.each(offset, |code, element| {
                        values.extend(self.id(code).map(|id| (element, id)));
                    });
                    all.push(values.drain(..));
                }
            }
        }
        all
    }
}

impl<'a> Lists<'a> {
    fn split(
        mut rest: &'a [u8],
        rows: usize,
        code_width: usize,
        (elements, which_width): (u8, u8),
    ) -> Option<Self> {
        let length = number(&mut rest)?;
        let (length_width, mut rest) = rest.split_first()?;
        let which = match which_width {
            OWN => None,
            width => Some(Numbers::take(&mut rest, width.into(), rows)?),
        };
        if length > CHUNK {
            return None;
        }
        let lengths = Numbers::take(&mut rest, (*length_width).into(), length)?;
        let mut ends = Vec::with_capacity(length);
        let mut end = 0_u32;
        lengths.each(|_, length| {
            end = end.saturating_add(length as u32);
            ends.push(end);
        });
        let values = end as usize;
        let codes = Numbers::take(&mut rest, code_width, values)?;
        let elements = match elements {
            TOLD => Elements::Told(rest.get(..values)?),
            FIRST => Elements::First,
            COUNTED => Elements::Counted,
            _ => return None,
        };
        Some(Self {
            which,
            ends,
            codes,
            elements,
        })
    }

    /// The list of a finding.
    fn of(&self, offset: usize) -> usize {
        self.which.map_or(offset, |which| which.get(offset))
    }

    /// Code and element of each value of a list.
    fn each(&self, list: usize, mut take: impl FnMut(usize, u8)) {
        let end = |list: usize| self.ends.get(list).copied().unwrap_or(0) as usize;
        let start = list.checked_sub(1).map_or(0, end);
        for (place, position) in (start..end(list)).enumerate() {
            let element = match self.elements {
                Elements::Told(told) => told.get(position).copied().unwrap_or(0),
                Elements::First => 0,
                Elements::Counted => place as u8,
            };
            take(self.codes.get(position), element);
        }
    }

    /// By list, the elements whose value is wanted.
    fn masks(&self, wanted: &[bool]) -> Vec<u64> {
        match self.elements {
            Elements::Told(told) => self.masks_by(wanted, |position, _| {
                told.get(position).copied().unwrap_or(0)
            }),
            Elements::First => self.masks_by(wanted, |_, _| 0),
            Elements::Counted => self.masks_by(wanted, |_, place| place as u8),
        }
    }

    /// `element` is told position and place in the list of each value.
    fn masks_by(&self, wanted: &[bool], element: impl Fn(usize, usize) -> u8) -> Vec<u64> {
        // Without a branch: this is what most of the time is spent in.
        let table = padded(wanted.iter().copied().map(u64::from));
        let is_wanted = |code: usize| u64::from(wanted.get(code) == Some(&true));
        match self.codes.width {
            1 => self.masks_of(|[code]| table[usize::from(code)], element),
            2 => self.masks_of(|code| is_wanted(u16::from_le_bytes(code).into()), element),
            _ => self.masks_of(|code| is_wanted(u32::from_le_bytes(code) as usize), element),
        }
    }

    fn masks_of<const WIDTH: usize>(
        &self,
        is_wanted: impl Fn([u8; WIDTH]) -> u64,
        element: impl Fn(usize, usize) -> u8,
    ) -> Vec<u64> {
        let (codes, _) = self.codes.bytes.as_chunks();
        let mut masks = Vec::with_capacity(self.ends.len());
        let mut start = 0;
        for end in &self.ends {
            let end = *end as usize;
            let codes = codes.get(start..end).unwrap_or_default();
            let values = codes
                .iter()
                .enumerate()
                .map(|(place, code)| is_wanted(*code) << element(start + place, place).min(63));
            masks.push(values.fold(0, |mask, value| mask | value));
            start = end;
        }
        masks
    }
}

/// The next four bytes as a number.
fn number(rest: &mut &[u8]) -> Option<usize> {
    let (bytes, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(u32::from_le_bytes(*bytes) as usize)
}

/// What each byte stands for.
fn padded(values: impl Iterator<Item = u64>) -> [u64; 256] {
    let mut table = [0; 256];
    table
        .iter_mut()
        .zip(values)
        .for_each(|(slot, value)| *slot = value);
    table
}

/// The findings whose number stands for 1.
fn bits_of(numbers: &Numbers<'_>, wanted: &[u64]) -> Bits {
    let mut bits = Bits::EMPTY;
    if numbers.width == 1 {
        // Without a branch: this is what most of the time is spent in.
        let table = padded(wanted.iter().copied());
        for (word, numbers) in bits.words_mut().zip(numbers.bytes.chunks(64)) {
            for (bit, number) in numbers.iter().enumerate() {
                *word |= table[usize::from(*number)] << bit;
            }
        }
    } else {
        numbers.each(|offset, number| {
            if wanted.get(number) == Some(&1) {
                bits.insert(offset);
            }
        });
    }
    bits
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(all: &[Vec<Value>]) -> Rows {
        let mut rows = Rows::default();
        all.iter().for_each(|values| rows.push(values.clone()));
        rows
    }

    /// Columns of each kind and width, by name.
    fn columns() -> Vec<(&'static str, Vec<Vec<Value>>)> {
        let all = 0..CHUNK as u32;
        let each = |values: &dyn Fn(u32) -> Vec<Value>| all.clone().map(values).collect();
        vec![
            ("none", each(&|_| vec![])),
            ("one value", each(&|_| vec![(0, 9)])),
            ("few values", each(&|row| vec![(0, row % 5)])),
            (
                "one or none",
                each(&|row| {
                    if row % 3 == 0 {
                        vec![]
                    } else {
                        vec![(0, row % 90)]
                    }
                }),
            ),
            ("all different", each(&|row| vec![(0, IS_NUMBER + row * 7)])),
            ("the same list", each(&|_| vec![(0, 3), (1, 1), (2, 3)])),
            (
                "few lists",
                each(&|row| (0..row % 7).map(|n| (n as u8, n * row % 11)).collect()),
            ),
            (
                "many lists",
                each(&|row| vec![(0, row % 19), (0, 20 + row % 29), (0, 50 + row % 2)]),
            ),
            (
                "own lists",
                each(&|row| vec![(0, row), (0, row + 5000), (2, 10_000)]),
            ),
            (
                "second element",
                each(&|row| if row == 9 { vec![(1, 4)] } else { vec![] }),
            ),
            (
                "more than are told apart",
                each(&|row| (0..row % 80).map(|n| (n.min(63) as u8, n)).collect()),
            ),
            (
                "long lists",
                each(&|row| (0..row % 2 * 300).map(|n| (0, n)).collect()),
            ),
            (
                "wide codes",
                each(&|row| (0..row % 3).map(|n| (n as u8, row * 3 + n)).collect()),
            ),
        ]
    }

    #[test]
    fn what_was_put_in_comes_out() {
        for (name, all) in columns() {
            let bytes = rows(&all).encode();
            let terms = Terms::read(&bytes).unwrap();
            for (offset, values) in all.iter().enumerate() {
                assert_eq!(&terms.values(offset), values, "{name}, {offset}");
            }
            assert!(terms.values(CHUNK).is_empty(), "{name}");
        }
    }

    /// Against a look at each finding.
    #[test]
    fn findings_are_selected_by_their_values() {
        for (name, all) in columns() {
            let bytes = rows(&all).encode();
            let terms = Terms::read(&bytes).unwrap();
            for sought in [
                vec![3],
                vec![3, 9, 51, 5009],
                (0..100).chain([IS_NUMBER + 21]).collect(),
            ] {
                let expected: Vec<u64> = all
                    .iter()
                    .map(|values| {
                        let found = values.iter().filter(|(_, id)| sought.contains(id));
                        found.fold(0, |mask, (element, _)| mask | 1 << element)
                    })
                    .collect();
                let Some(wanted) = terms.codes_of(&sought.clone().into()) else {
                    assert!(expected.iter().all(|mask| *mask == 0), "{name}, {sought:?}");
                    continue;
                };
                let found = terms.select(&wanted);
                assert!(found == Bits::of_masks(&expected), "{name}, {sought:?}");
                // Among all, and among few.
                for among in [
                    vec![u64::MAX; CHUNK],
                    (0..CHUNK as u64)
                        .map(|row| u64::from(row % 9 == 0))
                        .collect(),
                ] {
                    let mut masks = vec![0; CHUNK];
                    terms.mask(&wanted, &among, &mut masks);
                    for offset in (0..CHUNK).filter(|offset| among[*offset] != 0) {
                        assert_eq!(masks[offset], expected[offset], "{name}, {offset}");
                    }
                }
            }
        }
    }

    #[test]
    fn lists_that_findings_share_are_there_once() {
        let size = |name: &str| {
            let (_, all) = columns().into_iter().find(|(own, _)| *own == name).unwrap();
            rows(&all).encode().len()
        };
        assert!(size("the same list") < 64);
        assert!(size("few lists") < CHUNK + 1024);
        // A length of each, three codes of two bytes, an element of each, and what is in the dictionary.
        let own = CHUNK * (1 + 3 * 3 + 2 * 4);
        assert!(
            (own..own + 64).contains(&size("own lists")),
            "{}",
            size("own lists")
        );
    }

    /// Three findings with one value, none and two, as schema 12 had them.
    #[test]
    fn what_was_written_before_is_read() {
        let bytes = [
            &[2, 1, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 7, 0, 0, 0, 9, 0, 0, 0][..],
            &[1, 0, 0, 0, 1, 0, 0, 0, 3, 0, 0, 0, 2, 1, 2, 0, 0, 1],
        ]
        .concat();
        let terms = Terms::read(&bytes).unwrap();
        let all = [vec![(0, 9)], vec![], vec![(0, 7), (1, 9)]];
        for (offset, values) in all.iter().enumerate() {
            assert_eq!(&terms.values(offset), values);
        }
        let wanted = terms.codes_of(&vec![7].into()).unwrap();
        assert_eq!(terms.select(&wanted).iter().collect::<Vec<_>>(), [2]);
        let again = terms.patched(3, |_| None).encode();
        assert_eq!(Terms::read(&again).unwrap().values(2), all[2]);
    }

    #[test]
    fn damaged_pieces_are_errors_or_have_other_values() {
        for (_, all) in columns() {
            let bytes = rows(&all[..24]).encode();
            for length in 1..bytes.len() {
                if let Ok(terms) = Terms::read(&bytes[..length]) {
                    terms.select(&[true; 300]);
                }
            }
            for at in 0..bytes.len() {
                let mut bytes = bytes.clone();
                bytes[at] ^= 0xff;
                if let Ok(terms) = Terms::read(&bytes) {
                    terms.select(&[true; 300]);
                    let mut masks = [0; 24];
                    terms.mask(&[true; 300], &[u64::MAX; 24], &mut masks);
                    (0..24).for_each(|offset| drop(terms.values(offset)));
                }
            }
        }
    }
}
