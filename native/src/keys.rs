//! The session keys of SRTP or SRTCP, and what is done with them: seal in place, open in place.
//!
//! Sources: RFC 3711 § 4.1.1 (counter mode), § 4.2 (HMAC-SHA1), § 4.3 (key derivation); RFC 7714 § 8, 9, 11 (GCM).

use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::cipher::{AES_128, AES_256, EncryptingKey, EncryptionContext, UnboundCipherKey};
use aws_lc_rs::hmac;
use aws_lc_rs::iv::FixedLength;

pub const GCM_TAG_BYTES: usize = 16;
pub const SHA1_TAG_BYTES: usize = 10; // of 20, by the profile's name: 80 bits
/// The E bit in front of an SRTCP index.
pub const ENCRYPTED: u32 = 1 << 31;

pub struct Profile {
    pub name: &'static str,
    key_bytes: usize,
    salt_bytes: usize,
}

const PROFILES: [Profile; 3] = [
    Profile { name: "AEAD_AES_128_GCM", key_bytes: 16, salt_bytes: 12 },
    Profile { name: "AEAD_AES_256_GCM", key_bytes: 32, salt_bytes: 12 },
    Profile { name: "AES128_CM_SHA1_80", key_bytes: 16, salt_bytes: 14 },
];

impl Profile {
    pub fn named(name: &str) -> Option<&'static Self> {
        PROFILES.iter().find(|profile| profile.name == name)
    }

    /// Of the master key and the master salt together.
    pub fn bytes(&self) -> usize {
        self.key_bytes + self.salt_bytes
    }
}

/// The keys of one direction, for RTP or for RTCP.
pub enum Keys {
    Gcm { key: LessSafeKey, salt: u128 },
    Cm(Box<CounterMode>), // nearly two kilobytes, where GCM takes forty bytes
}

pub struct CounterMode {
    key: EncryptingKey,
    salt: u128, // shifted left by the 16 bits that count blocks
    auth: hmac::Key,
}

impl Keys {
    /// Those of `master`, the master key followed by the master salt; its length was checked.
    pub fn derive(master: &[u8], profile: &Profile, rtcp: bool) -> Self {
        let (key, salt) = master.split_at(profile.key_bytes);
        let first = if rtcp { 3 } else { 0 }; // RFC 3711 § 4.3.2
        let session_key = derive(key, salt, first, profile.key_bytes);
        let session_salt = big_endian(&derive(key, salt, first + 2, profile.salt_bytes));
        if profile.salt_bytes == 12 {
            let algorithm = if profile.key_bytes == 16 { &AES_128_GCM } else { &AES_256_GCM };
            let key = UnboundKey::new(algorithm, &session_key).expect("the key has the algorithm's length");
            return Self::Gcm { key: LessSafeKey::new(key), salt: session_salt };
        }
        Self::Cm(Box::new(CounterMode {
            key: counter_key(&session_key),
            salt: session_salt << 16,
            auth: hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &derive(key, salt, first + 1, 20)),
        }))
    }

    pub fn tag_bytes(&self) -> usize {
        match self {
            Self::Gcm { .. } => GCM_TAG_BYTES,
            Self::Cm(_) => SHA1_TAG_BYTES,
        }
    }

    /// Encrypt RTP from `start` of `buffer` to its end, but its first `clear` bytes, and append the tag.
    pub fn seal_rtp(&self, buffer: &mut Vec<u8>, start: usize, clear: usize, ssrc: u32, index: u64) {
        let (header, payload) = buffer[start..].split_at_mut(clear);
        match self {
            Self::Gcm { key, salt } => {
                let tag =
                    key.seal_in_place_separate_tag(nonce(*salt, ssrc, index), Aad::from(&*header), payload);
                buffer.extend_from_slice(tag.expect("packets are short").as_ref());
            }
            Self::Cm(keys) => {
                counter_mode(&keys.key, counter(keys.salt, ssrc, index), payload);
                let tag = sha1(&keys.auth, &[&buffer[start..], &roc(index)]);
                buffer.extend_from_slice(&tag.as_ref()[..SHA1_TAG_BYTES]);
            }
        }
    }

    /// Decrypt SRTP, of which the first `clear` bytes are not encrypted; None where the tag does not fit.
    pub fn open_rtp(&self, packet: &mut Vec<u8>, clear: usize, ssrc: u32, index: u64) -> Option<()> {
        let size = packet.len() - self.tag_bytes();
        match self {
            Self::Gcm { key, salt } => {
                let (header, cipher) = packet.split_at_mut(clear);
                key.open_in_place(nonce(*salt, ssrc, index), Aad::from(&*header), cipher).ok()?;
                packet.truncate(size);
            }
            Self::Cm(keys) => {
                let tag = sha1(&keys.auth, &[&packet[..size], &roc(index)]);
                same(&tag.as_ref()[..SHA1_TAG_BYTES], &packet[size..])?;
                packet.truncate(size);
                counter_mode(&keys.key, counter(keys.salt, ssrc, index), &mut packet[clear..]);
            }
        }
        Some(())
    }

    /// Encrypt RTCP but its first 8 bytes; append tag and index in the profile's order.
    pub fn seal_rtcp(&self, packet: &mut Vec<u8>, ssrc: u32, index: u32) {
        let word = (ENCRYPTED | index).to_be_bytes();
        let (header, rest) = packet.split_at_mut(8);
        match self {
            Self::Gcm { key, salt } => {
                let aad = [&*header, &word].concat();
                let tag =
                    key.seal_in_place_separate_tag(nonce(*salt, ssrc, index.into()), Aad::from(aad), rest);
                packet.extend_from_slice(tag.expect("packets are short").as_ref());
                packet.extend_from_slice(&word);
            }
            Self::Cm(keys) => {
                counter_mode(&keys.key, counter(keys.salt, ssrc, index.into()), rest);
                packet.extend_from_slice(&word);
                let tag = sha1(&keys.auth, &[packet]);
                packet.extend_from_slice(&tag.as_ref()[..SHA1_TAG_BYTES]);
            }
        }
    }

    /// Where the index stands in SRTCP of `size` bytes; it is behind the tag with GCM, before it else.
    pub fn index_at(&self, size: usize) -> usize {
        match self {
            Self::Gcm { .. } => size - 4,
            Self::Cm(_) => size - 4 - SHA1_TAG_BYTES,
        }
    }

    /// Decrypt SRTCP whose index word is `word`; None where the tag does not fit.
    pub fn open_rtcp(&self, packet: &mut Vec<u8>, ssrc: u32, word: u32) -> Option<()> {
        let index = u64::from(word & !ENCRYPTED);
        let size = packet.len() - 4 - self.tag_bytes();
        match self {
            Self::Gcm { key, salt } => {
                let (body, behind) = packet.split_at_mut(if word & ENCRYPTED != 0 { 8 } else { size });
                let aad = [&*body, &word.to_be_bytes()].concat();
                let end = behind.len() - 4;
                key.open_in_place(nonce(*salt, ssrc, index), Aad::from(aad), &mut behind[..end]).ok()?;
                packet.truncate(size);
            }
            Self::Cm(keys) => {
                let tag = sha1(&keys.auth, &[&packet[..size + 4]]);
                same(&tag.as_ref()[..SHA1_TAG_BYTES], &packet[size + 4..])?;
                packet.truncate(size);
                counter_mode(&keys.key, counter(keys.salt, ssrc, index), &mut packet[8..]);
            }
        }
        Some(())
    }
}

/// The key derivation of RFC 3711 § 4.3.1 with a rate of 0; a salt of 12 bytes counts as followed by zeros.
fn derive(key: &[u8], salt: &[u8], label: u8, size: usize) -> Vec<u8> {
    let mut padded = [0; 14];
    padded[..salt.len()].copy_from_slice(salt);
    let start = (big_endian(&padded) ^ u128::from(label) << 48) << 16;
    let mut derived = vec![0; size];
    counter_mode(&counter_key(key), start, &mut derived);
    derived
}

fn big_endian(bytes: &[u8]) -> u128 {
    bytes.iter().fold(0, |value, byte| value << 8 | u128::from(*byte))
}

fn counter_key(key: &[u8]) -> EncryptingKey {
    let algorithm = if key.len() == 16 { &AES_128 } else { &AES_256 };
    let key = UnboundCipherKey::new(algorithm, key).expect("the key has the algorithm's length");
    EncryptingKey::ctr(key).expect("AES has a counter mode")
}

fn counter(salt: u128, ssrc: u32, index: u64) -> u128 {
    salt ^ u128::from(ssrc) << 64 ^ u128::from(index) << 16
}

fn counter_mode(key: &EncryptingKey, start: u128, data: &mut [u8]) {
    let context = EncryptionContext::Iv128(FixedLength::from(start.to_be_bytes()));
    key.less_safe_encrypt(data, context).expect("a counter of 16 bytes fits AES");
}

/// Unique for a key as long as no index comes twice with one SSRC: the callers' windows see to that.
fn nonce(salt: u128, ssrc: u32, index: u64) -> Nonce {
    let value = salt ^ u128::from(ssrc) << 48 ^ u128::from(index);
    let bytes = value.to_be_bytes();
    Nonce::assume_unique_for_key(bytes[4..].try_into().expect("16 less 4 are 12"))
}

fn roc(index: u64) -> [u8; 4] {
    ((index >> 16) as u32).to_be_bytes()
}

fn sha1(key: &hmac::Key, parts: &[&[u8]]) -> hmac::Tag {
    let mut context = hmac::Context::with_key(key);
    parts.iter().for_each(|part| context.update(part));
    context.sign()
}

/// In constant time.
fn same(one: &[u8], other: &[u8]) -> Option<()> {
    aws_lc_rs::constant_time::verify_slices_are_equal(one, other).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len() / 2).map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap()).collect()
    }

    #[test]
    fn key_derivation_of_rfc_3711_b_3() {
        let (key, salt) = (hex("E1F97A0D3E018BE0D64FA32C06DE4139"), hex("0EC675AD498AFEEBB6960B3AABE6"));
        assert_eq!(derive(&key, &salt, 0, 16), hex("C61E7A93744F39EE10734AFE3FF7A087"));
        assert_eq!(derive(&key, &salt, 2, 14), hex("30CBBC08863D8C85D49DB34A9AE1"));
        assert_eq!(derive(&key, &salt, 1, 20), hex("CEBE321F6FF7716B6FD4AB49AF256A156D38BAA4"));
    }

    #[test]
    fn srtp_of_rfc_7714_16_1_1() {
        let key = UnboundKey::new(&AES_128_GCM, &(0..16).collect::<Vec<u8>>()).unwrap();
        let keys =
            Keys::Gcm { key: LessSafeKey::new(key), salt: big_endian(&hex("517569642070726f2071756f")) };
        let plain = hex(
            "8040f17b8041f8d35501a0b247616c6c696120657374206f6d6e69732064697669736120696e207061727465732074726573",
        );
        let mut packet = plain.clone();
        keys.seal_rtp(&mut packet, 0, 12, 0x5501a0b2, 0xf17b);
        assert_eq!(
            packet[12..],
            hex(
                "f24de3a3fb34de6cacba861c9d7e4bcabe633bd50d294e6f42a5f47a51c7d19b36de3adf8833899d7f27beb16a9152cf765ee4390cce"
            )
        );
        assert!(keys.open_rtp(&mut packet, 12, 0x5501a0b2, 0xf17b).is_some());
        assert_eq!(packet, plain);
    }
}
