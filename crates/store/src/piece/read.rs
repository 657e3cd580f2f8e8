//! From bytes to the findings that have a value, and to the values of a finding.

use super::{ALL, COUNTED, FIRST, LISTS, MANY, ONE, OWN, Rows, SETS, TOLD, Value};
use crate::Error;
use crate::column::{Bits, CHUNK, Ids};
use crate::layout::IS_NUMBER;

/// Findings are looked at one by one where less than one of so many matters; that takes as much longer for each.
const FEW: usize = 4;

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
            Held::Codes(codes) => bits_of(codes, wanted),
            Held::Lists(lists) => {
                let masks = lists.masks(wanted);
                match &lists.which {
                    None => Bits::of_masks(&masks),
                    Some(which) if which.width == 0 => match masks.first() {
                        None | Some(0) => Bits::EMPTY,
                        Some(_) => Bits::first(self.rows),
                    },
                    Some(which) => {
                        let wanted: Vec<bool> = masks.iter().map(|mask| *mask != 0).collect();
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
        let table = padded(wanted);
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

/// 1 for each byte that is wanted.
fn padded(wanted: &[bool]) -> [u64; 256] {
    let mut table = [0; 256];
    for (slot, wanted) in table.iter_mut().zip(wanted) {
        *slot = u64::from(*wanted);
    }
    table
}

/// The findings whose number is wanted.
fn bits_of(numbers: &Numbers<'_>, wanted: &[bool]) -> Bits {
    let mut bits = Bits::EMPTY;
    if numbers.width == 1 {
        // Without a branch: this is what most of the time is spent in.
        let table = padded(wanted);
        for (word, numbers) in bits.words_mut().zip(numbers.bytes.chunks(64)) {
            for (bit, number) in numbers.iter().enumerate() {
                *word |= table[usize::from(*number)] << bit;
            }
        }
    } else {
        numbers.each(|offset, number| {
            if wanted.get(number) == Some(&true) {
                bits.insert(offset);
            }
        });
    }
    bits
}
