//! The one thing that we look up in a ClientHello ourselves: which SRTP profiles are offered (RFC 5764 section 4.1.1).
//! rtc-dtls picks by the client's preference, and Chromium puts AES-CM first.
use crate::peer::srtp::SrtpProfile;

const USE_SRTP: u16 = 14;

/// The profile that we like best of those in the body of a ClientHello.
pub(super) fn best_srtp_profile(body: &[u8]) -> Option<SrtpProfile> {
    let offered = offered_srtp_profiles(body)?;
    let offered = |profile: &SrtpProfile| offered.chunks_exact(2).any(|id| id == profile.id().to_be_bytes());
    SrtpProfile::PREFERENCE.into_iter().find(offered)
}

/// The list of profile numbers, two bytes each (RFC 5246 section 7.4.1.2, RFC 6347 section 4.2.1).
fn offered_srtp_profiles(mut body: &[u8]) -> Option<&[u8]> {
    let r = &mut body;
    take(r, 2 + 32)?; // version, random
    take_vector::<1>(r)?; // session id
    take_vector::<1>(r)?; // cookie
    take_vector::<2>(r)?; // cipher suites
    take_vector::<1>(r)?; // compression methods
    let mut extensions = take_vector::<2>(r)?;
    while !extensions.is_empty() {
        let kind = take(&mut extensions, 2)?;
        let mut data = take_vector::<2>(&mut extensions)?;
        if kind == USE_SRTP.to_be_bytes() {
            return take_vector::<2>(&mut data);
        }
    }
    None
}

fn take<'a>(r: &mut &'a [u8], n: usize) -> Option<&'a [u8]> {
    let (head, rest) = r.split_at_checked(n)?;
    *r = rest;
    Some(head)
}

/// A vector with a length of `N` bytes.
fn take_vector<'a, const N: usize>(r: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = take(r, N)?.iter().fold(0, |n, byte| n << 8 | usize::from(*byte));
    take(r, length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hello(profiles: &[u16]) -> Vec<u8> {
        let mut body = vec![0xfe, 0xfd];
        body.extend([7; 32]);
        body.extend([0, 0]); // no session id, no cookie
        body.extend([0, 2, 0xc0, 0x2b, 1, 0]); // one cipher suite, one compression method
        let mut extension = vec![0, 14];
        extension.extend((profiles.len() as u16 * 2 + 3).to_be_bytes());
        extension.extend((profiles.len() as u16 * 2).to_be_bytes());
        profiles.iter().for_each(|p| extension.extend(p.to_be_bytes()));
        extension.push(0); // no MKI
        let extensions = [&[0, 23, 0, 0][..], &extension].concat();
        body.extend((extensions.len() as u16).to_be_bytes());
        body.extend(extensions);
        body
    }

    #[test]
    fn our_preference_decides() {
        assert_eq!(best_srtp_profile(&hello(&[1, 8, 7])), Some(SrtpProfile::AeadAes128Gcm));
        assert_eq!(best_srtp_profile(&hello(&[2, 1, 8])), Some(SrtpProfile::AeadAes256Gcm));
        assert_eq!(best_srtp_profile(&hello(&[1])), Some(SrtpProfile::AesCm128HmacSha1_80));
        assert_eq!(best_srtp_profile(&hello(&[2])), None);
        let whole = hello(&[1, 8, 7]);
        (0..whole.len()).for_each(|cut| {
            best_srtp_profile(&whole[..cut]);
        });
    }

    proptest! {
        #[test]
        fn garbage_never_panics(body in prop::collection::vec(any::<u8>(), 0..200)) {
            best_srtp_profile(&body);
        }
    }
}
