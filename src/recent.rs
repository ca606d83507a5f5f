//! A few things that were used last, for when the next use is mostly of one of them.

use std::collections::VecDeque;

/// At most so many things, the one that was used last first.
#[derive(Debug)]
pub(crate) struct Recent<T> {
    items: VecDeque<T>,
    items_max: usize,
}

impl<T> Recent<T> {
    pub(crate) fn new(items_max: usize) -> Recent<T> {
        Recent { items: VecDeque::new(), items_max }
    }

    /// The thing that is wanted, which is then the one that was used last.
    pub(crate) fn find(&mut self, is_wanted: impl Fn(&T) -> bool) -> Option<&T> {
        let found = self.items.iter().position(is_wanted)?;
        if found > 0 {
            let item = self.items.remove(found)?;
            self.items.push_front(item);
        }
        self.items.front()
    }

    /// Adds a thing; the one that was not used for longest goes if there are too many.
    pub(crate) fn add(&mut self, item: T) {
        self.items.push_front(item);
        self.items.truncate(self.items_max);
    }

    pub(crate) fn clear(&mut self) {
        self.items.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_used_for_longest_goes_first() {
        let mut recent = Recent::new(3);
        (1..=3).for_each(|item| recent.add(item));
        assert_eq!(recent.find(|item| *item == 1), Some(&1));
        recent.add(4);
        assert_eq!(recent.find(|item| *item == 2), None, "it was the oldest");
        for item in [1, 3, 4] {
            assert_eq!(recent.find(|it| *it == item), Some(&item));
        }
        recent.clear();
        assert_eq!(recent.find(|_| true), None);
    }
}
