//! Detects addresses of the local machine or network: requests for public URLs must not reach them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Whether an address is not public: loopback, private, link-local, shared, multicast or reserved, including such addresses
/// embedded in IPv6 addresses.
pub fn is_private_address(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_private_v4(address),
        IpAddr::V6(address) => is_private_v6(address),
    }
}

fn is_private_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_multicast()
        || a == 0
        || a >= 240
        // Carrier-grade NAT, protocol assignments, benchmarking.
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 198 && (18..20).contains(&b))
}

fn is_private_v6(address: Ipv6Addr) -> bool {
    let parts = address.segments();
    let last = || Ipv4Addr::from((u32::from(parts[6]) << 16) | u32::from(parts[7]));
    if let Some(inner) = address.to_ipv4_mapped() {
        return is_private_v4(inner);
    }
    match parts {
        // IPv4-compatible addresses, and the NAT64 prefix 64:ff9b::/96.
        [0, 0, 0, 0, 0, 0, ..] | [0x64, 0xff9b, 0, 0, 0, 0, ..] => is_private_v4(last()),
        // Local-use NAT64 prefix.
        [0x64, 0xff9b, 1, ..] => true,
        // 6to4 embeds the IPv4 address after its prefix.
        [0x2002, high, low, ..] => is_private_v4(Ipv4Addr::from((u32::from(high) << 16) | u32::from(low))),
        // Only 2000::/3 is allocated as global unicast.
        [first, ..] => first & 0xe000 != 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_networks_are_private_however_they_are_written() {
        let address = |text: &str| text.parse::<IpAddr>().expect("an address");
        for text in [
            "127.0.0.1",
            "127.9.9.9",
            "0.0.0.0",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::1",
            "::",
            "::ffff:127.0.0.1",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
            "fe80::1",
            "fc00::1",
            "fd12::1",
            "ff02::1",
            "fec0::1",
        ] {
            assert!(is_private_address(address(text)), "{text}");
        }
        for text in ["1.1.1.1", "172.32.0.1", "192.169.0.1", "100.128.0.1", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"] {
            assert!(!is_private_address(address(text)), "{text}");
        }
    }
}
