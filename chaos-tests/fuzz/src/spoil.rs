//! How the bytes of an input spoil a set of files: a list of small operations, read one after the other.

use std::collections::BTreeMap;

/// Files by name.
pub type Files = BTreeMap<String, Vec<u8>>;

/// No file grows beyond this.
const FILE_BYTES_MAX: usize = 1024 * 1024;

/// Reads numbers and stretches from an input until it ends.
pub struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    /// All of an input.
    pub fn new(bytes: &'a [u8]) -> Input<'a> {
        Input(bytes)
    }

    /// The next bytes, fewer at the end.
    pub fn take(&mut self, length: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// What is left.
    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next byte.
    pub fn byte(&mut self) -> usize {
        self.take(1).first().copied().unwrap_or(0).into()
    }

    /// The next three bytes as a number.
    pub fn number(&mut self) -> usize {
        self.take(3).iter().rev().fold(0, |number, byte| number << 8 | usize::from(*byte))
    }

    /// A stretch that says in two bytes how long it is.
    pub fn stretch(&mut self) -> &'a [u8] {
        let length = self.byte() | self.byte() << 8;
        self.take(length)
    }
}

/// Does to the files what the input says. `names` are the files that can be meant; those that do not exist are empty.
pub fn spoil(files: &mut Files, names: &[String], input: &mut Input<'_>) {
    while !input.is_empty() && !names.is_empty() {
        let operation = input.byte();
        let name = &names[input.byte() % names.len()];
        let mut bytes = files.remove(name).unwrap_or_default();
        let at = input.number() % (bytes.len() + 1);
        match operation % 9 {
            0 => overwrite(&mut bytes, at, input.stretch()),
            1 => {
                let bit = input.byte() % 8;
                bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << bit);
            }
            2 => bytes.truncate(at),
            3 | 4 => {
                let filling = if operation % 9 == 3 { 0 } else { 0xff };
                let length = input.number() % 8192;
                overwrite(&mut bytes, at, &vec![filling; length]);
            }
            5 => {
                // What is not put back is deleted.
                continue;
            }
            6 => {
                // A stretch of another file of the log, at another place.
                let other = files.get(&names[input.byte() % names.len()]).cloned().unwrap_or_default();
                let from = input.number() % (other.len() + 1);
                let length = input.number() % (other.len() - from + 1);
                overwrite(&mut bytes, at, &other[from..from + length]);
            }
            7 => {
                let other = names[input.byte() % names.len()].clone();
                if let Some(swapped) = files.insert(other, std::mem::take(&mut bytes)) {
                    bytes = swapped;
                }
            }
            _ => bytes = input.stretch().to_vec(),
        }
        bytes.truncate(FILE_BYTES_MAX);
        files.insert(name.clone(), bytes);
    }
}

fn overwrite(bytes: &mut Vec<u8>, at: usize, with: &[u8]) {
    bytes.resize(bytes.len().max(at + with.len()), 0);
    bytes[at..at + with.len()].copy_from_slice(with);
}
