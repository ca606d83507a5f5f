//! Numbers in bytes of the ledger: written, and read out of bytes that anybody may have written.

/// More rows than a service takes in a year.
const COUNT_MAX: u64 = 1 << 48;

/// A number in as many groups of seven bits as it needs, the lowest first.
pub(super) fn put(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

/// What is left to be read.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { rest: bytes }
    }

    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], String> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or("a record that is too short")?;
        self.rest = rest;
        Ok(taken)
    }

    pub(super) fn byte(&mut self) -> Result<u8, String> {
        self.take(1).map(|bytes| bytes[0])
    }

    pub(super) fn u32_le(&mut self) -> Result<u32, String> {
        self.take(4).map(|bytes| u32::from_le_bytes(std::array::from_fn(|i| bytes[i])))
    }

    pub(super) fn u64_le(&mut self) -> Result<u64, String> {
        self.take(8).map(|bytes| u64::from_le_bytes(std::array::from_fn(|i| bytes[i])))
    }

    /// A number in groups of seven bits, the lowest first.
    pub(super) fn varint(&mut self) -> Result<u64, String> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits {
                break;
            }
            number |= bits << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err("a number that is too large".to_owned())
    }

    /// How many there are of something: so few that sums of them stay numbers.
    pub(super) fn count(&mut self) -> Result<u64, String> {
        let count = self.varint()?;
        if count > COUNT_MAX { Err(format!("{count} of something")) } else { Ok(count) }
    }

    /// To be called at the end.
    pub(super) fn finish(&self) -> Result<(), String> {
        match self.rest.len() {
            0 => Ok(()),
            left => Err(format!("{left} bytes behind the record")),
        }
    }
}
