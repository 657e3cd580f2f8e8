//! Bytes as hexadecimal digits.

/// Two lower-case digits for each byte.
pub fn encode(bytes: &[u8]) -> String {
    let digit = |value: u8| char::from(b"0123456789abcdef"[usize::from(value)]);
    bytes
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(byte & 0xf)])
        .collect()
}

/// The bytes of two digits each, in either case. `None` when there is anything else.
pub fn decode(text: &str) -> Option<Vec<u8>> {
    let (pairs, []) = text.as_bytes().as_chunks() else {
        return None;
    };
    pairs.iter().copied().map(byte).collect()
}

/// The byte of two digits.
pub(crate) fn byte([high, low]: [u8; 2]) -> Option<u8> {
    Some(value(high)? << 4 | value(low)?)
}

fn value(digit: u8) -> Option<u8> {
    let value = char::from(digit).to_digit(16)?;
    u8::try_from(value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_two_digits() {
        assert_eq!(encode(&[0x00, 0x0a, 0xa0, 0xff]), "000aa0ff");
        assert_eq!(encode(&[]), "");
    }

    #[test]
    fn digits_are_read_in_pairs() {
        assert_eq!(decode("000aA0Ff"), Some(vec![0x00, 0x0a, 0xa0, 0xff]));
        assert_eq!(decode(""), Some(Vec::new()));
        for bad in ["0", "000", "0g", "+1", "\u{e9}"] {
            assert_eq!(decode(bad), None, "{bad}");
        }
    }
}
