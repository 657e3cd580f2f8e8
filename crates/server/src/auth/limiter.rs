//! Counts failed logins per address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use model::Timestamp;

use crate::limits::{AUTH_FAILURES_MAX, AUTH_PEERS_MAX, AUTH_WINDOW};

/// Failures in the present window, by address. Shared between threads by reference.
#[derive(Debug, Default)]
pub struct Limiter {
    window: Mutex<Window>,
}

#[derive(Debug, Default)]
struct Window {
    start: Timestamp,
    failures: HashMap<IpAddr, u32>,
}

impl Limiter {
    /// Counts a failure. False when the address has had its share and must wait for the next window.
    pub fn failed(&self, peer: IpAddr, now: Timestamp) -> bool {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        if now.0.abs_diff(window.start.0) >= u64::try_from(AUTH_WINDOW.as_nanos()).unwrap_or(0) {
            window.start = now;
            window.failures.clear();
        }
        let peer = network(peer);
        // A flood from everywhere shares one count rather than filling memory.
        let known = window.failures.len() < AUTH_PEERS_MAX || window.failures.contains_key(&peer);
        let key = if known {
            peer
        } else {
            IpAddr::from([0, 0, 0, 0])
        };
        let count = window.failures.entry(key).or_default();
        *count = count.saturating_add(1);
        *count <= AUTH_FAILURES_MAX
    }
}

/// One household has a /64 of IPv6 to itself, so that is what counts as one address.
pub(crate) fn network(peer: IpAddr) -> IpAddr {
    match peer {
        IpAddr::V4(_) => peer,
        IpAddr::V6(address) => match address.to_ipv4_mapped() {
            Some(address) => address.into(),
            None => std::net::Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_gets_its_share_per_window() {
        let limiter = Limiter::default();
        let start = Timestamp(1_000_000_000_000);
        let peer = IpAddr::from([192, 0, 2, 1]);
        for _ in 0..AUTH_FAILURES_MAX {
            assert!(limiter.failed(peer, start));
        }
        assert!(!limiter.failed(peer, start));
        assert!(limiter.failed(IpAddr::from([192, 0, 2, 2]), start));
        let later = start.plus_ns(u64::try_from(AUTH_WINDOW.as_nanos()).unwrap());
        assert!(limiter.failed(peer, later));
    }

    #[test]
    fn memory_is_bounded() {
        let limiter = Limiter::default();
        for i in 0..u32::try_from(AUTH_PEERS_MAX).unwrap() * 2 {
            limiter.failed(std::net::Ipv4Addr::from_bits(i + 1).into(), Timestamp(1));
        }
        let window = limiter.window.lock().unwrap();
        assert!(window.failures.len() <= AUTH_PEERS_MAX + 1);
    }
}
