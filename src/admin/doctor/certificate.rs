//! What a certificate says of itself: whose it is, who has signed it, and until when it is good. As far as people want
//! to know that; whether it is trusted is decided by others.

/// What stands in a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Certificate {
    pub(super) subject: String,
    pub(super) issuer: String,
    pub(super) not_after_unix_secs: i64,
}

const SEQUENCE: u8 = 0x30;
const EXPLICIT_VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const BMP_STRING: u8 = 0x1e;
/// The names in a name that people know: common name, organization.
const COMMON_NAME: &[u8] = &[0x06, 0x03, 0x55, 0x04, 0x03];
const ORGANIZATION: &[u8] = &[0x06, 0x03, 0x55, 0x04, 0x0a];

/// One element of DER: its tag and what is in it.
type Element<'d> = (u8, &'d [u8]);

/// Takes the first element off; none if these bytes are no DER.
fn take<'d>(der: &mut &'d [u8]) -> Option<Element<'d>> {
    let (tag, rest) = der.split_first()?;
    let (first, mut rest) = rest.split_first()?;
    let length = if *first < 0x80 {
        usize::from(*first)
    } else {
        let (bytes, after) = rest.split_at_checked(usize::from(first & 0x7f))?;
        rest = after;
        if bytes.len() > 4 {
            return None;
        }
        bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte))
    };
    let (body, after) = rest.split_at_checked(length)?;
    *der = after;
    Some((*tag, body))
}

fn take_tagged<'d>(der: &mut &'d [u8], tag: u8) -> Option<&'d [u8]> {
    take(der).filter(|(found, _)| *found == tag).map(|(_, body)| body)
}

impl Certificate {
    /// Reads DER; none if these bytes are no certificate.
    pub(super) fn read(mut der: &[u8]) -> Option<Certificate> {
        let mut certificate = take_tagged(&mut der, SEQUENCE)?;
        let mut signed = take_tagged(&mut certificate, SEQUENCE)?;
        if signed.first() == Some(&EXPLICIT_VERSION) {
            take(&mut signed)?;
        }
        let (_serial, _algorithm) = (take(&mut signed)?, take(&mut signed)?);
        let issuer = take_tagged(&mut signed, SEQUENCE)?;
        let mut validity = take_tagged(&mut signed, SEQUENCE)?;
        let subject = take_tagged(&mut signed, SEQUENCE)?;
        let (_not_before, not_after) = (take(&mut validity)?, take(&mut validity)?);
        Some(Certificate {
            subject: name(subject),
            issuer: name(issuer),
            not_after_unix_secs: unix_secs(not_after)?,
        })
    }
}

/// A name as people know it; one without any such part is unnamed.
fn name(mut der: &[u8]) -> String {
    let (mut common, mut organization) = (None, None);
    while let Some((_, mut set)) = take(&mut der) {
        while let Some((_, mut part)) = take(&mut set) {
            let place = if part.starts_with(COMMON_NAME) {
                &mut common
            } else if part.starts_with(ORGANIZATION) {
                &mut organization
            } else {
                continue;
            };
            take(&mut part);
            *place = take(&mut part).map(text);
        }
    }
    match (common, organization) {
        (Some(common), Some(organization)) => format!("{common} ({organization})"),
        (Some(one), None) | (None, Some(one)) => one,
        (None, None) => "unnamed".to_owned(),
    }
}

fn text((tag, bytes): Element<'_>) -> String {
    match tag {
        BMP_STRING => {
            let units: Vec<u16> =
                bytes.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect();
            String::from_utf16_lossy(&units)
        }
        _ => String::from_utf8_lossy(bytes).into_owned(),
    }
}

/// `YYMMDDhhmmssZ` or `YYYYMMDDhhmmssZ`.
fn unix_secs((tag, bytes): Element<'_>) -> Option<i64> {
    let text = std::str::from_utf8(bytes).ok()?.strip_suffix('Z')?;
    let number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?;
    let (year, rest): (i64, &str) = match tag {
        UTC_TIME => {
            let year: i64 = number(text.get(..2)?)?;
            (if year < 50 { 2000 + year } else { 1900 + year }, text.get(2..)?)
        }
        GENERALIZED_TIME => (number(text.get(..4)?)?, text.get(4..)?),
        _ => return None,
    };
    let mut parts = [0; 5];
    for (at, part) in parts.iter_mut().enumerate() {
        *part = number(rest.get(2 * at..2 * at + 2)?)?;
    }
    let [month, day, hour, minute, second] = parts;
    super::time::unix_secs(year, month, day, hour, minute, second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(feature = "emulator")]
    #[test]
    fn names_and_the_end_of_a_certificate_are_read() {
        let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::OrganizationName, "Örtliche Werke");
        params.distinguished_name.push(rcgen::DnType::CommonName, "a service");
        for (year, month, day, expected) in [(2031, 2, 28, 1_930_003_200), (2100, 1, 1, 4_102_444_800_i64)] {
            params.not_after = rcgen::date_time_ymd(year, month, day);
            let key = rcgen::KeyPair::generate().unwrap();
            let made = params.self_signed(&key).unwrap();
            let read = Certificate::read(made.der()).unwrap();
            assert_eq!(read.subject, "a service (Örtliche Werke)");
            assert_eq!((read.issuer.as_str(), read.not_after_unix_secs), (read.subject.as_str(), expected));
            for end in 0..made.der().len() {
                assert_eq!(Certificate::read(&made.der()[..end]), None, "cut at {end}");
            }
        }
    }

    #[test]
    fn any_bytes_are_read_to_an_end() {
        for seed in 0..=255_u8 {
            let bytes: Vec<u8> = (0..200_u8).map(|at| at.wrapping_mul(31) ^ seed).collect();
            let _ = Certificate::read(&bytes);
        }
        assert_eq!(Certificate::read(&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff]), None);
        assert_eq!(Certificate::read(&[0x30, 0xff]), None);
    }
}
