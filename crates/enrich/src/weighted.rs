//! A least-recently-used cache bounded by entries and by bytes: what a container fills with large values must not grow.

use std::hash::Hash;

use lru::LruCache;

/// See the module.
#[derive(Debug)]
pub(crate) struct WeightedCache<K: Hash + Eq, V> {
    entries: LruCache<K, (V, usize)>,
    entries_max: usize,
    bytes: usize,
    bytes_max: usize,
}

impl<K: Hash + Eq, V> WeightedCache<K, V> {
    pub(crate) fn new(entries_max: usize, bytes_max: usize) -> Self {
        Self {
            entries: LruCache::unbounded(),
            entries_max,
            bytes: 0,
            bytes_max,
        }
    }

    pub(crate) fn get(&mut self, key: &K) -> Option<&V> {
        self.entries.get(key).map(|(value, _)| value)
    }

    pub(crate) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.entries.get_mut(key).map(|(value, _)| value)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.entries.iter().map(|(key, (value, _))| (key, value))
    }

    /// Keeps `value`, which holds about `bytes`, and drops what was not used for the longest time when that is too much.
    pub(crate) fn put(&mut self, key: K, value: V, bytes: usize) {
        self.bytes = self.bytes.saturating_add(bytes);
        if let Some((_, (_, old_bytes))) = self.entries.push(key, (value, bytes)) {
            self.bytes = self.bytes.saturating_sub(old_bytes);
        }
        while self.entries.len() > self.entries_max || self.bytes > self.bytes_max {
            let Some((_, (_, old_bytes))) = self.entries.pop_lru() else {
                break;
            };
            self.bytes = self.bytes.saturating_sub(old_bytes);
        }
    }

    pub(crate) fn remove(&mut self, key: &K) -> Option<V> {
        let (value, bytes) = self.entries.pop(key)?;
        self.bytes = self.bytes.saturating_sub(bytes);
        Some(value)
    }

    pub(crate) fn clear(&mut self) {
        self.entries.clear();
        self.bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_bounds_hold_and_the_recently_used_stays() {
        let mut cache = WeightedCache::new(3, 100);
        for key in 0..10 {
            cache.put(key, key, 1);
            assert!(cache.get(&0).is_some(), "used each time");
        }
        assert_eq!(cache.entries.len(), 3);
        cache.put(20, 20, 98);
        assert!(cache.bytes <= 100);
        assert!(cache.get(&20).is_some());
        cache.put(20, 21, 1);
        assert_eq!(cache.get(&20), Some(&21));
        assert_eq!((cache.entries.len(), cache.bytes), (3, 3));
    }
}
