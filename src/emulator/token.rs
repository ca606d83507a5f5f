//! Access tokens: who gets one, and which ones are good.
//!
//! A token carries its own expiry and a tag that only the holder of the key can make. The key lies in
//! the data directory, so a token outlives the process that gave it out, as it does at the service.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use secrecy::{ExposeSecret as _, SecretString};

use super::store::sync_directory;

const KEY_BYTES: usize = 32;
const EXPIRY_BYTES: usize = 8;
const NONCE_BYTES: usize = 16;
const BODY_BYTES: usize = EXPIRY_BYTES + NONCE_BYTES;

/// The one client that gets tokens.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// The client id.
    pub client_id: String,
    /// The client secret.
    pub client_secret: SecretString,
}

/// Gives tokens out and checks them.
pub(super) struct Tokens {
    key: hmac::Key,
    credentials: Option<Credentials>,
    lifetime: Duration,
}

impl Tokens {
    /// Takes the key from the file or makes a new one.
    pub(super) fn open(
        key_file: &Path,
        credentials: Option<Credentials>,
        lifetime: Duration,
    ) -> io::Result<Tokens> {
        let bytes = match fs::read(key_file) {
            Ok(bytes) if bytes.len() == KEY_BYTES => bytes,
            Ok(_) => return Err(io::Error::new(io::ErrorKind::InvalidData, "not a token key")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => new_key(key_file)?,
            Err(error) => return Err(error),
        };
        Ok(Tokens { key: hmac::Key::new(hmac::HMAC_SHA256, &bytes), credentials, lifetime })
    }

    /// How long a new token is good for.
    pub(super) fn lifetime(&self) -> Duration {
        self.lifetime
    }

    /// Whether this client may have a token. Without credentials of ours every client may.
    pub(super) fn knows(&self, client_id: &str, client_secret: &str) -> bool {
        self.credentials.as_ref().is_none_or(|ours| {
            ours.client_id == client_id && ours.client_secret.expose_secret() == client_secret
        })
    }

    /// A new token.
    pub(super) fn issue(&self) -> String {
        let expiry = now() + self.lifetime;
        let mut token = u64::try_from(expiry.as_millis()).unwrap_or(u64::MAX).to_be_bytes().to_vec();
        token.extend_from_slice(&rand::random::<[u8; NONCE_BYTES]>());
        let tag = hmac::sign(&self.key, &token);
        token.extend_from_slice(tag.as_ref());
        URL_SAFE_NO_PAD.encode(token)
    }

    /// Whether an `authorization` header carries a token of ours that has not expired.
    pub(super) fn accepts(&self, authorization: Option<&str>) -> bool {
        let token = authorization.and_then(|header| header.strip_prefix("Bearer ")).unwrap_or_default();
        let Ok(token) = URL_SAFE_NO_PAD.decode(token.trim()) else {
            return false;
        };
        let Some((body, tag)) = token.split_at_checked(BODY_BYTES) else {
            return false;
        };
        let Some(expiry) = body.first_chunk::<EXPIRY_BYTES>() else {
            return false;
        };
        hmac::verify(&self.key, body, tag).is_ok()
            && now() < Duration::from_millis(u64::from_be_bytes(*expiry))
    }
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn new_key(path: &Path) -> io::Result<Vec<u8>> {
    let key = rand::random::<[u8; KEY_BYTES]>();
    let unfinished = path.with_extension("new");
    let mut file: File =
        File::options().write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
    file.write_all(&key)?;
    file.sync_all()?;
    fs::rename(&unfinished, path)?;
    path.parent().map_or(Ok(()), sync_directory)?;
    Ok(key.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bearer(tokens: &Tokens) -> String {
        format!("Bearer {}", tokens.issue())
    }

    #[test]
    fn a_token_outlives_the_process_that_gave_it_out() {
        let dir = tempfile::tempdir().unwrap();
        let open = || Tokens::open(&dir.path().join("key"), None, Duration::from_secs(60)).unwrap();
        let token = bearer(&open());
        assert!(open().accepts(Some(&token)));
    }

    #[test]
    fn expired_foreign_and_mangled_tokens_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let tokens = Tokens::open(&dir.path().join("key"), None, Duration::from_secs(60)).unwrap();
        let good = bearer(&tokens);
        let expired = Tokens { lifetime: Duration::ZERO, key: tokens.key.clone(), credentials: None };
        let foreign = Tokens::open(&dir.path().join("other"), None, Duration::from_secs(60)).unwrap();
        let mut later = URL_SAFE_NO_PAD.decode(good.strip_prefix("Bearer ").unwrap()).unwrap();
        later[0] ^= 1;
        for bad in [
            bearer(&expired),
            bearer(&foreign),
            format!("Bearer {}", URL_SAFE_NO_PAD.encode(later)),
            good[..good.len() - 2].to_owned(),
            good.replace("Bearer", "Basic"),
            "Bearer ".to_owned(),
            String::new(),
        ] {
            assert!(!tokens.accepts(Some(&bad)), "{bad}");
        }
        assert!(!tokens.accepts(None));
        assert!(tokens.accepts(Some(&good)));
    }
}
