//! Who asks, as both edges say it to the services.

use std::fmt;
use std::str::FromStr;

/// What somebody may do; each includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Looks.
    Viewer,
    /// Acts on migrations.
    Operator,
    /// Decides about access, profiles and the database.
    Admin,
}

impl Role {
    /// Every one, the least first.
    pub const ALL: &'static [Self] = &[Self::Viewer, Self::Operator, Self::Admin];

    /// The one spelling.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = Self::ALL.iter().copied().find(|role| role.as_str() == text);
        known.ok_or_else(|| format!("{text:?} is no role: viewer, operator or admin"))
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A person or a script, or a part of the control plane that acts by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// As a certificate or a token names it; `schedule` and the like for our own.
    pub name: String,
    pub role: Role,
}

impl Caller {
    /// A part of the control plane.
    pub fn internal(name: &str) -> Self {
        Self { name: name.to_owned(), role: Role::Operator }
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}
