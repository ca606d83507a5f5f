//! Random numbers of a simulated world: all of them follow from its seed.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::io::Rng;

/// SplitMix64: one addition and a few shifts, so that a choice costs nothing beside what is chosen.
#[derive(Clone, Debug)]
pub struct SplitMix(u64);

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl SplitMix {
    /// The sequence of a seed.
    pub fn new(seed: u64) -> SplitMix {
        SplitMix(mix(seed.wrapping_add(GOLDEN)))
    }

    /// The next number.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GOLDEN);
        mix(self.0)
    }

    /// A number below `limit`; 0 if there is none.
    pub fn below(&mut self, limit: u64) -> u64 {
        if limit == 0 { 0 } else { self.next() % limit }
    }

    /// True so many times out of a thousand.
    pub fn per_mille(&mut self, times: u16) -> bool {
        times > 0 && self.below(1000) < u64::from(times)
    }

    /// True half of the time.
    pub fn coin(&mut self) -> bool {
        self.next() & 1 == 0
    }

    /// One of these; none if there is none.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        from.get(self.below(from.len() as u64) as usize)
    }
}

/// The random numbers that a log asks its world for.
#[derive(Debug)]
pub struct SimRng(AtomicU64);

impl SimRng {
    /// The sequence of a seed.
    pub fn new(seed: u64) -> SimRng {
        SimRng(AtomicU64::new(seed))
    }
}

impl Rng for SimRng {
    fn next_u64(&self) -> u64 {
        mix(self.0.fetch_add(GOLDEN, Ordering::Relaxed).wrapping_add(GOLDEN))
    }
}
