//! How many room sockets come from one address: one place cannot take what all others need.
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

/// Where a request comes from: the other end of its TCP connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientAddress(pub IpAddr);

/// The sockets that each address has open.
#[derive(Debug)]
pub struct Addresses {
    most: usize,
    /// Addresses come from the network: a seeded hasher. As many entries as sockets at most.
    open: Mutex<HashMap<IpAddr, usize>>,
}

/// One of the sockets that an address may have. Given back when dropped.
#[derive(Debug)]
pub struct Place(Option<(Arc<Addresses>, IpAddr)>);

impl Addresses {
    /// `most`: sockets of one address.
    pub fn new(most: usize) -> Self {
        Self { most, open: Mutex::default() }
    }

    /// None if the address has as many as it may. Loopback has no bound: a proxy on this machine stands for everybody.
    pub fn enter(self: &Arc<Self>, from: IpAddr) -> Option<Place> {
        let Some(key) = key(from) else { return Some(Place(None)) };
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(key).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        drop(open);
        Some(Place(Some((self.clone(), key))))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some((addresses, key)) = self.0.take() else { return };
        let mut open = addresses.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut entry) = open.entry(key) {
            *entry.get_mut() -= 1;
            if *entry.get() == 0 {
                entry.remove();
            }
        }
    }
}

/// What counts as one address, loopback apart: of IPv6 the network of a site (RFC 4291 section 2.5.4), for its hosts choose the rest.
pub(super) fn key(address: IpAddr) -> Option<IpAddr> {
    let address = address.to_canonical();
    match address {
        _ if address.is_loopback() => None,
        IpAddr::V4(_) => Some(address),
        IpAddr::V6(v6) => Some(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_its_places_and_gives_them_back() {
        let addresses = Arc::new(Addresses::new(2));
        let enter = |ip: &str| addresses.enter(ip.parse().expect("an address"));
        let (first, _second) = (enter("192.0.2.1").expect("a place"), enter("::ffff:192.0.2.1").expect("a place"));
        assert!(enter("192.0.2.1").is_none());
        let _other = enter("192.0.2.2").expect("another address has its own");
        drop(first);
        let _again = enter("192.0.2.1").expect("a place was given back");
        let _host = enter("2001:db8::1").expect("a place");
        let _neighbour = enter("2001:db8::ffff:2").expect("a place");
        assert!(enter("2001:db8::3").is_none(), "a site is one address");
        let many: Vec<_> = (0..5).map(|_| enter("127.0.0.1").expect("no bound")).collect();
        drop((many, _second, _other, _again, _host, _neighbour));
        assert!(addresses.open.lock().expect("whole").is_empty(), "nothing is kept of those who are gone");
    }
}
