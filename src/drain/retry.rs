//! How long to wait before the next attempt: exponential backoff with full jitter.

use std::time::Duration;

use crate::io::Rng;

/// The random wait after this many failures in a row: uniform between nothing and
/// `base · 2^(failures - 1)`, at most `max`; never shorter than what the server asked for.
pub(crate) fn backoff(
    failures_in_a_row: u32,
    base: Duration,
    max: Duration,
    retry_after: Option<Duration>,
    rng: &dyn Rng,
) -> Duration {
    let factor = 1u32.checked_shl(failures_in_a_row.saturating_sub(1)).unwrap_or(u32::MAX);
    let bound = base.saturating_mul(factor).min(max);
    let fraction = (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
    let jittered = bound.mul_f64(fraction);
    jittered.max(retry_after.unwrap_or_default().min(max))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Fixed(u64);

    impl Rng for Fixed {
        fn next_u64(&self) -> u64 {
            self.0
        }
    }

    const BASE: Duration = Duration::from_millis(100);
    const MAX: Duration = Duration::from_secs(30);

    #[test]
    fn the_bound_doubles_up_to_the_maximum() {
        let highest = |failures| backoff(failures, BASE, MAX, None, &Fixed(u64::MAX)).as_secs_f64();
        assert!((0.0999..=0.1).contains(&highest(1)));
        assert!((0.799..=0.8).contains(&highest(4)));
        for many in [10, 33, 34, 1000, u32::MAX] {
            assert!((29.99..=30.0).contains(&highest(many)), "{many} failures: {}", highest(many));
        }
    }

    #[test]
    fn jitter_reaches_down_to_no_wait_at_all() {
        assert_eq!(backoff(5, BASE, MAX, None, &Fixed(0)), Duration::ZERO);
    }

    #[test]
    fn the_servers_wish_is_the_least_and_the_maximum_the_most() {
        let asked = |secs| Some(Duration::from_secs(secs));
        assert_eq!(backoff(1, BASE, MAX, asked(7), &Fixed(0)), Duration::from_secs(7));
        assert_eq!(backoff(1, BASE, MAX, asked(3600), &Fixed(0)), MAX);
    }
}
