//! Places in something bounded, given out so that no container can take them all.

use std::collections::HashMap;

/// See the module.
///
/// A container gets another place while it holds fewer than are free: alone it gets half of them, two get a third each, and a
/// newcomer finds one all the same.
#[derive(Debug)]
pub(crate) struct Shares {
    places: usize,
    each_max: usize,
    taken: usize,
    /// By the container's id, which outlasts a restart.
    holders: HashMap<String, usize>,
}

impl Shares {
    /// So many places, of which one container may have `each_max` at most.
    pub(crate) fn new(places: usize, each_max: usize) -> Self {
        Self {
            places,
            each_max,
            taken: 0,
            holders: HashMap::new(),
        }
    }

    /// Whether [`Self::take`] may be called for that container.
    pub(crate) fn has_room(&self, container: &str) -> bool {
        let held = self.holders.get(container).copied().unwrap_or(0);
        held < self.each_max.min(self.places.saturating_sub(self.taken))
    }

    /// Takes a place.
    pub(crate) fn take(&mut self, container: &str) {
        self.taken += 1;
        match self.holders.get_mut(container) {
            Some(held) => *held += 1,
            None => {
                self.holders.insert(container.to_owned(), 1);
            }
        }
    }

    /// Gives a place back that was taken.
    pub(crate) fn give_back(&mut self, container: &str) {
        let Some(held) = self.holders.get_mut(container) else {
            return;
        };
        *held -= 1;
        if *held == 0 {
            self.holders.remove(container);
        }
        self.taken -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(shares: &mut Shares, container: &str) -> usize {
        let mut count = 0;
        while shares.has_room(container) {
            shares.take(container);
            count += 1;
        }
        count
    }

    #[test]
    fn whoever_comes_late_finds_a_place() {
        let mut shares = Shares::new(100, usize::MAX);
        assert_eq!(fill(&mut shares, "first"), 50);
        for late in 0..5 {
            assert!(fill(&mut shares, &format!("late {late}")) > 0);
        }
        for _ in 0..50 {
            shares.give_back("first");
        }
        assert!(fill(&mut shares, "last") > 20);
        assert!(shares.taken <= 100);
    }

    #[test]
    fn nobody_gets_more_than_the_bound_of_each() {
        let mut shares = Shares::new(100, 10);
        for container in 0..9 {
            assert_eq!(fill(&mut shares, &container.to_string()), 10);
        }
        assert!(fill(&mut shares, "late") >= 5);
    }
}
