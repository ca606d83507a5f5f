//! The wire format of protobuf: the fields of one message, one after the other.

/// A value as it stands on the wire. Bytes are a range of the message that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Raw {
    Varint(u64),
    Fixed64(u64),
    Fixed32(u32),
    Bytes { start: usize, end: usize },
}

/// Bytes that no encoder of protobuf writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// Reads the field at `at` and moves behind it; `None` at the end of the message.
pub(super) fn next_field(message: &[u8], at: &mut usize) -> Result<Option<(u32, Raw)>, Malformed> {
    if *at == message.len() {
        return Ok(None);
    }
    let key = u32::try_from(varint(message, at)?).map_err(|_| Malformed)?;
    let number = key >> 3;
    if number == 0 {
        return Err(Malformed);
    }
    let raw = match key & 7 {
        0 => Raw::Varint(varint(message, at)?),
        1 => Raw::Fixed64(fixed64(message, at)?),
        2 => {
            let length = usize::try_from(varint(message, at)?).map_err(|_| Malformed)?;
            let start = *at;
            let end = start.checked_add(length).filter(|end| *end <= message.len()).ok_or(Malformed)?;
            *at = end;
            Raw::Bytes { start, end }
        }
        5 => Raw::Fixed32(fixed32(message, at)?),
        // Groups have not been written by anybody for two decades, and 6 and 7 never were.
        _ => return Err(Malformed),
    };
    Ok(Some((number, raw)))
}

/// Reads a varint at `at` and moves behind it.
pub(super) fn varint(message: &[u8], at: &mut usize) -> Result<u64, Malformed> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = *message.get(*at).ok_or(Malformed)?;
        *at += 1;
        // The tenth byte has room for one bit.
        if shift == 63 && byte > 1 {
            return Err(Malformed);
        }
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err(Malformed)
}

/// Reads eight little-endian bytes at `at` and moves behind them.
pub(super) fn fixed64(message: &[u8], at: &mut usize) -> Result<u64, Malformed> {
    take(message, at).map(u64::from_le_bytes)
}

/// Reads four little-endian bytes at `at` and moves behind them.
pub(super) fn fixed32(message: &[u8], at: &mut usize) -> Result<u32, Malformed> {
    take(message, at).map(u32::from_le_bytes)
}

fn take<const N: usize>(message: &[u8], at: &mut usize) -> Result<[u8; N], Malformed> {
    let bytes = message.get(*at..).and_then(|rest| rest.first_chunk::<N>()).ok_or(Malformed)?;
    *at += N;
    Ok(*bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_bytes_end_in_fields_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let mut at = 0;
            while let Ok(Some((number, raw))) = next_field(&bytes, &mut at) {
                prop_assert!(number > 0 && at <= bytes.len());
                if let Raw::Bytes { start, end } = raw {
                    prop_assert!(start <= end && end <= bytes.len());
                }
            }
        }

        #[test]
        fn a_varint_is_read_as_it_was_written(value: u64) {
            let mut bytes = Vec::new();
            prost::encoding::encode_varint(value, &mut bytes);
            let mut at = 0;
            prop_assert_eq!(varint(&bytes, &mut at), Ok(value));
            prop_assert_eq!(at, bytes.len());
        }
    }

    #[test]
    fn a_varint_of_eleven_bytes_or_too_many_bits_is_refused() {
        assert_eq!(varint(&[0xff; 11], &mut 0), Err(Malformed));
        assert_eq!(
            varint(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2], &mut 0),
            Err(Malformed)
        );
    }
}
