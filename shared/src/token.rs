//! Bearer tokens as text: `mkt_`, 256 random bits, and a checksum, so that a paste that lost its end is told from a token
//! that nobody knows.
//!
//! ```text
//!  mkt_ + 43 characters (32 random bytes, base64url) + 4 characters (the first 3 bytes of the SHA-256 of what stands before)
//! ```
//!
//! Deliberately not here: who a token is, and whether it still counts; the control plane keeps that, by the hash.

use aws_lc_rs::digest;
use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::fmt;

/// What every token begins with: scanners for lost secrets know it by that.
const PREFIX: &str = "mkt_";

/// Random bytes of a token.
const RANDOM: usize = 32;

/// Characters of the random part, and of the checksum.
const BODY: usize = 43;
const CHECK: usize = 4;

/// A token. It is a secret: its `Debug` shows nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

/// SHA-256 of a token: what is stored and looked up.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TokenHash([u8; 32]);

/// A text that is no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidToken {
    /// Something else was pasted.
    #[error("this is no token: one begins with {PREFIX}; `migratekit token create` makes one")]
    Other,
    /// It begins as one does, and is not whole.
    #[error("this token is cut off or mistyped: its checksum does not fit; paste it again, whole")]
    Damaged,
}

/// The system gave no random bytes.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("no token can be made: the system gives no random bytes")]
pub struct NoRandom;

impl Token {
    /// A new one.
    ///
    /// # Errors
    /// [`NoRandom`].
    pub fn generate() -> Result<Self, NoRandom> {
        let mut bytes = [0; RANDOM];
        SystemRandom::new().fill(&mut bytes).map_err(|_| NoRandom)?;
        Ok(Self::of(&bytes))
    }

    fn of(bytes: &[u8; RANDOM]) -> Self {
        let body = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes));
        let check = checksum(&body);
        Self(body + &check)
    }

    /// As it was pasted; white space around it is not part of it.
    ///
    /// # Errors
    /// [`InvalidToken`]; it never holds the text.
    pub fn parse(text: &str) -> Result<Self, InvalidToken> {
        let text = text.trim();
        let rest = text.strip_prefix(PREFIX).ok_or(InvalidToken::Other)?;
        if !rest.is_ascii() || rest.len() != BODY + CHECK {
            return Err(InvalidToken::Damaged);
        }
        let (body, check) = text.split_at(PREFIX.len() + BODY);
        match checksum(body) == check {
            true => Ok(Self(text.to_owned())),
            false => Err(InvalidToken::Damaged),
        }
    }

    /// The text itself: for its owner, once, and for the header that carries it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// What is kept of it.
    pub fn hash(&self) -> TokenHash {
        TokenHash(sha256(self.0.as_bytes()))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}…")
    }
}

impl TokenHash {
    /// 64 hexadecimal digits.
    pub fn hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// From those; `None` for anything else.
    pub fn from_hex(text: &str) -> Option<Self> {
        if text.len() != 64 || !text.is_ascii() {
            return None;
        }
        let mut bytes = [0; 32];
        for (index, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * index..2 * index + 2], 16).ok()?;
        }
        Some(Self(bytes))
    }
}

/// Enough to find a token in the database, too little to be of use to who reads a log.
impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{:02x}{:02x}…", self.0[0], self.0[1])
    }
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let digest = digest::digest(&digest::SHA256, bytes);
    digest.as_ref().try_into().expect("SHA-256 has 32 bytes")
}

fn checksum(body: &str) -> String {
    URL_SAFE_NO_PAD.encode(&sha256(body.as_bytes())[..3])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_as_it_was_made_and_two_are_never_the_same() {
        let (one, other) = (Token::generate().expect("random"), Token::generate().expect("random"));
        assert_ne!(one, other);
        assert_eq!(Token::parse(&format!("  {}\n", one.expose())), Ok(one.clone()));
        assert_eq!(one.expose().len(), PREFIX.len() + BODY + CHECK);
        assert_eq!(one.hash(), Token::parse(one.expose()).expect("a token").hash());
        assert_eq!(TokenHash::from_hex(&one.hash().hex()), Some(one.hash()));
        assert_ne!(one.hash(), other.hash());
    }

    /// Bytes of both are fixed: tokens outlive versions of this program.
    #[test]
    fn text_and_hash_stay_what_they_are() {
        let token = Token::of(&[0xA5; RANDOM]);
        assert_eq!(token.expose(), "mkt_paWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlpaUUij1");
        assert_eq!(token.hash().hex(), "ecbd8bf5d4ded4edc649eb6938f03924b224206e751351467d705598a943e3df");
    }

    #[test]
    fn a_cut_or_changed_token_is_said_to_be_one() {
        let token = Token::of(&[7; RANDOM]);
        let text = token.expose();
        for end in PREFIX.len()..text.len() {
            assert_eq!(Token::parse(&text[..end]), Err(InvalidToken::Damaged), "{end}");
        }
        for at in PREFIX.len()..text.len() {
            let mut changed = text.to_owned();
            let other = if &text[at..=at] == "x" { "y" } else { "x" };
            changed.replace_range(at..=at, other);
            assert_eq!(Token::parse(&changed), Err(InvalidToken::Damaged), "{at}");
        }
        for other in ["", "mkt", "secret", "eyJhbGciOiJIUzI1NiJ9.e30.x"] {
            assert_eq!(Token::parse(other), Err(InvalidToken::Other), "{other}");
        }
        assert_eq!(Token::parse("mkt_ü"), Err(InvalidToken::Damaged));
    }

    #[test]
    fn nothing_of_it_shows() {
        let token = Token::of(&[7; RANDOM]);
        let shown = format!("{token:?} {:?}", token.hash());
        assert!(
            !shown.contains(&token.expose()[4..12]) && !shown.contains(&token.hash().hex()[..8]),
            "{shown}"
        );
    }
}
