//! From the values of findings to bytes.

use std::collections::HashMap;

use super::{ALL, COUNTED, FIRST, LISTS, ONE, OWN, SETS, TOLD, Value};
use crate::column::Bits;

/// Values of which sets are kept: as large as codes of a byte.
const SETS_MAX: usize = 8;

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
