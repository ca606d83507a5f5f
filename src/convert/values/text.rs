//! Texts and bytes that are sent as they are, and UUIDs.

use super::Write;
use crate::convert::encode::wire::{delimited_len, put_bytes, put_delimited, put_len};
use crate::convert::error::RowErrorReason;

/// How much of a text an error shows.
pub(super) const SHOWN_CHARS: usize = 60;

/// The text of a value for an error, as much of it as one can read.
pub(super) fn shown(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(4 * SHOWN_CHARS)]);
    match text.char_indices().nth(SHOWN_CHARS) {
        Some((end, _)) => format!("{:?}… ({} bytes)", &text[..end], bytes.len()),
        None => format!("{text:?}"),
    }
}

/// The bytes themselves.
#[derive(Clone, Copy, Debug)]
pub(in crate::convert) struct Raw;

impl Write<&[u8]> for Raw {
    const TAKES_ALL: bool = true;

    #[inline]
    fn size(&self, bytes: &[u8]) -> Option<usize> {
        Some(delimited_len(bytes.len()))
    }

    #[inline]
    fn put(&self, bytes: &[u8], out: &mut [u8], at: usize) -> usize {
        put_delimited(bytes, out, at)
    }

    fn reason(&self, _: &[u8]) -> RowErrorReason {
        RowErrorReason::OutOfRange
    }

    fn text(&self, bytes: &[u8]) -> String {
        shown(bytes)
    }
}

/// Text that must be JSON: the service reads VARIANT columns from it.
#[derive(Clone, Copy, Debug)]
pub(in crate::convert) struct Json;

impl Write<&[u8]> for Json {
    fn size(&self, bytes: &[u8]) -> Option<usize> {
        // Only looks for errors and makes nothing of the values; any depth will do.
        let checked = serde_json::from_slice::<serde::de::IgnoredAny>(bytes);
        checked.is_ok().then(|| delimited_len(bytes.len()))
    }

    #[inline]
    fn put(&self, bytes: &[u8], out: &mut [u8], at: usize) -> usize {
        put_delimited(bytes, out, at)
    }

    fn reason(&self, _: &[u8]) -> RowErrorReason {
        RowErrorReason::InvalidJson
    }

    fn text(&self, bytes: &[u8]) -> String {
        shown(bytes)
    }
}

/// The sixteen bytes of a UUID as text, `8-4-4-4-12` in lower case.
#[derive(Clone, Copy, Debug)]
pub(in crate::convert) struct UuidText;

const UUID_CHARS: usize = 36;

fn uuid_text(bytes: &[u8]) -> [u8; UUID_CHARS] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = [b'-'; UUID_CHARS];
    let places = (0..UUID_CHARS).filter(|place| !matches!(place, 8 | 13 | 18 | 23));
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 0xf]);
    for (place, digit) in places.zip(digits) {
        text[place] = DIGITS[usize::from(digit)];
    }
    text
}

impl Write<&[u8]> for UuidText {
    const TAKES_ALL: bool = true;

    #[inline]
    fn size(&self, _: &[u8]) -> Option<usize> {
        Some(delimited_len(UUID_CHARS))
    }

    fn put(&self, bytes: &[u8], out: &mut [u8], at: usize) -> usize {
        let at = put_len(UUID_CHARS, out, at);
        put_bytes(&uuid_text(bytes), out, at)
    }

    fn reason(&self, _: &[u8]) -> RowErrorReason {
        RowErrorReason::OutOfRange
    }

    fn text(&self, bytes: &[u8]) -> String {
        String::from_utf8_lossy(&uuid_text(bytes)).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_json_has_a_size() {
        for text in
            ["1", " {\"a\": [1e5, null, \"\\u00e9\"]} ", "\"\"", "[]", &("[".repeat(900) + &"]".repeat(900))]
        {
            assert_eq!(Json.size(text.as_bytes()), Raw.size(text.as_bytes()), "{text}");
        }
        for text in ["", "{", "{a: 1}", "NaN", "1 2", "'a'", "\"\u{1}\"", "01", "[1,]"] {
            assert_eq!(Json.size(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn a_uuid_is_written_as_everybody_does() {
        let bytes: Vec<u8> = (0x10..0x20).collect();
        let text = UuidText.text(&bytes);
        assert_eq!(text, "10111213-1415-1617-1819-1a1b1c1d1e1f");
        let mut out = [0; 60];
        assert_eq!(UuidText.put(&bytes, &mut out, 0), UuidText.size(&bytes).unwrap_or_default());
        assert_eq!(&out[..37], [&[36], text.as_bytes()].concat());
    }

    #[test]
    fn an_error_shows_the_beginning_of_a_long_text() {
        assert_eq!(shown(b"a\"b"), r#""a\"b""#);
        let text = shown("é".repeat(100).as_bytes());
        assert_eq!(text, format!("\"{}\"… (200 bytes)", "é".repeat(60)));
    }
}
