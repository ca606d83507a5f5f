//! Access tokens: who gets one, and which ones are good.
//!
//! A token carries its own expiry and a tag that only the holder of the key can make. The key lies in
//! the data directory, so a token outlives the process that gave it out, as it does at the service.

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use secrecy::{ExposeSecret as _, SecretString};

use crate::platform::files::{create_private, sync_directory};

const KEY_BYTES: usize = 32;
const EXPIRY_BYTES: usize = 8;
const NONCE_BYTES: usize = 16;
const BODY_BYTES: usize = EXPIRY_BYTES + NONCE_BYTES + 1;
/// The last part of the resource that a token for writing names.
const DIRECT_WRITE: &str = "/zerobusDirectWriteApi";

/// What a token is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Every interface of the workspace: scope `all-apis`, and no resource that narrows it.
    AllApis = 1,
    /// Streams only.
    DirectWrite = 2,
    /// Something that is not here.
    Other = 3,
}

impl Purpose {
    /// What a client gets that asks for this scope and resource. Without a scope it gets `all-apis`.
    pub(super) fn of(scope: Option<&str>, resource: Option<&str>) -> Purpose {
        match resource {
            Some(resource) if resource.ends_with(DIRECT_WRITE) => Purpose::DirectWrite,
            None if scope.is_none_or(|scope| scope.split(' ').any(|it| it == "all-apis")) => Purpose::AllApis,
            _ => Purpose::Other,
        }
    }
}

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
    pub(super) fn issue(&self, purpose: Purpose, lifetime: Duration) -> String {
        let expiry = now() + lifetime;
        let mut token = u64::try_from(expiry.as_millis()).unwrap_or(u64::MAX).to_be_bytes().to_vec();
        token.extend_from_slice(&rand::random::<[u8; NONCE_BYTES]>());
        token.push(purpose as u8);
        let tag = hmac::sign(&self.key, &token);
        token.extend_from_slice(tag.as_ref());
        URL_SAFE_NO_PAD.encode(token)
    }

    /// What the token in an `authorization` header is good for; none if it is not ours or has expired.
    pub(super) fn purpose(&self, authorization: Option<&str>) -> Option<Purpose> {
        let token = URL_SAFE_NO_PAD.decode(authorization?.strip_prefix("Bearer ")?.trim()).ok()?;
        let (body, tag) = token.split_at_checked(BODY_BYTES)?;
        hmac::verify(&self.key, body, tag).ok()?;
        let expiry = Duration::from_millis(u64::from_be_bytes(*body.first_chunk::<EXPIRY_BYTES>()?));
        let known = [Purpose::AllApis, Purpose::DirectWrite, Purpose::Other];
        let purpose = known.into_iter().find(|purpose| body.last() == Some(&(*purpose as u8)));
        purpose.filter(|_| now() < expiry)
    }

    /// Whether an `authorization` header carries a token of ours that has not expired.
    pub(super) fn accepts(&self, authorization: Option<&str>) -> bool {
        self.purpose(authorization).is_some()
    }
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn new_key(path: &Path) -> io::Result<Vec<u8>> {
    let key = rand::random::<[u8; KEY_BYTES]>();
    let unfinished = path.with_extension("new");
    let mut file = create_private(&unfinished)?;
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
        format!("Bearer {}", tokens.issue(Purpose::AllApis, tokens.lifetime))
    }

    #[test]
    fn a_token_outlives_the_process_that_gave_it_out() {
        let dir = tempfile::tempdir().unwrap();
        let open = || Tokens::open(&dir.path().join("key"), None, Duration::from_secs(60)).unwrap();
        let token = bearer(&open());
        assert!(open().accepts(Some(&token)));
    }

    #[test]
    fn a_token_is_good_for_what_it_was_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let tokens = Tokens::open(&dir.path().join("key"), None, Duration::from_secs(60)).unwrap();
        let write = Some("api://databricks/workspaces/1/zerobusDirectWriteApi");
        for (scope, resource, purpose) in [
            (None, None, Purpose::AllApis),
            (Some("all-apis offline_access"), None, Purpose::AllApis),
            (Some("sql"), None, Purpose::Other),
            (Some("all-apis"), write, Purpose::DirectWrite),
            (Some("all-apis"), Some("api://elsewhere"), Purpose::Other),
        ] {
            assert_eq!(Purpose::of(scope, resource), purpose);
            let token = format!("Bearer {}", tokens.issue(purpose, tokens.lifetime));
            assert_eq!(tokens.purpose(Some(&token)), Some(purpose));
        }
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
