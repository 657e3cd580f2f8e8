//! What is written is what is read, of every kind of column.

use super::{Rows, Terms, Value};
use crate::column::{Bits, CHUNK};
use crate::layout::IS_NUMBER;

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
const OF_SCHEMA_12: [u8; 38] = [
    2, 1, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 7, 0, 0, 0, 9, 0, 0, 0, // kind, lengths, dictionary
    1, 0, 0, 0, 1, 0, 0, 0, 3, 0, 0, 0, 2, 1, 2, 0, 0, 1, // ends, codes, elements
];

#[test]
fn what_was_written_before_is_read() {
    let terms = Terms::read(&OF_SCHEMA_12).unwrap();
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
    let written = columns()
        .into_iter()
        .map(|(_, all)| rows(&all[..24]).encode());
    for bytes in written.chain([OF_SCHEMA_12.to_vec()]) {
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
                for offset in 0..24 {
                    let mut values = 0;
                    terms.each(offset, |_, _| values += 1);
                    assert!(values <= bytes.len(), "{values} of {}", bytes.len());
                }
            }
        }
    }
}
