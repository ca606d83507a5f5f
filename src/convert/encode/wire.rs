//! Protobuf's wire format, written into a buffer whose places were measured before.
//!
//! Numbers are written as whole words: the bytes behind a number are read and written back, for they may belong
//! to a record that is there already. The buffer therefore goes on for [`SLACK_BYTES`] behind its last record.

use prost::encoding::WireType;

/// How many bytes the buffer must have behind the last record.
pub(in crate::convert) const SLACK_BYTES: usize = 8;

/// The number and the wire type of a field, encoded once.
#[derive(Clone, Copy, Debug)]
pub(in crate::convert) struct Key {
    word: u64,
    len: usize,
}

impl Key {
    /// The key of the field with this number, which is at most 2²⁹ − 1 as protobuf has it.
    pub(in crate::convert) fn new(number: u32, wire_type: WireType) -> Key {
        let tag = u64::from(number) << 3 | wire_type as u64;
        Key { word: varint_word(tag), len: varint_len(tag) }
    }

    /// How many bytes it takes.
    pub(in crate::convert) fn len(self) -> usize {
        self.len
    }

    /// Writes it at `at` and returns where it ends.
    #[inline]
    pub(in crate::convert) fn put(self, out: &mut [u8], at: usize) -> usize {
        // Nearly all fields have a number below 16, and nearly all others one below 2048.
        match self.len {
            1 => out[at] = self.word as u8,
            2 => out[at..at + 2].copy_from_slice(&(self.word as u16).to_le_bytes()),
            len => merge(self.word, len, out, at),
        }
        at + self.len
    }
}

/// The bytes of a number as a varint.
#[inline]
pub(in crate::convert) fn varint_len(value: u64) -> usize {
    // Seven bits per byte, without a division: exact for every count of bits from 1 to 64.
    let highest_bit = 63 - (value | 1).leading_zeros() as usize;
    (highest_bit * 9 + 73) / 64
}

/// Writes a varint at `at` and returns where it ends.
#[inline(always)]
pub(in crate::convert) fn put_varint(value: u64, out: &mut [u8], at: usize) -> usize {
    if value >> 56 == 0 {
        let len = varint_len(value);
        merge(varint_word(value), len, out, at);
        at + len
    } else {
        put_long_varint(value, out, at)
    }
}

/// Nine or ten bytes: negative numbers, mostly.
#[inline]
fn put_long_varint(value: u64, out: &mut [u8], at: usize) -> usize {
    let low = spread(value & (u64::MAX >> 8)) | CONTINUED;
    out[at..at + 8].copy_from_slice(&low.to_le_bytes());
    let high = (value >> 56) as u8;
    if high < 0x80 {
        out[at + 8] = high;
        at + 9
    } else {
        out[at + 8..at + 10].copy_from_slice(&[high, 1]);
        at + 10
    }
}

/// The bit of each byte that says that another one follows.
const CONTINUED: u64 = 0x8080_8080_8080_8080;

/// The varint of a number below 2⁵⁶, as a little-endian word.
#[inline]
fn varint_word(value: u64) -> u64 {
    let continued = CONTINUED & (low_bytes(varint_len(value)) >> 8);
    spread(value) | continued
}

/// Moves each seven bits of a number below 2⁵⁶ into a byte of their own.
#[inline]
fn spread(value: u64) -> u64 {
    let value = (value & 0x0fff_ffff) | ((value & 0x00ff_ffff_f000_0000) << 4);
    let value = (value & 0x0000_3fff_0000_3fff) | ((value & 0x0fff_c000_0fff_c000) << 2);
    (value & 0x007f_007f_007f_007f) | ((value & 0x3f80_3f80_3f80_3f80) << 1)
}

/// A mask of this many bytes, 1 to 8.
#[inline]
fn low_bytes(count: usize) -> u64 {
    u64::MAX >> (64 - 8 * count)
}

/// Writes the lowest `len` bytes of a word and leaves what stands behind them.
#[inline]
fn merge(word: u64, len: usize, out: &mut [u8], at: usize) {
    let place = &mut out[at..at + 8];
    let mut old = [0; 8];
    old.copy_from_slice(place);
    let mask = low_bytes(len);
    let merged = (u64::from_le_bytes(old) & !mask) | (word & mask);
    place.copy_from_slice(&merged.to_le_bytes());
}

/// Writes bytes at `at` and returns where they end.
#[inline]
pub(in crate::convert) fn put_bytes(bytes: &[u8], out: &mut [u8], at: usize) -> usize {
    let len = bytes.len();
    let place = &mut out[at..at + len];
    // Two words that overlap are quicker than a call.
    match len {
        0..4 => place.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from),
        4..8 => overlapping::<4>(bytes, place),
        8..16 => overlapping::<8>(bytes, place),
        16..32 => overlapping::<16>(bytes, place),
        32..64 => overlapping::<32>(bytes, place),
        64..BLOCKS_MAX_BYTES => blocks(bytes, place),
        _ => place.copy_from_slice(bytes),
    }
    at + len
}

/// From here on the library's copy is quicker than [`blocks`].
const BLOCKS_MAX_BYTES: usize = 4096;

/// Copies `N` to `2 * N` bytes.
#[inline]
fn overlapping<const N: usize>(bytes: &[u8], place: &mut [u8]) {
    let last = bytes.len() - N;
    place[..N].copy_from_slice(&bytes[..N]);
    place[last..].copy_from_slice(&bytes[last..]);
}

/// Copies 64 bytes or more from front to back, in the order that the processor fetches them ahead; what is in no
/// whole block overlaps with the last one.
#[inline]
fn blocks(bytes: &[u8], place: &mut [u8]) {
    let last = bytes.len() - 64;
    for (to, from) in place.as_chunks_mut::<64>().0.iter_mut().zip(bytes.as_chunks::<64>().0) {
        *to = *from;
    }
    place[last..].copy_from_slice(&bytes[last..]);
}

/// What a length and the bytes behind it take.
#[inline]
pub(in crate::convert) fn delimited_len(bytes: usize) -> usize {
    varint_len(bytes as u64) + bytes
}

/// Writes a length and returns where it ends.
#[inline]
pub(in crate::convert) fn put_len(len: usize, out: &mut [u8], at: usize) -> usize {
    // Most are short, and neighbours are of a kind, so the branch is foreseen.
    if len < 0x80 {
        out[at] = len as u8;
        at + 1
    } else {
        put_varint(len as u64, out, at)
    }
}

/// Writes a length and the bytes behind it.
#[inline]
pub(in crate::convert) fn put_delimited(bytes: &[u8], out: &mut [u8], at: usize) -> usize {
    let at = put_len(bytes.len(), out, at);
    put_bytes(bytes, out, at)
}

#[cfg(test)]
mod tests {
    use prost::encoding::{encode_key, encode_varint, encoded_len_varint};

    use super::*;

    /// Writes over bytes that must not change.
    fn written(put: impl FnOnce(&mut [u8], usize) -> usize) -> Vec<u8> {
        let mut out = [0xee; 5_050];
        let end = put(&mut out, 3);
        assert!(out[..3].iter().chain(&out[end..]).all(|byte| *byte == 0xee), "others' bytes changed");
        out[3..end].to_vec()
    }

    #[test]
    fn varints_of_every_length_are_those_of_prost() {
        let edges = (0..64).flat_map(|bit| [(1_u64 << bit) - 1, 1 << bit, u64::MAX << bit, u64::MAX >> bit]);
        for value in edges.chain([0, 300, 0x0123_4567_89ab_cdef]) {
            let mut theirs = Vec::new();
            encode_varint(value, &mut theirs);
            assert_eq!(varint_len(value), encoded_len_varint(value), "{value}");
            assert_eq!(written(|out, at| put_varint(value, out, at)), theirs, "{value}");
        }
    }

    #[test]
    fn keys_are_those_of_prost() {
        for number in [1, 15, 16, 2047, 2048, 1 << 20, (1 << 29) - 1] {
            for wire_type in [WireType::Varint, WireType::LengthDelimited, WireType::ThirtyTwoBit] {
                let mut theirs = Vec::new();
                encode_key(number, wire_type, &mut theirs);
                let key = Key::new(number, wire_type);
                assert_eq!(key.len(), theirs.len());
                assert_eq!(written(|out, at| key.put(out, at)), theirs);
            }
        }
    }

    #[test]
    fn bytes_of_every_length_are_copied() {
        let bytes: Vec<u8> = (0..5_000).map(|n| n as u8).collect();
        for len in (0..300).chain([BLOCKS_MAX_BYTES - 1, BLOCKS_MAX_BYTES, 5_000]) {
            assert_eq!(written(|out, at| put_bytes(&bytes[..len], out, at)), bytes[..len]);
            let delimited = written(|out, at| put_delimited(&bytes[..len], out, at));
            assert_eq!(delimited.len(), delimited_len(len));
            assert_eq!(delimited[delimited.len() - len..], bytes[..len]);
        }
    }
}
