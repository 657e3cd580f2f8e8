//! Tokens, one-time login links and sessions: made, found, ended.
//!
//! A secret is `hw_ID_SECRET`: the id finds the row, the SHA-256 of the secret part is compared in constant time. The
//! secret has 256 random bits, so a slow hash would add nothing.

use std::time::{Duration, SystemTime};

use model::{Timestamp, hex};
use sha2::{Digest, Sha256};
use store::{Change, Credential, CredentialKind, Store};
use subtle::ConstantTimeEq;

use super::Role;

/// How long a login link is good.
const LOGIN_LIFETIME: Duration = Duration::from_secs(15 * 60);

/// How long a session lasts.
const SESSION_LIFETIME: Duration = Duration::from_secs(12 * 3600);

const PREFIX: &str = "hw";
const ID_BYTES: usize = 8;
const SECRET_BYTES: usize = 32;

/// Longest name of a token, in bytes.
const NAME_BYTES_MAX: usize = 64;

/// A new secret. This is the only time that it is seen.
#[derive(Clone, PartialEq, Eq)]
pub struct NewToken {
    /// What the client sends.
    pub secret: String,
}

impl std::fmt::Debug for NewToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("NewToken(..)")
    }
}

/// Whose a valid credential is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Name of the token.
    pub name: String,
    /// Its role.
    pub role: Role,
    /// The credential's id.
    id: String,
    /// The id of the token: the credential's own, or that of the token it stands for.
    token: String,
}

/// What is known of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenInfo {
    /// Public part, also usable for [`revoke_token`].
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its role.
    pub role: Role,
    /// When it was made.
    pub created: Timestamp,
    /// When it was revoked.
    pub revoked: Option<Timestamp>,
}

/// Failure of managing tokens.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// Not a name.
    #[error("a token's name is 1 to 64 letters, digits, '.', '_', '@' and '-', not {0:?}")]
    Name(String),
    /// None with this name or id is valid.
    #[error("there is no valid token {0:?}")]
    Unknown(String),
    /// The store failed, or has a token of this name.
    #[error(transparent)]
    Store(#[from] store::Error),
}

/// Makes a token. The name says in the audit log who did what.
pub fn create_token(store: &Store, name: &str, role: Role) -> Result<NewToken, TokenError> {
    let good = (1..=NAME_BYTES_MAX).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"._@-".contains(&byte));
    if !good {
        return Err(TokenError::Name(name.to_owned()));
    }
    Ok(add(store, CredentialKind::Token, name, role, None, None)?)
}

/// All tokens, revoked ones too, the oldest first.
pub fn list_tokens(store: &Store) -> Result<Vec<TokenInfo>, TokenError> {
    let tokens = store.credentials(CredentialKind::Token)?;
    Ok(tokens
        .into_iter()
        .filter_map(|token| {
            Some(TokenInfo {
                role: token.role.parse().ok()?,
                id: token.id,
                name: token.name,
                created: token.created,
                revoked: token.ended,
            })
        })
        .collect())
}

/// Revokes the valid token of this name or id: the next call with it fails, and so does the next page of a session that it
/// opened.
pub fn revoke_token(store: &Store, name_or_id: &str) -> Result<(), TokenError> {
    let live = list_tokens(store)?.into_iter().find(|token| {
        token.revoked.is_none() && (token.name == name_or_id || token.id == name_or_id)
    });
    let unknown = || TokenError::Unknown(name_or_id.to_owned());
    let token = live.ok_or_else(unknown)?;
    if store.revoke_token(&token.id, by_hand())? {
        Ok(())
    } else {
        Err(unknown())
    }
}

/// Tokens are made and revoked by whoever has the state directory.
fn by_hand() -> Change<'static> {
    Change {
        who: "command line",
        now: now(),
    }
}

/// Makes the admin's token, `first-start`, when the store has never had a token. The secret of a login link for it; the page
/// is `/login?code=SECRET`.
pub fn first_start(store: &Store) -> Result<Option<NewToken>, TokenError> {
    if !store.credentials(CredentialKind::Token)?.is_empty() {
        return Ok(None);
    }
    match create_token(store, "first-start", Role::Admin) {
        Ok(admin) => Ok(Some(login_link(store, &admin)?)),
        // Another process was first.
        Err(TokenError::Store(store::Error::Exists(_))) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Makes the secret of a login link that stands for a token, good once and for a quarter of an hour.
pub fn login_link(store: &Store, token: &NewToken) -> Result<NewToken, TokenError> {
    let holder = token_holder(store, &token.secret)?;
    let holder = holder.ok_or_else(|| TokenError::Unknown("of this secret".to_owned()))?;
    Ok(stand_for(
        store,
        &holder,
        CredentialKind::Login,
        LOGIN_LIFETIME,
    )?)
}

/// Whose token it is, or `None` when it is not valid (any more).
pub fn token_holder(store: &Store, secret: &str) -> Result<Option<Holder>, TokenError> {
    Ok(find(store, CredentialKind::Token, secret, now())?)
}

/// Uses up a login link. Whose it is, or `None` when it is not valid (any more).
pub fn redeem_login(store: &Store, secret: &str) -> Result<Option<Holder>, TokenError> {
    let Some(found) = find(store, CredentialKind::Login, secret, now())? else {
        return Ok(None);
    };
    let first = store.end_credential(CredentialKind::Login, &found.id, now())?;
    Ok(first.then_some(found))
}

/// Opens a session of the web page, which ends with the holder's token. The secret goes into the cookie.
pub fn open_session(store: &Store, holder: &Holder) -> Result<NewToken, TokenError> {
    Ok(stand_for(
        store,
        holder,
        CredentialKind::Session,
        SESSION_LIFETIME,
    )?)
}

fn stand_for(
    store: &Store,
    holder: &Holder,
    kind: CredentialKind,
    lifetime: Duration,
) -> Result<NewToken, store::Error> {
    let expires = now().plus_ns(nanoseconds(lifetime));
    add(
        store,
        kind,
        &holder.name,
        holder.role,
        Some(expires),
        Some(holder.token.clone()),
    )
}

/// Whose session it is, or `None` when it is not valid (any more).
pub fn session(store: &Store, secret: &str) -> Result<Option<Holder>, TokenError> {
    Ok(find(store, CredentialKind::Session, secret, now())?)
}

/// Ends a session. False when it was over already.
pub fn session_end(store: &Store, secret: &str) -> Result<bool, TokenError> {
    Ok(match session(store, secret)? {
        Some(session) => store.end_credential(CredentialKind::Session, &session.id, now())?,
        None => false,
    })
}

/// Whose credential a secret is, when it is valid.
pub(super) fn find(
    store: &Store,
    kind: CredentialKind,
    secret: &str,
    now: Timestamp,
) -> Result<Option<Holder>, store::Error> {
    let Some((id, secret)) = parts(secret) else {
        return Ok(None);
    };
    let Some(credential) = store.credential(kind, id)? else {
        return Ok(None);
    };
    let same = bool::from(hash(secret).ct_eq(&credential.hash));
    let live = credential.ended.is_none() && credential.expires.is_none_or(|end| now < end);
    Ok(match credential.role.parse() {
        Ok(role) if same && live => Some(Holder {
            name: credential.name,
            role,
            token: credential.token.unwrap_or_else(|| credential.id.clone()),
            id: credential.id,
        }),
        _ => None,
    })
}

/// Id and secret part, when the text has the form of a credential at all.
fn parts(secret: &str) -> Option<(&str, &str)> {
    let (id, secret) = secret
        .strip_prefix(PREFIX)?
        .strip_prefix('_')?
        .split_once('_')?;
    let hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
    (id.len() == 2 * ID_BYTES && secret.len() == 2 * SECRET_BYTES && hex(id) && hex(secret))
        .then_some((id, secret))
}

fn add(
    store: &Store,
    kind: CredentialKind,
    name: &str,
    role: Role,
    expires: Option<Timestamp>,
    token: Option<String>,
) -> Result<NewToken, store::Error> {
    let id = random_hex::<ID_BYTES>();
    let secret = random_hex::<SECRET_BYTES>();
    let credential = Credential {
        kind,
        name: name.to_owned(),
        role: role.name().to_owned(),
        hash: hash(&secret),
        created: now(),
        expires,
        ended: None,
        token,
        id: id.clone(),
    };
    store.add_credential(&credential, by_hand())?;
    Ok(NewToken {
        secret: format!("{PREFIX}_{id}_{secret}"),
    })
}

fn hash(secret: &str) -> [u8; 32] {
    Sha256::digest(secret).into()
}

/// `BYTES` random bytes in hexadecimal.
pub(crate) fn random_hex<const BYTES: usize>() -> String {
    let mut bytes = [0; BYTES];
    getrandom::fill(&mut bytes)
        .expect("the kernel's random source is there once the machine is up");
    hex::encode(&bytes)
}

fn now() -> Timestamp {
    SystemTime::now().into()
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
