//! The two transforms: AES-GCM (RFC 7714) and AES-CM with HMAC-SHA1-80 (RFC 3711 section 4), and key derivation.
use super::{ENCRYPTED, InvalidKeyingMaterial, RTCP_HEADER, SrtpProfile, be32};
use crate::rtp::SeqNo;
use aws_lc_rs::aead::{self, Aad, LessSafeKey, Nonce};
use aws_lc_rs::cipher::{self, EncryptingKey, EncryptionContext, UnboundCipherKey};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;

const GCM_TAG: usize = 16;
const CM_TAG: usize = 10;
const INDEX_WORD: usize = 4;

/// The session keys of one direction, of RTP or of RTCP.
pub(super) enum Cipher {
    Gcm {
        key: LessSafeKey,
        salt: [u8; 12],
    },
    /// In a box: it has 1,750 bytes, and hardly anybody uses it, while each peer has four of these.
    Cm(Box<CounterMode>),
}

pub(super) struct CounterMode {
    key: EncryptingKey,
    salt: [u8; 14],
    auth: hmac::Key,
}

/// Derives the session keys of RTP and of RTCP (RFC 3711 section 4.3, with a key derivation rate of zero).
pub(super) fn derive(profile: SrtpProfile, key: &[u8], salt: &[u8]) -> Result<(Cipher, Cipher), InvalidKeyingMaterial> {
    if key.len() != profile.key_len() || salt.len() != profile.salt_len() {
        return Err(InvalidKeyingMaterial);
    }
    let rtp = Cipher::derive(profile, key, salt, [0, 1, 2]);
    let rtcp = Cipher::derive(profile, key, salt, [3, 4, 5]);
    rtp.zip(rtcp).ok_or(InvalidKeyingMaterial)
}

impl Cipher {
    /// `labels`: of the encryption key, the authentication key and the salt.
    fn derive(profile: SrtpProfile, key: &[u8], salt: &[u8], labels: [u8; 3]) -> Option<Cipher> {
        let prf = counter_mode(key)?;
        let mut session_key = [0; 32];
        let session_key = session_key.get_mut(..profile.key_len())?;
        expand(&prf, salt, labels[0], session_key)?;
        match profile {
            SrtpProfile::AeadAes128Gcm => Self::gcm(&aead::AES_128_GCM, session_key, &prf, salt, labels[2]),
            SrtpProfile::AeadAes256Gcm => Self::gcm(&aead::AES_256_GCM, session_key, &prf, salt, labels[2]),
            SrtpProfile::AesCm128HmacSha1_80 => {
                let (mut auth, mut session_salt) = ([0; 20], [0; 14]);
                expand(&prf, salt, labels[1], &mut auth)?;
                expand(&prf, salt, labels[2], &mut session_salt)?;
                let auth = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &auth);
                let key = counter_mode(session_key)?;
                Some(Cipher::Cm(Box::new(CounterMode { key, salt: session_salt, auth })))
            }
        }
    }

    fn gcm(
        algorithm: &'static aead::Algorithm,
        key: &[u8],
        prf: &EncryptingKey,
        master_salt: &[u8],
        label: u8,
    ) -> Option<Cipher> {
        let mut salt = [0; 12];
        expand(prf, master_salt, label, &mut salt)?;
        let key = LessSafeKey::new(aead::UnboundKey::new(algorithm, key).ok()?);
        Some(Cipher::Gcm { key, salt })
    }

    /// Seals `payload` into `body`, which is as long as both payload and tag.
    pub(super) fn seal_rtp(&self, ssrc: u32, seq: SeqNo, header: &[u8], payload: &[u8], body: &mut [u8]) -> Option<()> {
        match self {
            Cipher::Gcm { key, salt } => {
                let (sealed, tag) = body.split_at_mut_checked(payload.len())?;
                let nonce = rtp_nonce(salt, ssrc, seq);
                key.seal_out_of_place_scatter(nonce, Aad::from(header), payload, sealed, &[], tag).ok()
            }
            Cipher::Cm(_) => {
                body.get_mut(..payload.len())?.copy_from_slice(payload);
                self.seal_rtp_in_place(ssrc, seq, header, body, payload.len())
            }
        }
    }

    /// Seals the first `payload_len` bytes of `body`; the tag takes the rest.
    pub(super) fn seal_rtp_in_place(
        &self,
        ssrc: u32,
        seq: SeqNo,
        header: &[u8],
        body: &mut [u8],
        payload_len: usize,
    ) -> Option<()> {
        let (payload, tag) = body.split_at_mut_checked(payload_len)?;
        match self {
            Cipher::Gcm { key, salt } => {
                let nonce = rtp_nonce(salt, ssrc, seq);
                let sealed = key.seal_in_place_separate_tag(nonce, Aad::from(header), payload).ok()?;
                tag.copy_from_slice(sealed.as_ref());
            }
            Cipher::Cm(keys) => {
                let CounterMode { key, salt, auth } = &**keys;
                keystream(key, rtp_counter(salt, ssrc, seq), payload)?;
                let full = cm_tag(auth, &[header, payload, &rollover(seq)]);
                tag.copy_from_slice(full.as_ref().get(..CM_TAG)?);
            }
        }
        Some(())
    }

    /// Opens `sealed` (payload and tag) into `out`, which is as long as the payload. `None`: not genuine.
    pub(super) fn open_rtp(&self, ssrc: u32, seq: SeqNo, header: &[u8], sealed: &[u8], out: &mut [u8]) -> Option<()> {
        let (payload, tag) = sealed.split_at_checked(out.len())?;
        match self {
            Cipher::Gcm { key, salt } => {
                let nonce = rtp_nonce(salt, ssrc, seq);
                key.open_separate_gather(nonce, Aad::from(header), payload, tag, out).ok()
            }
            Cipher::Cm(keys) => {
                let CounterMode { key, salt, auth } = &**keys;
                let full = cm_tag(auth, &[header, payload, &rollover(seq)]);
                verify_slices_are_equal(full.as_ref().get(..CM_TAG)?, tag).ok()?;
                out.copy_from_slice(payload);
                keystream(key, rtp_counter(salt, ssrc, seq), out)
            }
        }
    }

    /// Seals `packet` into `out`, which is longer by the tag and the index.
    pub(super) fn seal_rtcp(&self, ssrc: u32, index: u32, packet: &[u8], out: &mut [u8]) -> Option<()> {
        let (header, payload) = packet.split_at_checked(RTCP_HEADER)?;
        let word = (index | ENCRYPTED).to_be_bytes();
        let (head, rest) = out.split_at_mut_checked(RTCP_HEADER)?;
        let (body, trailer) = rest.split_at_mut_checked(payload.len())?;
        head.copy_from_slice(header);
        match self {
            Cipher::Gcm { key, salt } => {
                let (tag, index_word) = trailer.split_at_mut_checked(GCM_TAG)?;
                let aad = Aad::from(rtcp_aad(header, word)?);
                key.seal_out_of_place_scatter(rtcp_nonce(salt, ssrc, index), aad, payload, body, &[], tag).ok()?;
                index_word.copy_from_slice(&word);
            }
            Cipher::Cm(keys) => {
                let CounterMode { key, salt, auth } = &**keys;
                let (index_word, tag) = trailer.split_at_mut_checked(INDEX_WORD)?;
                body.copy_from_slice(payload);
                keystream(key, rtcp_counter(salt, ssrc, index), body)?;
                index_word.copy_from_slice(&word);
                let full = cm_tag(auth, &[header, body, &word]);
                tag.copy_from_slice(full.as_ref().get(..CM_TAG)?);
            }
        }
        Some(())
    }

    /// The E bit and the index of a sealed RTCP packet, not yet authenticated.
    pub(super) fn rtcp_index_word(&self, packet: &[u8]) -> Option<u32> {
        let from_end = match self {
            Cipher::Gcm { .. } => INDEX_WORD,
            Cipher::Cm(_) => INDEX_WORD + CM_TAG,
        };
        let start = packet.len().checked_sub(from_end)?;
        be32(packet.get(start..start + INDEX_WORD)?)
    }

    /// Opens `packet` into `out`, which is shorter by the tag and the index. `None`: not genuine.
    pub(super) fn open_rtcp(&self, ssrc: u32, word: u32, packet: &[u8], out: &mut [u8]) -> Option<()> {
        let (sealed, trailer) = packet.split_at_checked(out.len())?;
        let (header, payload) = sealed.split_at_checked(RTCP_HEADER)?;
        let index = word & !ENCRYPTED;
        let (head, body) = out.split_at_mut_checked(RTCP_HEADER)?;
        match self {
            Cipher::Gcm { key, salt } => {
                let tag = trailer.get(..GCM_TAG)?;
                let nonce = rtcp_nonce(salt, ssrc, index);
                if word & ENCRYPTED != 0 {
                    let aad = Aad::from(rtcp_aad(header, word.to_be_bytes())?);
                    key.open_separate_gather(nonce, aad, payload, tag, body).ok()?;
                } else {
                    // All of the packet is associated data, and nothing is encrypted (RFC 7714 section 9.3).
                    let aad = [sealed, &word.to_be_bytes()].concat();
                    key.open_separate_gather(nonce, Aad::from(aad), &[], tag, &mut []).ok()?;
                    body.copy_from_slice(payload);
                }
            }
            Cipher::Cm(keys) => {
                let CounterMode { key, salt, auth } = &**keys;
                let full = cm_tag(auth, &[sealed, &word.to_be_bytes()]);
                verify_slices_are_equal(full.as_ref().get(..CM_TAG)?, trailer.get(INDEX_WORD..)?).ok()?;
                body.copy_from_slice(payload);
                if word & ENCRYPTED != 0 {
                    keystream(key, rtcp_counter(salt, ssrc, index), body)?;
                }
            }
        }
        head.copy_from_slice(header);
        Some(())
    }
}

/// RFC 7714 section 8.1: two zero bytes, SSRC, rollover counter, sequence number; exclusive-or the salt.
fn rtp_nonce(salt: &[u8; 12], ssrc: u32, SeqNo(seq): SeqNo) -> Nonce {
    // The rollover counter and the sequence number, side by side, are the low 48 bits of the extended number.
    let block = u128::from(ssrc) << 48 | u128::from(seq & 0xffff_ffff_ffff);
    nonce(salt, block)
}

/// RFC 7714 section 9.1: two zero bytes, SSRC, two zero bytes, SRTCP index; exclusive-or the salt.
fn rtcp_nonce(salt: &[u8; 12], ssrc: u32, index: u32) -> Nonce {
    nonce(salt, u128::from(ssrc) << 48 | u128::from(index))
}

fn nonce(salt: &[u8; 12], block: u128) -> Nonce {
    let mut bytes = [0; 12];
    bytes.copy_from_slice(&block.to_be_bytes()[4..]);
    bytes.iter_mut().zip(salt).for_each(|(b, s)| *b ^= s);
    Nonce::assume_unique_for_key(bytes)
}

/// RFC 7714 section 9.2: the first eight bytes and the index word.
fn rtcp_aad(header: &[u8], word: [u8; 4]) -> Option<[u8; 12]> {
    let mut aad = [0; 12];
    aad[..RTCP_HEADER].copy_from_slice(header.get(..RTCP_HEADER)?);
    aad[RTCP_HEADER..].copy_from_slice(&word);
    Some(aad)
}

/// RFC 3711 section 4.1.1: salt * 2^16 XOR SSRC * 2^64 XOR index * 2^16.
fn rtp_counter(salt: &[u8; 14], ssrc: u32, SeqNo(seq): SeqNo) -> [u8; 16] {
    counter(salt, ssrc, seq & 0xffff_ffff_ffff)
}

fn rtcp_counter(salt: &[u8; 14], ssrc: u32, index: u32) -> [u8; 16] {
    counter(salt, ssrc, index.into())
}

fn counter(salt: &[u8; 14], ssrc: u32, index: u64) -> [u8; 16] {
    let mut block = (u128::from(ssrc) << 64 | u128::from(index) << 16).to_be_bytes();
    block.iter_mut().zip(salt).for_each(|(b, s)| *b ^= s);
    block
}

/// The rollover counter, which AES-CM authenticates although it is not sent (RFC 3711 section 4.2).
fn rollover(SeqNo(seq): SeqNo) -> [u8; 4] {
    ((seq >> 16) as u32).to_be_bytes()
}

fn cm_tag(auth: &hmac::Key, parts: &[&[u8]]) -> hmac::Tag {
    let mut context = hmac::Context::with_key(auth);
    parts.iter().for_each(|part| context.update(part));
    context.sign()
}

fn counter_mode(key: &[u8]) -> Option<EncryptingKey> {
    let algorithm = if key.len() == 32 { &cipher::AES_256 } else { &cipher::AES_128 };
    EncryptingKey::ctr(UnboundCipherKey::new(algorithm, key).ok()?).ok()
}

/// Exclusive-ors the AES counter mode keystream that starts at `counter` over `data`.
fn keystream(key: &EncryptingKey, counter: [u8; 16], data: &mut [u8]) -> Option<()> {
    key.less_safe_encrypt(data, EncryptionContext::Iv128(counter.into())).ok().map(|_| ())
}

/// The key derivation function of RFC 3711 section 4.3.3; a 96-bit salt is padded on the right (RFC 7714 section 11).
fn expand(prf: &EncryptingKey, master_salt: &[u8], label: u8, out: &mut [u8]) -> Option<()> {
    let mut counter = [0; 16];
    counter.get_mut(..master_salt.len())?.copy_from_slice(master_salt);
    counter[7] ^= label;
    out.fill(0);
    keystream(prf, counter, out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(s: &str) -> Vec<u8> {
        let digits: Vec<u8> = s.bytes().filter(u8::is_ascii_hexdigit).collect();
        digits.chunks(2).map(|c| u8::from_str_radix(std::str::from_utf8(c).unwrap(), 16).unwrap()).collect()
    }

    /// RFC 3711 appendix B.3.
    #[test]
    fn keys_are_derived_as_in_the_rfc() {
        let prf = counter_mode(&hex("E1F97A0D3E018BE0D64FA32C06DE4139")).unwrap();
        let salt = hex("0EC675AD498AFEEBB6960B3AABE6");
        for (label, expected) in [
            (0, "C61E7A93744F39EE10734AFE3FF7A087"),
            (2, "30CBBC08863D8C85D49DB34A9AE1"),
            (1, "CEBE321F6FF7716B6FD4AB49AF256A156D38BAA4"),
        ] {
            let expected = hex(expected);
            let mut out = vec![0; expected.len()];
            expand(&prf, &salt, label, &mut out).unwrap();
            assert_eq!(out, expected, "label {label}");
        }
    }

    /// RFC 7714 section 16.1.1.
    #[test]
    fn gcm_seals_as_in_the_rfc() {
        let key = hex("000102030405060708090a0b0c0d0e0f");
        let key = LessSafeKey::new(aead::UnboundKey::new(&aead::AES_128_GCM, &key).unwrap());
        let cipher = Cipher::Gcm { key, salt: hex("517569642070726f2071756f").try_into().unwrap() };
        let header = hex("8040f17b 8041f8d3 5501a0b2");
        let payload = b"Gallia est omnis divisa in partes tres";
        let mut body = vec![0; payload.len() + GCM_TAG];
        cipher.seal_rtp(0x5501_a0b2, SeqNo(0xf17b), &header, payload, &mut body).unwrap();
        let expected = "f24de3a3 fb34de6c acba861c 9d7e4bca be633bd5 0d294e6f 42a5f47a 51c7d19b 36de3adf 8833 \
                        899d7f27 beb16a91 52cf765e e4390cce";
        assert_eq!(body, hex(expected));
    }
}
