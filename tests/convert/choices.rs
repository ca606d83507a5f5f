//! Where all chance of the generator comes from, so that proptest can make a failure small.
//!
//! A case is a list of numbers; each decision of the generator takes the next one. Zero always means the simplest
//! choice, so that a list with zeros in it, or a shorter one, makes a simpler batch.

use proptest::collection::vec;
use proptest::prelude::*;

/// The decisions of one case.
#[derive(Clone, Debug)]
pub(crate) struct Choices {
    made: std::vec::IntoIter<u32>,
    /// Goes on behind the list; from zero come only zeros.
    state: u64,
}

/// Any decisions.
pub(crate) fn choices() -> impl Strategy<Value = Choices> {
    (vec(any::<u32>(), 0..1_500), any::<u64>())
        .prop_map(|(made, state)| Choices { made: made.into_iter(), state })
}

impl Choices {
    fn next(&mut self) -> u32 {
        self.made.next().unwrap_or_else(|| {
            // xorshift64*
            self.state ^= self.state >> 12;
            self.state ^= self.state << 25;
            self.state ^= self.state >> 27;
            (self.state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) as u32
        })
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.next() as usize % end
    }

    /// Yes once in `n` times.
    pub(crate) fn one_in(&mut self, n: usize) -> bool {
        n == 1 || self.below(n) == n - 1
    }

    /// One of these, the first of which is the simplest.
    pub(crate) fn pick<'t, T>(&mut self, of: &'t [T]) -> &'t T {
        &of[self.below(of.len())]
    }

    /// Any bits.
    pub(crate) fn bits(&mut self) -> u64 {
        u64::from(self.next()) << 32 | u64::from(self.next())
    }
}
